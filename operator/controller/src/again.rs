//! How long a watch on the hub is held, and how one that failed is tried again.

use kube::runtime::{utils::Backoff, watcher};
use std::time::Duration;

/// The first attempt after a failure.
const FIRST: Duration = Duration::from_millis(250);

/// The longest time between two attempts. The operator has some ten watches on
/// one hub, so that being kind to a struggling API server costs little; and a
/// hub that was away for minutes is to be followed again within seconds.
const LONGEST: Duration = Duration::from_secs(2);

/// How long one watch request lasts, in seconds: kube's 290 would be the time
/// for which an API server that freezes behind a balancer is believed that
/// nothing changes.
const WATCH_SECONDS: u32 = 60;

/// How a kind on the hub is watched.
pub fn watched() -> watcher::Config {
    watcher::Config::default().timeout(WATCH_SECONDS)
}

/// Soon, then more seldom, up to a limit of seconds; soon again after success.
#[derive(Debug)]
pub struct Soon(Duration);

/// As [`Soon`].
pub fn soon() -> Soon {
    Soon(FIRST)
}

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST);
        Some(pause)
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {
        self.0 = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_two_seconds_and_begin_anew_after_success() {
        let mut soon = soon();
        let pauses: Vec<u128> = soon
            .by_ref()
            .take(5)
            .map(|pause| pause.as_millis())
            .collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 2000]);
        soon.reset();
        assert_eq!(soon.next(), Some(FIRST));
    }
}
