//! What happens to the fleet from outside.

use crate::{
    fleet, links,
    operator::Operator,
    sre,
    world::{Link, World, time},
};
use flambeau_planner::model::{ApplicationKey, ApplicationSpec, Cluster, Name, Sensitivity};
use jiff::Timestamp;
use std::sync::Arc;

/// Chance, of a hundred, that something happens in a second.
const EVENTFUL: u64 = 12;

/// Perhaps something happens.
pub fn chance(world: &mut World, operator: &mut Operator) {
    links::come_and_go(world);
    if !world.random.percent(EVENTFUL) {
        return;
    }
    match world.random.below(30) {
        0..=2 => policy_applied(world),
        3..=4 => policy_withdrawn(world),
        5 => provider_changes(world),
        6 => cordon(world),
        7 => links::change(world, Link::Dead),
        8 => links::change(world, Link::Partitioned),
        9..=11 => policy_applied(world),
        12 => fleet::add_application(world),
        13 => application_changes(world),
        14 => application_deleted(world),
        15 => migration_asked(world, true),
        16 => migration_asked(world, false),
        17 => migration_deleted(world),
        18..=19 => copy_troubled(world),
        20 => cluster_leaves(world),
        21 => links::flap(world),
        22 => links::cut_hub_off(world),
        23..=26 => sre::acts(world),
        27 => world.set_clock(),
        _ => operator.die(world),
    }
}

pub fn some_cluster(world: &mut World) -> Option<Name> {
    let names: Vec<Name> = world.clusters.keys().cloned().collect();
    world.random.pick(&names).cloned()
}

pub fn some_application(world: &mut World) -> Option<ApplicationKey> {
    let keys: Vec<ApplicationKey> = world.applications.keys().cloned().collect();
    world.random.pick(&keys).cloned()
}

fn policy_applied(world: &mut World) {
    let name = world
        .random
        .pick(&["export", "privacy", "security"])
        .copied()
        .unwrap_or("export");
    let policy = fleet::random_policy(world, name);
    world.story.tell(world.second, || {
        format!("policy {name} is applied: {policy:?}")
    });
    world.policies.insert(name.into(), Arc::new(policy));
}

fn policy_withdrawn(world: &mut World) {
    let names: Vec<Name> = world.policies.keys().cloned().collect();
    if let Some(name) = world.random.pick(&names) {
        world
            .story
            .tell(world.second, || format!("policy {name} is withdrawn"));
        world.policies.remove(name);
    }
}

fn provider_changes(world: &mut World) {
    let Some(cluster) = some_cluster(world) else {
        return;
    };
    let provider = fleet::random_provider(world, &cluster);
    world
        .story
        .tell(world.second, || format!("facts change: {provider:?}"));
    world
        .providers
        .insert(provider.name.clone(), Arc::new(provider));
}

pub fn change_cluster(world: &mut World, name: &Name, change: impl FnOnce(&mut Cluster)) {
    if let Some(cluster) = world.clusters.get_mut(name) {
        change(Arc::make_mut(cluster));
    }
}

fn cordon(world: &mut World) {
    if let Some(name) = some_cluster(world) {
        world.story.tell(world.second, || {
            format!("{name} is cordoned, or not any more")
        });
        change_cluster(world, &name, |cluster| cluster.cordoned = !cluster.cordoned);
    }
}

fn change_spec(world: &mut World, key: &ApplicationKey, change: impl FnOnce(&mut ApplicationSpec)) {
    if let Some(application) = world.applications.get_mut(key) {
        change(Arc::make_mut(&mut application.spec));
        application.generation += 1;
    }
}

fn application_changes(world: &mut World) {
    let Some(key) = some_application(world) else {
        return;
    };
    let what = world.random.below(3);
    let sensitivity = world.random.pick(&Sensitivity::ALL).copied();
    world
        .story
        .tell(world.second, || format!("{key} changes ({what})"));
    change_spec(world, &key, |spec| match what {
        0 => {
            spec.invalid = spec
                .invalid
                .is_none()
                .then(|| "a cluster-scoped object".to_owned())
        }
        1 => spec.sensitivity = sensitivity.unwrap_or(spec.sensitivity),
        _ => {}
    });
}

fn application_deleted(world: &mut World) {
    if let Some(key) = some_application(world)
        && let Some(application) = world.applications.get_mut(&key)
    {
        application.deleting = true;
        world
            .story
            .tell(world.second, || format!("{key} is deleted"));
    }
}

fn open_migrations(world: &World) -> Vec<usize> {
    (0..world.migrations.len())
        .filter(|&index| !world.migrations[index].record.done())
        .collect()
}

fn migration_asked(world: &mut World, abort: bool) {
    let open = open_migrations(world);
    let Some(&index) = world.random.pick(&open) else {
        return;
    };
    let migration = &mut world.migrations[index];
    if abort {
        migration.abort = true;
    } else {
        migration.pause = !migration.pause;
    }
    let name = migration.name.clone();
    let asked = if abort { "abort" } else { "pause, or go on" };
    world
        .story
        .tell(world.second, || format!("{name} is asked to {asked}"));
}

fn migration_deleted(world: &mut World) {
    let any = open_migrations(world);
    if let Some(&index) = world.random.pick(&any) {
        let gone = world.migrations.remove(index);
        world
            .story
            .tell(world.second, || format!("{} is deleted by hand", gone.name));
    }
}

