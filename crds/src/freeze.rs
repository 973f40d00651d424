//! Freeze: a window during which planned moves wait.

use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A window during which no planned move begins: relocates, failbacks and
/// evacuations wait, whatever set them off. Failovers do not. Moves under way
/// go on. Owned by the platform team.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "flambeau.dev",
    version = "v1alpha1",
    kind = "Freeze",
    plural = "freezes",
    category = "flambeau",
    status = "FreezeStatus",
    derive = "PartialEq",
    doc = "Freeze is a window during which no planned move begins; failovers do not wait. A move crosses it only by an explicit, recorded override (ignoreFreeze).",
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.until"),
    printcolumn(
        name = "In-Force",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"InForce\")].status"
    ),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.until > self.from").message("until must be later than from").field_path(".until")
)]
pub struct FreezeSpec {
    /// First moment of the window.
    pub from: Time,

    /// First moment after the window.
    pub until: Time,

    /// Namespaces of the applications concerned; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names::<64>")]
    pub namespaces: Vec<String>,

    /// Why, such as `opening ceremony`.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
}

/// Whether the window is open, and what waits for its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FreezeStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Planned moves that wait for the end of the window.
    #[serde(default)]
    pub waiting: i32,

    /// InForce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
