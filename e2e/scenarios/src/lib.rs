//! What is needed to show that applications keep serving while they move: counted load, a report that a person can
//! read, and the story of the demo.

pub mod application;
pub mod demo;
pub mod fleet;
pub mod hub;
pub mod load;
pub mod report;
