//! One snapshot from the objects alone: what their status tells of members and
//! edge takes the place of observation.

use super::objects::Objects;
use crate::convert::{self, ClusterObservation};
use flambeau_crds::{GamesApplication, MemberCluster, MemberClusterStatus, SovereigntyPolicy};
use flambeau_planner::{
    Reason, migration,
    model::{
        Application, ApplicationKey, ApplicationSpec, CopyObservation, EdgeObservation,
        Migration as Move, Name, Nodes, Reach, Resources, Role, Service, Snapshot,
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::{collections::BTreeMap, sync::Arc};

/// The fleet as the objects tell it. Clusters of which no status tells anything
/// are taken as `unobserved` says.
pub fn snapshot(objects: Objects, unobserved: &Reach) -> Snapshot {
    let mut moves = moves(&objects);
    let clusters: BTreeMap<Name, _> = objects
        .clusters
        .iter()
        .map(|(name, object)| {
            let cluster = convert::cluster(object, observation(object, unobserved));
            (name.clone(), Arc::new(cluster))
        })
        .collect();
    Snapshot {
        applications: objects
            .applications
            .into_iter()
            .map(|(key, object)| {
                application(
                    object,
                    moves.remove(&key).unwrap_or_default(),
                    clusters.keys(),
                )
            })
            .collect(),
        clusters,
        providers: converted(&objects.providers, convert::provider),
        policies: converted(&binding(objects.policies), convert::policy),
        evacuations: converted(&objects.evacuations, convert::evacuation),
        freezes: converted(&objects.freezes, convert::freeze),
        ..Snapshot::default()
    }
}

/// A policy that is being deleted binds nobody any more.
fn binding(mut policies: BTreeMap<Name, SovereigntyPolicy>) -> BTreeMap<Name, SovereigntyPolicy> {
    policies.retain(|_, policy| policy.metadata.deletion_timestamp.is_none());
    policies
}

fn converted<K, T>(objects: &BTreeMap<Name, K>, convert: fn(&K) -> T) -> BTreeMap<Name, Arc<T>> {
    objects
        .iter()
        .map(|(name, object)| (name.clone(), Arc::new(convert(object))))
        .collect()
}

/// Moves of one application that are not over, the oldest first, and the
/// numbers that its moves have.
#[derive(Default)]
struct Moves {
    open: Vec<Move>,
    taken: Vec<i64>,
}

fn moves(objects: &Objects) -> BTreeMap<ApplicationKey, Moves> {
    let mut sorted: Vec<_> = objects.migrations.iter().collect();
    sorted.sort_by_key(|(key, object)| {
        let created = object.metadata.creation_timestamp.as_ref();
        (created.map(|time| time.0), *key)
    });
    let mut moves: BTreeMap<ApplicationKey, Moves> = BTreeMap::new();
    for (key, object) in sorted {
        let application = ApplicationKey {
            namespace: key.namespace.clone(),
            name: object.spec.application.as_str().into(),
        };
        let number = migration::number(&application.name, &key.name);
        let moves = moves.entry(application).or_default();
        moves.taken.extend(number);
        let record = convert::migration_record(&object.status.clone().unwrap_or_default());
        if !record.done() {
            let open = convert::open_move(&key.name, &object.spec, Arc::new(record));
            moves.open.push(open);
        }
    }
    moves
}

fn application<'a>(
    mut object: GamesApplication,
    moves: Moves,
    clusters: impl Iterator<Item = &'a Name>,
) -> Application {
    let (spec, _) = convert::application(&mut object);
    let status = object.status.unwrap_or_default();
    let mut record = convert::application_record(&status);
    record.migrations = migration::last_taken(record.migrations, moves.taken);
    let ready = condition(&status.conditions, "Ready");
    Application {
        copies: clusters
            .map(|cluster| {
                let role = record.on(cluster).map(|copy| copy.role);
                (cluster.clone(), as_recorded(role, &spec, ready))
            })
            .collect(),
        spec: Arc::new(spec),
        deleting: object.metadata.deletion_timestamp.is_some(),
        record: Arc::new(record),
        edge: EdgeObservation::default(),
        migrations: moves.open,
    }
}

fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Every recorded copy is taken to be there and ready, unless the application
/// says that the active one is not.
fn as_recorded(
    role: Option<Role>,
    spec: &ApplicationSpec,
    ready: Option<&Condition>,
) -> CopyObservation {
    let mut copy = CopyObservation {
        observed: true,
        ..CopyObservation::default()
    };
    if role.is_none_or(|role| role == Role::Retiring) {
        return copy;
    }
    copy.current = 1;
    copy.declared = 1;
    copy.present = 1;
    copy.workloads = 1;
    copy.endpoints_at_edge = Some(0);
    let fails = ready.filter(|ready| role == Some(Role::Active) && ready.status == "False");
    if fails.is_none() {
        copy.workloads_ready = 1;
        copy.endpoints = 1;
        copy.endpoints_at_edge = Some(1);
    }
    let still = Reason::ControlPlaneUnreachable.as_str();
    if role == Some(Role::Active) && ready.is_some_and(|ready| ready.reason == still) {
        copy.service = Service::Answers;
    }
    // The condition turns when the application counts as lost, which is some
    // time after its last sign of life.
    if let Some(lost) = fails.filter(|ready| ready.reason == Reason::ServiceLost.as_str()) {
        let turned = lost.last_transition_time.0;
        let since = turned.checked_sub(spec.failover.unhealthy_after);
        copy.service = Service::Silent {
            since: since.unwrap_or(turned),
        };
    }
    copy
}

/// What the status of a cluster tells of it.
fn observation(object: &MemberCluster, unobserved: &Reach) -> ClusterObservation {
    let Some(status) = &object.status else {
        return ClusterObservation {
            reach: unobserved.clone(),
            ..ClusterObservation::default()
        };
    };
    let ready = condition(&status.conditions, "Ready");
    let turned = ready.map(|ready| ready.last_transition_time.0);
    let health = status.health.as_deref();
    let count = |number: i32| usize::try_from(number).unwrap_or(0);
    ClusterObservation {
        reach: reach(status, ready, unobserved),
        services_answer: health == Some("ControlPlaneUnreachable"),
        answers_since: turned.filter(|_| ready.is_some_and(|ready| ready.status == "True")),
        returned: health == Some("Recovering"),
        in_doubt: false,
        nodes: status.nodes.map(|total| Nodes {
            total: count(total),
            ready: status.nodes_ready.map_or(0, count),
        }),
        allocatable: status.resources.as_ref().map(|resources| Resources {
            milli_cpu: u64::try_from(resources.cpu_millicores).unwrap_or(0),
            memory: u64::try_from(resources.memory_mebibytes)
                .unwrap_or(0)
                .saturating_mul(1 << 20),
        }),
        kinds: None,
        ..ClusterObservation::default()
    }
}

fn reach(status: &MemberClusterStatus, ready: Option<&Condition>, unobserved: &Reach) -> Reach {
    let message = || ready.map_or_else(String::new, |ready| ready.message.clone());
    match (status.health.as_deref(), &status.unreachable_since) {
        (_, Some(since)) => Reach::Unreachable { since: since.0 },
        (Some("Misconfigured"), _) => Reach::Misconfigured { message: message() },
        (Some("NotObserved"), _) => Reach::NotObserved,
        (Some(_), None) => Reach::Reachable,
        (None, None) => match ready {
            Some(ready) if ready.status == "True" => Reach::Reachable,
            Some(ready) if ready.reason == Reason::ClusterMisconfigured.as_str() => {
                Reach::Misconfigured { message: message() }
            }
            Some(ready) if ready.reason == Reason::ClusterNotObserved.as_str() => {
                Reach::NotObserved
            }
            Some(ready) if ready.reason == Reason::ClusterUnreachable.as_str() => {
                Reach::Unreachable {
                    since: ready.last_transition_time.0,
                }
            }
            _ => unobserved.clone(),
        },
    }
}
