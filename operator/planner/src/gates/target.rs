//! Gates that ask about the target of a move.

use super::{Context, fail, fail_on, loss, pass, wait};
use crate::{
    Reason, evacuation,
    model::{MoveType, Reach, Service, Trigger, Verdict},
    placement,
};

/// Requests that a stage needs before their failures mean anything.
const ENOUGH_REQUESTS: u64 = 20;

/// A stage fails when more than one request in this many fails.
const TOLERATED_FAILURES: u64 = 100;

pub(super) fn target_lawful(context: &Context<'_>) -> Verdict {
    fail_on(
        "TargetLawful",
        placement::unlawful(context.application, &context.migration.to, context.law),
    )
}

/// While requests go over, an unlawful target is walked back from, unless the
/// source is known to be gone: nothing but the target serves then.
pub(super) fn target_lawful_or_last(context: &Context<'_>) -> Verdict {
    let from = &context.migration.from;
    let gone = context.snapshot.reaches(from)
        && context
            .application
            .known_copy(from)
            .is_some_and(|copy| copy.absent());
    if gone || loss(context).is_some() {
        pass("TargetLawful")
    } else {
        target_lawful(context)
    }
}

/// Once the target serves, walking back helps only if the source is lawful.
pub(super) fn target_still_lawful(context: &Context<'_>) -> Verdict {
    let source = placement::unlawful(context.application, &context.migration.from, context.law);
    if source.is_some() || loss(context).is_some() {
        pass("TargetLawful")
    } else {
        target_lawful(context)
    }
}

pub(super) fn target_available(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetAvailable";
    let to = &context.migration.to;
    match context.snapshot.clusters.get(to) {
        None => fail(
            GATE,
            Reason::ClusterUnknown,
            format!("cluster {to} is not part of the fleet"),
        ),
        Some(cluster) => match placement::unavailable(cluster, context.now) {
            // A person named the cluster; what goes by itself finds another one.
            Some((Reason::ClusterRecovering, message))
                if context.migration.trigger != Trigger::Loss =>
            {
                wait(GATE, Reason::ClusterRecovering, message)
            }
            Some((reason @ Reason::ClusterNotObserved, message)) => wait(GATE, reason, message),
            objection => fail_on(GATE, objection),
        },
    }
}

pub(super) fn target_reachable(context: &Context<'_>) -> Verdict {
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
        Some(cluster) => match placement::unreachable(cluster) {
            // Nothing else answers requests: its API server can be waited for.
            Some((reason, message))
                if context.traffic_went_over()
                    && context.answers(to)
                    && !context.answers(&context.migration.from) =>
            {
                wait(GATE, reason, message)
            }
            objection => fail_on(GATE, objection),
        },
    }
}

pub(super) fn target_not_evacuated(context: &Context<'_>) -> Verdict {
    let cluster = context.snapshot.clusters.get(&context.migration.to);
    let objection = cluster.and_then(|cluster| evacuation::objection(context.snapshot, cluster));
    fail_on("TargetNotEvacuated", objection)
}

/// A person may ask for a cluster that has no room left: it is told before
/// anything is written.
pub(super) fn target_has_room(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetHasRoom";
    let Some(cluster) = context.snapshot.clusters.get(&context.migration.to) else {
        return pass(GATE);
    };
    fail_on(
        GATE,
        placement::full_without(context.application, cluster, context.snapshot),
    )
}

pub(super) fn kinds_served(context: &Context<'_>) -> Verdict {
    let cluster = context.snapshot.clusters.get(&context.migration.to);
    let objection =
        cluster.and_then(|cluster| placement::kind_not_served(context.application, cluster));
    fail_on("KindsServed", objection)
}

pub(super) fn target_clean(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetClean";
    let copy = match context.target(GATE) {
        Ok(copy) => copy,
        Err(verdict) => return verdict,
    };
    let to = &context.migration.to;
    if let Some((reason, message)) = placement::not_clean(context.application, to, context.snapshot)
    {
        return wait(GATE, reason, message);
    }
    if context.application.record.on(to).is_none() && !copy.absent() {
        let message = format!("objects on {to} are not recorded yet");
        return wait(GATE, Reason::TargetNotClean, message);
    }
    pass(GATE)
}

