//! Gates of a move: pure checks, each with a reason.
//!
//! A step passes when all its gates pass. A gate that fails walks the move
//! back; a gate that waits holds it where it is.

use crate::{
    Reason,
    law::LawBook,
    migration,
    model::{Application, CopyObservation, GateOutcome, Migration, Reach, Snapshot, Step, Verdict},
    placement,
};
use jiff::{SignedDuration, Timestamp};

/// Requests that a stage needs before their failures mean anything.
const ENOUGH_REQUESTS: u64 = 20;

/// A stage fails when more than one request in this many fails.
const TOLERATED_FAILURES: u64 = 100;

/// How long requests at a target that is being walked back from get to end.
const ABORT_DRAIN: SignedDuration = SignedDuration::from_secs(5);

/// What gates look at.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The fleet.
    pub snapshot: &'a Snapshot,
    /// The law at this moment.
    pub law: &'a LawBook,
    /// The application that moves.
    pub application: &'a Application,
    /// The move.
    pub migration: &'a Migration,
    /// Now.
    pub now: Timestamp,
}

/// A pure check.
pub type Gate = fn(&Context<'_>) -> Verdict;

/// The gates of a step, in the order in which they are asked.
pub fn of(step: Step) -> &'static [Gate] {
    match step {
        Step::Preflight => &[
            source_matches,
            target_lawful,
            target_available,
            kinds_served,
            source_reachable,
            target_clean,
        ],
        Step::Prepare => &[target_lawful, target_reachable, objects_written],
        Step::Ready => &[
            target_lawful,
            target_reachable,
            workloads_ready,
            endpoints_ready,
        ],
        Step::Sync => &[target_lawful, target_reachable],
        Step::Shift => &[
            target_lawful,
            target_reachable,
            target_serving,
            target_errors,
            route_acknowledged,
            stage_elapsed,
        ],
        Step::Soak => &[
            target_still_lawful,
            target_reachable,
            target_serving,
            target_errors,
            route_acknowledged,
            placement_recorded,
            soak_elapsed,
        ],
        Step::Drain => &[
            target_still_lawful,
            target_reachable,
            target_serving,
            route_acknowledged,
            placement_recorded,
            source_idle,
        ],
        Step::Retire => &[source_erased],
        Step::Abort => &[traffic_back, source_active, failure_recorded, target_erased],
        Step::Done => &[],
    }
}

fn verdict(gate: &'static str, outcome: GateOutcome, reason: Reason, message: String) -> Verdict {
    Verdict {
        gate: gate.into(),
        outcome,
        reason,
        message,
    }
}

fn pass(gate: &'static str) -> Verdict {
    verdict(gate, GateOutcome::Pass, Reason::Passed, String::new())
}

fn wait(gate: &'static str, reason: Reason, message: impl Into<String>) -> Verdict {
    verdict(gate, GateOutcome::Wait, reason, message.into())
}

fn fail(gate: &'static str, reason: Reason, message: impl Into<String>) -> Verdict {
    verdict(gate, GateOutcome::Fail, reason, message.into())
}

fn fail_on(gate: &'static str, objection: Option<(Reason, String)>) -> Verdict {
    objection.map_or_else(
        || pass(gate),
        |(reason, message)| fail(gate, reason, message),
    )
}

impl Context<'_> {
    fn copy_at(&self, cluster: &str) -> CopyObservation {
        self.application
            .copies
            .get(cluster)
            .cloned()
            .unwrap_or_default()
    }

    fn elapsed(&self, since: Option<Timestamp>) -> SignedDuration {
        since.map_or(SignedDuration::ZERO, |since| self.now.duration_since(since))
    }

    fn step_elapsed(&self) -> SignedDuration {
        self.elapsed(self.migration.record.steps.last().map(|step| step.start))
    }

    fn target_timed_out(&self) -> bool {
        let prepare = self
            .migration
            .record
            .steps
            .iter()
            .find(|step| step.step == Step::Prepare);
        self.elapsed(prepare.map(|step| step.start)) >= self.application.spec.strategy.ready_timeout
    }

    /// A gate that waits for the target until its time is over.
    fn target_not_ready(&self, gate: &'static str, reason: Reason, message: String) -> Verdict {
        if self.target_timed_out() {
            let limit = self.application.spec.strategy.ready_timeout;
            return fail(
                gate,
                Reason::ReadyTimeout,
                format!("{message} after {limit:#}"),
            );
        }
        wait(gate, reason, message)
    }

    fn weight(&self, cluster: &str) -> u8 {
        self.application
            .edge
            .weights
            .get(cluster)
            .copied()
            .unwrap_or(0)
    }
}

