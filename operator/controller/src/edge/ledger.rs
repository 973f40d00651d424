//! What was read of the proxy's statistics: by application that moves, with
//! what its current stage began with, and by backend.

use super::stats::Totals;
use crate::clock::Moment;
use flambeau_planner::model::{ApplicationKey, Name, StageRequests};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// An older reading says nothing any more of a move.
const FRESH: Duration = Duration::from_secs(3);

/// Requests of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Open, by Service.
    pub open: BTreeMap<Name, u64>,
    /// Since the weights last changed, by Service.
    pub stage: BTreeMap<Name, StageRequests>,
}

/// Readings of one application.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Since when it is to be read.
    wanted: Option<Instant>,
    /// When it was last read.
    read: Option<Instant>,
    /// Weights during the current stage, by Service.
    pub weights: BTreeMap<Name, i32>,
    /// Counts when the stage began, by Service.
    base: BTreeMap<Name, Totals>,
    /// Counts as last read, by Service.
    pub last: BTreeMap<Name, Totals>,
}

impl Ledger {
    /// Enters a reading.
    pub fn enter(
        &mut self,
        at: Instant,
        weights: BTreeMap<Name, i32>,
        now: BTreeMap<Name, Totals>,
    ) {
        if self.read.is_none() {
            self.base.clone_from(&now);
        } else if self.weights != weights {
            // The stage began some time after the reading before this one:
            // counting from there misses no failure.
            self.base = std::mem::take(&mut self.last);
        }
        self.read = Some(at);
        self.weights = weights;
        self.last = now;
    }

    /// Whether a reading says the same of what is asked for as the last one.
    pub fn says(&self, reading: &BTreeMap<Name, Totals>) -> bool {
        let told = |(service, totals): (&Name, &Totals)| {
            let Totals {
                open,
                answered,
                failed,
                healthy,
                ..
            } = *totals;
            (service.clone(), open, answered, failed, healthy)
        };
        self.last.iter().map(told).eq(reading.iter().map(told))
    }

    /// What is asked for of the last reading.
    pub fn requests(&self) -> Requests {
        let mut requests = Requests::default();
        for (service, now) in &self.last {
            let base = self.base.get(service).copied().unwrap_or_default();
            // Smaller than before: the proxy started anew and counts from 0.
            let base = if now.answered < base.answered {
                Totals::default()
            } else {
                base
            };
            requests.open.insert(service.clone(), now.open);
            requests.stage.insert(
                service.clone(),
                StageRequests {
                    total: now.answered - base.answered,
                    failed: now.failed.saturating_sub(base.failed),
                },
            );
        }
        requests
    }
}

/// One reading of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When it was read: the same moment for all that was read together, so
    /// that what they tell can be put in order.
    pub at: Moment,
    /// What was read.
    pub totals: Totals,
}

/// Everything that was read.
#[derive(Default)]
pub struct Ledgers {
    moves: Mutex<BTreeMap<ApplicationKey, Ledger>>,
    /// The last reading of every backend, by Service.
    services: Mutex<BTreeMap<ApplicationKey, BTreeMap<Name, Reading>>>,
}

impl Ledgers {
    /// Applications that move.
    pub fn lock(&self) -> MutexGuard<'_, BTreeMap<ApplicationKey, Ledger>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the applications that move.
    pub fn watch(&self, keys: &BTreeSet<ApplicationKey>) {
        let mut ledgers = self.lock();
        ledgers.retain(|key, _| keys.contains(key));
        for key in keys {
            ledgers.entry(key.clone()).or_insert_with(|| Ledger {
                wanted: Some(Instant::now()),
                ..Ledger::default()
            });
        }
    }

    /// Whether an application is about to be read for the first time.
    pub fn soon(&self, key: &ApplicationKey) -> bool {
        let ledgers = self.lock();
        let unread = ledgers.get(key).filter(|ledger| ledger.read.is_none());
        let wanted = unread.and_then(|ledger| ledger.wanted);
        wanted.is_some_and(|since| since.elapsed() < FRESH)
    }

    /// Applications that serve.
    pub fn services(&self) -> MutexGuard<'_, BTreeMap<ApplicationKey, BTreeMap<Name, Reading>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something of an application that moves, if it was read lately.
    pub fn fresh<T>(&self, key: &ApplicationKey, read: impl FnOnce(&Ledger) -> T) -> Option<T> {
        let ledgers = self.lock();
        let ledger = ledgers.get(key)?;
        ledger.read.filter(|at| at.elapsed() < FRESH)?;
        Some(read(ledger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(answered: u64, failed: u64) -> BTreeMap<Name, Totals> {
        let totals = Totals {
            answered,
            failed,
            open: 1,
            healthy: 1,
            ..Totals::default()
        };
        [(Name::from("ovh"), totals)].into()
    }

    fn weights(weight: i32) -> BTreeMap<Name, i32> {
        [(Name::from("ovh"), weight)].into()
    }

    fn stage(ledger: &Ledger) -> (u64, u64) {
        let stage = ledger.requests().stage["ovh"];
        (stage.total, stage.failed)
    }

    #[test]
    fn a_stage_counts_from_the_last_reading_before_the_weights_changed() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(now, weights(0), reading(1000, 10));
        assert_eq!(stage(&ledger), (0, 0), "what was before counts for nothing");
        ledger.enter(now, weights(0), reading(1010, 10));
        ledger.enter(now, weights(25), reading(1030, 12));
        assert_eq!(stage(&ledger), (20, 2));
        ledger.enter(now, weights(25), reading(1100, 12));
        assert_eq!(stage(&ledger), (90, 2));
        ledger.enter(now, weights(50), reading(1101, 12));
        assert_eq!(stage(&ledger), (1, 0));
    }

    #[test]
    fn a_proxy_that_starts_anew_counts_from_nothing() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        ledger.enter(now, weights(25), reading(1000, 10));
        ledger.enter(now, weights(25), reading(30, 1));
        assert_eq!(stage(&ledger), (30, 1));
    }
}
