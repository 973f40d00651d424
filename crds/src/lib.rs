//! The API of Flambeau: the kinds of group `flambeau.dev`, version `v1alpha1`.
//!
//! Types only: no client, no I/O. The CustomResourceDefinitions are generated
//! from these types into `generated/` by the `crdgen` binary; what CEL can
//! refuse at admission is refused there, with the field and the remedy in the
//! message. Field conventions follow the Kubernetes API conventions
//! (<https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md>):
//! durations are integers with a unit suffix, enumerations are PascalCase
//! strings, conditions are a list map keyed by `type`.

#![allow(
    clippy::duplicated_attributes,
    reason = "each printcolumn(...) has its own name, type and path"
)]

pub mod application;
pub mod cluster;
pub mod country;
pub mod evacuation;
pub mod freeze;
pub mod generate;
pub mod migration;
pub mod policy;
pub mod provider;
pub mod reference;
pub mod schema;

pub use application::{GamesApplication, GamesApplicationSpec, GamesApplicationStatus};
pub use cluster::{MemberCluster, MemberClusterSpec, MemberClusterStatus};
pub use country::{Country, CountryOrGroup};
pub use evacuation::{Evacuation, EvacuationSpec, EvacuationStatus};
pub use freeze::{Freeze, FreezeSpec, FreezeStatus};
pub use migration::{Migration, MigrationSpec, MigrationStatus};
pub use policy::{SovereigntyPolicy, SovereigntyPolicySpec, SovereigntyPolicyStatus};
pub use provider::{CloudProvider, CloudProviderSpec, CloudProviderStatus};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// API group of every kind here.
pub const GROUP: &str = "flambeau.dev";

/// Field manager under which Flambeau writes, on the hub and on members.
pub const FIELD_MANAGER: &str = "flambeau";

/// Finalizer that keeps an object until Flambeau has cleaned up behind it.
pub const FINALIZER: &str = "flambeau.dev/cleanup";

/// Label on every object that Flambeau writes for an application: its name.
pub const APPLICATION_LABEL: &str = "flambeau.dev/application";

/// Label on the edge's objects: the member cluster that a backend stands for.
pub const CLUSTER_LABEL: &str = "flambeau.dev/cluster";

/// Annotation on every object written to a member: the epoch of the write,
/// the fencing token of the application (a decimal number).
pub const EPOCH_ANNOTATION: &str = "flambeau.dev/epoch";

/// Annotation on every object written to a member: the UID of the
/// GamesApplication on its hub. Tells what is this application's from what an
/// earlier one of the name left, or one of another hub.
pub const APPLICATION_UID_ANNOTATION: &str = "flambeau.dev/application-uid";

/// Annotation on every object written to a member: a digest of what the
/// application declared, so that a restart can tell without a write whether
/// the object is up to date.
pub const DIGEST_ANNOTATION: &str = "flambeau.dev/digest";

/// How far the loss or disclosure of an application's data would reach;
/// ordered, what the law cares about.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum Sensitivity {
    /// Meant for everybody: a website.
    Public,
    /// For the organisation: timetables, staff plans.
    Internal,
    /// Personal data (GDPR, Regulation (EU) 2016/679, article 4).
    Personal,
    /// Special categories of personal data or data of security bodies
    /// (GDPR, article 9; Directive (EU) 2016/680).
    Sensitive,
    /// What a state classifies or restricts.
    Restricted,
}

/// How badly an interruption hurts; ordered, what availability cares about.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Criticality {
    /// An interruption is an annoyance.
    #[default]
    Standard,
    /// An interruption is noticed outside.
    Important,
    /// An interruption stops the event.
    Critical,
}

/// Every CustomResourceDefinition of Flambeau, in the order of the kinds in
/// the documentation. Each is made when it is asked for: together they are
/// some megabytes.
pub fn all_crds() -> impl ExactSizeIterator<Item = CustomResourceDefinition> {
    let definitions = [
        CloudProvider::crd,
        MemberCluster::crd,
        SovereigntyPolicy::crd,
        GamesApplication::crd,
        Migration::crd,
        Evacuation::crd,
        Freeze::crd,
    ];
    definitions.into_iter().map(|make| make())
}
