//! The report of a story under load: `report.json` for programs, and `report.html`, one page for people that holds the
//! same JSON and draws it.

mod failover;
mod migration;
mod page;
mod streams;
mod summary;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use failover::{FailoverReport, Loss};
use summary::thousands;

use crate::load::{ApplicationResult, GeneratorResult, Latency, LoadResult, StreamsResult};

/// Everything that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the story is called.
    pub title: String,
    /// When the load began; second 0 of all series.
    pub started: Timestamp,
    /// When the load ended.
    pub ended: Timestamp,
    /// Requests sent to all applications.
    pub requests: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of these failed outside of the windows of failovers.
    pub unexplained: u64,
    /// Every reason why the story did not go as it should, one sentence each; empty when it did.
    pub problems: Vec<String>,
    /// All clouds that could answer, in the order in which to list them.
    pub clouds: Vec<String>,
    /// Latency of the requests that did not fail, of all applications.
    pub latency: Latency,
    /// Requests and answers of each application.
    pub applications: Vec<ApplicationResult>,
    /// Long-lived event streams.
    pub streams: Vec<StreamsResult>,
    /// What happened from outside, such as a policy that was applied.
    pub moments: Vec<Moment>,
    /// Every move, in the order of their starts.
    pub migrations: Vec<MigrationReport>,
    /// Each failover, as requests saw it.
    pub failovers: Vec<FailoverReport>,
    /// Where each application runs in the end.
    pub placements: Vec<Placement>,
    /// How the load generator itself did.
    pub generator: GeneratorResult,
}

/// Something that happened from outside at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    pub time: Timestamp,
    /// What, in a few words.
    pub label: String,
}

/// One move of one application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationReport {
    /// Name of the GamesApplication.
    pub application: String,
    /// Its namespace.
    pub namespace: String,
    /// The cluster that it left.
    pub from: String,
    /// The cluster that it went to.
    pub to: String,
    /// Kind of move, such as Relocate.
    #[serde(rename = "type")]
    pub kind: String,
    /// What set it off, such as Policy.
    pub trigger: String,
    /// Why.
    pub reason: String,
    /// When its first step began.
    pub start: Timestamp,
    /// When nothing was left to do; none while it goes on.
    pub end: Option<Timestamp>,
    /// How it ended, such as Completed; none while it goes on.
    pub outcome: Option<String>,
    /// Milliseconds during which no backend had a ready endpoint at the edge, as Flambeau observed.
    pub downtime_ms: i64,
    /// Milliseconds from the last sign of life of a lost source until the target served, as Flambeau observed; none for a
    /// planned move.
    pub recovery_ms: Option<i64>,
    /// Its steps, in their order.
    pub steps: Vec<StepReport>,
}

/// One step of a move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Name of the step, such as Shift.
    pub name: String,
    /// When it began.
    pub start: Timestamp,
    /// When it ended; none while it goes on.
    pub end: Option<Timestamp>,
    /// What its gates said.
    pub verdicts: Vec<VerdictReport>,
}

/// What one gate said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictReport {
    /// Name of the gate.
    pub gate: String,
    /// Whether it let the step pass.
    pub passed: bool,
    /// Stable reason.
    pub reason: String,
    /// The fact behind the reason.
    pub message: Option<String>,
}

/// Where an application runs in the end, and whether it may.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placement {
    /// Name of the GamesApplication.
    pub application: String,
    /// Its namespace.
    pub namespace: String,
    /// Its sensitivity, such as Personal.
    pub sensitivity: String,
    /// Its criticality, such as Critical.
    pub criticality: String,
    /// Where it ran when the story began; none when nowhere.
    pub before: Option<String>,
    /// Where it runs in the end; none when nowhere.
    pub cluster: Option<String>,
    /// Whether the law allows it to run there.
    pub lawful: bool,
    /// Why it may or may not, or why it stayed, in one line.
    pub explanation: Option<String>,
}

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFiles {
    /// `report.json`.
    pub json: PathBuf,
    /// `report.html`.
    pub html: PathBuf,
}

impl Report {
    /// A report of load, of the moves meanwhile and of the losses that set some of them off, to which the caller adds
    /// moments, placements and problems. Failed requests that no failover explains, and streams that were cut, refused or
    /// did not follow their application, are problems already.
    pub fn new(
        title: &str,
        load: LoadResult,
        migrations: Vec<MigrationReport>,
        losses: &[Loss],
    ) -> Self {
        let judged = failover::judge(losses, &load.applications, &migrations);
        let mut problems = judged.problems;
        if judged.unexplained > 0 {
            let sum = format!(
                "{} of {} requests failed{}.",
                thousands(judged.unexplained),
                thousands(load.requests),
                if losses.is_empty() {
                    ""
                } else {
                    " outside of the windows of failovers"
                },
            );
            problems.insert(0, sum);
        }
        for streams in &load.streams {
            problems.extend(streams::judge(streams, &migrations));
        }
        Self {
            title: title.to_owned(),
            started: load.started,
            ended: load.ended,
            requests: load.requests,
            failed: load.failed,
            unexplained: judged.unexplained,
            problems,
            clouds: load.clouds,
            latency: load.latency,
            applications: load.applications,
            streams: load.streams,
            moments: Vec::new(),
            migrations,
            failovers: judged.failovers,
            placements: Vec::new(),
            generator: load.generator,
        }
    }

    /// Whether the story went as it should.
    pub fn passed(&self) -> bool {
        self.problems.is_empty()
    }

    /// The page, whole in one text: it loads nothing from anywhere.
    ///
    /// # Errors
    /// When the report cannot be written as JSON, as with a number that is not finite.
    pub fn html(&self) -> Result<String> {
        page::render(self)
    }

    /// What a person reads first, as text of a terminal's width.
    pub fn summary(&self) -> String {
        summary::render(self)
    }

    /// Writes `report.json` and `report.html` into a folder, which is made when it is not there.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<ReportFiles> {
        let files = ReportFiles {
            json: folder.join("report.json"),
            html: folder.join("report.html"),
        };
        let json = serde_json::to_string_pretty(self).context("cannot write the report as JSON")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for (file, text) in [(&files.json, json), (&files.html, self.html()?)] {
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(files)
    }
}
