//! Report: status of everything that is not an application or a move, from
//! plan and caches.

mod cluster;
mod operations;

use crate::{
    act::{Actor, Finalizer, Work},
    convert::{self, make_condition},
    edge::Edge,
    hub::{Hub, PolicyEntry, ProviderEntry},
    members::Members,
    world::Versions,
};
use flambeau_crds::{CloudProviderStatus, SovereigntyPolicyStatus, cluster::PendingErasure};
use flambeau_planner::{
    Plan, Reason,
    fleet::PolicyPlan,
    law::Contradiction,
    model::{Application, ApplicationKey, Name, Reach, Role, Snapshot},
    status::Truth,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::{BTreeMap, BTreeSet};

/// What is due on the hub for everything that is not an application.
pub fn facts<E: Edge>(
    hub: &Hub,
    members: &Members,
    actor: &Actor<E>,
    (snapshot, versions): (&Snapshot, &Versions),
    plan: &Plan,
    now: Timestamp,
) -> Vec<Work> {
    let mut work = Vec::new();
    let used = used_clusters(snapshot);
    let stuck = stuck_erasures(hub, snapshot);
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
                .filter(|erasure| !actor.saw_erased(&key.name, &convert::erasure_key(erasure)))
                .collect();
            pending.extend(stuck.get(&key.name).into_iter().flatten().cloned());
            pending.sort();
            pending.dedup_by(|one, other| convert::erasure_key(one) == convert::erasure_key(other));
            let observation = cluster::Observation {
                version: members.version(&key.name),
                fencing: members.fencing(&key.name),
                renewal: members.renewal(&key.name),
                applications: plan.load.get(&key.name).copied().unwrap_or(0),
                requested: plan.requested.get(&key.name).copied().unwrap_or_default(),
                in_use: used.contains(&key.name),
                pending,
            };
            work.extend(cluster::status(key, entry, snapshot, observation, now));
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
    work.extend(operations::evacuations(hub, versions, plan, now));
    work.extend(operations::freezes(hub, plan, now));
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
    truth: Truth,
    reason: Reason,
    message: String,
}

fn truth(holds: bool) -> Truth {
    if holds { Truth::True } else { Truth::False }
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
            let truth = match draft.truth {
                Truth::True => "True",
                Truth::False => "False",
                Truth::Unknown => "Unknown",
            };
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
            truth: truth(ready),
            reason,
            message: message.clone(),
        },
        Draft {
            type_: "Stalled",
            truth: truth(!ready),
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
        entry.meta.protected(),
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

/// Clusters that applications use.
fn used_clusters(snapshot: &Snapshot) -> BTreeSet<Name> {
    let applications = snapshot.applications.iter();
    let used = applications.flat_map(|application| uses(snapshot, application));
    used.cloned().collect()
}

/// Clusters on which a copy of an application is recorded, or a move of it
/// counts. What is only to be erased does not hold a cluster that does not
/// answer: whoever takes it out of the fleet takes its contents upon
/// themselves.
fn uses<'a>(
    snapshot: &'a Snapshot,
    application: &'a Application,
) -> impl Iterator<Item = &'a Name> {
    let placements = application.record.placements.iter();
    let placed = placements.filter(|placement| {
        placement.role != Role::Retiring || !unreachable(snapshot, &placement.cluster)
    });
    let moves = application.migrations.iter();
    let moving = moves.flat_map(|migration| [&migration.from, &migration.to]);
    placed.map(|placement| &placement.cluster).chain(moving)
}

/// Applications that use a cluster.
fn users(snapshot: &Snapshot, cluster: &str) -> Vec<ApplicationKey> {
    let using =
        |application: &&Application| uses(snapshot, application).any(|used| **used == *cluster);
    let using = snapshot.applications.iter().filter(using);
    using
        .map(|application| application.spec.key.clone())
        .collect()
}

/// Copies of applications that are being deleted, on clusters that do not
/// answer: the cluster remembers them, so that the application may go.
fn stuck_erasures(hub: &Hub, snapshot: &Snapshot) -> BTreeMap<Name, Vec<PendingErasure>> {
    let mut stuck: BTreeMap<Name, Vec<PendingErasure>> = BTreeMap::new();
    for application in snapshot
        .applications
        .iter()
        .filter(|application| application.deleting)
    {
        let entry = hub.applications.get(&application.spec.key);
        let kinds = entry.map_or_else(
            || application.spec.kinds.clone(),
            |entry| (*entry.kinds).clone(),
        );
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
                    kinds: kinds.iter().map(convert::kind_reference).collect(),
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
    let contradiction = planned.contradicts.first().map(contradiction);
    let problem = if entry.policy.invalid.is_some() {
        Some(in_force.clone())
    } else if let Some((Reason::PoliciesContradict, note)) = &contradiction {
        Some((false, Reason::PoliciesContradict, note.clone()))
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
    // What is to come stalls nobody yet, and is told in time to be corrected.
    let (reason, message) = problem
        .map(|(_, reason, message)| (reason, message))
        .or(contradiction)
        .unwrap_or((Reason::Settled, String::new()));
    let drafts = vec![
        Draft {
            type_: "InForce",
            truth: truth(in_force.0),
            reason: in_force.1,
            message: in_force.2,
        },
        Draft {
            type_: "Ready",
            truth: truth(!stalled),
            reason,
            message: message.clone(),
        },
        Draft {
            type_: "Stalled",
            truth: truth(stalled),
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

/// What is told of a contradiction, and what to do about it.
fn contradiction(found: &Contradiction) -> (Reason, String) {
    let Contradiction { with, field, from } = found;
    match from {
        None => (
            Reason::PoliciesContradict,
            format!(
                "together with policy {with}, spec.{field} leaves no country for what both govern: nothing can move until one of them is changed or withdrawn"
            ),
        ),
        Some(from) => (
            Reason::PoliciesWillContradict,
            format!(
                "from {from} on, together with policy {with}, spec.{field} leaves no country for what both govern: change or withdraw one of them before"
            ),
        ),
    }
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
