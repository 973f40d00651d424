//! Figures of the fleet as the last plan saw it.
//!
//! They are counted aside and published all at once, so that a scrape sees one
//! plan or the next, and never a part of one.

use flambeau_planner::{
    ApplicationPlan, Plan,
    health::{self, Health},
    migration,
    model::{Application, MoveType, Reach, Snapshot},
    status::Truth,
};
use jiff::Timestamp;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{family::Family, gauge::Gauge},
};
use std::{
    fmt,
    hash::Hash,
    sync::{Arc, PoisonError, RwLock},
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WordLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabel {
    cluster: String,
    health: &'static str,
}

/// The figures that are published; clones publish to the same scrapes.
#[derive(Clone, Debug, Default)]
pub(super) struct Published(Arc<RwLock<Arc<Figures>>>);

impl Published {
    /// Publishes the figures of a plan in place of those before.
    pub fn replace(&self, figures: Figures) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(figures);
    }
}

/// Figures of one plan.
#[derive(Debug, Default)]
pub(super) struct Figures {
    applications: Family<StateLabel, Gauge>,
    states: Family<WordLabel, Gauge>,
    stalled: Family<ReasonLabel, Gauge>,
    unprotected: Gauge,
    violations: Gauge,
    reachable: Family<ClusterLabel, Gauge>,
    health: Family<HealthLabel, Gauge>,
    hub_suspect: Gauge,
    open: Family<StepLabel, Gauge>,
    waiting: Family<ReasonLabel, Gauge>,
    evacuations: Family<WordLabel, Gauge>,
    freezes: Gauge,
}

impl Figures {
    /// Counts.
    pub fn of(snapshot: &Snapshot, plan: &Plan) -> Self {
        let figures = Self::default();
        figures.count_applications(snapshot, plan);
        figures.count_moves(snapshot);
        figures.count_clusters(snapshot);
        figures.unprotected.set(whole(plan.unprotected));
        let violations = plan.policies.iter().filter(|policy| policy.in_force);
        let violations: usize = violations.map(|policy| policy.violations.len()).sum();
        figures.violations.set(whole(violations));
        for evacuation in &plan.evacuations {
            let state = evacuation.state.as_str();
            one_more(&figures.evacuations, WordLabel { state });
        }
        let open = plan.freezes.iter().filter(|freeze| freeze.in_force).count();
        figures.freezes.set(whole(open));
        figures
    }

    fn count_applications(&self, snapshot: &Snapshot, plan: &Plan) {
        for (application, planned) in snapshot.applications.iter().zip(&plan.applications) {
            let conditions = &planned.conditions;
            let label = StateLabel {
                lawful: word(conditions.lawful.truth),
                ready: word(conditions.ready.truth),
            };
            one_more(&self.applications, label);
            if conditions.stalled.truth == Truth::True {
                let reason = conditions.stalled.reason.as_str();
                one_more(&self.stalled, ReasonLabel { reason });
            }
            let state = state(application, planned);
            one_more(&self.states, WordLabel { state });
        }
    }

    fn count_moves(&self, snapshot: &Snapshot) {
        let applications = snapshot.applications.iter();
        for open in applications.flat_map(|application| &application.migrations) {
            let step = open.record.step.map_or("Pending", |step| step.as_str());
            one_more(&self.open, StepLabel { step });
            if let Some((reason, _)) = migration::waiting_for(&open.record, open.pause) {
                let reason = reason.as_str();
                one_more(&self.waiting, ReasonLabel { reason });
            }
        }
    }

    fn count_clusters(&self, snapshot: &Snapshot) {
        let now = Timestamp::now();
        for cluster in snapshot.clusters.values() {
            let name = cluster.name.to_string();
            let answers = i64::from(cluster.reach == Reach::Reachable);
            let label = ClusterLabel {
                cluster: name.clone(),
            };
            self.reachable.get_or_create(&label).set(answers);
            let current = health::of(cluster, now).as_str();
            for health in Health::WORDS {
                let label = HealthLabel {
                    cluster: name.clone(),
                    health,
                };
                let holds = i64::from(health == current);
                self.health.get_or_create(&label).set(holds);
            }
        }
        self.hub_suspect.set(i64::from(snapshot.hub_suspect(now)));
    }
}

impl Collector for Published {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let figures = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let mut export = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        export(
            "applications",
            "Applications by lawfulness and readiness",
            &figures.applications,
        )?;
        export(
            "applications_by_state",
            "Applications by what they do: Serving, NotReady, Unknown, Stalled, Relocate, Failover, Failback, Deleting",
            &figures.states,
        )?;
        export(
            "applications_stalled",
            "Applications that need a person or a change of the world, by reason",
            &figures.stalled,
        )?;
        export(
            "applications_unprotected",
            "Applications that run and have no other cluster to go to: none that is lawful, well, and takes them",
            &figures.unprotected,
        )?;
        export(
            "policy_violations",
            "Applications that run where a policy in force refuses, counted by policy",
            &figures.violations,
        )?;
        export(
            "member_reachable",
            "1 while the member answers, else 0",
            &figures.reachable,
        )?;
        export(
            "member_health",
            "1 for the word that is thought of a member, 0 for every other",
            &figures.health,
        )?;
        export(
            "hub_suspect",
            "1 while most members vanished together, so that nothing moves by itself, else 0",
            &figures.hub_suspect,
        )?;
        export("migrations_open", "Moves under way, by step", &figures.open)?;
        export(
            "migrations_waiting",
            "Moves under way that a gate or a person holds, by reason",
            &figures.waiting,
        )?;
        export(
            "evacuations",
            "Evacuations that are not over, by state",
            &figures.evacuations,
        )?;
        export(
            "freezes_in_force",
            "Windows that are open during which no planned move begins",
            &figures.freezes,
        )
    }
}

fn one_more<L: Clone + Hash + Eq>(family: &Family<L, Gauge>, label: L) {
    family.get_or_create(&label).inc();
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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
