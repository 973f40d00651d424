//! The one signal that something was observed and a new plan is due.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::sync::Notify;

/// Coalesces any number of marks into one wake-up; a mark made while nobody
/// waits is kept.
#[derive(Clone, Debug, Default)]
pub struct Dirty(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    wake: Notify,
    since: Mutex<Option<Instant>>,
}

impl Dirty {
    /// Asks for a new plan.
    pub fn mark(&self) {
        self.since().get_or_insert_with(Instant::now);
        self.0.wake.notify_one();
    }

    /// When the first mark was made since this was asked last, if one was: to
    /// be asked before the world is looked at, so that no mark is missed.
    pub fn take_since(&self) -> Option<Instant> {
        self.since().take()
    }

    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns as soon as a plan was asked for since the last return.
    pub async fn wait(&self) {
        self.0.wake.notified().await;
    }
}
