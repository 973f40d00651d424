//! What to record and report about an application.

mod conditions;

pub use conditions::{Condition, Conditions, Truth, conditions, observed};

use crate::{
    Reason,
    fleet::Decision,
    migration,
    model::{
        Application, ApplicationRecord, FailedTarget, Migration, MoveType, Name, Placement, Role,
        Settings, Snapshot, Step,
    },
    standby::Standby,
};
use jiff::{SignedDuration, Timestamp};

/// What to record about an application next.
pub fn record(
    application: &Application,
    decision: &Decision,
    standby: Standby,
    snapshot: &Snapshot,
    now: Timestamp,
) -> ApplicationRecord {
    let mut next = (*application.record).clone();
    if application.deleting {
        for placement in &mut next.placements {
            assume(placement, Role::Retiring, now);
        }
        retire_targets(application, snapshot, &mut next, now);
        retire_strays(application, snapshot, &mut next, now);
        forget_erased(application, snapshot, &mut next);
        return next;
    }
    if let Decision::Place { cluster } = decision {
        next.epoch = next.next_epoch();
        let epoch = next.epoch;
        put(&mut next, cluster, Role::Active, epoch, now);
    }
    next.migrations = migration::last_number(application);
    let current = application.current_move();
    match current.filter(|migration| migration.record.reached(Step::Prepare)) {
        Some(migration) => follow_move(application, migration, &mut next, &snapshot.settings, now),
        None => end_lost_moves(&mut next, now),
    }
    if current.is_none() {
        keep_standby(standby.clone(), &mut next, now);
    }
    if standby == Standby::Nowhere {
        keep_standby(standby, &mut next, now);
    }
    if next.active().is_some() {
        retire_strays(application, snapshot, &mut next, now);
    }
    forget_erased(application, snapshot, &mut next);
    next
}

/// Where no move has got as far as to write anything, what is recorded of one
/// belongs to another that is gone: somebody took its record away.
fn end_lost_moves(next: &mut ApplicationRecord, now: Timestamp) {
    let mut spent = next.epoch;
    for placement in &mut next.placements {
        if matches!(placement.role, Role::Target | Role::Source) {
            spent = spent.max(placement.epoch);
            assume(placement, Role::Retiring, now);
        }
    }
    spend(next, spent);
}

/// At most one standby, under the epoch that the application has reached.
fn keep_standby(standby: Standby, next: &mut ApplicationRecord, now: Timestamp) {
    let wanted = match standby {
        Standby::Leave => return,
        Standby::Nowhere => None,
        Standby::On(cluster) => Some(cluster),
    };
    for placement in &mut next.placements {
        if placement.role == Role::Standby && wanted.as_ref() != Some(&placement.cluster) {
            assume(placement, Role::Retiring, now);
        }
    }
    if let Some(cluster) = wanted {
        let epoch = next.epoch;
        put(next, &cluster, Role::Standby, epoch, now);
    }
}

/// The epoch of a move that was walked back is not given again, though the
/// active copy never changed: a write to its target may still land late, and
/// members that were told of it refuse a lower one.
fn spend(next: &mut ApplicationRecord, epoch: i64) {
    next.epoch = next.epoch.max(epoch);
}

fn assume(placement: &mut Placement, role: Role, now: Timestamp) {
    if placement.role != role {
        placement.role = role;
        placement.since = now;
    }
}

fn put(record: &mut ApplicationRecord, cluster: &Name, role: Role, epoch: i64, now: Timestamp) {
    match record
        .placements
        .iter_mut()
        .find(|placement| placement.cluster == *cluster)
    {
        Some(placement) => {
            assume(placement, role, now);
            placement.epoch = epoch;
        }
        None => record.placements.push(Placement {
            cluster: cluster.clone(),
            role,
            epoch,
            since: now,
        }),
    }
}

/// The place of an application follows from the recorded step of its move.
fn follow_move(
    application: &Application,
    migration: &Migration,
    next: &mut ApplicationRecord,
    settings: &Settings,
    now: Timestamp,
) {
    let record = &migration.record;
    let Some(step) = record.step.filter(|_| record.reached(Step::Prepare)) else {
        return;
    };
    let source_epoch = next
        .on(&migration.from)
        .map_or(record.epoch - 1, |source| source.epoch);
    match step {
        Step::Preflight | Step::Done => {}
        Step::Prepare | Step::Ready | Step::Sync | Step::Shift => {
            put(next, &migration.to, Role::Target, record.epoch, now);
        }
        Step::Soak | Step::Drain | Step::Retire => {
            next.epoch = record.epoch;
            let role = if step == Step::Retire {
                Role::Retiring
            } else {
                Role::Source
            };
            if step != Step::Retire || next.on(&migration.from).is_some() {
                put(next, &migration.from, role, source_epoch, now);
            }
            put(next, &migration.to, Role::Active, record.epoch, now);
            // A target that fails now is no better than one that failed before.
            next.failed_targets
                .retain(|failed| step != Step::Retire && failed.cluster != migration.from);
            remember_home(application, migration, next);
        }
        Step::Abort => {
            if next
                .active()
                .is_some_and(|active| active.cluster == migration.to)
            {
                next.epoch = record.epoch + 1;
                put(next, &migration.from, Role::Active, record.epoch + 1, now);
            }
            spend(next, record.epoch);
            if next.on(&migration.to).is_some() {
                put(next, &migration.to, Role::Retiring, record.epoch, now);
            }
            forget_home(migration, next);
            blame(application, migration, next, settings, now);
        }
    }
}

