//! Telling people what happens, with the time since the start.

use std::time::Instant;

/// Prints lines such as ` 6.2 s  hub      API server ready` to standard error.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    started: Instant,
    quiet: bool,
}

impl Progress {
    /// Starts the clock.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            quiet: false,
        }
    }

    /// One that says nothing, for tests.
    #[must_use]
    pub fn quiet() -> Self {
        Self {
            started: Instant::now(),
            quiet: true,
        }
    }

    /// Says that something is reached.
    pub fn say(&self, whose: &str, what: &str) {
        if !self.quiet {
            eprintln!(
                "{:5.1} s  {whose:<8} {what}",
                self.started.elapsed().as_secs_f64()
            );
        }
    }
}
