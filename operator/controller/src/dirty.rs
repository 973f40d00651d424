//! The one signal that something was observed and a new plan is due.

use std::sync::Arc;
use tokio::sync::Notify;

/// Coalesces any number of marks into one wake-up; a mark made while nobody
/// waits is kept.
#[derive(Clone, Debug, Default)]
pub struct Dirty(Arc<Notify>);

impl Dirty {
    /// Asks for a new plan.
    pub fn mark(&self) {
        self.0.notify_one();
    }

    /// Returns as soon as a plan was asked for since the last return.
    pub async fn wait(&self) {
        self.0.notified().await;
    }
}
