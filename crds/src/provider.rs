//! CloudProvider: who operates clusters, and whose law reaches that operator.

use crate::{country::Country, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Legal facts about one operator of clusters. Owned by compliance.
///
/// The jurisdiction of a provider is never taken from a region: it is the
/// union of registered office, headquarters, every controlling owner and
/// every extraterritorial law that reaches it. A missing fact is unknown, and
/// an unknown fact refuses wherever a policy asks for it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "flambeau.dev",
    version = "v1alpha1",
    kind = "CloudProvider",
    plural = "cloudproviders",
    shortname = "cprov",
    category = "flambeau",
    status = "CloudProviderStatus",
    derive = "PartialEq",
    doc = "CloudProvider states the legal facts about one operator of clusters: its registered office, headquarters, owners, the laws that reach it and its certifications.",
    printcolumn(name = "Entity", type_ = "string", json_path = ".spec.legalEntity"),
    printcolumn(
        name = "Jurisdictions",
        type_ = "string",
        json_path = ".status.jurisdictionSummary"
    ),
    printcolumn(name = "Clusters", type_ = "integer", json_path = ".status.clusters"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.ownership) || !has(self.ownership.controllingOwners) || self.ownership.controllingOwners.all(owner, !has(owner.controls) || owner.controls == self.legalEntity || self.ownership.controllingOwners.exists(other, other.name == owner.controls))").message("controls names an entity that is neither legalEntity nor a controlling owner: correct the name, or list that entity, whose country would be missing").field_path(".ownership.controllingOwners")
)]
pub struct CloudProviderSpec {
    /// Name of the legal entity that operates the clusters, as registered.
    #[schemars(length(min = 1, max = 256))]
    pub legal_entity: String,

    /// Country of the registered office. Absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_office: Option<Country>,

    /// Country of the headquarters, from where the entity is directed. Absent
    /// means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headquarters: Option<Country>,

    /// Who controls the entity, up to the ultimate owners. Absent means
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<Ownership>,

    /// Laws of other countries that reach the entity wherever its data lies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub extraterritorial_laws: Vec<ExtraterritorialLaw>,

    /// Certifications that the entity holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub certifications: Vec<Certification>,
}

/// The controlling owners of a legal entity.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.chain != 'Complete' || !has(self.controllingOwners) || self.controllingOwners.all(owner, has(owner.country))").message("chain is Complete but a controlling owner has no country: add its country, or set chain to Incomplete").field_path(".controllingOwners")
)]
pub struct Ownership {
    /// Whether `controllingOwners` goes up to every ultimate controlling
    /// owner. `Complete` without owners says that nobody controls the entity.
    pub chain: OwnershipChain,

    /// Every controlling owner, at every level, direct or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub controlling_owners: Vec<ControllingOwner>,
}

/// Whether the chain of owners is known to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OwnershipChain {
    /// Every controlling owner is listed.
    Complete,
    /// Somebody may be missing: jurisdiction is unknown.
    Incomplete,
}

/// One natural or legal person, or state, that controls the entity: more than
/// half of the votes, or decisive influence by other means (Directive
/// 2013/34/EU, article 22).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControllingOwner {
    /// Name as registered.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,

    /// Country whose law reaches this owner. Absent means unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Country>,

    /// Name of the entity in the chain that this owner controls; the
    /// provider's own legal entity when absent. For people: the union of all
    /// levels counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub controls: Option<String>,
}

/// A law that claims reach beyond its own territory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtraterritorialLaw {
    /// Short title of the law.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,

    /// Country that made the law.
    pub country: Country,

    /// Where the claim can be checked: a citation or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub source: Option<String>,
}

/// A certification; expired is the same as absent.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certification {
    /// Scheme, as policies name it, such as `SecNumCloud`.
    #[schemars(length(min = 1, max = 128))]
    pub scheme: String,

    /// Level within the scheme, such as `3.2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub level: Option<String>,

    /// What the certificate covers, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub scope: Option<String>,

    /// MemberClusters that the certificate covers; all clusters of the
    /// provider when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names::<64>")]
    pub clusters: Vec<String>,

    /// First moment at which the certificate no longer holds.
    pub valid_until: Time,

    /// Where the certificate can be checked: a number or an address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub evidence: Option<String>,
}

/// What Flambeau concludes from the facts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudProviderStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Countries whose law reaches the provider, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jurisdictions: Vec<String>,

    /// The same for people, `CN,DE`, with `?` at the end when a fact is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction_summary: Option<String>,

    /// Number of MemberClusters of this provider.
    #[serde(default)]
    pub clusters: i32,

    /// Ready, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
