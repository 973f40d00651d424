//! Act: brings about what was recorded. Nothing else writes.

mod events;
mod reports;
mod routed;
mod work;
mod writes;

pub use events::{
    Happening, tell_application, tell_begin, tell_cluster, tell_evacuation, tell_left_behind,
    tell_migration, tell_recovery, tell_too_large,
};
pub use reports::Reports;
pub use work::{Endpoints, Finalizer, Work};
pub use writes::HubWrites;

use crate::{
    declared::Declared,
    edge::{Edge, EdgeError},
    hub::{Entry, Hub, Meta, Table},
    members::{Erasure, MemberError, Members},
    progress::Signals,
};
use events::Events;
use flambeau_crds::{
    GamesApplication, GamesApplicationStatus, Migration, application::PlacementRole,
};
use flambeau_planner::model::{ApplicationKey, Kind, Name};
use kube::Api;
use routed::Routed;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Why a piece of work was not done; it is due again.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The hub did not take a write or answer a read.
    #[error("hub: {0}")]
    Hub(#[from] Box<kube::Error>),
    /// A member did not take a write.
    #[error("member: {0}")]
    Member(#[from] MemberError),
    /// A member could not be read right before an irreversible step.
    #[error("member cannot be read: {0}")]
    Reread(MemberError),
    /// The edge did not take a write.
    #[error("edge: {0}")]
    Edge(#[from] EdgeError),
    /// The world changed right before an irreversible step.
    #[error("the copy of {key} on {cluster} is not erased: {why}")]
    NotConfirmed {
        /// Application.
        key: ApplicationKey,
        /// Cluster.
        cluster: Name,
        /// What changed.
        why: &'static str,
    },
}

impl From<kube::Error> for ActError {
    fn from(error: kube::Error) -> Self {
        Self::Hub(Box::new(error))
    }
}

/// Everything that writes.
#[derive(Clone)]
pub struct Actor<E> {
    hub: Hub,
    members: Members,
    edge: E,
    writes: HubWrites,
    signals: Signals,
    events: Events,
    erased: Arc<Mutex<HashSet<(Name, ApplicationKey)>>>,
    routed: Arc<Mutex<HashMap<ApplicationKey, Routed>>>,
    /// Reports that wait.
    pub reports: Reports,
}

impl<E: Edge> Actor<E> {
    /// Writes through these, and nothing else.
    pub fn new(hub: Hub, members: Members, edge: E, writes: HubWrites, signals: Signals) -> Self {
        let events = Events::new(hub.client.clone());
        Self {
            hub,
            members,
            edge,
            writes,
            signals,
            events,
            erased: Arc::default(),
            routed: Arc::default(),
            reports: Reports::default(),
        }
    }

    /// Whether the copy of an application that is not recorded on a cluster
    /// was seen to be gone from there, by a fresh read.
    pub fn saw_erased(&self, cluster: &Name, key: &ApplicationKey) -> bool {
        self.erased().contains(&(cluster.clone(), key.clone()))
    }

    fn erased(&self) -> MutexGuard<'_, HashSet<(Name, ApplicationKey)>> {
        self.erased.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an object on the hub changed since work on it was planned: what
    /// is due now is for the next plan to say.
    pub fn outdated(&self, work: &Work) -> bool {
        fn changed<T: Entry>(table: &Table<T>, key: &ApplicationKey, meta: &Meta) -> bool {
            let same = |entry: &T| entry.meta().version == meta.version;
            table.read(|entries| !entries.get(key).is_some_and(same))
        }
        let hub = &self.hub;
        match work {
            Work::Application { key, meta, .. } => changed(&hub.applications, key, meta),
            Work::Migration { key, meta, .. } => changed(&hub.migrations, key, meta),
            Work::Provider { key, meta, .. } => changed(&hub.providers, key, meta),
            Work::Cluster { key, meta, .. } => changed(&hub.clusters, key, meta),
            Work::Policy { key, meta, .. } => changed(&hub.policies, key, meta),
            Work::Evacuation { key, meta, .. } => changed(&hub.evacuations, key, meta),
            Work::Freeze { key, meta, .. } => changed(&hub.freezes, key, meta),
            Work::Write { .. }
            | Work::Erase { .. }
            | Work::Edge { .. }
            | Work::RemoveEdge { .. } => false,
        }
    }

    /// Does one piece of work.
    ///
    /// # Errors
    /// See [`ActError`]; the work is due again.
    pub async fn perform(&self, work: Work) -> Result<(), ActError> {
        let hub = &self.hub;
        match work {
            Work::Application {
                key,
                meta,
                finalizer,
                status,
                begin,
                happenings,
            } => {
                self.store_application(key, meta, finalizer, status, begin, happenings)
                    .await
            }
            Work::Migration {
                key,
                meta,
                finalizer,
                status,
                happenings,
                progress,
            } => {
                self.store(&hub.migrations, &key, &meta, status, finalizer)
                    .await?;
                if let Some(progress) = progress {
                    self.signals.progressed(&progress);
                }
                self.events.tell(happenings);
                Ok(())
            }
            Work::Write {
                cluster,
                declared,
                epoch,
            } => {
                // What is written is to be erased once more some day.
                self.erased()
                    .remove(&(cluster.clone(), declared.key.clone()));
                Ok(self.members.apply(&cluster, &declared, epoch).await?)
            }
            Work::Erase {
                key,
                cluster,
                kinds,
                replaced,
                erasure,
            } => {
                let erase = self.erase(&key, &cluster, &kinds, replaced, erasure.as_ref());
                Box::pin(erase).await
            }
            Work::Edge {
                declared,
                weights,
                endpoints,
            } => Box::pin(self.route(declared, weights, endpoints)).await,
            Work::RemoveEdge { key } => {
                self.routed().remove(&key);
                Ok(self.edge.remove(&key).await?)
            }
            report => Box::pin(self.report(report)).await,
        }
    }

    /// Stores what is only told: nothing is acted on.
    async fn report(&self, work: Work) -> Result<(), ActError> {
        let hub = &self.hub;
        let leave = Finalizer::Leave;
        match work {
            Work::Provider {
                key,
                meta,
                finalizer,
                status,
            } => {
                self.store(&hub.providers, &key, &meta, status, finalizer)
                    .await
            }
            Work::Cluster {
                key,
                meta,
                finalizer,
                status,
                happenings,
            } => {
                self.store(&hub.clusters, &key, &meta, status, finalizer)
                    .await?;
                self.events.tell(happenings);
                Ok(())
            }
            Work::Policy { key, meta, status } => {
                self.store(&hub.policies, &key, &meta, Some(status), leave)
                    .await
            }
            Work::Evacuation {
                key,
                meta,
                status,
                happenings,
            } => {
                self.store(&hub.evacuations, &key, &meta, Some(status), leave)
                    .await?;
                self.events.tell(happenings);
                Ok(())
            }
            Work::Freeze { key, meta, status } => {
                self.store(&hub.freezes, &key, &meta, Some(status), leave)
                    .await
            }
            _ => Ok(()),
        }
    }

    /// The status first: what a finalizer guarded is remembered before it
    /// goes.
    async fn store<T: Entry>(
        &self,
        table: &Table<T>,
        key: &ApplicationKey,
        meta: &Meta,
        status: Option<impl serde::Serialize>,
        finalizer: Finalizer,
    ) -> Result<(), ActError>
    where
        <T::Object as kube::Resource>::Scope: writes::Scope<T::Object>,
    {
        if let Some(status) = status {
            self.writes
                .status(&self.hub, table, key, meta, &status)
                .await?;
        }
        self.finalize(table, key, meta, finalizer).await
    }

    /// Whether the edge was written like this, and shows it.
    pub fn edge_settled(
        &self,
        declared: &Arc<Declared>,
        weights: &BTreeMap<Name, u8>,
        endpoints: &Endpoints,
    ) -> bool {
        let written = self
            .routed()
            .get(&declared.key)
            .is_some_and(|routed| routed.is(declared, weights, endpoints));
        written && self.edge.intact(&declared.key)
    }

    /// Whether the edge still has the endpoints of another Service on a
    /// cluster than the one that is declared now.
    pub fn mirrors_another_service(&self, declared: &Declared, cluster: &str) -> bool {
        self.routed()
            .get(&declared.key)
            .is_some_and(|routed| routed.mirrors_another_service(declared, cluster))
    }

    fn routed(&self) -> MutexGuard<'_, HashMap<ApplicationKey, Routed>> {
        self.routed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn route(
        &self,
        declared: Arc<Declared>,
        weights: BTreeMap<Name, u8>,
        endpoints: Endpoints,
    ) -> Result<(), ActError> {
        self.edge.apply(&declared, &weights, &endpoints).await?;
        let mut routed = self.routed();
        let key = declared.key.clone();
        let now = Routed::new(declared, weights, endpoints, routed.get(&key));
        routed.insert(key, now);
        Ok(())
    }

    async fn erase(
        &self,
        key: &ApplicationKey,
        cluster: &Name,
        kinds: &BTreeSet<Kind>,
        replaced: bool,
        erasure: Option<&Erasure>,
    ) -> Result<(), ActError> {
        if replaced {
            self.confirm_erasure(key, cluster).await?;
        }
        self.members.erase(cluster, key, kinds, erasure).await?;
        let application = self.hub.applications.get(key);
        // A copy that is recorded leaves the record when it is seen to be gone.
        if application.is_some_and(|entry| entry.record.on(cluster).is_some()) {
            return Ok(());
        }
        let absent = self.members.verify_absent(cluster, key, kinds).await;
        if absent.map_err(ActError::Reread)? {
            self.erased().insert((cluster.clone(), key.clone()));
        }
        Ok(())
    }

    async fn store_application(
        &self,
        key: ApplicationKey,
        meta: Meta,
        finalizer: Finalizer,
        status: Option<Box<GamesApplicationStatus>>,
        begin: Option<Box<Migration>>,
        happenings: Vec<Happening>,
    ) -> Result<(), ActError> {
        let hub = &self.hub;
        let store = async {
            match &status {
                Some(status) => {
                    self.writes
                        .status(hub, &hub.applications, &key, &meta, status)
                        .await
                }
                None => Ok(()),
            }
        };
        let create = async {
            match &begin {
                Some(migration) => {
                    self.writes
                        .create(hub, &hub.migrations, &key.namespace, migration)
                        .await
                }
                None => Ok(()),
            }
        };
        // None waits for another: nothing is acted on before the first two are
        // stored, because acting asks the cache for both, and a move takes its
        // first step when its number is.
        let (stored, finalized, created) = futures::join!(
            store,
            self.finalize(&hub.applications, &key, &meta, finalizer),
            create
        );
        let done = stored
            .map_err(ActError::from)
            .and(finalized)
            .and(created.map_err(ActError::from));
        // Nothing can be written into the object itself.
        if let Err(ActError::Hub(error)) = &done
            && writes::too_large(error)
        {
            self.events.tell(vec![tell_too_large(&key, &meta.uid)]);
        }
        done?;
        self.events.tell(happenings);
        Ok(())
    }

    async fn finalize<T: Entry>(
        &self,
        table: &Table<T>,
        key: &ApplicationKey,
        meta: &Meta,
        finalizer: Finalizer,
    ) -> Result<(), ActError>
    where
        <T::Object as kube::Resource>::Scope: writes::Scope<T::Object>,
    {
        if finalizer != Finalizer::Leave {
            let protect = finalizer == Finalizer::Protect;
            self.writes
                .protect(&self.hub, table, key, meta, protect)
                .await?;
        }
        Ok(())
    }

    /// Reads the record again, from the API server and not from a cache, and
    /// asks the replacement itself, right before a copy is erased for good.
    async fn confirm_erasure(&self, key: &ApplicationKey, cluster: &Name) -> Result<(), ActError> {
        let not_confirmed = |why| ActError::NotConfirmed {
            key: key.clone(),
            cluster: cluster.clone(),
            why,
        };
        let api: Api<GamesApplication> = Api::namespaced(self.hub.client.clone(), &key.namespace);
        let Some(application) = api.get_opt(&key.name).await? else {
            return Err(not_confirmed("the application is gone from the hub"));
        };
        let placements = application
            .status
            .map(|status| status.placements)
            .unwrap_or_default();
        let kept = placements.iter().any(|placement| {
            *placement.cluster == **cluster && placement.role == PlacementRole::Active
        });
        if kept {
            return Err(not_confirmed("it is recorded as active"));
        }
        let Some(active) = placements
            .iter()
            .find(|placement| placement.role == PlacementRole::Active)
        else {
            return Err(not_confirmed("no other copy is recorded as active"));
        };
        let serves = self.members.serves(&active.cluster, key).await;
        if serves.map_err(ActError::Reread)? {
            Ok(())
        } else {
            Err(not_confirmed("the active copy is not ready"))
        }
    }
}
