//! Between the API's types and the planner's model: parsed once, when an
//! object changes, so that a decision never meets a value that it cannot
//! understand.

mod application;
mod demand;
mod evacuation;
mod facts;
mod migration;
mod record;

pub use application::{application, key};
pub use demand::demand;
pub use evacuation::{evacuation_status, freeze_status};
pub use facts::{ClusterObservation, cluster, erasure_key, evacuation, freeze, policy, provider};
pub use migration::{migration_record, migration_spec, migration_status, open_move};
pub use record::{
    application_record, application_status, candidates, conditions, kind, kind_reference,
    make_condition,
};

use flambeau_planner::model::{Criticality, Sensitivity};

/// The planner's word for the API's.
pub fn sensitivity(value: flambeau_crds::Sensitivity) -> Sensitivity {
    match value {
        flambeau_crds::Sensitivity::Public => Sensitivity::Public,
        flambeau_crds::Sensitivity::Internal => Sensitivity::Internal,
        flambeau_crds::Sensitivity::Personal => Sensitivity::Personal,
        flambeau_crds::Sensitivity::Sensitive => Sensitivity::Sensitive,
        flambeau_crds::Sensitivity::Restricted => Sensitivity::Restricted,
    }
}

/// The planner's word for the API's.
pub fn criticality(value: flambeau_crds::Criticality) -> Criticality {
    match value {
        flambeau_crds::Criticality::Standard => Criticality::Standard,
        flambeau_crds::Criticality::Important => Criticality::Important,
        flambeau_crds::Criticality::Critical => Criticality::Critical,
    }
}
