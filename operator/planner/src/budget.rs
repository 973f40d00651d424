//! Spends the fleet's budgets: failovers first and by themselves, then planned
//! moves.

use crate::{
    Reason,
    fleet::{Decision, Motive},
    law::LawBook,
    migration,
    model::{Application, ApplicationKey, Migration, MoveType, Name, Snapshot, Step},
    need::Need,
    placement,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Turns waits into moves as far as the budgets go.
pub fn grant(snapshot: &Snapshot, law: &LawBook, needs: &mut [Need]) {
    grant_failovers(snapshot, law, needs);
    grant_planned(snapshot, law, needs);
}

/// Applications that wait for a budget, critical ones first, then sensitive
/// ones.
fn waiting(snapshot: &Snapshot, needs: &[Need], planned: bool) -> Vec<usize> {
    let waits = |decision: &Decision| matches!(decision, Decision::WaitForBudget { motive, .. } if motive.planned() == planned);
    let mut waiting: Vec<usize> = (0..needs.len())
        .filter(|&index| waits(&needs[index].decision))
        .collect();
    waiting.sort_by_key(|&index| {
        let spec = &snapshot.applications[index].spec;
        (
            Reverse(spec.criticality),
            Reverse(spec.sensitivity),
            &spec.key,
        )
    });
    waiting
}

/// A failover counts while it writes its target: what waits for workloads to
/// get ready holds up nobody.
fn grant_failovers(snapshot: &Snapshot, law: &LawBook, needs: &mut [Need]) {
    let writing = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.migrations)
        .filter(|migration| {
            migration.move_type == MoveType::Failover
                && !migration.pause
                && migration.record.step.is_none_or(|step| step < Step::Ready)
        })
        .count();
    let budget = snapshot
        .settings
        .concurrent_failovers
        .saturating_sub(writing);
    for index in waiting(snapshot, needs, false).into_iter().take(budget) {
        begin(snapshot, law, &mut needs[index], index);
    }
}

/// A planned move counts from the beginning, except while a freeze holds it:
/// that may take days.
fn planned_moves(application: &Application) -> bool {
    let frozen = |migration: &Migration| {
        let reason = migration::waiting_for(&migration.record, false).map(|(reason, _)| reason);
        reason == Some(Reason::Frozen) && !migration.record.reached(Step::Prepare)
    };
    application
        .migrations
        .iter()
        .any(|migration| migration.move_type != MoveType::Failover && !frozen(migration))
}

fn grant_planned(snapshot: &Snapshot, law: &LawBook, needs: &mut [Need]) {
    let applications = &snapshot.applications;
    let under_way = applications.iter().filter(|one| planned_moves(one)).count();
    let mut budget = snapshot.settings.concurrent_moves.saturating_sub(under_way);
    let mut evacuating = evacuating(snapshot);
    let waiting = waiting(snapshot, needs, true);
    let mut leaving: BTreeSet<&ApplicationKey> = waiting
        .iter()
        .map(|&index| &applications[index].spec.key)
        .collect();
    let moving = applications.iter().filter(|one| planned_moves(one));
    leaving.extend(moving.map(|application| &application.spec.key));
    let blocked: BTreeMap<usize, ApplicationKey> = waiting
        .iter()
        .filter_map(|&index| Some((index, dependency(&applications[index], &leaving)?)))
        .collect();
    // Applications that wait for each other in a circle would wait for ever.
    let freed = if under_way == 0 && blocked.len() == waiting.len() {
        waiting
            .iter()
            .copied()
            .find(|&index| waits_for_itself(index, snapshot, &blocked))
    } else {
        None
    };
    for &index in &waiting {
        let Decision::WaitForBudget { to, motive } = &needs[index].decision else {
            continue;
        };
        if let (Some(dependency), false) = (blocked.get(&index), freed == Some(index)) {
            needs[index].decision = Decision::WaitForDependency {
                to: to.clone(),
                dependency: dependency.clone(),
            };
        } else if budget > 0 && may_evacuate(snapshot, motive, &mut evacuating) {
            budget -= 1;
            begin(snapshot, law, &mut needs[index], index);
        }
    }
}

/// Moves under way by the Evacuation that they are part of.
fn evacuating(snapshot: &Snapshot) -> BTreeMap<Name, usize> {
    let mut evacuating = BTreeMap::new();
    let moves = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.migrations);
    for name in moves.filter_map(|migration| migration.evacuation.clone()) {
        *evacuating.entry(name).or_default() += 1;
    }
    evacuating
}

/// Whether the Evacuation's own budget allows one more move; counts it.
fn may_evacuate(
    snapshot: &Snapshot,
    motive: &Motive,
    evacuating: &mut BTreeMap<Name, usize>,
) -> bool {
    let Some(name) = motive.evacuation() else {
        return true;
    };
    let limit = snapshot
        .evacuations
        .get(name)
        .and_then(|evacuation| evacuation.max_concurrent)
        .unwrap_or(usize::MAX);
    let under_way = evacuating.entry(name.clone()).or_default();
    let may = *under_way < limit;
    *under_way += usize::from(may);
    may
}

/// Follows what an application waits for, and what that waits for, until it
/// comes back or runs in a circle of others.
fn waits_for_itself(
    start: usize,
    snapshot: &Snapshot,
    blocked: &BTreeMap<usize, ApplicationKey>,
) -> bool {
    let applications = &snapshot.applications;
    let mut at = start;
    for _ in 0..blocked.len() {
        let Some(next) = blocked.get(&at).and_then(|key| {
            applications
                .iter()
                .position(|application| application.spec.key == *key)
        }) else {
            return false;
        };
        if next == start {
            return true;
        }
        at = next;
    }
    false
}

fn dependency(
    application: &Application,
    leaving: &BTreeSet<&ApplicationKey>,
) -> Option<ApplicationKey> {
    application
        .spec
        .depends_on
        .iter()
        .map(|name| ApplicationKey {
            namespace: application.spec.key.namespace.clone(),
            name: name.clone(),
        })
        .find(|key| *key != application.spec.key && leaving.contains(key))
}

fn begin(snapshot: &Snapshot, law: &LawBook, need: &mut Need, index: usize) {
    let application = &snapshot.applications[index];
    let Decision::WaitForBudget { to, motive } = need.decision.clone() else {
        return;
    };
    let from = application
        .record
        .active()
        .map(|active| active.cluster.clone())
        .unwrap_or_default();
    let reason = reason(snapshot, law, application, &from, &motive);
    need.decision = Decision::Move {
        from,
        to,
        migration: migration::next_name(application),
        motive,
        reason,
    };
}

fn reason(
    snapshot: &Snapshot,
    law: &LawBook,
    application: &Application,
    from: &Name,
    motive: &Motive,
) -> String {
    match motive {
        Motive::Policy => placement::unlawful(application, from, law)
            .map(|(reason, message)| format!("{reason}: {message}"))
            .unwrap_or_default(),
        Motive::Loss(loss) => format!("{}: {}", loss.reason, loss.message),
        Motive::Evacuation(name) => {
            let why = snapshot.evacuations.get(name);
            let why = why.map(|evacuation| evacuation.reason.as_str());
            format!("Evacuation {name}: {}", why.unwrap_or_default())
        }
        Motive::Failback => {
            let after = application.spec.failover.failback_after;
            format!(
                "failback: the cluster that it was failed over from is well for {:#}",
                after.unwrap_or_default()
            )
        }
    }
}
