//! Whether the services of copies answer, whatever API servers say: from the
//! requests that the edge counts, and, where there is doubt, from connections
//! that the operator tries itself.

mod connect;
mod evidence;
mod round;

use crate::{clock::Moment, dirty::Dirty, edge::Edge, members::Members};
use flambeau_planner::model::{ApplicationKey, Name, Role, Service, Snapshot};
use jiff::Timestamp;
use round::Round;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::task::AbortHandle;

/// How long it takes until evidence has come in from every copy that gives
/// any: requests are counted every few seconds.
const FIRST_LOOK: Duration = Duration::from_secs(15);

/// Copies by application.
pub type Copies = BTreeMap<ApplicationKey, BTreeSet<Name>>;

/// What is known of the services of copies. Cheap to clone; when the last
/// clone is dropped, nothing is looked at any more.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

struct Inner {
    board: Arc<Board>,
    dirty: Dirty,
    /// When the first copy was to be looked at.
    since: OnceLock<Moment>,
    task: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is asked, and what was found.
#[derive(Default)]
struct Board {
    wanted: Mutex<Arc<Copies>>,
    found: Mutex<Found>,
}

/// What was found of one copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Whether its services answer: requests of the application, or
    /// connections where there are none.
    pub service: Service,
    /// When anything last came from there through the edge.
    pub reached: Option<Timestamp>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    copies: BTreeMap<ApplicationKey, BTreeMap<Name, Finding>>,
    /// Clusters from which anything came within the last seconds.
    living: BTreeSet<Name>,
}

impl Board {
    fn wanted(&self) -> MutexGuard<'_, Arc<Copies>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services {
    /// Looks at nothing yet. Whatever is found later that anything depends on
    /// asks for a new plan. Needs a Tokio runtime.
    pub fn start<E: Edge>(members: Members, edge: E, dirty: Dirty) -> Self {
        let board = Arc::new(Board::default());
        let round = Round::new(members, edge, dirty.clone(), board.clone());
        let task = tokio::spawn(round.run()).abort_handle();
        Self(Arc::new(Inner {
            board,
            dirty,
            since: OnceLock::new(),
            task,
        }))
    }

    /// Sets the copies that are looked at; see [`copies`]. What was found of
    /// others is forgotten.
    pub fn watch(&self, copies: Copies) {
        if self.0.since.set(Moment::now()).is_ok() {
            let dirty = self.0.dirty.clone();
            tokio::spawn(async move {
                tokio::time::sleep(FIRST_LOOK).await;
                dirty.mark();
            });
        }
        let mut wanted = self.0.board.wanted();
        if **wanted != copies {
            *wanted = Arc::new(copies);
        }
    }

    /// What is known of the services of a copy.
    pub fn of(&self, key: &ApplicationKey, cluster: &str) -> Finding {
        let found = self.0.board.found();
        let clusters = found.copies.get(key);
        clusters
            .and_then(|clusters| clusters.get(cluster).copied())
            .unwrap_or_default()
    }

    /// Whether too little time has passed to take no evidence for silence: a
    /// process that has just begun to look must not take a cluster for lost
    /// because it has not looked yet.
    pub fn just_begun(&self) -> bool {
        let since = self.0.since.get();
        since.is_none_or(|since| since.elapsed() < FIRST_LOOK)
    }

    /// Since when copies are looked at.
    pub fn since(&self) -> Option<Timestamp> {
        self.0.since.get().map(|since| since.clone().time())
    }

    /// Whether anything came from an application on a cluster within the last
    /// seconds: also an error of its own, as that takes a living cluster.
    pub fn answer_from(&self, cluster: &str) -> bool {
        self.0.board.found().living.contains(cluster)
    }
}

/// Copies whose services matter: of applications with traffic, wherever they
/// are kept.
pub fn copies(snapshot: &Snapshot) -> Copies {
    let serving = snapshot
        .applications
        .iter()
        .filter(|application| application.spec.traffic && !application.deleting);
    serving
        .map(|application| {
            let kept = |cluster: &&Name| {
                let placement = application.record.on(cluster);
                placement.is_none_or(|placement| placement.role != Role::Retiring)
            };
            let clusters = application.copies.keys().filter(kept).cloned();
            (application.spec.key.clone(), clusters.collect())
        })
        .collect()
}
