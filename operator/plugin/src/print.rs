//! Output for machines.

use anyhow::Context;
use serde::Serialize;
use std::io::Write;

/// Prints a value as JSON.
///
/// # Errors
/// When standard output is closed.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot be printed as JSON")?;
    raw(&(text + "\n"))
}

/// Prints a value as YAML.
///
/// # Errors
/// When standard output is closed.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<()> {
    raw(&serde_yaml::to_string(value).context("cannot be printed as YAML")?)
}

/// Prints text as it is.
///
/// # Errors
/// When standard output is closed.
pub fn raw(text: &str) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
