//! The world outside the operator: what is really there.

use crate::{clock::Clock, random::Random, seeds::Tally, story::Story};
use flambeau_planner::model::{
    ApplicationKey, ApplicationRecord, ApplicationSpec, Cluster, Evacuation, Freeze,
    MigrationRecord, MoveType, Name, Policy, Provider, Settings, Step, Trigger,
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Objects of every application.
pub const OBJECTS: usize = 3;
/// Workloads of every application.
pub const WORKLOADS: usize = 2;
/// How long after a copy was disturbed from outside its failures are blamed on
/// that: the operator needs time to see it. Seconds.
pub const LAG: u64 = 25;

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It serves and answers.
    Up,
    /// It serves, and the edge reaches it, but it does not answer the operator.
    Partitioned,
    /// It is gone.
    Dead,
}

/// One member cluster.
#[derive(Clone, Debug)]
pub struct Member {
    pub link: Link,
    /// Its API server answers nobody before this second, while all else is well.
    pub deaf_until: u64,
    /// Requests to these applications are not answered before a second, while
    /// all else is well.
    pub mute: BTreeMap<ApplicationKey, u64>,
    /// Last second in which something failed by itself.
    pub disturbed: u64,
    pub copies: BTreeMap<ApplicationKey, CopyTruth>,
    /// The highest epoch that it was told of an application: it takes no write
    /// under a lower one, whether or not anything is there.
    pub epochs: BTreeMap<ApplicationKey, i64>,
    /// Writes under way that land later, answered or not.
    pub late: Vec<(u64, ApplicationKey, CopyTruth)>,
}

/// One copy of an application on a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyTruth {
    pub epoch: i64,
    pub generation: u64,
    /// Replicas of a standby; none for a copy that serves.
    pub floor: Option<u32>,
    /// Its first endpoint is ready from this second on.
    pub endpoint_at: u64,
    /// Every workload is ready from this second on.
    pub ready_at: u64,
    /// Not ready before this second, for a reason of its own.
    pub flapping_until: u64,
    /// Being erased, and gone at this second.
    pub gone_at: Option<u64>,
    /// It came from a process that was gone: it may appear where its absence
    /// was just seen, and be left of an application that nobody declares any
    /// more.
    pub late: bool,
}

/// A GamesApplication on the hub.
#[derive(Clone, Debug)]
pub struct HubApplication {
    pub spec: Arc<ApplicationSpec>,
    pub generation: u64,
    pub deleting: bool,
    pub record: Arc<ApplicationRecord>,
    /// It served once; from then on every failure needs an excuse.
    pub served: bool,
}

/// A Migration on the hub.
#[derive(Clone, Debug)]
pub struct HubMigration {
    pub application: ApplicationKey,
    pub name: Name,
    pub from: Name,
    pub to: Name,
    pub move_type: MoveType,
    pub trigger: Trigger,
    pub evacuation: Option<Name>,
    pub ignore_freeze: bool,
    pub pause: bool,
    pub abort: bool,
    pub created: u64,
    /// In which second each step was entered, by nobody's clock.
    pub entered: BTreeMap<Step, u64>,
    pub record: Arc<MigrationRecord>,
}

/// The route of one application at the edge.
#[derive(Clone, Debug, Default)]
pub struct Route {
    pub written: BTreeMap<Name, u8>,
    pub acknowledged_at: u64,
    pub effective: BTreeMap<Name, u8>,
    pub endpoints: BTreeMap<Name, usize>,
    pub open: BTreeMap<Name, u64>,
    pub errors_until: u64,
}

/// How wild the world is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temper {
    /// Chance, of a hundred, that an observation arrives in a second.
    pub observation: u64,
    /// Chance, of a thousand, that the operator dies at a write.
    pub crash: u64,
    /// Seconds by which the clock of a process may be wrong.
    pub skew: u64,
}

