//! Reports that change nothing in substance wait a moment for the next one:
//! while an application comes up, its messages change faster than people
//! read, and every write is a load on the hub.

use flambeau_crds::GamesApplicationStatus;
use flambeau_planner::model::ApplicationKey;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long words may be out of date.
const PATIENCE: Duration = Duration::from_secs(2);

/// Since when reports wait, by application.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<HashMap<ApplicationKey, Instant>>>);

impl Reports {
    /// Whether a status is to be stored now: it says something in substance,
    /// or has waited long enough.
    pub fn due(
        &self,
        key: &ApplicationKey,
        before: &GamesApplicationStatus,
        after: &GamesApplicationStatus,
        now: Instant,
    ) -> bool {
        let mut waiting = self.lock();
        let due = before != after
            && (substantial(before, after)
                || *waiting.entry(key.clone()).or_insert(now) + PATIENCE <= now);
        if due || before == after {
            waiting.remove(key);
        }
        due
    }

    /// When the next report has waited long enough.
    pub fn next_due(&self) -> Option<Instant> {
        let first = self.lock().values().min().copied();
        first.map(|since| since + PATIENCE)
    }

    /// Forgets reports that were due by a time and were not asked for since:
    /// nobody has to wake up for them.
    pub fn forget_due(&self, by: Instant) {
        self.lock().retain(|_, since| *since + PATIENCE > by);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ApplicationKey, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether more than words differs: anything that is acted on, or the truth
/// of a condition.
fn substantial(before: &GamesApplicationStatus, after: &GamesApplicationStatus) -> bool {
    let words_apart = GamesApplicationStatus {
        next: before.next.clone(),
        candidates: before.candidates.clone(),
        conditions: before.conditions.clone(),
        ..after.clone()
    };
    words_apart != *before || truths(before).ne(truths(after))
}

fn truths(status: &GamesApplicationStatus) -> impl Iterator<Item = (&str, &str)> {
    let conditions = status.conditions.iter();
    conditions.map(|condition| (condition.type_.as_str(), condition.status.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApplicationKey {
        ApplicationKey {
            namespace: "games".into(),
            name: "ticketing".into(),
        }
    }

    fn saying(words: &str) -> GamesApplicationStatus {
        GamesApplicationStatus {
            next: Some(words.to_owned()),
            ..GamesApplicationStatus::default()
        }
    }

    #[test]
    fn words_wait_and_are_stored_in_the_end() {
        let (reports, now) = (Reports::default(), Instant::now());
        let (before, after) = (saying("objects are written"), saying("not ready"));
        assert!(!reports.due(&key(), &before, &after, now));
        assert_eq!(reports.next_due(), Some(now + PATIENCE));
        assert!(reports.due(&key(), &before, &after, now + PATIENCE));
        assert_eq!(reports.next_due(), None);
    }

    #[test]
    fn what_is_acted_on_does_not_wait() {
        let (reports, now) = (Reports::default(), Instant::now());
        let before = saying("not placed");
        let placed = GamesApplicationStatus {
            epoch: 1,
            ..saying("placed")
        };
        assert!(!reports.due(&key(), &before, &saying("soon"), now));
        assert!(reports.due(&key(), &before, &placed, now));
        assert!(!reports.due(&key(), &placed, &placed, now));
        assert_eq!(reports.next_due(), None, "nothing waits any more");
    }

    #[test]
    fn nobody_wakes_up_for_a_report_that_is_not_asked_for_any_more() {
        let (reports, now) = (Reports::default(), Instant::now());
        assert!(!reports.due(&key(), &saying("one"), &saying("two"), now));
        reports.forget_due(now + PATIENCE);
        assert_eq!(reports.next_due(), None);
    }
}
