//! Every move of an application, with who, why, when, how long, and what was
//! measured.

use crate::{
    cli::{self, Output},
    hub::Hub,
    moves, print, status,
    text::{Line, Table, Tone, date, human},
};
use flambeau_crds::{
    Migration,
    migration::{MigrationOutcome, MigrationStep, MigrationTrigger, MigrationType},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::process::ExitCode;

/// One move.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Name of the Migration.
    pub name: String,
    /// Kind of the move.
    #[serde(rename = "type")]
    pub type_: MigrationType,
    /// Where from.
    pub from: String,
    /// Where to.
    pub to: String,
    /// Who asked.
    pub who: String,
    /// What set it off.
    pub trigger: MigrationTrigger,
    /// Why.
    pub reason: String,
    /// It crossed a freeze.
    pub ignored_freeze: bool,
    /// When it began.
    pub start_time: Option<Timestamp>,
    /// How long it took, or takes until now.
    pub took_milliseconds: Option<i64>,
    /// How long no weighted backend had a ready endpoint.
    pub downtime_milliseconds: i64,
    /// From the last sign of life of a lost source until the target served.
    pub recovery_milliseconds: Option<i64>,
    /// Objective for the recovery.
    pub objective_milliseconds: Option<i64>,
    /// The step under way.
    pub step: Option<MigrationStep>,
    /// How it ended.
    pub outcome: Option<MigrationOutcome>,
    /// Why it was walked back.
    pub abort_reason: Option<String>,
}

