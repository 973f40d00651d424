//! What the operator counts, by Prometheus conventions.

use flambeau_planner::{
    Plan,
    model::{Reach, Snapshot},
    status::Truth,
};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    lawful: &'static str,
    ready: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabel {
    cluster: String,
}

/// Figures of the last plan.
#[derive(Clone, Debug)]
pub struct Metrics {
    applications: Family<StateLabel, Gauge>,
    stalled: Family<ReasonLabel, Gauge>,
    moves: Family<StepLabel, Gauge>,
    members: Family<ClusterLabel, Gauge>,
    violations: Gauge,
    planning: Histogram,
    wake_at: Arc<Mutex<Option<Timestamp>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            applications: Family::default(),
            stalled: Family::default(),
            moves: Family::default(),
            members: Family::default(),
            violations: Gauge::default(),
            planning: Histogram::new(exponential_buckets(0.000_1, 4.0, 9)),
            wake_at: Arc::default(),
        }
    }
}

impl Metrics {
    /// Exports the figures.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "applications",
            "Applications by lawfulness and readiness",
            self.applications.clone(),
        );
        registry.register(
            "applications_stalled",
            "Applications that need a person or a change of the world, by reason",
            self.stalled.clone(),
        );
        registry.register(
            "migrations_open",
            "Moves under way, by step",
            self.moves.clone(),
        );
        registry.register(
            "member_reachable",
            "1 while the member answers, else 0",
            self.members.clone(),
        );
        registry.register(
            "policy_violations",
            "Applications that run where a policy in force refuses, counted by policy",
            self.violations.clone(),
        );
        registry.register_with_unit(
            "planning",
            "Time to observe, decide and derive work, once",
            Unit::Seconds,
            self.planning.clone(),
        );
    }

    /// Takes the figures of a plan.
    pub fn planned(&self, snapshot: &Snapshot, plan: Plan, spent: Duration) {
        *self.wake_at.lock().unwrap_or_else(PoisonError::into_inner) = plan.wake_at;
        self.planning.observe(spent.as_secs_f64());
        self.applications.clear();
        self.stalled.clear();
        for application in &plan.applications {
            let conditions = &application.conditions;
            let label = StateLabel {
                lawful: word(conditions.lawful.truth),
                ready: word(conditions.ready.truth),
            };
            self.applications.get_or_create(&label).inc();
            if conditions.stalled.truth == Truth::True {
                self.stalled
                    .get_or_create(&ReasonLabel {
                        reason: conditions.stalled.reason.as_str(),
                    })
                    .inc();
            }
        }
        self.moves.clear();
        for migration in snapshot
            .applications
            .iter()
            .flat_map(|application| &application.migrations)
        {
            let step = migration
                .record
                .step
                .map_or("Pending", |step| step.as_str());
            self.moves.get_or_create(&StepLabel { step }).inc();
        }
        self.members.clear();
        for cluster in snapshot.clusters.values() {
            let label = ClusterLabel {
                cluster: cluster.name.to_string(),
            };
            self.members
                .get_or_create(&label)
                .set(i64::from(cluster.reach == Reach::Reachable));
        }
        let violations = plan
            .policies
            .iter()
            .filter(|policy| policy.in_force)
            .map(|policy| policy.violations.len());
        self.violations
            .set(i64::try_from(violations.sum::<usize>()).unwrap_or(i64::MAX));
    }

    /// When the last plan can change by itself.
    pub fn wake_at(&self) -> Option<Timestamp> {
        *self.wake_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown => "unknown",
    }
}
