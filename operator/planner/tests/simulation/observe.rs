//! What the operator knows: late, in part, and nothing after a restart.

use crate::{
    act,
    operator::Operator,
    world::{CopyTruth, HubApplication, Link, OBJECTS, WORKLOADS, World},
};
use flambeau_planner::{
    desired::Copy,
    migration,
    model::{
        Application, ApplicationKey, ApplicationRecord, Cluster, CopyObservation, EdgeObservation,
        Migration, Name, Reach, Service, Snapshot,
    },
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Seconds of silence after which a member counts as unreachable.
pub const SILENCE: u64 = 3;

/// What is known of one member.
#[derive(Clone, Debug)]
pub struct MemberView {
    pub reach: Reach,
    /// Since when it answers without interruption.
    answers_since: Option<u64>,
    /// It was unreachable before it answered.
    pub returned: bool,
    /// Its objects were listed once.
    pub listed: bool,
    silent_since: Option<u64>,
    /// The same, from the process before this one.
    restored: Option<Timestamp>,
    pub copies: BTreeMap<ApplicationKey, CopyView>,
    pub refused: BTreeMap<ApplicationKey, String>,
}

/// What is known of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyView {
    pub epoch: i64,
    pub generation: u64,
    pub floor: Option<u32>,
    pub ready: usize,
    pub endpoints: usize,
    pub going: bool,
}

/// What requests and attempts at the edge say about one copy.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// Answers.
    Answered {
        /// The last one.
        last: u64,
        /// When the silence before them began, and ended.
        silence: Option<(u64, u64)>,
    },
    /// First attempt without an answer.
    Silent(u64),
}

/// Seconds for which it is remembered that a copy was silent.
const AFTERMATH: u64 = 15;

/// Seconds for which an answer counts.
const FRESH: u64 = 8;

