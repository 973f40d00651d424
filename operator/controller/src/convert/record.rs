//! Records: what the planner wants stored, as status of the API's kinds, and
//! back.

use flambeau_crds::{
    GamesApplicationStatus, MigrationStatus,
    application::{self, Candidate, PlacementRole},
    migration::{GateVerdict, MigrationOutcome, MigrationStep},
};
use flambeau_planner::{
    ApplicationPlan, Reason, migration,
    model::{
        ApplicationRecord, FailedTarget, GateOutcome, MigrationRecord, Outcome, Placement, Role,
        Step, StepRecord, Verdict,
    },
    placement,
    status::{self, Truth},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};

/// What was recorded about an application.
pub fn application_record(status: &GamesApplicationStatus) -> ApplicationRecord {
    ApplicationRecord {
        epoch: status.epoch,
        migrations: status.migrations,
        placements: status
            .placements
            .iter()
            .map(|placement| Placement {
                cluster: placement.cluster.as_str().into(),
                role: match placement.role {
                    PlacementRole::Active => Role::Active,
                    PlacementRole::Target => Role::Target,
                    PlacementRole::Source => Role::Source,
                    PlacementRole::Retiring => Role::Retiring,
                },
                epoch: placement.epoch,
                since: placement.since.0,
            })
            .collect(),
        failed_targets: status
            .failed_targets
            .iter()
            .map(|failed| FailedTarget {
                cluster: failed.cluster.as_str().into(),
                attempts: u32::try_from(failed.attempts).unwrap_or(1),
                reason: Reason::parse(&failed.reason).unwrap_or(Reason::RecentlyFailed),
                migration: failed.migration.as_str().into(),
                retry_after: failed.retry_after.0,
            })
            .collect(),
    }
}

/// The status that a plan asks for. What the plan leaves alone stays as it is
/// in the status before.
pub fn application_status(
    plan: &ApplicationPlan,
    before: &GamesApplicationStatus,
    generation: Option<i64>,
    moving_to: Option<String>,
    now: Timestamp,
) -> GamesApplicationStatus {
    let record = &plan.record;
    GamesApplicationStatus {
        observed_generation: generation,
        epoch: record.epoch,
        migrations: record.migrations,
        cluster: record.active().map(|active| active.cluster.to_string()),
        moving_to,
        placements: record.placements.iter().map(placement_status).collect(),
        next: (!plan.next.is_empty()).then(|| plan.next.clone()),
        candidates: if plan.candidates.is_empty() {
            before.candidates.clone()
        } else {
            candidates(&plan.candidates)
        },
        failed_targets: record.failed_targets.iter().map(failed_status).collect(),
        conditions: conditions(&plan.conditions, &before.conditions, generation, now),
    }
}

fn placement_status(placement: &Placement) -> application::Placement {
    application::Placement {
        cluster: placement.cluster.to_string(),
        role: match placement.role {
            Role::Active => PlacementRole::Active,
            Role::Target => PlacementRole::Target,
            Role::Source => PlacementRole::Source,
            Role::Retiring => PlacementRole::Retiring,
        },
        epoch: placement.epoch,
        since: MicroTime(placement.since),
    }
}

fn failed_status(failed: &FailedTarget) -> application::FailedTarget {
    application::FailedTarget {
        cluster: failed.cluster.to_string(),
        attempts: i32::try_from(failed.attempts).unwrap_or(i32::MAX),
        reason: failed.reason.to_string(),
        migration: failed.migration.to_string(),
        retry_after: Time(failed.retry_after),
    }
}

/// Clusters that were considered, as status.
pub fn candidates(candidates: &[placement::Candidate]) -> Vec<Candidate> {
    candidates
        .iter()
        .map(|candidate| Candidate {
            cluster: candidate.cluster.to_string(),
            eligible: candidate.eligible,
            reason: candidate.reason.to_string(),
            message: (!candidate.message.is_empty()).then(|| candidate.message.clone()),
        })
        .collect()
}

/// Conditions as the API has them; the time of the last transition stays
/// while the truth stays.
pub fn conditions(
    planned: &status::Conditions,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    [
        ("Ready", &planned.ready),
        ("Lawful", &planned.lawful),
        ("Reconciling", &planned.reconciling),
        ("Stalled", &planned.stalled),
    ]
    .into_iter()
    .map(|(type_, condition)| {
        let truth = match condition.truth {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        };
        make_condition(
            before,
            type_,
            truth,
            condition.reason,
            &condition.message,
            generation,
            now,
        )
    })
    .collect()
}

/// One condition as the API has it.
pub fn make_condition(
    before: &[Condition],
    type_: &str,
    truth: &str,
    reason: Reason,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let last_transition_time = before
        .iter()
        .find(|condition| condition.type_ == type_ && condition.status == truth)
        .map_or(Time(now), |condition| {
            condition.last_transition_time.clone()
        });
    Condition {
        type_: type_.to_owned(),
        status: truth.to_owned(),
        reason: reason.to_string(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time,
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
        downtime_milliseconds: i64::try_from(record.downtime.as_millis()).unwrap_or(i64::MAX),
        conditions: migration_conditions(record, waiting, before, generation, now),
    }
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
