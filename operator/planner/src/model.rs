//! What a decision is made from: facts, records and observations.
//!
//! Three kinds of knowledge are kept apart. *Facts* are what people declared
//! ([`Provider`], [`Cluster`], [`Policy`], [`ApplicationSpec`]). *Records* are
//! what Flambeau stored before it acted ([`ApplicationRecord`],
//! [`MigrationRecord`]). *Observations* are what members and the edge looked
//! like when they last answered ([`CopyObservation`], [`EdgeObservation`]).

use crate::Reason;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// Name of an object.
pub type Name = Arc<str>;

/// Namespace and name of an application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApplicationKey {
    /// Namespace on the hub and on members.
    pub namespace: Name,
    /// Name within the namespace.
    pub name: Name,
}

impl fmt::Display for ApplicationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// A country: two capitals of ISO 3166-1 alpha-2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// The country of a two-letter code in capitals; none for anything else.
    /// Whether the code is assigned is checked where it is declared.
    pub fn new(code: &str) -> Option<Self> {
        match code.as_bytes() {
            [first, second] if first.is_ascii_uppercase() && second.is_ascii_uppercase() => {
                Some(Self([*first, *second]))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0 {
            write!(formatter, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// How far the loss of an application's data would reach; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sensitivity {
    /// Meant for everybody.
    Public,
    /// For the organisation.
    Internal,
    /// Personal data.
    Personal,
    /// Special categories of personal data, data of security bodies.
    Sensitive,
    /// What a state restricts.
    Restricted,
}

impl Sensitivity {
    /// All of them, in order.
    pub const ALL: [Sensitivity; 5] = [
        Sensitivity::Public,
        Sensitivity::Internal,
        Sensitivity::Personal,
        Sensitivity::Sensitive,
        Sensitivity::Restricted,
    ];
}

/// How badly an interruption hurts; ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// An annoyance.
    Standard,
    /// Noticed outside.
    Important,
    /// Stops the event.
    Critical,
}

/// A namespaced kind of the Kubernetes API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// Group and version, such as `apps/v1`.
    pub api_version: Name,
    /// Kind, such as `Deployment`.
    pub kind: Name,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.api_version, self.kind)
    }
}

/// One fact that puts an operator under the law of a country.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JurisdictionFact {
    /// The country.
    pub country: Country,
    /// What the fact is, such as `headquarters`.
    pub because: String,
}

/// A certification of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certification {
    /// Scheme, as policies name it.
    pub scheme: String,
    /// Level within the scheme.
    pub level: Option<String>,
    /// Clusters covered; all when empty.
    pub clusters: BTreeSet<Name>,
    /// First moment at which it no longer holds.
    pub valid_until: Timestamp,
}

/// Legal facts about one operator of clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Name of the CloudProvider.
    pub name: Name,
    /// Every known fact that puts it under some law.
    pub jurisdictions: Vec<JurisdictionFact>,
    /// Facts that are missing, each as a phrase; not empty means that further
    /// jurisdictions may reach it.
    pub unknown: Vec<String>,
    /// Certifications.
    pub certifications: Vec<Certification>,
}

/// Whether a member answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It answers.
    Reachable,
    /// It was not asked, or did not answer for the first time, yet.
    NotObserved,
    /// It answered once and does not any more.
    Unreachable {
        /// Since when.
        since: Timestamp,
    },
    /// It cannot be asked: the connection details are unusable.
    Misconfigured {
        /// What is wrong and how to mend it.
        message: String,
    },
}

/// One cluster of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Name of the MemberCluster.
    pub name: Name,
    /// Name of its CloudProvider.
    pub provider: Name,
    /// Where data lies; none when it cannot be understood.
    pub residency: Option<Country>,
    /// New applications are kept away.
    pub cordoned: bool,
    /// It is being removed from the fleet.
    pub deleting: bool,
    /// Whether it answers.
    pub reach: Reach,
    /// Namespaced kinds that it serves; none while unknown.
    pub kinds: Option<Arc<BTreeSet<Kind>>>,
}

/// A certification that must be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificationRule {
    /// Scheme.
    pub scheme: String,
    /// Levels that are good enough; any when empty.
    pub levels: BTreeSet<String>,
}

