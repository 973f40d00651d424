//! Moves: what was asked for and recorded, as the API has it, and back.

use super::make_condition;
use flambeau_crds::{
    MigrationSpec, MigrationStatus,
    migration::{GateVerdict, MigrationOutcome, MigrationStep, MigrationTrigger, MigrationType},
};
use flambeau_planner::{
    Reason,
    fleet::Motive,
    migration,
    model::{
        GateOutcome, Migration, MigrationRecord, MoveType, Name, Outcome, Step, StepRecord,
        Trigger, Verdict,
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use std::sync::Arc;

/// A reason is at most this long in characters, as the API wants it.
const REASON_LIMIT: usize = 1024;

/// A move that is not over.
pub fn open_move(name: &Name, spec: &MigrationSpec, record: Arc<MigrationRecord>) -> Migration {
    Migration {
        name: name.clone(),
        from: spec.from.as_str().into(),
        to: spec.to.as_str().into(),
        move_type: match spec.type_ {
            MigrationType::Relocate => MoveType::Relocate,
            MigrationType::Failover => MoveType::Failover,
            MigrationType::Failback => MoveType::Failback,
        },
        trigger: match spec.trigger {
            MigrationTrigger::Policy => Trigger::Policy,
            MigrationTrigger::Request => Trigger::Request,
            MigrationTrigger::Loss => Trigger::Loss,
            MigrationTrigger::Evacuation => Trigger::Evacuation,
            MigrationTrigger::Failback => Trigger::Failback,
        },
        evacuation: spec.evacuation.as_deref().map(Into::into),
        ignore_freeze: spec.ignore_freeze,
        pause: spec.pause,
        abort: spec.abort,
        record,
    }
}

/// What is asked for when the planner begins a move of an application.
pub fn migration_spec(
    application: &Name,
    (from, to): (&Name, &Name),
    motive: &Motive,
    reason: &str,
) -> MigrationSpec {
    MigrationSpec {
        application: application.to_string(),
        type_: match motive.move_type() {
            MoveType::Relocate => MigrationType::Relocate,
            MoveType::Failover => MigrationType::Failover,
            MoveType::Failback => MigrationType::Failback,
        },
        from: from.to_string(),
        to: to.to_string(),
        trigger: match motive.trigger() {
            Trigger::Policy => MigrationTrigger::Policy,
            Trigger::Request => MigrationTrigger::Request,
            Trigger::Loss => MigrationTrigger::Loss,
            Trigger::Evacuation => MigrationTrigger::Evacuation,
            Trigger::Failback => MigrationTrigger::Failback,
        },
        reason: reason.chars().take(REASON_LIMIT).collect(),
        requested_by: None,
        evacuation: motive.evacuation().map(Name::to_string),
        ignore_freeze: false,
        pause: false,
        abort: false,
    }
}

fn step(step: MigrationStep) -> Step {
    match step {
        MigrationStep::Preflight => Step::Preflight,
        MigrationStep::Prepare => Step::Prepare,
        MigrationStep::Ready => Step::Ready,
        MigrationStep::Sync => Step::Sync,
        MigrationStep::Shift => Step::Shift,
        MigrationStep::Soak => Step::Soak,
        MigrationStep::Drain => Step::Drain,
        MigrationStep::Retire => Step::Retire,
        MigrationStep::Abort => Step::Abort,
        MigrationStep::Done => Step::Done,
    }
}

fn step_status(step: Step) -> MigrationStep {
    match step {
        Step::Preflight => MigrationStep::Preflight,
        Step::Prepare => MigrationStep::Prepare,
        Step::Ready => MigrationStep::Ready,
        Step::Sync => MigrationStep::Sync,
        Step::Shift => MigrationStep::Shift,
        Step::Soak => MigrationStep::Soak,
        Step::Drain => MigrationStep::Drain,
        Step::Retire => MigrationStep::Retire,
        Step::Abort => MigrationStep::Abort,
        Step::Done => MigrationStep::Done,
    }
}

/// What was recorded about a move.
pub fn migration_record(status: &MigrationStatus) -> MigrationRecord {
    MigrationRecord {
        epoch: status.epoch,
        step: status.step.map(step),
        percent: u8::try_from(status.target_percent).unwrap_or(0).min(100),
        stage_since: status.stage_start_time.as_ref().map(|time| time.0),
        steps: status
            .steps
            .iter()
            .map(|record| StepRecord {
                step: step(record.name),
                start: record.start_time.0,
                end: record.end_time.as_ref().map(|time| time.0),
                verdicts: record.verdicts.iter().map(verdict).collect(),
            })
            .collect(),
        abort_reason: status.abort_reason.as_deref().map(abort_reason),
        outcome: status.outcome.map(|outcome| match outcome {
            MigrationOutcome::Completed => Outcome::Completed,
            MigrationOutcome::Aborted => Outcome::Aborted,
        }),
        down_since: status.down_since.as_ref().map(|time| time.0),
        downtime: SignedDuration::from_millis(status.downtime_milliseconds),
        lost_since: status.lost_time.as_ref().map(|time| time.0),
        recovery: status
            .recovery_milliseconds
            .map(SignedDuration::from_millis),
    }
}

fn verdict(verdict: &GateVerdict) -> Verdict {
    Verdict {
        gate: verdict.gate.clone().into(),
        outcome: if verdict.passed {
            GateOutcome::Pass
        } else {
            GateOutcome::Wait
        },
        reason: Reason::parse(&verdict.reason).unwrap_or(Reason::Passed),
        message: verdict.message.clone().unwrap_or_default(),
    }
}

/// An abort reason is stored as `Reason: message`.
fn abort_reason(text: &str) -> (Reason, String) {
    let (word, message) = text.split_once(": ").unwrap_or((text, ""));
    (
        Reason::parse(word).unwrap_or(Reason::Aborted),
        message.to_owned(),
    )
}

/// The status that a plan asks for.
pub fn migration_status(
    record: &MigrationRecord,
    before: &MigrationStatus,
    generation: Option<i64>,
    paused: bool,
    now: Timestamp,
) -> MigrationStatus {
    let waiting = migration::waiting_for(record, paused);
    MigrationStatus {
        observed_generation: generation,
        epoch: record.epoch,
        step: record.step.map(step_status),
        target_percent: i32::from(record.percent),
        stage_start_time: record.stage_since.map(MicroTime),
        waiting_for: waiting
            .as_ref()
            .map(|(reason, message)| format!("{reason}: {message}")),
        steps: record.steps.iter().map(step_record_status).collect(),
        start_time: record.steps.first().map(|step| MicroTime(step.start)),
        completion_time: record
            .steps
            .last()
            .filter(|_| record.done())
            .map(|step| MicroTime(step.start)),
        outcome: record.outcome.map(|outcome| match outcome {
            Outcome::Completed => MigrationOutcome::Completed,
            Outcome::Aborted => MigrationOutcome::Aborted,
        }),
        abort_reason: record
            .abort_reason
            .as_ref()
            .map(|(reason, message)| format!("{reason}: {message}")),
        down_since: record.down_since.map(MicroTime),
        downtime_milliseconds: milliseconds(record.downtime),
        lost_time: record.lost_since.map(MicroTime),
        recovery_milliseconds: record.recovery.map(milliseconds),
        conditions: migration_conditions(record, waiting, before, generation, now),
    }
}

fn milliseconds(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn step_record_status(record: &StepRecord) -> flambeau_crds::migration::StepRecord {
    flambeau_crds::migration::StepRecord {
        name: step_status(record.step),
        start_time: MicroTime(record.start),
        end_time: record.end.map(MicroTime),
        verdicts: record
            .verdicts
            .iter()
            .map(|verdict| GateVerdict {
                gate: verdict.gate.to_string(),
                passed: verdict.outcome == GateOutcome::Pass,
                reason: verdict.reason.to_string(),
                message: (!verdict.message.is_empty()).then(|| verdict.message.clone()),
            })
            .collect(),
    }
}

fn migration_conditions(
    record: &MigrationRecord,
    waiting: Option<(Reason, String)>,
    before: &MigrationStatus,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let done = record.done();
    let (ready, reason, message) = match (record.outcome, waiting) {
        (Some(Outcome::Completed), _) => ("True", Reason::Completed, String::new()),
        (Some(Outcome::Aborted), _) => {
            let why = record.abort_reason.as_ref();
            (
                "False",
                Reason::Aborted,
                why.map(|(reason, message)| format!("{reason}: {message}"))
                    .unwrap_or_default(),
            )
        }
        (None, Some((reason, message))) => ("False", reason, message),
        (None, None) => ("False", Reason::Moving, String::new()),
    };
    let reconciling = if done {
        ("False", Reason::Settled)
    } else {
        ("True", Reason::Moving)
    };
    let make = |type_: &str, truth: &str, reason, message: &str| {
        make_condition(
            &before.conditions,
            type_,
            truth,
            reason,
            message,
            generation,
            now,
        )
    };
    vec![
        make("Ready", ready, reason, &message),
        make("Reconciling", reconciling.0, reconciling.1, ""),
        make("Stalled", "False", Reason::Settled, ""),
    ]
}
