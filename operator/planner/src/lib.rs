//! The decisions of Flambeau as pure functions of a snapshot and a time.
//!
//! [`plan`] takes the whole fleet as it was last observed, with everything
//! that was recorded before, and says for every application where it may run,
//! where it should run, what to record next and what the members and the edge
//! should look like now. It holds no client, reads no clock, draws no random
//! number and never waits, so that the same snapshot gives the same plan
//! wherever it is computed: in the operator, in the offline `plan` verb, in a
//! simulation.
//!
//! Nothing is done by a plan. What it asks to *record* is stored first; what
//! it asks members and the edge to look like follows only from what *was*
//! recorded ([`desired`]). A crash between the two loses nothing.

mod budget;
mod clock;
pub mod compliance;
pub mod desired;
pub mod edge;
pub mod evacuation;
pub mod failover;
pub mod fleet;
pub mod freeze;
pub mod gates;
pub mod health;
pub mod law;
pub mod migration;
pub mod model;
mod need;
pub mod placement;
pub mod reason;
mod refuge;
mod standby;
pub mod status;
#[cfg(test)]
mod testing;

pub use fleet::{ApplicationPlan, Plan, plan};
pub use reason::Reason;
