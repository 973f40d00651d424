//! Whether a cluster is lost: a judgement over several signals, none of which
//! decides alone.
//!
//! An API server that does not answer is no proof: applications go on serving
//! without it. A cluster is lost when its API server has been silent for longer
//! than its threshold *and* no application there answers requests. And when
//! most clusters vanish together, it is the hub that is cut off. The same of
//! services and the edge is judged by [`crate::edge`].

use crate::{
    Reason,
    model::{Cluster, Reach, Snapshot},
};
use jiff::{SignedDuration, Timestamp};

/// What is thought of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It was not asked, or did not answer for the first time, yet.
    NotObserved,
    /// It cannot be asked.
    Misconfigured,
    /// It answers.
    Healthy,
    /// It answers again, and has to prove itself until then.
    Recovering {
        /// When it has.
        until: Timestamp,
    },
    /// Its API server does not answer, but applications there do.
    ControlPlaneUnreachable {
        /// Since when.
        since: Timestamp,
    },
    /// Neither its API server nor any application there answers.
    Lost {
        /// Last sign of life of the API server.
        since: Timestamp,
    },
}

impl Health {
    /// The word as it stands in status and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Health::NotObserved => "NotObserved",
            Health::Misconfigured => "Misconfigured",
            Health::Healthy => "Healthy",
            Health::Recovering { .. } => "Recovering",
            Health::ControlPlaneUnreachable { .. } => "ControlPlaneUnreachable",
            Health::Lost { .. } => "Lost",
        }
    }

    /// Every word there is.
    pub const WORDS: [&'static str; 6] = [
        "NotObserved",
        "Misconfigured",
        "Healthy",
        "Recovering",
        "ControlPlaneUnreachable",
        "Lost",
    ];
}

/// Judges a cluster.
pub fn of(cluster: &Cluster, now: Timestamp) -> Health {
    match &cluster.reach {
        Reach::NotObserved => Health::NotObserved,
        Reach::Misconfigured { .. } => Health::Misconfigured,
        Reach::Unreachable { since } if cluster.services_answer => {
            Health::ControlPlaneUnreachable { since: *since }
        }
        Reach::Unreachable { since } => Health::Lost { since: *since },
        Reach::Reachable => match recovered_at(cluster).filter(|until| *until > now) {
            Some(until) => Health::Recovering { until },
            None => Health::Healthy,
        },
    }
}

/// When a cluster that returned has proved itself.
fn recovered_at(cluster: &Cluster) -> Option<Timestamp> {
    let since = cluster.answers_since.filter(|_| cluster.returned)?;
    since.checked_add(cluster.recovered_after).ok()
}

/// Why nothing is moved to a cluster that answers.
pub fn objection(cluster: &Cluster, now: Timestamp) -> Option<(Reason, String)> {
    let name = &cluster.name;
    if let Health::Recovering { until } = of(cluster, now) {
        let message =
            format!("cluster {name} answers again, but has to prove itself until {until:.0}");
        return Some((Reason::ClusterRecovering, message));
    }
    cluster
        .nodes
        .filter(|nodes| nodes.total > 0 && nodes.ready == 0)
        .map(|nodes| {
            let message = format!("none of {} nodes of cluster {name} is ready", nodes.total);
            (Reason::NodesNotReady, message)
        })
}

/// Last sign of life of a cluster that is lost.
pub fn lost(snapshot: &Snapshot, cluster: &str) -> Option<Timestamp> {
    match snapshot.clusters.get(cluster)?.reach {
        Reach::Unreachable { since } if !snapshot.clusters[cluster].services_answer => Some(since),
        _ => None,
    }
}

impl Snapshot {
    /// More than half of the clusters that answered until then vanished within
    /// one window: it is more likely that the hub is cut off than that they
    /// are all gone, so nothing moves by itself. One that cannot be asked says
    /// nothing about the hub. Clusters that are silent already, if not for long
    /// enough, count as vanished with the others: the first to be called
    /// unreachable must not be left for one that is about to be. So do those
    /// that have come back a moment ago: the last one must not be left because
    /// the others were first.
    pub fn hub_suspect(&self, now: Timestamp) -> bool {
        let vanished: Vec<Timestamp> = self
            .clusters
            .values()
            .filter_map(|cluster| match cluster.reach {
                Reach::Unreachable { since } => Some(since),
                _ => None,
            })
            .collect();
        let asked = self
            .clusters
            .values()
            .filter(|cluster| !matches!(cluster.reach, Reach::Misconfigured { .. }))
            .count();
        let in_doubt = self
            .clusters
            .values()
            .filter(|cluster| match of(cluster, now) {
                Health::Recovering { .. } => true,
                Health::Healthy => cluster.in_doubt,
                _ => false,
            })
            .count();
        most_together(vanished, in_doubt, asked, self.settings.hub_window)
    }
}