/// Where applications of some sensitivities may run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name of the SovereigntyPolicy.
    pub name: Name,
    /// Sensitivities that it governs.
    pub sensitivities: BTreeSet<Sensitivity>,
    /// The only countries where data may lie.
    pub residency_allowed: Option<BTreeSet<Country>>,
    /// The only jurisdictions that may reach the operator.
    pub jurisdiction_allowed: Option<BTreeSet<Country>>,
    /// Jurisdictions that must not reach the operator.
    pub jurisdiction_forbidden: BTreeSet<Country>,
    /// Certifications that must be held, all of them.
    pub certifications: Vec<CertificationRule>,
    /// Providers refused by name.
    pub refused_providers: BTreeSet<Name>,
    /// False only reports.
    pub enforce: bool,
    /// First moment in force; none for always.
    pub effective_from: Option<Timestamp>,
    /// Until when everything governed must be in a lawful place.
    pub complete_by: Option<Timestamp>,
    /// What cannot be understood, if anything: the policy then does nothing
    /// but say so.
    pub invalid: Option<String>,
}

impl Policy {
    /// Whether the policy binds at a time.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.invalid.is_none() && self.effective_from.is_none_or(|from| from <= now)
    }
}

/// Pace of a planned move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Percentages at the target, growing, the last is 100.
    pub stages: Vec<u8>,
    /// How long every stage lasts at least.
    pub stage: SignedDuration,
    /// How long the target serves alone before the source is drained.
    pub soak: SignedDuration,
    /// How long requests still open at the source get to end by themselves.
    pub drain: SignedDuration,
    /// How long a target gets to become ready.
    pub ready_timeout: SignedDuration,
}

/// What people declared about an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationSpec {
    /// Namespace and name.
    pub key: ApplicationKey,
    /// How sensitive its data is.
    pub sensitivity: Sensitivity,
    /// How badly an interruption hurts.
    pub criticality: Criticality,
    /// Kinds of its objects.
    pub kinds: BTreeSet<Kind>,
    /// Whether requests reach it through the edge.
    pub traffic: bool,
    /// Clusters in order of preference.
    pub preferred: Vec<Name>,
    /// Pace of a planned move.
    pub strategy: Strategy,
    /// Names of applications in the same namespace that move before it.
    pub depends_on: Vec<Name>,
    /// What cannot be used, if anything: nothing is written then, and no
    /// place is chosen. A move under way ends as far as it can.
    pub invalid: Option<String>,
}

/// What a copy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Serves, or will as soon as it is ready.
    Active,
    /// Target of a move under way.
    Target,
    /// Former active copy, kept until the move is sure.
    Source,
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
    /// Grows by one each time the active cluster changes.
    pub epoch: i64,
    /// How many moves were begun.
    pub migrations: i64,
    /// Every copy that is kept or still has to be erased.
    pub placements: Vec<Placement>,
    /// Targets that are avoided for a while.
    pub failed_targets: Vec<FailedTarget>,
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
    /// Ready endpoints of the traffic's service that the edge knows.
    pub endpoints_at_edge: usize,
    /// What the member said when it refused an object, if it did.
    pub refused: Option<String>,
}

impl CopyObservation {
    /// Every declared object is there as declared, and nothing else.
    pub fn settled(&self) -> bool {
        self.observed && self.current == self.declared && self.present == self.declared
    }

    /// Every workload is there and ready.
    pub fn ready(&self) -> bool {
        self.observed && self.current == self.declared && self.workloads_ready == self.workloads
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

/// What set a move off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A policy refuses the source.
    Policy,
    /// A person asked.
    Request,
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
    /// What set it off.
    pub trigger: Trigger,
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
    /// When the current stage of Shift began.
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
    /// How many moves may be under way at once.
    pub concurrent_moves: usize,
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
    /// Applications in the order of their keys.
    pub applications: Vec<Application>,
    /// How the fleet is run.
    pub settings: Settings,
}

impl Snapshot {
    /// Whether a cluster is part of the fleet and answers.
    pub fn reaches(&self, cluster: &str) -> bool {
        self.clusters
            .get(cluster)
            .is_some_and(|cluster| cluster.reach == Reach::Reachable)
    }

    /// Most clusters stopped answering: it is more likely that the hub is cut
    /// off than that they are all gone, so nothing moves.
    pub fn hub_suspect(&self) -> bool {
        let lost = self
            .clusters
            .values()
            .filter(|cluster| matches!(cluster.reach, Reach::Unreachable { .. }))
            .count();
        lost * 2 > self.clusters.len()
    }

    /// Whether a copy is positively known to do its work.
    pub fn serves(&self, application: &Application, cluster: &str) -> bool {
        self.reaches(cluster)
            && application.known_copy(cluster).is_some_and(|copy| {
                if application.spec.traffic {
                    copy.endpoints > 0 && copy.endpoints_at_edge > 0
                } else {
                    copy.ready()
                }
            })
    }
}
