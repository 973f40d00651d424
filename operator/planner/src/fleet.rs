//! The plan: one pass over the whole fleet.

use crate::{
    Reason, compliance,
    desired::{self, Desired},
    gates::{self, Context},
    law::{Judgement, LawBook},
    migration,
    model::{Application, ApplicationKey, ApplicationRecord, MigrationRecord, Name, Snapshot},
    placement::{self, Candidate, Choice, Load, MissingKinds},
    status::{self, Conditions},
};
use jiff::Timestamp;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use crate::compliance::PolicyPlan;

/// What to do about an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays where it is, or goes on with what is under way.
    Stay,
    /// Too little is observed to decide; the last decision stands.
    NotYet,
    /// It gets its first place.
    Place {
        /// Where.
        cluster: Name,
    },
    /// A move begins.
    Move {
        /// Where from.
        from: Name,
        /// Where to.
        to: Name,
        /// Name of the Migration to create.
        migration: Name,
        /// Why.
        reason: String,
    },
    /// It moves as soon as another move is over.
    WaitForBudget {
        /// Where to.
        to: Name,
    },
    /// It moves as soon as an application that it depends on has moved.
    WaitForDependency {
        /// Where to.
        to: Name,
        /// The application that it waits for.
        dependency: ApplicationKey,
    },
    /// It cannot be placed, or cannot leave, for a reason outside.
    Stalled {
        /// Why.
        reason: Reason,
        /// The clusters and what each has against it.
        message: String,
    },
}

impl Decision {
    /// What stands in the way, if something does.
    pub fn obstacle(&self) -> Option<(Reason, String)> {
        match self {
            Decision::Stalled { reason, message } => Some((*reason, message.clone())),
            _ => None,
        }
    }
}

/// What the plan says about one application.
#[derive(Clone, Debug)]
pub struct ApplicationPlan {
    /// Namespace and name.
    pub key: ApplicationKey,
    /// What to do.
    pub decision: Decision,
    /// What the law says about where it is; none when it is nowhere.
    pub judgement: Option<Arc<Judgement>>,
    /// Every cluster considered; empty when there was nothing to decide.
    pub candidates: Vec<Candidate>,
    /// What to record about it.
    pub record: ApplicationRecord,
    /// What to record about each of its moves.
    pub migrations: Vec<(Name, MigrationRecord)>,
    /// What members and the edge should look like, from what was recorded.
    pub desired: Desired,
    /// Its conditions.
    pub conditions: Conditions,
    /// What happens next, in one line; empty when nothing does.
    pub next: String,
    /// False while the last report should stand, because too little was
    /// observed.
    pub report: bool,
}

/// What should happen in the whole fleet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One entry for each application of the snapshot, in its order.
    pub applications: Vec<ApplicationPlan>,
    /// One entry for each policy, by name.
    pub policies: Vec<PolicyPlan>,
    /// Active applications by cluster.
    pub load: Load,
    /// The next moment at which the plan can change by itself.
    pub wake_at: Option<Timestamp>,
}

/// Decides what should happen, from what is known, at a time.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let law = LawBook::new(snapshot, now);
    let mut load = current_load(snapshot);
    let mut needs = needs(snapshot, &law, &mut load, now);
    grant_moves(snapshot, &law, &mut needs);
    let applications: Vec<ApplicationPlan> = snapshot
        .applications
        .iter()
        .zip(needs)
        .map(|(application, need)| plan_application(application, need, snapshot, &law, now))
        .collect();
    let policies = compliance::policies(snapshot, &law, &applications, now);
    let wake_at = wake_at(snapshot, &law, now);
    Plan {
        applications,
        policies,
        load,
        wake_at,
    }
}

/// What every application needs. Each choice adds to the load that the next
/// one sees, so they are made in the order of the keys, whatever the order of
/// the snapshot.
fn needs(snapshot: &Snapshot, law: &LawBook, load: &mut Load, now: Timestamp) -> Vec<Need> {
    let applications = &snapshot.applications;
    let mut order: Vec<usize> = (0..applications.len()).collect();
    order.sort_by_key(|&index| &applications[index].spec.key);
    let mut kinds = MissingKinds::default();
    let mut needs: Vec<(usize, Need)> = order
        .into_iter()
        .map(|index| {
            let application = &applications[index];
            (
                index,
                need(application, snapshot, law, load, &mut kinds, now),
            )
        })
        .collect();
    needs.sort_by_key(|(index, _)| *index);
    needs.into_iter().map(|(_, need)| need).collect()
}

