//! `games`: plays one of the example applications, or holds a pod's namespaces open.

use std::process::ExitCode;

use anyhow::{Context, Result};
use flambeau_games::{
    Settings,
    server::{self, Ending},
};
use nix::sys::signal::{SigSet, Signal};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

const USAGE: &str = "\
The example applications of the Games.

Usage: games serve    plays the application that the environment names, until SIGTERM
       games pause    sleeps until SIGTERM, to hold the namespaces of a pod

Environment of `serve`:
  APPLICATION           accreditation, access-control, volunteers, ticketing, results or website
  LISTEN                address to serve on (0.0.0.0:8080)
  NODE_NAME             <cloud>-<number>, from the downward API (local-0)
  POD_NAME              from the downward API
  TITLE                 what the application calls itself
  SECRET_FILE           file that must be there and not be empty before it is ready
  DRAIN_SECONDS         how long to serve on after SIGTERM (5)
  FAULT_NEVER_READY     true: fails /readyz for ever
  FAULT_ERROR_FRACTION  part of the requests to answer with status 500, 0 to 1
  FAULT_CLOUDS          comma-separated clouds to which the faults are limited

Exit code: 0 stopped in peace, 1 error, 2 wrong usage.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["serve"] => serve(),
        ["pause"] => pause(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("games: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve() -> Result<()> {
    let settings = Settings::read(|name| std::env::var(name).ok())?;
    // Before listening: who can reach the process can also stop it.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let listener = TcpListener::bind(settings.listen).await.with_context(|| {
        format!(
            "cannot listen on {}; is it taken? Set LISTEN to another address",
            settings.listen
        )
    })?;
    let address = listener
        .local_addr()
        .context("cannot read the address listened on")?;
    eprintln!(
        "{} in {} listens on {address}",
        settings.application,
        settings.cloud()
    );
    let drain = settings.drain;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("told to stop; serves on for {drain:?}");
    };
    match server::serve(settings, listener, stop).await {
        Ending::Clean => eprintln!("stopped"),
        Ending::Cut => eprintln!("stopped; cut requests that did not end"),
    }
    Ok(())
}

/// As the first process of a pod it must ask for the signal: the kernel does not end a first process by default.
fn pause() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("cannot hold signals back")?;
    signals.wait().context("cannot wait for a signal")?;
    Ok(())
}
