//! Report: status of providers, clusters and policies, from plan and caches.

use crate::{
    act::{Actor, Finalizer, Work},
    convert::make_condition,
    edge::Edge,
    hub::{ClusterEntry, Hub, PolicyEntry, ProviderEntry},
    members::Members,
};
use flambeau_crds::{
    CloudProviderStatus, MemberClusterStatus, SovereigntyPolicyStatus,
    cluster::{KindReference, PendingErasure},
};
use flambeau_planner::{
    Plan, Reason,
    fleet::PolicyPlan,
    model::{ApplicationKey, Cluster, Name, Reach, Role, Snapshot},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::collections::{BTreeMap, BTreeSet};

/// What is due on the hub for everything that is not an application.
pub fn facts<E: Edge>(
    hub: &Hub,
    members: &Members,
    actor: &Actor<E>,
    snapshot: &Snapshot,
    plan: &Plan,
    now: Timestamp,
) -> Vec<Work> {
    let mut work = Vec::new();
    let used = used_clusters(snapshot);
    let stuck = stuck_erasures(snapshot);
    hub.providers.read(|entries| {
        for (key, entry) in entries {
            work.extend(provider(key, entry, snapshot, now));
        }
    });
    hub.clusters.read(|entries| {
        for (key, entry) in entries {
            let before = entry
                .object
                .status
                .iter()
                .flat_map(|status| status.pending_erasures.clone());
            let mut pending: Vec<PendingErasure> = before
                .filter(|erasure| !actor.saw_erased(&key.name, &erasure_key(erasure)))
                .collect();
            pending.extend(stuck.get(&key.name).into_iter().flatten().cloned());
            pending.sort();
            pending.dedup_by(|one, other| erasure_key(one) == erasure_key(other));
            let observation = Observation {
                version: members.version(&key.name),
                applications: plan.load.get(&key.name).copied().unwrap_or(0),
                in_use: used.contains(&key.name),
                pending,
            };
            work.extend(cluster(key, entry, snapshot, observation, now));
        }
    });
    hub.policies.read(|entries| {
        for planned in &plan.policies {
            let key = ApplicationKey {
                namespace: "".into(),
                name: planned.name.clone(),
            };
            if let Some(entry) = entries.get(&key) {
                work.extend(policy(&key, entry, planned, now));
            }
        }
    });
    work
}

fn finalizer(protected: bool, deleting: bool, in_use: bool) -> Finalizer {
    match (deleting, protected) {
        (false, false) => Finalizer::Protect,
        (true, true) if !in_use => Finalizer::Release,
        _ => Finalizer::Leave,
    }
}

/// A condition without its object's past.
struct Draft<'a> {
    type_: &'a str,
    truth: bool,
    reason: Reason,
    message: String,
}

fn finish(
    drafts: Vec<Draft<'_>>,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    drafts
        .into_iter()
        .map(|draft| {
            let truth = if draft.truth { "True" } else { "False" };
            make_condition(
                before,
                draft.type_,
                truth,
                draft.reason,
                &draft.message,
                generation,
                now,
            )
        })
        .collect()
}

fn provider(
    key: &ApplicationKey,
    entry: &ProviderEntry,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Option<Work> {
    let clusters: Vec<&Name> = snapshot
        .clusters
        .values()
        .filter(|cluster| cluster.provider == key.name)
        .map(|cluster| &cluster.name)
        .collect();
    let facts = &entry.facts;
    let countries: BTreeSet<String> = facts
        .jurisdictions
        .iter()
        .map(|fact| fact.country.to_string())
        .collect();
    let jurisdictions: Vec<String> = countries.into_iter().collect();
    let mut summary = jurisdictions.join(",");
    if !facts.unknown.is_empty() {
        summary.push('?');
    }
    let (ready, reason, message) = if entry.meta.deleting {
        (
            false,
            Reason::InUse,
            format!(
                "deletion waits: {} MemberClusters name the provider",
                clusters.len()
            ),
        )
    } else if facts.unknown.is_empty() {
        (true, Reason::FactsStated, String::new())
    } else {
        (false, Reason::JurisdictionUnknown, facts.unknown.join(", "))
    };
    let before = &entry.status;
    let drafts = vec![
        Draft {
            type_: "Ready",
            truth: ready,
            reason,
            message: message.clone(),
        },
        Draft {
            type_: "Stalled",
            truth: !ready,
            reason,
            message,
        },
    ];
    let status = CloudProviderStatus {
        observed_generation: entry.meta.generation,
        jurisdictions,
        jurisdiction_summary: Some(summary),
        clusters: i32::try_from(clusters.len()).unwrap_or(i32::MAX),
        conditions: finish(drafts, &before.conditions, entry.meta.generation, now),
    };
    let finalizer = finalizer(
        entry.meta.protected,
        entry.meta.deleting,
        !clusters.is_empty(),
    );
    let status = (status != *before).then(|| Box::new(status));
    (status.is_some() || finalizer != Finalizer::Leave).then(|| Work::Provider {
        key: key.clone(),
        meta: entry.meta.clone(),
        finalizer,
        status,
    })
}

/// Clusters on which a copy is recorded, or a move counts. What is only to be
/// erased does not hold a cluster that does not answer: whoever takes it out
/// of the fleet takes its contents upon themselves.
fn used_clusters(snapshot: &Snapshot) -> BTreeSet<Name> {
    let placed = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.record.placements)
        .filter(|placement| {
            placement.role != Role::Retiring || !unreachable(snapshot, &placement.cluster)
        });
    let moving = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.migrations);
    placed
        .map(|placement| placement.cluster.clone())
        .chain(moving.flat_map(|migration| [migration.from.clone(), migration.to.clone()]))
        .collect()
}

