//! Whether this process may write: asked right before every write, anywhere.

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Never led yet: a standby.
const STANDBY: u64 = 0;
/// Led, and does so no more. Every clock is past it.
const ENDED: u64 = 1;
/// Leads without a Lease.
const ALWAYS: u64 = u64::MAX;

/// Until when this process leads. Clones share it; asking costs a read of the
/// clock, without a system call.
///
/// The one task that holds the Lease moves the deadline; everything that
/// writes asks [`Leadership::check`]. So a process that was stopped, or whose
/// machine slept, knows by itself that its time is over, before anybody could
/// tell it.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<AtomicU64>);

/// Why this process may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLeader {
    /// Another process leads, or nobody yet.
    #[error("not sent: this process stands by, another one leads")]
    Standby,
    /// The Lease was lost, released, or not renewed in time.
    #[error("not sent: this process leads no more")]
    Ended,
}

impl Leadership {
    /// Leads for ever: without leader election, and in tests of other things.
    pub fn always() -> Self {
        Self(Arc::new(AtomicU64::new(ALWAYS)))
    }

    /// Does not lead yet.
    pub(crate) fn standby() -> Self {
        Self(Arc::new(AtomicU64::new(STANDBY)))
    }

    /// Succeeds while this process leads.
    ///
    /// # Errors
    /// When it does not; whatever was about to be written must not be.
    pub fn check(&self) -> Result<(), NotLeader> {
        match self.0.load(Ordering::Acquire) {
            STANDBY => Err(NotLeader::Standby),
            deadline if nanoseconds(since_boot()) < deadline => Ok(()),
            _ => Err(NotLeader::Ended),
        }
    }

    /// Whether this process led, and does so no more: then nothing at all
    /// leaves it.
    pub fn ended(&self) -> bool {
        self.check() == Err(NotLeader::Ended)
    }

    /// Leads until then; see [`since_boot`].
    pub(crate) fn hold_until(&self, deadline: Duration) {
        self.0
            .store(nanoseconds(deadline).max(ENDED), Ordering::Release);
    }

    /// Leads no more.
    pub(crate) fn end(&self) {
        self.0.store(ENDED, Ordering::Release);
    }
}

/// `flambeau_leader`, by the clock at the moment of the question.
impl Collector for Leadership {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let metric = encoder.encode_descriptor(
            "leader",
            "1 while this process leads, 0 while it stands by",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(i64::from(self.check().is_ok())).encode(metric)
    }
}

/// Time since the machine started, time that it slept included: nobody sets
/// this clock, and it goes on while the process, or the machine, is stopped.
pub(crate) fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_BOOTTIME;
    // Elsewhere this one counts sleep.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: nix::time::ClockId = nix::time::ClockId::CLOCK_MONOTONIC;
    // A clock that cannot be read is past every deadline. Linux has had this
    // one since 2.6.39.
    nix::time::clock_gettime(CLOCK).map_or(Duration::MAX, Duration::from)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_may_not_write_and_has_not_ended() {
        let standby = Leadership::standby();
        assert_eq!(standby.check(), Err(NotLeader::Standby));
        assert!(!standby.ended());
    }

    #[test]
    fn leadership_ends_by_the_clock_alone() {
        let leader = Leadership::standby();
        leader.hold_until(since_boot() + Duration::from_secs(60));
        assert_eq!(leader.check(), Ok(()));
        leader.hold_until(since_boot());
        assert_eq!(leader.check(), Err(NotLeader::Ended));
        leader.hold_until(Duration::ZERO);
        assert!(leader.ended(), "a deadline at boot is a deadline too");
    }

    #[test]
    fn whoever_shares_it_learns_of_the_end() {
        let leader = Leadership::standby();
        let shared = leader.clone();
        leader.hold_until(since_boot() + Duration::from_secs(60));
        leader.end();
        assert!(shared.ended());
        assert_eq!(Leadership::always().check(), Ok(()));
    }
}
