//! The next step of a move.

use crate::{
    Reason, evacuation,
    gates::{self, Context},
    model::{
        Application, GateOutcome, Migration, MigrationRecord, MoveType, Name, Outcome, Reach,
        Snapshot, Step, StepRecord, Trigger, Verdict,
    },
    placement,
};
use jiff::Timestamp;

/// What to record about a move next. The same record comes back when nothing
/// changes; at most one step is taken.
pub fn advance(context: &Context<'_>, current: &Name) -> MigrationRecord {
    let migration = context.migration;
    let mut record = (*migration.record).clone();
    if record.done() {
        return record;
    }
    if context.application.deleting {
        if !target_recorded(context.application, migration, context.snapshot) {
            return record;
        }
        // All its copies are erased with the application itself.
        let message = "the application is being deleted".to_owned();
        record.abort_reason = Some((Reason::ApplicationGone, message));
        finish(&mut record, Outcome::Aborted, context.now);
        return record;
    }
    track_downtime(context, &mut record);
    send_requests(context, &mut record);
    match record.step {
        // Preflight brings nothing about, so that there is nothing to store
        // before it is passed.
        None if numbered(context) => {
            enter(&mut record, Step::Preflight, context.now);
            go_on(context, &mut record, Step::Preflight, current);
        }
        None => {}
        Some(step) => go_on(context, &mut record, step, current),
    }
    record
}

/// Whether the application's own record names the target of a move, as far as
/// anything can be there: not the move alone knows of it then.
pub fn target_recorded(
    application: &Application,
    migration: &Migration,
    snapshot: &Snapshot,
) -> bool {
    !migration.record.reached(Step::Prepare)
        || application.record.on(&migration.to).is_some()
        || !snapshot.clusters.contains_key(&migration.to)
}

/// The number of a move is recorded before its first step, so that no later
/// move gets the same name.
fn numbered(context: &Context<'_>) -> bool {
    number(&context.application.spec.key.name, &context.migration.name)
        <= context.application.record.migrations
}

/// The number in the name of a Migration that was named by the planner; 0 for
/// any other name.
pub fn number(application: &str, migration: &str) -> i64 {
    migration
        .strip_prefix(application)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|digits| digits.parse::<u32>().ok())
        .map_or(0, i64::from)
}

fn go_on(context: &Context<'_>, record: &mut MigrationRecord, step: Step, current: &Name) {
    if let Some((reason, message)) = refuse_outright(context, current) {
        walk_back(record, reason, message, context.now);
        return;
    }
    let mut verdicts: Vec<Verdict> = gates::all(context, step);
    if gates::held_for_hub(context) {
        hold(record, verdicts);
        return;
    }
    let objection = asked_to_walk_back(context, step).or_else(|| {
        verdicts
            .iter()
            .find(|verdict| verdict.outcome == GateOutcome::Fail)
            .map(|verdict| (verdict.reason, verdict.message.clone()))
    });
    let waits = verdicts
        .iter()
        .any(|verdict| verdict.outcome == GateOutcome::Wait);
    let paused = context.migration.pause && may_walk_back(step);
    let may_pass = !waits && !paused;
    match objection.filter(|_| may_walk_back(step)) {
        Some((reason, message)) => {
            let back = gates::way_back(context);
            if back.outcome == GateOutcome::Pass {
                hold(record, verdicts);
                walk_back(record, reason, message, context.now);
                return;
            }
            // A move that can only go on does not stand between two clusters.
            let goes_on = may_pass && gates::only_way_is_forward(context);
            verdicts.push(back);
            hold(record, verdicts);
            if goes_on {
                pass(context, record, step);
            }
        }
        None => {
            hold(record, verdicts);
            if may_pass {
                pass(context, record, step);
            }
        }
    }
}

/// What a failover sends to its target before Shift is recorded first, and
/// that anything was sent there stays so.
fn send_requests(context: &Context<'_>, record: &mut MigrationRecord) {
    if !matches!(record.step, Some(Step::Prepare | Step::Ready | Step::Sync)) {
        return;
    }
    let percent = if gates::requests_at_target(context) {
        100
    } else {
        0
    };
    if record.percent != percent {
        record.percent = percent;
        record.stage_since = Some(context.now);
    }
}