/// What an application needs, before the fleet's budget is spent.
struct Need {
    decision: Decision,
    candidates: Vec<Candidate>,
}

fn current_load(snapshot: &Snapshot) -> Load {
    let mut load: Load = snapshot
        .clusters
        .keys()
        .map(|cluster| (cluster.clone(), 0))
        .collect();
    for application in &snapshot.applications {
        if let Some(active) = application.record.active() {
            *load.entry(active.cluster.clone()).or_default() += 1;
        }
    }
    load
}

fn need<'a>(
    application: &'a Application,
    snapshot: &'a Snapshot,
    law: &LawBook,
    load: &mut Load,
    kinds: &mut MissingKinds<'a>,
    now: Timestamp,
) -> Need {
    let stay = Need {
        decision: Decision::Stay,
        candidates: Vec::new(),
    };
    let busy = application.deleting || !application.migrations.is_empty();
    if busy || application.spec.invalid.is_some() {
        return stay;
    }
    let active = application.record.active();
    if let Some(active) = active
        && placement::unlawful(application, &active.cluster, law).is_none()
    {
        return stay;
    }
    let (choice, candidates) = placement::consider(application, snapshot, law, load, kinds, now);
    let decision = match (choice, active) {
        (Choice::NotYet, _) => Decision::NotYet,
        (Choice::NoneEligible, _) => stalled(Reason::NoEligibleCluster, &candidates),
        (Choice::NoneLawful, _) => stalled(Reason::NoLawfulCluster, &candidates),
        (Choice::Cluster(cluster), None) => {
            *load.entry(cluster.clone()).or_default() += 1;
            Decision::Place { cluster }
        }
        (Choice::Cluster(_), Some(active))
            if let Some(obstacle) = cannot_leave(snapshot, &active.cluster) =>
        {
            obstacle
        }
        (Choice::Cluster(cluster), Some(_)) => {
            *load.entry(cluster.clone()).or_default() += 1;
            Decision::WaitForBudget { to: cluster }
        }
    };
    Need {
        decision,
        candidates,
    }
}

/// Why no move may begin at a cluster, if none may.
fn cannot_leave(snapshot: &Snapshot, from: &Name) -> Option<Decision> {
    if snapshot.hub_suspect() {
        return Some(Decision::Stalled {
            reason: Reason::HubSuspect,
            message: "most clusters do not answer, so nothing moves: if they are gone for good, \
                      remove them from the fleet"
                .to_owned(),
        });
    }
    let (reason, message) = match snapshot.clusters.get(from) {
        None => (
            Reason::ClusterUnknown,
            format!("cluster {from} is not part of the fleet"),
        ),
        Some(cluster) => placement::unreachable(cluster)?,
    };
    if reason == Reason::ClusterNotObserved {
        return Some(Decision::NotYet);
    }
    let message = format!("a move begins where the application runs: {message}");
    Some(Decision::Stalled { reason, message })
}

fn stalled(reason: Reason, candidates: &[Candidate]) -> Decision {
    let what = match reason {
        Reason::NoLawfulCluster => "no cluster is lawful",
        _ => "no lawful cluster can take the application now",
    };
    let why: Vec<String> = candidates
        .iter()
        .filter(|candidate| candidate.reason != Reason::AlreadyThere)
        .map(|candidate| format!("{}: {}", candidate.cluster, candidate.reason))
        .collect();
    let message = if why.is_empty() {
        format!("{what}: there is no other cluster in the fleet")
    } else {
        format!("{what} ({})", why.join(", "))
    };
    Decision::Stalled { reason, message }
}

/// Spends the fleet's budget of concurrent moves: critical applications
/// first, then sensitive ones, none before those that it depends on.
fn grant_moves(snapshot: &Snapshot, law: &LawBook, needs: &mut [Need]) {
    let under_way = snapshot
        .applications
        .iter()
        .filter(|application| !application.migrations.is_empty())
        .count();
    let mut budget = snapshot.settings.concurrent_moves.saturating_sub(under_way);
    let mut waiting: Vec<usize> = (0..needs.len())
        .filter(|&index| matches!(needs[index].decision, Decision::WaitForBudget { .. }))
        .collect();
    waiting.sort_by_key(|&index| {
        let spec = &snapshot.applications[index].spec;
        (
            Reverse(spec.criticality),
            Reverse(spec.sensitivity),
            &spec.key,
        )
    });
    let mut leaving: BTreeSet<&ApplicationKey> = waiting
        .iter()
        .map(|&index| &snapshot.applications[index].spec.key)
        .collect();
    leaving.extend(
        snapshot
            .applications
            .iter()
            .filter(|application| !application.migrations.is_empty())
            .map(|application| &application.spec.key),
    );
    let blocked: BTreeMap<usize, ApplicationKey> = waiting
        .iter()
        .filter_map(|&index| Some((index, dependency(&snapshot.applications[index], &leaving)?)))
        .collect();
    // Applications that wait for each other in a circle would wait for ever.
    let freed = if under_way == 0 && blocked.len() == waiting.len() {
        waiting
            .iter()
            .copied()
            .find(|&index| waits_for_itself(index, snapshot, &blocked))
    } else {
        None
    };
    for &index in &waiting {
        let application = &snapshot.applications[index];
        let Decision::WaitForBudget { to } = needs[index].decision.clone() else {
            continue;
        };
        if let (Some(dependency), false) = (blocked.get(&index), freed == Some(index)) {
            needs[index].decision = Decision::WaitForDependency {
                to,
                dependency: dependency.clone(),
            };
        } else if budget > 0 {
            budget -= 1;
            needs[index].decision = begin(application, to, law);
        }
    }
}

