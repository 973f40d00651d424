//! Below the thresholds nothing moves; above them, what may go serves again
//! soon.

use crate::{
    decisions, fleet, links, observe,
    operator::{Broken, Operator},
    second,
    seeds::{Schedule, Tally},
    story::Story,
    world::{Link, Temper, World},
};
use flambeau_planner::model::{Application, ApplicationKey, Name, Service, Snapshot};
use jiff::SignedDuration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const SCHEDULES: u64 = 1_000;
/// Fewer where every schedule leads to what is to be shown.
const FEWER: u64 = 400;
/// The clock of the operator is an hour wrong in all of them.
const HOUR: u64 = 3_600;
/// Seconds between two disturbances of the same thing, so that everybody
/// notices that it is over.
const CALM: u64 = 8;
/// Seconds from a loss until everything that may go serves elsewhere: silence,
/// late observation, late writes, slow workloads and a late edge, all in all.
const RECOVERY: u64 = 75;

/// A fleet without law, before it begins.
fn lawless(seed: u64, story: Story, temper: Temper) -> World {
    let mut world = fleet::world(seed, story);
    world.temper = temper;
    for application in world.applications.values_mut() {
        let spec = Arc::make_mut(&mut application.spec);
        spec.failover.automatic = true;
        spec.failover.unhealthy_after = SignedDuration::from_secs(10);
        spec.failover.failback_after = None;
    }
    world
}

/// An operator that has the fleet at work.
fn at_work(world: &mut World) -> Result<Operator, Broken> {
    let mut operator = Operator::begin(world);
    for _ in 0..40 {
        second(world, &mut operator)?;
    }
    Ok(operator)
}

fn moved(world: &World, before: &BTreeMap<ApplicationKey, Option<Name>>) -> bool {
    !world.migrations.is_empty() || places(world) != *before
}

fn places(world: &World) -> BTreeMap<ApplicationKey, Option<Name>> {
    let place = |key: &ApplicationKey| {
        let active = world.applications[key].record.active();
        active.map(|active| active.cluster.clone())
    };
    let keys = world.applications.keys();
    keys.map(|key| (key.clone(), place(key))).collect()
}

/// Links and services fail again and again, each for a shorter time than
/// anybody acts upon, and the clock is set now and then.
const BELOW: Schedule = Schedule {
    name: "below the thresholds",
    begin: |seed, story| {
        let temper = Temper {
            observation: 60 + seed % 41,
            crash: if seed.is_multiple_of(3) { 10 } else { 0 },
            skew: HOUR,
        };
        lawless(seed, story, temper)
    },
    live: |_, world| {
        let mut operator = at_work(world)?;
        let before = places(world);
        let mut rests: BTreeMap<String, u64> = BTreeMap::new();
        for _ in 0..150 {
            disturb(world, &mut rests);
            if world.random.percent(3) {
                world.set_clock();
            }
            second(world, &mut operator)?;
            if moved(world, &before) {
                return Err("something moved".to_owned());
            }
        }
        Ok(())
    },
};

const DISTURBED: &str = "links and services disturbed";

fn disturb(world: &mut World, rests: &mut BTreeMap<String, u64>) {
    let now = world.second;
    let members: Vec<Name> = world.clusters.keys().cloned().collect();
    let all = world.random.percent(10);
    for name in &members {
        let free = rests.get(&**name).is_none_or(|until| *until <= now);
        if free && (all || world.random.percent(15)) {
            let until = now + world.random.between(1, observe::SILENCE - 1);
            if let Some(member) = world.members.get_mut(name) {
                member.deaf_until = until;
            }
            rests.insert(name.to_string(), until + CALM);
            world.count(DISTURBED);
        }
        for key in world.applications.keys().cloned().collect::<Vec<_>>() {
            let both = format!("{key} on {name}");
            let free = rests.get(&both).is_none_or(|until| *until <= now);
            if free && world.random.percent(10) {
                let until = now + world.random.between(1, 2);
                if let Some(member) = world.members.get_mut(name) {
                    member.mute.insert(key, until);
                }
                rests.insert(both, until + CALM);
                world.count(DISTURBED);
            }
        }
    }
}

#[test]
fn below_the_thresholds_nothing_moves() {
    demand(BELOW.hold(SCHEDULES), DISTURBED, 10 * SCHEDULES);
}

/// The edge reaches nobody for a while. Counts applications that would have
/// left, had they been alone.
const EDGE_CUT_OFF: Schedule = Schedule {
    name: "the edge cut off",
    begin: |seed, story| {
        let temper = Temper {
            observation: 80,
            crash: 0,
            skew: HOUR,
        };
        lawless(seed, story, temper)
    },
    live: edge_cut_off,
};

const LONG_SILENT: &str = "silent for so long that it may leave";

