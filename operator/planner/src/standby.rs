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
    match chooser.consider(application, Bounds::default()).0 {
        Choice::Cluster(cluster) => Standby::On(cluster),
        Choice::NotYet => Standby::Leave,
        // Better one that may return than none.
        Choice::NoneEligible | Choice::NoneLawful => {
            current.cloned().map_or(Standby::Nowhere, Standby::On)
        }
    }
}

fn usable(chooser: &Chooser<'_, '_>, cluster: &Name) -> bool {
    let snapshot = chooser.snapshot;
    snapshot.clusters.get(cluster).is_some_and(|cluster| {
        !cluster.deleting
            && !cluster.cordoned
            && health::lost(snapshot, &cluster.name).is_none()
            && evacuation::objection(snapshot, cluster).is_none()
    })
}