/// Copies of applications that are being deleted, on clusters that do not
/// answer: the cluster remembers them, so that the application may go.
fn stuck_erasures(snapshot: &Snapshot) -> BTreeMap<Name, Vec<PendingErasure>> {
    let mut stuck: BTreeMap<Name, Vec<PendingErasure>> = BTreeMap::new();
    for application in snapshot
        .applications
        .iter()
        .filter(|application| application.deleting)
    {
        for placement in application
            .record
            .placements
            .iter()
            .filter(|placement| placement.role == Role::Retiring)
        {
            if !unreachable(snapshot, &placement.cluster) {
                continue;
            }
            stuck
                .entry(placement.cluster.clone())
                .or_default()
                .push(PendingErasure {
                    namespace: application.spec.key.namespace.to_string(),
                    application: application.spec.key.name.to_string(),
                    kinds: application
                        .spec
                        .kinds
                        .iter()
                        .map(|kind| KindReference {
                            api_version: kind.api_version.to_string(),
                            kind: kind.kind.to_string(),
                        })
                        .collect(),
                });
        }
    }
    stuck
}

/// Whether a cluster of the fleet is positively known not to answer.
pub fn unreachable(snapshot: &Snapshot, cluster: &str) -> bool {
    snapshot.clusters.get(cluster).is_some_and(|cluster| {
        matches!(
            cluster.reach,
            Reach::Unreachable { .. } | Reach::Misconfigured { .. }
        )
    })
}

/// What is known of a cluster beyond its object.
struct Observation {
    version: Option<String>,
    applications: usize,
    in_use: bool,
    pending: Vec<PendingErasure>,
}

fn cluster(
    key: &ApplicationKey,
    entry: &ClusterEntry,
    snapshot: &Snapshot,
    observation: Observation,
    now: Timestamp,
) -> Option<Work> {
    let before = entry.object.status.clone().unwrap_or_default();
    let observed = snapshot.clusters.get(&key.name)?;
    let finalizer = finalizer(
        entry.meta.protected,
        entry.meta.deleting,
        observation.in_use,
    );
    let pending_changed = observation.pending != before.pending_erasures;
    // A cluster that was not observed yet keeps its last report.
    if observed.reach == Reach::NotObserved && finalizer == Finalizer::Leave && !pending_changed {
        return None;
    }
    let status = MemberClusterStatus {
        observed_generation: entry.meta.generation,
        kubernetes_version: observation.version.or(before.kubernetes_version.clone()),
        unreachable_since: match &observed.reach {
            Reach::Unreachable { since } => Some(Time(*since)),
            _ => None,
        },
        applications: i32::try_from(observation.applications).unwrap_or(i32::MAX),
        conditions: finish(
            cluster_conditions(entry, observed, snapshot, observation.in_use),
            &before.conditions,
            entry.meta.generation,
            now,
        ),
        pending_erasures: observation.pending,
    };
    let status = (!same_cluster_status(&status, &before)).then(|| Box::new(status));
    (status.is_some() || finalizer != Finalizer::Leave).then(|| Work::Cluster {
        key: key.clone(),
        meta: entry.meta.clone(),
        finalizer,
        status,
    })
}

