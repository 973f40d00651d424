//! Below the thresholds nothing moves; above them, what may go serves again
//! soon.

use crate::{
    decisions, fleet, links, observe,
    operator::{Broken, Operator},
    second,
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
/// Seconds between two disturbances of the same thing, so that everybody
/// notices that it is over.
const CALM: u64 = 8;
/// Seconds from a loss until everything that may go serves elsewhere: silence,
/// late observation, late writes, slow workloads and a late edge, all in all.
const RECOVERY: u64 = 75;

/// A fleet without law, at work.
fn at_work(seed: u64, temper: Temper) -> Result<(World, Operator), Broken> {
    let mut world = fleet::world(seed, Story::told());
    world.temper = temper;
    for application in world.applications.values_mut() {
        let spec = Arc::make_mut(&mut application.spec);
        spec.failover.automatic = true;
        spec.failover.unhealthy_after = SignedDuration::from_secs(10);
        spec.failover.failback_after = None;
    }
    let mut operator = Operator::default();
    for _ in 0..40 {
        second(&mut world, &mut operator)?;
    }
    Ok((world, operator))
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
/// anybody acts upon.
fn below(seed: u64) -> Result<(), (Broken, String)> {
    let temper = Temper {
        observation: 60 + seed % 41,
        crash: if seed.is_multiple_of(3) { 10 } else { 0 },
    };
    let (mut world, mut operator) =
        at_work(seed, temper).map_err(|broken| (broken, String::new()))?;
    let before = places(&world);
    let mut rests: BTreeMap<String, u64> = BTreeMap::new();
    for _ in 0..150 {
        disturb(&mut world, &mut rests);
        let outcome = second(&mut world, &mut operator);
        let moved = !world.migrations.is_empty() || places(&world) != before;
        let outcome = outcome.and(if moved {
            Err("something moved".to_owned())
        } else {
            Ok(())
        });
        outcome.map_err(|broken| (broken, world.story.text()))?;
    }
    Ok(())
}

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
            }
        }
    }
}

#[test]
fn below_the_thresholds_nothing_moves() {
    for seed in 0..SCHEDULES {
        if let Err((broken, story)) = below(seed) {
            panic!("{story}\nschedule {seed}: {broken}");
        }
    }
}

/// The edge reaches nobody for a while. Counts applications that would have
/// left, had they been alone.
fn edge_cut_off(seed: u64) -> Result<usize, (Broken, String)> {
    let temper = Temper {
        observation: 80,
        crash: 0,
    };
    let (mut world, mut operator) =
        at_work(seed, temper).map_err(|broken| (broken, String::new()))?;
    let before = places(&world);
    let snapshot = observe::snapshot(&operator, &world);
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
                operator.die(&mut world);
            }
            world.pass_second();
            operator
                .work(&mut world)
                .map_err(|broken| (broken, world.story.text()))?;
            if !alone && (!world.migrations.is_empty() || places(&world) != before) {
                return Err(("something moved".to_owned(), world.story.text()));
            }
            if cut_off && let Some(key) = erased(&world, &before) {
                return Err((format!("{key} was erased"), world.story.text()));
            }
            let silent = long_silent(&observe::snapshot(&operator, &world), &world);
            longest = silent.max(longest);
        }
    }
    Ok(longest)
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
    let mut silent = 0;
    for seed in 0..400 {
        match edge_cut_off(seed) {
            Ok(count) => silent += count,
            Err((broken, story)) => panic!("{story}\nedge {seed}: {broken}"),
        }
    }
    assert!(silent > 400, "only {silent} applications were silent");
}

/// One cluster dies for good. Counts what was failed over.
fn loss(seed: u64) -> Result<usize, (Broken, String)> {
    let temper = Temper {
        observation: 80,
        crash: if seed.is_multiple_of(2) { 5 } else { 0 },
    };
    let (mut world, mut operator) =
        at_work(seed, temper).map_err(|broken| (broken, String::new()))?;
    world.settings.concurrent_failovers = 4;
    let names: Vec<Name> = world.clusters.keys().cloned().collect();
    let Some(lost) = world.random.pick(&names).cloned() else {
        return Ok(0);
    };
    links::set(&mut world, &lost, Link::Dead);
    for _ in 0..RECOVERY {
        let outcome = second(&mut world, &mut operator);
        outcome.map_err(|broken| (broken, world.story.text()))?;
    }
    let snapshot = observe::snapshot(&operator, &world);
    if decisions::hub_suspect(&snapshot) {
        return Ok(0);
    }
    let mut count = 0;
    for (key, application) in &world.applications {
        let Some(active) = application.record.active() else {
            continue;
        };
        if active.cluster == lost {
            let stuck = operator.told.contains_key(key);
            if !stuck {
                let what = format!("{key} is still on {lost}");
                return Err((what, world.story.text()));
            }
            continue;
        }
        count += usize::from(application.record.epoch > 1);
        let served = !application.spec.traffic || world.answers(key, &active.cluster);
        if !served {
            let what = format!("{key} does not serve on {}", active.cluster);
            return Err((what, world.story.text()));
        }
    }
    Ok(count)
}

#[test]
fn a_lost_cluster_is_left_in_time() {
    let mut failed_over = 0;
    for seed in 0..400 {
        match loss(seed) {
            Ok(count) => failed_over += count,
            Err((broken, story)) => panic!("{story}\nloss {seed}: {broken}"),
        }
    }
    assert!(failed_over > 200, "only {failed_over} failovers");
}
