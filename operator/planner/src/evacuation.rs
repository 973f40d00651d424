//! Everything leaves a cluster or a provider.

use crate::{
    Reason,
    fleet::Decision,
    model::{
        Application, ApplicationKey, Cluster, Evacuation, Migration, Name, Outcome, Resources,
        Snapshot,
    },
    need::Need,
};
use std::collections::BTreeSet;

/// One application that is still to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// The application.
    pub key: ApplicationKey,
    /// It cannot leave, for a reason outside.
    pub stuck: bool,
    /// What it waits for.
    pub reason: Reason,
    /// The fact behind the reason.
    pub message: String,
}

/// How far an evacuation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvacuationPlan {
    /// Name of the Evacuation.
    pub name: Name,
    /// Applications that are, or were, to leave.
    pub total: usize,
    /// Applications that have left.
    pub moved: usize,
    /// Applications that are moving now.
    pub moving: usize,
    /// Applications that are still there, those that are stuck first.
    pub remaining: Vec<Remaining>,
    /// What lawful targets lack so that everything fits.
    pub shortfall: Option<String>,
    /// What it does, in a word.
    pub state: Reason,
    /// The fact behind the word.
    pub message: String,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

fn names(evacuation: &Evacuation, cluster: &Cluster) -> bool {
    evacuation.cluster.as_ref() == Some(&cluster.name)
        || evacuation.provider.as_ref() == Some(&cluster.provider)
}

/// The evacuation that empties a cluster, unless it is held or over.
pub fn leaving<'a>(snapshot: &'a Snapshot, cluster: &str) -> Option<&'a Evacuation> {
    let cluster = snapshot.clusters.get(cluster)?;
    snapshot
        .evacuations
        .values()
        .map(|evacuation| &**evacuation)
        .find(|evacuation| {
            !evacuation.ended
                && !evacuation.abort
                && !evacuation.pause
                && names(evacuation, cluster)
        })
}

/// Why nothing new goes to a cluster: as long as the Evacuation is there and
/// was not aborted, also after its end.
pub fn objection(snapshot: &Snapshot, cluster: &Cluster) -> Option<(Reason, String)> {
    let evacuation = snapshot
        .evacuations
        .values()
        .find(|evacuation| !evacuation.abort && names(evacuation, cluster))?;
    let message = format!(
        "Evacuation {} keeps cluster {} empty: abort or delete it to use the cluster",
        evacuation.name, cluster.name
    );
    Some((Reason::ClusterEvacuated, message))
}

/// Whether the whole evacuation that a move is part of was aborted.
pub fn aborted(snapshot: &Snapshot, migration: &Migration) -> bool {
    migration
        .evacuation
        .as_ref()
        .and_then(|name| snapshot.evacuations.get(name))
        .is_some_and(|evacuation| evacuation.abort)
}

/// How far every evacuation is that is not over.
pub fn plans(snapshot: &Snapshot, needs: &[Need]) -> Vec<EvacuationPlan> {
    snapshot
        .evacuations
        .values()
        .filter(|evacuation| !evacuation.ended)
        .map(|evacuation| plan(evacuation, snapshot, needs))
        .collect()
}

fn plan(evacuation: &Evacuation, snapshot: &Snapshot, needs: &[Need]) -> EvacuationPlan {
    let clusters: BTreeSet<&Name> = snapshot
        .clusters
        .values()
        .filter(|cluster| names(evacuation, cluster))
        .map(|cluster| &cluster.name)
        .collect();
    let (mut remaining, mut moving, mut full) = (Vec::new(), 0, Vec::new());
    for (application, need) in snapshot.applications.iter().zip(needs) {
        let under_way = moves_off(application, &clusters);
        let active = application.record.active();
        let there = active.is_some_and(|active| clusters.contains(&active.cluster));
        if application.deleting || !(there || under_way) {
            continue;
        }
        moving += usize::from(under_way);
        let one = remains(application, need, evacuation, under_way);
        let short = |reason| need.candidates.iter().any(|one| one.reason == reason);
        if one.stuck && short(Reason::ClusterFull) {
            full.push(application.spec.demand);
        }
        remaining.push(one);
    }
    remaining.sort_by_key(|one| !one.stuck);
    let total = evacuation.total.max(remaining.len());
    let open = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.migrations)
        .any(|migration| migration.evacuation.as_ref() == Some(&evacuation.name));
    let (mut state, mut message, outcome) =
        state(evacuation, &clusters, total, remaining.is_empty(), open);
    if state == Reason::Evacuating
        && let Some(unknown) = unknown_targets(evacuation, snapshot)
    {
        // Those that exist are used meanwhile: a fleet may lose a cluster in
        // the middle of an evacuation.
        let done = total - remaining.len();
        message = format!("{done} of {total} applications have left; {unknown}");
        let any = |name| snapshot.clusters.contains_key(name);
        if !evacuation.to.iter().any(any) {
            state = Reason::ClusterUnknown;
        }
    }
    EvacuationPlan {
        name: evacuation.name.clone(),
        total,
        moved: total - remaining.len(),
        moving,
        shortfall: shortfall(&full),
        remaining,
        state,
        message,
        outcome,
    }
}

