//! The report as text for a terminal.

use std::fmt::Write;

use super::{MigrationReport, Report, failover::milliseconds};

pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    requests(report, &mut text);
    streams(report, &mut text);
    migrations(report, &mut text);
    failovers(report, &mut text);
    placements(report, &mut text);
    let generator = &report.generator;
    let _ = writeln!(
        text,
        "{} requests in {}, {}. The load generator took {:.1} % of a core; 99 % of requests left within {:.1} ms.",
        thousands(report.requests),
        duration(milliseconds(report.started, report.ended)),
        failed(report),
        generator.cpu_share * 100.0,
        generator.lateness.p99_ms,
    );
    for problem in &report.problems {
        let _ = writeln!(text, "PROBLEM  {problem}");
    }
    text
}

fn failed(report: &Report) -> String {
    if report.failovers.is_empty() {
        return format!("{} failed", thousands(report.failed));
    }
    format!(
        "{} failed while a cluster was lost, {} otherwise",
        thousands(report.failed - report.unexplained),
        thousands(report.unexplained)
    )
}

fn requests(report: &Report, text: &mut String) {
    let mut rows = vec![row([
        "APPLICATION",
        "REQUESTS",
        "FAILED",
        "P50",
        "P99",
        "MAX",
        "ANSWERED BY",
    ])];
    for application in &report.applications {
        let clouds = application
            .clouds
            .iter()
            .map(|cloud| format!("{} {}", cloud.cloud, thousands(cloud.answered)));
        let latency = application.latency;
        rows.push(vec![
            application.name.clone(),
            thousands(application.sent),
            thousands(application.failed),
            format!("{:.1} ms", latency.p50_ms),
            format!("{:.1} ms", latency.p99_ms),
            format!("{:.1} ms", latency.max_ms),
            clouds.collect::<Vec<_>>().join(", "),
        ]);
    }
    table(&rows, &[1, 2, 3, 4, 5], text);
    for application in &report.applications {
        for failure in application.examples.iter().take(5) {
            let cause = failure.cause.words();
            let _ = writeln!(
                text,
                "{}  {}  {cause}: {}",
                failure.time, application.name, failure.detail
            );
        }
    }
    text.push('\n');
}

fn streams(report: &Report, text: &mut String) {
    for streams in &report.streams {
        let _ = writeln!(
            text,
            "{} event streams of {}: {} events, {} ended cleanly, {} broke, {} were refused, {} open in the end; longest without \
             an event {}.",
            streams.count,
            streams.name,
            thousands(streams.events),
            streams.clean_ends,
            streams.broken_ends,
            streams.refused,
            streams.open_at_end,
            duration(streams.longest_gap_ms),
        );
        for failure in streams.examples.iter().take(5) {
            let _ = writeln!(
                text,
                "{}  stream {}: {}",
                failure.time, failure.stream, failure.detail
            );
        }
        text.push('\n');
    }
}

fn migrations(report: &Report, text: &mut String) {
    if report.migrations.is_empty() {
        return;
    }
    let mut rows = vec![row([
        "MOVE", "FROM", "TO", "TOOK", "OUTCOME", "TYPE", "REASON",
    ])];
    for migration in &report.migrations {
        rows.push(vec![
            format!("{}/{}", migration.namespace, migration.application),
            migration.from.clone(),
            migration.to.clone(),
            took(migration),
            migration
                .outcome
                .clone()
                .unwrap_or_else(|| "under way".to_owned()),
            migration.kind.clone(),
            migration.reason.clone(),
        ]);
    }
    table(&rows, &[3], text);
    text.push('\n');
}

fn took(migration: &MigrationReport) -> String {
    migration.end.map_or_else(
        || "-".to_owned(),
        |end| duration(milliseconds(migration.start, end)),
    )
}

fn failovers(report: &Report, text: &mut String) {
    if report.failovers.is_empty() {
        return;
    }
    let mut rows = vec![row([
        "FAILOVER", "LOST", "TO", "DETECTED", "WINDOW", "LIMIT", "MEASURED", "FAILED",
    ])];
    for failover in &report.failovers {
        #[allow(clippy::cast_precision_loss)]
        let measured = failover.recovery_ms.map(|time| duration(time as f64));
        rows.push(vec![
            failover.application.clone(),
            failover.from.clone(),
            failover.to.clone(),
            duration(failover.detected_ms),
            duration(failover.window_ms),
            duration(failover.limit_ms),
            measured.unwrap_or_else(|| "-".to_owned()),
            thousands(failover.failed),
        ]);
    }
    table(&rows, &[3, 4, 5, 6, 7], text);
    text.push_str(
        "DETECTED and WINDOW count from the moment of the loss, MEASURED from the last sign of life.\n\n",
    );
}

fn placements(report: &Report, text: &mut String) {
    if report.placements.is_empty() {
        return;
    }
    let mut rows = vec![row([
        "APPLICATION",
        "SENSITIVITY",
        "CRITICALITY",
        "BEFORE",
        "NOW",
        "LAWFUL",
        "",
    ])];
    for placement in &report.placements {
        let place = |place: &Option<String>| place.clone().unwrap_or_else(|| "nowhere".to_owned());
        rows.push(vec![
            format!("{}/{}", placement.namespace, placement.application),
            placement.sensitivity.clone(),
            placement.criticality.clone(),
            place(&placement.before),
            place(&placement.cluster),
            if placement.lawful { "yes" } else { "NO" }.to_owned(),
            placement.explanation.clone().unwrap_or_default(),
        ]);
    }
    table(&rows, &[], text);
    text.push('\n');
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Writes rows with lined-up columns; `right` lists those that line up to the right.
fn table(rows: &[Vec<String>], right: &[usize], text: &mut String) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column > 0 {
                line.push_str("  ");
            }
            let _ = if right.contains(&column) {
                write!(line, "{cell:>width$}")
            } else {
                write!(line, "{cell:<width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Milliseconds in units that a person reads.
fn duration(milliseconds: f64) -> String {
    let seconds = milliseconds / 1000.0;
    if milliseconds < 1000.0 {
        format!("{milliseconds:.0} ms")
    } else if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round();
        format!("{:.0} min {:02.0} s", (whole / 60.0).floor(), whole % 60.0)
    }
}

/// A number with commas between thousands.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_durations_are_for_people() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(thousands),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [0.4, 999.0, 1500.0, 59_940.0, 59_960.0, 185_000.0].map(duration),
            [
                "0 ms",
                "999 ms",
                "1.5 s",
                "59.9 s",
                "1 min 00 s",
                "3 min 05 s"
            ]
        );
    }

    #[test]
    fn columns_line_up() {
        let mut text = String::new();
        table(
            &[row(["NAME", "COUNT", ""]), row(["é", "12", "x"])],
            &[1],
            &mut text,
        );
        assert_eq!(text, "NAME  COUNT\né        12  x\n");
    }
}
