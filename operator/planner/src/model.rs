//! What a decision is made from: facts, records and observations.
//!
//! Three kinds of knowledge are kept apart. *Facts* are what people declared
//! ([`Provider`], [`Cluster`], [`Policy`], [`ApplicationSpec`]). *Records* are
//! what Flambeau stored before it acted ([`ApplicationRecord`],
//! [`MigrationRecord`]). *Observations* are what members and the edge looked
//! like when they last answered ([`CopyObservation`], [`EdgeObservation`]).

mod facts;

use crate::Reason;
use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeMap, sync::Arc};

pub use facts::*;

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Serves, or will as soon as it is ready.
    Active,
    /// Target of a move under way.
    Target,
    /// Former active copy, kept until the move is sure.
    Source,
    /// Kept ready for a failover.
    Standby,
    /// Being erased.
    Retiring,
}

/// One copy of an application, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub cluster: Name,
    /// What for.
    pub role: Role,
    /// Epoch under which it is written.
    pub epoch: i64,
    /// Since when it has the role.
    pub since: Timestamp,
}

/// A target on which a move was abandoned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedTarget {
    /// Where.
    pub cluster: Name,
    /// How many moves in a row were abandoned there.
    pub attempts: u32,
    /// Reason of the last.
    pub reason: Reason,
    /// Name of the last Migration that was abandoned there.
    pub migration: Name,
    /// Not chosen again before this time.
    pub retry_after: Timestamp,
}

/// What was recorded about an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationRecord {
    /// Grows by one each time the active cluster changes, and with each move
    /// that is walked back: no two attempts share an epoch.
    pub epoch: i64,
    /// How many moves were begun.
    pub migrations: i64,
    /// Every copy that is kept or still has to be erased.
    pub placements: Vec<Placement>,
    /// Targets that are avoided for a while.
    pub failed_targets: Vec<FailedTarget>,
    /// Where it was failed over from, and has not gone back to.
    pub failed_over_from: Option<Name>,
}

impl ApplicationRecord {
    /// The copy that serves, if there is one.
    pub fn active(&self) -> Option<&Placement> {
        self.placements
            .iter()
            .find(|placement| placement.role == Role::Active)
    }

    /// The copy on a cluster.
    pub fn on(&self, cluster: &str) -> Option<&Placement> {
        self.placements
            .iter()
            .find(|placement| &*placement.cluster == cluster)
    }

    /// An epoch that nothing of the application was ever written under, also
    /// by a move whose record is gone.
    pub fn next_epoch(&self) -> i64 {
        let placed = self.placements.iter().map(|placement| placement.epoch);
        placed.fold(self.epoch, i64::max) + 1
    }
}

/// What is known of the services of a copy as requests see them, whatever
/// its API server says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// No request went there lately, and nothing was tried.
    #[default]
    Unknown,
    /// A request was answered, or a connection taken, within the last seconds.
    Answers,
    /// The same, and until a moment ago none was.
    AnswersAgain {
        /// When the silence had begun.
        silent_since: Timestamp,
    },
    /// Every request and every attempt failed.
    Silent {
        /// Since when, without an answer in between.
        since: Timestamp,
    },
}

impl Service {
    /// Whether it answers, be it again.
    pub const fn answers(self) -> bool {
        matches!(self, Self::Answers | Self::AnswersAgain { .. })
    }
}

/// What one copy looked like when its cluster last answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyObservation {
    /// False until the cluster's objects were listed once: nothing is known.
    pub observed: bool,
    /// Declared objects that are there as declared, under the right epoch.
    pub current: usize,
    /// Objects that are declared.
    pub declared: usize,
    /// Objects of the application on the cluster, declared or not.
    pub present: usize,
    /// Workloads that are ready.
    pub workloads_ready: usize,
    /// Workloads there are.
    pub workloads: usize,
    /// Ready endpoints of the traffic's service, on the member.
    pub endpoints: usize,
    /// Ready endpoints of the traffic's service that the edge knows; none
    /// while nobody has asked it yet, for the moments after a process began or
    /// a move did.
    pub endpoints_at_edge: Option<usize>,
    /// What the member said when it refused an object, if it did.
    pub refused: Option<String>,
    /// Why Flambeau may not look at all of the copy, if it may not: its
    /// namespace is left out of `spec.access`, or a kind cannot be listed.
    pub hidden: Option<String>,
    /// Its services as requests see them: also known of a cluster whose API
    /// server does not answer.
    pub service: Service,
    /// When anything last came from there through the edge in return for a
    /// request, be it an error: the edge reached it then. Nothing when the
    /// edge never told.
    pub reached: Option<Timestamp>,
}

impl CopyObservation {
    /// Whether the edge is known to have an endpoint of it.
    pub fn known_at_edge(&self) -> bool {
        self.endpoints_at_edge
            .is_some_and(|endpoints| endpoints > 0)
    }