/// The step stays; what its gates say is kept with it.
fn hold(record: &mut MigrationRecord, verdicts: Vec<Verdict>) {
    if let Some(current) = record.steps.last_mut() {
        current.verdicts = verdicts;
    }
}

/// What to record about a move whose application does not exist: it is over.
pub fn without_application(record: &MigrationRecord, now: Timestamp) -> MigrationRecord {
    let mut record = record.clone();
    if !record.done() {
        let message = "no GamesApplication of that name exists in the namespace".to_owned();
        record.abort_reason = Some((Reason::ApplicationGone, message));
        finish(&mut record, Outcome::Aborted, now);
    }
    record
}

/// Whether the record blames the target, so that it is avoided for a while.
pub fn blames_target(record: &MigrationRecord) -> bool {
    matches!(
        record.abort_reason,
        Some((
            Reason::ObjectRefused
                | Reason::ReadyTimeout
                | Reason::TargetLost
                | Reason::TargetErrors
                | Reason::ClusterFull
                | Reason::ClusterUnreachable
                | Reason::ClusterMisconfigured
                | Reason::AbortRequested,
            _
        ))
    )
}

/// The gate that holds a move, in one line.
pub fn waiting_for(record: &MigrationRecord, paused: bool) -> Option<(Reason, String)> {
    if record.done() {
        return None;
    }
    let verdicts = record.steps.last().map_or(&[][..], |step| &step.verdicts);
    let held = verdicts
        .iter()
        .find(|verdict| verdict.outcome != GateOutcome::Pass);
    match held {
        Some(verdict) => Some((verdict.reason, verdict.message.clone())),
        None if paused => Some((Reason::Paused, "a person holds the move".to_owned())),
        None => None,
    }
}

/// The cluster that is avoided for a while because the move was walked back:
/// the target that is to blame, or a source that comes and goes, so that the
/// next failover off it is not given up again.
pub fn avoided<'a>(application: &Application, migration: &'a Migration) -> Option<&'a Name> {
    let cooldown = application.spec.failover.cooldown;
    match &migration.record.abort_reason {
        Some((Reason::SourceRecovered, _)) => cooldown.is_positive().then_some(&migration.from),
        _ => blames_target(&migration.record).then_some(&migration.to),
    }
}

fn may_walk_back(step: Step) -> bool {
    step < Step::Retire
}

/// Moves that never got to touch anything are refused without further ado.
fn refuse_outright(context: &Context<'_>, current: &Name) -> Option<(Reason, String)> {
    let migration = context.migration;
    if migration.record.reached(Step::Prepare) || *current == migration.name {
        return None;
    }
    Some((
        Reason::AnotherMove,
        format!("Migration {current} of the same application is under way"),
    ))
}

fn asked_to_walk_back(context: &Context<'_>, step: Step) -> Option<(Reason, String)> {
    let migration = context.migration;
    if migration.abort {
        return Some((
            Reason::AbortRequested,
            "a person asked to walk the move back".to_owned(),
        ));
    }
    if evacuation::aborted(context.snapshot, migration) {
        return Some((
            Reason::EvacuationAborted,
            "a person ended the Evacuation that the move is part of".to_owned(),
        ));
    }
    if migration.trigger == Trigger::Loss && step < Step::Shift && gates::source_recovered(context)
    {
        return Some((
            Reason::SourceRecovered,
            format!("the application on {} answers again", migration.from),
        ));
    }
    // From the first request at the target on, going on costs no more than
    // going back.
    let withdrawn = migration.trigger == Trigger::Policy
        && step < Step::Shift
        && placement::unlawful(context.application, &migration.from, context.law).is_none();
    withdrawn.then(|| {
        (
            Reason::TriggerWithdrawn,
            format!("no policy refuses {} any more", migration.from),
        )
    })
}

