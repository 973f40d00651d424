//! A seeded simulation: fleet, members, edge, and an operator that may die
//! between any two writes. The rules that must never break are checked at
//! every decision, every write and every second.
//!
//! `SEEDS=200000` runs more seeds, `SEED=42` tells the story of one.

mod act;
mod decisions;
mod events;
mod fleet;
mod golden;
mod links;
mod observe;
mod operator;
#[path = "../support/oracle.rs"]
mod oracle;
mod random;
mod rules;
mod settled;
mod sre;
mod story;
mod thresholds;
mod world;

use flambeau_planner::model::Cluster;
use operator::{Broken, Operator};
use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};
use story::Story;
use world::World;

/// Seeds when nothing else is said.
const SEEDS: u64 = 2_000;
/// Seconds in which things happen.
const EVENTFUL: u64 = 250;
/// Seconds after which a calm world must be at rest.
const PATIENCE: u64 = 1_500;
/// Seconds during which a fleet at rest must stay so.
const REST: u64 = 25;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

#[test]
fn rules_hold_whatever_happens() {
    if let Some(seed) = number("SEED") {
        let (outcome, world) = run(seed, Story::told());
        println!("{}", world.story.text());
        assert_eq!(outcome, Ok(()), "seed {seed}");
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failure = Mutex::new(None);
    let tally = Mutex::new(BTreeMap::new());
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds {
                        return;
                    }
                    let (outcome, world) = run(seed, Story::quiet());
                    if let Ok(mut tally) = tally.lock() {
                        for (word, count) in world.tally {
                            *tally.entry(word).or_insert(0) += count;
                        }
                    }
                    if let Err(broken) = outcome {
                        next.store(seeds, Ordering::Relaxed);
                        if let Ok(mut failure) = failure.lock() {
                            failure.get_or_insert((seed, broken));
                        }
                    }
                }
            });
        }
    });
    let tally: BTreeMap<String, u64> = tally.into_inner().unwrap_or_default();
    for (word, count) in &tally {
        println!("{count:>8}  {word}");
    }
    let failure = failure.into_inner().unwrap_or_default();
    if let Some((seed, broken)) = failure {
        let story = run(seed, Story::told()).1.story.text();
        panic!("{story}\nseed {seed} broke a rule: {broken}\nreplay with SEED={seed}");
    }
}

fn run(seed: u64, story: Story) -> (Result<(), Broken>, World) {
    let mut world = fleet::world(seed, story);
    let mut operator = Operator::default();
    let outcome = live(&mut world, &mut operator);
    if let Err(broken) = &outcome {
        world
            .story
            .tell(world.second, || format!("BROKEN: {broken}"));
    }
    (outcome, world)
}

fn live(world: &mut World, operator: &mut Operator) -> Result<(), Broken> {
    let all: Vec<Arc<Cluster>> = world.clusters.values().cloned().collect();
    for _ in 0..EVENTFUL {
        events::chance(world, operator);
        events::release_clusters(world);
        second(world, operator)?;
    }
    events::calm(world, &all);
    come_to_rest(world, operator)?;
    if world
        .migrations
        .iter()
        .any(|migration| !migration.record.done())
    {
        // A move that waits for people says so anew after a restart.
        return Ok(());
    }
    world.story.tell(world.second, || {
        "at rest; the operator starts again".to_owned()
    });
    operator.die(world);
    stay_at_rest(
        world,
        operator,
        "a restart with nothing changed writes nothing",
    )
}

fn second(world: &mut World, operator: &mut Operator) -> Result<(), Broken> {
    world.pass_second();
    operator.work(world)?;
    rules::serving(world)
}

fn come_to_rest(world: &mut World, operator: &mut Operator) -> Result<(), Broken> {
    let deadline = world.second + PATIENCE;
    let mut calm_since = world.second;
    let mut written = (world.hub_writes, world.member_writes);
    loop {
        second(world, operator)?;
        let writes = (world.hub_writes, world.member_writes);
        let rest = settled::unrest(operator, world);
        if writes != written || rest.is_err() {
            written = writes;
            calm_since = world.second;
        }
        if world.second >= calm_since + REST {
            return Ok(());
        }
        if world.second > deadline {
            return rest.and(Err("no rest: something is written for ever".to_owned()));
        }
    }
}

fn stay_at_rest(world: &mut World, operator: &mut Operator, rule: &str) -> Result<(), Broken> {
    let written = (world.hub_writes, world.member_writes);
    for _ in 0..REST {
        second(world, operator)?;
        if (world.hub_writes, world.member_writes) != written {
            return Err(rule.to_owned());
        }
    }
    Ok(())
}
