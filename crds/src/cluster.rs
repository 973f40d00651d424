//! MemberCluster: one cluster where applications can run.

use crate::{country::Country, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One Kubernetes cluster that Flambeau may place applications on. Owned by
/// the platform team.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "flambeau.dev",
    version = "v1alpha1",
    kind = "MemberCluster",
    plural = "memberclusters",
    shortname = "member",
    category = "flambeau",
    status = "MemberClusterStatus",
    derive = "PartialEq",
    doc = "MemberCluster is one Kubernetes cluster where applications can run: its provider, where its data lies, and how to reach it.",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Residency", type_ = "string", json_path = ".spec.residency"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Health", type_ = "string", json_path = ".status.health"),
    printcolumn(name = "Cordoned", type_ = "boolean", json_path = ".spec.cordoned"),
    printcolumn(
        name = "Applications",
        type_ = "integer",
        json_path = ".status.applications"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.kubernetesVersion",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')").message("metadata.name must be a DNS label: at most 63 characters of a-z, 0-9 and '-': it becomes part of names and labels at the edge")
)]
#[serde(rename_all = "camelCase")]
pub struct MemberClusterSpec {
    /// Name of the CloudProvider that operates the cluster.
    #[schemars(schema_with = "schema::object_name")]
    pub provider: String,

    /// Country where the data of the cluster lies.
    pub residency: Country,

    /// Secret on the hub that holds the kubeconfig of the cluster.
    pub kubeconfig_secret: SecretKeyReference,

    /// True keeps new applications away; what runs there stays.
    #[serde(default)]
    pub cordoned: bool,

    /// How the edge reaches the services of the cluster.
    #[serde(default)]
    pub endpoints: EndpointMode,

    /// When the cluster counts as unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthThresholds>,

    /// What applications may request here in all; what the nodes offer when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,

    /// How far Flambeau goes on the cluster, and as whom. When absent, it
    /// writes under its own identity whatever its permissions there allow, but
    /// for kinds that grant permissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<MemberAccess>,
}

/// How far Flambeau goes on a cluster, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberAccess {
    /// ServiceAccount as which the resources of applications are written: the
    /// one of this name in the namespace of the application. Flambeau
    /// impersonates it, so that an application gets no further on the cluster
    /// than what is granted there to its own namespace. Flambeau's own
    /// identity when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::optional_object_name")]
    pub application_service_account: Option<String>,

    /// The only namespaces for applications; any but those of the system when
    /// empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::label_names::<64>")]
    pub namespaces: Vec<String>,

    /// The only kinds for applications, as kubectl names them: `services`,
    /// `deployments.apps`; any that permissions there allow when empty. Kinds
    /// that grant permissions need an applicationServiceAccount.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::resource_names::<64>")]
    pub kinds: Vec<String>,
}

/// What applications may request on a cluster in all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Processors, as a Kubernetes quantity, such as `64` or `500m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub cpu: Option<String>,

    /// Memory, as a Kubernetes quantity, such as `256Gi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::quantity")]
    pub memory: Option<String>,
}

/// One key of a Secret on the hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Namespace of the Secret.
    #[schemars(schema_with = "schema::label_name")]
    pub namespace: String,

    /// Name of the Secret.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,

    /// Key inside the Secret.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn default_key() -> String {
    "kubeconfig".to_owned()
}

/// How the edge reaches the services of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EndpointMode {
    /// Pod addresses are routable from the edge: the member's EndpointSlices
    /// are mirrored.
    #[default]
    PodNetwork,
}

/// Thresholds for the judgement over a member's health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HealthThresholds {
    /// Seconds without any answer of the API server until the cluster counts
    /// as unreachable.
    #[serde(default = "default_unreachable_after")]
    #[schemars(range(min = 1, max = 3600))]
    pub unreachable_after_seconds: i32,

    /// Seconds for which a cluster that was unreachable must answer without
    /// interruption before anything is moved to it.
    #[serde(default = "default_recovered_after")]
    #[schemars(range(min = 0, max = 86400))]
    pub recovered_after_seconds: i32,
}

impl Default for HealthThresholds {
    fn default() -> Self {
        Self {
            unreachable_after_seconds: default_unreachable_after(),
            recovered_after_seconds: default_recovered_after(),
        }
    }
}

/// Seconds without an answer until a member counts as unreachable, unless the
/// MemberCluster says otherwise.
pub const DEFAULT_UNREACHABLE_AFTER_SECONDS: i32 = 8;

/// Seconds for which a cluster must answer again before anything is moved to
/// it, unless the MemberCluster says otherwise.
pub const DEFAULT_RECOVERED_AFTER_SECONDS: i32 = 10;

fn default_recovered_after() -> i32 {
    DEFAULT_RECOVERED_AFTER_SECONDS
}

fn default_unreachable_after() -> i32 {
    DEFAULT_UNREACHABLE_AFTER_SECONDS
}

/// What Flambeau observes of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberClusterStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Version that the API server reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_version: Option<String>,

    /// Since when no answer came; absent while the cluster answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_since: Option<Time>,

    /// Health as judged over every signal: Healthy, Recovering,
    /// ControlPlaneUnreachable, Lost, Misconfigured, NotObserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,

    /// Nodes that are there, by their leases; absent while unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,

    /// Nodes whose lease was renewed lately and that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_ready: Option<i32>,

    /// What the cluster offers to applications, and what those placed here
    /// request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceUse>,

    /// Number of applications whose active copy is here.
    #[serde(default)]
    pub applications: i32,

    /// Applications that were deleted while the cluster could not be reached:
    /// their objects are erased when it answers again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_erasures: Vec<PendingErasure>,

    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}

/// What a cluster offers, and what is requested of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceUse {
    /// Processors offered, in thousandths.
    pub cpu_millicores: i64,
    /// Processors requested by applications placed here, in thousandths.
    pub cpu_requested_millicores: i64,
    /// Memory offered, in MiB.
    pub memory_mebibytes: i64,
    /// Memory requested by applications placed here, in MiB.
    pub memory_requested_mebibytes: i64,
}

/// One application whose objects wait to be erased.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingErasure {
    /// Namespace of the application.
    pub namespace: String,
    /// Name of the application.
    pub application: String,
    /// Kinds that its objects had: apiVersion and kind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<KindReference>,
}

/// A kind of the Kubernetes API.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub struct KindReference {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
}
