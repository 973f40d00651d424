//! What members and the edge should look like, from what was recorded.
//!
//! Only records count here, never a fresh decision: what is not stored yet
//! must not be acted on. Acting is level-triggered, so doing it twice equals
//! once, and drift is the same as work not done yet.

use crate::{
    gates::{self, Context},
    law::LawBook,
    model::{Application, Name, Reach, Role, Snapshot, Step},
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
    /// It stays as it is: the specification cannot be used.
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
        None => Copy::Present { epoch },
        Some(_) => Copy::Keep,
    };
    for placement in &application.record.placements {
        let copy = match placement.role {
            Role::Retiring => Copy::Absent,
            Role::Active | Role::Target | Role::Source => present(placement.epoch),
        };
        desired.copies.insert(placement.cluster.clone(), copy);
    }
    let active = application.record.active();
    if let Some(active) = active.filter(|_| application.spec.traffic && !application.deleting) {
        desired.weights.insert(active.cluster.clone(), 100);
    }
    if let Some(migration) = application.migrations.first() {
        let context = Context {
            snapshot,
            law,
            application,
            migration,
            now,
        };
        during_move(&context, &mut desired, present);
    }
    never_erase_under_load(application, snapshot, &mut desired);
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
        if application.spec.traffic && !application.deleting {
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
            if active_at_target {
                desired.weights.remove(&from);
                desired.copies.insert(from, Copy::Absent);
            } else {
                weigh(0, 100);
                desired.copies.insert(from, present(source_epoch));
            }
        }
        Step::Abort => {
            if gates::target_released(context) {
                desired.weights.remove(&to);
                desired.copies.insert(to, Copy::Absent);
            } else {
                weigh(100, 0);
                desired.copies.insert(to, present(record.epoch));
            }
            desired.copies.insert(from, present(source_epoch));
        }
    }
}

/// Whatever the records say: a copy that still gets requests is not erased,
/// unless the whole application goes.
fn never_erase_under_load(application: &Application, snapshot: &Snapshot, desired: &mut Desired) {
    if application.deleting || !application.spec.traffic {
        return;
    }
    for (cluster, copy) in &mut desired.copies {
        let weight = application.edge.weights.get(cluster).copied().unwrap_or(0);
        let confirmed = application.edge.acknowledged || application.edge.weights.is_empty();
        let reachable = snapshot
            .clusters
            .get(cluster)
            .is_some_and(|cluster| cluster.reach == Reach::Reachable);
        if *copy == Copy::Absent && reachable && (weight > 0 || !confirmed) {
            *copy = Copy::Keep;
        }
    }
}
