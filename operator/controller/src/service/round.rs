//! The task that looks at the services of copies, again and again.

use super::{
    Board, Copies, Finding, Found,
    connect::attempt,
    evidence::{Attempt, Evidence},
};
use crate::{dirty::Dirty, edge::Edge, members::Members};
use flambeau_planner::model::{ApplicationKey, Name, Service};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How often what is known is looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often a connection to a copy in doubt is tried.
const PACE: Duration = Duration::from_secs(1);
/// How often a connection is tried to a cluster from which none was ever
/// answered: until it is known, silence there means nothing.
const FIRST_PACE: Duration = Duration::from_secs(10);
/// How many endpoints of a copy are tried at once.
const ENDPOINTS: usize = 2;
/// How many copies are tried at once.
const ATTEMPTS: usize = 64;
/// How late a look may be before it is said that this process did not run.
const LATE: Duration = Duration::from_secs(1);

type Place = (ApplicationKey, Name);

/// One copy.
#[derive(Default)]
struct Copy {
    evidence: Evidence,
    /// When a connection was last tried; how often.
    tried: Option<Instant>,
    turn: usize,
    under_way: bool,
}

pub(super) struct Round<E> {
    members: Members,
    edge: E,
    dirty: Dirty,
    board: Arc<Board>,
    wanted: Arc<Copies>,
    copies: BTreeMap<Place, Copy>,
    /// Clusters from which a connection was ever answered.
    known: BTreeSet<Name>,
    attempts: JoinSet<(Place, Attempt)>,
    hurry: bool,
}

impl<E: Edge> Round<E> {
    pub fn new(members: Members, edge: E, dirty: Dirty, board: Arc<Board>) -> Self {
        Self {
            members,
            edge,
            dirty,
            board,
            wanted: Arc::default(),
            copies: BTreeMap::new(),
            known: BTreeSet::new(),
            attempts: JoinSet::new(),
            hurry: false,
        }
    }

    /// Runs until it is stopped.
    pub async fn run(mut self) {
        let mut next = Instant::now();
        loop {
            tokio::select! {
                Some(ended) = self.attempts.join_next() => {
                    if let Ok((place, attempt)) = ended {
                        self.tried(place, attempt);
                    }
                }
                () = sleep_until(next) => {
                    let late = next.elapsed();
                    if late > LATE {
                        self.copies.values_mut().for_each(|copy| copy.evidence.excuse(late));
                    }
                    self.look();
                    next = Instant::now() + TICK;
                }
            }
        }
    }

    fn tried(&mut self, place: Place, attempt: Attempt) {
        if attempt != Attempt::Unanswered {
            self.known.insert(place.1.clone());
        }
        let known = self.known.contains(&place.1);
        if let Some(copy) = self.copies.get_mut(&place) {
            copy.under_way = false;
            copy.evidence.tried(attempt, known);
        }
    }

    fn look(&mut self) {
        self.take_wanted();
        let mut found = Found::default();
        let mut doubtful = BTreeMap::new();
        let mut due = Vec::new();
        let mut doubts = false;
        for (place, copy) in &mut self.copies {
            let (key, cluster) = place;
            if let Some(reading) = self.edge.reading(key, cluster) {
                copy.evidence.read(reading);
            }
            let has_endpoints = || {
                let endpoints = self.members.endpoints(cluster, key);
                endpoints.iter().any(|endpoint| endpoint.ready)
            };
            let service = copy.evidence.judge(has_endpoints);
            if copy.evidence.lives() {
                found.living.insert(cluster.clone());
            }
            let finding = Finding {
                service,
                reached: copy.evidence.reached(),
            };
            let of_application = found.copies.entry(key.clone()).or_default();
            of_application.insert(cluster.clone(), finding);
            let doubtful = *doubtful
                .entry(cluster.clone())
                .or_insert_with(|| self.members.in_doubt(cluster));
            let doubt = doubtful || copy.evidence.in_doubt();
            doubts |= doubt;
            let pace = match (doubt, self.known.contains(cluster)) {
                (true, _) => PACE,
                (false, false) => FIRST_PACE,
                (false, true) => continue,
            };
            if !copy.under_way && copy.tried.is_none_or(|tried| tried.elapsed() >= pace) {
                due.push((copy.tried, place.clone()));
            }
        }
        self.publish(found, &doubtful);
        self.hurry(doubts);
        due.sort();
        self.attempt(due.into_iter().map(|(_, place)| place));
    }

