//! What is being written where, and when a failed attempt is due again.

use super::error::MemberError;
use crate::dirty::Dirty;
use flambeau_planner::model::ApplicationKey;
use jiff::Timestamp;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};

/// How long the second attempt waits; doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long any attempt waits at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often in a row an object is put right before that is slowed down.
const FREE_CORRECTIONS: u32 = 3;
/// How long after the last correction the count starts anew.
const CORRECTIONS_FORGOTTEN: Duration = Duration::from_mins(5);

/// Work on one member, by application.
#[derive(Default)]
pub(super) struct Works(Mutex<HashMap<ApplicationKey, Work>>);

#[derive(Default)]
struct Work {
    /// It is under way.
    busy: bool,
    /// What was tried last: a digest of the declaration and the epoch.
    what: u64,
    failures: u32,
    corrections: u32,
    corrected: Option<Instant>,
    /// When the next attempt is due: to measure, and to tell.
    until: Option<(Instant, Timestamp)>,
    message: String,
    /// The member said no, rather than nothing.
    refused: bool,
    alarm: Option<Alarm>,
}

/// Ends the task that waits, when dropped.
struct Alarm(JoinHandle<()>);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The right to work on one application; given back when dropped.
pub(super) struct Turn<'a> {
    works: &'a Works,
    key: ApplicationKey,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut works = self.works.lock();
        if let Entry::Occupied(mut entry) = works.entry(self.key.clone()) {
            let work = entry.get_mut();
            work.busy = false;
            if work.until.is_none() && work.corrected.is_none() {
                entry.remove();
            }
        }
    }
}

impl Works {
    fn lock(&self) -> MutexGuard<'_, HashMap<ApplicationKey, Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to work on an application.
    ///
    /// # Errors
    /// When that is under way already, or the next attempt at the same thing
    /// is not due.
    pub fn begin(&self, key: &ApplicationKey, what: u64) -> Result<Turn<'_>, MemberError> {
        let mut works = self.lock();
        let work = works.entry(key.clone()).or_default();
        if work.busy {
            return Err(MemberError::UnderWay);
        }
        if work.what == what {
            let waits = work.until.filter(|(due, _)| *due > Instant::now());
            if let Some((_, until)) = waits {
                return Err(MemberError::BackingOff {
                    until,
                    failures: work.failures,
                    message: work.message.clone(),
                });
            }
        } else {
            *work = Work {
                what,
                ..Work::default()
            };
        }
        work.busy = true;
        Ok(Turn {
            works: self,
            key: key.clone(),
        })
    }

    /// What a member said when it refused an application.
    pub fn refused(&self, key: &ApplicationKey) -> Option<String> {
        let works = self.lock();
        works
            .get(key)
            .filter(|work| work.refused)
            .map(|work| work.message.clone())
    }

    /// Forgets every failure: whatever caused them may be over.
    pub fn clear(&self) {
        self.lock().retain(|_, work| {
            *work = Work {
                busy: work.busy,
                what: work.what,
                ..Work::default()
            };
            work.busy
        });
    }

    /// Forgets the failures of one application.
    pub fn forget(&self, key: &ApplicationKey) {
        let mut works = self.lock();
        if works.get(key).is_some_and(|work| !work.busy) {
            works.remove(key);
        }
    }
}

impl Turn<'_> {
    /// Notes that everything was done; `corrected` that something was put
    /// right that had been so before.
    pub fn done(&self, corrected: bool, dirty: &Dirty) {
        let mut works = self.works.lock();
        let Some(work) = works.get_mut(&self.key) else {
            return;
        };
        work.failures = 0;
        work.refused = false;
        work.until = None;
        work.alarm = None;
        let now = Instant::now();
        if work
            .corrected
            .is_some_and(|last| now - last > CORRECTIONS_FORGOTTEN)
        {
            work.corrected = None;
            work.corrections = 0;
        }
        if corrected {
            work.corrected = Some(now);
            work.corrections += 1;
            if work.corrections > FREE_CORRECTIONS {
                work.message =
                    "its objects are changed by somebody else again and again".to_owned();
                work.wait(pause(work.corrections - FREE_CORRECTIONS), dirty);
            }
        }
    }

    /// Notes that an attempt failed, and asks for a plan when the next is due.
    pub fn failed(&self, error: &MemberError, dirty: &Dirty) {
        let mut works = self.works.lock();
        let Some(work) = works.get_mut(&self.key) else {
            return;
        };
        work.failures += 1;
        work.refused = error.is_refusal();
        work.message = error.to_string();
        work.wait(pause(work.failures), dirty);
        dirty.mark();
    }
}

impl Work {
    fn wait(&mut self, pause: Duration, dirty: &Dirty) {
        let told = Timestamp::now().checked_add(pause);
        self.until = Some((Instant::now() + pause, told.unwrap_or(Timestamp::MAX)));
        let dirty = dirty.clone();
        self.alarm = Some(Alarm(tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            dirty.mark();
        })));
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApplicationKey {
        ApplicationKey {
            namespace: "games".into(),
            name: "a".into(),
        }
    }

    fn refusal() -> MemberError {
        MemberError::Refused {
            object: "ConfigMap/x".into(),
            message: "no".into(),
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds: Vec<u64> = (1..=8).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(u32::MAX).as_secs(), 60);
    }

    #[tokio::test]
    async fn one_turn_at_a_time() {
        let works = Works::default();
        let turn = works.begin(&key(), 1).ok().unwrap();
        assert_eq!(works.begin(&key(), 1).err(), Some(MemberError::UnderWay));
        drop(turn);
        assert!(works.begin(&key(), 1).is_ok());
    }

    #[tokio::test]
    async fn the_same_is_tried_later_and_something_else_at_once() {
        let (works, dirty) = (Works::default(), Dirty::default());
        works
            .begin(&key(), 1)
            .ok()
            .unwrap()
            .failed(&refusal(), &dirty);
        assert!(matches!(
            works.begin(&key(), 1).err(),
            Some(MemberError::BackingOff { failures: 1, .. })
        ));
        assert_eq!(works.refused(&key()).as_deref(), Some("ConfigMap/x: no"));
        assert!(works.begin(&key(), 2).is_ok());
        assert_eq!(works.refused(&key()), None);
    }

    #[tokio::test]
    async fn success_forgets_failures() {
        let (works, dirty) = (Works::default(), Dirty::default());
        works
            .begin(&key(), 1)
            .ok()
            .unwrap()
            .failed(&refusal(), &dirty);
        works.clear();
        works.begin(&key(), 1).ok().unwrap().done(false, &dirty);
        assert_eq!(works.refused(&key()), None);
        assert!(works.lock().is_empty(), "nothing is kept of what went well");
    }

    #[tokio::test]
    async fn a_quarrel_over_an_object_is_slowed_down() {
        let (works, dirty) = (Works::default(), Dirty::default());
        for _ in 0..=FREE_CORRECTIONS {
            works.begin(&key(), 1).ok().unwrap().done(true, &dirty);
        }
        assert!(matches!(
            works.begin(&key(), 1).err(),
            Some(MemberError::BackingOff { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_plan_is_asked_for_when_the_next_attempt_is_due() {
        let (works, dirty) = (Works::default(), Dirty::default());
        works
            .begin(&key(), 1)
            .ok()
            .unwrap()
            .failed(&refusal(), &dirty);
        dirty.wait().await;
        dirty.wait().await;
    }
}
