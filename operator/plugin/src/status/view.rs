//! What the screen shows, taken from the objects: also the output for machines.

use crate::moves;
use flambeau_crds::{
    Evacuation, GamesApplication, MemberCluster, Migration,
    application::PlacementRole,
    migration::{MigrationStep, MigrationType},
};
use flambeau_operator::offline::objects::Objects;
use flambeau_planner::model::ApplicationKey;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Serialize;

/// The state of the fleet, as last reported by the operator.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Applications by namespace and name.
    pub applications: Vec<ApplicationView>,
    /// Clusters by name.
    pub clusters: Vec<ClusterView>,
    /// Evacuations that are not over.
    pub evacuations: Vec<EvacuationView>,
    /// Windows that are open.
    pub freezes: Vec<FreezeView>,
}

/// One application.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// How sensitive its data is.
    pub sensitivity: String,
    /// How badly an interruption hurts.
    pub criticality: String,
    /// Where the active copy is.
    pub cluster: Option<String>,
    /// Grows with each change of the cluster.
    pub epoch: i64,
    /// Clusters that keep a standby.
    pub standby: Vec<String>,
    /// Where it was failed over from.
    pub failed_over_from: Option<String>,
    /// Whether the law allows the cluster: True, False or Unknown.
    pub lawful: Verdict,
    /// Whether it serves: True, False or Unknown.
    pub serving: Verdict,
    /// The move under way.
    pub moving: Option<MoveView>,
    /// What stands in the way.
    pub stuck: Option<Verdict>,
    /// What happens next.
    pub next: Option<String>,
}

/// What a condition says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// True, False or Unknown.
    pub status: String,
    /// Stable reason.
    pub reason: String,
    /// The fact behind it.
    pub message: String,
}

/// One move under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoveView {
    /// Name of the Migration.
    pub name: String,
    /// Kind of the move.
    #[serde(rename = "type")]
    pub type_: MigrationType,
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// The step under way.
    pub step: Option<MigrationStep>,
    /// Percentage of requests at the target.
    pub target_percent: i32,
    /// When it began.
    pub start_time: Option<Timestamp>,
    /// The gate that holds it.
    pub waiting_for: Option<String>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterView {
    /// Name.
    pub name: String,
    /// Its CloudProvider.
    pub provider: String,
    /// What is thought of it.
    pub health: String,
    /// Since when it does not answer.
    pub unreachable_since: Option<Timestamp>,
    /// New applications are kept away.
    pub cordoned: bool,
    /// Applications whose active copy is there.
    pub applications: i32,
    /// Nodes ready and all, if known.
    pub nodes: Option<(i32, i32)>,
}

/// One Evacuation that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvacuationView {
    /// Name.
    pub name: String,
    /// What is emptied: cluster/NAME or provider/NAME.
    pub place: String,
    /// Applications that left.
    pub moved: i32,
    /// Applications that are leaving.
    pub moving: i32,
    /// Applications that cannot leave.
    pub stuck: i32,
    /// All of them.
    pub total: i32,
    /// What the targets lack.
    pub shortfall: Option<String>,
    /// A person holds it.
    pub paused: bool,
    /// Why the first of those that are stuck is.
    pub why_stuck: Option<String>,
}

/// One window that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FreezeView {
    /// Name.
    pub name: String,
    /// First moment after it.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Moves that wait for its end.
    pub waiting: i32,
}

