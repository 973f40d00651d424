//! What people declared: providers, clusters, policies, applications.

use jiff::{SignedDuration, Timestamp};
use std::{collections::BTreeSet, fmt, sync::Arc};

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

/// What an application requests, or a cluster offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resources {
    /// Processors, in thousandths.
    pub milli_cpu: u64,
    /// Memory, in bytes.
    pub memory: u64,
}

impl fmt::Display for Resources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MEBIBYTE: u64 = 1 << 20;
        let (whole, rest) = (self.milli_cpu / 1000, self.milli_cpu % 1000);
        match rest {
            0 => write!(formatter, "{whole} CPU")?,
            _ => write!(formatter, "{}m CPU", self.milli_cpu)?,
        }
        write!(formatter, " and {} MiB", self.memory.div_ceil(MEBIBYTE))
    }
}

/// What is known of the nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nodes {
    /// Nodes there are.
    pub total: usize,
    /// Nodes that are ready and renewed their lease lately.
    pub ready: usize,
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
    /// Those of them that applications must not have there.
    pub refused_kinds: Arc<BTreeSet<Kind>>,
    /// The only namespaces for applications there; any when empty.
    pub namespaces: BTreeSet<Name>,
    /// An application there answered requests within the last seconds, whatever
    /// the API server does.
    pub services_answer: bool,
    /// Its API server has been silent for longer than an answer takes, but not
    /// for long enough to be called unreachable.
    pub in_doubt: bool,
    /// Since when it answers without interruption; none while it does not.
    pub answers_since: Option<Timestamp>,
    /// It was unreachable before it answered: it has to prove itself.
    pub returned: bool,
    /// How long a cluster that returned must answer before anything is moved
    /// to it.
    pub recovered_after: SignedDuration,
    /// Its nodes; none while unknown.
    pub nodes: Option<Nodes>,
    /// What applications may request of it in all; none while unknown.
    pub capacity: Option<Resources>,
    /// Applications, by key, whose erasure waits for the cluster to answer.
    pub pending_erasures: BTreeSet<ApplicationKey>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: "".into(),
            provider: "".into(),
            residency: None,
            cordoned: false,
            deleting: false,
            reach: Reach::NotObserved,
            kinds: None,
            refused_kinds: Arc::default(),
            namespaces: BTreeSet::new(),
            services_answer: false,
            in_doubt: false,
            answers_since: None,
            returned: false,
            recovered_after: SignedDuration::from_secs(10),
            nodes: None,
            capacity: None,
            pending_erasures: BTreeSet::new(),
        }
    }
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

/// What happens when the cluster of an application is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// Without a person.
    pub automatic: bool,
    /// Replicas that a standby keeps; none for no standby.
    pub standby: Option<u32>,
    /// How long services must have failed before a cluster that is well
    /// otherwise is left.
    pub unhealthy_after: SignedDuration,
    /// How long after a failover the application neither leaves a cluster that
    /// still answers, nor goes back to the one that it left.
    pub cooldown: SignedDuration,
    /// How long the former cluster must be well before the application goes
    /// back by itself; none for never.
    pub failback_after: Option<SignedDuration>,
}

impl Default for Failover {
    fn default() -> Self {
        Self {
            automatic: true,
            standby: None,
            unhealthy_after: SignedDuration::from_secs(10),
            cooldown: SignedDuration::from_secs(60),
            failback_after: None,
        }
    }
}

/// Everything leaves some clusters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evacuation {
    /// Name of the Evacuation.
    pub name: Name,
    /// Cluster to be emptied, if one is named.
    pub cluster: Option<Name>,
    /// Provider whose clusters are to be emptied, if one is named.
    pub provider: Option<Name>,
    /// The only clusters that applications may go to; any when empty.
    pub to: Vec<Name>,
    /// Its moves at the same time.
    pub max_concurrent: Option<usize>,
    /// Why.
    pub reason: String,
    /// Who asked.
    pub requested_by: Option<String>,
    /// It crosses a freeze.
    pub ignore_freeze: bool,
    /// No further move begins.
    pub pause: bool,
    /// Its moves are walked back, and no other begins.
    pub abort: bool,
    /// Applications that were to leave, as recorded.
    pub total: usize,
    /// How it ended, as recorded.
    pub ended: bool,
}

/// A window during which no planned move begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Name of the Freeze.
    pub name: Name,
    /// First moment.
    pub from: Timestamp,
    /// First moment after.
    pub until: Timestamp,
    /// Namespaces concerned; all when empty.
    pub namespaces: BTreeSet<Name>,
    /// Why.
    pub reason: String,
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
    /// What happens when its cluster is lost.
    pub failover: Failover,
    /// What its workloads request in all.
    pub demand: Resources,
    /// Recovery time objective.
    pub recovery_time: Option<SignedDuration>,
    /// Names of applications in the same namespace that move before it.
    pub depends_on: Vec<Name>,
    /// What cannot be used, if anything: nothing is written then, and no
    /// place is chosen. A move under way ends as far as it can.
    pub invalid: Option<String>,
}
