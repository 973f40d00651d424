//! What all tests of one program share: usually a light control plane with something installed.

use std::sync::{Arc, OnceLock};

use anyhow::{Result, anyhow};
use libtest_mimic::Trial;

/// Started by the first test that needs it; dropping it stops it.
pub struct Shared<T> {
    start: fn() -> Result<T>,
    started: OnceLock<Result<T, String>>,
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Knows how to start it, and does not.
    #[must_use]
    pub fn new(start: fn() -> Result<T>) -> Arc<Self> {
        Arc::new(Self {
            start,
            started: OnceLock::new(),
        })
    }

    /// It, running.
    ///
    /// # Errors
    /// When it could not be started, the same to every test.
    pub fn get(&self) -> Result<&T> {
        let start = || (self.start)().map_err(|error| format!("{error:#}"));
        let started = self.started.get_or_init(start);
        started.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// A test that is given it.
    pub fn trial(
        self: &Arc<Self>,
        name: impl Into<String>,
        test: impl FnOnce(&T) -> Result<()> + Send + 'static,
    ) -> Trial {
        let shared = Arc::clone(self);
        Trial::test(name, move || {
            let tested = shared.get().and_then(test);
            tested.map_err(|error| format!("{error:#}").into())
        })
    }
}
