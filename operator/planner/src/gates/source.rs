//! Gates that ask about the source of a move, the route and the records.

use super::{ABORT_DRAIN, Context, fail, fail_on, held_for_hub, loss, pass, verdict, wait};
use crate::{
    Reason, desired, freeze,
    health::{self, Health},
    migration,
    model::{CopyObservation, GateOutcome, MoveType, Reach, Verdict},
    placement,
};

pub(super) fn source_matches(context: &Context<'_>) -> Verdict {
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

/// A failback leads to where the application was failed over from, and to no
/// other place: that would be a relocate.
pub(super) fn home_matches(context: &Context<'_>) -> Verdict {
    const GATE: &str = "HomeMatches";
    let home = context.application.record.failed_over_from.as_ref();
    if context.migration.move_type != MoveType::Failback || home == Some(&context.migration.to) {
        return pass(GATE);
    }
    let message = match home {
        Some(home) => format!("the application was failed over from {home}, and goes back there"),
        None => "the application was not failed over: relocate it instead".to_owned(),
    };
    fail(GATE, Reason::NotFailedOver, message)
}

pub(super) fn source_reachable(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SourceReachable";
    let from = &context.migration.from;
    if context.migration.move_type == MoveType::Failover {
        return pass(GATE);
    }
    match context.snapshot.clusters.get(from) {
        None => fail(
            GATE,
            Reason::ClusterUnknown,
            format!("cluster {from} is not part of the fleet"),
        ),
        Some(cluster) => match placement::unreachable(cluster) {
            Some((reason @ Reason::ClusterNotObserved, message)) => wait(GATE, reason, message),
            objection => fail_on(GATE, objection),
        },
    }
}

/// Requests go back only to a source that answers them; before any went over,
/// there is nothing to go back. When the target does not answer either, going
/// back loses nothing, and frees the way to a third cluster.
pub fn way_back(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SourceServing";
    let (from, to) = (&context.migration.from, &context.migration.to);
    if !context.traffic_went_over() || context.answers(from) || context.fails(to) {
        return pass(GATE);
    }
    wait(
        GATE,
        Reason::SourceNotServing,
        format!("the copy on {from} does not serve, so requests cannot go back"),
    )
}

/// Whether requests are answered at the target and nowhere else: whoever wants
/// the move walked back would have the application down.
pub fn only_way_is_forward(context: &Context<'_>) -> bool {
    context.fails(&context.migration.from) && context.answers(&context.migration.to)
}

/// Whether requests of a failover belong at the target before Shift: they leave
/// a lost cluster at once, because a quick refusal is better than none, and a
/// target that gets ready serves at once. They go back to a source that came
/// back first. While nobody can say, it stays as it is recorded.
pub fn requests_at_target(context: &Context<'_>) -> bool {
    let migration = context.migration;
    let (from, to) = (&migration.from, &migration.to);
    if migration.move_type != MoveType::Failover || !context.application.spec.traffic {
        return false;
    }
    if health::lost(context.snapshot, from).is_some() {
        return migration.record.percent > 0 || !held_for_hub(context);
    }
    let in_vain = context.fails(to) && !context.awaits_first_look(from);
    let back = !context.answers(to) && (context.answers(from) || in_vain);
    migration.record.percent > 0 && !back
}

/// Whether the source of a failover serves again after all, and the target has
/// no request yet. One that flaps has to prove itself first, like any other
/// target; and one that came and went again is not waited for any more.
pub fn source_recovered(context: &Context<'_>) -> bool {
    let (from, to) = (&context.migration.from, &context.migration.to);
    let healthy = context
        .snapshot
        .clusters
        .get(from)
        .is_some_and(|cluster| health::of(cluster, context.now) == Health::Healthy);
    let taken_over = context.weight(to) > 0 && context.answers(to);
    let begun = context
        .migration
        .record
        .steps
        .first()
        .map(|step| step.start);
    let flapping = context.application.record.failed_targets.iter().any(|one| {
        one.cluster == *from
            && one.reason == Reason::SourceRecovered
            && one.migration != context.migration.name
            && begun.is_none_or(|begun| begun < one.retry_after)
    });
    healthy && !taken_over && !flapping && loss(context).is_none() && context.answers(from)
}

/// Planned moves wait for the end of a freeze before they touch anything.
pub(super) fn not_frozen(context: &Context<'_>) -> Verdict {
    const GATE: &str = "NotFrozen";
    let migration = context.migration;
    if migration.ignore_freeze || migration.move_type == MoveType::Failover {
        return pass(GATE);
    }
    let key = &context.application.spec.key;
    match freeze::holding(context.snapshot, key, context.now) {
        Some(freeze) => wait(GATE, Reason::Frozen, freeze::message(freeze)),
        None => pass(GATE),
    }
}

pub(super) fn route_acknowledged(context: &Context<'_>) -> Verdict {
    const GATE: &str = "RouteAcknowledged";
    let record = &context.migration.record;
    let written = context.weight(&context.migration.to) == record.percent
        && context.weight(&context.migration.from) == 100 - record.percent;
    if !context.application.spec.traffic || (written && context.application.edge.acknowledged) {
        return pass(GATE);
    }
    wait(GATE, Reason::RouteNotAcknowledged, not_confirmed(context))
}

/// What the edge says is wrong, or that it has said nothing yet.
fn not_confirmed(context: &Context<'_>) -> String {
    let problem = context.application.edge.problem.clone();
    problem.unwrap_or_else(|| "the edge has not confirmed the weights yet".to_owned())
}

pub(super) fn stage_elapsed(context: &Context<'_>) -> Verdict {
    const GATE: &str = "StageElapsed";
    let least = context.application.spec.strategy.stage;
    if !context.application.spec.traffic
        || context.urgent()
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

pub(super) fn soak_elapsed(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SoakElapsed";
    let least = context.application.spec.strategy.soak;
    if context.urgent() || context.step_elapsed() >= least {
        return pass(GATE);
    }
    wait(
        GATE,
        Reason::SoakRunning,
        format!("the target serves alone for {least:#} first"),
    )
}

pub(super) fn placement_recorded(context: &Context<'_>) -> Verdict {
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

pub(super) fn source_idle(context: &Context<'_>) -> Verdict {
    const GATE: &str = "SourceIdle";
    let limit = context.application.spec.strategy.drain;
    let open = context
        .application
        .edge
        .open_requests
        .get(&context.migration.from);
    let idle = !context.application.spec.traffic || open == Some(&0) || loss(context).is_some();
    if idle || context.step_elapsed() >= limit {
        return pass(GATE);
    }
    let message = match open {
        Some(_) => format!("requests are still open at the source, they get {limit:#}"),
        None => format!("the edge does not say whether requests are open, they get {limit:#}"),
    };
    wait(GATE, Reason::SourceBusy, message)
}

pub(super) fn source_erased(context: &Context<'_>) -> Verdict {
    erased_or_needed(context, "SourceErased", &context.migration.from)
}

pub(super) fn target_erased(context: &Context<'_>) -> Verdict {
    erased_or_needed(context, "TargetErased", &context.migration.to)
}

/// A copy that could serve is not given up while the active one does not; the
/// move ends all the same, so that another one can begin.
fn erased_or_needed(context: &Context<'_>, gate: &'static str, cluster: &str) -> Verdict {
    let erased = erased(context, gate, cluster);
    let known = context.application.known_copy(cluster).is_some();
    if erased.outcome == GateOutcome::Wait
        && known
        && desired::last_resort(context.application, context.snapshot, cluster)
    {
        return verdict(
            gate,
            GateOutcome::Pass,
            Reason::ErasureDeferred,
            format!("the copy on {cluster} is erased when the active one serves"),
        );
    }
    erased
}

/// A copy on a cluster that does not answer, or does not let it be seen, cannot
/// hold the move for ever: it stays recorded as retiring, and is erased when
/// the cluster answers.
pub(super) fn erased(context: &Context<'_>, gate: &'static str, cluster: &str) -> Verdict {
    if context.application.record.on(cluster).is_none()
        && context
            .application
            .known_copy(cluster)
            .is_some_and(CopyObservation::absent)
    {
        return pass(gate);
    }
    let answers = context
        .snapshot
        .clusters
        .get(cluster)
        .map(|cluster| &cluster.reach);
    let copy = context.application.copies.get(cluster);
    let unseen = copy.filter(|copy| !copy.observed);
    match (answers, unseen.and_then(|copy| copy.hidden.as_ref())) {
        (Some(Reach::Reachable), Some(why)) => verdict(
            gate,
            GateOutcome::Pass,
            Reason::ErasureDeferred,
            format!("the copy on {cluster} is erased when it can be seen: {why}"),
        ),
        (Some(Reach::Reachable | Reach::NotObserved), _) => wait(
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

pub(super) fn traffic_back(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TrafficBack";
    if !context.application.spec.traffic || !context.traffic_went_over() {
        return pass(GATE);
    }
    let edge = &context.application.edge;
    let back = context.weight(&context.migration.to) == 0 && edge.acknowledged;
    if !back && only_way_is_forward(context) {
        // The copy that answers is kept until the active one does.
        let (from, to) = (&context.migration.from, &context.migration.to);
        let message = format!("requests stay on {to} until the copy on {from} serves");
        return verdict(GATE, GateOutcome::Pass, Reason::SourceNotServing, message);
    }
    if !back {
        return wait(GATE, Reason::RouteNotAcknowledged, not_confirmed(context));
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

pub(super) fn source_active(context: &Context<'_>) -> Verdict {
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

pub(super) fn failure_recorded(context: &Context<'_>) -> Verdict {
    const GATE: &str = "FailureRecorded";
    let blamed = migration::avoided(context.application, context.migration).is_some();
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
