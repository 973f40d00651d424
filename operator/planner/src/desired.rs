//! What members and the edge should look like, from what was recorded.
//!
//! Only records count here, never a fresh decision: what is not stored yet
//! must not be acted on. Acting is level-triggered, so doing it twice equals
//! once, and drift is the same as work not done yet.

use crate::{
    gates::{self, Context},
    health,
    law::LawBook,
    model::{Application, Name, Role, Snapshot, Step},
    placement,
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What should become of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// Every declared object is there, written under an epoch.
    Present {
        /// The epoch.
        epoch: i64,
    },
    /// Every object is there that a standby has, written under an epoch, with
    /// its workloads scaled down.
    Standby {
        /// The epoch.
        epoch: i64,
        /// Replicas of every workload.
        replicas: u32,
    },
    /// It stays as it is: nothing is written, nothing is erased.
    Keep,
    /// Nothing of the application is there.
    Absent,
}

/// What members and the edge should look like for one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Copies by cluster; nothing is said about other clusters.
    pub copies: BTreeMap<Name, Copy>,
    /// Percentages of requests by cluster; no route when empty.
    pub weights: BTreeMap<Name, u8>,
}

/// Derives what should be from what was recorded.
pub fn desired(
    application: &Application,
    snapshot: &Snapshot,
    law: &LawBook,
    now: Timestamp,
) -> Desired {
    let mut desired = Desired::default();
    let present = |epoch| match application.spec.invalid {
        None if !application.deleting => Copy::Present { epoch },
        _ => Copy::Keep,
    };
    for placement in &application.record.placements {
        let copy = match placement.role {
            Role::Retiring => Copy::Absent,
            Role::Standby => match present(placement.epoch) {
                Copy::Present { epoch } => Copy::Standby {
                    epoch,
                    replicas: application.spec.failover.standby.unwrap_or_default(),
                },
                other => other,
            },
            Role::Active | Role::Target | Role::Source => present(placement.epoch),
        };
        desired.copies.insert(placement.cluster.clone(), copy);
    }
    if application.spec.traffic && !application.deleting {
        // The edge knows a standby before any request goes there.
        for placement in &application.record.placements {
            if placement.role == Role::Standby {
                desired.weights.insert(placement.cluster.clone(), 0);
            }
        }
    }
    let active = application.record.active();
    if let Some(active) = active.filter(|_| application.spec.traffic && !application.deleting) {
        desired.weights.insert(active.cluster.clone(), 100);
    }
    if let Some(migration) = application.current_move().filter(|_| !application.deleting) {
        let context = Context {
            snapshot,
            law,
            application,
            migration,
            now,
        };
        during_move(&context, &mut desired, present);
    }
    if !application.deleting {
        write_nothing_unlawful(application, law, &mut desired);
        starve_no_requests(application, snapshot, &mut desired);
        erase_nothing_needed(application, snapshot, &mut desired);
    }
    desired
}

fn during_move(context: &Context<'_>, desired: &mut Desired, present: impl Fn(i64) -> Copy) {
    let (application, migration) = (context.application, context.migration);
    let record = &migration.record;
    let Some(step) = record.step.filter(|_| record.reached(Step::Prepare)) else {
        return;
    };
    let (from, to) = (migration.from.clone(), migration.to.clone());
    let source_epoch = application
        .record
        .on(&from)
        .map_or(record.epoch - 1, |placement| placement.epoch);
    let active_at_target = application
        .record
        .active()
        .is_some_and(|active| active.cluster == to);
    let mut weigh = |source: u8, target: u8| {
        if application.spec.traffic {
            desired.weights.insert(from.clone(), source);
            desired.weights.insert(to.clone(), target);
        }
    };
    match step {
        Step::Preflight | Step::Done => {}
        Step::Prepare | Step::Ready | Step::Sync | Step::Shift | Step::Soak | Step::Drain => {
            weigh(100 - record.percent, record.percent);
            desired.copies.insert(from, present(source_epoch));
            desired.copies.insert(to, present(record.epoch));
        }
        Step::Retire => {
            desired.copies.insert(to.clone(), present(record.epoch));
            weigh(0, 100);
            let source = if active_at_target {
                Copy::Absent
            } else {
                present(source_epoch)
            };
            desired.copies.insert(from, source);
        }
        Step::Abort => {
            weigh(100, 0);
            let target = if gates::target_released(context) {
                Copy::Absent
            } else {
                Copy::Keep
            };
            desired.copies.insert(to, target);
            desired.copies.insert(from, present(source_epoch));
        }
    }
}

/// Nothing is brought anew to where the law forbids it, whatever was recorded
/// before the law changed.
fn write_nothing_unlawful(application: &Application, law: &LawBook, desired: &mut Desired) {
    for (cluster, copy) in &mut desired.copies {
        let nothing_there = application
            .known_copy(cluster)
            .is_some_and(|copy| copy.absent());
        let written = matches!(copy, Copy::Present { .. } | Copy::Standby { .. });
        if written && nothing_there && placement::unlawful(application, cluster, law).is_some() {
            *copy = Copy::Keep;
        }
    }
}

