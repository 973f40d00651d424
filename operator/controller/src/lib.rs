//! The operator: observes the fleet, decides with the planner, acts on
//! members and the edge, reports on the hub.

pub mod declared;
pub mod dirty;
pub mod edge;
pub mod members;
