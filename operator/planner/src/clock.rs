//! Times in records that are still to come: whoever wrote them had a clock
//! that was ahead, or that of the present operator was set back.
//!
//! A step that began in an hour would take an hour more than it should, and a
//! cool-down would keep an application on a lost cluster for as long. What
//! begins in the future therefore begins now, and what lasts longer than it
//! ever may lasts that long from now.

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
