//! Which cluster an application goes to: filter, score, select.

use crate::{
    Reason, desired, evacuation, health,
    law::{Judgement, LawBook},
    model::{
        Application, Cluster, FailedTarget, Kind, Name, Placement, Reach, Resources, Role, Snapshot,
    },
    status,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One cluster that was considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Name of the cluster.
    pub cluster: Name,
    /// Whether the application may be placed there now.
    pub eligible: bool,
    /// `Eligible`, `Chosen`, or the first rule that refuses.
    pub reason: Reason,
    /// The fact behind the reason; empty when there is nothing to add.
    pub message: String,
}

/// What came out of considering every cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The best eligible cluster.
    Cluster(Name),
    /// A lawful cluster was not observed yet: too early to choose.
    NotYet,
    /// Lawful clusters exist, none can take the application now.
    NoneEligible,
    /// No cluster is lawful.
    NoneLawful,
}

/// How many active applications every cluster has.
pub type Load = BTreeMap<Name, usize>;

/// What clusters have taken on: choices add to it, so that each sees the ones
/// made before.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Active applications by cluster.
    pub load: Load,
    /// What copies request of each cluster.
    pub requested: BTreeMap<Name, Resources>,
}

impl Ledger {
    /// What is recorded.
    pub fn current(snapshot: &Snapshot) -> Self {
        let mut ledger = Self {
            load: snapshot
                .clusters
                .keys()
                .map(|cluster| (cluster.clone(), 0))
                .collect(),
            requested: BTreeMap::new(),
        };
        for application in &snapshot.applications {
            for placement in &application.record.placements {
                if placement.role == Role::Active {
                    *ledger.load.entry(placement.cluster.clone()).or_default() += 1;
                }
                if requests(placement) {
                    ledger.request(application, &placement.cluster);
                }
            }
            if let Some(cluster) = about_to_go(application) {
                ledger.request(application, cluster);
            }
        }
        ledger
    }

    /// An application is about to go to a cluster.
    pub fn take_on(&mut self, application: &Application, cluster: &Name) {
        *self.load.entry(cluster.clone()).or_default() += 1;
        self.request(application, cluster);
    }

    fn request(&mut self, application: &Application, cluster: &Name) {
        let demand = application.spec.demand;
        let requested = self.requested.entry(cluster.clone()).or_default();
        *requested = add(*requested, demand);
    }

    /// Why a cluster has no room for an application, if its capacity is known.
    pub fn full(&self, application: &Application, cluster: &Cluster) -> Option<(Reason, String)> {
        let taken = self.requested.get(&cluster.name).copied();
        lacks_room(application, cluster, taken.unwrap_or_default())
    }
}

/// A standby scaled to its floor, and what is being erased, take no room that
/// anybody counts on.
fn requests(placement: &Placement) -> bool {
    matches!(placement.role, Role::Active | Role::Target | Role::Source)
}

/// Where a move leads that is decided, and not recorded with its application
/// yet.
fn about_to_go(application: &Application) -> Option<&Name> {
    let to = &application.current_move()?.to;
    let recorded = application.record.on(to).is_some_and(requests);
    (!recorded).then_some(to)
}

/// Why a cluster has no room for an application beside all others, if its
/// capacity is known.
pub fn full_without(
    application: &Application,
    cluster: &Cluster,
    snapshot: &Snapshot,
) -> Option<(Reason, String)> {
    cluster.capacity?;
    let mut taken = Resources::default();
    for other in &snapshot.applications {
        let there = other.record.on(&cluster.name).is_some_and(requests)
            || about_to_go(other) == Some(&cluster.name);
        if there && other.spec.key != application.spec.key {
            taken = add(taken, other.spec.demand);
        }
    }
    lacks_room(application, cluster, taken)
}

fn add(one: Resources, other: Resources) -> Resources {
    Resources {
        milli_cpu: one.milli_cpu.saturating_add(other.milli_cpu),
        memory: one.memory.saturating_add(other.memory),
    }
}

