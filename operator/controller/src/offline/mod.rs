//! The planner on files: what would the operator do with these manifests?
//!
//! What is known of clusters and applications is read from their status, as
//! `kubectl get -o yaml` prints it. A cluster without status is taken as it is
//! declared: reachable, and serving every kind; an application without status
//! counts as not placed yet.

pub mod objects;
pub mod print;
pub mod read;

use anyhow::Context;
use clap::{Args, ValueEnum};
use flambeau_planner::{
    Plan,
    fleet::Decision,
    model::{Reach, Snapshot},
    plan as decide,
};
use jiff::Timestamp;
use objects::Objects;
use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Exit code when moves or violations are pending.
const PENDING: u8 = 2;

/// What to plan from, and how to print it.
#[derive(Debug, Args)]
pub struct Options {
    /// Files or folders with manifests (YAML or JSON); folders are read with
    /// all folders below.
    #[arg(short, long = "filename", required = true)]
    filename: Vec<PathBuf>,
    /// Plan for this moment instead of now (RFC 3339): a policy of tomorrow,
    /// an expired certificate.
    #[arg(long)]
    at: Option<Timestamp>,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    output: Output,
    /// How many moves may be under way at once.
    #[arg(long, default_value_t = 2)]
    concurrent_moves: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// A table for people.
    Table,
    /// One JSON object for machines.
    Json,
}

/// Plans, prints, and says by the exit code whether something is pending.
///
/// # Errors
/// When a manifest cannot be read, or is not what its kind asks for.
pub fn plan(options: &Options) -> anyhow::Result<ExitCode> {
    let now = options.at.unwrap_or_else(Timestamp::now);
    let objects = Objects::from_files(&options.filename)?;
    let mut snapshot = read::snapshot(objects, &Reach::Reachable);
    snapshot.settings.concurrent_moves = usize::from(options.concurrent_moves.max(1));
    let plan = decide(&snapshot, now);
    let text = match options.output {
        Output::Table => print::table(&snapshot, &plan, now),
        Output::Json => print::json(&snapshot, &plan, now).context("the plan cannot be printed")?,
    };
    // Whoever reads may have seen enough: `flambeau-operator plan | head`.
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            return Err(error).context("the plan cannot be printed");
        }
        _ => {}
    }
    Ok(if pending(&snapshot, &plan) {
        ExitCode::from(PENDING)
    } else {
        ExitCode::SUCCESS
    })
}

/// Whether anything moves, waits, is stuck, is refused or breaks a policy.
pub fn pending(snapshot: &Snapshot, plan: &Plan) -> bool {
    let moving = snapshot
        .applications
        .iter()
        .any(|application| !application.migrations.is_empty());
    let undecided = plan
        .applications
        .iter()
        .any(|application| application.decision != Decision::Stay);
    let invalid = snapshot
        .applications
        .iter()
        .any(|application| application.spec.invalid.is_some());
    let violated = plan
        .policies
        .iter()
        .any(|policy| policy.in_force && !policy.violations.is_empty());
    let broken = snapshot
        .policies
        .values()
        .any(|policy| policy.invalid.is_some());
    moving || undecided || invalid || violated || broken
}
