//! The operator: observes the fleet, decides with the planner, acts on
//! members and the edge, reports on the hub.
//!
//! A reader walks [`hub`] and [`members`] and [`edge`] (observe), [`world`]
//! (one snapshot), the planner (decide), [`work`] (what is due), [`act`] (the
//! only writes), [`report`] (what is told), with [`engine`] around them, and
//! [`leader`], without which [`transport`] lets no write pass.

pub mod act;
mod again;
pub mod clock;
pub mod convert;
pub mod crash;
pub mod declared;
pub mod dirty;
pub mod edge;
pub mod engine;
pub mod hub;
pub mod lanes;
pub mod leader;
pub mod members;
pub mod metrics;
pub mod offline;
pub mod progress;
pub mod quantity;
pub mod report;
pub mod requests;
pub mod server;
pub mod service;
mod text;
mod time_limit;
pub mod traces;
pub mod transport;
pub mod work;
pub mod world;
