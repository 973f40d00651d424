//! What to report about an application: its conditions, and what happens next.

use crate::{
    Reason, failover,
    fleet::Decision,
    law::Judgement,
    model::{Application, ApplicationRecord, Cluster, MoveType, Reach, Role, Snapshot},
    placement,
};
use jiff::Timestamp;

/// Truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody can say.
    Unknown,
}

/// One condition of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it holds.
    pub truth: Truth,
    /// Why.
    pub reason: Reason,
    /// The fact behind the reason.
    pub message: String,
}

impl Condition {
    fn new(truth: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            truth,
            reason,
            message: message.into(),
        }
    }
}

/// Conditions of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The active copy serves.
    pub ready: Condition,
    /// The active copy is where every policy in force allows.
    pub lawful: Condition,
    /// Something is under way (kstatus).
    pub reconciling: Condition,
    /// Something needs a person, or a change of the world (kstatus).
    pub stalled: Condition,
}

/// The conditions of an application, and what happens next in one line.
pub fn conditions(
    application: &Application,
    record: &ApplicationRecord,
    decision: &Decision,
    judgement: Option<&Judgement>,
    snapshot: &Snapshot,
    now: Timestamp,
) -> (Conditions, String) {
    let ready = ready(application, record, decision, snapshot, now);
    let lawful = lawful(judgement, decision);
    let (reconciling, next) = reconciling(application, record, decision, &ready);
    let stalled = stalled(application, decision, &ready);
    let next = if stalled.truth == Truth::True && reconciling.truth == Truth::False {
        stalled.message.clone()
    } else {
        next
    };
    (
        Conditions {
            ready,
            lawful,
            reconciling,
            stalled,
        },
        next,
    )
}

fn ready(
    application: &Application,
    record: &ApplicationRecord,
    decision: &Decision,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Condition {
    if application.deleting {
        return Condition::new(
            Truth::False,
            Reason::Deleting,
            "the application is being deleted",
        );
    }
    let Some(active) = record.active() else {
        let (reason, message) = decision
            .obstacle()
            .unwrap_or((Reason::Placing, "no cluster is chosen yet".to_owned()));
        return Condition::new(Truth::False, reason, message);
    };
    let cluster = snapshot
        .clusters
        .get(&active.cluster)
        .map(|cluster| &**cluster);
    if let Some(loss) = failover::loss(application, snapshot, &active.cluster, now) {
        return Condition::new(Truth::False, loss.reason, loss.message);
    }
    if let Some((reason, message)) = cluster.map_or_else(
        || {
            Some((
                Reason::ClusterUnknown,
                format!("cluster {} is not part of the fleet", active.cluster),
            ))
        },
        placement::unreachable,
    ) {
        let reason = match reason {
            Reason::ControlPlaneUnreachable => reason,
            _ => Reason::StateUnknown,
        };
        return Condition::new(Truth::Unknown, reason, message);
    }
    let copy = application
        .copies
        .get(&active.cluster)
        .cloned()
        .unwrap_or_default();
    if let Some(refused) = copy.obstacle() {
        return Condition::new(Truth::False, Reason::ObjectRefused, refused.to_owned());
    }
    if copy.current < copy.declared {
        return Condition::new(
            Truth::False,
            Reason::Placing,
            format!("objects are being written to {}", active.cluster),
        );
    }
    if !copy.ready() {
        return Condition::new(
            Truth::False,
            Reason::WorkloadsNotReady,
            format!("not every workload on {} is ready", active.cluster),
        );
    }
    if application.spec.traffic && copy.endpoints == 0 {
        return Condition::new(
            Truth::False,
            Reason::EndpointsNotReady,
            format!("the service on {} has no ready endpoint", active.cluster),
        );
    }
    if let Some(problem) = &application.edge.problem {
        return Condition::new(Truth::False, Reason::EdgeProblem, problem.clone());
    }
    Condition::new(
        Truth::True,
        Reason::Serving,
        format!("every workload on {} is ready", active.cluster),
    )
}

fn lawful(judgement: Option<&Judgement>, decision: &Decision) -> Condition {
    match judgement {
        None => {
            let (reason, message) = decision
                .obstacle()
                .unwrap_or((Reason::Placing, "no cluster is chosen yet".to_owned()));
            Condition::new(Truth::Unknown, reason, message)
        }
        Some(judgement) => {
            let truth = if judgement.lawful() {
                Truth::True
            } else {
                Truth::False
            };
            Condition::new(truth, judgement.reason(), judgement.message())
        }
    }
}

fn about_to_move(decision: &Decision) -> Option<(Reason, String)> {
    Some(match decision {
        Decision::Move { to, .. } => (
            Reason::MoveDecided,
            format!("a move to {to} is about to begin"),
        ),
        Decision::WaitForBudget { to, .. } => (
            Reason::WaitingForBudget,
            format!("moves to {to} when another move is over"),
        ),
        Decision::WaitForThaw { to, message } => (
            Reason::Frozen,
            format!("moves to {to} after the freeze: {message}"),
        ),
        Decision::WaitForDependency { to, dependency } => (
            Reason::WaitingForDependency,
            format!("moves to {to} after {dependency}"),
        ),
        _ => return None,
    })
}

fn erasing(application: &Application, record: &ApplicationRecord) -> Option<String> {
    let mut placements = record.placements.iter();
    let retiring = placements.find(|placement| placement.role == Role::Retiring)?;
    let cluster = &retiring.cluster;
    let refused = in_the_way(application, cluster).map(|why| format!(": {why}"));
    let refused = refused.unwrap_or_default();
    Some(format!(
        "the former copy on {cluster} is being erased{refused}"
    ))
}

/// What keeps a copy from being erased; nothing when nothing does.
fn in_the_way<'a>(application: &'a Application, cluster: &str) -> Option<&'a str> {
    let copy = application.copies.get(cluster);
    copy.filter(|copy| !copy.absent())?.obstacle()
}

