//! What people ask for: evacuations, freezes, failovers, failbacks.

use crate::{
    events::{change_cluster, some_application, some_cluster},
    fleet,
    world::{HubMigration, World, time},
};
use flambeau_planner::model::{
    ApplicationKey, Evacuation, Freeze, MoveType, Name, Nodes, Resources, Trigger,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Something that an operations room does.
pub fn acts(world: &mut World) {
    match world.random.below(10) {
        0..=1 => evacuates(world),
        2..=3 => changes_its_mind(world),
        4 => freezes(world),
        5..=7 => asks_for_a_move(world),
        8 => changes_failover(world),
        _ => changes_capacity(world),
    }
}

fn evacuates(world: &mut World) {
    let Some(cluster) = some_cluster(world) else {
        return;
    };
    let provider = world
        .clusters
        .get(&cluster)
        .map(|found| found.provider.clone());
    let whole = world.random.percent(30);
    let to = if world.random.percent(40) {
        some_cluster(world).filter(|to| *to != cluster)
    } else {
        None
    };
    let name: Name = format!("leave-{cluster}-{}", world.second).into();
    let limit = world.random.between(1, 2);
    let evacuation = Evacuation {
        name: name.clone(),
        cluster: (!whole).then_some(cluster),
        provider: provider.filter(|_| whole),
        to: to.into_iter().collect(),
        max_concurrent: usize::try_from(limit)
            .ok()
            .filter(|_| world.random.percent(50)),
        reason: "maintenance".to_owned(),
        ignore_freeze: world.random.percent(20),
        ..Evacuation::default()
    };
    world
        .story
        .tell(world.second, || format!("asked for: {evacuation:?}"));
    world.evacuations.insert(name, Arc::new(evacuation));
}

fn changes_its_mind(world: &mut World) {
    let names: Vec<Name> = world.evacuations.keys().cloned().collect();
    let Some(name) = world.random.pick(&names).cloned() else {
        return;
    };
    let what = world.random.below(4);
    let asked = ["pause, or go on", "abort", "abort", "deletion"];
    let asked = asked[usize::try_from(what).unwrap_or(0)];
    world
        .story
        .tell(world.second, || format!("Evacuation {name}: {asked}"));
    match (what, world.evacuations.get_mut(&name)) {
        (0, Some(evacuation)) => {
            let evacuation = Arc::make_mut(evacuation);
            evacuation.pause = !evacuation.pause;
        }
        (1 | 2, Some(evacuation)) => Arc::make_mut(evacuation).abort = true,
        _ => {
            world.evacuations.remove(&name);
        }
    }
}

fn freezes(world: &mut World) {
    let name: Name = "ceremony".into();
    let from = world.second + world.random.below(5);
    let until = from + world.random.between(5, 40);
    let freeze = Freeze {
        name: name.clone(),
        from: time(from),
        until: time(until),
        namespaces: if world.random.percent(70) {
            BTreeSet::new()
        } else {
            BTreeSet::from(["trials".into()])
        },
        reason: "opening ceremony".to_owned(),
    };
    world.story.tell(world.second, || {
        format!("a freeze until {until}: {freeze:?}")
    });
    world.freezes.insert(name, Arc::new(freeze));
}

/// Moves of any kind, sensible or not.
fn asks_for_a_move(world: &mut World) {
    let (Some(key), Some(to)) = (some_application(world), some_cluster(world)) else {
        return;
    };
    let record = world
        .applications
        .get(&key)
        .map(|found| Arc::clone(&found.record));
    let active = record.as_ref().and_then(|record| record.active().cloned());
    let home = record.and_then(|record| record.failed_over_from.clone());
    let from = match active {
        Some(active) if world.random.percent(90) => active.cluster,
        _ => "nowhere".into(),
    };
    let move_type = match world.random.below(4) {
        0 => MoveType::Relocate,
        1 => MoveType::Failback,
        _ => MoveType::Failover,
    };
    let sensible = move_type == MoveType::Failback && world.random.percent(80);
    let to = home.filter(|_| sensible).unwrap_or(to);
    if from == to {
        return;
    }
    let name = some_name(world, &key);
    if world.migrations.iter().any(|found| found.name == name) {
        return;
    }
    world.story.tell(world.second, || {
        format!("asked for: {move_type:?} of {key} from {from} to {to}: {name}")
    });
    let created = world.second.saturating_sub(world.random.below(3));
    let ignore_freeze = world.random.percent(20);
    world.migrations.push(HubMigration {
        application: key,
        name,
        from,
        to,
        move_type,
        trigger: Trigger::Request,
        evacuation: None,
        ignore_freeze,
        pause: false,
        abort: false,
        created,
        entered: BTreeMap::new(),
        record: Arc::default(),
    });
}

/// People name their moves as they like, and sometimes as the operator does.
fn some_name(world: &mut World, key: &ApplicationKey) -> Name {
    let begun = world
        .applications
        .get(key)
        .map_or(0, |found| found.record.migrations);
    let number = match world.random.below(20) {
        0 => u64::from(u32::MAX),
        1..=2 => u64::try_from(begun).unwrap_or(0) + world.random.between(1, 3),
        _ => return format!("by-hand-{}-{}", world.second, key.name).into(),
    };
    world.count("a person gave a name that the operator would");
    format!("{}-{number}", key.name).into()
}

fn changes_failover(world: &mut World) {
    let Some(key) = some_application(world) else {
        return;
    };
    let failover = fleet::random_failover(&mut world.random);
    world
        .story
        .tell(world.second, || format!("{key}: {failover:?}"));
    if let Some(application) = world.applications.get_mut(&key) {
        Arc::make_mut(&mut application.spec).failover = failover;
    }
}

fn changes_capacity(world: &mut World) {
    let Some(name) = some_cluster(world) else {
        return;
    };
    let milli_cpu = 1000 * world.random.between(1, 6);
    let (limited, nodes) = (world.random.percent(60), world.random.percent(30));
    world.story.tell(world.second, || {
        format!(
            "{name} has {milli_cpu}m CPU ({limited}), nodes ready: {}",
            !nodes
        )
    });
    change_cluster(world, &name, |cluster| {
        cluster.capacity = limited.then_some(Resources {
            milli_cpu,
            memory: u64::MAX,
        });
        cluster.nodes = Some(Nodes {
            total: 2,
            ready: if nodes { 0 } else { 2 },
        });
    });
}
