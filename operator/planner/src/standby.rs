//! Where a warm standby of an application is kept.

use crate::{
    evacuation, health,
    model::{Application, Name, Placement, Role},
    need::Chooser,
    placement::{self, Bounds, Choice},
};

/// What becomes of the standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standby {
    /// It is left as it is.
    Leave,
    /// None is kept.
    Nowhere,
    /// It is kept on a cluster, and on no other.
    On(Name),
}

/// What becomes of the standby of an application about which nothing else is
/// decided: the law is kept all the same.
pub fn lawful_or_nowhere(chooser: &Chooser<'_, '_>, application: &Application) -> Standby {
    let unlawful = application.record.placements.iter().any(|placement| {
        placement.role == Role::Standby
            && placement::unlawful(application, &placement.cluster, chooser.law).is_some()
    });
    if unlawful {
        Standby::Nowhere
    } else {
        Standby::Leave
    }
}

/// Where the standby of an application should be that stays where it is. One
/// that exists stays as long as it could be failed over to.
pub fn wanted<'a>(chooser: &mut Chooser<'a, '_>, application: &'a Application) -> Standby {
    if application.spec.failover.standby.is_none() {
        return Standby::Nowhere;
    }
    let current = application
        .record
        .placements
        .iter()
        .find(|placement| placement.role == Role::Standby);
    let lawful = |placement: &&Placement| {
        placement::unlawful(application, &placement.cluster, chooser.law).is_none()
    };
    let current = current.filter(lawful).map(|placement| &placement.cluster);
    if let Some(cluster) = current.filter(|cluster| usable(chooser, cluster)) {
        return Standby::On(cluster.clone());
    }
    if chooser.snapshot.hub_suspect(chooser.now) {
        return lawful_or_nowhere(chooser, application);
    }
    // Better one that may return than none, but nothing stays on a cluster
    // that is being emptied.
    let current = current.filter(|cluster| !being_emptied(chooser, cluster));
    match chooser.consider(application, Bounds::default()).0 {
        Choice::Cluster(cluster) => Standby::On(cluster),
        Choice::NotYet => lawful_or_nowhere(chooser, application),
        Choice::NoneEligible | Choice::NoneLawful => {
            current.cloned().map_or(Standby::Nowhere, Standby::On)
        }
    }
}

fn usable(chooser: &Chooser<'_, '_>, cluster: &Name) -> bool {
    let snapshot = chooser.snapshot;
    !being_emptied(chooser, cluster)
        && snapshot.clusters.get(cluster).is_some_and(|cluster| {
            !cluster.cordoned && health::lost(snapshot, &cluster.name).is_none()
        })
}

fn being_emptied(chooser: &Chooser<'_, '_>, cluster: &Name) -> bool {
    let snapshot = chooser.snapshot;
    snapshot.clusters.get(cluster).is_some_and(|cluster| {
        cluster.deleting || evacuation::objection(snapshot, cluster).is_some()
    })
}
