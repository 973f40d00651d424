//! Windows during which no planned move begins.

use crate::{
    Reason,
    fleet::{ApplicationPlan, Decision},
    migration,
    model::{ApplicationKey, Freeze, MigrationRecord, Name, Snapshot},
};
use jiff::Timestamp;
use std::sync::Arc;

/// The freeze that holds planned moves of an application, the one that ends
/// last if there are several.
pub fn holding<'a>(
    snapshot: &'a Snapshot,
    key: &ApplicationKey,
    now: Timestamp,
) -> Option<&'a Freeze> {
    snapshot
        .freezes
        .values()
        .map(|freeze| &**freeze)
        .filter(|freeze| in_force(freeze, now) && concerns(freeze, &key.namespace))
        .max_by_key(|freeze| freeze.until)
}

/// Whether the window is open.
pub fn in_force(freeze: &Freeze, now: Timestamp) -> bool {
    freeze.from <= now && now < freeze.until
}

fn concerns(freeze: &Freeze, namespace: &Name) -> bool {
    freeze.namespaces.is_empty() || freeze.namespaces.contains(namespace)
}

/// What is said of one freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezePlan {
    /// Name of the Freeze.
    pub name: Name,
    /// The window is open.
    pub in_force: bool,
    /// Planned moves that wait for its end.
    pub waiting: usize,
}

/// What every freeze holds.
pub fn plans(
    snapshot: &Snapshot,
    applications: &[ApplicationPlan],
    now: Timestamp,
) -> Vec<FreezePlan> {
    let mut plans: Vec<FreezePlan> = snapshot
        .freezes
        .values()
        .map(|freeze| FreezePlan {
            name: freeze.name.clone(),
            in_force: in_force(freeze, now),
            waiting: 0,
        })
        .collect();
    for planned in applications.iter().filter(|planned| waits(planned)) {
        let Some(freeze) = holding(snapshot, &planned.key, now) else {
            continue;
        };
        if let Some(plan) = plans.iter_mut().find(|plan| plan.name == freeze.name) {
            plan.waiting += 1;
        }
    }
    plans
}

fn waits(planned: &ApplicationPlan) -> bool {
    let held = |record: &MigrationRecord| {
        migration::waiting_for(record, false).is_some_and(|(reason, _)| reason == Reason::Frozen)
    };
    matches!(planned.decision, Decision::WaitForThaw { .. })
        || planned.migrations.iter().any(|(_, record)| held(record))
}

/// What is said of a move that waits.
pub fn message(freeze: &Freeze) -> String {
    format!(
        "Freeze {} until {:.0}: {}; a move crosses it with ignoreFreeze",
        freeze.name, freeze.until, freeze.reason
    )
}

/// The next moment at which a window opens or closes.
pub fn next_change(snapshot: &Snapshot, now: Timestamp) -> Option<Timestamp> {
    let bounds = snapshot
        .freezes
        .values()
        .flat_map(|freeze: &Arc<Freeze>| [freeze.from, freeze.until]);
    bounds.filter(|time| *time > now).min()
}

#[cfg(test)]
mod tests {
    use crate::{
        fleet::Decision,
        model::Freeze,
        plan,
        testing::{NOW, apply, decision, forbid, later, lose, three},
    };
    use std::{collections::BTreeSet, sync::Arc};

    #[test]
    fn a_freeze_holds_planned_moves_and_no_failover() {
        let mut snapshot = three();
        apply(&mut snapshot, forbid("no-french", "FR"));
        let freeze = Freeze {
            name: "ceremony".into(),
            from: NOW,
            until: later(3600),
            namespaces: BTreeSet::new(),
            reason: "opening ceremony".to_owned(),
        };
        snapshot.freezes.insert("ceremony".into(), Arc::new(freeze));
        let plan = plan(&snapshot, later(20));
        assert!(matches!(
            plan.applications[0].decision,
            Decision::WaitForThaw { .. }
        ));
        assert_eq!(plan.freezes[0].waiting, 1);
        assert_eq!(plan.wake_at, Some(later(3600)));
        lose(&mut snapshot, "atos");
        assert!(matches!(decision(&snapshot), Decision::Move { .. }));
    }
}
