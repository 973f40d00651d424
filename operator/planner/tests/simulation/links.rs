//! What happens to clusters and to the links between them and the hub.

use crate::{
    events::some_cluster,
    world::{Link, World},
};
use flambeau_planner::model::Name;

/// Chance, of a hundred, that a lost member comes back in a second.
const RETURN: u64 = 4;

/// Lost members come back by chance, flapping ones in their rhythm.
pub fn come_and_go(world: &mut World) {
    let lost: Vec<Name> = world
        .members
        .iter()
        .filter(|(name, member)| member.link != Link::Up && !world.flapping.contains_key(*name))
        .map(|(name, _)| name.clone())
        .collect();
    for name in lost {
        if world.random.percent(RETURN) {
            set(world, &name, Link::Up);
        }
    }
    let due: Vec<Name> = world
        .flapping
        .iter()
        .filter(|(_, at)| **at <= world.second)
        .map(|(name, _)| name.clone())
        .collect();
    for name in due {
        let up = world
            .members
            .get(&name)
            .is_some_and(|member| member.link == Link::Up);
        set(world, &name, if up { Link::Dead } else { Link::Up });
        if world.random.percent(12) {
            world.flapping.remove(&name);
        } else {
            let next = world.second + world.random.between(2, 16);
            world.flapping.insert(name, next);
        }
    }
}

/// A cluster begins to come and go.
pub fn flap(world: &mut World) {
    if let Some(name) = some_cluster(world) {
        world.flapping.insert(name, world.second);
    }
}

/// The hub loses sight of most members, or of all, which go on serving.
pub fn cut_hub_off(world: &mut World) {
    let mut names: Vec<Name> = world.clusters.keys().cloned().collect();
    world.random.shuffle(&mut names);
    let most = world
        .random
        .between(names.len() as u64 / 2 + 1, names.len() as u64);
    let until = world.second + world.random.between(5, 40);
    world
        .story
        .tell(world.second, || format!("the hub is cut off until {until}"));
    for name in names.iter().take(usize::try_from(most).unwrap_or(1)) {
        if let Some(member) = world.members.get_mut(name) {
            member.deaf_until = until;
        }
    }
}

/// A cluster dies, or only its API server does.
pub fn change(world: &mut World, link: Link) {
    let Some(name) = some_cluster(world) else {
        return;
    };
    set(world, &name, link);
}

/// A member that comes back starts its workloads again; some come back empty.
pub fn set(world: &mut World, name: &Name, link: Link) {
    let second = world.second;
    let empty = world.random.percent(10);
    let restart = world.random.between(1, 8);
    let Some(member) = world.members.get_mut(name) else {
        return;
    };
    if member.link == link {
        return;
    }
    if member.link == Link::Dead {
        for copy in member.copies.values_mut() {
            copy.flapping_until = second + restart;
        }
        if empty {
            member.copies.clear();
        }
        member.disturbed = second + restart;
    }
    member.link = link;
    world.story.tell(second, || format!("{name} is {link:?}"));
}
