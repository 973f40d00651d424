//! `demo`: the story on four real clusters, under counted load.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, anyhow};
use clap::Parser;
use flambeau_scenarios::demo::{Story, Told, block_on};
use flambeau_testbed::{paths, progress::Progress, testbed::Testbed};
use tokio::signal::ctrl_c;

/// Six applications serve, a policy is signed, those that it concerns move to lawful clouds, and no request fails.
///
/// A testbed that runs is replaced by a fresh one. Exit code: 0 everything went as it should, 2 something did not (the
/// summary says what), 1 error.
#[derive(Parser)]
struct Arguments {
    /// Leave the clusters up in the end; so does KEEP=1.
    #[arg(long)]
    keep: bool,
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // By itself, clap would end with the code that stands for a story gone wrong here.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let keep = arguments.keep
        || std::env::var("KEEP").is_ok_and(|keep| !["", "0"].contains(&keep.as_str()));
    thread::spawn(watch_interrupts);
    let told = Story::new(&INTERRUPTED).tell(Progress::start());
    let interrupted = INTERRUPTED.load(Ordering::Relaxed);
    let code = finish(told);
    if keep && !interrupted {
        let folder = paths::testbed();
        eprintln!(
            "The clusters stay up: `source {}/env`; `make down` ends them.",
            folder.display()
        );
        return code;
    }
    match Testbed::down(Progress::start()) {
        Ok(()) => code,
        Err(error) => {
            eprintln!("demo: {error:#}; run `make down`");
            ExitCode::FAILURE
        }
    }
}

/// Prints what came of the story.
fn finish(told: Result<Told>) -> ExitCode {
    match told {
        Ok(told) => {
            println!("\n{}", told.report.summary());
            println!(
                "{}\n{}",
                told.files.html.display(),
                told.files.json.display()
            );
            if told.report.passed() {
                return ExitCode::SUCCESS;
            }
            logs();
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("demo: {error:#}");
            logs();
            ExitCode::FAILURE
        }
    }
}

fn logs() {
    let folder = paths::testbed();
    let folder = folder.display();
    eprintln!("Logs: {folder}/flambeau-operator.log, {folder}/hub/envoy.log, {folder}/<cluster>/");
}

/// The first interrupt ends the story and takes everything down; a second one ends this program at once.
fn watch_interrupts() {
    let once = || block_on(ctrl_c()).and_then(|result| result.map_err(|error| anyhow!(error)));
    if once().is_ok() {
        INTERRUPTED.store(true, Ordering::Relaxed);
        eprintln!(
            "\nInterrupted: everything is taken down; a second interrupt leaves it to `make down`."
        );
    }
    if once().is_ok() {
        std::process::exit(130);
    }
}
