//! What must be so when the world has been calm for long enough.

use crate::{
    observe,
    operator::{Broken, Operator},
    oracle::lawful,
    rules,
    world::{HubApplication, Link, Member, World},
};
use flambeau_planner::model::{ApplicationKey, Cluster, Name, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// Why the fleet is not at rest, if it is not.
pub fn unrest(operator: &Operator, world: &World) -> Result<(), Broken> {
    let snapshot = observe::snapshot(operator, world);
    if rules::hub_suspect(&snapshot) {
        return Ok(());
    }
    // A move that lost its source cannot be walked back, one that lost its
    // target cannot go on; such a move waits for people.
    let held: BTreeSet<&ApplicationKey> = world
        .migrations
        .iter()
        .filter(|found| {
            let ends = [&found.from, &found.to];
            !found.record.done() && ends.iter().any(|end| lost(world, &found.application, end))
        })
        .map(|found| &found.application)
        .collect();
    for (key, application) in &world.applications {
        if held.contains(key) {
            continue;
        }
        at_home(world, &snapshot, key, application)?;
        no_leftovers(world, key, application)?;
        served(world, key, application)?;
    }
    if let Some(open) = world
        .migrations
        .iter()
        .find(|found| !found.record.done() && !held.contains(&found.application))
    {
        return Err(format!("{} is still under way", open.name));
    }
    for (cluster, member) in world.members.iter().filter(|(name, _)| up(world, name)) {
        if let Some(key) = member
            .copies
            .keys()
            .find(|key| !world.applications.contains_key(*key))
        {
            return Err(format!("{key} is gone, but not from {cluster}"));
        }
    }
    Ok(())
}

fn up(world: &World, cluster: &str) -> bool {
    world.clusters.contains_key(cluster)
        && world
            .members
            .get(cluster)
            .is_some_and(|member| member.link == Link::Up)
}

/// The copy is on a cluster that is lost, or is lost itself.
fn lost(world: &World, key: &ApplicationKey, cluster: &Name) -> bool {
    let there = |member: &Member| member.copies.contains_key(key);
    !up(world, cluster) || !world.members.get(cluster).is_some_and(there)
}

fn takes(
    world: &World,
    snapshot: &Snapshot,
    application: &HubApplication,
    cluster: &Cluster,
) -> bool {
    let kinds = cluster.kinds.as_ref();
    up(world, &cluster.name)
        && !cluster.cordoned
        && !cluster.deleting
        && kinds.is_none_or(|kinds| application.spec.kinds.is_subset(kinds))
        && lawful(
            snapshot,
            &cluster.name,
            application.spec.sensitivity,
            world.now(),
        )
}

fn at_home(
    world: &World,
    snapshot: &Snapshot,
    key: &ApplicationKey,
    application: &HubApplication,
) -> Result<(), Broken> {
    if application.deleting {
        return Err(format!("{key} is still being deleted"));
    }
    let homes: Vec<&Name> = snapshot
        .clusters
        .values()
        .filter(|cluster| takes(world, snapshot, application, cluster))
        .map(|cluster| &cluster.name)
        .collect();
    match application.record.active() {
        None if homes.is_empty() => Ok(()),
        None => Err(format!("{key} is nowhere, and could be on {homes:?}")),
        Some(active) => {
            let sensitivity = application.spec.sensitivity;
            let stays = lawful(snapshot, &active.cluster, sensitivity, world.now())
                || homes.is_empty()
                || !up(world, &active.cluster);
            if stays {
                return Ok(());
            }
            Err(format!(
                "{key} is on {}, and should be on {homes:?}",
                active.cluster
            ))
        }
    }
}

fn no_leftovers(
    world: &World,
    key: &ApplicationKey,
    application: &HubApplication,
) -> Result<(), Broken> {
    let active = application.record.active().map(|active| &active.cluster);
    // A copy that could serve is not given up while the active one is lost.
    if active.is_some_and(|active| lost(world, key, active)) {
        return Ok(());
    }
    for (cluster, member) in world.members.iter().filter(|(name, _)| up(world, name)) {
        let there = member.copies.contains_key(key);
        let recorded = application.record.on(cluster).is_some();
        if active != Some(cluster) && (there || recorded) {
            return Err(format!("something of {key} is left on {cluster}"));
        }
    }
    Ok(())
}

fn served(world: &World, key: &ApplicationKey, application: &HubApplication) -> Result<(), Broken> {
    let Some(active) = application.record.active() else {
        return Ok(());
    };
    if !application.spec.traffic {
        return Ok(());
    }
    let weights = BTreeMap::from([(active.cluster.clone(), 100)]);
    let effective = world.edge.get(key).map(|route| &route.effective);
    if effective != Some(&weights) {
        return Err(format!(
            "{key} gets its requests at {effective:?}, not {weights:?}"
        ));
    }
    let sensitivity = application.spec.sensitivity;
    let law = rules::law(world);
    let expected =
        up(world, &active.cluster) && lawful(&law, &active.cluster, sensitivity, world.now());
    if expected && !world.answers(key, &active.cluster) {
        return Err(format!("{key} does not answer on {}", active.cluster));
    }
    Ok(())
}
