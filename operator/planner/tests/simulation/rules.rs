//! The rules that must never break, held against every decision, every write
//! and every second.

use crate::{
    observe::MemberView,
    operator::Broken,
    oracle::lawful,
    patience,
    world::{HubApplication, HubMigration, World},
};
use flambeau_planner::model::{
    Application, ApplicationKey, ApplicationRecord, MigrationRecord, MoveType, Name, Placement,
    Reach, Role, Service, Snapshot, Step,
};
use std::collections::{BTreeMap, BTreeSet};

/// A broken rule, and what broke it.
pub fn broken(rule: &str, what: impl std::fmt::Display) -> Result<(), Broken> {
    Err(format!("{rule}: {what}"))
}

/// What is recorded about an application stays true to epochs, to the one
/// active copy, and to what is known.
pub fn application_record<'a>(
    world: &World,
    key: &ApplicationKey,
    new: &ApplicationRecord,
    view: impl Fn(&Name) -> Option<&'a MemberView>,
) -> Result<(), Broken> {
    let Some(application) = world.applications.get(key) else {
        return Ok(());
    };
    let old = &application.record;
    let active = |record: &ApplicationRecord| {
        record
            .placements
            .iter()
            .filter(|placement| placement.role == Role::Active)
            .map(|placement| placement.cluster.clone())
            .collect::<Vec<_>>()
    };
    let (was, is) = (active(old), active(new));
    if is.len() > 1 {
        broken("one active copy", format!("{key} active on {is:?}"))?;
    }
    if !application.deleting {
        let grown = i64::from(was != is);
        if new.epoch != old.epoch + grown && !spent(world, old, key, new.epoch) {
            broken(
                "an epoch for each active cluster",
                format!(
                    "{key} from {was:?} at {} to {is:?} at {}",
                    old.epoch, new.epoch
                ),
            )?;
        }
        if is.is_empty() && !was.is_empty() {
            broken("the active copy stays", format!("{key} is active nowhere"))?;
        }
        if was != is && !was.is_empty() {
            only_a_move_changes_the_place(world, key, &is)?;
        }
    }
    one_lawful_standby(world, key, application, new)?;
    for forgotten in old
        .placements
        .iter()
        .filter(|old| new.on(&old.cluster).is_none())
        // A person took the cluster out of the fleet, and answers for it.
        .filter(|old| world.clusters.contains_key(&old.cluster))
    {
        let known = view(&forgotten.cluster)
            .is_some_and(|view| view.known() && !view.copies.contains_key(key));
        if !known {
            broken(
                "unknown is not absent",
                format!("{key} on {} is forgotten unseen", forgotten.cluster),
            )?;
        }
        let there = world
            .members
            .get(&forgotten.cluster)
            .and_then(|member| member.copies.get(key))
            .is_some_and(|copy| !copy.late);
        if there {
            broken(
                "nothing is left behind",
                format!("{key} is still on {}", forgotten.cluster),
            )?;
        }
    }
    Ok(())
}

/// Whether a move that was walked back, or whose object is gone, had an epoch:
/// it is not given again.
fn spent(world: &World, old: &ApplicationRecord, key: &ApplicationKey, epoch: i64) -> bool {
    let abandoned = world.migrations.iter().any(|found| {
        let abandoned = found.record.reached(Step::Abort);
        found.application == *key && abandoned && found.record.epoch == epoch
    });
    let target =
        |placement: &&Placement| placement.role == Role::Target && placement.epoch == epoch;
    abandoned || old.placements.iter().find(target).is_some()
}

/// A copy that is left over somewhere never becomes the active one by itself.
fn only_a_move_changes_the_place(
    world: &World,
    key: &ApplicationKey,
    is: &[Name],
) -> Result<(), Broken> {
    let moved = world.migrations.iter().any(|found| {
        let reached = |step| found.record.reached(step);
        let there = is.contains(&found.to) && reached(Step::Soak);
        let back = is.contains(&found.from) && reached(Step::Abort);
        found.application == *key && (there || back)
    });
    if moved {
        return Ok(());
    }
    broken("only a move changes the place", format!("{key} on {is:?}"))
}

