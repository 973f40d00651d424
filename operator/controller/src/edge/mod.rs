//! The edge: where requests enter, and how they are divided between clusters.
//!
//! [`Edge`] is what the engine needs from any way of steering requests;
//! [`GatewayEdge`] steers them with the Gateway API. The edge is written from
//! recorded state only, level-triggered: [`Edge::apply`] is told how things
//! should be and writes what differs.

mod backend;
mod confirmation;
mod endpoint;
mod gateway;
mod ledger;
mod objects;
mod poller;
mod route;
mod seen;
mod stats;
mod store;
mod watches;

pub use endpoint::EndpointAddress;
pub use gateway::{EdgeSettings, GatewayEdge};
pub use ledger::Reading;
pub use stats::Totals;

use crate::declared::Declared;
use flambeau_planner::model::{ApplicationKey, EdgeObservation, Name};
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
};

/// A way of dividing an application's requests between clusters.
pub trait Edge: Clone + Send + Sync + 'static {
    /// False until the edge was read once: nothing is known then, and nothing
    /// is written.
    fn synced(&self) -> bool;

    /// Reads the edge once more, before the first plan of a process that stood
    /// by: its watches may lag behind what the leader before it wrote.
    fn reread(&self) -> impl Future<Output = ()> + Send;

    /// Why the edge cannot be used at all, for people; none when it can, or
    /// while that is not known. What it did before goes on.
    fn unavailable(&self) -> Option<String>;

    /// Whether the edge has anything of an application: a route, or what
    /// stands behind one.
    fn present(&self, key: &ApplicationKey) -> bool;

    /// Whether the edge of an application is as the last [`Edge::apply`] that
    /// succeeded left it; false before there was one. Cheap: what is intact
    /// and wanted as before needs no further [`Edge::apply`].
    fn intact(&self, key: &ApplicationKey) -> bool;

    /// The edge of an application as it was last seen. Cheap.
    fn observe(&self, key: &ApplicationKey) -> EdgeObservation;

    /// Ready endpoints of an application on a cluster that the edge knows.
    /// Before any request goes there, only those count that the copy has `now`,
    /// if that is known: an edge that is behind may still have an earlier
    /// copy's; and none is told while the proxy was not asked about them, which
    /// takes moments.
    fn endpoints_at_edge(
        &self,
        key: &ApplicationKey,
        cluster: &str,
        now: impl FnOnce() -> Option<Vec<EndpointAddress>>,
    ) -> Option<usize>;

    /// What is wrong with the edge of an application, for people; none when
    /// nothing is known to be wrong.
    fn problem(&self, key: &ApplicationKey) -> Option<String>;

    /// Brings about that requests are divided by `weights` (percentages, at
    /// least one above 0) and that the endpoints of every cluster are those
    /// of `endpoints`; what has none any more keeps its addresses, for no
    /// request, and a cluster that is only weighted keeps what it has. Clusters
    /// that neither names are taken out: the route first, then what stands
    /// behind it. A weight of 0 keeps a cluster's requests alive until they
    /// end. Without weights, requests go on as they do. Writes only what
    /// differs from what was last seen.
    ///
    /// # Errors
    /// See [`EdgeError`]; whatever was not written yet is due again.
    fn apply(
        &self,
        declared: &Declared,
        weights: &BTreeMap<Name, u8>,
        endpoints: &BTreeMap<Name, Vec<EndpointAddress>>,
    ) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Takes an application off the edge.
    ///
    /// # Errors
    /// See [`EdgeError`].
    fn remove(&self, key: &ApplicationKey) -> impl Future<Output = Result<(), EdgeError>> + Send;

    /// Applications whose requests are counted from now on: those that move.
    fn watch_requests(&self, keys: BTreeSet<ApplicationKey>);

    /// Applications that [`Edge::reading`] is asked about from now on: those
    /// that serve. What is read costs the proxy something: in a hurry, it is
    /// read every second, else perhaps less often.
    fn watch_services(&self, keys: BTreeSet<ApplicationKey>, hurry: bool);

    /// What the proxy last said of an application's requests to a cluster, and
    /// when; none while it did not.
    fn reading(&self, key: &ApplicationKey, cluster: &str) -> Option<Reading>;
}

/// Why the edge is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Nothing is known about the edge yet.
    #[error("the edge was not read yet")]
    NotSynced,
    /// The edge cannot be used at all.
    #[error("{0}")]
    Unavailable(String),
    /// No cluster would get requests.
    #[error("{0}: every cluster has weight 0; one needs more, or the requests go nowhere")]
    NoWeight(ApplicationKey),
    /// Somebody else has an object of that name.
    #[error(
        "{object} on the hub is not Flambeau's; rename or delete it so that the edge can use the name: {message}"
    )]
    Taken {
        /// Kind, namespace and name.
        object: String,
        /// Which fields somebody else owns.
        message: String,
    },
    /// Something changes what Flambeau writes on its way into the hub.
    #[error(
        "{object} is not stored as it was written; look for a webhook on the hub that changes it"
    )]
    Altered {
        /// Kind, namespace and name.
        object: String,
    },
    /// The hub did not take a write.
    #[error("{object} on the hub: {source}")]
    Hub {
        /// Kind, namespace and name.
        object: String,
        /// What the hub said.
        source: Box<kube::Error>,
    },
}