/// Names in the list of targets that no cluster has, in words.
fn unknown_targets(evacuation: &Evacuation, snapshot: &Snapshot) -> Option<String> {
    let names = evacuation.to.iter();
    let unknown: Vec<&str> = names
        .filter(|name| !snapshot.clusters.contains_key(*name))
        .map(|name| &**name)
        .collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "spec.to names {}, not part of the fleet: correct the list",
            unknown.join(", ")
        )
    })
}

fn moves_off(application: &Application, clusters: &BTreeSet<&Name>) -> bool {
    application
        .migrations
        .iter()
        .any(|migration| clusters.contains(&migration.from))
}

fn remains(
    application: &Application,
    need: &Need,
    evacuation: &Evacuation,
    under_way: bool,
) -> Remaining {
    let (stuck, reason, message) = if under_way {
        let names = application.migrations.iter().map(|one| &*one.name);
        let names: Vec<&str> = names.collect();
        (
            false,
            Reason::Moving,
            format!("Migration {}", names.join(", ")),
        )
    } else {
        match &need.decision {
            Decision::Stalled { reason, message } => (true, *reason, message.clone()),
            Decision::WaitForThaw { message, .. } => (false, Reason::Frozen, message.clone()),
            Decision::WaitForDependency { dependency, .. } => {
                let message = format!("{dependency} moves first");
                (false, Reason::WaitingForDependency, message)
            }
            Decision::WaitForBudget { .. } => (false, Reason::WaitingForBudget, String::new()),
            Decision::Move { .. } | Decision::Place { .. } => {
                (false, Reason::MoveDecided, String::new())
            }
            Decision::NotYet => (false, Reason::ClusterNotObserved, String::new()),
            Decision::Stay => stays(application, evacuation),
        }
    };
    Remaining {
        key: application.spec.key.clone(),
        stuck,
        reason,
        message,
    }
}

fn stays(application: &Application, evacuation: &Evacuation) -> (bool, Reason, String) {
    if let Some(invalid) = &application.spec.invalid {
        (true, Reason::InvalidSpec, invalid.clone())
    } else if evacuation.abort {
        (false, Reason::EvacuationAborted, String::new())
    } else {
        (false, Reason::EvacuationPaused, String::new())
    }
}

fn shortfall(full: &[Resources]) -> Option<String> {
    let sum = full
        .iter()
        .fold(Resources::default(), |sum, demand| Resources {
            milli_cpu: sum.milli_cpu.saturating_add(demand.milli_cpu),
            memory: sum.memory.saturating_add(demand.memory),
        });
    (!full.is_empty()).then(|| {
        format!(
            "{} applications, which request {sum} in all, fit on no lawful cluster",
            full.len()
        )
    })
}

fn state(
    evacuation: &Evacuation,
    clusters: &BTreeSet<&Name>,
    total: usize,
    empty: bool,
    open: bool,
) -> (Reason, String, Option<Outcome>) {
    if evacuation.abort {
        let outcome = (!open).then_some(Outcome::Aborted);
        let message = "a person ended it: what had moved stays where it is";
        return (Reason::EvacuationAborted, message.to_owned(), outcome);
    }
    if clusters.is_empty() {
        let message = match (&evacuation.cluster, &evacuation.provider) {
            (Some(cluster), _) => format!("cluster {cluster} is not part of the fleet"),
            (_, provider) => format!(
                "no cluster of the fleet belongs to provider {}",
                provider.as_deref().unwrap_or_default()
            ),
        };
        return (Reason::ClusterUnknown, message, None);
    }
    if empty && !open {
        let reason = match total {
            0 => Reason::NothingToEvacuate,
            _ => Reason::Evacuated,
        };
        return (reason, String::new(), Some(Outcome::Completed));
    }
    if evacuation.pause {
        let message = "a person holds it: no further move begins";
        return (Reason::EvacuationPaused, message.to_owned(), None);
    }
    (Reason::Evacuating, String::new(), None)
}

#[cfg(test)]
mod tests;