    /// Whether the edge is known to have none, which is more than not to know.
    pub fn missing_at_edge(&self) -> bool {
        self.endpoints_at_edge == Some(0)
    }

    /// Every declared object is there as declared, and nothing else.
    pub fn settled(&self) -> bool {
        self.observed && self.current == self.declared && self.present == self.declared
    }

    /// Every workload is there and ready.
    pub fn ready(&self) -> bool {
        self.observed && self.current == self.declared && self.workloads_ready == self.workloads
    }

    /// What keeps Flambeau from bringing the copy about, or from erasing it.
    pub fn obstacle(&self) -> Option<&str> {
        self.refused.as_deref().or(self.hidden.as_deref())
    }

    /// Positively known to be gone.
    pub fn absent(&self) -> bool {
        self.observed && self.present == 0
    }
}

/// What the edge looked like when it last answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeObservation {
    /// Percentages as written to the route, by cluster.
    pub weights: BTreeMap<Name, u8>,
    /// The edge confirmed the route as written.
    pub acknowledged: bool,
    /// What keeps requests from the application at the edge, if anything is
    /// known to.
    pub problem: Option<String>,
    /// Requests open at a cluster; no entry when the edge does not say.
    pub open_requests: BTreeMap<Name, u64>,
    /// Requests answered and failed at a cluster during the current stage; no
    /// entry when the edge does not say.
    pub stage_requests: BTreeMap<Name, StageRequests>,
}

/// Requests at one cluster during the current stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageRequests {
    /// All requests.
    pub total: u64,
    /// Those that the cluster answered with 5xx, or never.
    pub failed: u64,
}

/// An application with everything known about it.
#[derive(Clone, Debug)]
pub struct Application {
    /// What people declared.
    pub spec: Arc<ApplicationSpec>,
    /// It is being deleted.
    pub deleting: bool,
    /// What was recorded.
    pub record: Arc<ApplicationRecord>,
    /// Every cluster where a copy is recorded, wanted or seen. Never older
    /// than the answer to the operator's own last write to that copy.
    pub copies: BTreeMap<Name, CopyObservation>,
    /// The edge; nothing for applications without traffic.
    pub edge: EdgeObservation,
    /// Moves that are not over, oldest first.
    pub migrations: Vec<Migration>,
}

impl Application {
    /// The move that is under way: the one that already touched something, or
    /// else the oldest. Any other has to wait, or is refused.
    pub fn current_move(&self) -> Option<&Migration> {
        self.migrations
            .iter()
            .find(|migration| migration.record.reached(Step::Prepare))
            .or_else(|| self.migrations.first())
    }

    /// The copy on a cluster, as far as it is known at all.
    pub fn known_copy(&self, cluster: &str) -> Option<&CopyObservation> {
        self.copies.get(cluster).filter(|copy| copy.observed)
    }
}

/// A step of a move, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Law, reachability and kinds are checked.
    Preflight,
    /// Objects are written to the target.
    Prepare,
    /// Workloads and endpoints of the target get ready.
    Ready,
    /// Data catches up.
    Sync,
    /// Requests go over in stages.
    Shift,
    /// The target serves alone.
    Soak,
    /// The source finishes its requests.
    Drain,
    /// The source is erased.
    Retire,
    /// Requests go back, the target is erased.
    Abort,
    /// Nothing is left to do.
    Done,
}

impl Step {
    /// The word as it stands in status, events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Step::Preflight => "Preflight",
            Step::Prepare => "Prepare",
            Step::Ready => "Ready",
            Step::Sync => "Sync",
            Step::Shift => "Shift",
            Step::Soak => "Soak",
            Step::Drain => "Drain",
            Step::Retire => "Retire",
            Step::Abort => "Abort",
            Step::Done => "Done",
        }
    }
}

/// How a move ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The application runs on the target.
    Completed,
    /// The application runs on the source.
    Aborted,
}

/// Kind of a move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MoveType {
    /// Planned, make-before-break.
    #[default]
    Relocate,
    /// Unplanned, as fast as the target gets ready.
    Failover,
    /// A relocate to where the application was failed over from.
    Failback,
}

/// What set a move off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A policy refuses the source.
    Policy,
    /// A person asked.
    Request,
    /// The source is lost.
    Loss,
    /// An Evacuation empties the source.
    Evacuation,
    /// The application asks to go back by itself.
    Failback,
}

/// One move, as requested and recorded.
#[derive(Clone, Debug)]
pub struct Migration {
    /// Name of the Migration.
    pub name: Name,
    /// Cluster that the application leaves.
    pub from: Name,
    /// Cluster that it goes to.
    pub to: Name,
    /// Kind.
    pub move_type: MoveType,
    /// What set it off.
    pub trigger: Trigger,
    /// The Evacuation that it is part of.
    pub evacuation: Option<Name>,
    /// It begins although a freeze is in force.
    pub ignore_freeze: bool,
    /// A person holds it.
    pub pause: bool,
    /// A person asked to walk it back.
    pub abort: bool,
    /// What was recorded.
    pub record: Arc<MigrationRecord>,
}

