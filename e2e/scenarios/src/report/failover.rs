//! Losses, and how long each application that had to leave was without an answer.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::MigrationReport;
use crate::load::{ApplicationResult, Window};

/// The kind of move that a loss sets off.
pub(super) const FAILOVER: &str = "Failover";

/// How a move ends that got where it should.
pub(super) const COMPLETED: &str = "Completed";

/// The step that begins when every request goes to the target.
const AFTER_SHIFT: &str = "Soak";

/// What requests that were under way then get to end.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// A cluster that was taken away, by whoever tells the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// When.
    pub time: Timestamp,
    /// Which cluster.
    pub cluster: String,
    /// Within which time from then every application that may leave has to serve again.
    pub limit: Duration,
}

/// One application that was failed over, and what it cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailoverReport {
    /// Name of the GamesApplication.
    pub application: String,
    /// The cluster that was lost.
    pub from: String,
    /// Where it serves since.
    pub to: String,
    /// When the cluster was taken away.
    pub lost: Timestamp,
    /// Requests that failed because of it.
    pub failed: u64,
    /// Milliseconds from the loss until the last request was due that failed; 0 when none did.
    pub window_ms: f64,
    /// Milliseconds that were allowed.
    pub limit_ms: f64,
    /// Milliseconds from the loss until Flambeau began to act.
    pub detected_ms: f64,
    /// Recovery time in milliseconds as Flambeau measured it from the last sign of life.
    pub recovery_ms: Option<i64>,
}

/// What requests say about the losses of a story.
pub(super) struct Judged {
    pub failovers: Vec<FailoverReport>,
    /// Requests that failed although nothing was lost, or that was too long ago.
    pub unexplained: u64,
    pub problems: Vec<String>,
}

pub(super) fn judge(
    losses: &[Loss],
    applications: &[ApplicationResult],
    migrations: &[MigrationReport],
) -> Judged {
    let mut judged = Judged {
        failovers: Vec::new(),
        unexplained: 0,
        problems: Vec::new(),
    };
    for application in applications {
        let own: Vec<(&Loss, &MigrationReport)> = losses
            .iter()
            .filter_map(|loss| Some((loss, answer(loss, &application.name, migrations)?)))
            .collect();
        let windows: Vec<Window> = own
            .iter()
            .map(|(loss, migration)| window(loss, migration))
            .collect();
        for outage in application.outages_outside(&windows) {
            judged.unexplained += outage.failed;
            judged.problems.push(format!(
                "{} requests to {} failed between {:.3} and {:.3}, which no failover explains.",
                outage.failed, application.name, outage.first, outage.last
            ));
        }
        judged.failovers.extend(
            own.iter()
                .map(|(loss, migration)| measured(loss, application, migration)),
        );
    }
    judged.failovers.sort_by_key(|failover| failover.lost);
    judged
}

/// The failover that a loss set off.
fn answer<'a>(
    loss: &Loss,
    application: &str,
    migrations: &'a [MigrationReport],
) -> Option<&'a MigrationReport> {
    migrations.iter().find(|migration| {
        migration.kind == FAILOVER
            && migration.application == application
            && migration.from == loss.cluster
            && migration.start >= loss.time
    })
}

/// The time in which a loss excuses failures: until the limit, or until requests have gone over for good, if that is
/// sooner. A failover that was walked back served nobody.
fn window(loss: &Loss, failover: &MigrationReport) -> Window {
    let limit = later(loss.time, loss.limit);
    let completed = failover.outcome.as_deref() == Some(COMPLETED);
    let shifted = failover
        .steps
        .iter()
        .find(|step| completed && step.name == AFTER_SHIFT);
    let served = shifted.map(|step| later(step.start, UNDER_WAY));
    Window {
        from: loss.time,
        until: served.map_or(limit, |served| served.min(limit)),
    }
}

/// Saturates at the end of the calendar.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn measured(
    loss: &Loss,
    application: &ApplicationResult,
    migration: &MigrationReport,
) -> FailoverReport {
    let within = window(loss, migration);
    let outages = application
        .outages
        .iter()
        .filter(|outage| within.holds(outage));
    let last = outages.clone().map(|outage| outage.last).max();
    let since = |time: Timestamp| milliseconds(loss.time, time).max(0.0);
    FailoverReport {
        application: application.name.clone(),
        from: migration.from.clone(),
        to: migration.to.clone(),
        lost: loss.time,
        failed: outages.map(|outage| outage.failed).sum(),
        window_ms: last.map_or(0.0, since),
        limit_ms: loss.limit.as_secs_f64() * 1000.0,
        detected_ms: since(migration.start),
        recovery_ms: migration.recovery_ms,
    }
}

/// Milliseconds from `start` to `end`.
#[allow(clippy::cast_precision_loss)]
pub(super) fn milliseconds(start: Timestamp, end: Timestamp) -> f64 {
    end.duration_since(start).as_millis() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failover(outcome: &str, soak: &str) -> MigrationReport {
        serde_json::from_value(serde_json::json!({
            "application": "results", "namespace": "games", "from": "atos", "to": "ovh",
            "type": "Failover", "trigger": "Loss", "reason": "ClusterLost",
            "start": "2026-02-06T18:00:07Z", "end": "2026-02-06T18:00:30Z", "outcome": outcome,
            "downtime_ms": 0, "recovery_ms": 9000,
            "steps": [{ "name": "Soak", "start": soak, "end": null, "verdicts": [] }],
        }))
        .unwrap()
    }

    #[test]
    fn a_loss_excuses_nothing_once_requests_have_gone_over() {
        let loss = Loss {
            time: "2026-02-06T18:00:00Z".parse().unwrap(),
            cluster: "atos".to_owned(),
            limit: Duration::from_secs(15),
        };
        for (outcome, soak, seconds) in [
            ("Completed", "2026-02-06T18:00:09.5Z", 11.5),
            ("Completed", "2026-02-06T18:00:14Z", 15.0),
            ("Aborted", "2026-02-06T18:00:09.5Z", 15.0),
        ] {
            let window = window(&loss, &failover(outcome, soak));
            assert_eq!(window.from, loss.time);
            let allowed = window.until.duration_since(loss.time).as_secs_f64();
            assert!((allowed - seconds).abs() < 0.001, "{outcome}: {allowed} s");
        }
        let without = MigrationReport {
            steps: Vec::new(),
            ..failover("Completed", "2026-02-06T18:00:09.5Z")
        };
        assert_eq!(
            window(&loss, &without).until,
            loss.time + Duration::from_secs(15)
        );
    }
}
