//! Losses, and how long each application that had to leave was without an answer.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::MigrationReport;
use crate::load::{ApplicationResult, Window};

/// The kind of move that a loss sets off.
const FAILOVER: &str = "Failover";

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
        let windows: Vec<Window> = own.iter().map(|(loss, _)| window(loss)).collect();
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

fn window(loss: &Loss) -> Window {
    Window {
        from: loss.time,
        // Saturates at the end of the calendar.
        until: loss
            .time
            .saturating_add(loss.limit)
            .unwrap_or(Timestamp::MAX),
    }
}

fn measured(
    loss: &Loss,
    application: &ApplicationResult,
    migration: &MigrationReport,
) -> FailoverReport {
    let within = window(loss);
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