/// What was recorded about a move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MigrationRecord {
    /// Epoch under which the target is written; 0 before it is known.
    pub epoch: i64,
    /// The step under way; none before the first.
    pub step: Option<Step>,
    /// Percentage of requests that go to the target.
    pub percent: u8,
    /// When the share of the target last changed; none as long as no request
    /// was ever sent there.
    pub stage_since: Option<Timestamp>,
    /// Every step so far.
    pub steps: Vec<StepRecord>,
    /// Why it is being walked back.
    pub abort_reason: Option<(Reason, String)>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Since when no weighted backend has a ready endpoint.
    pub down_since: Option<Timestamp>,
    /// How long that was so, all in all.
    pub downtime: SignedDuration,
    /// When a lost source last gave a sign of life.
    pub lost_since: Option<Timestamp>,
    /// From then until the target served.
    pub recovery: Option<SignedDuration>,
}

impl MigrationRecord {
    /// Whether the move ever got to a step.
    pub fn reached(&self, step: Step) -> bool {
        self.steps.iter().any(|record| record.step == step)
    }

    /// Nothing is left to do.
    pub fn done(&self) -> bool {
        self.step == Some(Step::Done)
    }
}

/// One step of a move, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// The step.
    pub step: Step,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Option<Timestamp>,
    /// The gates, as they last spoke.
    pub verdicts: Vec<Verdict>,
}

/// What one gate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Name of the gate.
    pub gate: std::borrow::Cow<'static, str>,
    /// Whether the step may pass.
    pub outcome: GateOutcome,
    /// Why.
    pub reason: Reason,
    /// The fact behind the reason.
    pub message: String,
}

/// Whether a step may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GateOutcome {
    /// It may.
    Pass,
    /// Not yet.
    Wait,
    /// Never: the move is walked back.
    Fail,
}

/// How the fleet is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many planned moves may be under way at once.
    pub concurrent_moves: usize,
    /// How many failovers may write their targets at once. What only waits for
    /// workloads to get ready does not count.
    pub concurrent_failovers: usize,
    /// Clusters that stop answering within this time of each other vanish
    /// together.
    pub hub_window: SignedDuration,
    /// How long a target is avoided after its first failed move; doubles
    /// with each further one.
    pub retry_backoff: SignedDuration,
    /// The longest time that a target is avoided.
    pub retry_backoff_limit: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrent_moves: 2,
            concurrent_failovers: 128,
            hub_window: SignedDuration::from_mins(1),
            retry_backoff: SignedDuration::from_secs(30),
            retry_backoff_limit: SignedDuration::from_mins(10),
        }
    }
}

/// The whole fleet, as last observed.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Providers by name.
    pub providers: BTreeMap<Name, Arc<Provider>>,
    /// Clusters by name.
    pub clusters: BTreeMap<Name, Arc<Cluster>>,
    /// Policies by name.
    pub policies: BTreeMap<Name, Arc<Policy>>,
    /// Since when services are looked at; nothing when they are not.
    pub services_since: Option<Timestamp>,
    /// Since when times are by the clock of the process that looks: since it
    /// leads, or since its clock was set. Nothing when all times are by one
    /// clock.
    pub clock_since: Option<Timestamp>,
    /// Applications in the order of their keys.
    pub applications: Vec<Application>,
    /// Evacuations by name.
    pub evacuations: BTreeMap<Name, Arc<Evacuation>>,
    /// Freezes by name.
    pub freezes: BTreeMap<Name, Arc<Freeze>>,
    /// How the fleet is run.
    pub settings: Settings,
}

impl Snapshot {
    /// From when on a wait is counted that was recorded to begin at a time. A
    /// time that another clock wrote down says that something began, but not
    /// how long it has lasted by this one.
    pub fn counted_from(&self, recorded: Timestamp) -> Timestamp {
        self.clock_since
            .map_or(recorded, |since| recorded.max(since))
    }

    /// Whether a cluster is part of the fleet and answers.
    pub fn reaches(&self, cluster: &str) -> bool {
        self.clusters
            .get(cluster)
            .is_some_and(|cluster| cluster.reach == Reach::Reachable)
    }

    /// Whether a copy is positively known to do its work: endpoints that are
    /// ready on the member, and answer nobody at the edge, do not.
    pub fn serves(&self, application: &Application, cluster: &str) -> bool {
        self.reaches(cluster)
            && application.known_copy(cluster).is_some_and(|copy| {
                if application.spec.traffic {
                    let silent = matches!(copy.service, Service::Silent { .. });
                    copy.endpoints > 0 && copy.known_at_edge() && !silent
                } else {
                    copy.ready()
                }
            })
    }
}