/// Whether more than half of those that were left vanished within one window,
/// with those that are about to.
pub fn most_together(
    mut vanished: Vec<Timestamp>,
    in_doubt: usize,
    all: usize,
    window: SignedDuration,
) -> bool {
    vanished.sort();
    vanished.iter().enumerate().any(|(index, last)| {
        let earlier = vanished[..index]
            .iter()
            .take_while(|since| last.duration_since(**since) > window)
            .count();
        let together = index + 1 - earlier + in_doubt;
        together * 2 > all - earlier
    })
}

/// The next moment at which the judgement of a cluster changes by itself.
pub fn next_change(cluster: &Cluster, now: Timestamp) -> Option<Timestamp> {
    match of(cluster, now) {
        Health::Recovering { until } => Some(until),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOW, change_cluster, fleet, later};

    fn unreachable(snapshot: &mut Snapshot, cluster: &str, since: Timestamp) {
        change_cluster(snapshot, cluster, |cluster| {
            cluster.reach = Reach::Unreachable { since };
        });
    }

    #[test]
    fn applications_that_answer_keep_a_cluster_from_being_lost() {
        let mut snapshot = fleet(&[("a", "FR"), ("b", "FR"), ("c", "FR")]);
        unreachable(&mut snapshot, "a", NOW);
        assert_eq!(lost(&snapshot, "a"), Some(NOW));
        change_cluster(&mut snapshot, "a", |cluster| cluster.services_answer = true);
        assert_eq!(lost(&snapshot, "a"), None);
        let health = of(&snapshot.clusters["a"], later(60));
        assert_eq!(health, Health::ControlPlaneUnreachable { since: NOW });
    }

    #[test]
    fn a_cluster_that_returned_has_to_prove_itself() {
        let mut snapshot = fleet(&[("a", "FR")]);
        change_cluster(&mut snapshot, "a", |cluster| {
            cluster.returned = true;
            cluster.answers_since = Some(NOW);
        });
        let cluster = &snapshot.clusters["a"];
        assert_eq!(
            objection(cluster, later(9)).map(|(reason, _)| reason),
            Some(Reason::ClusterRecovering)
        );
        assert_eq!(objection(cluster, later(10)), None);
    }

    #[test]
    fn clusters_that_vanish_together_make_the_hub_suspect() {
        let mut snapshot = fleet(&[("a", "FR"), ("b", "FR"), ("c", "FR")]);
        unreachable(&mut snapshot, "a", NOW);
        assert!(!snapshot.hub_suspect(later(3700)), "one of three");
        unreachable(&mut snapshot, "b", later(30));
        assert!(
            snapshot.hub_suspect(later(3700)),
            "two of three within the window"
        );
        unreachable(&mut snapshot, "b", later(3600));
        assert!(
            !snapshot.hub_suspect(later(3700)),
            "one of the two that were left, an hour later"
        );
        change_cluster(&mut snapshot, "c", |cluster| cluster.in_doubt = true);
        assert!(
            snapshot.hub_suspect(later(3700)),
            "the other one is silent as well"
        );
        unreachable(&mut snapshot, "c", later(3601));
        assert!(snapshot.hub_suspect(later(3700)), "both that were left");
        unreachable(&mut snapshot, "b", later(3600));
        change_cluster(&mut snapshot, "c", |cluster| {
            cluster.reach = Reach::Misconfigured {
                message: "no kubeconfig".to_owned(),
            };
        });
        assert!(
            snapshot.hub_suspect(later(3700)),
            "the last one that was asked"
        );
    }

    #[test]
    fn the_last_to_come_back_is_not_left_because_the_others_were_first() {
        let mut snapshot = fleet(&[("a", "FR"), ("b", "FR"), ("c", "FR")]);
        unreachable(&mut snapshot, "a", NOW);
        for name in ["b", "c"] {
            change_cluster(&mut snapshot, name, |cluster| {
                cluster.returned = true;
                cluster.answers_since = Some(later(30));
            });
        }
        assert!(snapshot.hub_suspect(later(31)));
        assert!(
            !snapshot.hub_suspect(later(40)),
            "they have proved themselves"
        );
    }
}