fn one_lawful_standby(
    world: &World,
    key: &ApplicationKey,
    application: &HubApplication,
    new: &ApplicationRecord,
) -> Result<(), Broken> {
    let clusters: BTreeSet<&Name> = new.placements.iter().map(|one| &one.cluster).collect();
    if clusters.len() != new.placements.len() {
        broken("one copy on a cluster", format!("{key}: {new:?}"))?;
    }
    let standby = |placement: &&Placement| placement.role == Role::Standby;
    if new.placements.iter().filter(standby).count() > 1 {
        broken("one standby", format!("{key}: {new:?}"))?;
    }
    let sensitivity = application.spec.sensitivity;
    for one in new.placements.iter().filter(standby) {
        if !application.deleting && !lawful(&law(world), &one.cluster, sensitivity, world.now()) {
            broken("a standby is lawful", format!("{key} on {}", one.cluster))?;
        }
        if one.epoch > new.epoch {
            broken("a standby is no newer than the application", key)?;
        }
    }
    Ok(())
}

/// A move takes one step at a time, writes to no unlawful target, and is the
/// only one of its application that does anything.
pub fn migration_record(
    world: &World,
    key: &ApplicationKey,
    name: &Name,
    new: &MigrationRecord,
) -> Result<(), Broken> {
    let Some(migration) = world
        .migrations
        .iter()
        .find(|found| found.application == *key && found.name == *name)
    else {
        return Ok(());
    };
    let old = &migration.record;
    if old.done() {
        broken("done is done", name)?;
    }
    // Preflight brings nothing about, and may be passed as it is entered.
    let most = if old.steps.is_empty() { 2 } else { 1 };
    if new.steps.len() > old.steps.len() + most {
        broken("one step at a time", name)?;
    }
    let (Some(application), Some(step)) = (world.applications.get(key), new.step) else {
        return Ok(());
    };
    let entered = old.step != new.step;
    let forward =
        (entered && step <= Step::Shift && step >= Step::Prepare) || new.percent > old.percent;
    let sensitivity = application.spec.sensitivity;
    // Nothing but the target serves any more.
    let from = &migration.from;
    let gone = !world.answers(key, from) || world.disturbed(key, from);
    let last = old.reached(Step::Prepare) && gone;
    if forward && !last && !lawful(&law(world), &migration.to, sensitivity, world.now()) {
        broken(
            "never move to an unlawful cluster",
            format!("{name} at {step:?}"),
        )?;
    }
    if entered && step == Step::Prepare {
        begins(world, key, migration, application)?;
    }
    patience::enough(world, migration, application, new)?;
    let other = world.migrations.iter().find(|other| {
        other.application == *key
            && other.name != *name
            && other.record.reached(Step::Prepare)
            && !other.record.done()
    });
    if let Some(other) = other.filter(|_| new.reached(Step::Prepare)) {
        broken("one move at a time", format!("{name} and {}", other.name))?;
    }
    Ok(())
}

/// A planned move waits for the end of a freeze, a failback leads home.
fn begins(
    world: &World,
    key: &ApplicationKey,
    migration: &HubMigration,
    application: &HubApplication,
) -> Result<(), Broken> {
    let name = &migration.name;
    let now = world.now();
    let frozen = world.freezes.values().any(|freeze| {
        let namespaces = &freeze.namespaces;
        let concerned = namespaces.is_empty() || namespaces.contains(&key.namespace);
        concerned && freeze.from <= now && now < freeze.until
    });
    if frozen && migration.move_type != MoveType::Failover && !migration.ignore_freeze {
        broken("no planned move begins in a freeze", name)?;
    }
    let home = application.record.failed_over_from.as_ref();
    if migration.move_type == MoveType::Failback && home != Some(&migration.to) {
        broken("a failback leads home", name)?;
    }
    Ok(())
}

fn application<'a>(snapshot: &'a Snapshot, key: &ApplicationKey) -> Option<&'a Application> {
    snapshot
        .applications
        .iter()
        .find(|application| application.spec.key == *key)
}

