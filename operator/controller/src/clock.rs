//! Moments on a clock that nobody can set, with the time of day to tell.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tokio::time::Instant;

/// The time of day differs from what the monotonic clock says by more than
/// this only when it was set.
const SET: SignedDuration = SignedDuration::from_secs(2);

/// When something began. What follows from it is measured with the monotonic
/// clock; the time of day is taken once, so that whoever tells of it says the
/// same each time, and again only when the time of day was set meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    began: Instant,
    time: Timestamp,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        Self::at(Instant::now())
    }

    /// A moment of the recent past.
    pub fn at(began: Instant) -> Self {
        Self {
            began,
            time: time_of(began, Timestamp::now()),
        }
    }

    /// The same on the monotonic clock.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// How long ago it is.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The time of day that belongs to it.
    pub fn time(&mut self) -> Timestamp {
        self.time_at(Timestamp::now())
    }

    fn time_at(&mut self, now: Timestamp) -> Timestamp {
        let time = time_of(self.began, now);
        if time.duration_since(self.time).abs() > SET {
            self.time = time;
        }
        self.time
    }
}

/// The time of day at an earlier moment, told by what it is now.
fn time_of(began: Instant, now: Timestamp) -> Timestamp {
    now.checked_sub(began.elapsed()).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_told_is_the_same_until_the_clock_is_set() {
        let mut moment = Moment::now();
        let told = moment.time();
        let little_later = Timestamp::now() + SignedDuration::from_millis(1500);
        assert_eq!(moment.time_at(little_later), told);
        let set = Timestamp::now() + SignedDuration::from_hours(1);
        let moved = moment.time_at(set).duration_since(told);
        assert!(
            (moved - SignedDuration::from_hours(1)).abs() < SET,
            "{moved}"
        );
    }
}
