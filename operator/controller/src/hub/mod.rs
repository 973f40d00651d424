//! The hub as the operator sees it: a cache of Flambeau's own kinds, fed by
//! watches and by the answers to its own writes.

mod credentials;
pub mod definitions;
mod entries;
mod missing;
mod renewal;
mod reread;
mod table;
mod watch;

pub use entries::{
    ApplicationEntry, ClusterEntry, Entry, EvacuationEntry, FreezeEntry, Meta, MigrationEntry,
    PolicyEntry, ProviderEntry,
};
pub use missing::Missing;
pub use table::Table;

use crate::{dirty::Dirty, members::Members};
use credentials::Credentials;
use definitions::Definitions;
use flambeau_planner::model::Kind;
use jiff::Timestamp;
use kube::Client;
use std::{
    collections::BTreeSet,
    sync::{Arc, RwLock},
};
use tokio::task::JoinSet;

/// Caches of Flambeau's kinds on the hub.
#[derive(Clone)]
pub struct Hub {
    /// A client of the hub.
    pub client: Client,
    /// CloudProviders.
    pub providers: Arc<Table<ProviderEntry>>,
    /// MemberClusters.
    pub clusters: Arc<Table<ClusterEntry>>,
    /// SovereigntyPolicies.
    pub policies: Arc<Table<PolicyEntry>>,
    /// GamesApplications.
    pub applications: Arc<Table<ApplicationEntry>>,
    /// Migrations.
    pub migrations: Arc<Table<MigrationEntry>>,
    /// Evacuations.
    pub evacuations: Arc<Table<EvacuationEntry>>,
    /// Freezes.
    pub freezes: Arc<Table<FreezeEntry>>,
    /// Kinds that the hub does not know.
    pub missing: Missing,
    /// Whether the hub knows every field of this version.
    pub definitions: Definitions,
    /// What time it is, for tokens that expire.
    pub now: fn() -> Timestamp,
    kinds: Arc<RwLock<BTreeSet<Kind>>>,
}

impl Hub {
    /// Empty caches; [`Hub::watch`] fills them.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            providers: Arc::default(),
            clusters: Arc::default(),
            policies: Arc::default(),
            applications: Arc::default(),
            migrations: Arc::default(),
            evacuations: Arc::default(),
            freezes: Arc::default(),
            missing: Missing::default(),
            definitions: Definitions::default(),
            now: Timestamp::now,
            kinds: Arc::default(),
        }
    }

    /// Starts the watches. Members learn what is declared and how they are
    /// reached as soon as it is known here.
    pub fn watch(&self, members: &Members, dirty: &Dirty) -> JoinSet<()> {
        let comparing = self
            .definitions
            .clone()
            .watch(self.client.clone(), dirty.clone());
        // Not among those whose end is the end of the process.
        drop(tokio::spawn(comparing));
        let mut tasks = JoinSet::new();
        tasks.spawn(self.watch_quietly(&self.providers, dirty));
        tasks.spawn(self.watch_quietly(&self.policies, dirty));
        tasks.spawn(self.watch_quietly(&self.migrations, dirty));
        tasks.spawn(self.watch_quietly(&self.evacuations, dirty));
        tasks.spawn(self.watch_quietly(&self.freezes, dirty));
        let mut credentials = Credentials::new(
            self.client.clone(),
            members.clone(),
            dirty.clone(),
            self.now,
        );
        let clusters = watch::watch(
            self.client.clone(),
            Arc::clone(&self.clusters),
            self.missing.clone(),
            dirty.clone(),
            move |key: &entries::ObjectKey, entry| credentials.follow(&key.name, entry),
        );
        // Members compare what they see with what is declared, so they are
        // asked after everything declared is known.
        let applications = Arc::clone(&self.applications);
        tasks.spawn(async move {
            applications.listed_once().await;
            clusters.await;
        });
        let (members, kinds) = (members.clone(), Arc::clone(&self.kinds));
        tasks.spawn(watch::watch(
            self.client.clone(),
            Arc::clone(&self.applications),
            self.missing.clone(),
            dirty.clone(),
            move |key, entry: Option<&ApplicationEntry>| match entry {
                None => members.undeclare(key),
                Some(entry) => {
                    // What cannot be used now may have been written before.
                    announce_kinds(&kinds, entry, &members);
                    if let Ok(declared) = &entry.declared {
                        members.declare(Arc::clone(declared));
                    }
                }
            },
        ));
        tasks
    }

    /// A watch that nothing but the table follows.
    fn watch_quietly<E: Entry>(
        &self,
        table: &Arc<Table<E>>,
        dirty: &Dirty,
    ) -> impl Future<Output = ()> + use<E> {
        watch::watch(
            self.client.clone(),
            Arc::clone(table),
            self.missing.clone(),
            dirty.clone(),
            |_, _| {},
        )
    }

    /// Whether every kind was listed once: before that, what is not there is
    /// unknown, not absent; and whether the hub stores whatever is written.
    pub fn synced(&self) -> bool {
        self.definitions.suffice()
            && self.providers.synced()
            && self.clusters.synced()
            && self.policies.synced()
            && self.applications.synced()
            && self.migrations.synced()
            && self.evacuations.synced()
            && self.freezes.synced()
    }
}

fn announce_kinds(known: &RwLock<BTreeSet<Kind>>, entry: &ApplicationEntry, members: &Members) {
    let all_known = |known: &BTreeSet<Kind>| known.is_superset(&entry.kinds);
    let news = known.read().is_ok_and(|known| !all_known(&known));
    if news && let Ok(mut known) = known.write() {
        known.extend(entry.kinds.iter().cloned());
        members.watch_kinds(&known);
    }
}
