//! Bringing about what the plan wants to see, late and in pieces.

use crate::{
    observe::{CopyView, look},
    operator::{Broken, Operator},
    rules,
    world::{Link, World},
};
use flambeau_planner::{
    desired::Copy,
    model::{ApplicationKey, Name, Snapshot},
};
use std::collections::BTreeSet;

/// Chance, of a hundred, that a piece of work is done in a second.
const DILIGENCE: u64 = 80;

/// True when the operator died on the way.
pub fn act(
    operator: &mut Operator,
    world: &mut World,
    snapshot: &Snapshot,
) -> Result<bool, Broken> {
    let keys: Vec<ApplicationKey> = operator.desired.keys().cloned().collect();
    for key in &keys {
        if world.random.below(10_000) < world.temper.crash {
            return Ok(true);
        }
        let Some(desired) = operator.desired.get(key).cloned() else {
            continue;
        };
        for (cluster, copy) in &desired.copies {
            if world.sooner_or_later(DILIGENCE) {
                act_on_copy(operator, world, snapshot, (key, cluster), *copy)?;
            }
        }
        act_on_edge(operator, world, snapshot, key)?;
    }
    erase_pending(operator, world);
    Ok(false)
}

fn act_on_copy(
    operator: &mut Operator,
    world: &mut World,
    snapshot: &Snapshot,
    (key, cluster): (&ApplicationKey, &Name),
    copy: Copy,
) -> Result<(), Broken> {
    let Some(view) = operator.views.get_mut(cluster).filter(|view| view.known()) else {
        return Ok(());
    };
    let seen = view.copies.get(key);
    match copy {
        Copy::Keep => {}
        Copy::Absent => {
            if seen.is_none_or(|seen| seen.going) {
                return Ok(());
            }
            rules::erase(world, snapshot, key, cluster)?;
            if world
                .members
                .get(cluster)
                .is_some_and(|member| member.hears(world.second))
            {
                world
                    .story
                    .tell(world.second, || format!("{key} is erased from {cluster}"));
                let epoch = world.applications.get(key).map(|found| found.record.epoch);
                let stale = seen.is_some_and(|seen| Some(seen.epoch) < epoch);
                if stale && view.returned {
                    world.count("a stale copy was erased from a cluster that returned");
                }
                world.erase_copy(key, cluster);
            }
        }
        Copy::Present { epoch } | Copy::Standby { epoch, .. } => {
            let floor = floor(copy);
            let generation = world
                .applications
                .get(key)
                .map_or(0, |found| found.generation);
            let current = seen.is_some_and(|seen| {
                let same = seen.epoch == epoch && seen.floor == floor;
                seen.going || (same && seen.generation == generation)
            });
            if current {
                return Ok(());
            }
            rules::write(world, snapshot, key, cluster, epoch)?;
            if world.refusing.contains(&(key.clone(), cluster.clone())) {
                let message = "exceeded quota".to_owned();
                view.refused.insert(key.clone(), message);
                return Ok(());
            }
            view.refused.remove(key);
            write(operator, world, (key, cluster), (epoch, floor));
        }
    }
    Ok(())
}

/// Replicas of a standby.
pub fn floor(copy: Copy) -> Option<u32> {
    match copy {
        Copy::Standby { replicas, .. } => Some(replicas),
        _ => None,
    }
}

fn write(
    operator: &mut Operator,
    world: &mut World,
    (key, cluster): (&ApplicationKey, &Name),
    (epoch, floor): (i64, Option<u32>),
) {
    let second = world.second;
    let Some(member) = world.members.get(cluster) else {
        return;
    };
    let (link, hears) = (member.link, member.hears(second));
    if link != Link::Dead && !hears && world.random.percent(40) {
        write_late(world, key, cluster, (epoch, floor));
    }
    if !hears {
        return;
    }
    world.story.tell(world.second, || {
        let what = floor.map_or("", |_| "as a standby ");
        format!("{key} is written {what}to {cluster}, epoch {epoch}")
    });
    world.write_copy(key, cluster, epoch, floor);
    // The answer to a write is an observation.
    let seen: Option<CopyView> = world
        .members
        .get(cluster)
        .and_then(|member| member.copies.get(key))
        .map(|copy| look(world, cluster, key, copy));
    if let (Some(view), Some(seen)) = (operator.views.get_mut(cluster), seen) {
        view.copies.insert(key.clone(), seen);
    }
}

fn write_late(
    world: &mut World,
    key: &ApplicationKey,
    cluster: &Name,
    (epoch, floor): (i64, Option<u32>),
) {
    let lands = world.second + world.random.between(1, 12);
    // What is raised before the objects are written may arrive at once.
    world.raise_epoch(key, cluster, epoch);
    world.lands_late(key, cluster, (epoch, floor), lands);
}

fn act_on_edge(
    operator: &Operator,
    world: &mut World,
    snapshot: &Snapshot,
    key: &ApplicationKey,
) -> Result<(), Broken> {
    let Some(desired) = operator.desired.get(key) else {
        return Ok(());
    };
    mirror_endpoints(operator, world, key);
    let written = world.edge.get(key).map(|route| &route.written);
    let same = written.map_or(desired.weights.is_empty(), |written| {
        *written == desired.weights
    });
    if same || !world.sooner_or_later(DILIGENCE) {
        return Ok(());
    }
    rules::weights(world, snapshot, key, &desired.weights)?;
    world.story.tell(world.second, || {
        let weights: Vec<String> = desired
            .weights
            .iter()
            .map(|(cluster, weight)| format!("{cluster} {weight} %"))
            .collect();
        format!("{key} gets its requests at: {}", weights.join(", "))
    });
    world.write_route(key, &desired.weights);
    Ok(())
}

fn mirror_endpoints(operator: &Operator, world: &mut World, key: &ApplicationKey) {
    let Some(desired) = operator.desired.get(key) else {
        return;
    };
    let clusters: BTreeSet<Name> = desired
        .copies
        .keys()
        .chain(desired.weights.keys())
        .cloned()
        .collect();
    for cluster in &clusters {
        let Some(view) = operator.views.get(cluster).filter(|view| view.known()) else {
            continue;
        };
        let endpoints = view.copies.get(key).map_or(0, |copy| copy.endpoints);
        if world.sooner_or_later(DILIGENCE) {
            let route = world.edge.entry(key.clone()).or_default();
            route.endpoints.insert(cluster.clone(), endpoints);
        }
    }
    if let Some(route) = world.edge.get_mut(key) {
        let written = route.written.clone();
        route
            .endpoints
            .retain(|cluster, _| clusters.contains(cluster) || written.contains_key(cluster));
    }
}

fn erase_pending(operator: &mut Operator, world: &mut World) {
    for (cluster, key) in world.pending_erasures.clone() {
        let Some(view) = operator.views.get(&cluster).filter(|view| view.known()) else {
            continue;
        };
        if view.copies.contains_key(&key) {
            world.erase_copy(&key, &cluster);
        } else {
            world.hub_writes += 1;
            world.pending_erasures.remove(&(cluster, key));
        }
    }
}