/// A write to a member never goes back in epochs, and brings nothing to where
/// the law forbids it.
pub fn write(
    world: &World,
    snapshot: &Snapshot,
    key: &ApplicationKey,
    cluster: &Name,
    epoch: i64,
) -> Result<(), Broken> {
    let member = world.members.get(cluster);
    let highest = member.and_then(|member| member.epochs.get(key));
    if let Some(highest) = highest.filter(|highest| **highest > epoch) {
        broken(
            "lower epochs are refused",
            format!("{key} on {cluster}: {epoch} after {highest}"),
        )?;
    }
    let there = member.and_then(|member| member.copies.get(key));
    let Some(application) = application(snapshot, key) else {
        return Ok(());
    };
    if there.is_none() && !lawful(snapshot, cluster, application.spec.sensitivity, world.now()) {
        let disturbed = world.disturbed(key, cluster);
        if !disturbed {
            broken(
                "nothing new where the law forbids",
                format!("{key} on {cluster}"),
            )?;
        }
    }
    Ok(())
}

fn serves(snapshot: &Snapshot, application: &Application, cluster: &Name) -> bool {
    let reachable = snapshot
        .clusters
        .get(cluster)
        .is_some_and(|cluster| cluster.reach == Reach::Reachable);
    let serves = application.copies.get(cluster).is_some_and(|copy| {
        if application.spec.traffic {
            let silent = matches!(copy.service, Service::Silent { .. });
            copy.observed && copy.endpoints > 0 && copy.known_at_edge() && !silent
        } else {
            copy.ready()
        }
    });
    reachable && serves
}

/// A copy is erased only when requests have left it and another one serves.
pub fn erase(
    world: &World,
    snapshot: &Snapshot,
    key: &ApplicationKey,
    cluster: &Name,
) -> Result<(), Broken> {
    let Some(application) = application(snapshot, key).filter(|found| !found.deleting) else {
        return Ok(());
    };
    let Some(active) = application.record.active() else {
        return broken(
            "the active copy stays",
            format!("{key}: erased from {cluster}"),
        );
    };
    if active.cluster == *cluster {
        broken("the active copy stays", format!("{key} on {cluster}"))?;
    }
    let weight = world
        .edge
        .get(key)
        .and_then(|route| route.effective.get(cluster))
        .copied()
        .unwrap_or(0);
    if application.spec.traffic && weight > 0 {
        broken(
            "nothing is erased under load",
            format!("{key} on {cluster} has {weight} % of the requests"),
        )?;
    }
    let truly = |cluster: &Name| {
        world
            .members
            .get(cluster)
            .is_some_and(|member| member.serves(key, world.second))
    };
    let known = serves(snapshot, application, &active.cluster);
    let last_known = serves(snapshot, application, cluster) && !known;
    let served = world
        .applications
        .get(key)
        .is_some_and(|found| found.served);
    let last = served
        && truly(cluster)
        && !truly(&active.cluster)
        && !world.disturbed(key, &active.cluster);
    if last_known || last {
        broken(
            "the last serving copy is not erased",
            format!("{key} on {cluster}, active on {}", active.cluster),
        )?;
    }
    Ok(())
}

