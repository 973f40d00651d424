//! Requests during a scenario, and what became of them.

use std::{fmt, time::Duration};

use anyhow::{Result, bail, ensure};
use flambeau_crds::Migration;
use flambeau_games::application::STREAM_PATH;
use flambeau_scenarios::{
    demo::block_on,
    load::{ApplicationLoad, LoadConfig, LoadGenerator, LoadResult, StreamLoad, Window},
    report::{MigrationReport, Report},
};
use jiff::Timestamp;

use crate::{stage::Played, wait::until, world::World};

/// Event streams, of an application that has some.
const STREAMS: usize = 3;

/// What a scenario counted.
#[derive(Default)]
pub struct Counted {
    requests: u64,
    failed: u64,
    note: String,
}

impl Counted {
    /// Adds what else is worth telling.
    pub fn note(mut self, note: impl AsRef<str>) -> Self {
        if !self.note.is_empty() {
            self.note += "; ";
        }
        self.note += note.as_ref();
        self
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} requests, ", self.requests)?;
        match self.failed {
            0 => formatter.write_str("0 failed")?,
            failed => write!(formatter, "{failed} failed after the loss, 0 otherwise")?,
        }
        if !self.note.is_empty() {
            write!(formatter, "; {}", self.note)?;
        }
        Ok(())
    }
}

/// Load that is being sent.
pub struct Load(LoadGenerator);

impl Load {
    /// Begins to send so many requests a second to each of the applications.
    pub fn start(world: &World, played: &[&Played<'_>], rate: f64) -> Result<Self> {
        let streaming = played
            .iter()
            .filter(|one| one.asked().application.streams());
        let config = LoadConfig {
            edge: world.testbed.edge_url(),
            applications: played
                .iter()
                .map(|one| ApplicationLoad {
                    host: one.asked().host.clone(),
                    ..ApplicationLoad::games(one.asked().application, "example", rate)
                })
                .collect(),
            streams: streaming
                .map(|one| StreamLoad {
                    name: one.name().to_owned(),
                    host: one.asked().host.clone(),
                    path: STREAM_PATH.to_owned(),
                    count: STREAMS,
                })
                .collect(),
            clouds: ["alibaba", "atos", "ovh"].map(str::to_owned).to_vec(),
            timeout: LoadConfig::TIMEOUT,
        };
        let load = Self(LoadGenerator::start(config)?);
        // What happens next happens to an application that serves.
        until("every application is answered", || {
            let seen = load.0.snapshot().applications;
            let mute = seen.into_iter().find(|application| application.ok == 0);
            Ok(mute.map(|application| application.name))
        })?;
        Ok(load)
    }

    /// Lets some more requests through and ends; an error tells of those that failed.
    pub fn ends_clean(self) -> Result<Counted> {
        let result = self.end()?;
        judge(&result, |_| Vec::new())?;
        Ok(Counted {
            requests: result.requests,
            ..Counted::default()
        })
    }

    /// The same, and every event stream followed its application through these moves, all of them planned.
    pub fn ends_clean_after(self, moves: &[Migration]) -> Result<Counted> {
        let result = self.end()?;
        judge(&result, |_| Vec::new())?;
        let requests = result.requests;
        let moves = moves.iter().map(MigrationReport::from).collect();
        let report = Report::new("planned moves", result, moves, &[]);
        ensure!(report.passed(), "{}", report.problems.join(" "));
        let ended: u64 = report.streams.iter().map(|one| one.clean_ends).sum();
        let counted = Counted {
            requests,
            ..Counted::default()
        };
        Ok(counted.note(format!("{ended} event streams ended cleanly and followed")))
    }

    /// Lets some more requests through and ends. Those to the named applications may have failed after one of the losses,
    /// for as long as the limit; the note tells for how long they did.
    pub fn ends_after_loss(
        self,
        names: &[&str],
        losses: &[Timestamp],
        limit: Duration,
    ) -> Result<(Counted, LoadResult)> {
        let result = self.end()?;
        let windows: Vec<Window> = losses.iter().map(|from| window(*from, limit)).collect();
        let allowed = |name: &str| {
            if names.contains(&name) {
                windows.clone()
            } else {
                Vec::new()
            }
        };
        judge(&result, allowed)?;
        let told: Vec<String> = result
            .applications
            .iter()
            .filter(|application| names.contains(&application.name.as_str()))
            .map(|application| {
                let longest = application.outages.iter().filter_map(|outage| {
                    let window = windows.iter().find(|window| window.holds(outage))?;
                    Some(outage.last.duration_since(window.from).as_secs_f64())
                });
                format!("{} {:.1} s", application.name, longest.fold(0.0, f64::max))
            })
            .collect();
        let counted = Counted {
            requests: result.requests,
            failed: result.failed,
            note: String::new(),
        };
        let told = format!(
            "from the loss to the last failed request: {}",
            told.join(", ")
        );
        Ok((counted.note(told), result))
    }

    /// Waits until a cloud answers requests of an application.
    pub fn answered_by(&self, name: &str, cloud: &str) -> Result<()> {
        until(&format!("{cloud} answers for {name}"), || {
            let seen = self.0.snapshot();
            let clouds = seen.application(name).map(|one| one.clouds.clone());
            let clouds = clouds.unwrap_or_default();
            let answers = clouds.iter().any(|(one, count)| one == cloud && *count > 0);
            Ok((!answers).then(|| format!("{clouds:?}")))
        })
    }

    fn end(self) -> Result<LoadResult> {
        until("every stream is open", || {
            let shut = self.0.snapshot().streams.into_iter().find(|streams| {
                let open: u32 = streams.open.iter().map(|(_, count)| count).sum();
                usize::try_from(open) != Ok(STREAMS)
            });
            Ok(shut.map(|streams| format!("{:?} of {}", streams.open, streams.name)))
        })?;
        let before = self.0.snapshot().sent;
        until("more requests", || {
            let sent = self.0.snapshot().sent - before;
            Ok((sent < 100).then(|| format!("{sent}")))
        })?;
        block_on(self.0.stop())?
    }
}

/// The time after a loss in which requests may fail.
fn window(from: Timestamp, limit: Duration) -> Window {
    Window {
        from,
        until: from.saturating_add(limit).unwrap_or(Timestamp::MAX),
    }
}

/// An error when requests failed outside of the windows of their application, or a stream broke of one that has none.
fn judge(result: &LoadResult, windows: impl Fn(&str) -> Vec<Window>) -> Result<()> {
    for application in &result.applications {
        let windows = windows(&application.name);
        if let Some(outage) = application.outages_outside(&windows).first() {
            let examples: Vec<String> = application
                .examples
                .iter()
                .take(3)
                .map(|failure| format!("{}: {}", failure.cause.words(), failure.detail))
                .collect();
            bail!(
                "{} requests to {} failed from {} to {} (allowed: {windows:?}): {}",
                outage.failed,
                application.name,
                outage.first,
                outage.last,
                examples.join("; ")
            );
        }
        let streams = result
            .streams
            .iter()
            .find(|streams| streams.name == application.name);
        if let Some(failure) = streams.and_then(|streams| streams.examples.first()) {
            ensure!(
                !windows.is_empty(),
                "a stream of {} broke: {} {}",
                application.name,
                failure.time,
                failure.detail
            );
        }
    }
    Ok(())
}
