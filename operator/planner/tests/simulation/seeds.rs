//! Runs many seeds on all processors, and tells the story of one that breaks a
//! rule.

use crate::{operator::Broken, story::Story, world::World};
use std::{
    collections::BTreeMap,
    env,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// How often what happened, by a word.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// Counts.
    pub fn add(&mut self, what: &str, count: u64) {
        match self.0.get_mut(what) {
            Some(counted) => *counted += count,
            None => {
                self.0.insert(what.to_owned(), count);
            }
        }
    }

    /// How often it happened.
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }

    fn take_on(&mut self, other: Self) {
        for (what, count) in other.0 {
            self.add(&what, count);
        }
    }
}

/// A number from the environment.
pub fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// A kind of schedule: how it begins with a seed, and how it goes on.
#[derive(Clone, Copy)]
pub struct Schedule {
    /// What it is called.
    pub name: &'static str,
    pub begin: fn(u64, Story) -> World,
    pub live: fn(u64, &mut World) -> Result<(), Broken>,
}

impl Schedule {
    fn run(self, seed: u64, story: Story) -> (Result<(), Broken>, World) {
        let mut world = (self.begin)(seed, story);
        let outcome = (self.live)(seed, &mut world);
        (outcome, world)
    }

    /// Runs seeds from 0 on, and says how often what happened; nothing when
    /// `SEED` asks for the story of one instead.
    ///
    /// # Panics
    ///
    /// With the story of the first seed that is known to break a rule.
    pub fn hold(self, seeds: u64) -> Option<Tally> {
        if let Some(seed) = number("SEED") {
            let (outcome, world) = self.run(seed, Story::told());
            println!("{}", world.story.text());
            assert_eq!(outcome, Ok(()), "{} {seed}", self.name);
            return None;
        }
        let next = AtomicU64::new(0);
        let failed = AtomicU64::new(u64::MAX);
        let tally = Mutex::new(Tally::default());
        let work = || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds {
                    return;
                }
                let (outcome, world) = self.run(seed, Story::quiet());
                if outcome.is_err() {
                    failed.fetch_min(seed, Ordering::Relaxed);
                    next.store(seeds, Ordering::Relaxed);
                }
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.take_on(world.tally);
            }
        };
        let threads = thread::available_parallelism().map_or(2, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let seed = failed.into_inner();
        if seed < seeds {
            let (outcome, world) = self.run(seed, Story::told());
            let story = world.story.text();
            let broken = outcome.err().unwrap_or_default();
            let name = self.name;
            panic!("{story}\n{name} {seed} broke a rule: {broken}\nreplay with SEED={seed}");
        }
        let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (word, count) in &tally.0 {
            println!("{count:>8}  {word}");
        }
        Some(tally)
    }
}
