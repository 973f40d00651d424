//! Which cluster an application goes to: filter, score, select.

use crate::{
    Reason, desired,
    law::{Judgement, LawBook},
    model::{Application, Cluster, Kind, Name, Reach, Snapshot},
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
    load: &Load,
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
                    .or_else(|| unavailable(cluster))
                    .or_else(|| missing.map(|kind| not_served(kind, cluster)))
                    .or_else(|| not_clean(application, &cluster.name, snapshot))
                    .or_else(|| recently_failed(application, &cluster.name, now))
            };
            candidate(cluster, refusal)
        })
        .collect();
    let chosen = select(application, &candidates, load);
    if candidates
        .iter()
        .any(|candidate| candidate.reason == Reason::ClusterNotObserved)
    {
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

/// Why nothing new may go to a cluster, whatever it is.
pub fn unavailable(cluster: &Cluster) -> Option<(Reason, String)> {
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
    unreachable(cluster)
}

/// Why a cluster cannot be asked.
pub fn unreachable(cluster: &Cluster) -> Option<(Reason, String)> {
    match &cluster.reach {
        Reach::Reachable => None,
        Reach::NotObserved => Some((
            Reason::ClusterNotObserved,
            format!("cluster {} was not observed yet", cluster.name),
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

/// The first kind of the application that the cluster does not serve.
pub fn kind_not_served(application: &Application, cluster: &Cluster) -> Option<(Reason, String)> {
    missing_kind(&application.spec.kinds, cluster).map(|kind| not_served(kind, cluster))
}

fn missing_kind<'a>(kinds: &'a BTreeSet<Kind>, cluster: &Cluster) -> Option<&'a Kind> {
    let served = cluster.kinds.as_ref()?;
    kinds.iter().find(|kind| !served.contains(kind))
}

fn not_served(kind: &Kind, cluster: &Cluster) -> (Reason, String) {
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
    application.record.on(cluster)?;
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
    now: Timestamp,
) -> Option<(Reason, String)> {
    let failed = application
        .record
        .failed_targets
        .iter()
        .find(|failed| &*failed.cluster == cluster && failed.retry_after > now)?;
    Some((
        Reason::RecentlyFailed,
        format!(
            "a move to {cluster} failed ({}), it is tried again after {:.0}",
            failed.reason, failed.retry_after
        ),
    ))
}

/// Preference first, then the cluster with the fewest applications, then the
/// name, so that the same fleet always gives the same choice.
fn select(application: &Application, candidates: &[Candidate], load: &Load) -> Option<usize> {
    let preferred = application.spec.preferred.iter().find_map(|name| {
        candidates
            .binary_search_by(|candidate| candidate.cluster.cmp(name))
            .ok()
            .filter(|&index| candidates[index].eligible)
    });
    preferred.or_else(|| {
        (0..candidates.len())
            .filter(|&index| candidates[index].eligible)
            .min_by_key(|&index| load.get(&candidates[index].cluster).copied().unwrap_or(0))
    })
}

#[cfg(test)]
mod tests;
