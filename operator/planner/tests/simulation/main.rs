//! A seeded simulation: fleet, members, edge, and an operator that may die
//! between any two writes, and whose clock is wrong. The rules that must never
//! break are checked at every decision, every write and every second.
//!
//! `SEEDS=200000` runs more seeds, `SEED=42` tells the story of one, of every
//! test whose name is given.

mod act;
mod clock;
mod decisions;
mod events;
mod fleet;
mod golden;
mod links;
mod observe;
mod operator;
#[path = "../support/oracle.rs"]
mod oracle;
mod patience;
mod random;
mod reached;
mod rules;
mod seeds;
mod settled;
mod sre;
mod story;
mod thresholds;
mod world;

use flambeau_planner::{migration, model::Cluster};
use operator::{Broken, Operator};
use seeds::Schedule;
use std::sync::Arc;
use world::World;

/// Seeds when nothing else is said.
const SEEDS: u64 = 2_000;
/// Seconds in which things happen.
const EVENTFUL: u64 = 250;
/// Seconds after which a calm world must be at rest.
const PATIENCE: u64 = 1_500;
/// Seconds during which a fleet at rest must stay so.
const REST: u64 = 25;

#[test]
fn rules_hold_whatever_happens() {
    let seeds = seeds::number("SEEDS").unwrap_or(SEEDS);
    let anything = Schedule {
        name: "seed",
        begin: fleet::world,
        live: |_, world| live(world),
    };
    if let Some(tally) = anything.hold(seeds) {
        reached::everything(&tally, seeds);
    }
}

fn live(world: &mut World) -> Result<(), Broken> {
    let mut operator = Operator::begin(world);
    let operator = &mut operator;
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
            tell_what_is_waited_for(world);
            return rest.and(Err("no rest: something is written for ever".to_owned()));
        }
    }
}

/// Whoever reads why there is no rest wants to know what is waited for.
fn tell_what_is_waited_for(world: &mut World) {
    for found in &world.migrations {
        let waits = migration::waiting_for(&found.record, found.pause);
        if let Some((reason, message)) = waits {
            let told = || format!("{} waits: {reason}: {message}", found.name);
            world.story.tell(world.second, told);
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
