//! Whether services are silent because the edge reaches nobody.
//!
//! A copy elsewhere would be reached by the same edge, so nothing is gained by
//! moving, and sources that serve would be erased. That an application is to
//! blame itself is known only by a witness: anything that came back through
//! the edge, from anywhere, after the silence began.

use crate::{
    health::most_together,
    model::{Name, Service, Snapshot},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// What speaks for the edge, and what against it.
#[derive(Clone, Debug)]
pub struct Edge<'a> {
    /// Services of most clusters fell silent together.
    suspect: bool,
    /// When anything last came back from anywhere.
    reached: Option<Timestamp>,
    /// When anything last came back from each cluster that serves.
    serving: BTreeMap<&'a Name, Timestamp>,
    window: SignedDuration,
}

/// Why silence may be the edge's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// Services of most clusters fell silent together.
    Together,
    /// Requests to other clusters were answered a short time before, and none
    /// since: what is not silent yet may be about to be.
    NoWitness,
}

impl<'a> Edge<'a> {
    /// Collects what is known.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        let mut serving: BTreeMap<&Name, Timestamp> = BTreeMap::new();
        let mut reached = None;
        for application in &snapshot.applications {
            reached = application
                .copies
                .values()
                .map(|copy| copy.reached)
                .fold(reached, Option::max);
            // What was not heard of yet may have been heard of before anybody
            // looked.
            let copy = application.record.active().and_then(|active| {
                let copy = application.copies.get(&active.cluster)?;
                let serves = application.spec.traffic && copy.known_at_edge();
                let unknown = snapshot.services_since.filter(|_| serves);
                Some((&active.cluster, copy.reached.or(unknown)?))
            });
            if let Some((cluster, reached)) = copy {
                let last = serving.entry(cluster).or_insert(reached);
                *last = reached.max(*last);
            }
        }
        Self {
            suspect: silent_together(snapshot),
            reached,
            serving,
            window: snapshot.settings.hub_window,
        }
    }

    /// Whether the silence of a service on a cluster may be the edge's.
    pub fn doubt(&self, cluster: &str, since: Timestamp, now: Timestamp) -> Option<Doubt> {
        if self.suspect {
            return Some(Doubt::Together);
        }
        let until = self.witness_awaited(cluster, since)?;
        (until > now).then_some(Doubt::NoWitness)
    }

    /// Until when a word from another cluster is waited for, if one is to be
    /// expected: a cluster that nobody asks for anything says nothing, and
    /// must not keep others waiting.
    pub fn witness_awaited(&self, cluster: &str, since: Timestamp) -> Option<Timestamp> {
        if self.reached.is_some_and(|reached| reached > since) {
            return None;
        }
        self.serving
            .iter()
            .filter(|(other, _)| other.as_ref() != cluster)
            .filter_map(|(_, reached)| reached.checked_add(self.window).ok())
            .max()
    }
}

/// The services of two clusters or more, and of more than half of those that
/// serve, fell silent within one window: it is more likely that the edge
/// reaches nobody than that each of them broke.
fn silent_together(snapshot: &Snapshot) -> bool {
    // By cluster: silent since when, or not.
    let mut serving: BTreeMap<&Name, Option<Timestamp>> = BTreeMap::new();
    for application in &snapshot.applications {
        let copy = application.record.active().and_then(|active| {
            let copy = application.copies.get(&active.cluster)?;
            Some((&active.cluster, copy.service))
        });
        match copy {
            Some((cluster, Service::Answers)) => {
                serving.insert(cluster, None);
            }
            // Clusters come back one after the other: the last one is not to
            // be left because the others were first.
            Some((
                cluster,
                Service::Silent { since }
                | Service::AnswersAgain {
                    silent_since: since,
                },
            )) => {
                let all = serving.entry(cluster).or_insert(Some(since));
                *all = all.map(|first| first.min(since));
            }
            Some((_, Service::Unknown)) | None => {}
        }
    }
    let silent: Vec<Timestamp> = serving.values().copied().flatten().collect();
    silent.len() > 1 && most_together(silent, 0, serving.len(), snapshot.settings.hub_window)
}

#[cfg(test)]
mod tests;