/// What keeps an application from being erased everywhere.
fn in_the_way_of_deletion(application: &Application) -> Option<String> {
    let placements = application.record.placements.iter();
    let all: Vec<&str> = placements
        .filter_map(|placement| in_the_way(application, &placement.cluster))
        .collect();
    (!all.is_empty()).then(|| all.join("; "))
}

fn reconciling(
    application: &Application,
    record: &ApplicationRecord,
    decision: &Decision,
    ready: &Condition,
) -> (Condition, String) {
    let on = |reason: Reason, message: String| {
        (
            Condition::new(Truth::True, reason, message.clone()),
            message,
        )
    };
    if application.deleting {
        let refused = in_the_way_of_deletion(application).map(|why| format!(": {why}"));
        let refused = refused.unwrap_or_default();
        return on(
            Reason::Deleting,
            format!("objects are being erased from every cluster{refused}"),
        );
    }
    if let Some(migration) = application.current_move() {
        let message = format!(
            "{} from {} to {}: Migration {}",
            match migration.move_type {
                MoveType::Relocate => "moving",
                MoveType::Failover => "failing over",
                MoveType::Failback => "going back",
            },
            migration.from,
            migration.to,
            migration.name
        );
        return on(Reason::Moving, message);
    }
    if let Some((reason, message)) = about_to_move(decision) {
        return on(reason, message);
    }
    if let Some(message) = erasing(application, record) {
        return on(Reason::Erasing, message);
    }
    let placing = record.active().is_some()
        && matches!(
            ready.reason,
            Reason::Placing | Reason::WorkloadsNotReady | Reason::EndpointsNotReady
        );
    if placing {
        return on(ready.reason, ready.message.clone());
    }
    (
        Condition::new(Truth::False, Reason::Settled, ""),
        String::new(),
    )
}

fn stalled(application: &Application, decision: &Decision, ready: &Condition) -> Condition {
    if application.deleting {
        return match in_the_way_of_deletion(application) {
            Some(why) => Condition::new(Truth::True, Reason::ObjectRefused, why),
            None => Condition::new(Truth::False, Reason::Deleting, ""),
        };
    }
    if let Some(invalid) = &application.spec.invalid {
        return Condition::new(Truth::True, Reason::InvalidSpec, invalid.clone());
    }
    if let Some((reason, message)) = decision.obstacle() {
        return Condition::new(Truth::True, reason, message);
    }
    if matches!(ready.reason, Reason::ObjectRefused | Reason::EdgeProblem) {
        return Condition::new(Truth::True, ready.reason, ready.message.clone());
    }
    Condition::new(Truth::False, Reason::Settled, "")
}

/// Whether everything that a report speaks of was observed, or why it cannot be
/// is known; until then, the last report stands.
pub fn observed(application: &Application, snapshot: &Snapshot) -> bool {
    application.record.placements.iter().all(|placement| {
        let cluster: Option<&Cluster> = snapshot
            .clusters
            .get(&placement.cluster)
            .map(|cluster| &**cluster);
        match cluster.map(|cluster| &cluster.reach) {
            None | Some(Reach::Unreachable { .. } | Reach::Misconfigured { .. }) => true,
            Some(Reach::NotObserved) => false,
            Some(Reach::Reachable) => application
                .copies
                .get(&placement.cluster)
                .is_some_and(|copy| copy.observed || copy.obstacle().is_some()),
        }
    })
}
