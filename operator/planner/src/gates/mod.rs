//! Gates of a move: pure checks, each with a reason.
//!
//! A step passes when all its gates pass. A gate that fails walks the move
//! back; a gate that waits holds it where it is.

mod source;
mod target;

use crate::{
    Reason,
    failover::{self, Loss},
    law::LawBook,
    model::{
        Application, CopyObservation, GateOutcome, Migration, MoveType, Reach, Service, Snapshot,
        Step, Trigger, Verdict,
    },
};
use jiff::{SignedDuration, Timestamp};
use source::*;
use target::*;

pub use source::{only_way_is_forward, requests_at_target, source_recovered, way_back};

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
            home_matches,
            target_lawful,
            target_available,
            target_not_evacuated,
            kinds_served,
            target_has_room,
            source_reachable,
            not_frozen,
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
            target_lawful_or_last,
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
            target_reached,
            source_idle,
        ],
        Step::Retire => &[source_erased],
        Step::Abort => &[traffic_back, source_active, failure_recorded, target_erased],
        Step::Done => &[],
    }
}

/// What every gate of a step says. While the hub is suspect, none is asked:
/// the move stays where it is.
pub fn all(context: &Context<'_>, step: Step) -> Vec<Verdict> {
    if held_for_hub(context) {
        let message = "most clusters stopped answering together, so nothing moves by itself";
        return vec![wait("FleetReachable", Reason::HubSuspect, message)];
    }
    of(step).iter().map(|gate| gate(context)).collect()
}

/// Whether the move is held because the hub is suspected to be cut off. A
/// person who asks for a failover knows better.
pub fn held_for_hub(context: &Context<'_>) -> bool {
    let asked = context.migration.move_type == MoveType::Failover
        && context.migration.trigger == Trigger::Request;
    context.snapshot.hub_suspect(context.now) && !asked
}

/// Whether the copy that the move leaves is lost.
pub fn loss(context: &Context<'_>) -> Option<Loss> {
    context.loss_of(&context.migration.from)
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
    /// Pace and patience of a planned move do not hold up a failover, nor a
    /// move whose source is lost meanwhile.
    fn urgent(&self) -> bool {
        self.migration.move_type == MoveType::Failover || loss(self).is_some()
    }

    /// Whether requests may be at the target, or were sent there.
    fn traffic_went_over(&self) -> bool {
        let record = &self.migration.record;
        record.reached(Step::Prepare)
            && (record.stage_since.is_some() || self.weight(&self.migration.to) > 0)
    }

    fn loss_of(&self, cluster: &str) -> Option<Loss> {
        failover::loss(self.application, self.snapshot, cluster, self.now)
    }

    /// Whether requests to a copy are answered: as the cluster tells, or as the
    /// edge sees it while the cluster does not.
    fn answers(&self, cluster: &str) -> bool {
        let copy = self.application.copies.get(cluster);
        if self.snapshot.reaches(cluster) {
            self.snapshot.serves(self.application, cluster)
        } else {
            copy.is_some_and(|copy| copy.service.answers()) && self.loss_of(cluster).is_none()
        }
    }

    /// Whether it is positively known that a copy does not do its work: its
    /// cluster tells, or is lost, or the edge has nowhere to send a request to.
    fn fails(&self, cluster: &str) -> bool {
        let traffic = self.application.spec.traffic;
        let copy = self.application.copies.get(cluster);
        // An edge that nobody asked yet may well know it.
        let unasked = |copy: &CopyObservation| {
            traffic && copy.endpoints > 0 && copy.endpoints_at_edge.is_none()
        };
        let known = self.application.known_copy(cluster);
        let seen = self.snapshot.reaches(cluster)
            && known.is_some_and(|copy| !unasked(copy))
            && !self.snapshot.serves(self.application, cluster);
        let nowhere = traffic
            && copy.is_some_and(CopyObservation::missing_at_edge)
            && !self.answers(cluster)
            && !self.awaits_first_look(cluster);
        seen || nowhere
            || self.loss_of(cluster).is_some()
            || !self.snapshot.clusters.contains_key(cluster)
    }

    /// Whether this process has not heard of a cluster yet, so that nothing is
    /// positively known of it: its silence may be over before it is noticed.
    fn awaits_first_look(&self, cluster: &str) -> bool {
        let known = self.snapshot.clusters.get(cluster);
        known.is_some_and(|cluster| cluster.reach == Reach::NotObserved)
    }

    /// The copy at the target, or the verdict while nothing is known of it. A
    /// copy that Flambeau may not look at is not waited for without end.
    fn target(&self, gate: &'static str) -> Result<&CopyObservation, Verdict> {
        let to = &self.migration.to;
        self.application.known_copy(to).ok_or_else(|| {
            let copy = self.application.copies.get(to);
            match copy.and_then(|copy| copy.hidden.clone()) {
                Some(why) => self.target_not_ready(gate, Reason::ObjectRefused, why),
                None => {
                    let message = format!("the objects on {to} are not known yet");
                    wait(gate, Reason::ClusterNotObserved, message)
                }
            }
        })
    }

    fn elapsed(&self, since: Option<Timestamp>) -> SignedDuration {
        since.map_or(SignedDuration::ZERO, |since| {
            self.now.duration_since(self.snapshot.counted_from(since))
        })
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
    let unhealthy_after = context.application.spec.failover.unhealthy_after;
    let record = &context.migration.record;
    let counted = |recorded: Timestamp| context.snapshot.counted_from(recorded);
    let start = record.steps.last().map(|step| counted(step.start));
    let prepared = record
        .steps
        .iter()
        .find(|step| step.step == Step::Prepare)
        .map(|step| counted(step.start));
    let silent = |cluster: &str| match context.application.copies.get(cluster)?.service {
        Service::Silent { since } => Some(since),
        _ => None,
    };
    let step = match record.step? {
        Step::Prepare | Step::Ready => (prepared, strategy.ready_timeout),
        Step::Shift => (record.stage_since.map(counted), strategy.stage),
        Step::Soak => (start, strategy.soak),
        Step::Drain => (start, strategy.drain),
        Step::Abort => (start, ABORT_DRAIN),
        _ => (None, SignedDuration::ZERO),
    };
    let unproven = match record.step? {
        Step::Drain => start,
        _ => None,
    };
    [
        step,
        (unproven, context.snapshot.settings.hub_window),
        (record.down_since.map(counted), unhealthy_after),
        (silent(&context.migration.from), unhealthy_after),
        (silent(&context.migration.to), unhealthy_after),
    ]
    .into_iter()
    .filter_map(|(since, length)| since?.checked_add(length).ok())
    .filter(|time| *time > context.now)
    .min()
}
