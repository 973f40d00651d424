//! Real Kubernetes clusters and an edge on one machine.
//!
//! [`Testbed`](testbed::Testbed) is the whole: four clusters, each in its own network namespace, and the edge on
//! the hub. [`ControlPlane`](control_plane::ControlPlane) is the light variant for tests of the API alone: etcd
//! and an API server on loopback, no root needed.
//!
//! Everything blocks; call it from a plain thread, or from `spawn_blocking` in async code.

pub mod api;
pub mod cgroup;
pub mod cluster;
pub mod command;
pub mod control_plane;
pub mod edge;
pub mod images;
pub mod network;
pub mod node;
pub mod operator;
pub mod paths;
pub mod pki;
pub mod prerequisites;
pub mod process;
pub mod progress;
pub mod state;
pub mod testbed;
pub mod upstream;
pub mod wait;
