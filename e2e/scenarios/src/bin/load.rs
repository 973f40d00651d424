//! `load`: sends counted load to an edge by hand.

use std::{
    io::{IsTerminal, Write, stderr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use flambeau_scenarios::{
    load::{ApplicationLoad, LoadConfig, LoadGenerator, LoadSnapshot, StreamLoad},
    report::Report,
};
use jiff::SignedDuration;
use tokio::{
    signal::ctrl_c,
    time::{MissedTickBehavior, interval, sleep},
};

/// Sends counted load to the example applications behind an edge.
///
/// Each request leaves when it is due and is judged by its status, application and cloud. Exit code: 0 no request
/// failed and no stream broke, 2 some did, 1 error.
#[derive(Parser)]
struct Arguments {
    /// Address of the edge.
    #[arg(long, env = "EDGE_URL")]
    edge: String,
    /// How long to send load, such as 30s or 2m; until interrupted when not given.
    #[arg(long)]
    duration: Option<SignedDuration>,
    /// A request without its answer after this long has failed.
    #[arg(long, default_value = "5s")]
    timeout: SignedDuration,
    /// A cloud that may answer; repeat it for each one. Any may when none is given.
    #[arg(long)]
    cloud: Vec<String>,
    /// Event streams to keep open to results.
    #[arg(long, default_value_t = 0)]
    streams: usize,
    /// Domain of the six applications of the demo, which get the demo's load when no other is named.
    #[arg(long, default_value = "games.example")]
    domain: String,
    /// Writes report.json and report.html into this folder.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Load on one application, <application>=<host>:<requests per second>.
    #[arg(value_parser = application)]
    applications: Vec<ApplicationLoad>,
}

fn application(text: &str) -> Result<ApplicationLoad, String> {
    let parts = text
        .split_once('=')
        .and_then(|(name, rest)| Some((name, rest.rsplit_once(':')?)));
    let Some((name, (host, rate))) = parts else {
        return Err("write <application>=<host>:<requests per second>, such as website=www.games.example:50".to_owned());
    };
    let rate = rate
        .parse()
        .map_err(|_| format!("{rate:?} is not a number of requests per second"))?;
    let (name, host) = (name.to_owned(), host.to_owned());
    Ok(ApplicationLoad {
        name,
        host,
        rate,
        paths: vec!["/".to_owned()],
    })
}

impl Arguments {
    fn config(&self) -> Result<LoadConfig> {
        let clouds: Vec<&str> = self.cloud.iter().map(String::as_str).collect();
        let mut config = LoadConfig::games(&self.edge, &self.domain, &clouds, self.streams);
        config.timeout = self.timeout.try_into().context("--timeout is negative")?;
        if !self.applications.is_empty() {
            let results = self
                .applications
                .iter()
                .filter(|application| application.name == "results");
            let stream = |application: &ApplicationLoad| StreamLoad {
                name: application.name.clone(),
                host: application.host.clone(),
                path: "/stream".to_owned(),
                count: self.streams,
            };
            config.streams = results.map(stream).collect();
            config.applications.clone_from(&self.applications);
        }
        Ok(config)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // By itself, clap would end with the code that stands for failed requests here.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(&arguments).await {
        Ok(report) if report.passed() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Report> {
    let duration = match arguments.duration {
        Some(duration) => duration.try_into().context("--duration is negative")?,
        None => Duration::MAX,
    };
    let config = arguments.config()?;
    eprintln!("sends {} requests/s to {}", config.rate(), config.edge);
    let generator = LoadGenerator::start(config)?;
    tokio::select! {
        () = sleep(duration) => {}
        interrupted = ctrl_c() => interrupted.context("cannot wait for an interrupt")?,
        () = progress(&generator) => {}
    }
    let result = generator.stop().await?;
    eprintln!();
    let report = Report::new(
        &format!("Load on {}", arguments.edge),
        result,
        Vec::new(),
        &[],
    );
    print!("{}", report.summary());
    if let Some(folder) = &arguments.report {
        let files = report.write(folder)?;
        println!("{}\n{}", files.json.display(), files.html.display());
    }
    Ok(report)
}

/// One line, rewritten every second on a terminal, written every ten seconds elsewhere.
async fn progress(generator: &LoadGenerator) {
    let terminal = stderr().is_terminal();
    let mut ticks = interval(Duration::from_secs(if terminal { 1 } else { 10 }));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let line = line(&generator.snapshot());
        if terminal {
            eprint!("\r\x1b[2K{line}");
        } else {
            eprintln!("{line}");
        }
        let _ = stderr().flush();
    }
}

fn line(snapshot: &LoadSnapshot) -> String {
    let clouds: Vec<String> = snapshot
        .clouds
        .iter()
        .map(|(cloud, count)| format!("{cloud} {count}/s"))
        .collect();
    let mut line = format!(
        "{:>4} s  {} sent  {} failed  {} in flight  {}",
        snapshot.elapsed.as_secs(),
        snapshot.sent,
        snapshot.failed,
        snapshot.in_flight(),
        clouds.join("  "),
    );
    for streams in &snapshot.streams {
        let open: u32 = streams.open.iter().map(|(_, count)| count).sum();
        line += &format!(
            "  {} streams {open} open, {} broken",
            streams.name,
            streams.broken_ends + streams.refused
        );
    }
    let failures = snapshot
        .applications
        .iter()
        .filter_map(|application| application.last_failure.as_ref());
    if let Some(failure) = failures.max_by_key(|failure| failure.time) {
        line += &format!("  last failure: {}", failure.cause.words());
    }
    line
}
