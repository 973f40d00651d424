//! The part of HTTPRoute (`gateway.networking.k8s.io/v1`) that Flambeau
//! writes and reads. Field names and meanings:
//! <https://gateway-api.sigs.k8s.io/reference/spec/#httproute>.

use kube::{
    api::ApiResource,
    core::{GroupVersionKind, Object},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// API group of the Gateway API.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// An HTTPRoute.
pub type HttpRoute = Object<RouteSpec, RouteStatus>;

/// How HTTPRoutes are addressed.
pub fn resource() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(GROUP, "v1", "HTTPRoute"),
        "httproutes",
    )
}

/// `spec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteSpec {
    /// Gateways that the route asks for.
    pub parent_refs: Vec<ParentReference>,
    /// Host names.
    pub hostnames: Vec<String>,
    /// Rules, the first that matches a request wins.
    pub rules: Vec<Rule>,
}

/// One gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentReference {
    /// API group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; that of the route when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Listener; all when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// Which requests.
    pub matches: Vec<Value>,
    /// What is done to requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Value>,
    /// How long requests may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Where requests go.
    pub backend_refs: Vec<BackendReference>,
}

/// How long requests may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// The whole request; `0s` is for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Whatever else stands there.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// One weighted Service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BackendReference {
    /// API group, empty for Services.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace; that of the route when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Port of the Service.
    pub port: i32,
    /// Share of the requests, in proportion to the sum of all.
    pub weight: i32,
    /// What is done to requests on this way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<Value>,
}

/// `status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteStatus {
    /// What each gateway says.
    pub parents: Vec<ParentStatus>,
}

/// What one gateway says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ParentStatus {
    /// The gateway.
    pub parent_ref: ParentReference,
    /// `Accepted`, `ResolvedRefs` and others.
    pub conditions: Vec<RouteCondition>,
}

/// One condition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteCondition {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Stable reason.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Generation of the route that was looked at.
    pub observed_generation: i64,
}