pub(super) fn objects_written(context: &Context<'_>) -> Verdict {
    const GATE: &str = "ObjectsWritten";
    let copy = match context.target(GATE) {
        Ok(copy) => copy,
        Err(verdict) => return verdict,
    };
    if let Some(refused) = copy.obstacle() {
        return fail(GATE, Reason::ObjectRefused, refused.to_owned());
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

pub(super) fn workloads_ready(context: &Context<'_>) -> Verdict {
    const GATE: &str = "WorkloadsReady";
    let copy = match context.target(GATE) {
        Ok(copy) => copy,
        Err(verdict) => return verdict,
    };
    if let Some(refused) = copy.obstacle() {
        return fail(GATE, Reason::ObjectRefused, refused.to_owned());
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

pub(super) fn endpoints_ready(context: &Context<'_>) -> Verdict {
    const GATE: &str = "EndpointsReady";
    let copy = match context.target(GATE) {
        Ok(copy) => copy,
        Err(verdict) => return verdict,
    };
    if !context.application.spec.traffic {
        return pass(GATE);
    }
    if copy.endpoints > 0 && copy.known_at_edge() {
        let Service::Silent { since } = copy.service else {
            return pass(GATE);
        };
        let message = format!("endpoints are ready, and answer nobody since {since:.0}");
        return context.target_not_ready(GATE, Reason::EndpointsNotReady, message);
    }
    context.target_not_ready(
        GATE,
        Reason::EndpointsNotReady,
        format!(
            "{} endpoints are ready, {} are known at the edge",
            copy.endpoints,
            copy.endpoints_at_edge.unwrap_or_default()
        ),
    )
}

pub(super) fn target_serving(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetServing";
    let copy = match context.target(GATE) {
        Ok(copy) => copy,
        Err(verdict) => return verdict,
    };
    let traffic = context.application.spec.traffic;
    if traffic && copy.endpoints > 0 && copy.endpoints_at_edge.is_none() {
        let message = "whether the edge knows the target is not known yet";
        return wait(GATE, Reason::EndpointsNotReady, message);
    }
    if traffic && (copy.endpoints == 0 || copy.missing_at_edge()) {
        let message = "no endpoint of the target is ready any more";
        let patience = context.application.spec.failover.unhealthy_after;
        let lasts = context.elapsed(context.migration.record.down_since) >= patience;
        // Where nothing else answers, giving it up at once gains nothing.
        return if lasts || context.answers(&context.migration.from) {
            fail(GATE, Reason::TargetLost, message)
        } else {
            wait(GATE, Reason::TargetLost, message)
        };
    }
    if let (true, Service::Silent { since }) = (traffic, copy.service) {
        let message = format!("no request to the target is answered since {since:.0}");
        return if context.loss_of(&context.migration.to).is_some() {
            fail(GATE, Reason::TargetLost, message)
        } else {
            wait(GATE, Reason::TargetLost, message)
        };
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

/// A source that is there and only did not answer may be well, and the edge to
/// blame: it is given up when anything came back from the target, or when a
/// minute has shown no request that failed there.
pub(super) fn target_reached(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetReached";
    let migration = context.migration;
    let in_doubt = migration.move_type == MoveType::Failover
        && migration.trigger == Trigger::Loss
        && context.application.spec.traffic
        && context.snapshot.reaches(&migration.from);
    let first = migration.record.steps.first();
    let begun = first.map(|step| context.snapshot.counted_from(step.start));
    let copy = context.application.copies.get(&migration.to);
    let reached = copy.is_some_and(|copy| copy.reached > begun);
    if !in_doubt || reached || context.step_elapsed() >= context.snapshot.settings.hub_window {
        return pass(GATE);
    }
    let (from, to) = (&migration.from, &migration.to);
    wait(
        GATE,
        Reason::EdgeSuspect,
        format!("nothing came back from {to} through the edge yet, so the copy on {from} is kept"),
    )
}

pub(super) fn target_errors(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetErrors";
    let requests = context
        .application
        .edge
        .stage_requests
        .get(&context.migration.to);
    match requests {
        Some(requests)
            if !context.urgent()
                && requests.total >= ENOUGH_REQUESTS
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