    fn take_wanted(&mut self) {
        let wanted = self.board.wanted().clone();
        if Arc::ptr_eq(&wanted, &self.wanted) {
            return;
        }
        let mut before = std::mem::take(&mut self.copies);
        for (key, clusters) in &*wanted {
            for cluster in clusters {
                let place = (key.clone(), cluster.clone());
                let copy = before.remove(&place).unwrap_or_default();
                self.copies.insert(place, copy);
            }
        }
        self.wanted = wanted;
        self.edge
            .watch_services(self.wanted.keys().cloned().collect(), self.hurry);
    }

    fn hurry(&mut self, doubts: bool) {
        if self.hurry != doubts {
            self.hurry = doubts;
            self.edge
                .watch_services(self.wanted.keys().cloned().collect(), doubts);
        }
    }

    /// Asks for a plan when one may depend on what is new: that requests come
    /// and go means nothing as long as all is well.
    fn publish(&self, found: Found, doubtful: &BTreeMap<Name, bool>) {
        let mut before = self.board.found();
        if *before == found {
            return;
        }
        let matters = matters(&before, &found, doubtful);
        *before = found;
        drop(before);
        if matters {
            self.dirty.mark();
        }
    }

    fn attempt(&mut self, due: impl Iterator<Item = Place>) {
        for place in due {
            if self.attempts.len() >= ATTEMPTS {
                return;
            }
            let Some(copy) = self.copies.get_mut(&place) else {
                continue;
            };
            let addresses: Vec<SocketAddr> = {
                let endpoints = self.members.endpoints(&place.1, &place.0);
                let ready: Vec<_> = endpoints.iter().filter(|one| one.ready).collect();
                let turn = copy.turn % ready.len().max(1);
                let around = ready.iter().cycle().skip(turn).take(ready.len());
                around
                    .take(ENDPOINTS)
                    .map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port))
                    .collect()
            };
            copy.tried = Some(Instant::now());
            copy.turn = copy.turn.wrapping_add(ENDPOINTS);
            if addresses.is_empty() {
                continue;
            }
            copy.under_way = true;
            self.attempts
                .spawn(async move { (place, attempt(addresses).await) });
        }
    }
}

fn matters(before: &Found, now: &Found, doubtful: &BTreeMap<Name, bool>) -> bool {
    let in_doubt = |cluster: &Name| doubtful.get(cluster).copied().unwrap_or(false);
    let mut changed = before.living.symmetric_difference(&now.living);
    if changed.any(in_doubt) {
        return true;
    }
    let silent = |service: Service| {
        matches!(
            service,
            Service::Silent { .. } | Service::AnswersAgain { .. }
        )
    };
    let changed = now.copies.iter().any(|(key, clusters)| {
        clusters.iter().any(|(cluster, finding)| {
            let earlier = before.copies.get(key);
            let earlier = earlier.and_then(|clusters| clusters.get(cluster).copied());
            let earlier = earlier.unwrap_or_default();
            let (before, service) = (earlier.service, finding.service);
            // A move may wait for the first word.
            earlier.reached.is_none() && finding.reached.is_some()
                || before != service && (in_doubt(cluster) || silent(before) || silent(service))
        })
    });
    changed || testified(before, now)
}

/// Whether something came back through the edge for the first time since
/// another copy fell silent: that one may have waited for the word.
fn testified(before: &Found, now: &Found) -> bool {
    let findings = |found: &Found| -> Vec<Finding> {
        let copies = found.copies.values();
        copies
            .flat_map(|clusters| clusters.values().copied())
            .collect()
    };
    let latest =
        |findings: Vec<Finding>| findings.iter().filter_map(|finding| finding.reached).max();
    let all = findings(now);
    let silent: Vec<Timestamp> = all
        .iter()
        .filter_map(|finding| match finding.service {
            Service::Silent { since } => Some(since),
            _ => None,
        })
        .collect();
    if silent.is_empty() {
        return false;
    }
    let (earlier, reached) = (latest(findings(before)), latest(all));
    silent
        .into_iter()
        .any(|since| earlier <= Some(since) && reached > Some(since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    #[test]
    fn the_first_word_from_elsewhere_since_a_silence_asks_for_a_plan() {
        let since = Timestamp::now();
        let after = |seconds| since + SignedDuration::from_secs(seconds);
        let found = |reached: Timestamp| {
            let mut found = Found::default();
            let findings = [
                ("silent", Service::Silent { since }, None),
                ("well", Service::Answers, Some(reached)),
            ];
            for (name, service, reached) in findings {
                let key = ApplicationKey {
                    namespace: "games".into(),
                    name: name.into(),
                };
                let copies = [(name.into(), Finding { service, reached })].into();
                found.copies.insert(key, copies);
            }
            found
        };
        let asks = |before, now| matters(&found(before), &found(now), &BTreeMap::new());
        assert!(!asks(after(-2), after(0)), "that may have been before");
        assert!(asks(after(0), after(1)));
        assert!(!asks(after(1), after(2)), "known already");
    }
}
