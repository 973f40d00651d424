//! What the operator knows: late, in part, and nothing after a restart.

use crate::{
    operator::Operator,
    world::{CopyTruth, Link, OBJECTS, WORKLOADS, World, time},
};
use flambeau_planner::{
    desired::Copy,
    model::{
        Application, ApplicationKey, Cluster, CopyObservation, EdgeObservation, Migration, Name,
        Reach, Snapshot,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Seconds of silence after which a member counts as unreachable.
const SILENCE: u64 = 3;

/// What is known of one member.
#[derive(Clone, Debug)]
pub struct MemberView {
    pub reach: Reach,
    /// Its objects were listed once.
    pub listed: bool,
    silent_since: Option<u64>,
    pub copies: BTreeMap<ApplicationKey, CopyView>,
    pub refused: BTreeMap<ApplicationKey, String>,
}

/// What is known of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyView {
    pub epoch: i64,
    pub generation: u64,
    pub ready: usize,
    pub endpoints: usize,
    pub going: bool,
}

impl MemberView {
    fn unknown() -> Self {
        Self {
            reach: Reach::NotObserved,
            listed: false,
            silent_since: None,
            copies: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The member answers, and its objects are known.
    pub fn known(&self) -> bool {
        self.reach == Reach::Reachable && self.listed
    }
}

/// A copy as it is at this second.
pub fn look(world: &World, cluster: &Name, key: &ApplicationKey, copy: &CopyTruth) -> CopyView {
    let (endpoints, ready) = world
        .members
        .get(cluster)
        .map_or((0, 0), |member| member.readiness(key, world.second));
    CopyView {
        epoch: copy.epoch,
        generation: copy.generation,
        ready,
        endpoints,
        going: copy.gone_at.is_some(),
    }
}

/// Brings the views of all members up to date, as far as luck allows.
pub fn observe(operator: &mut Operator, world: &mut World) {
    operator
        .views
        .retain(|cluster, _| world.clusters.contains_key(cluster));
    let clusters: Vec<Name> = world.clusters.keys().cloned().collect();
    for cluster in clusters {
        let view = operator
            .views
            .entry(cluster.clone())
            .or_insert_with(MemberView::unknown);
        let answers = world
            .members
            .get(&cluster)
            .is_some_and(|member| member.link == Link::Up);
        if answers {
            hear(view, world, &cluster);
        } else {
            miss(view, world, &cluster);
        }
    }
}

fn miss(view: &mut MemberView, world: &mut World, cluster: &Name) {
    let since = *view.silent_since.get_or_insert(world.second);
    let gone = matches!(view.reach, Reach::Unreachable { .. });
    if !gone && world.second >= since + SILENCE {
        view.reach = Reach::Unreachable { since: time(since) };
        view.listed = false;
        world
            .story
            .tell(world.second, || format!("{cluster} does not answer"));
    }
}

fn hear(view: &mut MemberView, world: &mut World, cluster: &Name) {
    if !world.sooner_or_later(world.temper.observation) {
        return;
    }
    view.silent_since = None;
    if view.reach != Reach::Reachable {
        if matches!(view.reach, Reach::Unreachable { .. }) {
            world
                .story
                .tell(world.second, || format!("{cluster} answers again"));
        }
        view.reach = Reach::Reachable;
        view.listed = false;
        return;
    }
    let Some(member) = world.members.get(cluster) else {
        return;
    };
    let all: BTreeSet<ApplicationKey> = member
        .copies
        .keys()
        .chain(view.copies.keys())
        .cloned()
        .collect();
    for key in all {
        if view.listed && !world.sooner_or_later(world.temper.observation) {
            continue;
        }
        let seen = world
            .members
            .get(cluster)
            .and_then(|member| member.copies.get(&key))
            .map(|copy| look(world, cluster, &key, copy));
        match seen {
            Some(seen) => view.copies.insert(key, seen),
            None => view.copies.remove(&key),
        };
    }
    view.listed = true;
}

/// Everything known, as the planner takes it.
pub fn snapshot(operator: &Operator, world: &World) -> Snapshot {
    Snapshot {
        providers: world.providers.clone(),
        clusters: world
            .clusters
            .iter()
            .map(|(name, cluster)| (name.clone(), Arc::new(reached(operator, name, cluster))))
            .collect(),
        policies: world.policies.clone(),
        applications: world
            .applications
            .iter()
            .map(|(key, application)| Application {
                spec: Arc::clone(&application.spec),
                deleting: application.deleting,
                record: Arc::clone(&application.record),
                copies: copies(operator, world, key),
                edge: edge(world, key),
                migrations: migrations(world, key),
            })
            .collect(),
        evacuations: BTreeMap::new(),
        freezes: BTreeMap::new(),
        settings: world.settings.clone(),
    }
}

fn reached(operator: &Operator, name: &Name, cluster: &Cluster) -> Cluster {
    Cluster {
        reach: operator
            .views
            .get(name)
            .map_or(Reach::NotObserved, |view| view.reach.clone()),
        ..cluster.clone()
    }
}

fn copies(
    operator: &Operator,
    world: &World,
    key: &ApplicationKey,
) -> BTreeMap<Name, CopyObservation> {
    operator
        .views
        .iter()
        .map(|(cluster, view)| (cluster.clone(), copy(operator, world, key, cluster, view)))
        .collect()
}

fn copy(
    operator: &Operator,
    world: &World,
    key: &ApplicationKey,
    cluster: &Name,
    view: &MemberView,
) -> CopyObservation {
    let application = world.applications.get(key);
    let invalid = application.is_none_or(|found| found.spec.invalid.is_some());
    let generation = application.map_or(0, |found| found.generation);
    let wanted = match operator
        .desired
        .get(key)
        .and_then(|desired| desired.copies.get(cluster))
    {
        Some(Copy::Present { epoch }) => Some(*epoch),
        _ => None,
    };
    let known = view.copies.get(key);
    let current = known.is_some_and(|copy| {
        !copy.going
            && copy.generation == generation
            && wanted.is_none_or(|epoch| epoch == copy.epoch)
    });
    let declared = if invalid { 0 } else { OBJECTS };
    let at_edge = world
        .edge
        .get(key)
        .and_then(|route| route.endpoints.get(cluster));
    CopyObservation {
        observed: view.listed,
        current: if current { declared } else { 0 },
        declared,
        present: if known.is_some() { OBJECTS } else { 0 },
        workloads_ready: known.map_or(0, |copy| copy.ready),
        workloads: WORKLOADS,
        endpoints: known.map_or(0, |copy| copy.endpoints),
        endpoints_at_edge: at_edge.copied().unwrap_or(0),
        refused: view.refused.get(key).cloned(),
        service: flambeau_planner::model::Service::Unknown,
    }
}

fn edge(world: &World, key: &ApplicationKey) -> EdgeObservation {
    let Some(route) = world.edge.get(key) else {
        return EdgeObservation::default();
    };
    let failing = world.second < route.errors_until;
    let stage = flambeau_planner::model::StageRequests {
        total: 100,
        failed: if failing { 10 } else { 0 },
    };
    EdgeObservation {
        problem: None,
        weights: route.written.clone(),
        acknowledged: route.acknowledged_at <= world.second,
        open_requests: route.open.clone(),
        stage_requests: route
            .effective
            .keys()
            .map(|cluster| (cluster.clone(), stage))
            .collect(),
    }
}

fn migrations(world: &World, key: &ApplicationKey) -> Vec<Migration> {
    let mut open: Vec<_> = world
        .migrations
        .iter()
        .filter(|migration| migration.application == *key && !migration.record.done())
        .collect();
    open.sort_by_key(|migration| (migration.created, migration.name.clone()));
    open.into_iter()
        .map(|migration| Migration {
            name: migration.name.clone(),
            from: migration.from.clone(),
            to: migration.to.clone(),
            move_type: migration.move_type,
            trigger: migration.trigger,
            evacuation: migration.evacuation.clone(),
            ignore_freeze: false,
            pause: migration.pause,
            abort: migration.abort,
            record: Arc::clone(&migration.record),
        })
        .collect()
}
