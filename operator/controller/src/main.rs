//! `flambeau-operator run` is the operator; `flambeau-operator plan` is its
//! planner on files; `flambeau-operator check` says whether the first works.

mod check;
mod run;

use check::Check;
use clap::{Parser, Subcommand};
use flambeau_operator::{crash, offline};
use run::Run;
use std::process::ExitCode;

/// Places applications where the law allows, and moves them without losing a
/// request.
#[derive(Debug, Parser)]
#[command(name = "flambeau-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator against the hub.
    ///
    /// Several replicas may run: one leads, the others stand by, with the
    /// fleet in view and without a write.
    ///
    /// Exit code 0: asked to stop, and leadership was given back; 3: leadership
    /// was lost, start it again; 1: error.
    Run(Box<Run>),
    /// Say what the operator would do with the manifests in a folder, without
    /// a cluster.
    ///
    /// Exit code 0: nothing to do; 2: moves or violations are pending; 1:
    /// error.
    Plan(offline::Options),
    /// Ask the hub for what the operator needs, and wait for a sign of life of
    /// the leader.
    ///
    /// Exit code 0: all is well; 1: something is not, or an error.
    Check(Check),
}

fn main() -> ExitCode {
    crash::keep_discreet();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; 2 would read as "moves pending".
            let failed = error.use_stderr();
            return match error.print() {
                Ok(()) if !failed => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            };
        }
    };
    let result = match cli.command {
        Command::Run(options) => run::run(*options).map(|()| ExitCode::SUCCESS),
        Command::Plan(options) => offline::plan(&options),
        Command::Check(options) => check::check(options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
