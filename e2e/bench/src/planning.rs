//! Planning alone: no cluster, no operator. The planner has its own example for that, which is run here.

use std::process::Command;

use anyhow::{Context, Result, bail};
use flambeau_testbed::paths;
use serde_json::Value;

use crate::report::{Goal, Report};

/// Runs the planner's example `throughput`, which has to be built, and reads what it prints.
pub fn measure(report: &mut Report) -> Result<()> {
    let program = paths::repository().join("target/release/examples/throughput");
    let shown = program.display();
    let output = Command::new(&program)
        .arg("--json")
        .output()
        .with_context(|| format!("run {shown}; build it with `cargo build --release --package flambeau-planner --example throughput`"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let answer: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("read what {shown} prints"))?;
    let (clusters, applications) = (&answer["clusters"], &answer["applications"]);
    for case in ["placing", "moving", "steady"] {
        let rate = answer[case]["applicationsPerSecond"]
            .as_f64()
            .with_context(|| format!("{shown} says nothing about {case}"))?;
        report.add(
            &format!("planning, {clusters} clusters, {applications} applications, {case}"),
            rate,
            None,
            "a second",
            Goal::AtLeast(50_000.0),
        );
    }
    report.detail("planning", answer);
    Ok(())
}