fn pass(context: &Context<'_>, record: &mut MigrationRecord, step: Step) {
    let now = context.now;
    match step {
        Step::Preflight => {
            record.epoch = context.application.record.epoch + 1;
            record.lost_since = gates::loss(context).map(|loss| loss.since);
            enter(record, Step::Prepare, now);
            send_requests(context, record);
        }
        Step::Prepare => enter(record, Step::Ready, now),
        Step::Ready => enter(record, Step::Sync, now),
        Step::Sync => {
            enter(record, Step::Shift, now);
            next_stage(context, record);
        }
        Step::Shift if record.percent < 100 => next_stage(context, record),
        Step::Shift => {
            measure_recovery(record, now);
            enter(record, Step::Soak, now);
        }
        Step::Soak => enter(record, Step::Drain, now),
        Step::Drain => enter(record, Step::Retire, now),
        Step::Retire => finish(record, Outcome::Completed, now),
        Step::Abort => finish(record, Outcome::Aborted, now),
        Step::Done => {}
    }
}

/// The gates of Shift have passed: the edge confirmed the weights, and the
/// target serves. For a lost source, all the time since its last sign of life
/// counts as downtime.
fn measure_recovery(record: &mut MigrationRecord, now: Timestamp) {
    if let (Some(since), None) = (record.lost_since, record.recovery) {
        let recovery = now.duration_since(since);
        record.recovery = Some(recovery);
        record.downtime = record.downtime.max(recovery);
    }
}

/// Stages protect requests that the source serves; they go over all at once
/// when it is known to serve none, and in a failover.
fn next_stage(context: &Context<'_>, record: &mut MigrationRecord) {
    let application = context.application;
    let from = &context.migration.from;
    let nothing_to_protect = !application.spec.traffic
        || context.migration.move_type == MoveType::Failover
        || gates::loss(context).is_some()
        || context.snapshot.reaches(from)
            && application
                .known_copy(from)
                .is_some_and(|copy| copy.endpoints == 0);
    let stages = &application.spec.strategy.stages;
    let next = stages
        .iter()
        .copied()
        .find(|stage| !nothing_to_protect && *stage > record.percent);
    record.percent = next.unwrap_or(100).min(100);
    record.stage_since = Some(context.now);
}

fn enter(record: &mut MigrationRecord, step: Step, now: Timestamp) {
    if let Some(current) = record.steps.last_mut() {
        current.end = Some(now);
    }
    record.step = Some(step);
    record.steps.push(StepRecord {
        step,
        start: now,
        end: None,
        verdicts: Vec::new(),
    });
}

/// A move that wrote nothing has nothing to walk back.
fn walk_back(record: &mut MigrationRecord, reason: Reason, message: String, now: Timestamp) {
    record.abort_reason = Some((reason, message));
    if record.reached(Step::Prepare) {
        record.percent = 0;
        enter(record, Step::Abort, now);
    } else {
        finish(record, Outcome::Aborted, now);
    }
}

fn finish(record: &mut MigrationRecord, outcome: Outcome, now: Timestamp) {
    enter(record, Step::Done, now);
    if let Some(done) = record.steps.last_mut() {
        done.end = Some(now);
    }
    record.outcome = Some(outcome);
    if let Some(since) = record.down_since.take() {
        record.downtime += now.duration_since(since);
    }
}

/// Counts the time during which no backend that gets requests has a ready
/// endpoint at the edge.
fn track_downtime(context: &Context<'_>, record: &mut MigrationRecord) {
    let application = context.application;
    if !application.spec.traffic || !record.reached(Step::Shift) {
        return;
    }
    let weighted = [
        (&context.migration.from, 100 - record.percent),
        (&context.migration.to, record.percent),
    ];
    let served = weighted
        .iter()
        .filter(|(_, weight)| *weight > 0)
        .any(|(cluster, _)| {
            let answers = context
                .snapshot
                .clusters
                .get(*cluster)
                .is_some_and(|cluster| cluster.reach == Reach::Reachable);
            // The state of a cluster that does not answer is unknown, not down.
            !answers
                || application
                    .copies
                    .get(*cluster)
                    .is_none_or(|copy| copy.endpoints_at_edge > 0)
        });
    match (served, record.down_since) {
        (false, None) => record.down_since = Some(context.now),
        (true, Some(since)) => {
            record.downtime += context.now.duration_since(since);
            record.down_since = None;
        }
        _ => {}
    }
}
