//! Moves as the API records them, and as the report tells them.

use flambeau_crds::{
    Migration,
    migration::{GateVerdict, StepRecord},
};
use jiff::Timestamp;
use serde::Serialize;

use super::{MigrationReport, StepReport, VerdictReport};

impl From<&Migration> for MigrationReport {
    /// A move that has not begun starts when it was created.
    fn from(migration: &Migration) -> Self {
        let (metadata, spec) = (&migration.metadata, &migration.spec);
        let status = migration.status.clone().unwrap_or_default();
        let created = metadata.creation_timestamp.as_ref().map(|time| time.0);
        let start = status.start_time.map(|time| time.0).or(created);
        Self {
            application: spec.application.clone(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            from: spec.from.clone(),
            to: spec.to.clone(),
            kind: word(&spec.type_),
            trigger: word(&spec.trigger),
            reason: spec.reason.clone(),
            start: start.unwrap_or(Timestamp::UNIX_EPOCH),
            end: status.completion_time.map(|time| time.0),
            outcome: status.outcome.as_ref().map(word),
            downtime_ms: status.downtime_milliseconds,
            recovery_ms: status.recovery_milliseconds,
            steps: status.steps.iter().map(step).collect(),
        }
    }
}

fn step(record: &StepRecord) -> StepReport {
    StepReport {
        name: word(&record.name),
        start: record.start_time.0,
        end: record.end_time.as_ref().map(|time| time.0),
        verdicts: record.verdicts.iter().map(verdict).collect(),
    }
}

fn verdict(verdict: &GateVerdict) -> VerdictReport {
    VerdictReport {
        gate: verdict.gate.clone(),
        passed: verdict.passed,
        reason: verdict.reason.clone(),
        message: verdict.message.clone(),
    }
}

/// The word that stands for a value in the API.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        // No enumeration of the API is anything else.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_is_told_with_the_words_of_the_api() {
        let migration: Migration = serde_json::from_value(serde_json::json!({
            "apiVersion": "flambeau.dev/v1alpha1",
            "kind": "Migration",
            "metadata": { "name": "results-1", "namespace": "games" },
            "spec": {
                "application": "results", "type": "Relocate", "from": "alibaba", "to": "ovh",
                "trigger": "Policy", "reason": "JurisdictionForbidden",
            },
            "status": {
                "startTime": "2026-02-06T18:00:31.250000Z",
                "completionTime": "2026-02-06T18:01:02.500000Z",
                "outcome": "Completed",
                "downtimeMilliseconds": 12,
                "steps": [{
                    "name": "Shift",
                    "startTime": "2026-02-06T18:00:37.000000Z",
                    "endTime": "2026-02-06T18:00:46.125000Z",
                    "verdicts": [{ "gate": "TargetServes", "passed": true, "reason": "AllReady" }],
                }],
            },
        }))
        .unwrap();
        let report = serde_json::to_value(MigrationReport::from(&migration)).unwrap();
        let expected = serde_json::json!({
            "application": "results", "namespace": "games", "from": "alibaba", "to": "ovh",
            "type": "Relocate", "trigger": "Policy", "reason": "JurisdictionForbidden",
            "start": "2026-02-06T18:00:31.25Z", "end": "2026-02-06T18:01:02.5Z", "outcome": "Completed", "downtime_ms": 12,
            "recovery_ms": null,
            "steps": [{
                "name": "Shift", "start": "2026-02-06T18:00:37Z", "end": "2026-02-06T18:00:46.125Z",
                "verdicts": [{ "gate": "TargetServes", "passed": true, "reason": "AllReady", "message": null }],
            }],
        });
        assert_eq!(report, expected);
    }
}