/// Everything.
pub struct World {
    /// Seconds since the beginning.
    pub second: u64,
    /// What the operator takes for the time.
    pub clock: Clock,
    pub random: Random,
    pub story: Story,
    pub temper: Temper,
    pub settings: Settings,
    pub providers: BTreeMap<Name, Arc<Provider>>,
    pub clusters: BTreeMap<Name, Arc<Cluster>>,
    pub policies: BTreeMap<Name, Arc<Policy>>,
    pub members: BTreeMap<Name, Member>,
    pub applications: BTreeMap<ApplicationKey, HubApplication>,
    pub migrations: Vec<HubMigration>,
    /// Copies to erase of applications that are gone, by cluster.
    pub pending_erasures: BTreeSet<(Name, ApplicationKey)>,
    /// Clusters that were taken out of the fleet with copies on them: whoever
    /// did so took these upon themselves.
    pub taken_with_copies: BTreeSet<Name>,
    pub evacuations: BTreeMap<Name, Arc<Evacuation>>,
    pub freezes: BTreeMap<Name, Arc<Freeze>>,
    /// Since when clusters do not answer, as stored on the hub, by the clock
    /// of whoever did.
    pub unreachable: BTreeMap<Name, Timestamp>,
    /// Since when copies answer requests without interruption.
    pub well_since: BTreeMap<(ApplicationKey, Name), u64>,
    /// Copies that answered requests, since requests go there.
    pub relied_on: BTreeSet<(ApplicationKey, Name)>,
    /// Clusters that come and go: the second of the next change.
    pub flapping: BTreeMap<Name, u64>,
    pub edge: BTreeMap<ApplicationKey, Route>,
    /// The edge reaches nobody.
    pub edge_cut_off: bool,
    /// Until when the edge's counts of a cluster do not come in.
    pub uncounted_until: BTreeMap<Name, u64>,
    /// Copies that never get ready.
    pub stuck: BTreeSet<(ApplicationKey, Name)>,
    /// Copies that the member refuses.
    pub refusing: BTreeSet<(ApplicationKey, Name)>,
    pub hub_writes: u64,
    pub member_writes: u64,
    /// How often what happened, by a word.
    pub tally: Tally,
}

/// The time at a second of the simulation, by a clock that is right.
pub fn time(second: u64) -> Timestamp {
    let begin = Timestamp::constant(1_770_400_800, 0);
    let passed = SignedDuration::from_secs(i64::try_from(second).unwrap_or(i64::MAX));
    begin.checked_add(passed).unwrap_or(Timestamp::MAX)
}

impl Member {
    /// A member without anything on it.
    pub fn new() -> Self {
        Self {
            link: Link::Up,
            deaf_until: 0,
            mute: BTreeMap::new(),
            disturbed: 0,
            copies: BTreeMap::new(),
            epochs: BTreeMap::new(),
            late: Vec::new(),
        }
    }

    /// Whether its API server answers.
    pub fn hears(&self, second: u64) -> bool {
        self.link == Link::Up && second >= self.deaf_until
    }

    /// Whether a copy answers requests.
    pub fn serves(&self, key: &ApplicationKey, second: u64) -> bool {
        let mute = self.mute.get(key).is_some_and(|until| second < *until);
        !mute && self.readiness(key, second).0 > 0
    }

    /// Ready endpoints and ready workloads of a copy.
    pub fn readiness(&self, key: &ApplicationKey, second: u64) -> (usize, usize) {
        let Some(copy) = self.copies.get(key) else {
            return (0, 0);
        };
        if self.link == Link::Dead || copy.gone_at.is_some() || second < copy.flapping_until {
            return (0, 0);
        }
        if copy.floor == Some(0) {
            return (0, 0);
        }
        if second >= copy.ready_at {
            (WORKLOADS, WORKLOADS)
        } else if second >= copy.endpoint_at {
            (1, 1)
        } else {
            (0, 0)
        }
    }
}

impl World {
    /// Whether requests that the edge sends to a cluster are answered.
    pub fn answers(&self, key: &ApplicationKey, cluster: &Name) -> bool {
        let known = self
            .edge
            .get(key)
            .and_then(|route| route.endpoints.get(cluster))
            .is_some_and(|endpoints| *endpoints > 0);
        let ready = self
            .members
            .get(cluster)
            .is_some_and(|member| member.serves(key, self.second));
        known && ready && !self.edge_cut_off
    }

    /// Since when requests to a copy have been answered, if they are.
    pub fn answers_since(&self, key: &ApplicationKey, cluster: &Name) -> Option<u64> {
        self.well_since
            .get(&(key.clone(), cluster.clone()))
            .copied()
    }

