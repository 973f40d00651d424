//! One member: its connection, what is known of it, what is under way.

use super::{
    MemberSettings,
    connection::Connection,
    credentials::Renewal,
    discovery,
    discovery::{Discovery, Resource},
    endpoints,
    error::MemberError,
    fencing::{self, Fence},
    form::Forms,
    health::Health,
    kubeconfig,
    limits::Limits,
    metrics::MemberMetrics,
    nodes::{self, Known},
    observe, probe,
    store::Store,
    token, watch,
    work::Works,
};
use crate::{declared::Declared, dirty::Dirty, leader::Leadership};
use flambeau_crds::cluster::MemberAccess;
use flambeau_planner::model::{ApplicationKey, Kind, Name, Reach};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, watch as channel},
    task::{JoinHandle, JoinSet},
};

/// What all members share.
pub(super) struct Shared {
    pub dirty: Dirty,
    pub metrics: MemberMetrics,
    pub settings: MemberSettings,
    /// Asked before every write.
    pub leadership: Leadership,
    /// What applications declare.
    pub declared: RwLock<HashMap<ApplicationKey, Arc<Declared>>>,
    /// Kinds that are watched where they are served.
    pub wanted: channel::Sender<Arc<BTreeSet<Kind>>>,
}

impl Shared {
    pub fn new(dirty: Dirty, settings: MemberSettings, leadership: Leadership) -> Self {
        Self {
            dirty,
            metrics: MemberMetrics::default(),
            settings,
            leadership,
            declared: RwLock::default(),
            wanted: channel::Sender::new(Arc::new(BTreeSet::from([endpoints::slice_kind()]))),
        }
    }

    /// What an application declares.
    pub fn declared(&self, key: &ApplicationKey) -> Option<Arc<Declared>> {
        self.declared
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }
}

/// One member.
pub(super) struct Member {
    pub name: Name,
    pub shared: Arc<Shared>,
    pub store: Store,
    pub health: Health,
    /// What is known of its nodes.
    pub nodes: Known,
    /// Which copies stand by.
    pub forms: Forms,
    pub works: Works,
    pub fence: Fence,
    /// Bounds concurrent writes.
    pub permits: Semaphore,
    /// One Namespace is made at a time.
    pub namespaces: tokio::sync::Mutex<()>,
    /// Tells that some kind has to be listed again.
    pub recheck: channel::Sender<()>,
    /// Asks for discovery before it is due.
    pub rediscover: Notify,
    discovery: channel::Sender<Option<Arc<Discovery>>>,
    version: Mutex<Option<String>>,
    unreachable_after: AtomicU64,
    limits: Mutex<Arc<Limits>>,
    renewal: Mutex<Option<Renewal>>,
    session: Mutex<Session>,
}

/// What belongs to one set of connection details.
#[derive(Default)]
struct Session {
    /// The details as they were given.
    given: Option<Result<Vec<u8>, String>>,
    /// Which cluster they lead to.
    identity: Option<u64>,
    connection: Option<Arc<Connection>>,
    tasks: Option<JoinHandle<()>>,
}

impl Session {
    fn stop(&mut self) {
        self.connection = None;
        if let Some(tasks) = self.tasks.take() {
            tasks.abort();
        }
    }
}

impl Member {
    pub fn new(name: Name, shared: Arc<Shared>) -> Self {
        Self {
            name,
            store: Store::default(),
            health: Health::new(),
            nodes: Known::default(),
            forms: Forms::default(),
            works: Works::default(),
            fence: Fence::default(),
            permits: Semaphore::new(shared.settings.concurrent_writes),
            namespaces: tokio::sync::Mutex::new(()),
            recheck: channel::Sender::new(()),
            rediscover: Notify::new(),
            discovery: channel::Sender::new(None),
            version: Mutex::new(None),
            unreachable_after: AtomicU64::new(0),
            limits: Mutex::default(),
            renewal: Mutex::default(),
            session: Mutex::new(Session::default()),
            shared,
        }
    }

    /// Takes connection details, and how far Flambeau goes there. Returns false
    /// when they lead to another cluster than before: what is known of this
    /// member does not hold there.
    pub fn configure(
        self: &Arc<Self>,
        access: Option<&MemberAccess>,
        kubeconfig: Result<&[u8], String>,
    ) -> bool {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let same = match (&session.given, &kubeconfig) {
            (Some(Ok(before)), Ok(now)) => before == now,
            (Some(Err(before)), Err(now)) => before == now,
            _ => false,
        };
        let token = kubeconfig
            .as_ref()
            .ok()
            .and_then(|bytes| token::held(bytes));
        let own = token
            .as_ref()
            .and_then(|token| Some(token.account()?.0.into()));
        let limits = Limits::new(access, own);
        if same && limits == *self.limits() {
            return true;
        }
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
        let access = kubeconfig.clone().and_then(kubeconfig::read);
        if let (Some(before), Ok(access)) = (session.identity, &access)
            && before != access.identity
        {
            session.stop();
            return false;
        }
        session.stop();
        session.given = Some(kubeconfig.map(<[u8]>::to_vec));
        let connection = access.and_then(|access| {
            session.identity = Some(access.identity);
            let shared = &self.shared;
            Connection::new(
                self.name.clone(),
                &access,
                token,
                shared.metrics.clone(),
                &shared.leadership,
            )
        });
        match connection {
            Ok(connection) => {
                self.health.try_again(self);
                self.works.clear();
                let connection = Arc::new(connection);
                session.connection = Some(connection.clone());
                session.tasks = Some(tokio::spawn(run(self.clone(), connection)));
            }
            Err(message) => self.health.misconfigured(self, message),
        }
        true
    }