/// `history`.
///
/// # Errors
/// When the hub cannot be asked, or the application does not exist.
pub async fn run(hub: &Hub, options: cli::History) -> anyhow::Result<ExitCode> {
    let objects = hub.scope().await?;
    let key = hub.key(&options.application);
    let now = Timestamp::now();
    let objective = objects
        .applications
        .get(&key)
        .and_then(|object| object.spec.objectives.as_ref()?.recovery_time_seconds)
        .map(|seconds| i64::from(seconds) * 1000);
    let entries: Vec<Entry> = moves::all(&objects, &key)
        .into_iter()
        .map(|object| entry(object, objective, now))
        .collect();
    // What is deleted may still have a past.
    if entries.is_empty() {
        status::find(hub, &objects, &key).await?;
    }
    match options.output {
        Output::Json => print::json(&entries)?,
        Output::Yaml => print::yaml(&entries)?,
        output => crate::text::print(&lines(&entries, output == Output::Wide))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn entry(object: &Migration, objective: Option<i64>, now: Timestamp) -> Entry {
    let status = object.status.clone().unwrap_or_default();
    let spec = &object.spec;
    let start = status.start_time.map(|time| time.0);
    let end = status.completion_time.map_or(now, |time| time.0);
    let took = start.map(|start| {
        let took = end.duration_since(start).as_millis();
        i64::try_from(took).unwrap_or(i64::MAX)
    });
    Entry {
        name: moves::name(object),
        type_: spec.type_,
        from: spec.from.clone(),
        to: spec.to.clone(),
        who: moves::who(object),
        trigger: spec.trigger,
        reason: spec.reason.clone(),
        ignored_freeze: spec.ignore_freeze,
        start_time: start,
        took_milliseconds: took,
        downtime_milliseconds: status.downtime_milliseconds,
        recovery_milliseconds: status.recovery_milliseconds,
        objective_milliseconds: status.recovery_milliseconds.and(objective),
        step: status.step,
        outcome: status.outcome,
        abort_reason: status.abort_reason,
    }
}

fn lines(entries: &[Entry], wide: bool) -> Vec<Line> {
    if entries.is_empty() {
        return vec!["it never moved".into()];
    }
    let mut heading = vec![
        "  MOVE",
        "TYPE",
        "FROM → TO",
        "WHO",
        "WHEN",
        "TOOK",
        "DOWN",
        "RECOVERY",
    ];
    if wide {
        heading.push("TRIGGER");
    }
    heading.extend(["OUTCOME", "WHY"]);
    let mut table = Table::new(&heading);
    for entry in entries {
        let mut row = vec![
            mark(entry).with(Tone::Plain, format!(" {}", entry.name)),
            format!("{:?}", entry.type_).into(),
            format!("{} → {}", entry.from, entry.to).into(),
            entry.who.as_str().into(),
            entry
                .start_time
                .map_or("not begun".into(), |time| date(time).into()),
            entry
                .took_milliseconds
                .map_or(dash(), |took| milliseconds(took).into()),
            milliseconds(entry.downtime_milliseconds).into(),
            recovery(entry),
        ];
        if wide {
            row.push(format!("{:?}", entry.trigger).into());
        }
        row.extend([outcome(entry), why(entry)]);
        table.row(row);
    }
    table.lines()
}

fn dash() -> Line {
    Line::new(Tone::Faint, "-")
}

fn milliseconds(value: i64) -> String {
    match value {
        0 => "0 s".to_owned(),
        value => human(SignedDuration::from_millis(value)),
    }
}

fn mark(entry: &Entry) -> Line {
    match entry.outcome {
        Some(MigrationOutcome::Completed) => Line::new(Tone::Good, "✔"),
        Some(MigrationOutcome::Aborted) => Line::new(Tone::Bad, "✖"),
        None => Line::new(Tone::Busy, "⟳"),
    }
}

fn recovery(entry: &Entry) -> Line {
    let Some(recovery) = entry.recovery_milliseconds else {
        return dash();
    };
    let shown = milliseconds(recovery);
    match entry.objective_milliseconds {
        None => shown.into(),
        Some(objective) if recovery <= objective => Line::new(
            Tone::Good,
            format!("{shown} of {}", milliseconds(objective)),
        ),
        Some(objective) => Line::new(
            Tone::Bad,
            format!("{shown}, over {}", milliseconds(objective)),
        ),
    }
}

fn outcome(entry: &Entry) -> Line {
    match (entry.outcome, entry.step) {
        (Some(MigrationOutcome::Completed), _) => Line::new(Tone::Good, "Completed"),
        (Some(MigrationOutcome::Aborted), _) => Line::new(Tone::Bad, "Aborted"),
        (None, Some(step)) => Line::new(Tone::Busy, format!("in {step:?}")),
        (None, None) => Line::new(Tone::Busy, "not begun"),
    }
}

fn why(entry: &Entry) -> Line {
    let mut line = Line::from(entry.reason.as_str());
    if entry.ignored_freeze {
        line = line.with(Tone::Busy, " (crossed a freeze)");
    }
    match &entry.abort_reason {
        Some(reason) => line.with(Tone::Bad, format!(" (walked back: {reason})")),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::plain;

    fn entry() -> Entry {
        Entry {
            name: "badges-1".to_owned(),
            type_: MigrationType::Failover,
            from: "atos".to_owned(),
            to: "ovh".to_owned(),
            who: "Flambeau".to_owned(),
            trigger: MigrationTrigger::Loss,
            reason: "ClusterLost: no answer".to_owned(),
            ignored_freeze: false,
            start_time: Some("2026-11-22T10:02:11Z".parse().unwrap()),
            took_milliseconds: Some(12_400),
            downtime_milliseconds: 9_200,
            recovery_milliseconds: Some(9_200),
            objective_milliseconds: Some(15_000),
            step: Some(MigrationStep::Done),
            outcome: Some(MigrationOutcome::Completed),
            abort_reason: None,
        }
    }

    #[test]
    fn recovery_stands_beside_its_objective() {
        let late = Entry {
            name: "badges-relocate-x7k2p".to_owned(),
            who: "zoë".to_owned(),
            recovery_milliseconds: Some(16_000),
            outcome: Some(MigrationOutcome::Aborted),
            abort_reason: Some("ReadyTimeout: too slow".to_owned()),
            ..entry()
        };
        let shown = plain(&lines(&[entry(), late], false));
        let expected = [
            "  MOVE                    TYPE       FROM → TO    WHO        WHEN                   TOOK   DOWN    RECOVERY          OUTCOME     WHY",
            "✔ badges-1                Failover   atos → ovh   Flambeau   2026-11-22 10:02:11Z   12 s   9.2 s   9.2 s of 15 s     Completed   ClusterLost: no answer",
            "✖ badges-relocate-x7k2p   Failover   atos → ovh   zoë        2026-11-22 10:02:11Z   12 s   9.2 s   16 s, over 15 s   Aborted     ClusterLost: no answer (walked back: ReadyTimeout: too slow)",
            "",
        ];
        assert_eq!(shown, expected.join("\n"));
    }
}
