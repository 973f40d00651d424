//! What people see while the story goes on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use flambeau_crds::{Migration, migration::MigrationStep};
use jiff::Timestamp;

use crate::load::LoadSnapshot;

/// Prints one line per event to standard error, each with the time since the start.
pub struct Narrator {
    started: Instant,
    moves: BTreeMap<String, Told>,
    load_told: Instant,
}

/// What was told already about one move.
#[derive(Default)]
struct Told {
    steps: usize,
    percent: i32,
}

/// The load is told this often, while nothing else happens as well.
const LOAD_EVERY: Duration = Duration::from_secs(5);

impl Narrator {
    /// Counts time from now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            moves: BTreeMap::new(),
            load_told: Instant::now(),
        }
    }

    /// Says that something happened.
    pub fn say(&self, whose: &str, what: &str) {
        eprintln!(
            "{:5.1} s  {whose:<14} {what}",
            self.started.elapsed().as_secs_f64()
        );
    }

    /// Opens a part of the story.
    pub fn chapter(&self, title: &str) {
        eprintln!("\n{title}");
    }

    /// Says what is new about moves: steps that began, and stages of traffic.
    pub fn moves(&mut self, migrations: &[Migration]) {
        for migration in migrations {
            let (Some(name), Some(status)) = (&migration.metadata.name, &migration.status) else {
                continue;
            };
            let spec = &migration.spec;
            let told = self.moves.remove(name).unwrap_or_default();
            if told.steps == 0 && !status.steps.is_empty() {
                self.say(
                    &spec.application,
                    &format!("leaves {} for {}: {}", spec.from, spec.to, spec.reason),
                );
            }
            for step in status.steps.iter().skip(told.steps) {
                let what = match (step.name, status.start_time.as_ref()) {
                    (MigrationStep::Done, Some(began)) => format!(
                        "{:<9} {} after {:.1} s",
                        "Done",
                        status
                            .outcome
                            .map_or_else(String::new, |outcome| format!("{outcome:?}")),
                        seconds(began.0, step.start_time.0)
                    ),
                    (MigrationStep::Abort, _) => format!(
                        "{:<9} back to {}: {}",
                        "Abort",
                        spec.from,
                        status.abort_reason.as_deref().unwrap_or("no reason given")
                    ),
                    (name, _) => format!("{:<9} {}", format!("{name:?}"), meaning(name, spec)),
                };
                self.say(&spec.application, &what);
            }
            let percent = status.target_percent;
            if percent != told.percent {
                self.say(
                    &spec.application,
                    &format!("{:<9} {percent} % of the requests go to {}", "", spec.to),
                );
            }
            let told = Told {
                steps: status.steps.len(),
                percent,
            };
            self.moves.insert(name.clone(), told);
        }
    }

    /// Says how the load does, from time to time.
    pub fn load_now_and_then(&mut self, load: &LoadSnapshot) {
        if self.load_told.elapsed() < LOAD_EVERY {
            return;
        }
        self.load_told = Instant::now();
        let clouds: Vec<String> = load
            .clouds
            .iter()
            .map(|(cloud, count)| format!("{cloud} {count}/s"))
            .collect();
        self.say(
            "",
            &format!(
                "· {} requests, {} failed; {}",
                load.sent,
                load.failed,
                clouds.join(", ")
            ),
        );
    }

    /// Who answers whom now, as a table.
    pub fn table(&self, load: &LoadSnapshot, clouds: &[&str]) {
        let header: String = clouds
            .iter()
            .map(|cloud| format!("{:>12}", format!("{cloud}/s")))
            .collect();
        eprintln!(
            "\n          {:<14}{:>9}{:>8}{header}",
            "APPLICATION", "SENT", "FAILED"
        );
        for application in &load.applications {
            let cells: String = clouds
                .iter()
                .map(|cloud| {
                    let count = application
                        .clouds
                        .iter()
                        .find(|(name, _)| name == cloud)
                        .map_or(0, |(_, count)| *count);
                    match count {
                        0 => format!("{:>12}", "-"),
                        count => format!("{count:>12}"),
                    }
                })
                .collect();
            eprintln!(
                "          {:<14}{:>9}{:>8}{cells}",
                application.name, application.sent, application.failed
            );
        }
        for streams in &load.streams {
            let open: Vec<String> = streams
                .open
                .iter()
                .map(|(cloud, count)| format!("{count} at {cloud}"))
                .collect();
            eprintln!(
                "          event streams of {}: {}; {} ended cleanly, {} broke",
                streams.name,
                open.join(", "),
                streams.clean_ends,
                streams.broken_ends + streams.refused
            );
        }
        eprintln!();
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64()
}

/// What a step means for the application, in a few words.
fn meaning(step: MigrationStep, spec: &flambeau_crds::MigrationSpec) -> String {
    match step {
        MigrationStep::Preflight => format!("may and can {} take it?", spec.to),
        MigrationStep::Prepare => format!("its objects are written to {}", spec.to),
        MigrationStep::Ready => format!("its pods at {} get ready", spec.to),
        MigrationStep::Sync => "no data to catch up".to_owned(),
        MigrationStep::Shift => "requests go over".to_owned(),
        MigrationStep::Soak => format!("{} serves alone, {} stands by", spec.to, spec.from),
        MigrationStep::Drain => format!("{} finishes what it still has", spec.from),
        MigrationStep::Retire => format!("its copy at {} is erased", spec.from),
        MigrationStep::Abort | MigrationStep::Done => String::new(),
    }
}
