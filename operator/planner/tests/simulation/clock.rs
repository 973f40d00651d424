//! The operator's own clock. Every process has another one, and somebody may
//! set it; members, edge and hub take no notice.

use crate::world::{World, time};
use jiff::{SignedDuration, Timestamp};

/// The clock of the process that works, or works next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Seconds that it is ahead of the time, or behind.
    ahead: i64,
    /// Since which second it goes like that.
    pub since: u64,
}

/// More is a wrong clock, and not one that is kept by NTP.
const WRONG: i64 = 60;

impl World {
    /// The time by the operator's clock.
    pub fn now(&self) -> Timestamp {
        self.told(self.second)
    }

    /// What the operator says now about when a second was that it remembers:
    /// it measures with a clock that nobody sets, and tells by the one that is
    /// there.
    pub fn told(&self, second: u64) -> Timestamp {
        let ahead = SignedDuration::from_secs(self.clock.ahead);
        time(second).checked_add(ahead).unwrap_or(Timestamp::MAX)
    }

    /// Another process has another clock.
    pub fn another_clock(&mut self) {
        if self.turn_clock() {
            self.count("a process with a wrong clock took over");
        }
    }

    /// Somebody sets the clock while the process runs.
    pub fn set_clock(&mut self) {
        let before = self.clock.ahead;
        self.turn_clock();
        let jump = self.clock.ahead - before;
        if jump.abs() > WRONG {
            self.count("the clock was set under a process");
        }
        self.story
            .tell(self.second, || format!("the clock is set by {jump} s"));
    }

    /// Most clocks are nearly right, some are wrong by up to an hour. True for
    /// a wrong one.
    fn turn_clock(&mut self) -> bool {
        let most = self.temper.skew;
        if most == 0 {
            return false;
        }
        let most = match self.random.below(10) {
            0..=3 => 3,
            4..=6 => most.min(90),
            _ => most,
        };
        let apart = self.random.between(0, 2 * most);
        self.clock = Clock {
            ahead: i64::try_from(apart).unwrap_or(0) - i64::try_from(most).unwrap_or(0),
            since: self.second,
        };
        let ahead = self.clock.ahead;
        self.story
            .tell(self.second, || format!("a clock that is {ahead} s ahead"));
        ahead.abs() > WRONG
    }
}
