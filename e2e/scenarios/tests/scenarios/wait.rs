//! Waiting for conditions, and reading what the operator tells.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use flambeau_testbed::command;

use crate::world::World;

/// What is never waited for longer than this.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Waits until `obstacle` sees none any more.
pub fn until(what: &str, obstacle: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    until_within(what, PATIENCE, obstacle)
}

/// The same, with another patience.
pub fn until_within(
    what: &str,
    patience: Duration,
    mut obstacle: impl FnMut() -> Result<Option<String>>,
) -> Result<()> {
    let started = Instant::now();
    while let Some(seen) = obstacle()? {
        if started.elapsed() > patience {
            bail!("{what}: not within {} s: {seen}", patience.as_secs_f64());
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What the operator exports now.
pub fn metrics(world: &World) -> Result<String> {
    let url = format!("{}/metrics", world.testbed.operator_url());
    command::run("curl", &["--silent", "--fail", "--max-time", "5", &url])
}

/// Waits until the operator exports exactly this line.
pub fn metric(world: &World, line: &str) -> Result<()> {
    until(&format!("the metric {line}"), || {
        let text = match metrics(world) {
            Ok(text) => text,
            Err(error) => return Ok(Some(format!("{error:#}"))),
        };
        Ok((!text.lines().any(|found| found == line)).then(|| "it is not there".to_owned()))
    })
}
