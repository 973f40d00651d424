//! What the operator counts, by Prometheus conventions.

use crate::{act::HubWrites, edge::GatewayEdge, leader::Leadership, members::Members};
use flambeau_crds::{
    MigrationStatus,
    migration::{MigrationOutcome, MigrationType},
};
use flambeau_planner::{
    ApplicationPlan, Plan,
    health::{self, Health},
    model::{Application, MoveType, Reach, Snapshot},
    status::Truth,
};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
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

/// Everything that the operator exports; `docs/reference/metrics.md` explains
/// it.
pub fn registry(
    leadership: Leadership,
    metrics: &Metrics,
    writes: &HubWrites,
    members: &Members,
    edge: &GatewayEdge,
) -> Registry {
    let mut registry = Registry::with_prefix("flambeau");
    registry.register_collector(Box::new(leadership));
    metrics.register(&mut registry);
    writes.register(&mut registry);
    members.register(&mut registry);
    edge.register(&mut registry);
    registry
}

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WordLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabel {
    cluster: String,
    health: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    r#type: &'static str,
    result: &'static str,
}

/// How a move ended, for the figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndedMove {
    kind: &'static str,
    result: &'static str,
    recovery: Option<Duration>,
}

impl EndedMove {
    /// A move that ends with this status, if it does.
    pub fn of(
        kind: MigrationType,
        before: &MigrationStatus,
        after: &MigrationStatus,
    ) -> Option<Self> {
        let outcome = after.outcome.filter(|_| before.outcome.is_none())?;
        let recovery = after.recovery_milliseconds;
        Some(Self {
            kind: match kind {
                MigrationType::Relocate => "Relocate",
                MigrationType::Failover => "Failover",
                MigrationType::Failback => "Failback",
            },
            result: match outcome {
                MigrationOutcome::Completed => "Completed",
                MigrationOutcome::Aborted => "Aborted",
            },
            recovery: recovery
                .and_then(|millis| u64::try_from(millis).ok())
                .map(Duration::from_millis),
        })
    }
}

/// Figures of the last plan, and of what ended since the process runs.
#[derive(Clone, Debug)]
pub struct Metrics {
    applications: Family<StateLabel, Gauge>,
    states: Family<WordLabel, Gauge>,
    ended: Family<EndLabel, Counter>,
    recovery: Histogram,
    health: Family<HealthLabel, Gauge>,
    hub_suspect: Gauge,
    evacuations: Family<WordLabel, Gauge>,
    freezes: Gauge,
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
            states: Family::default(),
            ended: Family::default(),
            // From half a second to a quarter of an hour.
            recovery: Histogram::new(exponential_buckets(0.5, 2.0, 12)),
            health: Family::default(),
            hub_suspect: Gauge::default(),
            evacuations: Family::default(),
            freezes: Gauge::default(),
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
        registry.register(
            "applications_by_state",
            "Applications by what they do: Serving, NotReady, Unknown, Stalled, Relocate, Failover, Failback, Deleting",
            self.states.clone(),
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
        registry.register(
            "member_health",
            "1 for the word that is thought of a member, 0 for every other",
            self.health.clone(),
        );
        registry.register(
            "hub_suspect",
            "1 while most members vanished together, so that nothing moves by itself, else 0",
            self.hub_suspect.clone(),
        );
        registry.register(
            "evacuations",
            "Evacuations that are not over, by state",
            self.evacuations.clone(),
        );
        registry.register(
            "freezes_in_force",
            "Windows that are open during which no planned move begins",
            self.freezes.clone(),
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
        self.health(snapshot);
        self.operations(snapshot, &plan);
        let violations = plan
            .policies
            .iter()
            .filter(|policy| policy.in_force)
            .map(|policy| policy.violations.len());
        self.violations
            .set(i64::try_from(violations.sum::<usize>()).unwrap_or(i64::MAX));
    }

    fn health(&self, snapshot: &Snapshot) {
        let now = Timestamp::now();
        self.health.clear();
        for cluster in snapshot.clusters.values() {
            let current = health::of(cluster, now).as_str();
            for health in Health::WORDS {
                let label = HealthLabel {
                    cluster: cluster.name.to_string(),
                    health,
                };
                self.health
                    .get_or_create(&label)
                    .set(i64::from(health == current));
            }
        }
        self.hub_suspect.set(i64::from(snapshot.hub_suspect(now)));
    }

    fn operations(&self, snapshot: &Snapshot, plan: &Plan) {
        self.states.clear();
        for (application, planned) in snapshot.applications.iter().zip(&plan.applications) {
            let state = state(application, planned);
            self.states.get_or_create(&WordLabel { state }).inc();
        }
        self.evacuations.clear();
        for evacuation in &plan.evacuations {
            let state = evacuation.state.as_str();
            self.evacuations.get_or_create(&WordLabel { state }).inc();
        }
        let open = plan.freezes.iter().filter(|freeze| freeze.in_force).count();
        self.freezes.set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    /// Counts a move that ended.
    pub fn ended(&self, ended: &EndedMove) {
        let label = EndLabel {
            r#type: ended.kind,
            result: ended.result,
        };
        self.ended.get_or_create(&label).inc();
        if let Some(recovery) = ended.recovery {
            self.recovery.observe(recovery.as_secs_f64());
        }
    }

    /// When the last plan can change by itself.
    pub fn wake_at(&self) -> Option<Timestamp> {
        *self.wake_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an application does, in a word.
fn state(application: &Application, planned: &ApplicationPlan) -> &'static str {
    let conditions = &planned.conditions;
    if application.deleting {
        return "Deleting";
    }
    if let Some(migration) = application.current_move() {
        return match migration.move_type {
            MoveType::Relocate => "Relocate",
            MoveType::Failover => "Failover",
            MoveType::Failback => "Failback",
        };
    }
    match (conditions.stalled.truth, conditions.ready.truth) {
        (Truth::True, _) => "Stalled",
        (_, Truth::True) => "Serving",
        (_, Truth::Unknown) => "Unknown",
        (_, Truth::False) => "NotReady",
    }
}

fn word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Unknown => "unknown",
    }
}
