//! Stable reasons: the same word in the condition, the event, the metric and
//! the output of the offline plan.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Why something is as it is. The words are part of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[doc = $doc])+ $name,)+ }

        impl Reason {
            /// Every reason there is, in the order of the documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)+];

            /// The word as it stands in conditions, events and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => stringify!($name),)+ }
            }

            /// One sentence on what the reason means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// The reason that a recorded word stands for.
            pub fn parse(word: &str) -> Option<Reason> {
                Reason::ALL.iter().copied().find(|reason| reason.as_str() == word)
            }
        }
    };
}

reasons! {
    /// Every policy in force that governs the application allows the cluster.
    PoliciesSatisfied,
    /// No policy in force governs the application.
    NotGoverned,
    /// Only policies that audit object to the cluster.
    AuditFinding,
    /// Data on the cluster lies in a country that a policy does not allow.
    ResidencyNotAllowed,
    /// It is not known where data on the cluster lies.
    ResidencyUnknown,
    /// A forbidden jurisdiction reaches the operator of the cluster.
    JurisdictionForbidden,
    /// A jurisdiction beyond the allowed ones reaches the operator.
    JurisdictionNotAllowed,
    /// Not every jurisdiction over the operator is known.
    JurisdictionUnknown,
    /// The provider lacks a certification that a policy requires.
    CertificationMissing,
    /// A certification that a policy requires has expired.
    CertificationExpired,
    /// A policy refuses the provider by name.
    ProviderRefused,
    /// The cluster names a CloudProvider that does not exist.
    ProviderUnknown,
    /// The cluster may take the application.
    Eligible,
    /// The cluster was chosen.
    Chosen,
    /// The cluster keeps a standby of the application.
    StandbyThere,
    /// The cluster answers again, but not for long enough yet.
    ClusterRecovering,
    /// No node of the cluster is ready.
    NodesNotReady,
    /// The cluster has not the room that the application requests.
    ClusterFull,
    /// The cluster is being emptied.
    ClusterEvacuated,
    /// The Evacuation names other clusters to go to.
    NotAmongTargets,
    /// The cluster's API server and its services stopped answering.
    ClusterLost,
    /// The API server does not answer, but applications there still do.
    ControlPlaneUnreachable,
    /// The application's services do not answer, although the cluster does.
    ServiceLost,
    /// The application fails over only when a person asks.
    FailoverManual,
    /// The last failover was too short a time ago.
    CoolingDown,
    /// A window is open during which no planned move begins.
    Frozen,
    /// An Evacuation is held by a person.
    EvacuationPaused,
    /// A person ended the Evacuation.
    EvacuationAborted,
    /// Every application that was to leave has left.
    Evacuated,
    /// Applications are leaving.
    Evacuating,
    /// Nothing matches what the Evacuation names.
    NothingToEvacuate,
    /// The source answers again, so a failover is not needed any more.
    SourceRecovered,
    /// The cluster refuses writes under an old epoch by itself.
    Fenced,
    /// The cluster cannot refuse writes under an old epoch by itself.
    FencingUnavailable,
    /// The credentials for the cluster last, and are renewed in time.
    CredentialsValid,
    /// The credentials for the cluster could not be renewed yet.
    CredentialsNotRenewed,
    /// The credentials for the cluster have expired.
    CredentialsExpired,
    /// The cluster is cordoned.
    ClusterCordoned,
    /// The cluster is being removed from the fleet.
    ClusterDeleting,
    /// The cluster does not answer.
    ClusterUnreachable,
    /// The cluster was not observed yet.
    ClusterNotObserved,
    /// The cluster is not part of the fleet.
    ClusterUnknown,
    /// The connection details of the cluster are unusable.
    ClusterMisconfigured,
    /// The cluster does not serve a kind that the application needs.
    KindNotServed,
    /// The cluster was not joined for a kind that the application needs.
    KindNotAllowed,
    /// The cluster was not joined for the namespace of the application.
    NamespaceNotAllowed,
    /// A move to the cluster failed a short time ago.
    RecentlyFailed,
    /// The application is already there.
    AlreadyThere,
    /// No cluster is lawful for the application.
    NoLawfulCluster,
    /// A lawful cluster exists, but none can take the application now.
    NoEligibleCluster,
    /// The application's specification cannot be used.
    InvalidSpec,
    /// The member refuses an object of the application, or Flambeau may not
    /// look at all of them there.
    ObjectRefused,
    /// The copy is being written.
    Placing,
    /// Not every workload is ready.
    WorkloadsNotReady,
    /// Every workload is ready.
    Serving,
    /// The state of the copy is not known, because its cluster does not answer.
    StateUnknown,
    /// As many moves are under way as the fleet allows at once.
    WaitingForBudget,
    /// An application that this one depends on moves first.
    WaitingForDependency,
    /// A move is about to begin.
    MoveDecided,
    /// A move is under way.
    Moving,
    /// A former copy is still being erased.
    Erasing,
    /// The application is being deleted.
    Deleting,
    /// Nothing is left to do.
    Settled,
    /// The gate is passed.
    Passed,
    /// A person holds the move.
    Paused,
    /// A person asked to walk the move back.
    AbortRequested,
    /// Another move of the same application is under way.
    AnotherMove,
    /// The application of the move does not exist, or is being deleted.
    ApplicationGone,
    /// The application does not run where the move starts.
    SourceMismatch,
    /// The application was not failed over from where a failback leads.
    NotFailedOver,
    /// A former copy at the target is still being erased.
    TargetNotClean,
    /// The source has no ready endpoint that requests could go back to.
    SourceNotServing,
    /// Most clusters stopped answering at once: the hub is suspected, and
    /// nothing moves.
    HubSuspect,
    /// Services of most clusters fell silent at once: the edge is suspected,
    /// and no application leaves because of it.
    EdgeSuspect,
    /// Objects are still to be written to the target.
    ObjectsPending,
    /// The target has no ready endpoint, or the edge does not know it yet.
    EndpointsNotReady,
    /// The target did not get ready in time.
    ReadyTimeout,
    /// The target lost its endpoints while it carried traffic.
    TargetLost,
    /// The edge has not confirmed the weights yet.
    RouteNotAcknowledged,
    /// Requests cannot reach the application through the edge.
    EdgeProblem,
    /// Requests that go to the target fail.
    TargetErrors,
    /// The stage is not over yet.
    StageRunning,
    /// The target has not served alone for long enough yet.
    SoakRunning,
    /// The source still carries requests.
    SourceBusy,
    /// The new place of the application is not recorded yet.
    PlacementNotRecorded,
    /// Objects are still to be erased.
    ErasurePending,
    /// The copy cannot be erased yet, because its cluster does not answer or
    /// because the active copy does not serve; it stays recorded as retiring.
    ErasureDeferred,
    /// The reason for the move is gone.
    TriggerWithdrawn,
    /// The move reached its end.
    Completed,
    /// The move was walked back.
    Aborted,
    /// Policies leave no place in the world for what they govern.
    PoliciesContradict,
    /// Policies will leave no place in the world as soon as one that is to
    /// come is in force.
    PoliciesWillContradict,
    /// The policy is in force.
    InForce,
    /// The policy is not in force yet.
    NotYetInForce,
    /// The window is over.
    NoLongerInForce,
    /// The policy asks for something that cannot be understood.
    InvalidPolicy,
    /// Applications run where the policy refuses, past its deadline.
    DeadlineMissed,
    /// Every fact about the provider is stated.
    FactsStated,
    /// The cluster answers.
    ClusterReachable,
    /// The object is still in use, so its deletion waits.
    InUse,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
