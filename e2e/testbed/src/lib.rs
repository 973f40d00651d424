//! Real Kubernetes clusters and an edge on one machine.
//!
//! [`Testbed`](testbed::Testbed) is the whole: four clusters, each in its own network namespace, and the edge on
//! the hub. [`ControlPlane`](control_plane::ControlPlane) is the light variant for tests of the API alone: etcd
//! and an API server on loopback, no root needed.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use flambeau_testbed::control_plane::{ControlPlane, Options};
//! use flambeau_testbed::testbed::Testbed;
//!
//! let plane = ControlPlane::start_temporary(&Options::default())?;
//! plane.kubectl(&["get", "namespaces"])?;
//!
//! let testbed = Testbed::attach()?;
//! testbed.kill_operator()?;
//! testbed.cluster("alibaba")?.cut_link()?;
//! testbed.start_operator()?;
//! # Ok(())
//! # }
//! ```
//!
//! Where things are: `target/testbed/<cluster>/` has the kubeconfig, the logs of all components and, below `node`,
//! what the node sees as `/run`, `/var/lib` and `/var/log`; `/run/flambeau-testbed/networks/<cluster>` is the
//! network namespace (`nsenter --net=FILE`), and `/run/flambeau-testbed/journal` records all that was taken.
//!
//! Everything blocks; call it from a plain thread, or from `spawn_blocking` in async code.

pub mod api;
pub mod audit;
pub mod cgroup;
pub mod cluster;
pub mod command;
pub mod control_plane;
pub mod documentation;
pub mod edge;
pub mod helm;
pub mod images;
pub mod installed;
pub mod network;
pub mod node;
pub mod operator;
pub mod partition;
pub mod paths;
pub mod pki;
pub mod prerequisites;
pub mod process;
pub mod progress;
pub mod shared;
pub mod state;
pub mod testbed;
pub mod upstream;
pub mod wait;
