//! What is needed to show that applications keep serving while they move: counted load, and a report that a person can
//! read.

pub mod load;
pub mod report;