fn edge_cut_off(seed: u64, world: &mut World) -> Result<(), Broken> {
    let mut operator = at_work(world)?;
    let before = places(world);
    let snapshot = observe::snapshot(&operator, world);
    let answering = |application: &Application| {
        let cluster = &application.record.active()?.cluster;
        let copy = application.copies.get(cluster)?;
        copy.service.answers().then(|| cluster.clone())
    };
    let serving: BTreeSet<Name> = snapshot.applications.iter().filter_map(answering).collect();
    // Who serves alone has no witness for the edge, and may leave.
    let alone = serving.len() < 2;
    // Silence is noticed in one cluster long before the next, and everywhere
    // before it is over.
    world.settings.hub_window = SignedDuration::from_secs(60);
    for cluster in serving {
        let until = world.second + world.random.below(18);
        world.uncounted_until.insert(cluster, until);
    }
    let mut longest = 0;
    for cut_off in [true, false] {
        world.edge_cut_off = cut_off;
        let restart = world.random.between(0, 25);
        for second in 0..world.random.between(20, 90) {
            if second == restart && cut_off && seed.is_multiple_of(3) {
                operator.die(world);
            }
            if world.random.percent(3) {
                world.set_clock();
            }
            world.pass_second();
            operator.work(world)?;
            if !alone && moved(world, &before) {
                return Err("something moved".to_owned());
            }
            if cut_off && let Some(key) = erased(world, &before) {
                return Err(format!("{key} was erased"));
            }
            let silent = long_silent(&observe::snapshot(&operator, world), world);
            longest = silent.max(longest);
        }
    }
    world.tally.add(LONG_SILENT, longest as u64);
    Ok(())
}

/// An application whose former copy is gone.
fn erased(
    world: &World,
    before: &BTreeMap<ApplicationKey, Option<Name>>,
) -> Option<ApplicationKey> {
    let gone = |(key, cluster): &(&ApplicationKey, &Option<Name>)| {
        let member = cluster.as_ref().and_then(|name| world.members.get(name));
        member.is_some_and(|member| !member.copies.contains_key(*key))
    };
    before.iter().find(gone).map(|(key, _)| key.clone())
}

/// Applications that did not answer for so long that they may leave.
fn long_silent(snapshot: &Snapshot, world: &World) -> usize {
    let silent = |application: &&Application| {
        let active = application.record.active();
        let copy = active.and_then(|active| application.copies.get(&active.cluster));
        let patience = application.spec.failover.unhealthy_after;
        copy.is_some_and(|copy| match copy.service {
            Service::Silent { since } => world.now().duration_since(since) >= patience,
            _ => false,
        })
    };
    snapshot.applications.iter().filter(silent).count()
}

#[test]
fn nothing_moves_while_the_edge_reaches_nobody() {
    let tally = EDGE_CUT_OFF.hold(FEWER);
    demand(tally, LONG_SILENT, FEWER);
}

/// One cluster dies for good. Counts what was failed over.
const LOSS: Schedule = Schedule {
    name: "a lost cluster",
    begin: |seed, story| {
        let temper = Temper {
            observation: 80,
            crash: if seed.is_multiple_of(2) { 5 } else { 0 },
            skew: HOUR,
        };
        lawless(seed, story, temper)
    },
    live: |_, world| loss(world),
};

const FAILED_OVER: &str = "failed over";

fn loss(world: &mut World) -> Result<(), Broken> {
    let mut operator = at_work(world)?;
    world.settings.concurrent_failovers = 4;
    let names: Vec<Name> = world.clusters.keys().cloned().collect();
    let Some(lost) = world.random.pick(&names).cloned() else {
        return Ok(());
    };
    links::set(world, &lost, Link::Dead);
    for _ in 0..RECOVERY {
        if world.random.percent(2) {
            world.set_clock();
        }
        second(world, &mut operator)?;
    }
    let snapshot = observe::snapshot(&operator, world);
    if decisions::hub_suspect(&snapshot) {
        return Ok(());
    }
    let mut count = 0;
    for (key, application) in &world.applications {
        let Some(active) = application.record.active() else {
            continue;
        };
        if active.cluster == lost {
            let stuck = operator.told.contains_key(key);
            if !stuck {
                return Err(format!("{key} is still on {lost}"));
            }
            continue;
        }
        count += u64::from(application.record.epoch > 1);
        let served = !application.spec.traffic || world.answers(key, &active.cluster);
        if !served {
            return Err(format!("{key} does not serve on {}", active.cluster));
        }
    }
    world.tally.add(FAILED_OVER, count);
    Ok(())
}

#[test]
fn a_lost_cluster_is_left_in_time() {
    demand(LOSS.hold(FEWER), FAILED_OVER, FEWER / 2);
}

/// What the schedules are for has to happen in them.
fn demand(tally: Option<Tally>, what: &str, least: u64) {
    if let Some(tally) = tally {
        let count = tally.of(what);
        assert!(count > least, "only {count} were {what}");
    }
}
