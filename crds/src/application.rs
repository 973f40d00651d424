//! GamesApplication: one application, and where it may and does run.

use crate::{Criticality, Sensitivity, cluster::KindReference, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One application: what it is made of, how sensitive and how critical it is.
/// Owned by the application team.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "flambeau.dev",
    version = "v1alpha1",
    kind = "GamesApplication",
    plural = "gamesapplications",
    shortname = "gapp",
    category = "flambeau",
    namespaced,
    status = "GamesApplicationStatus",
    derive = "PartialEq",
    doc = "GamesApplication is one application: its Kubernetes resources, its sensitivity and criticality, its traffic. Flambeau places it where every policy in force allows.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.cluster"),
    printcolumn(name = "Lawful", type_ = "string", json_path = ".status.conditions[?(@.type==\"Lawful\")].status"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Moving-To", type_ = "string", json_path = ".status.movingTo"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.next"),
    printcolumn(name = "Sensitivity", type_ = "string", json_path = ".spec.sensitivity", priority = 1),
    printcolumn(name = "Criticality", type_ = "string", json_path = ".spec.criticality", priority = 1),
    printcolumn(name = "Epoch", type_ = "integer", json_path = ".status.epoch", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 52 && self.metadata.name.matches('^[a-z]') && !self.metadata.name.contains('.')").message("metadata.name must be at most 52 characters of a-z, 0-9 and '-', beginning with a letter: it becomes part of the names of Services"),
    validation = Rule::new("!has(self.spec.dependsOn) || !(self.metadata.name in self.spec.dependsOn)").message("an application cannot depend on itself: remove its own name").field_path(".spec.dependsOn")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.traffic) || self.resources.exists(resource, resource.kind == 'Service' && resource.apiVersion == 'v1' && has(resource.metadata) && has(resource.metadata.name) && resource.metadata.name == self.traffic.service.name)").message("no Service (apiVersion v1) of this name stands in resources: add it, or correct the name").field_path(".traffic.service.name")
)]
pub struct GamesApplicationSpec {
    /// How sensitive the application's data is: what policies look at.
    pub sensitivity: Sensitivity,

    /// How badly an interruption hurts: critical applications move first.
    #[serde(default)]
    pub criticality: Criticality,

    /// The Kubernetes objects that make up the application, of any namespaced
    /// kind that the member serves. They are created in the namespace of the
    /// GamesApplication, with server-side apply.
    #[schemars(schema_with = "schema::resources")]
    pub resources: Vec<Value>,

    /// How requests reach the application; without it, no traffic is shifted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,

    /// Where the application should run if the law allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<PlacementPreference>,

    /// Pace of a planned move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationStrategy>,

    /// What happens when the application's cluster is lost, or its services
    /// there stop answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<FailoverPolicy>,

    /// What recovery has to achieve; measured at every failover, and reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objectives: Option<Objectives>,

    /// Names of GamesApplications in the same namespace that this one calls:
    /// they move before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names::<32>")]
    pub depends_on: Vec<String>,
}

/// How requests reach an application, through the edge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Host names of the application (Gateway API `Hostname`).
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub hostnames: Vec<Hostname>,

    /// Service among the resources that receives the requests.
    pub service: ServicePort,
}

/// A precise or wildcard host name, as in the Gateway API
/// (<https://gateway-api.sigs.k8s.io/reference/spec/#hostname>).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Hostname(#[schemars(schema_with = "schema::hostname")] pub String);

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name of the Service.
    #[schemars(schema_with = "schema::label_name")]
    pub name: String,

    /// Port number of the Service.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// Where an application should run if the law allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPreference {
    /// MemberClusters in order of preference; the others come after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::ordered_object_names::<64>")]
    pub preferred_clusters: Vec<String>,
}

/// Pace of a planned move.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.stages[self.stages.size() - 1] == 100").message("the last of stages must be 100: all requests go to the target").field_path(".stages"),
    validation = Rule::new("self.stages.isSorted() && self.stages.all(one, self.stages.exists_one(other, other == one))").message("stages must grow, such as [25, 50, 75, 100]").field_path(".stages")
)]
pub struct MigrationStrategy {
    /// Percentages of requests at the target, stage by stage.
    #[serde(default = "default_stages")]
    #[schemars(length(min = 1, max = 20), inner(range(min = 1, max = 100)))]
    pub stages: Vec<i32>,

    /// Seconds that every stage lasts at least.
    #[serde(default = "default_stage_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub stage_seconds: i32,

    /// Seconds during which the target serves alone before the source is
    /// drained.
    #[serde(default = "default_soak_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub soak_seconds: i32,

    /// Seconds that requests still open at the source, long-lived streams
    /// mostly, get to end by themselves before it is asked to terminate.
    #[serde(default = "default_drain_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub drain_seconds: i32,

    /// Seconds that a target gets to become ready before the move is
    /// abandoned and tried again later, elsewhere if there is elsewhere.
    #[serde(default = "default_ready_timeout_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub ready_timeout_seconds: i32,
}

impl Default for MigrationStrategy {
    fn default() -> Self {
        Self {
            stages: default_stages(),
            stage_seconds: default_stage_seconds(),
            soak_seconds: default_soak_seconds(),
            drain_seconds: default_drain_seconds(),
            ready_timeout_seconds: default_ready_timeout_seconds(),
        }
    }
}

fn default_stages() -> Vec<i32> {
    vec![25, 50, 75, 100]
}

fn default_stage_seconds() -> i32 {
    5
}

fn default_soak_seconds() -> i32 {
    10
}