fn lacks_room(
    application: &Application,
    cluster: &Cluster,
    taken: Resources,
) -> Option<(Reason, String)> {
    let capacity = cluster.capacity?;
    let demand = application.spec.demand;
    let free = Resources {
        milli_cpu: capacity.milli_cpu.saturating_sub(taken.milli_cpu),
        memory: capacity.memory.saturating_sub(taken.memory),
    };
    let fits = demand.milli_cpu <= free.milli_cpu && demand.memory <= free.memory;
    (!fits).then(|| {
        let message = format!(
            "the application requests {demand}, cluster {} has {free} left",
            cluster.name
        );
        (Reason::ClusterFull, message)
    })
}

/// What a choice is bound to, beside the law and the state of clusters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds<'a> {
    /// The only clusters to choose from, the best first; any when empty.
    pub only: &'a [Name],
    /// What is known now has to do: a better cluster that was not observed yet
    /// is not waited for.
    pub hurry: bool,
    /// Since when the active copy is lost: a move that a person walked back
    /// before then says nothing against its target now.
    pub lost_since: Option<Timestamp>,
}

/// Kinds that clusters do not serve, remembered for applications that are made
/// of the same kinds.
#[derive(Debug, Default)]
pub struct MissingKinds<'a>(BTreeMap<&'a BTreeSet<Kind>, Vec<Option<&'a Kind>>>);

impl<'a> MissingKinds<'a> {
    /// The first kind that each cluster does not serve, by name of the cluster.
    fn of(&mut self, application: &'a Application, snapshot: &'a Snapshot) -> &[Option<&'a Kind>] {
        self.0.entry(&application.spec.kinds).or_insert_with(|| {
            snapshot
                .clusters
                .values()
                .map(|cluster| missing_kind(&application.spec.kinds, cluster))
                .collect()
        })
    }
}

/// Considers every cluster of the fleet for an application, except the one
/// where it is.
pub fn consider<'a>(
    application: &'a Application,
    snapshot: &'a Snapshot,
    law: &LawBook,
    ledger: &Ledger,
    bounds: Bounds<'_>,
    kinds: &mut MissingKinds<'a>,
    now: Timestamp,
) -> (Choice, Vec<Candidate>) {
    let active = application
        .record
        .active()
        .map(|placement| &placement.cluster);
    let mut candidates: Vec<Candidate> = snapshot
        .clusters
        .values()
        .zip(law.row(application.spec.sensitivity))
        .zip(kinds.of(application, snapshot))
        .map(|((cluster, judgement), missing)| {
            let refusal = if active == Some(&cluster.name) {
                Some((Reason::AlreadyThere, String::new()))
            } else {
                objection(judgement)
                    .or_else(|| unavailable(cluster, now))
                    .or_else(|| evacuation::objection(snapshot, cluster))
                    .or_else(|| not_asked_for(bounds, &cluster.name))
                    .or_else(|| namespace_refused(application, cluster))
                    .or_else(|| missing.map(|kind| not_served(kind, cluster)))
                    .or_else(|| not_clean(application, &cluster.name, snapshot))
                    .or_else(|| recently_failed(application, &cluster.name, snapshot, bounds, now))
                    .or_else(|| ledger.full(application, cluster))
            };
            candidate(cluster, refusal)
        })
        .collect();
    let chosen = select(application, &candidates, bounds, &ledger.load);
    let unobserved = candidates
        .iter()
        .any(|candidate| candidate.reason == Reason::ClusterNotObserved);
    if unobserved && !(bounds.hurry && chosen.is_some()) {
        return (Choice::NotYet, candidates);
    }
    let Some(chosen) = chosen else {
        let lawful = |candidate: &Candidate| {
            candidate.reason != Reason::AlreadyThere
                && law
                    .judge(&candidate.cluster, application.spec.sensitivity)
                    .lawful()
        };
        let choice = if candidates.iter().any(lawful) {
            Choice::NoneEligible
        } else {
            Choice::NoneLawful
        };
        return (choice, candidates);
    };
    let candidate = &mut candidates[chosen];
    candidate.reason = Reason::Chosen;
    let chosen = candidate.cluster.clone();
    (Choice::Cluster(chosen), candidates)
}

