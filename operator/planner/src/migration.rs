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
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

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
    measure_early_recovery(context, &mut record);
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
    let application = context.application;
    let number = number(&application.spec.key.name, &context.migration.name);
    let recorded = application.record.migrations;
    number.is_none_or(|number| number <= recorded || number > last_number(application))
}

/// The number in the name of a Migration, if it is such as the planner gives.
pub fn number(application: &str, migration: &str) -> Option<i64> {
    let digits = migration.strip_prefix(application)?.strip_prefix('-')?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    // The same number is written in one way only.
    (!digits.starts_with(['+', '0'])).then_some(number)
}

/// The last number before the next one that is free: what is recorded, and what
/// follows on it without a gap among the numbers that are taken. Anybody may
/// create a Migration of any name; a number that is far ahead is left out when
/// its turn comes.
pub fn last_taken(recorded: i64, taken: impl IntoIterator<Item = i64>) -> i64 {
    let ahead: BTreeSet<i64> = taken
        .into_iter()
        .filter(|number| *number > recorded)
        .collect();
    let mut last = recorded;
    for number in ahead {
        if last.checked_add(1) != Some(number) {
            break;
        }
        last = number;
    }
    last
}

/// The number to record: that of the last move that is named in a row.
pub fn last_number(application: &Application) -> i64 {
    let name = &application.spec.key.name;
    let open = application.migrations.iter();
    let taken = open.filter_map(|migration| number(name, &migration.name));
    last_taken(application.record.migrations, taken)
}

/// The name of the next move of an application.
pub fn next_name(application: &Application) -> Name {
    let next = last_number(application).saturating_add(1);
    format!("{}-{next}", application.spec.key.name).into()
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
        format!(
            "Migration {current} of the same application is under way: wait for its end, or set its spec.abort, and then ask with a new Migration"
        ),
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
            record.epoch = context.application.record.next_epoch();
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
        let recovery = passed(since, now);
        record.recovery = Some(recovery);
        record.downtime = record.downtime.max(recovery);
    }
}

/// A standby serves before every workload is scaled up: recovery is over when
/// all requests are at the target, the edge confirmed it, and it answers them.
fn measure_early_recovery(context: &Context<'_>, record: &mut MigrationRecord) {
    let (application, to) = (context.application, &context.migration.to);
    let before_shift = matches!(record.step, Some(Step::Prepare | Step::Ready | Step::Sync));
    let all_there = record.percent == 100 && application.edge.weights.get(to) == Some(&100);
    if before_shift
        && all_there
        && application.edge.acknowledged
        && context.snapshot.serves(application, to)
    {
        measure_recovery(record, context.now);
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
        record.downtime += passed(since, now);
    }
}

/// What passed since a time that was written down, perhaps by a clock that was
/// ahead of this one: nothing lasts less than no time.
fn passed(since: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(since).max(SignedDuration::ZERO)
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
                    .is_none_or(|copy| !copy.missing_at_edge())
        });
    match (served, record.down_since) {
        (false, None) => record.down_since = Some(context.now),
        (true, Some(since)) => {
            record.downtime += passed(since, context.now);
            record.down_since = None;
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fleet::Decision,
        plan,
        testing::{apply, decision, forbid, later, migration, running, three},
    };
    use std::sync::Arc;

    const FAR: &str = "web-4294967295";

    #[test]
    fn numbers_are_read_as_they_are_written() {
        assert_eq!(number("web", "web-12"), Some(12));
        assert_eq!(number("web", FAR), Some(4_294_967_295));
        for other in ["web-0", "web-012", "web-+1", "web-1-2", "web", "shop-1"] {
            assert_eq!(number("web", other), None, "{other}");
        }
    }

    #[test]
    fn the_next_number_is_the_next_that_is_free() {
        assert_eq!(last_taken(2, []), 2);
        assert_eq!(last_taken(2, [4, 3, 1, 3]), 4);
        assert_eq!(last_taken(2, [4, 4_294_967_295, i64::MAX]), 2);
        assert_eq!(last_taken(i64::MAX - 1, [i64::MAX]), i64::MAX);
        assert_eq!(last_taken(i64::MAX, [1]), i64::MAX);
    }

    /// Somebody creates a Migration of a name that the planner would give much
    /// later; it begins, and the next move still gets a name that is free.
    #[test]
    fn a_name_that_is_far_ahead_stands_in_nobodys_way() {
        let mut snapshot = three();
        let asked = migration(FAR, "atos", "ovh");
        snapshot.applications[0].migrations.push(asked);
        let planned = plan(&snapshot, later(20)).applications.remove(0);
        assert!(planned.migrations[0].1.step.is_some(), "{planned:?}");
        assert_eq!(planned.record.migrations, 0);
        let mut snapshot = three();
        snapshot.applications[0].record = Arc::new(planned.record);
        apply(&mut snapshot, forbid("no-french", "FR"));
        let Decision::Move { migration, .. } = decision(&snapshot) else {
            panic!("{:?}", decision(&snapshot));
        };
        assert_eq!(&*migration, "web-1");
    }

    #[test]
    fn the_next_number_is_recorded_before_the_first_step() {
        let mut snapshot = three();
        let mut web = running("web", "atos");
        web.migrations.push(migration("web-1", "atos", "ovh"));
        snapshot.applications = vec![web];
        let planned = plan(&snapshot, later(20)).applications.remove(0);
        assert_eq!(planned.migrations[0].1.step, None);
        assert_eq!(planned.record.migrations, 1);
        snapshot.applications[0].record = Arc::new(planned.record);
        let planned = plan(&snapshot, later(20)).applications.remove(0);
        assert!(planned.migrations[0].1.step.is_some());
    }
}
