//! What the seeds reach: a simulation that has gone blind proves nothing.

use crate::{
    SEEDS,
    seeds::Tally,
    world::{HubMigration, World},
};
use flambeau_planner::{
    Plan, Reason,
    fleet::{ApplicationPlan, Decision},
    model::{GateOutcome, MigrationRecord, MoveType, Step, Trigger},
};

/// What must be reached, and how often at least in [`SEEDS`] seeds: a
/// quarter or less of what was counted when it was written down.
const DEMANDED: [(&str, u64); 77] = [
    ("killed at Preflight of a planned move", 15),
    ("killed at Prepare of a planned move", 150),
    ("killed at Ready of a planned move", 200),
    ("killed at Sync of a planned move", 40),
    ("killed at Shift of a planned move", 200),
    ("killed at Soak of a planned move", 120),
    ("killed at Drain of a planned move", 60),
    ("killed at Retire of a planned move", 140),
    ("killed at Abort of a planned move", 110),
    ("killed at Preflight of a failover", 10),
    ("killed at Prepare of a failover", 80),
    ("killed at Ready of a failover", 150),
    ("killed at Sync of a failover", 30),
    ("killed at Shift of a failover", 40),
    ("killed at Soak of a failover", 55),
    ("killed at Drain of a failover", 40),
    ("killed at Retire of a failover", 80),
    ("killed at Abort of a failover", 65),
    ("aborted at Preflight of a planned move", 240),
    ("aborted at Prepare of a planned move", 120),
    ("aborted at Ready of a planned move", 180),
    ("aborted at Sync of a planned move", 20),
    ("aborted at Shift of a planned move", 90),
    ("aborted at Soak of a planned move", 25),
    ("aborted at Drain of a planned move", 15),
    ("aborted at Preflight of a failover", 170),
    ("aborted at Prepare of a failover", 60),
    ("aborted at Ready of a failover", 120),
    ("aborted at Sync of a failover", 20),
    ("aborted at Shift of a failover", 10),
    ("aborted at Soak of a failover", 10),
    ("aborted at Drain of a failover", 6),
    ("aborted: AbortRequested", 90),
    ("aborted: CertificationExpired", 45),
    ("aborted: ClusterUnreachable", 130),
    ("aborted: EvacuationAborted", 7),
    ("aborted: JurisdictionForbidden", 35),
    ("aborted: ObjectRefused", 30),
    ("aborted: ReadyTimeout", 17),
    ("aborted: ResidencyNotAllowed", 70),
    ("aborted: SourceRecovered", 140),
    ("aborted: TargetErrors", 3),
    ("aborted: TargetLost", 7),
    ("aborted: TriggerWithdrawn", 130),
    ("Relocate completed", 700),
    ("Failover completed", 400),
    ("Failback completed", 75),
    ("left because of CertificationExpired", 70),
    ("left because of ClusterLost", 550),
    ("left because of ServiceLost", 90),
    ("left because of Evacuation", 300),
    ("left because of ResidencyNotAllowed", 150),
    ("kept where it is unlawful: NoLawfulCluster", 2500),
    ("kept where it is unlawful: NoEligibleCluster", 800),
    ("left after NoLawfulCluster", 90),
    ("left after NoEligibleCluster", 190),
    ("kept: FailoverManual", 250),
    ("kept: HubSuspect", 300),
    ("left after HubSuspect", 60),
    ("kept: EdgeSuspect", 35),
    ("FleetReachable waited in a failover", 100),
    ("FleetReachable waited in a planned move", 150),
    ("TargetReached waited in a failover", 12),
    ("SourceIdle waited in a planned move", 300),
    ("NotFrozen waited in a planned move", 4),
    ("a move waited for the end of a freeze", 250),
    ("a move waited for another", 2500),
    ("a planned move waited for the budget", 5000),
    ("a failover waited for the budget", 240),
    ("evacuations ended", 300),
    ("an API server alone fell silent", 500),
    ("a cluster returned", 2900),
    ("a stale copy was erased from a cluster that returned", 800),
    ("a member refused a late write under a lower epoch", 30),
    ("a process with a wrong clock took over", 1200),
    ("the clock was set under a process", 300),
    ("a person gave a name that the operator would", 60),
];

