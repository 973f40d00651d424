//! What must be so when the world has been calm for long enough.

use crate::{
    decisions, observe,
    operator::{Broken, Operator},
    oracle::lawful,
    rules,
    world::{HubApplication, HubMigration, Link, Member, World},
};
use flambeau_planner::model::{ApplicationKey, Cluster, Name, Resources, Role, Snapshot};
use std::collections::{BTreeMap, BTreeSet};

/// Why the fleet is not at rest, if it is not.
pub fn unrest(operator: &Operator, world: &World) -> Result<(), Broken> {
    let snapshot = observe::snapshot(operator, world);
    if decisions::hub_suspect(&snapshot) {
        return Ok(());
    }
    let held: BTreeSet<&ApplicationKey> = world
        .migrations
        .iter()
        .filter(|found| !found.record.done() && waits_for_people(world, found))
        .map(|found| &found.application)
        .collect();
    for (key, application) in &world.applications {
        if held.contains(key) {
            continue;
        }
        at_home(world, &snapshot, key, application)?;
        no_leftovers(world, &snapshot, key, application)?;
        served(world, key, application)?;
    }
    if let Some(open) = world
        .migrations
        .iter()
        .find(|found| !found.record.done() && !held.contains(&found.application))
    {
        return Err(format!("{} is still under way", open.name));
    }
    evacuations_end(world, &snapshot)?;
    let cleaned = |name: &Name| up(world, name) && !world.taken_with_copies.contains(name);
    for (cluster, member) in world.members.iter().filter(|(name, _)| cleaned(name)) {
        if let Some((key, _)) = member
            .copies
            .iter()
            .find(|(key, copy)| !world.applications.contains_key(*key) && !copy.late)
        {
            return Err(format!("{key} is gone, but not from {cluster}"));
        }
    }
    Ok(())
}

/// Requests are answered on a cluster whose API server does not answer, and
/// nowhere else: the move waits until it does.
fn waits_for_people(world: &World, found: &HubMigration) -> bool {
    let link = world.members.get(&found.to).map(|member| member.link);
    link == Some(Link::Partitioned) && world.answers(&found.application, &found.to)
}

/// An evacuation goes on only as long as something is there that cannot leave.
fn evacuations_end(world: &World, snapshot: &Snapshot) -> Result<(), Broken> {
    for (name, evacuation) in world.evacuations.iter().filter(|(_, one)| !one.ended) {
        let mut clusters = snapshot.clusters.values();
        let known = clusters.any(|cluster| decisions::emptied(evacuation, cluster));
        let left = world.applications.values().any(|application| {
            let active = application.record.active();
            let cluster = active.and_then(|active| snapshot.clusters.get(&active.cluster));
            cluster.is_some_and(|cluster| decisions::emptied(evacuation, cluster))
        });
        if evacuation.abort || known && !left {
            return Err(format!("Evacuation {name} does not end"));
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

/// What others request of a cluster leaves room for an application.
fn has_room(world: &World, application: &HubApplication, cluster: &Cluster) -> bool {
    let Some(capacity) = cluster.capacity else {
        return true;
    };
    let mut free = capacity.milli_cpu;
    for other in world.applications.values() {
        let there = other.record.on(&cluster.name).is_some_and(|placement| {
            matches!(placement.role, Role::Active | Role::Target | Role::Source)
        });
        if there && other.spec.key != application.spec.key {
            let Resources { milli_cpu, .. } = other.spec.demand;
            free = free.saturating_sub(milli_cpu);
        }
    }
    application.spec.demand.milli_cpu <= free
}

fn takes(
    world: &World,
    snapshot: &Snapshot,
    application: &HubApplication,
    cluster: &Cluster,
) -> bool {
    let kinds = cluster.kinds.as_ref();
    let mut evacuations = snapshot.evacuations.values();
    up(world, &cluster.name)
        && has_room(world, application, cluster)
        && cluster.nodes.is_none_or(|nodes| nodes.ready > 0)
        && !evacuations.any(|one| decisions::emptied(one, cluster))
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
            let elsewhere: Vec<&&Name> = homes
                .iter()
                .filter(|home| ***home != active.cluster)
                .collect();
            let may = |to: &Name| {
                let link = world.members.get(&active.cluster).map(|member| member.link);
                match (snapshot.clusters.get(&active.cluster), link) {
                    // A person took it out of the fleet, and answers for it.
                    (None, _) | (_, Some(Link::Partitioned) | None) => false,
                    (_, Some(Link::Dead)) => application.spec.failover.automatic,
                    (Some(cluster), Some(Link::Up)) => {
                        !lawful(
                            snapshot,
                            &active.cluster,
                            application.spec.sensitivity,
                            world.now(),
                        ) || emptied_towards(snapshot, cluster, to)
                    }
                }
            };
            if !elsewhere.iter().any(|to| may(to)) {
                return Ok(());
            }
            Err(format!(
                "{key} is on {}, and should be on {homes:?}",
                active.cluster
            ))
        }
    }
}

/// The evacuation that empties a cluster, if any, allows to go to another.
fn emptied_towards(snapshot: &Snapshot, cluster: &Cluster, to: &Name) -> bool {
    let mut evacuations = snapshot.evacuations.values();
    evacuations
        .find(|one| !one.ended && decisions::emptied(one, cluster))
        .is_some_and(|one| one.to.is_empty() || one.to.contains(to))
}

fn no_leftovers(
    world: &World,
    snapshot: &Snapshot,
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
        let recorded = application
            .record
            .on(cluster)
            .map(|placement| placement.role);
        if recorded == Some(Role::Standby) {
            standby(world, snapshot, key, application, cluster)?;
            continue;
        }
        let recorded = recorded.is_some();
        if active != Some(cluster) && (there || recorded) {
            return Err(format!("something of {key} is left on {cluster}"));
        }
    }
    Ok(())
}

/// A standby is there because it is asked for, and not where everything
/// leaves.
fn standby(
    world: &World,
    snapshot: &Snapshot,
    key: &ApplicationKey,
    application: &HubApplication,
    cluster: &Name,
) -> Result<(), Broken> {
    let copy = world
        .members
        .get(cluster)
        .and_then(|member| member.copies.get(key));
    let emptied = snapshot.clusters.get(cluster).is_some_and(|cluster| {
        let mut evacuations = snapshot.evacuations.values();
        cluster.deleting || evacuations.any(|one| decisions::emptied(one, cluster))
    });
    let epoch = application.record.epoch;
    let asked = application.spec.failover.standby;
    if emptied
        || asked.is_none()
        || copy.is_none_or(|copy| copy.floor != asked || copy.epoch < epoch)
    {
        return Err(format!("{key} has a standby on {cluster}: {copy:?}"));
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
    let effective = world.edge.get(key).map(|route| {
        let mut effective = route.effective.clone();
        effective.retain(|_, weight| *weight > 0);
        effective
    });
    // Requests stay with a former copy that answers while the active one is
    // lost and nothing else is lawful.
    let kept = lost(world, key, &active.cluster)
        && effective.as_ref().is_some_and(|effective| {
            let recorded = |cluster: &Name| application.record.on(cluster).is_some();
            effective.keys().all(recorded)
                && effective.keys().any(|cluster| world.answers(key, cluster))
        });
    if kept {
        return Ok(());
    }
    if effective.as_ref() != Some(&weights) {
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