    /// What an application declares, in the form of its copy here.
    pub fn declared(&self, key: &ApplicationKey) -> Option<Arc<Declared>> {
        let declared = self.shared.declared(key)?;
        Some(self.forms.of(declared))
    }

    /// Has objects that were seen before their declaration compared with it:
    /// only digests are kept, so they are listed once more.
    pub fn compare(&self, declared: &Declared) {
        let mut contents = self.store.lock();
        let Some(copy) = contents.copies.get(&declared.key) else {
            return;
        };
        let kinds: Vec<Kind> = observe::unjudged(copy, declared).cloned().collect();
        if !kinds.is_empty() {
            let scope = self.limits().scope(&declared.key.namespace);
            let places = kinds.into_iter().map(|kind| (kind, scope.clone()));
            contents.recheck.extend(places);
            drop(contents);
            self.recheck.send_replace(());
        }
    }

    /// How its token fares, if Flambeau renews it.
    pub fn renewal(&self) -> Option<Renewal> {
        let renewal = self.renewal.lock();
        renewal.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes how its token fares.
    pub fn set_renewal(&self, now: Option<Renewal>) {
        *self.renewal.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// How far Flambeau goes there.
    pub fn limits(&self) -> Arc<Limits> {
        let limits = self.limits.lock();
        limits.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops every task.
    pub fn stop(&self) {
        self.session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stop();
        self.works.clear();
    }

    /// The connection of a member that answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn connection(&self) -> Result<Arc<Connection>, MemberError> {
        let message = match self.health.reach() {
            Reach::Reachable => {
                let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
                match &session.connection {
                    Some(connection) => return Ok(connection.clone()),
                    None => "it is being connected".to_owned(),
                }
            }
            Reach::NotObserved => "it did not answer yet".to_owned(),
            Reach::Unreachable { since } => format!("it does not answer since {since}"),
            Reach::Misconfigured { message } => message,
        };
        Err(MemberError::NotConnected {
            cluster: self.name.clone(),
            message,
        })
    }

    /// How long ago it was last observed, or else since when it is asked.
    pub fn unobserved(&self) -> Duration {
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        self.health.unobserved(session.connection.as_deref())
    }

    pub fn set_unreachable_after(&self, limit: Duration) {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.unreachable_after.store(millis, Ordering::Relaxed);
    }

    pub fn unreachable_after(&self) -> Duration {
        Duration::from_millis(self.unreachable_after.load(Ordering::Relaxed))
    }

    pub fn version(&self) -> Option<String> {
        self.version
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_version(&self, version: String) {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
        self.shared.dirty.mark();
    }

    /// What the member serves, with changes of it.
    pub fn discovery(&self) -> channel::Receiver<Option<Arc<Discovery>>> {
        self.discovery.subscribe()
    }

    /// Namespaced kinds that the member serves.
    pub fn kinds(&self) -> Option<Arc<BTreeSet<Kind>>> {
        self.discovery
            .borrow()
            .as_ref()
            .map(|discovery| discovery.kinds.clone())
    }

    /// Those of them that applications must not have there.
    pub fn refused_kinds(&self) -> Arc<BTreeSet<Kind>> {
        let discovery = self.discovery.borrow();
        discovery
            .as_ref()
            .map(|discovery| discovery.refused.clone())
            .unwrap_or_default()
    }

    /// Where the objects of a kind are read and deleted, whatever the version.
    pub fn readable(&self, kind: &Kind) -> Option<Resource> {
        let discovery = self.discovery.borrow();
        discovery.as_ref()?.any_version(kind).cloned()
    }

    /// Where a kind is found.
    pub fn resource(&self, kind: &Kind) -> Option<Resource> {
        self.discovery
            .borrow()
            .as_ref()?
            .resources
            .get(kind)
            .cloned()
    }

    /// Whether discovery was done and lacks a kind that is wanted.
    pub fn lacks_wanted_kind(&self) -> bool {
        let wanted = self.shared.wanted.borrow().clone();
        let discovery = self.discovery.borrow();
        discovery
            .as_ref()
            .is_some_and(|discovery| wanted.iter().any(|kind| !discovery.kinds.contains(kind)))
    }

    pub fn set_discovery(&self, discovery: Discovery) {
        let changed = self.discovery.send_if_modified(|current| {
            let changed = current.as_deref() != Some(&discovery);
            if changed {
                *current = Some(Arc::new(discovery));
            }
            changed
        });
        if changed {
            // What was refused may be welcome now.
            self.works.clear();
            self.shared.dirty.mark();
        }
    }
}

async fn run(member: Arc<Member>, connection: Arc<Connection>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(probe::run(member.clone(), connection.clone()));
    tasks.spawn(nodes::run(member.clone(), connection.clone()));
    tasks.spawn(discovery::run(member.clone(), connection.clone()));
    tasks.spawn(fencing::run(member.clone(), connection.clone()));
    tasks.spawn(watch::run(member, connection));
    while tasks.join_next().await.is_some() {}
}
