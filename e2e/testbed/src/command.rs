//! Running a program of the system to its end.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a program and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the message holds the command and what it said.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(&mut command, None)
}

/// As [`run`], with text for the program's standard input.
///
/// # Errors
/// As [`run`].
pub fn run_with_input<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    input: &str,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    finish(&mut command, Some(input))
}

/// Runs a prepared command and returns its standard output.
///
/// # Errors
/// As [`run`].
pub fn finish(command: &mut Command, input: Option<&str>) -> Result<String> {
    let shown = format!("{command:?}").replace('"', "");
    let output = output(command, input).with_context(|| format!("run {shown}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{shown}: {}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn output(command: &mut Command, input: Option<&str>) -> std::io::Result<Output> {
    let Some(input) = input else {
        return command.stdin(Stdio::null()).output();
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    child.wait_with_output()
}