fn cluster_conditions(
    entry: &ClusterEntry,
    observed: &Cluster,
    snapshot: &Snapshot,
    in_use: bool,
) -> Vec<Draft<'static>> {
    let (ready, reason, message) = match &observed.reach {
        Reach::NotObserved => (
            false,
            Reason::ClusterNotObserved,
            "the cluster was not asked yet".to_owned(),
        ),
        Reach::Reachable => (true, Reason::ClusterReachable, String::new()),
        Reach::Unreachable { .. } => (
            false,
            Reason::ClusterUnreachable,
            "no answer comes from the API server".to_owned(),
        ),
        Reach::Misconfigured { message } => (false, Reason::ClusterMisconfigured, message.clone()),
    };
    let provider_known = snapshot.providers.contains_key(&observed.provider);
    let (stalled, stalled_reason, stalled_message) = if entry.meta.deleting && in_use {
        let note =
            "deletion waits: applications still have copies here; move them away, or delete them";
        (true, Reason::InUse, note.to_owned())
    } else if !provider_known {
        let note = format!(
            "spec.provider: no CloudProvider {} exists: create it, or name another",
            observed.provider
        );
        (true, Reason::ProviderUnknown, note)
    } else if reason == Reason::ClusterMisconfigured {
        (true, reason, message.clone())
    } else {
        (false, Reason::Settled, String::new())
    };
    vec![
        Draft {
            type_: "Ready",
            truth: ready,
            reason,
            message,
        },
        Draft {
            type_: "Reconciling",
            truth: !ready && !stalled,
            reason,
            message: String::new(),
        },
        Draft {
            type_: "Stalled",
            truth: stalled,
            reason: stalled_reason,
            message: stalled_message,
        },
    ]
}

/// `metav1.Time` keeps whole seconds: what was stored reads back shorter.
fn same_cluster_status(one: &MemberClusterStatus, other: &MemberClusterStatus) -> bool {
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

/// The application of a pending erasure.
pub fn erasure_key(erasure: &PendingErasure) -> ApplicationKey {
    ApplicationKey {
        namespace: erasure.namespace.as_str().into(),
        name: erasure.application.as_str().into(),
    }
}

fn policy(
    key: &ApplicationKey,
    entry: &PolicyEntry,
    planned: &PolicyPlan,
    now: Timestamp,
) -> Option<Work> {
    let before = &entry.status;
    let in_force = match (&entry.policy.invalid, planned.in_force) {
        (Some(invalid), _) => (false, Reason::InvalidPolicy, invalid.clone()),
        (None, true) => (true, Reason::InForce, String::new()),
        (None, false) => (
            false,
            Reason::NotYetInForce,
            "spec.effectiveFrom has not come yet".to_owned(),
        ),
    };
    let problem = if entry.policy.invalid.is_some() {
        Some(in_force.clone())
    } else if let Some((other, field)) = planned.contradicts.first() {
        let note = format!(
            "together with policy {other}, spec.{field} leaves no country for what both govern: nothing can move until one of them changes"
        );
        Some((false, Reason::PoliciesContradict, note))
    } else if planned.deadline_missed {
        let note = format!(
            "spec.completeBy has passed and {} applications still run where the policy refuses: {}",
            planned.violations.len(),
            names(&planned.violations)
        );
        Some((false, Reason::DeadlineMissed, note))
    } else {
        None
    };
    let stalled = problem.is_some();
    let (_, reason, message) = problem.unwrap_or((true, Reason::Settled, String::new()));
    let drafts = vec![
        Draft {
            type_: "InForce",
            truth: in_force.0,
            reason: in_force.1,
            message: in_force.2,
        },
        Draft {
            type_: "Ready",
            truth: !stalled,
            reason,
            message: message.clone(),
        },
        Draft {
            type_: "Stalled",
            truth: stalled,
            reason,
            message,
        },
    ];
    let status = SovereigntyPolicyStatus {
        observed_generation: entry.meta.generation,
        governed: i32::try_from(planned.governed).unwrap_or(i32::MAX),
        violations: i32::try_from(planned.violations.len()).unwrap_or(i32::MAX),
        conditions: finish(drafts, &before.conditions, entry.meta.generation, now),
    };
    (status != *before).then(|| Work::Policy {
        key: key.clone(),
        meta: entry.meta.clone(),
        status: Box::new(status),
    })
}

fn names(keys: &[ApplicationKey]) -> String {
    const SHOWN: usize = 5;
    let mut text = keys
        .iter()
        .take(SHOWN)
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if keys.len() > SHOWN {
        text.push_str(&format!(" and {} more", keys.len() - SHOWN));
    }
    text
}
