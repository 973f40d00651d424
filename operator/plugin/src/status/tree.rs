//! One application, and one move as a tree of its steps.

use super::view::{Verdict, verdict};
use crate::{
    moves,
    text::{Line, Tone, clock, human, since},
};
use flambeau_crds::{
    Migration,
    migration::{MigrationOutcome, MigrationStep, StepRecord},
};
use flambeau_operator::offline::objects::Objects;
use flambeau_planner::model::ApplicationKey;
use jiff::{SignedDuration, Timestamp};

/// The steps of a move that goes well, in order.
const STEPS: [MigrationStep; 8] = [
    MigrationStep::Preflight,
    MigrationStep::Prepare,
    MigrationStep::Ready,
    MigrationStep::Sync,
    MigrationStep::Shift,
    MigrationStep::Soak,
    MigrationStep::Drain,
    MigrationStep::Retire,
];

/// Everything about one application: where and why, its copies, and the move
/// under way, or the last one.
pub fn application(objects: &Objects, key: &ApplicationKey, now: Timestamp) -> Vec<Line> {
    let Some(object) = objects.applications.get(key) else {
        return vec![Line::new(
            Tone::Bad,
            format!("no GamesApplication {key} exists any more"),
        )];
    };
    let status = object.status.clone().unwrap_or_default();
    let mut lines = vec![
        Line::new(Tone::Strong, key.name.to_string())
            .with(Tone::Faint, format!("  namespace {}", key.namespace)),
    ];
    lines.push(fact("Where", whereabouts(objects, key)));
    lines.push(fact("Lawful", told(&verdict(&status.conditions, "Lawful"))));
    lines.push(fact("Serving", told(&verdict(&status.conditions, "Ready"))));
    if let Some(left) = &status.failed_over_from {
        let remedy = format!("{left}: kubectl flambeau failback {}", key.name);
        lines.push(fact("Left", remedy.into()));
    }
    let stalled = verdict(&status.conditions, "Stalled");
    if stalled.status == "True" {
        let line = Line::new(Tone::Bad, format!("{}: ", stalled.reason))
            .with(Tone::Plain, stalled.message);
        lines.push(fact("Stuck", line));
    } else if let Some(next) = &status.next {
        lines.push(fact("Next", next.as_str().into()));
    }
    let copies = status.placements.iter();
    let copies = copies.filter(|copy| Some(copy.cluster.as_str()) != moves::active(object));
    for copy in copies {
        let text = format!(
            "{:?} on {} for {}, epoch {}",
            copy.role,
            copy.cluster,
            since(copy.since.0, now),
            copy.epoch
        );
        lines.push(fact("Copy", text.into()));
    }
    let all = moves::all(objects, key);
    if let Some(shown) = moves::open(objects, key).or_else(|| all.last().copied()) {
        lines.push(Line::empty());
        lines.extend(migration(shown, now));
    }
    if all.is_empty() {
        let refused = status
            .candidates
            .iter()
            .filter(|candidate| !candidate.eligible);
        for candidate in refused.filter(|_| stalled.status == "True") {
            let message = candidate.message.as_deref().unwrap_or_default();
            let text = format!("{}: {}: {message}", candidate.cluster, candidate.reason);
            lines.push(fact("Refused", text.into()));
        }
    }
    lines
}

fn fact(name: &str, value: Line) -> Line {
    Line::new(Tone::Faint, format!("  {name:<8} ")).then(value)
}

fn whereabouts(objects: &Objects, key: &ApplicationKey) -> Line {
    let object = objects.applications.get(key);
    let status = object.and_then(|object| object.status.clone());
    let Some(active) = object.and_then(moves::active) else {
        return Line::new(Tone::Busy, "nowhere yet");
    };
    let epoch = status.map_or(0, |status| status.epoch);
    let health = objects
        .clusters
        .get(active)
        .and_then(|cluster| cluster.status.as_ref()?.health.clone())
        .filter(|health| health != "Healthy");
    let line = Line::new(Tone::Plain, format!("{active}, epoch {epoch}"));
    match health {
        Some(health) => line.with(Tone::Bad, format!(", the cluster is {health}")),
        None => line,
    }
}

fn told(verdict: &Verdict) -> Line {
    let (tone, mark) = match &*verdict.status {
        "True" => (Tone::Good, "✔"),
        "False" => (Tone::Bad, "✖"),
        "Unknown" => (Tone::Busy, "?"),
        _ => return Line::new(Tone::Busy, "? nothing is reported yet"),
    };
    let line = Line::new(tone, format!("{mark} {}", verdict.reason));
    if verdict.message.is_empty() {
        line
    } else {
        line.with(Tone::Plain, format!(": {}", verdict.message))
    }
}

