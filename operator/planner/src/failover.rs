//! Whether an application has lost its place, and may leave by itself.

use crate::{
    Reason,
    edge::{Doubt, Edge},
    health,
    model::{Application, Name, Placement, Reach, Service, Snapshot},
};
use jiff::Timestamp;

/// An application does not serve any more where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Last sign of life.
    pub since: Timestamp,
    /// `ClusterLost` or `ServiceLost`.
    pub reason: Reason,
    /// The fact behind the reason.
    pub message: String,
}

/// Whether the copy on a cluster is lost: the whole cluster, or the
/// application's services on a cluster that is well otherwise.
pub fn loss(
    application: &Application,
    snapshot: &Snapshot,
    cluster: &str,
    now: Timestamp,
) -> Option<Loss> {
    if let Some(since) = health::lost(snapshot, cluster) {
        return Some(Loss {
            since,
            reason: Reason::ClusterLost,
            message: format!(
                "neither the API server of cluster {cluster} nor any application there answers \
                 since {since:.0}"
            ),
        });
    }
    let Service::Silent { since } = application.copies.get(cluster)?.service else {
        return None;
    };
    let known = matches!(
        snapshot.clusters.get(cluster)?.reach,
        Reach::Reachable | Reach::Unreachable { .. }
    );
    let lasts = now.duration_since(since) >= application.spec.failover.unhealthy_after;
    (known && lasts && application.spec.traffic).then(|| Loss {
        since,
        reason: Reason::ServiceLost,
        message: format!(
            "no request to the application on {cluster} is answered since {since:.0}, although \
             other signs of the cluster are well"
        ),
    })
}

/// Why an application that lost its place does not leave by itself now.
pub fn objection(
    application: &Application,
    active: &Placement,
    loss: &Loss,
    snapshot: &Snapshot,
    edge: &Edge<'_>,
    now: Timestamp,
) -> Option<(Reason, String)> {
    if loss.reason == Reason::ServiceLost
        && let Some(doubt) = edge.doubt(&active.cluster, loss.since, now)
    {
        let found = match doubt {
            Doubt::Together => "services of most clusters fell silent together".to_owned(),
            Doubt::NoWitness => format!(
                "no request to any cluster is answered since {:.0}",
                loss.since
            ),
        };
        let message = format!(
            "{found}, so the edge is suspected and nothing moves by itself: see what is between \
             the edge and the clusters"
        );
        return Some((Reason::EdgeSuspect, message));
    }
    if snapshot.hub_suspect(now) {
        let message = "most clusters stopped answering together, so the hub is suspected and \
                       nothing moves by itself: ask for a failover if they are gone for good";
        return Some((Reason::HubSuspect, message.to_owned()));
    }
    if !application.spec.failover.automatic {
        let message = format!(
            "{}; spec.failover.mode is Manual: kubectl flambeau failover {} -n {}",
            loss.message, application.spec.key.name, application.spec.key.namespace
        );
        return Some((Reason::FailoverManual, message));
    }
    let until = cooled_down(application).filter(|until| *until > now)?;
    (loss.reason == Reason::ServiceLost).then(|| {
        let message = format!(
            "{}; it failed over to {} a short time ago and stays until {until:.0}",
            loss.message, active.cluster
        );
        (Reason::CoolingDown, message)
    })
}

/// When the cool-down after the last failover is over: for as long, the record
/// avoids the cluster that was left.
fn cooled_down(application: &Application) -> Option<Timestamp> {
    application
        .record
        .failed_targets
        .iter()
        .filter(|failed| failed.reason == Reason::ClusterLost)
        .map(|failed| failed.retry_after)
        .max()
}

/// Where an application goes back to by itself, once that is well for long
/// enough.
pub fn failback(application: &Application, snapshot: &Snapshot, now: Timestamp) -> Option<Name> {
    let home = application.record.failed_over_from.as_ref()?;
    let away = application.record.active()?.cluster != *home;
    let due = failback_due(application, snapshot).filter(|_| away)?;
    (due <= now).then(|| home.clone())
}

fn failback_due(application: &Application, snapshot: &Snapshot) -> Option<Timestamp> {
    let after = application.spec.failover.failback_after?;
    let home = application.record.failed_over_from.as_ref()?;
    let cluster = snapshot.clusters.get(home)?;
    let since = cluster
        .answers_since
        .filter(|_| cluster.reach == Reach::Reachable)?;
    since.checked_add(after).ok()
}

/// The next moment at which what is said here changes by itself.
pub fn next_change(
    application: &Application,
    snapshot: &Snapshot,
    edge: &Edge<'_>,
    now: Timestamp,
) -> Option<Timestamp> {
    let active = application.record.active()?;
    let silent = match application.copies.get(&active.cluster)?.service {
        Service::Silent { since } => {
            let patience = application.spec.failover.unhealthy_after;
            [
                since.checked_add(patience).ok(),
                edge.witness_awaited(&active.cluster, since),
                cooled_down(application),
            ]
        }
        _ => [None; 3],
    };
    silent
        .into_iter()
        .chain([failback_due(application, snapshot)])
        .flatten()
        .filter(|time| *time > now)
        .min()
}

#[cfg(test)]
mod tests;