impl View {
    /// The state of one application and where it may be, or of all.
    pub fn of(objects: &Objects, chosen: Option<&ApplicationKey>) -> Self {
        let wanted = |key: &&ApplicationKey| chosen.is_none_or(|chosen| chosen == *key);
        Self {
            applications: objects
                .applications
                .iter()
                .filter(|(key, _)| wanted(key))
                .map(|(key, object)| application(key, object, moves::open(objects, key)))
                .collect(),
            clusters: objects.clusters.values().map(cluster).collect(),
            evacuations: objects
                .evacuations
                .iter()
                .filter(|(_, object)| {
                    object
                        .status
                        .as_ref()
                        .is_none_or(|status| status.outcome.is_none())
                })
                .map(|(name, object)| EvacuationView::of(name, object))
                .collect(),
            freezes: objects
                .freezes
                .iter()
                .filter(|(_, object)| {
                    let status = object.status.as_ref();
                    status.is_some_and(|status| {
                        verdict(&status.conditions, "InForce").status == "True"
                    })
                })
                .map(|(name, object)| FreezeView {
                    name: name.to_string(),
                    until: object.spec.until.0,
                    reason: object.spec.reason.clone(),
                    waiting: object.status.as_ref().map_or(0, |status| status.waiting),
                })
                .collect(),
        }
    }
}

fn application(
    key: &ApplicationKey,
    object: &GamesApplication,
    migration: Option<&Migration>,
) -> ApplicationView {
    let status = object.status.clone().unwrap_or_default();
    let stuck = verdict(&status.conditions, "Stalled");
    ApplicationView {
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        sensitivity: format!("{:?}", object.spec.sensitivity),
        criticality: format!("{:?}", object.spec.criticality),
        cluster: moves::active(object).map(str::to_owned),
        epoch: status.epoch,
        standby: status
            .placements
            .iter()
            .filter(|placement| placement.role == PlacementRole::Standby)
            .map(|placement| placement.cluster.clone())
            .collect(),
        failed_over_from: status.failed_over_from.clone(),
        lawful: verdict(&status.conditions, "Lawful"),
        serving: verdict(&status.conditions, "Ready"),
        moving: migration.map(moving),
        stuck: (stuck.status == "True").then_some(stuck),
        next: status.next,
    }
}

fn moving(object: &Migration) -> MoveView {
    let status = object.status.clone().unwrap_or_default();
    MoveView {
        name: moves::name(object),
        type_: object.spec.type_,
        from: object.spec.from.clone(),
        to: object.spec.to.clone(),
        step: status.step,
        target_percent: status.target_percent,
        start_time: status.start_time.map(|time| time.0),
        waiting_for: status.waiting_for,
    }
}

fn cluster(object: &MemberCluster) -> ClusterView {
    let status = object.status.clone().unwrap_or_default();
    let ready = verdict(&status.conditions, "Ready");
    let health = status.health.unwrap_or_else(|| match &*ready.status {
        "True" => "Healthy".to_owned(),
        "" => "NotObserved".to_owned(),
        _ => ready.reason,
    });
    ClusterView {
        name: object.metadata.name.clone().unwrap_or_default(),
        provider: object.spec.provider.clone(),
        health,
        unreachable_since: status.unreachable_since.map(|time| time.0),
        cordoned: object.spec.cordoned,
        applications: status.applications,
        nodes: status.nodes_ready.zip(status.nodes),
    }
}

impl EvacuationView {
    /// How far an Evacuation is.
    pub fn of(name: &str, object: &Evacuation) -> Self {
        let status = object.status.clone().unwrap_or_default();
        Self {
            name: name.to_owned(),
            place: moves::place(&object.spec),
            moved: status.moved,
            moving: status.moving,
            stuck: status.stuck,
            total: status.total,
            shortfall: status.shortfall,
            paused: object.spec.pause,
            why_stuck: status
                .remaining
                .first()
                .filter(|_| status.stuck > 0)
                .map(|first| {
                    let message = first.message.as_deref().unwrap_or_default();
                    format!("{}: {}: {message}", first.application, first.reason)
                }),
        }
    }
}

/// What a condition says; nothing at all when there is none.
pub fn verdict(conditions: &[Condition], type_: &str) -> Verdict {
    conditions
        .iter()
        .find(|condition| condition.type_ == type_)
        .map(|condition| Verdict {
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        })
        .unwrap_or_default()
}
