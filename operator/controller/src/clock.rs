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

/// Since when the time of day goes on as it does now: it may be set, and what
/// was written down before is no measure of what has passed.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    since: Moment,
    /// The time of day when it was last looked at.
    last: Moment,
}

impl Clock {
    /// From now on.
    pub fn now() -> Self {
        let now = Moment::now();
        Self {
            since: now,
            last: now,
        }
    }

    /// Since when, by the time of day as it is. To be asked every minute or
    /// so: a clock that is slowly brought up to time was not set.
    pub fn goes_since(&mut self) -> Timestamp {
        self.goes_since_at(Timestamp::now())
    }

    fn goes_since_at(&mut self, now: Timestamp) -> Timestamp {
        let looked = Instant::now();
        let expected = time_of(self.last.began, now);
        if expected.duration_since(self.last.time).abs() > SET {
            self.since = Moment {
                began: looked,
                time: now,
            };
        }
        self.last = Moment {
            began: looked,
            time: now,
        };
        self.since.time_at(now)
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

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_goes_anew_since_then() {
        let mut clock = Clock::now();
        let begin = Timestamp::now();
        let second = |seconds: i64| begin + SignedDuration::from_secs(seconds);
        let near = |one: Timestamp, other: Timestamp| one.duration_since(other).abs() < SET;
        tokio::time::advance(Duration::from_secs(60)).await;
        // A second was added meanwhile, as NTP does.
        assert!(near(clock.goes_since_at(second(61)), begin));
        tokio::time::advance(Duration::from_secs(60)).await;
        let set = second(121 + 3600);
        assert_eq!(clock.goes_since_at(set), set);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(near(clock.goes_since_at(second(181 + 3600)), set));
        let back = second(181);
        assert_eq!(clock.goes_since_at(back), back);
    }
}
