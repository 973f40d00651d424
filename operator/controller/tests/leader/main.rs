//! Leader election against a real API server: the election by itself, and
//! whole operators.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test ends with what goes wrong"
)]

mod candidate;
mod election;
mod operators;
mod overtaken;
mod plane;
