//! `kubectl flambeau`: what runs where and why, what would happen if, and moves
//! by hand.
//!
//! It reads, creates and patches objects of the hub, as kubectl could, and
//! nothing else: who may do what is decided by the permissions there. `join`
//! and `unjoin` do the same on a member, with credentials for it. What it
//! foretells comes from the operator's own planner.

mod ask;
mod cli;
mod complete;
mod failure;
mod history;
mod hub;
mod join;
mod live;
mod moves;
mod plan;
mod print;
mod status;
mod steer;
mod text;

use clap::Parser;
use cli::{Cli, Command};
use hub::Hub;
use std::process::ExitCode;
use steer::Action;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; 2 would read as a refusal.
            let failed = error.use_stderr();
            return match error.print() {
                Ok(()) if !failed => ExitCode::SUCCESS,
                _ => ExitCode::from(failure::code::ERROR),
            };
        }
    };
    if cli.no_color {
        anstream::ColorChoice::Never.write_global();
    }
    match run(cli) {
        Ok(code) => code,
        Err(error) if closed(&error) => ExitCode::from(failure::code::DONE),
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            failure::exit_code(&error)
        }
    }
}

/// Whether whoever read the output has read enough, as `head` does.
fn closed(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[tokio::main(worker_threads = 2)]
async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let connection = match &cli.command {
        Command::Complete(options) => complete::connection(cli.connection, &options.words),
        _ => cli.connection,
    };
    let hub = Hub::connect(&connection);
    match cli.command {
        Command::Status(options) => status::run(&hub.await?, options).await,
        Command::Plan(options) => plan::run(&hub.await?, options).await,
        Command::Relocate(options) => ask::relocate(&hub.await?, options).await,
        Command::Failover(options) => ask::failover(&hub.await?, options).await,
        Command::Failback(options) => ask::failback(&hub.await?, options).await,
        Command::Evacuate(options) => ask::evacuate(&hub.await?, options).await,
        Command::Pause(options) => steer::run(&hub.await?, Action::Pause, options).await,
        Command::Resume(options) => steer::run(&hub.await?, Action::Resume, options).await,
        Command::Abort(options) => steer::run(&hub.await?, Action::Abort, options).await,
        Command::Cordon(options) => steer::cordon(&hub.await?, true, options).await,
        Command::Uncordon(options) => steer::cordon(&hub.await?, false, options).await,
        Command::Join(options) => join::join(&hub.await?, options).await,
        Command::Unjoin(options) => join::unjoin(&hub.await?, options).await,
        Command::History(options) => history::run(&hub.await?, options).await,
        Command::Completion(options) => complete::script(&options),
        Command::Complete(options) => complete::candidates(hub.await.ok(), &options.words).await,
    }
}
