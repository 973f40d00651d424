//! The example applications of the Games, all in one small HTTP program.
//!
//! They stand where an organising committee's real applications would: each one names itself, the cloud and the pod
//! in every answer, so that a client can count where its requests went. They leave a cluster the way a good citizen
//! does: not ready at once, serving until the last connection has moved on (see [`server`]).

pub mod application;
pub mod manifests;
pub mod server;
pub mod settings;
mod site;
mod stream;

pub use application::Application;
pub use settings::Settings;