impl MemberView {
    fn unknown() -> Self {
        Self {
            reach: Reach::NotObserved,
            answers_since: None,
            returned: false,
            listed: false,
            silent_since: None,
            restored: None,
            copies: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Since when it does not answer, as it is told now.
    fn reach(&self, world: &World) -> Reach {
        match (&self.reach, self.restored, self.silent_since) {
            (Reach::Unreachable { .. }, None, Some(since)) => Reach::Unreachable {
                since: world.told(since),
            },
            (reach, ..) => reach.clone(),
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
        floor: copy.floor,
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
            .is_some_and(|member| member.hears(world.second));
        if answers {
            hear(view, world, &cluster);
        } else {
            miss(view, world, &cluster);
        }
    }
    probe(operator, world);
}

/// Asks every endpoint that the edge knows, as far as luck allows.
fn probe(operator: &mut Operator, world: &mut World) {
    let known: Vec<(ApplicationKey, Name)> = world
        .edge
        .iter()
        .flat_map(|(key, route)| {
            let known = route.endpoints.iter().filter(|(_, count)| **count > 0);
            known.map(|(cluster, _)| (key.clone(), cluster.clone()))
        })
        .collect();
    // What was silent stays so when its endpoints go; nothing else is known.
    operator.probes.retain(|both, probe| {
        matches!(probe, Probe::Silent(_)) && world.edge.contains_key(&both.0)
            || known.contains(both)
    });
    for both in known {
        let uncounted = world.uncounted_until.get(&both.1);
        let comes_in = uncounted.is_none_or(|until| *until <= world.second);
        if !comes_in || !world.sooner_or_later(world.temper.observation) {
            continue;
        }
        let probe = if world.answers(&both.0, &both.1) {
            operator.reached.insert(both.clone(), world.second);
            Probe::Answered {
                last: world.second,
                silence: match operator.probes.get(&both) {
                    Some(Probe::Answered { silence, .. }) => *silence,
                    Some(Probe::Silent(since)) => Some((*since, world.second)),
                    None => None,
                },
            }
        } else {
            match operator.probes.get(&both) {
                Some(silent @ Probe::Silent(_)) => *silent,
                _ => Probe::Silent(world.second),
            }
        };
        operator.probes.insert(both, probe);
    }
}

fn miss(view: &mut MemberView, world: &mut World, cluster: &Name) {
    let first = view.silent_since.is_none() && view.reach == Reach::NotObserved;
    let since = *view.silent_since.get_or_insert(world.second);
    if first {
        // What is still to come was written by a clock that was ahead.
        let stored = world.unreachable.get(cluster).copied();
        view.restored = stored.map(|since| since.min(world.now()));
    }
    let gone = matches!(view.reach, Reach::Unreachable { .. });
    let known = view.restored.is_some();
    if !gone && (known || world.second >= since + SILENCE) {
        let since = view.restored.unwrap_or_else(|| world.told(since));
        view.reach = Reach::Unreachable { since };
        view.answers_since = None;
        view.listed = false;
        world
            .story
            .tell(world.second, || format!("{cluster} does not answer"));
        let link = world.members.get(cluster).map(|member| member.link);
        if link == Some(Link::Partitioned) {
            world.count("an API server alone fell silent");
        }
    }
    if let Reach::Unreachable { since } = view.reach(world) {
        world.unreachable.insert(cluster.clone(), since);
    }
}

fn hear(view: &mut MemberView, world: &mut World, cluster: &Name) {
    if !world.sooner_or_later(world.temper.observation) {
        return;
    }
    (view.silent_since, view.restored) = (None, None);
    if view.reach != Reach::Reachable {
        if matches!(view.reach, Reach::Unreachable { .. }) {
            world
                .story
                .tell(world.second, || format!("{cluster} answers again"));
            world.count("a cluster returned");
        }
        view.reach = Reach::Reachable;
        view.returned = world.unreachable.remove(cluster).is_some();
        view.answers_since = Some(world.second);
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
            .map(|(name, cluster)| {
                let reached = reached(operator, world, name, cluster);
                (name.clone(), Arc::new(reached))
            })
            .collect(),
        policies: world.policies.clone(),
        services_since: operator.since.map(|since| world.told(since)),
        clock_since: operator
            .since
            .map(|since| world.told(since.max(world.clock.since))),
        applications: world
            .applications
            .iter()
            .map(|(key, application)| Application {
                spec: Arc::clone(&application.spec),
                deleting: application.deleting,
                record: with_names(world, key, application),
                copies: copies(operator, world, key),
                edge: edge(world, key),
                migrations: migrations(world, key),
            })
            .collect(),
        evacuations: world.evacuations.clone(),
        freezes: world.freezes.clone(),
        settings: world.settings.clone(),
    }
}

/// A name that is taken is not given again, whoever took it.
fn with_names(
    world: &World,
    key: &ApplicationKey,
    application: &HubApplication,
) -> Arc<ApplicationRecord> {
    let record = &application.record;
    let names = world.migrations.iter().map(|found| &found.name);
    let taken = names.filter_map(|name| migration::number(&key.name, name));
    let migrations = migration::last_taken(record.migrations, taken);
    if migrations == record.migrations {
        return Arc::clone(record);
    }
    Arc::new(ApplicationRecord {
        migrations,
        ..ApplicationRecord::clone(record)
    })
}

fn reached(operator: &Operator, world: &World, name: &Name, cluster: &Cluster) -> Cluster {
    let view = operator.views.get(name);
    Cluster {
        reach: view.map_or(Reach::NotObserved, |view| view.reach(world)),
        answers_since: view
            .and_then(|view| view.answers_since)
            .map(|since| world.told(since)),
        returned: view.is_some_and(|view| view.returned),
        services_answer: services_answer(operator, world, name),
        ..cluster.clone()
    }
}

/// An endpoint that the edge knows and nobody has tried yet may answer: only
/// what was tried in vain does not.
fn services_answer(operator: &Operator, world: &World, cluster: &Name) -> bool {
    world.edge.iter().any(|(key, route)| {
        let known = route.endpoints.get(cluster).is_some_and(|count| *count > 0);
        match service(operator, world, key, cluster) {
            Service::Answers | Service::AnswersAgain { .. } => true,
            Service::Unknown => known,
            Service::Silent { .. } => false,
        }
    })
}

fn service(operator: &Operator, world: &World, key: &ApplicationKey, cluster: &Name) -> Service {
    match operator.probes.get(&(key.clone(), cluster.clone())) {
        Some(Probe::Answered { last, silence }) if world.second <= last + FRESH => match silence {
            Some((since, end)) if world.second < end + AFTERMATH => Service::AnswersAgain {
                silent_since: world.told(*since),
            },
            _ => Service::Answers,
        },
        Some(Probe::Silent(since)) => Service::Silent {
            since: world.told(*since),
        },
        _ => Service::Unknown,
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
        Some(copy @ (Copy::Present { epoch } | Copy::Standby { epoch, .. })) => {
            Some((*epoch, act::floor(*copy)))
        }
        _ => None,
    };
    let known = view.copies.get(key);
    let current = known.is_some_and(|copy| {
        !copy.going
            && copy.generation == generation
            && wanted.is_none_or(|wanted| wanted == (copy.epoch, copy.floor))
    });
    let declared = if invalid { 0 } else { OBJECTS };
    let route = world.edge.get(key);
    let at_edge = route.and_then(|route| route.endpoints.get(cluster).copied());
    let requested = route
        .and_then(|route| route.written.get(cluster))
        .is_some_and(|weight| *weight > 0);
    // A process that has just begun has not asked the edge about what gets no
    // requests.
    let asked = requested || operator.since.is_none_or(|since| since < world.second);
    CopyObservation {
        observed: view.listed,
        current: if current { declared } else { 0 },
        declared,
        present: if known.is_some() { OBJECTS } else { 0 },
        workloads_ready: known.map_or(0, |copy| copy.ready),
        workloads: WORKLOADS,
        endpoints: known.map_or(0, |copy| copy.endpoints),
        endpoints_at_edge: match at_edge.unwrap_or(0) {
            0 => Some(0),
            endpoints => asked.then_some(endpoints),
        },
        refused: view.refused.get(key).cloned(),
        hidden: None,
        service: service(operator, world, key, cluster),
        reached: operator
            .reached
            .get(&(key.clone(), cluster.clone()))
            .map(|second| world.told(*second)),
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
            ignore_freeze: migration.ignore_freeze,
            pause: migration.pause,
            abort: migration.abort,
            record: Arc::clone(&migration.record),
        })
        .collect()
}