fn source_matches(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SourceMatches";
    let from = &context.migration.from;
    match context.application.record.active() {
        Some(active) if active.cluster == *from => pass(GATE),
        Some(active) => fail(
            GATE,
            Reason::SourceMismatch,
            format!("the application runs on {}, not on {from}", active.cluster),
        ),
        None => fail(
            GATE,
            Reason::SourceMismatch,
            "the application runs nowhere yet".to_owned(),
        ),
    }
}

fn target_lawful(context: &Context<'_>) -> Verdict {
    fail_on(
        "TargetLawful",
        placement::unlawful(context.application, &context.migration.to, context.law),
    )
}

/// Once the target serves, walking back helps only if the source is lawful.
fn target_still_lawful(context: &Context<'_>) -> Verdict {
    let source = placement::unlawful(context.application, &context.migration.from, context.law);
    if source.is_some() {
        pass("TargetLawful")
    } else {
        target_lawful(context)
    }
}

fn target_available(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetAvailable";
    let to = &context.migration.to;
    match context.snapshot.clusters.get(to) {
        None => fail(
            GATE,
            Reason::ClusterUnknown,
            format!("cluster {to} is not part of the fleet"),
        ),
        Some(cluster) => match placement::unavailable(cluster) {
            Some((reason @ Reason::ClusterNotObserved, message)) => wait(GATE, reason, message),
            objection => fail_on(GATE, objection),
        },
    }
}

fn target_reachable(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetReachable";
    let to = &context.migration.to;
    match context.snapshot.clusters.get(to) {
        None => fail(
            GATE,
            Reason::ClusterUnknown,
            format!("cluster {to} is not part of the fleet"),
        ),
        Some(cluster) if cluster.reach == Reach::NotObserved => wait(
            GATE,
            Reason::ClusterNotObserved,
            format!("cluster {to} was not observed yet"),
        ),
        Some(cluster) => fail_on(GATE, placement::unreachable(cluster)),
    }
}

fn kinds_served(context: &Context<'_>) -> Verdict {
    let cluster = context.snapshot.clusters.get(&context.migration.to);
    let objection =
        cluster.and_then(|cluster| placement::kind_not_served(context.application, cluster));
    fail_on("KindsServed", objection)
}

fn source_reachable(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SourceReachable";
    let from = &context.migration.from;
    match context.snapshot.clusters.get(from) {
        None => wait(
            GATE,
            Reason::ClusterUnknown,
            format!("cluster {from} is not part of the fleet"),
        ),
        Some(cluster) => match placement::unreachable(cluster) {
            Some((reason, message)) => wait(GATE, reason, message),
            None => pass(GATE),
        },
    }
}

fn target_clean(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetClean";
    let copy = context.copy_at(&context.migration.to);
    if !copy.observed {
        return wait(
            GATE,
            Reason::ClusterNotObserved,
            "the objects on the target are not known yet",
        );
    }
    let left = context
        .application
        .record
        .on(&context.migration.to)
        .is_some();
    if left || !copy.absent() {
        return wait(
            GATE,
            Reason::TargetNotClean,
            "a former copy at the target is still being erased",
        );
    }
    pass(GATE)
}

fn objects_written(context: &Context<'_>) -> Verdict {
    const GATE: &str = "ObjectsWritten";
    let copy = context.copy_at(&context.migration.to);
    if let Some(refused) = copy.refused {
        return fail(GATE, Reason::ObjectRefused, refused);
    }
    if let Some(invalid) = &context.application.spec.invalid {
        return context.target_not_ready(GATE, Reason::InvalidSpec, invalid.clone());
    }
    if copy.settled() {
        return pass(GATE);
    }
    context.target_not_ready(
        GATE,
        Reason::ObjectsPending,
        format!("{} of {} objects are written", copy.current, copy.declared),
    )
}

