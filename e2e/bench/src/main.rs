//! `bench` measures the operator against real API servers, and says how far each figure is from its floor and goal.
//!
//! `bench [planning] [idle] [500] [1000] [failover]` measures these parts, without arguments all. `BENCH_QUICK=1` makes a short run
//! of `planning`, `idle` and `many` that shows only that everything works. Exit code: 0 every goal was met, or the run
//! was short; 2 some were missed; 1 error.

mod api;
mod failover;
mod fleet;
mod idle;
mod many;
mod objects;
mod operator;
mod planning;
mod report;
mod rest;
mod writes;

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use flambeau_testbed::paths;
use jiff::Timestamp;
use many::Goals;
use report::{Goal, Report};

/// Parts that can be asked for one by one, as arguments.
const PARTS: [&str; 6] = ["planning", "idle", "many", "500", "1000", "failover"];

/// When the run began, for progress.
static BEGUN: OnceLock<Instant> = OnceLock::new();

/// Says how far the run is.
#[macro_export]
macro_rules! progress {
    ($($words:tt)*) => {
        eprintln!("{:>5.0} s  {}", $crate::elapsed(), format_args!($($words)*))
    };
}

fn elapsed() -> f64 {
    BEGUN.get_or_init(Instant::now).elapsed().as_secs_f64()
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match run().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<usize> {
    // Fails only when somebody chose a provider before, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let quick = std::env::var_os("BENCH_QUICK").is_some_and(|value| value != "0");
    let folder = paths::repository().join("target/bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut report = Report::default();
    about(&mut report, quick);
    let parts: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("{unknown} is no part of the benchmark: name some of {PARTS:?}, or none for all");
    }
    let asked = |part: &str| parts.is_empty() || parts.iter().any(|asked| asked == part);
    if asked("planning") {
        progress!("planning without a cluster");
        planning::measure(&mut report)?;
    }
    if asked("idle") {
        idle::measure(&mut report, if quick { 20 } else { 100 }).await?;
    }
    let free = Goals {
        seconds: Goal::None,
        cpu_seconds: Goal::None,
        mib: Goal::None,
    };
    if quick && asked("many") {
        many::measure(&mut report, 100, &free, true).await?;
    }
    if !quick && asked("500") {
        let goals = Goals {
            seconds: Goal::AtMost(10.0),
            cpu_seconds: Goal::AtMost(5.0),
            mib: Goal::AtMost(40.0),
        };
        many::measure(&mut report, 500, &goals, false).await?;
    }
    if !quick && asked("1000") {
        let goals = Goals {
            mib: Goal::AtMost(64.0),
            ..free
        };
        many::measure(&mut report, 1000, &goals, true).await?;
    }
    if !quick && asked("failover") {
        failover::measure(&mut report, 100, Goal::AtMost(15.0)).await?;
    }
    report
        .run
        .insert("load_average_after".to_owned(), load_average().into());
    let file = folder.join("report.json");
    report.write(&file)?;
    progress!("written to {}", file.display());
    println!("\n{}", report.table());
    let missed = report.missed();
    match missed {
        0 => println!("Every goal is met."),
        missed => println!(
            "{missed} goals are missed; the load average went from {} to {}.",
            report.run["load_average_before"], report.run["load_average_after"]
        ),
    }
    // A short run shows only that everything works: its figures mean little.
    Ok(if quick { 0 } else { missed })
}

fn about(report: &mut Report, quick: bool) {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    report
        .run
        .insert("at".to_owned(), Timestamp::now().to_string().into());
    report.run.insert("cores".to_owned(), cores.into());
    report.run.insert("quick".to_owned(), quick.into());
    report
        .run
        .insert("load_average_before".to_owned(), load_average().into());
}

/// Processes that ran or waited to run during the last minute, on average.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0)
}
