//! What the operator counts, by Prometheus conventions.

mod figures;

use crate::{
    act::HubWrites,
    edge::GatewayEdge,
    leader::Leadership,
    members::Members,
    progress::{self, Progress},
    requests::HubRequests,
};
use figures::{Figures, Published};
use flambeau_planner::{
    Plan,
    model::{MigrationRecord, Snapshot},
};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Everything that the operator exports; `docs/reference/metrics.md` explains
/// it.
pub fn registry(
    leadership: Leadership,
    metrics: &Metrics,
    requests: &HubRequests,
    writes: &HubWrites,
    members: &Members,
    edge: &GatewayEdge,
) -> Registry {
    let mut registry = Registry::with_prefix("flambeau");
    registry.register(
        "build",
        "1, with the version of the operator",
        Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]),
    );
    registry.register_collector(Box::new(leadership));
    metrics.register(&mut registry);
    requests.register(&mut registry);
    writes.register(&mut registry);
    members.register(&mut registry);
    edge.register(&mut registry);
    registry
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    r#type: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MoveStepLabel {
    r#type: &'static str,
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailedGateLabel {
    step: &'static str,
    reason: &'static str,
}

/// Figures of the last plan, and of what happened since the process runs.
#[derive(Clone, Debug)]
pub struct Metrics {
    figures: Published,
    steps: Family<MoveStepLabel, Histogram, fn() -> Histogram>,
    failed_gates: Family<FailedGateLabel, Counter>,
    ended: Family<EndLabel, Counter>,
    recovery: Histogram,
    planning: Histogram,
    reaction: Histogram,
    wake_at: Arc<Mutex<Option<Timestamp>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            figures: Published::default(),
            // From a twentieth of a second to 49 minutes.
            steps: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.05, 3.0, 11))
            }),
            failed_gates: Family::default(),
            ended: Family::default(),
            // From half a second to a quarter of an hour.
            recovery: Histogram::new(exponential_buckets(0.5, 2.0, 12)),
            planning: Histogram::new(exponential_buckets(0.000_1, 4.0, 9)),
            // From a millisecond to 16 seconds.
            reaction: Histogram::new(exponential_buckets(0.001, 4.0, 8)),
            wake_at: Arc::default(),
        }
    }
}

impl Metrics {
    /// Exports the figures.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.figures.clone()));
        registry.register_with_unit(
            "step_duration",
            "Time that a step of a move took, by type of the move and step",
            Unit::Seconds,
            self.steps.clone(),
        );
        registry.register(
            "gates_failed",
            "Gates that failed when their step ended, by step and reason",
            self.failed_gates.clone(),
        );
        registry.register(
            "moves",
            "Moves that ended, by type and result",
            self.ended.clone(),
        );
        registry.register_with_unit(
            "failover_recovery",
            "Time from the last sign of life of a lost place until the application served elsewhere",
            Unit::Seconds,
            self.recovery.clone(),
        );
        registry.register_with_unit(
            "planning",
            "Time to observe, decide and derive work, once",
            Unit::Seconds,
            self.planning.clone(),
        );
        registry.register_with_unit(
            "reaction",
            "Time from a change that was observed until it was planned for",
            Unit::Seconds,
            self.reaction.clone(),
        );
    }

    /// Takes the figures of a plan, how long it took, and how long ago the
    /// first change was observed that it was made for, if it was one.
    pub fn planned(
        &self,
        snapshot: &Snapshot,
        plan: &Plan,
        spent: Duration,
        waited: Option<Duration>,
    ) {
        *self.wake_at.lock().unwrap_or_else(PoisonError::into_inner) = plan.wake_at;
        self.planning.observe(spent.as_secs_f64());
        if let Some(waited) = waited {
            self.reaction.observe(waited.as_secs_f64());
        }
        self.figures.replace(Figures::of(snapshot, plan));
    }

    /// Counts how far a move came.
    pub fn progressed(&self, progress: &Progress) {
        let kind = progress.type_word();
        for (_, end, step) in &progress.steps {
            let label = MoveStepLabel {
                r#type: kind,
                step: step.step.as_str(),
            };
            let duration = progress::between(step.start, *end);
            let steps = self.steps.get_or_create(&label);
            steps.observe(duration.as_secs_f64());
            for reason in progress::failures(step) {
                let label = FailedGateLabel {
                    step: step.step.as_str(),
                    reason: reason.as_str(),
                };
                self.failed_gates.get_or_create(&label).inc();
            }
        }
        if let Some(record) = &progress.end {
            self.ended(kind, record);
        }
    }

    fn ended(&self, kind: &'static str, record: &MigrationRecord) {
        if let Some(outcome) = record.outcome {
            let label = EndLabel {
                r#type: kind,
                result: progress::outcome_word(outcome),
            };
            self.ended.get_or_create(&label).inc();
        }
        let recovery = record.recovery;
        if let Some(recovery) = recovery.and_then(|time| Duration::try_from(time).ok()) {
            self.recovery.observe(recovery.as_secs_f64());
        }
    }

    /// When the last plan can change by itself.
    pub fn wake_at(&self) -> Option<Timestamp> {
        *self.wake_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flambeau_planner::model::{Evacuation, Name};
    use prometheus_client::encoding::text::encode;
    use std::{
        collections::BTreeSet,
        sync::atomic::{AtomicBool, Ordering},
    };

    fn fleet(evacuations: usize) -> Snapshot {
        let evacuation = |number: usize| {
            let name: Name = format!("evacuation-{number}").as_str().into();
            let evacuation = Evacuation {
                name: name.clone(),
                ..Evacuation::default()
            };
            (name, Arc::new(evacuation))
        };
        Snapshot {
            evacuations: (0..evacuations).map(evacuation).collect(),
            ..Snapshot::default()
        }
    }

    /// How many evacuations a scrape speaks of.
    fn scraped(registry: &Registry) -> usize {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("evacuations{"));
        let counts = lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<usize>());
        counts.map(Result::unwrap).sum()
    }

    #[test]
    fn a_scrape_sees_one_plan_or_the_next_and_never_a_part_of_one() {
        let metrics = Metrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let fleets = [fleet(200), fleet(300)];
        let plans = fleets.each_ref().map(|fleet| {
            let now = Timestamp::UNIX_EPOCH;
            flambeau_planner::plan(fleet, now)
        });
        metrics.planned(&fleets[0], &plans[0], Duration::ZERO, None);
        let over = AtomicBool::new(false);
        let seen: BTreeSet<usize> = std::thread::scope(|scope| {
            scope.spawn(|| {
                for (fleet, plan) in fleets.iter().zip(&plans).cycle().take(400) {
                    metrics.planned(fleet, plan, Duration::ZERO, None);
                }
                over.store(true, Ordering::Release);
            });
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Acquire) {
                seen.insert(scraped(&registry));
            }
            seen.insert(scraped(&registry));
            seen
        });
        assert!(
            seen.is_subset(&BTreeSet::from([200, 300])),
            "scrapes saw {seen:?} evacuations"
        );
    }
}