/// Requests are not sent by decision to where nothing serves, while they are
/// served elsewhere.
pub fn weights(
    world: &World,
    snapshot: &Snapshot,
    key: &ApplicationKey,
    new: &BTreeMap<Name, u8>,
) -> Result<(), Broken> {
    let (Some(application), Some(route)) = (application(snapshot, key), world.edge.get(key)) else {
        return Ok(());
    };
    if application.deleting || new.is_empty() {
        return Ok(());
    }
    if new.values().map(|weight| u32::from(*weight)).sum::<u32>() != 100 {
        broken("weights are percentages", format!("{key}: {new:?}"))?;
    }
    let old = |cluster: &Name| route.written.get(cluster).copied().unwrap_or(0);
    let lost = |cluster: &Name| {
        let cluster = snapshot.clusters.get(cluster);
        cluster.is_some_and(|cluster| {
            matches!(cluster.reach, Reach::Unreachable { .. }) && !cluster.services_answer
        })
    };
    let known = |cluster: &Name| {
        let copy = application.copies.get(cluster);
        copy.is_some_and(|copy| copy.known_at_edge()) && !lost(cluster)
    };
    let mut meant: Vec<&Name> = application
        .record
        .active()
        .map(|one| &one.cluster)
        .into_iter()
        .collect();
    let open = application.current_move();
    if let Some(open) = open.filter(|open| open.record.reached(Step::Prepare)) {
        meant.extend([&open.from, &open.to]);
    }
    for (cluster, weight) in new {
        if *weight > old(cluster) && !meant.contains(&cluster) {
            broken(
                "no request to a copy that nobody means",
                format!("{key}: {weight} % to {cluster}"),
            )?;
        }
    }
    let served = route
        .written
        .keys()
        .any(|cluster| old(cluster) > 0 && known(cluster));
    for (cluster, weight) in new {
        if served && *weight > old(cluster) && !known(cluster) {
            broken(
                "requests go where something serves",
                format!("{key}: {weight} % to {cluster}"),
            )?;
        }
    }
    Ok(())
}

/// No request fails, unless the copy failed by itself, or is lost and nobody
/// may write it again.
pub fn serving(world: &mut World) -> Result<(), Broken> {
    let mut lost = Vec::new();
    for (key, application) in &world.applications {
        let Some(route) = world.edge.get(key) else {
            continue;
        };
        if application.deleting || !application.spec.traffic || !application.served {
            continue;
        }
        let failing = route
            .effective
            .iter()
            .filter(|(cluster, weight)| **weight > 0 && !world.answers(key, cluster));
        for (cluster, weight) in failing {
            if lost_for_good(world, key, cluster) {
                lost.push(cluster.clone());
            } else if !world.disturbed(key, cluster) && !nowhere_answered(world, key, cluster) {
                let known = route.endpoints.get(cluster).unwrap_or(&0);
                let what = format!("{key}: {weight} % at {cluster}, {known} endpoints known");
                broken("no failed request", what)?;
            }
        }
    }
    for cluster in lost {
        if let Some(member) = world.members.get_mut(&cluster) {
            member.disturbed = world.second;
        }
    }
    Ok(())
}

/// A place of an application failed a short time ago, be it left since, and its
/// requests went to a copy that has not answered any yet.
fn nowhere_answered(world: &World, key: &ApplicationKey, cluster: &Name) -> bool {
    let places = world
        .applications
        .get(key)
        .map_or(&[][..], |found| &found.record.placements);
    places
        .iter()
        .any(|place| world.disturbed(key, &place.cluster))
        && !world.relied_on.contains(&(key.clone(), cluster.clone()))
}

/// A cluster came back empty, and the law forbids to write there again,
/// the member refuses, or nobody knows what to write.
fn lost_for_good(world: &World, key: &ApplicationKey, cluster: &Name) -> bool {
    let there = world
        .members
        .get(cluster)
        .is_some_and(|member| member.copies.contains_key(key));
    let unwritable = |application: &HubApplication| {
        let sensitivity = application.spec.sensitivity;
        application.spec.invalid.is_some()
            || !lawful(&law(world), cluster, sensitivity, world.now())
    };
    let refused = world.refusing.contains(&(key.clone(), cluster.clone()));
    !there && (refused || world.applications.get(key).is_some_and(unwritable))
}

/// The law as it stands on the hub.
pub fn law(world: &World) -> Snapshot {
    Snapshot {
        providers: world.providers.clone(),
        clusters: world.clusters.clone(),
        policies: world.policies.clone(),
        ..Snapshot::default()
    }
}

/// Placements in one line.
pub fn placements(record: &ApplicationRecord) -> String {
    if record.placements.is_empty() {
        return "nowhere".to_owned();
    }
    record
        .placements
        .iter()
        .map(|placement| format!("{:?} on {}", placement.role, placement.cluster))
        .collect::<Vec<_>>()
        .join(", ")
}
