//! What the operator uses while nothing happens.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::operator::Operator;
use crate::progress;
use crate::report::{Goal, Report};

/// How long it is looked at: a hundredth of a second on a processor is half a millicore then.
const WATCHED: Duration = Duration::from_secs(20);

/// Looks at an operator that has nothing to do.
pub async fn measure(report: &mut Report, operator: &mut Operator, fleet: &str) -> Result<()> {
    progress!("at rest {fleet}: for {} s", WATCHED.as_secs());
    let before = operator.usage()?;
    tokio::time::sleep(WATCHED).await;
    let after = operator.usage()?;
    let cpu = (after.cpu_seconds - before.cpu_seconds) / WATCHED.as_secs_f64();
    let figure = |what: &str| format!("at rest {fleet}: {what}");
    report.add(
        &figure("resident memory"),
        after.resident_mib,
        None,
        "MiB",
        Goal::None,
    );
    report.add(
        &figure("CPU"),
        cpu * 1000.0,
        None,
        "thousandths of a core",
        Goal::None,
    );
    report.detail(
        &figure("usage"),
        json!({ "before": before, "after": after }),
    );
    Ok(())
}
