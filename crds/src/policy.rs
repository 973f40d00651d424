//! SovereigntyPolicy: what the law allows.

use crate::{Sensitivity, country, country::CountryOrGroup, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where applications of some sensitivities may run. Owned by compliance.
///
/// All policies in force that govern an application must agree: the strictest
/// wins, whatever their order.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "flambeau.dev",
    version = "v1alpha1",
    kind = "SovereigntyPolicy",
    plural = "sovereigntypolicies",
    shortname = "sovpol",
    category = "flambeau",
    status = "SovereigntyPolicyStatus",
    derive = "PartialEq",
    doc = "SovereigntyPolicy says where applications of some sensitivities may run: countries of data, jurisdictions over operators, certifications, providers refused.",
    printcolumn(
        name = "Enforcement",
        type_ = "string",
        json_path = ".spec.enforcement"
    ),
    printcolumn(
        name = "In-Force",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"InForce\")].status"
    ),
    printcolumn(name = "Governed", type_ = "integer", json_path = ".status.governed"),
    printcolumn(
        name = "Violations",
        type_ = "integer",
        json_path = ".status.violations"
    ),
    printcolumn(
        name = "Complete-By",
        type_ = "string",
        json_path = ".spec.completeBy",
        priority = 1
    ),
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
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.residency) || has(self.jurisdiction) || (has(self.requiredCertifications) && self.requiredCertifications.size() > 0) || (has(self.refusedProviders) && self.refusedProviders.size() > 0)").message("a policy needs at least one rule: set residency, jurisdiction, requiredCertifications or refusedProviders"),
    validation = Rule::new("!has(self.completeBy) || !has(self.effectiveFrom) || self.completeBy > self.effectiveFrom").message("completeBy must be later than effectiveFrom").field_path(".completeBy")
)]
pub struct SovereigntyPolicySpec {
    /// Sensitivities that the policy governs.
    #[schemars(length(min = 1, max = 5), extend("x-kubernetes-list-type" = "set"))]
    pub sensitivities: Vec<Sensitivity>,

    /// Where data may lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residency: Option<ResidencyRule>,

    /// Whose law may reach the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jurisdiction: Option<JurisdictionRule>,

    /// Certifications that the provider must hold, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub required_certifications: Vec<CertificationRule>,

    /// Names of CloudProviders that are refused, whatever their facts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::object_names::<64>")]
    pub refused_providers: Vec<String>,

    /// Whether the policy moves applications or only reports.
    #[serde(default)]
    pub enforcement: Enforcement,

    /// First moment at which the policy is in force; at once when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_from: Option<Time>,

    /// Until when every governed application must be in a lawful place. It
    /// is reported when missed; nothing is deleted because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete_by: Option<Time>,

    /// The legal text that the policy implements, for evidence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reference: Option<String>,
}

/// Countries where data may lie.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResidencyRule {
    /// The only countries allowed.
    #[schemars(length(min = 1, max = 64))]
    pub allowed: Vec<CountryOrGroup>,
}

/// Countries whose law may, or must not, reach the operator.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.allowed) || has(self.forbidden)").message("set allowed, forbidden or both"),
    validation = Rule::new(country::disjoint_rule()).message("the same country is allowed and forbidden: remove it from one of the two lists")
)]
pub struct JurisdictionRule {
    /// The only jurisdictions that may reach the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub allowed: Option<Vec<CountryOrGroup>>,

    /// Jurisdictions that must not reach the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub forbidden: Option<Vec<CountryOrGroup>>,
}

/// A certification that must be held and valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificationRule {
    /// Scheme, as providers name it, such as `SecNumCloud`.
    #[schemars(length(min = 1, max = 128))]
    pub scheme: String,

    /// Levels that are good enough; any when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub levels: Vec<String>,
}

/// What a policy does about a violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Enforcement {
    /// Violations are reported and nothing moves.
    Audit,
    /// Applications move to a lawful cluster.
    #[default]
    Enforce,
}

/// What Flambeau concludes from the policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SovereigntyPolicyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Number of applications that the policy governs.
    #[serde(default)]
    pub governed: i32,

    /// Number of governed applications that run where the policy refuses.
    #[serde(default)]
    pub violations: i32,

    /// InForce, Ready, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
