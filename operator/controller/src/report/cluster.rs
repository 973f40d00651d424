//! Status of clusters.

use super::{Draft, finalizer, finish, names, truth, users};
use crate::{
    act::{Finalizer, Work, tell_cluster},
    hub::ClusterEntry,
    members::{Fencing, Renewal},
};
use flambeau_crds::{
    MemberClusterStatus,
    cluster::{PendingErasure, ResourceUse},
};
use flambeau_planner::{
    Reason,
    health::{self, Health},
    model::{ApplicationKey, Cluster, Reach, Resources, Snapshot},
    status::Truth,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What is known of a cluster beyond its object and the snapshot.
pub struct Observation {
    /// Version of Kubernetes.
    pub version: Option<String>,
    /// Whether it refuses writes under an old epoch by itself.
    pub fencing: Fencing,
    /// How its token fares, if Flambeau renews it.
    pub renewal: Option<Renewal>,
    /// Applications whose active copy is there.
    pub applications: usize,
    /// What copies request there.
    pub requested: Resources,
    /// It may not go.
    pub in_use: bool,
    /// What waits to be erased there.
    pub pending: Vec<PendingErasure>,
}

/// What is due for a cluster.
pub fn status(
    key: &ApplicationKey,
    entry: &ClusterEntry,
    snapshot: &Snapshot,
    observation: Observation,
    now: Timestamp,
) -> Option<Work> {
    let before = entry.object.status.clone().unwrap_or_default();
    let observed = snapshot.clusters.get(&key.name)?;
    let finalizer = finalizer(
        entry.meta.protected(),
        entry.meta.deleting,
        observation.in_use,
    );
    let pending_changed = observation.pending != before.pending_erasures;
    // A cluster that was not observed yet keeps its last report.
    if observed.reach == Reach::NotObserved && finalizer == Finalizer::Leave && !pending_changed {
        return None;
    }
    let health = health::of(observed, now);
    let mut drafts = conditions(entry, observed, health, snapshot, observation.in_use);
    drafts.push(fenced(&observation.fencing, &before.conditions));
    let renewal = observation.renewal.as_ref();
    drafts.extend(renewal.map(|renewal| renewed(&key.name, renewal, now)));
    let generation = entry.meta.generation;
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let status = MemberClusterStatus {
        observed_generation: generation,
        kubernetes_version: observation.version.or(before.kubernetes_version.clone()),
        unreachable_since: match &observed.reach {
            Reach::Unreachable { since } => Some(Time(*since)),
            _ => None,
        },
        health: Some(health.as_str().to_owned()),
        // What is not known now was known before.
        nodes: observed
            .nodes
            .map_or(before.nodes, |nodes| Some(count(nodes.total))),
        nodes_ready: observed
            .nodes
            .map_or(before.nodes_ready, |nodes| Some(count(nodes.ready))),
        resources: resources(observed.capacity, observation.requested)
            .or_else(|| before.resources.clone()),
        applications: count(observation.applications),
        conditions: finish(drafts, &before.conditions, generation, now),
        pending_erasures: observation.pending,
    };
    let told = tell_cluster(key, &entry.meta.uid, before.health.as_deref(), health);
    let status = (!same(&status, &before)).then(|| Box::new(status));
    (status.is_some() || finalizer != Finalizer::Leave).then(|| Work::Cluster {
        key: key.clone(),
        meta: entry.meta.clone(),
        finalizer,
        happenings: told.filter(|_| status.is_some()).into_iter().collect(),
        status,
    })
}

/// What is offered and requested, as far as the offer is known.
fn resources(capacity: Option<Resources>, requested: Resources) -> Option<ResourceUse> {
    let capacity = capacity?;
    let number = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
    let mebibytes = |bytes: u64| number(bytes >> 20);
    Some(ResourceUse {
        cpu_millicores: number(capacity.milli_cpu),
        cpu_requested_millicores: number(requested.milli_cpu),
        memory_mebibytes: mebibytes(capacity.memory),
        memory_requested_mebibytes: mebibytes(requested.memory),
    })
}

fn conditions(
    entry: &ClusterEntry,
    observed: &Cluster,
    health: Health,
    snapshot: &Snapshot,
    in_use: bool,
) -> Vec<Draft<'static>> {
    let (ready, reason, message) = ready(observed, health);
    let (stalled, stalled_reason, stalled_message) =
        stalled(entry, observed, snapshot, in_use, (reason, &message));
    let (reached, reach_reason) = match &observed.reach {
        Reach::NotObserved => (Truth::Unknown, Reason::ClusterNotObserved),
        Reach::Reachable => (Truth::True, Reason::ClusterReachable),
        Reach::Unreachable { .. } => (Truth::False, Reason::ClusterUnreachable),
        Reach::Misconfigured { .. } => (Truth::False, Reason::ClusterMisconfigured),
    };
    let recovering = matches!(health, Health::Recovering { .. });
    let draft = |type_, truth, reason, message| Draft {
        type_,
        truth,
        reason,
        message,
    };
    let reconciling = truth((!ready && !stalled) || recovering);
    vec![
        draft("Ready", truth(ready), reason, message.clone()),
        draft(
            "ControlPlaneReachable",
            reached,
            reach_reason,
            String::new(),
        ),
        draft("Reconciling", reconciling, reason, String::new()),
        draft("Stalled", truth(stalled), stalled_reason, stalled_message),
    ]
}

