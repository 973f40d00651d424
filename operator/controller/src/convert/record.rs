//! Records of applications: what the planner wants stored, as status of the
//! API's kind, and back.

use crate::text::cut;
use flambeau_crds::{
    GamesApplicationStatus,
    application::{self, Candidate, PlacementRole},
    cluster::KindReference,
};
use flambeau_planner::{
    ApplicationPlan, Reason,
    model::{ApplicationRecord, FailedTarget, Kind, Placement, Role},
    placement,
    status::{self, Truth},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use std::collections::BTreeSet;

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
                    PlacementRole::Standby => Role::Standby,
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
        failed_over_from: status.failed_over_from.as_deref().map(Into::into),
    }
}

/// The status that a plan asks for. What the plan leaves alone stays as it is
/// in the status before. `kinds` are those that a copy may have: they are kept
/// as long as one is recorded anywhere.
pub fn application_status(
    plan: &ApplicationPlan,
    before: &GamesApplicationStatus,
    kinds: &BTreeSet<Kind>,
    generation: Option<i64>,
    moving_to: Option<String>,
    now: Timestamp,
) -> GamesApplicationStatus {
    let record = &plan.record;
    let written = !record.placements.is_empty();
    GamesApplicationStatus {
        observed_generation: generation,
        epoch: record.epoch,
        migrations: record.migrations,
        cluster: record.active().map(|active| active.cluster.to_string()),
        moving_to,
        placements: record.placements.iter().map(placement_status).collect(),
        failed_over_from: record.failed_over_from.as_deref().map(str::to_owned),
        next: (!plan.next.is_empty()).then(|| plan.next.clone()),
        kinds: kinds
            .iter()
            .filter(|_| written)
            .map(kind_reference)
            .collect(),
        candidates: if plan.candidates.is_empty() {
            before.candidates.clone()
        } else {
            candidates(&plan.candidates)
        },
        failed_targets: record.failed_targets.iter().map(failed_status).collect(),
        conditions: conditions(&plan.conditions, &before.conditions, generation, now),
    }
}

/// A kind as the API names it.
pub fn kind_reference(kind: &Kind) -> KindReference {
    KindReference {
        api_version: kind.api_version.to_string(),
        kind: kind.kind.to_string(),
    }
}

/// A kind as the planner names it.
pub fn kind(reference: &KindReference) -> Kind {
    Kind {
        api_version: reference.api_version.as_str().into(),
        kind: reference.kind.as_str().into(),
    }
}

fn placement_status(placement: &Placement) -> application::Placement {
    application::Placement {
        cluster: placement.cluster.to_string(),
        role: match placement.role {
            Role::Active => PlacementRole::Active,
            Role::Target => PlacementRole::Target,
            Role::Source => PlacementRole::Source,
            Role::Standby => PlacementRole::Standby,
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

/// Longer messages than this are read by nobody, and some are made of what
/// others said: whatever that is, the status stays small enough to be stored.
const MESSAGE_LIMIT: usize = 4096;

fn readable(message: &str) -> String {
    cut(message.to_owned(), MESSAGE_LIMIT)
}

/// One condition as the API has it; a message that is too long is cut.
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
        message: readable(message),
        observed_generation: generation,
        last_transition_time,
    }
}
