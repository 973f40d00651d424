//! Pieces of work: what may be due, and what it is made of.

use super::Happening;
use crate::{
    declared::Declared, edge::EndpointAddress, hub::Meta, lanes::Lane, members::Erasure,
    progress::Progress,
};
use flambeau_crds::{
    CloudProviderStatus, EvacuationStatus, FreezeStatus, GamesApplicationStatus,
    MemberClusterStatus, Migration, MigrationStatus, SovereigntyPolicyStatus,
};
use flambeau_planner::model::{ApplicationKey, Kind, Name};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// How soon a member is asked again whether what is being deleted is gone.
const ERASURE_PAUSE: Duration = Duration::from_secs(1);

/// How soon what is counted over the whole fleet is written again.
const COUNTING_PAUSE: Duration = Duration::from_secs(2);

/// Endpoints by cluster.
pub type Endpoints = BTreeMap<Name, Vec<EndpointAddress>>;

/// One piece of work; doing it twice equals doing it once.
#[derive(Debug)]
pub enum Work {
    /// Stores what was decided about an application.
    Application {
        /// Which.
        key: ApplicationKey,
        /// About the object.
        meta: Meta,
        /// Change of the finalizer.
        finalizer: Finalizer,
        /// Status to store.
        status: Option<Box<GamesApplicationStatus>>,
        /// Move to begin.
        begin: Option<Box<Migration>>,
        /// What to tell.
        happenings: Vec<Happening>,
    },
    /// Stores how far a move is.
    Migration {
        /// Namespace and name of the Migration.
        key: ApplicationKey,
        /// About the object.
        meta: Meta,
        /// Change of the finalizer.
        finalizer: Finalizer,
        /// Status to store.
        status: Option<Box<MigrationStatus>>,
        /// What to tell.
        happenings: Vec<Happening>,
        /// How far it came with this, for figures and traces.
        progress: Option<Box<Progress>>,
    },
    /// Writes a copy.
    Write {
        /// Cluster.
        cluster: Name,
        /// Objects.
        declared: Arc<Declared>,
        /// Epoch of the copy.
        epoch: i64,
    },
    /// Erases a copy.
    Erase {
        /// Application.
        key: ApplicationKey,
        /// Cluster.
        cluster: Name,
        /// Kinds that it may have.
        kinds: BTreeSet<Kind>,
        /// The application itself stays: its record is read again first.
        replaced: bool,
        /// How far the application is; none when nothing is known of it.
        erasure: Option<Erasure>,
    },
    /// Writes route, weights and endpoints.
    Edge {
        /// Application.
        declared: Arc<Declared>,
        /// Percentages by cluster.
        weights: BTreeMap<Name, u8>,
        /// Endpoints by cluster.
        endpoints: Endpoints,
    },
    /// Takes an application off the edge.
    RemoveEdge {
        /// Application.
        key: ApplicationKey,
    },
    /// Stores what was concluded about a provider.
    Provider {
        /// Which.
        key: ApplicationKey,
        /// About the object.
        meta: Meta,
        /// Change of the finalizer.
        finalizer: Finalizer,
        /// Status to store.
        status: Option<Box<CloudProviderStatus>>,
    },
    /// Stores what was observed of a cluster.
    Cluster {
        /// Which.
        key: ApplicationKey,
        /// About the object.
        meta: Meta,
        /// Change of the finalizer.
        finalizer: Finalizer,
        /// Status to store.
        status: Option<Box<MemberClusterStatus>>,
        /// What to tell.
        happenings: Vec<Happening>,
    },
    /// Stores what was concluded about a policy.
    Policy {
        /// Which.
        key: ApplicationKey,
        /// About the object.
        meta: Meta,
        /// Status to store.
        status: Box<SovereigntyPolicyStatus>,
    },
    /// Stores how far an evacuation is.
    Evacuation {
        /// Which.
        key: ApplicationKey,
        /// About the object.
        meta: Meta,
        /// Status to store.
        status: Box<EvacuationStatus>,
        /// What to tell.
        happenings: Vec<Happening>,
    },
    /// Stores whether the window of a freeze is open.
    Freeze {
        /// Which.
        key: ApplicationKey,
        /// About the object.
        meta: Meta,
        /// Status to store.
        status: Box<FreezeStatus>,
    },
}

/// What to do about the finalizer of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finalizer {
    /// Nothing.
    Leave,
    /// Put it on.
    Protect,
    /// Take it off: the object may go.
    Release,
}

impl Work {
    /// The lane that the work runs in.
    pub fn lane(&self) -> Lane {
        match self {
            Work::Application { key, .. } => Lane::Application(key.clone()),
            Work::Migration { key, .. } => Lane::Migration(key.clone()),
            Work::Write {
                declared, cluster, ..
            } => Lane::Copy(declared.key.clone(), cluster.clone()),
            Work::Erase { key, cluster, .. } => Lane::Copy(key.clone(), cluster.clone()),
            Work::Edge { declared, .. } => Lane::Edge(declared.key.clone()),
            Work::RemoveEdge { key } => Lane::Edge(key.clone()),
            Work::Provider { key, .. } => Lane::Provider(key.name.clone()),
            Work::Cluster { key, .. } => Lane::Cluster(key.name.clone()),
            Work::Policy { key, .. } => Lane::Policy(key.name.clone()),
            Work::Evacuation { key, .. } => Lane::Evacuation(key.name.clone()),
            Work::Freeze { key, .. } => Lane::Freeze(key.name.clone()),
        }
    }

    /// How long its lane rests when the work was done: erasing takes its time
    /// on the member, and what is counted over the whole fleet changes with
    /// every application.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Work::Erase { .. } => Some(ERASURE_PAUSE),
            Work::Cluster { .. }
            | Work::Policy { .. }
            | Work::Evacuation { .. }
            | Work::Freeze { .. } => Some(COUNTING_PAUSE),
            _ => None,
        }
    }
}
