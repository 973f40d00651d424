//! Migration: one move of one application.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One move of one application from one cluster to another: the intent,
/// stored before anything is done, and the record of what was done.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "flambeau.dev",
    version = "v1alpha1",
    kind = "Migration",
    plural = "migrations",
    shortname = "mig",
    category = "flambeau",
    namespaced,
    status = "MigrationStatus",
    derive = "PartialEq",
    doc = "Migration is one move of one application: where from, where to, why, and every step with its times and the verdict of each gate.",
    selectable = ".spec.application",
    printcolumn(
        name = "Application",
        type_ = "string",
        json_path = ".spec.application"
    ),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(
        name = "Target-%",
        type_ = "integer",
        json_path = ".status.targetPercent"
    ),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(
        name = "Waiting-For",
        type_ = "string",
        json_path = ".status.waitingFor"
    ),
    printcolumn(
        name = "Trigger",
        type_ = "string",
        json_path = ".spec.trigger",
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
    validation = Rule::new("self.from != self.to").message("from and to are the same cluster: name another one").field_path(".to"),
    validation = Rule::new("has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)").message("is immutable: it says who asked").field_path(".requestedBy"),
    validation = Rule::new("has(self.evacuation) == has(oldSelf.evacuation) && (!has(self.evacuation) || self.evacuation == oldSelf.evacuation)").message("is immutable: abort this Migration and create a new one instead").field_path(".evacuation")
)]
pub struct MigrationSpec {
    /// Name of the GamesApplication, in the same namespace.
    #[schemars(schema_with = "schema::object_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: abort this Migration and create a new one instead"))]
    pub application: String,

    /// Kind of move.
    #[serde(rename = "type")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: abort this Migration and create a new one instead"))]
    pub type_: MigrationType,

    /// MemberCluster that the application leaves.
    #[schemars(schema_with = "schema::object_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: abort this Migration and create a new one instead"))]
    pub from: String,

    /// MemberCluster that the application goes to.
    #[schemars(schema_with = "schema::object_name")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: abort this Migration and create a new one instead"))]
    pub to: String,

    /// What set the move off.
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: abort this Migration and create a new one instead"))]
    pub trigger: MigrationTrigger,

    /// Why, in stable words or for people; part of the evidence.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: abort this Migration and create a new one instead"))]
    pub reason: String,

    /// Who asked: the user name as the API server knows it. The plugin fills it
    /// in; part of the evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: Option<String>,

    /// Name of the Evacuation that the move is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub evacuation: Option<String>,

    /// True begins a planned move although a Freeze is in force: an explicit,
    /// recorded override.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("is immutable: abort this Migration and create a new one instead"))]
    pub ignore_freeze: bool,

    /// True holds the move at the step it is in.
    #[serde(default)]
    pub pause: bool,

    /// True walks the move back, as long as the source is not being retired.
    #[serde(default)]
    #[x_kube(validation = Rule::new("!oldSelf || self").message("an abort cannot be taken back: create a new Migration instead"))]
    pub abort: bool,
}

/// Kind of move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationType {
    /// Planned, source alive, make-before-break, reversible.
    Relocate,
    /// Unplanned, source lost: as fast as the target gets ready.
    Failover,
    /// A relocate to where the application was failed over from.
    Failback,
}

/// What set a move off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationTrigger {
    /// A policy refuses the place where the application runs.
    Policy,
    /// A person asked.
    Request,
    /// The cluster is lost, or the application's services there do not answer.
    Loss,
    /// An Evacuation empties the cluster.
    Evacuation,
    /// The application asks to go back by itself.
    Failback,
}

/// The steps of a move, in order; see the design notes in ARCHITECTURE.md.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum MigrationStep {
    /// Law, capacity, reachability and kinds are checked.
    Preflight,
    /// Every object is written to the target.
    Prepare,
    /// Every workload of the target gets ready, and its endpoints are known
    /// at the edge.
    Ready,
    /// Data catches up; nothing to do for applications without data.
    Sync,
    /// Requests go over in stages.
    Shift,
    /// The target serves alone, the source stands by.
    Soak,
    /// The source finishes the requests that it still has.
    Drain,
    /// The source is erased, and the erasure is verified.
    Retire,
    /// Requests go back to the source, the target is erased.
    Abort,
    /// Nothing is left to do.
    Done,
}

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MigrationOutcome {
    /// The application runs on the target, the source is erased.
    Completed,
    /// The application runs on the source, the target is erased.
    Aborted,
}

/// How far the move is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Epoch under which the target is written: the application's epoch once
    /// the move is made.
    #[serde(default)]
    pub epoch: i64,

    /// The step under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<MigrationStep>,

    /// Percentage of requests that go to the target.
    #[serde(default)]
    pub target_percent: i32,

    /// When the current stage of Shift began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_start_time: Option<MicroTime>,

    /// The gate that the step waits for, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,

    /// Every step so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepRecord>,

    /// When the first step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<MicroTime>,

    /// When nothing was left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<MicroTime>,

    /// How the move ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<MigrationOutcome>,

    /// Why the move was walked back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_reason: Option<String>,

    /// Since when no weighted backend has a ready endpoint; absent while one
    /// has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<MicroTime>,

    /// Milliseconds during which no weighted backend had a ready endpoint at the
    /// edge, as observed.
    #[serde(default)]
    pub downtime_milliseconds: i64,

    /// When the source last gave a sign of life, for a failover off a source
    /// that is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_time: Option<MicroTime>,

    /// Measured recovery time in milliseconds: from `lostTime` until the edge
    /// confirmed that requests go to the target, and the target serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_milliseconds: Option<i64>,

    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One step of a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepRecord {
    /// The step.
    pub name: MigrationStep,
    /// When it began.
    pub start_time: MicroTime,
    /// When it ended; absent while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_time: Option<MicroTime>,
    /// The gates that let it pass, or hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<GateVerdict>,
}

/// What one gate said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateVerdict {
    /// Name of the gate.
    pub gate: String,
    /// Whether it lets the step pass.
    pub passed: bool,
    /// Stable reason in PascalCase.
    pub reason: String,
    /// The fact behind the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
