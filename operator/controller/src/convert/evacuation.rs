//! Evacuations and freezes: what the planner says of them, as their status.

use super::make_condition;
use flambeau_crds::{
    EvacuationStatus, FreezeStatus,
    evacuation::{EvacuationOutcome, RemainingApplication},
};
use flambeau_planner::{
    Reason,
    fleet::{EvacuationPlan, FreezePlan},
    model::{Freeze, Outcome},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};

/// How many applications that are still there are named.
const NAMED: usize = 100;

/// How far an evacuation is.
pub fn evacuation_status(
    plan: &EvacuationPlan,
    before: &EvacuationStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> EvacuationStatus {
    let stuck = plan.remaining.iter().filter(|one| one.stuck).count();
    let ended = plan.outcome.is_some();
    EvacuationStatus {
        observed_generation: generation,
        total: count(plan.total),
        moved: count(plan.moved),
        moving: count(plan.moving),
        stuck: count(stuck),
        remaining: plan
            .remaining
            .iter()
            .take(NAMED)
            .map(|one| RemainingApplication {
                namespace: one.key.namespace.to_string(),
                application: one.key.name.to_string(),
                reason: one.reason.to_string(),
                message: (!one.message.is_empty()).then(|| one.message.clone()),
            })
            .collect(),
        shortfall: plan.shortfall.clone(),
        start_time: before.start_time.clone().or(Some(MicroTime(now))),
        completion_time: before
            .completion_time
            .clone()
            .or(Some(MicroTime(now)))
            .filter(|_| ended),
        outcome: plan.outcome.map(|outcome| match outcome {
            Outcome::Completed => EvacuationOutcome::Completed,
            Outcome::Aborted => EvacuationOutcome::Aborted,
        }),
        conditions: evacuation_conditions(plan, stuck, &before.conditions, generation, now),
    }
}

fn evacuation_conditions(
    plan: &EvacuationPlan,
    stuck: usize,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let completed = plan.outcome == Some(Outcome::Completed);
    let progress = if plan.message.is_empty() {
        format!("{} of {} applications have left", plan.moved, plan.total)
    } else {
        plan.message.clone()
    };
    let ended = plan.outcome.is_some();
    let obstacle = obstacle(plan, stuck).filter(|_| !ended);
    let (stalled, reason, message) = match &obstacle {
        Some((reason, message)) => ("True", *reason, message.as_str()),
        None => ("False", Reason::Settled, ""),
    };
    let make = |type_: &str, truth: bool, reason, message: &str| {
        let truth = if truth { "True" } else { "False" };
        make_condition(before, type_, truth, reason, message, generation, now)
    };
    vec![
        make("Ready", completed, plan.state, &progress),
        make("Reconciling", !ended && obstacle.is_none(), plan.state, ""),
        make_condition(before, "Stalled", stalled, reason, message, generation, now),
    ]
}

/// What keeps an evacuation from its end and needs a person, or a change of the
/// world: nothing moves, and what is left cannot.
fn obstacle(plan: &EvacuationPlan, stuck: usize) -> Option<(Reason, String)> {
    match plan.state {
        Reason::ClusterUnknown => return Some((plan.state, plan.message.clone())),
        Reason::EvacuationPaused | Reason::EvacuationAborted => return None,
        _ => {}
    }
    let first = plan.remaining.first().filter(|one| one.stuck)?;
    (stuck == plan.remaining.len()).then(|| {
        let message = format!(
            "{stuck} applications cannot leave, the first of them {}: {}",
            first.key, first.message
        );
        (first.reason, message)
    })
}

/// Whether the window of a freeze is open, and what waits for its end.
pub fn freeze_status(
    plan: &FreezePlan,
    freeze: &Freeze,
    before: &FreezeStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> FreezeStatus {
    let (truth, reason, message) = if plan.in_force {
        (
            "True",
            Reason::InForce,
            format!("until {:.0}", freeze.until),
        )
    } else if now < freeze.from {
        let message = format!("from {:.0} on", freeze.from);
        ("False", Reason::NotYetInForce, message)
    } else {
        let message = format!("since {:.0}", freeze.until);
        ("False", Reason::NoLongerInForce, message)
    };
    let conditions = &before.conditions;
    FreezeStatus {
        observed_generation: generation,
        waiting: count(plan.waiting),
        conditions: vec![make_condition(
            conditions, "InForce", truth, reason, &message, generation, now,
        )],
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
