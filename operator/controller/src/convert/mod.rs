//! Between the API's types and the planner's model: parsed once, when an
//! object changes, so that a decision never meets a value that it cannot
//! understand.

mod application;
mod facts;
mod record;

pub use application::{application_spec, declared, key, kinds};
pub use facts::{cluster, policy, provider};
pub use record::{
    application_record, application_status, candidates, conditions, make_condition,
    migration_record, migration_status,
};

use flambeau_planner::model::{Criticality, Sensitivity, Trigger};

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

/// The planner's word for the API's.
pub fn trigger(value: flambeau_crds::migration::MigrationTrigger) -> Trigger {
    match value {
        flambeau_crds::migration::MigrationTrigger::Policy => Trigger::Policy,
        flambeau_crds::migration::MigrationTrigger::Request => Trigger::Request,
    }
}