fn default_drain_seconds() -> i32 {
    30
}

fn default_ready_timeout_seconds() -> i32 {
    300
}

/// What happens when the cluster of an application is lost, or its services
/// there stop answering while the cluster itself is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailoverPolicy {
    /// Whether Flambeau fails over by itself, or waits for a person.
    #[serde(default)]
    pub mode: FailoverMode,

    /// What is kept ready on the next lawful cluster meanwhile.
    #[serde(default)]
    pub standby: StandbyMode,

    /// Replicas that every Deployment and StatefulSet of a Warm standby keeps.
    #[serde(default = "default_standby_replicas")]
    #[schemars(range(min = 0, max = 1000))]
    pub standby_replicas: i32,

    /// Seconds during which the application's services must have failed at the
    /// edge, with no answer in between, before it leaves a cluster that is well
    /// otherwise.
    #[serde(default = "default_unhealthy_after_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub unhealthy_after_seconds: i32,

    /// Seconds after a failover during which the application neither leaves a
    /// cluster that still answers, nor goes back to the one that it left.
    #[serde(default = "default_cooldown_seconds")]
    #[schemars(range(min = 0, max = 86400))]
    pub cooldown_seconds: i32,

    /// Whether the application goes back by itself to the cluster that it was
    /// failed over from.
    #[serde(default)]
    pub failback: FailbackMode,

    /// Seconds for which that cluster must have been well without interruption
    /// before an automatic failback.
    #[serde(default = "default_failback_after_seconds")]
    #[schemars(range(min = 1, max = 604800))]
    pub failback_after_seconds: i32,
}

impl Default for FailoverPolicy {
    fn default() -> Self {
        Self {
            mode: FailoverMode::default(),
            standby: StandbyMode::default(),
            standby_replicas: default_standby_replicas(),
            unhealthy_after_seconds: default_unhealthy_after_seconds(),
            cooldown_seconds: default_cooldown_seconds(),
            failback: FailbackMode::default(),
            failback_after_seconds: default_failback_after_seconds(),
        }
    }
}

fn default_standby_replicas() -> i32 {
    1
}

fn default_unhealthy_after_seconds() -> i32 {
    10
}

fn default_cooldown_seconds() -> i32 {
    60
}

fn default_failback_after_seconds() -> i32 {
    600
}

/// Who decides about a failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailoverMode {
    /// Flambeau fails over by itself, to a lawful cluster and to no other.
    #[default]
    Automatic,
    /// A person has to ask: the application says so and waits.
    Manual,
}

/// What is kept ready for a failover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StandbyMode {
    /// Nothing.
    #[default]
    Cold,
    /// Every object is applied on the next lawful cluster, with its workloads
    /// scaled to `standbyReplicas`; no request goes there.
    Warm,
}

/// Who decides about a failback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FailbackMode {
    /// A person has to ask.
    #[default]
    Manual,
    /// Flambeau relocates the application back, make-before-break.
    Automatic,
}

/// What recovery has to achieve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objectives {
    /// Recovery time objective (RTO) in seconds: from the last sign of life of
    /// the lost cluster until the application serves elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604800))]
    pub recovery_time_seconds: Option<i32>,
}

/// Where the application runs, whether that is lawful, and what happens next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GamesApplicationStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Grows by one each time the active cluster changes, and with each move
    /// that is walked back: the fencing token.
    #[serde(default)]
    pub epoch: i64,

    /// Number of Migrations that were begun for the application; the next one
    /// is named after it.
    #[serde(default)]
    pub migrations: i64,

    /// Cluster of the active copy, for people; `placements` is the truth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,

    /// Target of the move under way, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_to: Option<String>,

    /// Every copy that Flambeau keeps or still has to erase.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub placements: Vec<Placement>,

    /// Cluster that the application was failed over from and has not gone back
    /// to: where a failback leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_over_from: Option<String>,

    /// What happens next and what it waits for, in one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,

    /// Every kind that Flambeau ever wrote for the application and may have
    /// left somewhere: kept while a copy is anywhere, so that nothing of a kind
    /// that the specification no longer names is forgotten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindReference>,

    /// Every cluster that was considered, and why it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<Candidate>,

    /// Moves that were abandoned and will be tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_targets: Vec<FailedTarget>,

    /// Ready, Lawful, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// One copy of an application on one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Name of the MemberCluster.
    pub cluster: String,
    /// What the copy is for.
    pub role: PlacementRole,
    /// Epoch under which the copy is written.
    pub epoch: i64,
    /// Since when the copy has this role.
    pub since: MicroTime,
}

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PlacementRole {
    /// The copy that serves, or will as soon as it is ready.
    Active,
    /// The target of a move under way.
    Target,
    /// The former active copy, kept until the move is sure.
    Source,
    /// A copy kept ready for a failover; no request goes there.
    Standby,
    /// A copy that is being erased.
    Retiring,
}

/// One cluster that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Name of the MemberCluster.
    pub cluster: String,
    /// Whether the application may be placed there now.
    pub eligible: bool,
    /// Stable reason in PascalCase: `Eligible`, or the first rule that
    /// refuses.
    pub reason: String,
    /// The policy and the fact behind the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A target on which a move was abandoned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedTarget {
    /// Name of the MemberCluster.
    pub cluster: String,
    /// How many moves in a row were abandoned there.
    pub attempts: i32,
    /// Reason of the last.
    pub reason: String,
    /// Name of the last Migration that was abandoned there.
    pub migration: String,
    /// The cluster is not chosen again before this time.
    pub retry_after: Time,
}