fn candidate(cluster: &Cluster, refusal: Option<(Reason, String)>) -> Candidate {
    let eligible = refusal.is_none();
    let (reason, message) = refusal.unwrap_or((Reason::Eligible, String::new()));
    Candidate {
        cluster: cluster.name.clone(),
        eligible,
        reason,
        message,
    }
}

/// The first enforced policy that refuses the cluster.
pub fn unlawful(
    application: &Application,
    cluster: &str,
    law: &LawBook,
) -> Option<(Reason, String)> {
    objection(law.judge(cluster, application.spec.sensitivity))
}

fn objection(judgement: &Judgement) -> Option<(Reason, String)> {
    let finding = judgement.refusal()?;
    Some((
        finding.reason,
        format!("policy {}: {}", finding.policy, finding.message),
    ))
}

fn not_asked_for(bounds: Bounds<'_>, cluster: &Name) -> Option<(Reason, String)> {
    let asked_for = bounds.only.is_empty() || bounds.only.contains(cluster);
    (!asked_for).then(|| {
        let only: Vec<&str> = bounds.only.iter().map(|name| &**name).collect();
        let message = format!("only {} may be gone to", only.join(", "));
        (Reason::NotAmongTargets, message)
    })
}

/// Why nothing new may go to a cluster, whatever it is.
pub fn unavailable(cluster: &Cluster, now: Timestamp) -> Option<(Reason, String)> {
    if cluster.deleting {
        return Some((
            Reason::ClusterDeleting,
            format!("cluster {} is being removed from the fleet", cluster.name),
        ));
    }
    if cluster.cordoned {
        return Some((
            Reason::ClusterCordoned,
            format!("cluster {} is cordoned", cluster.name),
        ));
    }
    unreachable(cluster).or_else(|| health::objection(cluster, now))
}

/// Why a cluster cannot be asked.
pub fn unreachable(cluster: &Cluster) -> Option<(Reason, String)> {
    match &cluster.reach {
        Reach::Reachable => None,
        Reach::NotObserved => Some((
            Reason::ClusterNotObserved,
            format!("cluster {} was not observed yet", cluster.name),
        )),
        Reach::Unreachable { since } if cluster.services_answer => Some((
            Reason::ControlPlaneUnreachable,
            format!(
                "the API server of cluster {} does not answer since {since:.0}, but applications \
                 there do",
                cluster.name
            ),
        )),
        Reach::Unreachable { since } => Some((
            Reason::ClusterUnreachable,
            format!("cluster {} does not answer since {since:.0}", cluster.name),
        )),
        Reach::Misconfigured { message } => Some((
            Reason::ClusterMisconfigured,
            format!("cluster {}: {message}", cluster.name),
        )),
    }
}

/// The namespace, or the first kind, of the application that the cluster does
/// not take.
pub fn kind_not_served(application: &Application, cluster: &Cluster) -> Option<(Reason, String)> {
    namespace_refused(application, cluster).or_else(|| {
        missing_kind(&application.spec.kinds, cluster).map(|kind| not_served(kind, cluster))
    })
}

fn missing_kind<'a>(kinds: &'a BTreeSet<Kind>, cluster: &Cluster) -> Option<&'a Kind> {
    let served = cluster.kinds.as_ref()?;
    kinds
        .iter()
        .find(|kind| !served.contains(kind) || cluster.refused_kinds.contains(kind))
}