/// After a failover, the former cluster is avoided for a while, and remembered
/// as the place to go back to; the first one of several. A planned move makes
/// the new place the home.
fn remember_home(application: &Application, migration: &Migration, next: &mut ApplicationRecord) {
    if migration.move_type != MoveType::Failover {
        next.failed_over_from = None;
        return;
    }
    if next.failed_over_from.is_none() {
        next.failed_over_from = Some(migration.from.clone());
    }
    if next.failed_over_from.as_ref() == Some(&migration.to) {
        next.failed_over_from = None;
    }
    let steps = &migration.record.steps;
    let soak = steps.iter().find(|record| record.step == Step::Soak);
    let cooldown = application.spec.failover.cooldown;
    if let Some(since) = soak
        .map(|soak| soak.start)
        .filter(|_| cooldown.is_positive())
    {
        next.failed_targets.push(FailedTarget {
            cluster: migration.from.clone(),
            attempts: 1,
            reason: Reason::ClusterLost,
            migration: migration.name.clone(),
            retry_after: since.checked_add(cooldown).unwrap_or(Timestamp::MAX),
        });
    }
}

/// What a move that is walked back had said about where to go back to.
fn forget_home(migration: &Migration, next: &mut ApplicationRecord) {
    if migration.move_type == MoveType::Failback {
        next.failed_over_from = Some(migration.to.clone());
    } else if next.failed_over_from.as_ref() == Some(&migration.from) {
        next.failed_over_from = None;
    }
}

/// A move may have written to its target before that was recorded here: when
/// the application goes, so does whatever is there.
fn retire_targets(
    application: &Application,
    snapshot: &Snapshot,
    next: &mut ApplicationRecord,
    now: Timestamp,
) {
    for migration in &application.migrations {
        let cluster = &migration.to;
        if next.on(cluster).is_none()
            && !migration::target_recorded(application, migration, snapshot)
        {
            put(next, cluster, Role::Retiring, migration.record.epoch, now);
        }
    }
}

/// A copy where none is recorded is left over from a write that came late: it
/// is recorded first, and then erased like any other.
fn retire_strays(
    application: &Application,
    snapshot: &Snapshot,
    next: &mut ApplicationRecord,
    now: Timestamp,
) {
    for (cluster, copy) in &application.copies {
        let seen = copy.observed && copy.present > 0 && snapshot.reaches(cluster);
        if seen && application.record.on(cluster).is_none() && next.on(cluster).is_none() {
            put(next, cluster, Role::Retiring, next.epoch, now);
        }
    }
}

fn blame(
    application: &Application,
    migration: &Migration,
    next: &mut ApplicationRecord,
    settings: &Settings,
    now: Timestamp,
) {
    let (Some((reason, _)), Some(cluster)) = (
        &migration.record.abort_reason,
        migration::avoided(application, migration),
    ) else {
        return;
    };
    let known = next
        .failed_targets
        .iter()
        .position(|failed| failed.cluster == *cluster);
    if known.is_some_and(|index| next.failed_targets[index].migration == migration.name) {
        return;
    }
    let attempts = known.map_or(1, |index| {
        next.failed_targets.remove(index).attempts.saturating_add(1)
    });
    let backoff = match reason {
        Reason::SourceRecovered => application.spec.failover.cooldown,
        _ => backoff(settings, attempts),
    };
    next.failed_targets.push(FailedTarget {
        cluster: cluster.clone(),
        attempts,
        reason: *reason,
        migration: migration.name.clone(),
        retry_after: now.checked_add(backoff).unwrap_or(Timestamp::MAX),
    });
}

/// How long a target is avoided after so many failures in a row.
pub(crate) fn backoff(settings: &Settings, attempts: u32) -> SignedDuration {
    let factor = 1_i32 << attempts.saturating_sub(1).min(16);
    settings
        .retry_backoff
        .checked_mul(factor)
        .unwrap_or(settings.retry_backoff_limit)
        .min(settings.retry_backoff_limit)
}

/// A copy leaves the record only when it is positively known to be gone, or its
/// cluster is not part of the fleet any more.
fn forget_erased(application: &Application, snapshot: &Snapshot, next: &mut ApplicationRecord) {
    next.placements.retain(|placement| {
        let gone = snapshot.reaches(&placement.cluster)
            && application
                .known_copy(&placement.cluster)
                .is_some_and(|copy| copy.absent());
        let was_retiring = application
            .record
            .on(&placement.cluster)
            .is_some_and(|recorded| recorded.role == Role::Retiring);
        // Whoever takes a cluster out of the fleet takes its contents upon
        // themselves.
        let left_behind = !snapshot.clusters.contains_key(&placement.cluster);
        !(placement.role == Role::Retiring && was_retiring && (gone || left_behind))
    });
}

#[cfg(test)]
mod tests;