    /// Whether a copy failed by itself so recently that nobody could help it.
    pub fn disturbed(&self, key: &ApplicationKey, cluster: &Name) -> bool {
        // Nobody looks at a cluster that was taken out of the fleet.
        let watched = self.clusters.contains_key(cluster);
        let Some(member) = self.members.get(cluster).filter(|_| watched) else {
            return true;
        };
        let flapping = member
            .copies
            .get(key)
            .map_or(0, |copy| copy.flapping_until.saturating_add(LAG))
            .max(
                member
                    .mute
                    .get(key)
                    .map_or(0, |until| until.saturating_add(LAG)),
            );
        member.link != Link::Up
            || self.second < (member.disturbed + LAG).max(flapping)
            || self.stuck.contains(&(key.clone(), cluster.clone()))
    }

    /// Counts something that happened.
    pub fn count(&mut self, what: &str) {
        self.tally.add(what, 1);
    }

    /// True by chance, and at the latest within a few seconds.
    pub fn sooner_or_later(&mut self, chance: u64) -> bool {
        self.random.percent(chance) || self.second.is_multiple_of(7)
    }

    /// What failed by itself a short time ago is not seen before the operator
    /// lives again.
    pub fn nobody_looks_until(&mut self, second: u64) {
        for member in self.members.values_mut() {
            let last = member
                .copies
                .values()
                .map(|copy| copy.flapping_until)
                .chain(member.mute.values().copied())
                .fold(member.disturbed, u64::max);
            if self.second < last.saturating_add(LAG) {
                member.disturbed = member.disturbed.max(second);
            }
        }
    }

    /// One second passes, and what goes by itself goes on.
    pub fn pass_second(&mut self) {
        self.second += 1;
        let second = self.second;
        for member in self.members.values_mut() {
            if member.link == Link::Dead {
                member.disturbed = second;
                member.late.clear();
                continue;
            }
            if !member.hears(second) {
                member.disturbed = second;
            }
            let refused = land_late_writes(member, &self.applications, second);
            if refused > 0 {
                let what = "a member refused a late write under a lower epoch";
                self.tally.add(what, refused);
            }
            member
                .copies
                .retain(|_, copy| copy.gone_at.is_none_or(|gone| gone > second));
        }
        self.pass_second_at_edge();
        self.note_who_is_well();
    }

    fn note_who_is_well(&mut self) {
        let mut well = BTreeMap::new();
        for (key, route) in &self.edge {
            for cluster in route.endpoints.keys() {
                if self.answers(key, cluster) {
                    let both = (key.clone(), cluster.clone());
                    let since = self.well_since.get(&both).copied().unwrap_or(self.second);
                    well.insert(both, since);
                }
            }
        }
        self.well_since = well;
        let weight = |key: &ApplicationKey, cluster: &Name| {
            let route = self.edge.get(key);
            route.and_then(|route| route.effective.get(cluster).copied())
        };
        let carries = |both: &(ApplicationKey, Name)| {
            weight(&both.0, &both.1).is_some_and(|weight| weight > 0)
        };
        self.relied_on.retain(carries);
        let answering = self.well_since.keys().filter(|both| carries(both));
        self.relied_on.extend(answering.cloned());
    }

    fn pass_second_at_edge(&mut self) {
        for route in self.edge.values_mut() {
            if route.acknowledged_at <= self.second {
                route.effective = route.written.clone();
            }
            for (cluster, weight) in &route.effective {
                if *weight > 0 {
                    route.open.insert(cluster.clone(), 3);
                }
            }
            for (cluster, open) in &mut route.open {
                let weight = route.effective.get(cluster).copied().unwrap_or(0);
                if weight == 0 && self.random.percent(40) {
                    *open = open.saturating_sub(1);
                }
            }
        }
        for (key, application) in &mut self.applications {
            let Some(route) = self.edge.get(key) else {
                continue;
            };
            let served = route.effective.iter().any(|(cluster, weight)| {
                *weight > 0
                    && route.endpoints.get(cluster).is_some_and(|known| *known > 0)
                    && self
                        .members
                        .get(cluster)
                        .is_some_and(|member| member.serves(key, self.second))
            });
            application.served |= served;
        }
    }