/// Whether, and why, a namespace is none of those for applications there.
fn namespace_refused(application: &Application, cluster: &Cluster) -> Option<(Reason, String)> {
    let namespace = &application.spec.key.namespace;
    let allowed = cluster.namespaces.is_empty() || cluster.namespaces.contains(namespace);
    (!allowed).then(|| {
        (
            Reason::NamespaceNotAllowed,
            format!(
                "cluster {} is not joined for namespace {namespace}",
                cluster.name
            ),
        )
    })
}

fn not_served(kind: &Kind, cluster: &Cluster) -> (Reason, String) {
    if cluster.refused_kinds.contains(kind) {
        return (
            Reason::KindNotAllowed,
            format!("cluster {} is not joined for {kind}", cluster.name),
        );
    }
    (
        Reason::KindNotServed,
        format!(
            "cluster {} does not serve {kind} as a namespaced kind",
            cluster.name
        ),
    )
}

/// A former copy is erased before a new one is written, unless it is kept
/// because it could serve: then it is taken up again.
pub fn not_clean(
    application: &Application,
    cluster: &str,
    snapshot: &Snapshot,
) -> Option<(Reason, String)> {
    let erased_later = snapshot
        .clusters
        .get(cluster)
        .is_some_and(|cluster| cluster.pending_erasures.contains(&application.spec.key));
    if erased_later {
        let message =
            format!("what was left on {cluster} by an application of this name is erased first");
        return Some((Reason::TargetNotClean, message));
    }
    let former = application.record.on(cluster)?;
    if former.role == Role::Standby {
        return None;
    }
    if application.known_copy(cluster).is_some()
        && desired::last_resort(application, snapshot, cluster)
    {
        return None;
    }
    Some((
        Reason::TargetNotClean,
        format!("a former copy on {cluster} is still being erased"),
    ))
}

fn recently_failed(
    application: &Application,
    cluster: &str,
    snapshot: &Snapshot,
    bounds: Bounds<'_>,
    now: Timestamp,
) -> Option<(Reason, String)> {
    let overtaken = |failed: &FailedTarget| {
        let backoff = status::backoff(&snapshot.settings, failed.attempts);
        failed.reason == Reason::AbortRequested
            && bounds
                .lost_since
                .is_some_and(|lost| lost.duration_since(failed.retry_after) > -backoff)
    };
    let failed = application.record.failed_targets.iter().find(|failed| {
        &*failed.cluster == cluster && failed.retry_after > now && !overtaken(failed)
    })?;
    let message = match failed.reason {
        Reason::ClusterLost => format!(
            "the application was failed over from {cluster}, which is avoided until {:.0}",
            failed.retry_after
        ),
        Reason::SourceRecovered => format!(
            "{cluster} went and came back, and is avoided until {:.0}",
            failed.retry_after
        ),
        reason => format!(
            "a move to {cluster} failed ({reason}), it is tried again after {:.0}",
            failed.retry_after
        ),
    };
    Some((Reason::RecentlyFailed, message))
}

/// What was asked for first, then a standby, then preference, then the cluster
/// with the fewest applications, then the name, so that the same fleet always
/// gives the same choice.
fn select(
    application: &Application,
    candidates: &[Candidate],
    bounds: Bounds<'_>,
    load: &Load,
) -> Option<usize> {
    let eligible = |name: &Name| {
        candidates
            .binary_search_by(|candidate| candidate.cluster.cmp(name))
            .ok()
            .filter(|&index| candidates[index].eligible)
    };
    let standby = application
        .record
        .placements
        .iter()
        .filter(|placement| placement.role == Role::Standby)
        .map(|placement| &placement.cluster);
    let wanted = bounds.only.iter().chain(standby);
    wanted
        .chain(&application.spec.preferred)
        .find_map(eligible)
        .or_else(|| {
            (0..candidates.len())
                .filter(|&index| candidates[index].eligible)
                .min_by_key(|&index| load.get(&candidates[index].cluster).copied().unwrap_or(0))
        })
}

#[cfg(test)]
mod tests;