fn copy_troubled(world: &mut World) {
    let (Some(key), Some(cluster)) = (some_application(world), some_cluster(world)) else {
        return;
    };
    let second = world.second;
    match world.random.below(6) {
        0 => {
            world.stuck.insert((key, cluster));
        }
        1 => {
            world.refusing.insert((key, cluster));
        }
        2 => {
            if let Some(route) = world.edge.get_mut(&key) {
                route.errors_until = second + 8;
            }
        }
        3..=4 => {
            let until = second + world.random.between(1, 40);
            world.story.tell(second, || {
                format!("{key} on {cluster} answers nobody until {until}")
            });
            if let Some(member) = world.members.get_mut(&cluster) {
                member.mute.insert(key, until);
            }
        }
        _ => {
            let until = second + world.random.between(1, 10);
            world.story.tell(second, || {
                format!("{key} on {cluster} is not ready any more")
            });
            if let Some(copy) = world
                .members
                .get_mut(&cluster)
                .and_then(|member| member.copies.get_mut(&key))
            {
                copy.flapping_until = until;
            }
        }
    }
}

/// Somebody removes a cluster from the fleet; it goes when nothing uses it.
fn cluster_leaves(world: &mut World) {
    if let Some(name) = some_cluster(world).filter(|_| world.clusters.len() > 3) {
        world
            .story
            .tell(world.second, || format!("{name} is being removed"));
        change_cluster(world, &name, |cluster| cluster.deleting = true);
    }
}

/// A cluster that is being removed goes as soon as no record speaks of it;
/// now and then somebody strips its finalizer.
pub fn release_clusters(world: &mut World) {
    let leaving: Vec<Name> = world
        .clusters
        .values()
        .filter(|cluster| cluster.deleting)
        .map(|cluster| cluster.name.clone())
        .collect();
    for name in leaving {
        let used = world
            .applications
            .values()
            .any(|application| application.record.on(&name).is_some())
            || world
                .pending_erasures
                .iter()
                .any(|(cluster, _)| *cluster == name)
            || world
                .migrations
                .iter()
                .any(|found| !found.record.done() && (found.to == name || found.from == name));
        if !used || world.random.below(500) == 0 {
            world.story.tell(world.second, || {
                format!("{name} is removed, in use: {used}")
            });
            world.clusters.remove(&name);
            if used {
                blame_who_took_it(world, &name);
                world.taken_with_copies.insert(name);
            }
        }
    }
}

/// The copy that was taken out with its cluster may be the only one that
/// answered: for a while, failures at the other places of its application are
/// not held against anybody else.
fn blame_who_took_it(world: &mut World, cluster: &Name) {
    let applications = world.applications.values();
    let others: Vec<Name> = applications
        .filter(|application| application.record.on(cluster).is_some())
        .flat_map(|application| &application.record.placements)
        .map(|placement| placement.cluster.clone())
        .collect();
    for other in others {
        if let Some(member) = world.members.get_mut(&other) {
            member.disturbed = world.second;
        }
    }
}

/// From now on nothing more happens; what can be mended is.
pub fn calm(world: &mut World, all_clusters: &[Arc<Cluster>]) {
    world
        .story
        .tell(world.second, || "the world gets calm".to_owned());
    world.stuck.clear();
    world.refusing.clear();
    world.temper.crash = 0;
    world.temper.skew = 0;
    world.freezes.clear();
    world.flapping.clear();
    for evacuation in world.evacuations.values_mut() {
        Arc::make_mut(evacuation).pause = false;
    }
    world.temper.observation = 90;
    for cluster in all_clusters {
        world
            .clusters
            .entry(cluster.name.clone())
            .or_insert_with(|| {
                let mut joined = (**cluster).clone();
                joined.deleting = false;
                Arc::new(joined)
            });
        if world.random.percent(70) {
            links::set(world, &cluster.name, Link::Up);
        }
        if let Some(member) = world.members.get_mut(&cluster.name) {
            member.disturbed = world.second;
            member.mute.clear();
            member.deaf_until = 0;
        }
    }
    law_rests(world);
    let second = world.second;
    for member in world.members.values_mut() {
        for (lands, _, _) in &mut member.late {
            *lands = second + 5;
        }
        let late = member.late.iter_mut().map(|(_, _, copy)| copy);
        for copy in member.copies.values_mut().chain(late) {
            copy.endpoint_at = copy.endpoint_at.min(second + 5);
            copy.ready_at = copy.ready_at.min(second + 8);
            copy.flapping_until = copy.flapping_until.min(second + 8);
        }
    }
    for application in world.applications.values_mut() {
        if application.spec.invalid.is_some() {
            Arc::make_mut(&mut application.spec).invalid = None;
            application.generation += 1;
        }
    }
    for migration in &mut world.migrations {
        migration.pause = false;
    }
}

/// Nothing expires and nothing comes into force by itself any more.
fn law_rests(world: &mut World) {
    let now = time(world.second);
    for provider in world.providers.values_mut() {
        for certification in &mut Arc::make_mut(provider).certifications {
            // Whatever the clock of whoever looks.
            certification.valid_until = if certification.valid_until > now {
                Timestamp::MAX
            } else {
                Timestamp::MIN
            };
        }
    }
    for policy in world.policies.values_mut() {
        Arc::make_mut(policy).effective_from = None;
    }
}
