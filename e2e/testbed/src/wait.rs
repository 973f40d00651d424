//! Waiting for conditions, never for time to pass.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// What a probe saw.
pub enum Probe<T> {
    /// The condition holds.
    Done(T),
    /// Not yet; the text says what was seen instead, and is shown when the wait runs out of time.
    Pending(String),
}

/// Calls `probe` until it is done, it fails, or `timeout` has passed.
///
/// # Errors
/// The probe's own error at once, or one that names `what` and the last thing seen when the time is over.
pub fn until<T>(
    what: &str,
    timeout: Duration,
    mut probe: impl FnMut() -> Result<Probe<T>>,
) -> Result<T> {
    const PAUSE: Duration = Duration::from_millis(100);
    let started = Instant::now();
    loop {
        let seen = match probe()? {
            Probe::Done(value) => return Ok(value),
            Probe::Pending(seen) => seen,
        };
        if started.elapsed() >= timeout {
            bail!(
                "{what}: not within {} s; last seen: {seen}",
                timeout.as_secs()
            );
        }
        sleep(PAUSE);
    }
}
