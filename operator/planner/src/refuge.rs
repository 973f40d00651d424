//! Applications that have nowhere to go: were their cluster lost tonight, no
//! other one would take them.

use crate::{
    evacuation,
    law::LawBook,
    model::{Application, Cluster, Snapshot},
    placement,
};
use jiff::Timestamp;

/// How many applications run and have no other cluster to go to: none that is
/// lawful, well, not cordoned, not being emptied, and takes what they consist
/// of. Room and targets that failed lately are not counted: they come and go.
pub fn unprotected(snapshot: &Snapshot, law: &LawBook, now: Timestamp) -> usize {
    let open: Vec<&Cluster> = snapshot
        .clusters
        .values()
        .map(AsRef::as_ref)
        .filter(|cluster| {
            placement::unavailable(cluster, now).is_none()
                && evacuation::objection(snapshot, cluster).is_none()
        })
        .collect();
    let unprotected = |application: &&Application| {
        let Some(active) = application.record.active() else {
            return false;
        };
        let takes = |cluster: &&Cluster| {
            cluster.name != active.cluster
                && placement::unlawful(application, &cluster.name, law).is_none()
                && placement::kind_not_served(application, cluster).is_none()
        };
        !application.deleting && !open.iter().any(takes)
    };
    snapshot.applications.iter().filter(unprotected).count()
}

#[cfg(test)]
mod tests {
    use crate::{
        model::{Reach, Snapshot},
        plan,
        testing::{NOW, apply, change_cluster, forbid, three},
    };

    fn unprotected(change: impl FnOnce(&mut Snapshot)) -> usize {
        let mut snapshot = three();
        apply(&mut snapshot, forbid("ban", "CN"));
        change(&mut snapshot);
        plan(&snapshot, NOW).unprotected
    }

    #[test]
    fn an_application_without_another_lawful_cluster_that_is_well_has_nowhere_to_go() {
        assert_eq!(unprotected(|_| {}), 0);
        assert_eq!(
            unprotected(|snapshot| change_cluster(snapshot, "ovh", |ovh| ovh.cordoned = true)),
            1
        );
        assert_eq!(
            unprotected(|snapshot| change_cluster(snapshot, "ovh", |ovh| {
                ovh.reach = Reach::Unreachable { since: NOW };
            })),
            1
        );
        let without_law = |snapshot: &mut Snapshot| {
            snapshot.policies.clear();
            change_cluster(snapshot, "ovh", |ovh| ovh.cordoned = true);
        };
        assert_eq!(unprotected(without_law), 0);
    }
}