    /// The objects of an application reach a member later.
    pub fn lands_late(
        &mut self,
        key: &ApplicationKey,
        cluster: &Name,
        (epoch, floor): (i64, Option<u32>),
        lands: u64,
    ) {
        let application = self.applications.get(key);
        let copy = CopyTruth {
            epoch,
            generation: application.map_or(0, |found| found.generation),
            floor,
            endpoint_at: lands + 2,
            ready_at: lands + 4,
            flapping_until: 0,
            gone_at: None,
            late: true,
        };
        if let Some(member) = self.members.get_mut(cluster) {
            member.late.push((lands, key.clone(), copy));
        }
    }

    /// A member is told how far an application is.
    pub fn raise_epoch(&mut self, key: &ApplicationKey, cluster: &Name, epoch: i64) {
        if let Some(member) = self.members.get_mut(cluster) {
            let highest = member.epochs.entry(key.clone()).or_default();
            *highest = epoch.max(*highest);
        }
    }

    /// A member gets the objects of an application.
    pub fn write_copy(
        &mut self,
        key: &ApplicationKey,
        cluster: &Name,
        epoch: i64,
        floor: Option<u32>,
    ) {
        self.raise_epoch(key, cluster, epoch);
        let generation = self
            .applications
            .get(key)
            .map_or(0, |found| found.generation);
        let (endpoint, ready) = (self.random.between(1, 5), self.random.between(1, 9));
        let never = self.stuck.contains(&(key.clone(), cluster.clone()));
        let second = self.second;
        let awaited = self
            .edge
            .get(key)
            .and_then(|route| route.effective.get(cluster))
            .is_some_and(|weight| *weight > 0);
        let Some(member) = self.members.get_mut(cluster) else {
            return;
        };
        self.member_writes += 1;
        match member.copies.get_mut(key) {
            Some(copy) => {
                copy.epoch = copy.epoch.max(epoch);
                copy.generation = generation;
                // A standby at its floor has one endpoint, and gets the others.
                if copy.floor != floor && copy.floor == Some(0) {
                    copy.endpoint_at = second + endpoint.min(ready);
                }
                if copy.floor.is_some() && floor.is_none() {
                    copy.ready_at = second + ready;
                }
                copy.floor = floor;
            }
            None => {
                let later = |delay: u64| if never { u64::MAX } else { second + delay };
                let copy = CopyTruth {
                    epoch,
                    generation,
                    floor,
                    endpoint_at: later(endpoint.min(ready)),
                    ready_at: later(ready),
                    // Requests were there first: nothing else could serve them.
                    flapping_until: if awaited { later(ready) } else { 0 },
                    gone_at: None,
                    late: false,
                };
                member.copies.insert(key.clone(), copy);
            }
        }
    }

    /// A copy begins to go; it serves no more from this second on.
    pub fn erase_copy(&mut self, key: &ApplicationKey, cluster: &Name) {
        let gone = self.second + self.random.between(1, 6);
        if let Some(application) = self.applications.get(key) {
            self.raise_epoch(key, cluster, application.record.epoch);
        }
        if let Some(copy) = self
            .members
            .get_mut(cluster)
            .and_then(|member| member.copies.get_mut(key))
        {
            self.member_writes += 1;
            copy.gone_at.get_or_insert(gone);
        }
    }

    /// The edge gets weights, and takes its time.
    pub fn write_route(&mut self, key: &ApplicationKey, weights: &BTreeMap<Name, u8>) {
        let acknowledged_at = self.second + self.random.between(1, 3);
        let route = self.edge.entry(key.clone()).or_default();
        route.written.clone_from(weights);
        route.acknowledged_at = acknowledged_at;
        self.member_writes += 1;
    }
}

/// Says how many are refused because the member was told of a higher epoch.
fn land_late_writes(
    member: &mut Member,
    applications: &BTreeMap<ApplicationKey, HubApplication>,
    second: u64,
) -> u64 {
    let (due, later) = member.late.drain(..).partition(|(at, _, _)| *at <= second);
    member.late = later;
    let mut refused = 0;
    for (_, key, copy) in Vec::from_iter::<Vec<_>>(due) {
        let newer = member
            .epochs
            .get(&key)
            .is_some_and(|highest| *highest > copy.epoch);
        refused += u64::from(newer);
        // Not covered: what comes from the life of an application that ends,
        // under the epoch that it ended with, would land and be left behind.
        let awaited = applications.get(&key).is_some_and(|found| !found.deleting);
        if awaited && !newer {
            member.copies.entry(key).or_insert(copy);
        }
    }
    refused
}
