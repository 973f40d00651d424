//! How far a move came: what a record that was just stored says more than the
//! one before it. Counted as figures and told as spans, both only after it was
//! stored.

use crate::{hub::MigrationEntry, metrics::Metrics, traces::Traces};
use flambeau_crds::{MigrationSpec, migration::MigrationType};
use flambeau_planner::{
    Reason,
    model::{ApplicationKey, GateOutcome, MigrationRecord, Outcome, Step, StepRecord},
};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};

/// Who is told how far moves come.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    /// Counts.
    pub metrics: Metrics,
    /// Makes spans.
    pub traces: Traces,
}

impl Signals {
    /// Tells what was stored. Returns at once.
    pub fn progressed(&self, progress: &Progress) {
        self.metrics.progressed(progress);
        self.traces.tell(progress);
    }
}

/// What a stored record adds.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Namespace and name of the Migration.
    pub key: ApplicationKey,
    /// UID of the Migration.
    pub uid: String,
    /// What was asked for.
    pub spec: Arc<MigrationSpec>,
    /// Steps that ended, each with its place among the steps of the move and
    /// the moment at which it ended.
    pub steps: Vec<(usize, Timestamp, StepRecord)>,
    /// The whole record, when the move ended with it.
    pub end: Option<Box<MigrationRecord>>,
}

impl Progress {
    /// What a record adds to that of an entry; none when no step ended.
    pub fn of(
        key: &ApplicationKey,
        entry: &MigrationEntry,
        after: &MigrationRecord,
    ) -> Option<Box<Self>> {
        let before = &entry.record;
        let ended = |(place, step): (usize, &StepRecord)| {
            // Done is where a move ends, and takes no time.
            let end = step.end.filter(|_| step.step != Step::Done)?;
            let stored = before.steps.get(place).and_then(|step| step.end);
            stored.is_none().then(|| (place, end, step.clone()))
        };
        let steps: Vec<_> = after.steps.iter().enumerate().filter_map(ended).collect();
        let end = after.outcome.is_some() && before.outcome.is_none();
        (end || !steps.is_empty()).then(|| {
            Box::new(Self {
                key: key.clone(),
                uid: entry.meta.uid.clone(),
                spec: Arc::clone(&entry.spec),
                steps,
                end: end.then(|| Box::new(after.clone())),
            })
        })
    }

    /// Kind of the move, in the word of the API.
    pub fn type_word(&self) -> &'static str {
        match self.spec.type_ {
            MigrationType::Relocate => "Relocate",
            MigrationType::Failover => "Failover",
            MigrationType::Failback => "Failback",
        }
    }
}

/// How a move ended, in the word of the API.
pub const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "Completed",
        Outcome::Aborted => "Aborted",
    }
}

/// Time between two moments; none when a clock was set back meanwhile.
pub fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or(Duration::ZERO)
}

/// Why gates of a step failed.
pub fn failures(step: &StepRecord) -> impl Iterator<Item = Reason> {
    let verdicts = step.verdicts.iter();
    let failed = verdicts.filter(|verdict| verdict.outcome == GateOutcome::Fail);
    failed.map(|verdict| verdict.reason)
}
