//! Evacuation: everything leaves a cluster or a provider.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every application leaves a cluster, or every cluster of a provider, make-
/// before-break, and nothing new goes there meanwhile. Owned by an SRE.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "flambeau.dev",
    version = "v1alpha1",
    kind = "Evacuation",
    plural = "evacuations",
    shortname = "evac",
    category = "flambeau",
    status = "EvacuationStatus",
    derive = "PartialEq",
    doc = "Evacuation relocates every application off a cluster or a provider, critical ones first, within a budget; it can be paused, resumed and aborted as a whole.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.cluster"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Moved", type_ = "integer", json_path = ".status.moved"),
    printcolumn(name = "Moving", type_ = "integer", json_path = ".status.moving"),
    printcolumn(name = "Stuck", type_ = "integer", json_path = ".status.stuck"),
    printcolumn(name = "Total", type_ = "integer", json_path = ".status.total"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(
        name = "Shortfall",
        type_ = "string",
        json_path = ".status.shortfall",
        priority = 1
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".spec.reason",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cluster) != has(self.provider)").message("name either a cluster or a provider: exactly one of the two"),
    validation = Rule::new("has(self.cluster) == has(oldSelf.cluster) && (!has(self.cluster) || self.cluster == oldSelf.cluster)").message("is immutable: abort this Evacuation and create a new one instead").field_path(".cluster"),
    validation = Rule::new("has(self.provider) == has(oldSelf.provider) && (!has(self.provider) || self.provider == oldSelf.provider)").message("is immutable: abort this Evacuation and create a new one instead").field_path(".provider"),
    validation = Rule::new("!has(self.cluster) || !has(self.to) || !(self.cluster in self.to)").message("the cluster cannot be emptied to itself: remove its name").field_path(".to")
)]
pub struct EvacuationSpec {
    /// MemberCluster that everything leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub cluster: Option<String>,

    /// CloudProvider whose clusters everything leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub provider: Option<String>,

    /// The only MemberClusters that applications may go to, the best first;
    /// every lawful one when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_object_names::<64>")]
    pub to: Vec<String>,

    /// Moves of this Evacuation at the same time, within the budget of the
    /// fleet, which binds when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: Option<i32>,

    /// Why; part of the evidence.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,

    /// Who asked: the user name as the API server knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: Option<String>,

    /// True begins moves although a Freeze is in force: an explicit, recorded
    /// override.
    #[serde(default)]
    pub ignore_freeze: bool,

    /// True begins no further move; those under way go on.
    #[serde(default)]
    pub pause: bool,

    /// True walks back every move under way, as far as each still may, and
    /// begins no other.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!oldSelf || self").message("an abort cannot be taken back: create a new Evacuation instead"))]
    pub abort: bool,
}

/// How an Evacuation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EvacuationOutcome {
    /// No application is left there.
    Completed,
    /// A person ended it; what had moved stays where it is.
    Aborted,
}

/// How far the Evacuation is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EvacuationStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Applications that are, or were, to leave.
    #[serde(default)]
    pub total: i32,

    /// Applications that have left.
    #[serde(default)]
    pub moved: i32,

    /// Applications that are moving now.
    #[serde(default)]
    pub moving: i32,

    /// Applications that cannot leave, for a reason outside.
    #[serde(default)]
    pub stuck: i32,

    /// Applications that are still there and why, at most 100, those that are
    /// stuck first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remaining: Vec<RemainingApplication>,

    /// What the lawful targets lack, all in all, so that everything fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<String>,

    /// When the Evacuation was first seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,

    /// When nothing was left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<MicroTime>,

    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<EvacuationOutcome>,

    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One application that is still to leave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemainingApplication {
    /// Namespace of the application.
    pub namespace: String,
    /// Name of the application.
    pub application: String,
    /// Stable reason in PascalCase.
    pub reason: String,
    /// The fact behind the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
