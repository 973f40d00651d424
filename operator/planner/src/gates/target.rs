//! Gates that ask about the target of a move.

use super::{Context, fail, fail_on, loss, pass, wait};
use crate::{
    Reason, evacuation,
    model::{Reach, Verdict},
    placement::{self, Ledger},
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
            Some((reason @ (Reason::ClusterNotObserved | Reason::ClusterRecovering), message)) => {
                wait(GATE, reason, message)
            }
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
        Some(cluster) => fail_on(GATE, placement::unreachable(cluster)),
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
    let ledger = Ledger::current(context.snapshot);
    fail_on(GATE, ledger.full(context.application, cluster))
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
    if let Some(refused) = &copy.refused {
        return fail(GATE, Reason::ObjectRefused, refused.clone());
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
    if let Some(refused) = &copy.refused {
        return fail(GATE, Reason::ObjectRefused, refused.clone());
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

pub(super) fn target_serving(context: &Context<'_>) -> Verdict {
    const GATE: &str = "TargetServing";
    let copy = match context.target(GATE) {
        Ok(copy) => copy,
        Err(verdict) => return verdict,
    };
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