fn workloads_ready(context: &Context<'_>) -> Verdict {
    const GATE: &str = "WorkloadsReady";
    let copy = context.copy_at(&context.migration.to);
    if let Some(refused) = copy.refused {
        return fail(GATE, Reason::ObjectRefused, refused);
    }
    if copy.ready() {
        return pass(GATE);
    }
    context.target_not_ready(
        GATE,
        Reason::WorkloadsNotReady,
        format!(
            "{} of {} workloads are ready",
            copy.workloads_ready, copy.workloads
        ),
    )
}

fn endpoints_ready(context: &Context<'_>) -> Verdict {
    const GATE: &str = "EndpointsReady";
    let copy = context.copy_at(&context.migration.to);
    if !context.application.spec.traffic || (copy.endpoints > 0 && copy.endpoints_at_edge > 0) {
        return pass(GATE);
    }
    context.target_not_ready(
        GATE,
        Reason::EndpointsNotReady,
        format!(
            "{} endpoints are ready, {} are known at the edge",
            copy.endpoints, copy.endpoints_at_edge
        ),
    )
}

fn target_serving(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetServing";
    let copy = context.copy_at(&context.migration.to);
    let traffic = context.application.spec.traffic;
    if traffic && (copy.endpoints == 0 || copy.endpoints_at_edge == 0) {
        return fail(
            GATE,
            Reason::TargetLost,
            "no endpoint of the target is ready any more",
        );
    }
    if !traffic && !copy.ready() {
        return wait(
            GATE,
            Reason::WorkloadsNotReady,
            "not every workload of the target is ready",
        );
    }
    pass(GATE)
}

fn target_errors(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetErrors";
    let requests = context
        .application
        .edge
        .stage_requests
        .get(&context.migration.to);
    match requests {
        Some(requests)
            if requests.total >= ENOUGH_REQUESTS
                && requests.failed * TOLERATED_FAILURES > requests.total =>
        {
            fail(
                GATE,
                Reason::TargetErrors,
                "more than 1 % of the requests to the target fail",
            )
        }
        _ => pass(GATE),
    }
}

fn route_acknowledged(context: &Context<'_>) -> Verdict {
    const GATE: &str = "RouteAcknowledged";
    let record = &context.migration.record;
    let written = context.weight(&context.migration.to) == record.percent
        && context.weight(&context.migration.from) == 100 - record.percent;
    if !context.application.spec.traffic || (written && context.application.edge.acknowledged) {
        return pass(GATE);
    }
    wait(
        GATE,
        Reason::RouteNotAcknowledged,
        "the edge has not confirmed the weights yet",
    )
}

fn stage_elapsed(context: &Context<'_>) -> Verdict {
    const GATE: &str = "StageElapsed";
    let least = context.application.spec.strategy.stage;
    if !context.application.spec.traffic
        || context.elapsed(context.migration.record.stage_since) >= least
    {
        return pass(GATE);
    }
    wait(
        GATE,
        Reason::StageRunning,
        format!("every stage lasts at least {least:#}"),
    )
}

fn soak_elapsed(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SoakElapsed";
    let least = context.application.spec.strategy.soak;
    if context.step_elapsed() >= least {
        return pass(GATE);
    }
    wait(
        GATE,
        Reason::SoakRunning,
        format!("the target serves alone for {least:#} first"),
    )
}

fn placement_recorded(context: &Context<'_>) -> Verdict {
    const GATE: &str = "PlacementRecorded";
    let active = context.application.record.active();
    if active.is_some_and(|active| active.cluster == context.migration.to) {
        return pass(GATE);
    }
    wait(
        GATE,
        Reason::PlacementNotRecorded,
        "the new place of the application is not recorded yet",
    )
}