/// Follows what an application waits for, and what that waits for, until it
/// comes back or runs in a circle of others.
fn waits_for_itself(
    start: usize,
    snapshot: &Snapshot,
    blocked: &BTreeMap<usize, ApplicationKey>,
) -> bool {
    let applications = &snapshot.applications;
    let mut at = start;
    for _ in 0..blocked.len() {
        let Some(next) = blocked.get(&at).and_then(|key| {
            applications
                .iter()
                .position(|application| application.spec.key == *key)
        }) else {
            return false;
        };
        if next == start {
            return true;
        }
        at = next;
    }
    false
}

fn dependency(
    application: &Application,
    leaving: &BTreeSet<&ApplicationKey>,
) -> Option<ApplicationKey> {
    application
        .spec
        .depends_on
        .iter()
        .map(|name| ApplicationKey {
            namespace: application.spec.key.namespace.clone(),
            name: name.clone(),
        })
        .find(|key| *key != application.spec.key && leaving.contains(key))
}

fn begin(application: &Application, to: Name, law: &LawBook) -> Decision {
    let from = application
        .record
        .active()
        .map(|active| active.cluster.clone())
        .unwrap_or_default();
    let reason = placement::unlawful(application, &from, law)
        .map(|(reason, message)| format!("{reason}: {message}"))
        .unwrap_or_default();
    let migration = format!(
        "{}-{}",
        application.spec.key.name,
        application.record.migrations + 1
    )
    .into();
    Decision::Move {
        from,
        to,
        migration,
        reason,
    }
}

fn plan_application(
    application: &Application,
    need: Need,
    snapshot: &Snapshot,
    law: &LawBook,
    now: Timestamp,
) -> ApplicationPlan {
    let Need {
        decision,
        candidates,
    } = need;
    let record = status::record(application, &decision, snapshot, now);
    let judgement = record
        .active()
        .map(|active| Arc::clone(law.judge(&active.cluster, application.spec.sensitivity)));
    let (conditions, next) = status::conditions(
        application,
        &record,
        &decision,
        judgement.as_deref(),
        snapshot,
    );
    let report = decision != Decision::NotYet && status::observed(application, snapshot);
    ApplicationPlan {
        key: application.spec.key.clone(),
        judgement,
        candidates,
        migrations: advance_moves(application, snapshot, law, now),
        desired: desired::desired(application, snapshot, law, now),
        record,
        conditions,
        next,
        report,
        decision,
    }
}

fn advance_moves(
    application: &Application,
    snapshot: &Snapshot,
    law: &LawBook,
    now: Timestamp,
) -> Vec<(Name, MigrationRecord)> {
    let Some(current) = application.current_move() else {
        return Vec::new();
    };
    application
        .migrations
        .iter()
        .map(|migration| {
            let context = Context {
                snapshot,
                law,
                application,
                migration,
                now,
            };
            (
                migration.name.clone(),
                migration::advance(&context, &current.name),
            )
        })
        .collect()
}

fn wake_at(snapshot: &Snapshot, law: &LawBook, now: Timestamp) -> Option<Timestamp> {
    let retries = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.record.failed_targets)
        .map(|failed| failed.retry_after)
        .filter(|time| *time > now);
    let moves = snapshot.applications.iter().filter_map(|application| {
        let migration = application.current_move()?;
        gates::next_change(&Context {
            snapshot,
            law,
            application,
            migration,
            now,
        })
    });
    law.next_change
        .into_iter()
        .chain(retries)
        .chain(moves)
        .min()
}

#[cfg(test)]
mod tests;
