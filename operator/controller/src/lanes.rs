//! What may run at the same time: one piece of work a lane.
//!
//! The record of an application, its copy on each cluster and its edge are
//! lanes of their own, so that a member that hangs holds up nothing but
//! itself. A lane that failed rests for a while, twice as long each time.

use flambeau_planner::model::{ApplicationKey, Name};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

const FIRST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A piece of work that must not run twice at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Finalizer and status of a GamesApplication, and creation of its moves.
    Application(ApplicationKey),
    /// Status of a Migration.
    Migration(ApplicationKey),
    /// The copy of an application on a cluster.
    Copy(ApplicationKey, Name),
    /// The edge of an application.
    Edge(ApplicationKey),
    /// Status and finalizer of a CloudProvider.
    Provider(Name),
    /// Status and finalizer of a MemberCluster.
    Cluster(Name),
    /// Status of a SovereigntyPolicy.
    Policy(Name),
    /// Status of an Evacuation.
    Evacuation(Name),
    /// Status of a Freeze.
    Freeze(Name),
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    failures: u32,
    rests_until: Option<Instant>,
}

/// All lanes that are busy or rest.
#[derive(Clone, Debug, Default)]
pub struct Lanes(Arc<Mutex<HashMap<Lane, State>>>);

/// A lane held until the work in it is over.
#[derive(Debug)]
pub struct Held {
    lane: Lane,
    lanes: Lanes,
    succeeded: bool,
}

impl Lanes {
    /// Takes a lane, unless work runs in it or it rests.
    pub fn take(&self, lane: Lane) -> Option<Held> {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = lanes.entry(lane.clone()).or_default();
        if state.running
            || state
                .rests_until
                .is_some_and(|until| until > Instant::now())
        {
            return None;
        }
        state.running = true;
        Some(Held {
            lane,
            lanes: self.clone(),
            succeeded: false,
        })
    }

    /// Whether work runs in a lane right now.
    pub fn busy(&self, lane: &Lane) -> bool {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.get(lane).is_some_and(|state| state.running)
    }

    /// Forgets lanes that had rested by a time and were not taken since:
    /// nothing is due in them any more, so nobody has to wake up for them.
    pub fn forget_rested(&self, by: Instant) {
        let mut lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|_, state| state.running || state.rests_until.is_some_and(|until| until > by));
    }

    /// When the next lane has rested.
    pub fn next_rested(&self) -> Option<Instant> {
        let lanes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes
            .values()
            .filter(|state| !state.running)
            .filter_map(|state| state.rests_until)
            .min()
    }
}

impl Held {
    /// The work was done: the lane is free at once.
    pub fn succeed(mut self) {
        self.succeeded = true;
    }

    /// The work was done, and doing it again at once would find the world
    /// unchanged: the lane rests for a while.
    pub fn pause(self, pause: Duration) {
        let (lane, lanes) = (self.lane.clone(), self.lanes.clone());
        self.succeed();
        let mut lanes = lanes.0.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.entry(lane).or_default().rests_until = Some(Instant::now() + pause);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut lanes = self.lanes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if self.succeeded {
            lanes.remove(&self.lane);
            return;
        }
        if let Some(state) = lanes.get_mut(&self.lane) {
            state.running = false;
            state.failures = state.failures.saturating_add(1);
            let factor = 1_u32 << state.failures.saturating_sub(1).min(10);
            state.rests_until = Some(Instant::now() + (FIRST_REST * factor).min(LONGEST_REST));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> Lane {
        Lane::Policy("law".into())
    }

    #[test]
    fn one_piece_of_work_at_a_time() {
        let lanes = Lanes::default();
        let held = lanes.take(lane()).expect("the lane is free");
        assert!(lanes.take(lane()).is_none());
        held.succeed();
        assert!(lanes.take(lane()).is_some());
    }

    #[test]
    fn nobody_wakes_up_for_a_lane_in_which_nothing_is_due_any_more() {
        let lanes = Lanes::default();
        drop(lanes.take(lane()));
        let rested = lanes.next_rested().expect("it rests");
        lanes.forget_rested(Instant::now());
        assert_eq!(lanes.next_rested(), Some(rested), "it still rests");
        lanes.forget_rested(rested);
        assert_eq!(lanes.next_rested(), None);
    }

    #[test]
    fn a_paused_lane_rests_once_without_having_failed() {
        let lanes = Lanes::default();
        let held = lanes.take(lane()).expect("the lane is free");
        assert!(lanes.busy(&lane()));
        held.pause(Duration::from_secs(60));
        assert!(!lanes.busy(&lane()));
        assert!(lanes.take(lane()).is_none());
    }

    #[test]
    fn a_failed_lane_rests_and_says_until_when() {
        let lanes = Lanes::default();
        drop(lanes.take(lane()));
        assert!(lanes.take(lane()).is_none());
        assert!(
            lanes
                .next_rested()
                .is_some_and(|until| until > Instant::now())
        );
    }
}