/// Whether the token that Flambeau renews will last.
fn renewed(cluster: &str, renewal: &Renewal, now: Timestamp) -> Draft<'static> {
    let Renewal { expires, trouble } = renewal;
    let (truth, reason, message) = match trouble {
        _ if *expires <= now => (
            Truth::False,
            Reason::CredentialsExpired,
            format!(
                "the token expired at {expires}: run `kubectl flambeau join {cluster}` again, with the options that it was joined with"
            ),
        ),
        Some(trouble) => (
            Truth::False,
            Reason::CredentialsNotRenewed,
            format!("the token lasts until {expires} and could not be renewed yet: {trouble}"),
        ),
        None => (
            Truth::True,
            Reason::CredentialsValid,
            format!("the token lasts until {expires} and is renewed before"),
        ),
    };
    Draft {
        type_: "CredentialsRenewed",
        truth,
        reason,
        message,
    }
}

/// What is not known now was known before.
fn fenced(fencing: &Fencing, before: &[Condition]) -> Draft<'static> {
    let (truth, reason, message) = match fencing {
        Fencing::Installed => (Truth::True, Reason::Fenced, String::new()),
        Fencing::Unavailable { message } => {
            (Truth::False, Reason::FencingUnavailable, message.clone())
        }
        Fencing::Unknown => {
            let known = before.iter().find(|condition| condition.type_ == "Fenced");
            known.map_or_else(
                || (Truth::Unknown, Reason::ClusterNotObserved, String::new()),
                |known| {
                    let truth = match known.status.as_str() {
                        "True" => Truth::True,
                        "False" => Truth::False,
                        _ => Truth::Unknown,
                    };
                    let reason = Reason::parse(&known.reason);
                    let reason = reason.unwrap_or(Reason::ClusterNotObserved);
                    (truth, reason, known.message.clone())
                },
            )
        }
    };
    Draft {
        type_: "Fenced",
        truth,
        reason,
        message,
    }
}

fn ready(observed: &Cluster, health: Health) -> (bool, Reason, String) {
    match (&observed.reach, health) {
        (Reach::Misconfigured { message }, _) => {
            (false, Reason::ClusterMisconfigured, message.clone())
        }
        (_, Health::Recovering { until }) => (
            true,
            Reason::ClusterRecovering,
            format!("it answers again, and has to prove itself until {until:.0}"),
        ),
        (_, Health::ControlPlaneUnreachable { .. }) => (
            false,
            Reason::ControlPlaneUnreachable,
            "no answer comes from the API server, but applications there answer".to_owned(),
        ),
        (_, Health::Lost { .. }) => (
            false,
            Reason::ClusterLost,
            "no answer comes from the API server, nor from any application there".to_owned(),
        ),
        (Reach::Reachable, _) => (true, Reason::ClusterReachable, String::new()),
        _ => (
            false,
            Reason::ClusterNotObserved,
            "the cluster was not asked yet".to_owned(),
        ),
    }
}

fn stalled(
    entry: &ClusterEntry,
    observed: &Cluster,
    snapshot: &Snapshot,
    in_use: bool,
    (reason, message): (Reason, &str),
) -> (bool, Reason, String) {
    if entry.meta.deleting && in_use {
        let users = users(snapshot, &observed.name);
        let away = if health::lost(snapshot, &observed.name).is_some() {
            "fail them over (kubectl flambeau failover)"
        } else {
            "move them away (kubectl flambeau evacuate)"
        };
        let note = format!(
            "deletion waits: applications still have copies here: {}; {away}, or delete them",
            names(&users)
        );
        return (true, Reason::InUse, note);
    }
    if !snapshot.providers.contains_key(&observed.provider) {
        let note = format!(
            "spec.provider: no CloudProvider {} exists: create it, or name another",
            observed.provider
        );
        return (true, Reason::ProviderUnknown, note);
    }
    if reason == Reason::ClusterMisconfigured {
        return (true, reason, message.to_owned());
    }
    (false, Reason::Settled, String::new())
}

/// `metav1.Time` keeps whole seconds: what was stored reads back shorter.
fn same(one: &MemberClusterStatus, other: &MemberClusterStatus) -> bool {
    let second = |time: &Option<Time>| time.as_ref().map(|time| time.0.as_second());
    second(&one.unreachable_since) == second(&other.unreachable_since)
        && MemberClusterStatus {
            unreachable_since: None,
            ..one.clone()
        } == MemberClusterStatus {
            unreachable_since: None,
            ..other.clone()
        }
}