/// One move: its head, and a branch for each step with its times.
pub fn migration(object: &Migration, now: Timestamp) -> Vec<Line> {
    let spec = &object.spec;
    let status = object.status.clone().unwrap_or_default();
    let mut lines = vec![head(object, now)];
    let text = format!("{} asked: {}", moves::who(object), spec.reason);
    lines.push(Line::new(Tone::Faint, "│ ").with(Tone::Plain, text));
    if spec.pause && !moves::over(object) {
        lines.push(Line::new(Tone::Faint, "│ ").with(Tone::Busy, "paused by a person"));
    }
    let taken: Vec<&StepRecord> = status
        .steps
        .iter()
        .filter(|record| record.name != MigrationStep::Done)
        .collect();
    let last = taken.last().map(|record| record.name);
    let ahead: Vec<MigrationStep> = STEPS
        .into_iter()
        .filter(|step| !moves::over(object) && last.is_none_or(|last| *step > last))
        .collect();
    let count = taken.len() + ahead.len();
    for (index, record) in taken.iter().enumerate() {
        let twig = if index + 1 == count {
            "└─"
        } else {
            "├─"
        };
        lines.push(Line::new(Tone::Faint, twig).then(step(object, record, now)));
        if record.end_time.is_none() {
            let stem = if index + 1 == count { "   " } else { "│  " };
            let held = record.verdicts.iter().filter(|verdict| !verdict.passed);
            lines.extend(held.map(|verdict| {
                let message = verdict.message.as_deref().unwrap_or_default();
                Line::new(Tone::Faint, format!("{stem}  "))
                    .with(Tone::Busy, format!("{}: ", verdict.gate))
                    .with(Tone::Plain, format!("{}: {message}", verdict.reason))
            }));
        }
    }
    for (index, step) in ahead.iter().enumerate() {
        let twig = if index + 1 == ahead.len() {
            "└─"
        } else {
            "├─"
        };
        lines.push(Line::new(Tone::Faint, format!("{twig}  {step:?}")));
    }
    if let Some(reason) = &status.abort_reason {
        lines.push(Line::new(Tone::Bad, "  walked back: ").with(Tone::Plain, reason.as_str()));
    }
    lines.extend(measured(object));
    lines
}

fn head(object: &Migration, now: Timestamp) -> Line {
    let spec = &object.spec;
    let status = object.status.clone().unwrap_or_default();
    let (tone, mark) = match status.outcome {
        Some(MigrationOutcome::Completed) => (Tone::Good, "✔"),
        Some(MigrationOutcome::Aborted) => (Tone::Bad, "✖"),
        None => (Tone::Busy, "⟳"),
    };
    let start = status.start_time.map(|time| time.0);
    let end = status.completion_time.map_or(now, |time| time.0);
    let took = start.map(|start| format!("  {}", human(end.duration_since(start))));
    let outcome = status.outcome.map(|outcome| format!("  {outcome:?}"));
    Line::new(tone, mark)
        .with(Tone::Strong, format!(" {}", moves::name(object)))
        .with(
            Tone::Plain,
            format!("  {:?} {} → {}", spec.type_, spec.from, spec.to),
        )
        .with(tone, outcome.unwrap_or_default())
        .with(Tone::Faint, took.unwrap_or_default())
}

fn step(object: &Migration, record: &StepRecord, now: Timestamp) -> Line {
    let status = object.status.clone().unwrap_or_default();
    let over = record.end_time.is_some() || moves::over(object);
    let (tone, mark) = match (over, record.name) {
        (_, MigrationStep::Abort) => (Tone::Bad, "↩"),
        (true, _) => (Tone::Good, "✔"),
        (false, _) => (Tone::Busy, "⟳"),
    };
    let end = record.end_time.as_ref().map_or(now, |time| time.0);
    let took = human(end.duration_since(record.start_time.0));
    let line = Line::new(tone, mark)
        .with(
            Tone::Plain,
            format!(" {:<10} ", format!("{:?}", record.name)),
        )
        .with(Tone::Faint, format!("{}  ", clock(record.start_time.0)))
        .with(Tone::Plain, format!("{took:>10}"));
    let weighted = record.name >= MigrationStep::Shift && !over;
    if weighted {
        line.with(Tone::Plain, "  ")
            .then(weights(object, status.target_percent))
    } else {
        line
    }
}

/// Where requests go, as a bar and in numbers.
fn weights(object: &Migration, target: i32) -> Line {
    const BAR: usize = 20;
    let target = target.clamp(0, 100);
    let filled = usize::try_from(target).unwrap_or(0) * BAR / 100;
    Line::new(Tone::Faint, "─".repeat(BAR - filled))
        .with(Tone::Good, "━".repeat(filled))
        .with(
            Tone::Plain,
            format!(
                "  {} {} %, {} {target} %",
                object.spec.from,
                100 - target,
                object.spec.to
            ),
        )
}

fn measured(object: &Migration) -> Option<Line> {
    let status = object.status.as_ref()?;
    let downtime = (status.downtime_milliseconds > 0 || moves::over(object)).then(|| {
        let downtime = human(SignedDuration::from_millis(status.downtime_milliseconds));
        format!("no ready endpoint for {downtime}")
    });
    let recovery = status.recovery_milliseconds.map(|milliseconds| {
        let recovery = human(SignedDuration::from_millis(milliseconds));
        format!("served again {recovery} after the last sign of life")
    });
    let said: Vec<String> = recovery.into_iter().chain(downtime).collect();
    (!said.is_empty())
        .then(|| Line::new(Tone::Faint, "  measured: ").with(Tone::Plain, said.join(", ")))
}