/// Requests that are served stay where they are until the edge knows an
/// endpoint where they should go, of which somebody knows that it is there: the
/// API server of its cluster, or a request that was answered.
fn starve_no_requests(application: &Application, snapshot: &Snapshot, desired: &mut Desired) {
    let written = |cluster: &Name| application.edge.weights.get(cluster).copied().unwrap_or(0);
    let known = |cluster: &Name| {
        let copy = application.copies.get(cluster)?;
        (copy.known_at_edge() && !lost(snapshot, cluster)).then_some(copy)
    };
    let sure = |cluster: &Name| {
        known(cluster).is_some_and(|copy| snapshot.reaches(cluster) || copy.service.answers())
    };
    let served = application
        .edge
        .weights
        .keys()
        .any(|cluster| written(cluster) > 0 && known(cluster).is_some());
    let starved = desired
        .weights
        .iter()
        .any(|(cluster, weight)| *weight > written(cluster) && !sure(cluster));
    if served && starved {
        // The edge gets to know what it does not send requests to yet: else it
        // would never have an endpoint there.
        desired.weights.values_mut().for_each(|weight| *weight = 0);
        desired.weights.extend(application.edge.weights.clone());
    }
}

fn lost(snapshot: &Snapshot, cluster: &str) -> bool {
    health::lost(snapshot, cluster).is_some()
}

/// Whatever the records say, right before it is done: a copy is erased, or
/// scaled down to a standby, only when no request goes to it, and when the
/// active copy serves or this one does not either.
fn erase_nothing_needed(application: &Application, snapshot: &Snapshot, desired: &mut Desired) {
    for (cluster, copy) in &mut desired.copies {
        let weight = application.edge.weights.get(cluster).copied().unwrap_or(0);
        let quiet = !application.spec.traffic || (weight == 0 && application.edge.acknowledged);
        let needed = !quiet || last_resort(application, snapshot, cluster);
        let taken_away = matches!(copy, Copy::Absent | Copy::Standby { .. });
        if taken_away && needed {
            *copy = Copy::Keep;
        }
    }
}

/// Whether a copy could serve while the active one does not, as far as anybody
/// knows.
pub fn last_resort(application: &Application, snapshot: &Snapshot, cluster: &str) -> bool {
    let replaced = application
        .record
        .active()
        .is_some_and(|active| snapshot.serves(application, &active.cluster));
    let useless = application
        .known_copy(cluster)
        .is_some_and(|copy| copy.endpoints == 0 && copy.workloads_ready == 0);
    !replaced && !useless
}

#[cfg(test)]
mod tests {
    use super::{Desired, starve_no_requests};
    use crate::{
        model::{Placement, Reach, Role, Service},
        plan,
        testing::{NOW, change_cluster, fleet, running, serving},
    };
    use std::sync::Arc;

    /// A failover was walked back while its source was away; the operator
    /// started anew since, and nobody asked the source's services yet.
    #[test]
    fn requests_stay_where_they_are_answered_until_the_other_copy_is_known_to_be_there() {
        let mut snapshot = fleet(&[("north", "DE"), ("east", "DE")]);
        change_cluster(&mut snapshot, "north", |north| {
            north.reach = Reach::Unreachable { since: NOW };
            north.services_answer = true;
        });
        let mut shop = running("shop", "north");
        Arc::make_mut(&mut shop.record).placements.push(Placement {
            cluster: "east".into(),
            role: Role::Retiring,
            epoch: 2,
            since: NOW,
        });
        shop.copies.insert("east".into(), serving());
        shop.edge.weights = [("north".into(), 0), ("east".into(), 100)].into();
        let mut weights = |service| {
            let mut shop = shop.clone();
            if let Some(copy) = shop.copies.get_mut("north") {
                copy.service = service;
            }
            snapshot.applications = vec![shop];
            plan(&snapshot, NOW).applications.remove(0).desired.weights
        };
        assert_eq!(weights(Service::Unknown).get("east"), Some(&100));
        assert_eq!(weights(Service::Answers).get("north"), Some(&100));
    }

    /// Requests stay, and the edge gets to know where they are to go next: it
    /// would never have an endpoint there otherwise.
    #[test]
    fn the_edge_is_told_of_a_target_that_requests_may_not_go_to_yet() {
        let snapshot = fleet(&[("north", "DE"), ("east", "DE"), ("west", "DE")]);
        let mut shop = running("shop", "north");
        shop.copies.insert("east".into(), serving());
        shop.edge.weights = [("north".into(), 0), ("east".into(), 100)].into();
        let mut desired = Desired {
            weights: [("north".into(), 0), ("west".into(), 100)].into(),
            ..Desired::default()
        };
        starve_no_requests(&shop, &snapshot, &mut desired);
        let weights = desired.weights;
        let expected = [("east", 100), ("north", 0), ("west", 0)];
        assert!(
            weights
                .iter()
                .map(|(name, weight)| (&**name, *weight))
                .eq(expected)
        );
    }
}
