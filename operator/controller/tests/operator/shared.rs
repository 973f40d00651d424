//! One fleet for many tests, one after the other: starting one takes longer
//! than most of what is tried on it.

use crate::fleet::{Fleet, member_cluster, provider_facts};
use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

/// Held by the test that uses the fleet.
static ALONE: Mutex<()> = Mutex::new(());

static KEPT: Mutex<Kept> = Mutex::new(Kept {
    users: 0,
    fleet: None,
});

struct Kept {
    /// Tests that use the fleet or wait for it.
    users: usize,
    fleet: Option<Arc<Fleet>>,
}

fn kept() -> MutexGuard<'static, Kept> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fleet that nobody else uses meanwhile, and on which others were before.
/// For tests that cut no link, stop nothing and count nothing.
pub struct Shared {
    fleet: Arc<Fleet>,
    _use: Use,
    _alone: MutexGuard<'static, ()>,
}

/// As long as there is one, the fleet is kept.
struct Use;

impl Use {
    fn new() -> Self {
        kept().users += 1;
        Self
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut kept = kept();
        kept.users -= 1;
        // What a test has left that failed is nothing to begin with.
        if kept.users == 0 || thread::panicking() {
            kept.fleet = None;
        }
    }
}

/// The fleet of the test before, without what it left; another one when there
/// is none.
pub fn shared() -> Shared {
    let in_use = Use::new();
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = kept().fleet.clone();
    let fleet = before.unwrap_or_else(|| {
        let new = Arc::new(Fleet::start());
        kept().fleet = Some(Arc::clone(&new));
        new
    });
    let shared = Shared {
        fleet,
        _use: in_use,
        _alone: alone,
    };
    shared.clear();
    shared
}

impl Shared {
    fn clear(&self) {
        let fleet = &self.fleet;
        let declared = "evacuations,freezes,sovereigntypolicies,gamesapplications,migrations";
        fleet.hub(&["delete", declared, "-n=default", "--all", "--timeout=60s"]);
        for (cluster, provider) in [("one", "east"), ("two", "west")] {
            fleet.apply(&provider_facts(provider));
            fleet.apply(&member_cluster(cluster, provider));
            fleet.condition(&format!("membercluster/{cluster}"), "Ready", "True");
        }
        fleet.thought();
        // Told by what was there before.
        fleet.hub(&["delete", "events", "--all"]);
        for member in ["one", "two"] {
            assert_eq!(fleet.configmaps(member), "");
        }
    }
}

impl Deref for Shared {
    type Target = Fleet;

    fn deref(&self) -> &Fleet {
        &self.fleet
    }
}