/// Nothing that the rules are about is missed.
///
/// # Panics
///
/// When something is, with all that is.
pub fn everything(tally: &Tally, seeds: u64) {
    if seeds < SEEDS {
        return;
    }
    let least = |count: u64| count * (seeds / SEEDS);
    let missed: Vec<String> = DEMANDED
        .iter()
        .filter(|(what, count)| tally.of(what) < least(*count))
        .map(|(what, count)| format!("{what}: {} of {}", tally.of(what), least(*count)))
        .collect();
    assert!(
        missed.is_empty(),
        "{seeds} seeds hardly reach what the rules are about:\n{}",
        missed.join("\n")
    );
}

/// The operator dies, whatever is under way.
pub fn killed(world: &mut World) {
    for index in 0..world.migrations.len() {
        let found = &world.migrations[index];
        let kind = kind(found);
        if let (Some(step), false) = (found.record.step, found.record.done()) {
            world.count(&format!("killed at {step:?} of {kind}"));
        }
    }
}

fn kind(migration: &HubMigration) -> &'static str {
    match migration.move_type {
        MoveType::Failover => "a failover",
        _ => "a planned move",
    }
}

/// What is waited for.
pub fn decided(world: &mut World, plan: &Plan) {
    for planned in &plan.applications {
        match &planned.decision {
            Decision::WaitForBudget { motive, .. } if motive.planned() => {
                world.count("a planned move waited for the budget");
            }
            Decision::WaitForBudget { .. } => world.count("a failover waited for the budget"),
            Decision::WaitForDependency { .. } => world.count("a move waited for another"),
            Decision::WaitForThaw { .. } => world.count("a move waited for the end of a freeze"),
            _ => {}
        }
    }
}

fn unlawful(planned: &ApplicationPlan) -> bool {
    let judgement = planned.judgement.as_ref();
    judgement.is_some_and(|judgement| !judgement.lawful())
}

/// An application cannot leave, or cannot be placed.
pub fn stalled(world: &mut World, reason: Reason, planned: &ApplicationPlan) {
    let place = match planned.record.active() {
        Some(_) if unlawful(planned) => "kept where it is unlawful",
        Some(_) => "kept",
        None => "not placed",
    };
    world.count(&format!("{place}: {reason}"));
}

/// What stood in the way of an application does not any more.
pub fn freed(world: &mut World, before: Reason, planned: &ApplicationPlan) {
    if matches!(planned.decision, Decision::Move { .. }) {
        world.count(&format!("left after {before}"));
    }
}

/// A move begins by itself.
pub fn begun(world: &mut World, migration: &HubMigration, reason: &str) {
    let why = reason.split(':').next().unwrap_or_default();
    let trigger = migration.trigger;
    if matches!(trigger, Trigger::Policy | Trigger::Loss) {
        world.count(&format!("left because of {why}"));
    } else {
        world.count(&format!("left because of {trigger:?}"));
    }
}

/// What its gates say of a move, and its end.
pub fn stored(world: &mut World, index: usize, record: &MigrationRecord) {
    let before = world.migrations[index].record.clone();
    let kind = kind(&world.migrations[index]);
    let move_type = world.migrations[index].move_type;
    let known = |gate: &str, outcome: GateOutcome| {
        let last = before.steps.last();
        let mut verdicts = last.iter().flat_map(|step| &step.verdicts);
        verdicts.any(|verdict| verdict.gate == gate && verdict.outcome == outcome)
    };
    for step in record.steps.iter().skip(before.steps.len().max(1) - 1) {
        for verdict in &step.verdicts {
            let word = match verdict.outcome {
                GateOutcome::Pass => continue,
                GateOutcome::Wait => "waited",
                GateOutcome::Fail => "failed",
            };
            if !known(&verdict.gate, verdict.outcome) {
                world.count(&format!("{} {word} in {kind}", verdict.gate));
            }
        }
    }
    if record.outcome.is_none() {
        return;
    }
    let Some((reason, _)) = &record.abort_reason else {
        world.count(&format!("{move_type:?} completed"));
        return;
    };
    let mut steps = record.steps.iter().rev();
    let last = steps.find(|step| step.step < Step::Abort);
    let last = last.map_or("the beginning", |step| step.step.as_str());
    world.count(&format!("aborted at {last} of {kind}"));
    world.count(&format!("aborted: {reason}"));
}
