//! Times in records that are still to come: whoever wrote them had a clock
//! that was ahead, or that of the present operator was set back.
//!
//! A step that began in an hour would take an hour more than it should, and a
//! cool-down would keep an application on a lost cluster for as long. What
//! begins in the future therefore begins now, and what lasts longer than it
//! ever may lasts that long from now.
//!
//! A time that is long past may be as wrong, and nothing shows it. What is
//! waited for is therefore counted by the clock that goes now, see
//! [`Snapshot::counted_from`].

use crate::model::{
    Application, ApplicationRecord, Migration, MigrationRecord, Settings, Snapshot,
};
use jiff::{SignedDuration, Timestamp};
use std::{borrow::Cow, sync::Arc};

/// How far clocks that are kept by NTP differ at worst.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(5);

/// The snapshot without times to come; itself when there are none.
pub fn corrected(snapshot: &Snapshot, now: Timestamp) -> Cow<'_, Snapshot> {
    let clock = Clock { now };
    let wrong = |application: &Application| {
        clock.record(application, &snapshot.settings).is_some()
            || application
                .migrations
                .iter()
                .any(|one| clock.migration(&one.record).is_some())
    };
    if !snapshot.applications.iter().any(wrong) {
        return Cow::Borrowed(snapshot);
    }
    let mut corrected = snapshot.clone();
    for application in &mut corrected.applications {
        if let Some(record) = clock.record(application, &snapshot.settings) {
            application.record = Arc::new(record);
        }
        for Migration { record, .. } in &mut application.migrations {
            if let Some(right) = clock.migration(record) {
                *record = Arc::new(right);
            }
        }
    }
    Cow::Owned(corrected)
}

struct Clock {
    now: Timestamp,
}

impl Clock {
    fn to_come(&self, time: Timestamp) -> bool {
        time.duration_since(self.now) > TOLERANCE
    }

    fn record(&self, application: &Application, settings: &Settings) -> Option<ApplicationRecord> {
        let cooldown = application.spec.failover.cooldown;
        let longest = settings.retry_backoff_limit.max(cooldown);
        let latest = self.now.checked_add(longest).unwrap_or(Timestamp::MAX);
        let too_late = |time: Timestamp| time.duration_since(latest) > TOLERANCE;
        let failed = &application.record.failed_targets;
        if !failed.iter().any(|one| too_late(one.retry_after)) {
            return None;
        }
        let mut record = ApplicationRecord::clone(&application.record);
        for one in &mut record.failed_targets {
            one.retry_after = one.retry_after.min(latest);
        }
        Some(record)
    }

    fn migration(&self, record: &MigrationRecord) -> Option<MigrationRecord> {
        let starts = record.steps.iter().map(|step| step.start);
        let mut times = starts.chain(record.stage_since).chain(record.down_since);
        if record.done() || !times.any(|time| self.to_come(time)) {
            return None;
        }
        let mut record = record.clone();
        for step in &mut record.steps {
            step.start = step.start.min(self.now);
            step.end = step.end.map(|end| end.min(self.now));
        }
        record.stage_since = record.stage_since.map(|time| time.min(self.now));
        record.down_since = record.down_since.map(|time| time.min(self.now));
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        Reason,
        model::{CopyObservation, FailedTarget, MigrationRecord, Snapshot, Step, Trigger},
        plan,
        testing::{NOW, change_spec, later, lose, migration, serving, steps, three},
    };
    use jiff::{SignedDuration, Timestamp};
    use std::sync::Arc;

    /// A move of `web` from atos to ovh, at a step that was entered at a time.
    fn moving(step: Step, since: Timestamp) -> Snapshot {
        let mut snapshot = three();
        let mut record = MigrationRecord {
            epoch: 2,
            step: Some(step),
            percent: 25,
            stage_since: Some(since),
            steps: steps(&[Step::Prepare, step]),
            ..MigrationRecord::default()
        };
        for step in &mut record.steps {
            step.start = since;
        }
        let mut moving = migration("web-1", "atos", "ovh");
        moving.record = Arc::new(record);
        let web = &mut snapshot.applications[0];
        web.migrations.push(moving);
        web.copies.insert("ovh".into(), serving());
        snapshot
    }

    fn next(snapshot: &Snapshot, now: Timestamp) -> MigrationRecord {
        let mut planned = plan(snapshot, now).applications.remove(0);
        planned.migrations.remove(0).1
    }

    /// Times that an operator wrote whose clock was an hour ahead.
    #[test]
    fn a_clock_that_was_an_hour_ahead_holds_nothing_up_for_an_hour() {
        let (hour, now) = (later(3600), later(20));
        let mut snapshot = three();
        lose(&mut snapshot, "atos");
        let record = Arc::make_mut(&mut snapshot.applications[0].record);
        for cluster in ["alibaba", "ovh"] {
            record.failed_targets.push(FailedTarget {
                cluster: cluster.into(),
                attempts: 1,
                reason: Reason::ClusterLost,
                migration: "web-1".into(),
                retry_after: hour,
            });
        }
        let planned = plan(&snapshot, now).applications.remove(0);
        let cooldown = snapshot.applications[0].spec.failover.cooldown;
        let longest = cooldown.max(snapshot.settings.retry_backoff_limit);
        for failed in &planned.record.failed_targets {
            assert!(failed.retry_after <= now + longest, "{failed:?}");
        }

        let record = next(&moving(Step::Shift, hour), now);
        assert_eq!(record.steps[0].start, now);
        assert!(record.stage_since.is_some_and(|since| since <= now));
    }

    /// The target has had a minute by the clock of whoever began, and a second
    /// by that of whoever looks.
    #[test]
    fn a_clock_that_is_an_hour_ahead_gives_nothing_up_that_has_just_begun() {
        let now = later(3600);
        let mut snapshot = moving(Step::Ready, NOW);
        let web = &mut snapshot.applications[0];
        web.migrations[0].trigger = Trigger::Request;
        let nothing_ready = CopyObservation {
            workloads_ready: 0,
            ..serving()
        };
        web.copies.insert("ovh".into(), nothing_ready);
        let reason = |snapshot: &Snapshot| {
            let record = next(snapshot, now);
            record.abort_reason.map(|(reason, _)| reason)
        };
        assert_eq!(reason(&snapshot), Some(Reason::ReadyTimeout));
        snapshot.clock_since = Some(later(3599));
        assert_eq!(reason(&snapshot), None);
        let timeout = snapshot.applications[0].spec.strategy.ready_timeout;
        assert_eq!(plan(&snapshot, now).wake_at, Some(later(3599) + timeout));
        snapshot.clock_since = Some(now - timeout);
        assert_eq!(reason(&snapshot), Some(Reason::ReadyTimeout));
    }

    #[test]
    fn nothing_lasts_less_than_no_time() {
        // Within what clocks differ by.
        let mut snapshot = moving(Step::Shift, later(3));
        change_spec(&mut snapshot.applications[0], |spec| {
            spec.strategy.stage = SignedDuration::from_secs(1);
        });
        let open = &mut snapshot.applications[0].migrations[0];
        Arc::make_mut(&mut open.record).down_since = Some(later(3));
        let record = next(&snapshot, NOW);
        assert_eq!(record.down_since, None);
        assert_eq!(record.downtime, SignedDuration::ZERO);
    }
}