fn source_idle(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SourceIdle";
    let limit = context.application.spec.strategy.drain;
    let open = context
        .application
        .edge
        .open_requests
        .get(&context.migration.from);
    let idle = !context.application.spec.traffic || open == Some(&0);
    if idle || context.step_elapsed() >= limit {
        return pass(GATE);
    }
    let message = match open {
        Some(_) => format!("requests are still open at the source, they get {limit:#}"),
        None => format!("the edge does not say whether requests are open, they get {limit:#}"),
    };
    wait(GATE, Reason::SourceBusy, message)
}

fn source_erased(context: &Context<'_>) -> Verdict {
    erased(context, "SourceErased", &context.migration.from)
}

fn target_erased(context: &Context<'_>) -> Verdict {
    erased(context, "TargetErased", &context.migration.to)
}

/// A copy on a cluster that does not answer cannot hold the move for ever: it
/// stays recorded as retiring, and is erased when the cluster answers.
fn erased(context: &Context<'_>, gate: &'static str, cluster: &str) -> Verdict {
    if context.application.record.on(cluster).is_none() && context.copy_at(cluster).absent() {
        return pass(gate);
    }
    let answers = context
        .snapshot
        .clusters
        .get(cluster)
        .map(|cluster| &cluster.reach);
    match answers {
        Some(Reach::Reachable | Reach::NotObserved) => wait(
            gate,
            Reason::ErasurePending,
            format!("objects on {cluster} are still to be erased"),
        ),
        _ => verdict(
            gate,
            GateOutcome::Pass,
            Reason::ErasureDeferred,
            format!("{cluster} does not answer: its copy is erased when it answers again"),
        ),
    }
}

fn traffic_back(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TrafficBack";
    if !context.application.spec.traffic || !context.migration.record.reached(Step::Shift) {
        return pass(GATE);
    }
    let edge = &context.application.edge;
    let back = context.weight(&context.migration.to) == 0 && edge.acknowledged;
    if !back {
        return wait(
            GATE,
            Reason::RouteNotAcknowledged,
            "the edge has not confirmed the weights yet",
        );
    }
    if edge.open_requests.get(&context.migration.to) == Some(&0)
        || context.step_elapsed() >= ABORT_DRAIN
    {
        return pass(GATE);
    }
    wait(
        GATE,
        Reason::SourceBusy,
        "requests are still open at the target",
    )
}

fn source_active(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SourceActive";
    let active = context.application.record.active();
    if active.is_some_and(|active| active.cluster == context.migration.to) {
        return wait(
            GATE,
            Reason::PlacementNotRecorded,
            "the source is not recorded as active again yet",
        );
    }
    pass(GATE)
}

fn failure_recorded(context: &Context<'_>) -> Verdict {
    const GATE: &str = "FailureRecorded";
    let blamed = migration::blames_target(&context.migration.record);
    let recorded = context
        .application
        .record
        .failed_targets
        .iter()
        .any(|failed| failed.migration == context.migration.name);
    if blamed && !recorded {
        return wait(
            GATE,
            Reason::PlacementNotRecorded,
            "the failed target is not recorded yet",
        );
    }
    pass(GATE)
}

/// Whether requests have left the target of a move that is walked back, so
/// that it may be erased.
pub fn target_released(context: &Context<'_>) -> bool {
    [traffic_back, source_active]
        .iter()
        .all(|gate| gate(context).outcome == GateOutcome::Pass)
}

/// The next moment at which a gate of the move can change by itself.
pub fn next_change(context: &Context<'_>) -> Option<Timestamp> {
    let strategy = &context.application.spec.strategy;
    let record = &context.migration.record;
    let start = record.steps.last().map(|step| step.start);
    let prepared = record
        .steps
        .iter()
        .find(|step| step.step == Step::Prepare)
        .map(|step| step.start);
    let (since, length) = match record.step? {
        Step::Prepare | Step::Ready => (prepared, strategy.ready_timeout),
        Step::Shift => (record.stage_since, strategy.stage),
        Step::Soak => (start, strategy.soak),
        Step::Drain => (start, strategy.drain),
        Step::Abort => (start, ABORT_DRAIN),
        _ => return None,
    };
    since
        .and_then(|since| since.checked_add(length).ok())
        .filter(|time| *time > context.now)
}
