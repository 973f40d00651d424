//! A look at the counts while the load goes on.

use std::time::Duration;

use super::{
    recorder::{ApplicationRecorder, Clouds, Recorder},
    result::Failure,
    streams::StreamsRecorder,
};

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadSnapshot {
    /// Since the load began.
    pub elapsed: Duration,
    /// Requests sent.
    pub sent: u64,
    /// Requests with the right answer in time.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Right answers per second, by cloud, to the requests of the last whole second.
    pub clouds: Vec<(String, u32)>,
    /// The same by application.
    pub applications: Vec<ApplicationSnapshot>,
    /// Streams of each application that has some.
    pub streams: Vec<StreamsSnapshot>,
}

impl LoadSnapshot {
    /// Requests that wait for their answers.
    pub fn in_flight(&self) -> u64 {
        self.sent.saturating_sub(self.ok + self.failed)
    }

    /// The application of that name.
    pub fn application(&self, name: &str) -> Option<&ApplicationSnapshot> {
        self.applications
            .iter()
            .find(|application| application.name == name)
    }
}

/// What was counted so far of one application.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApplicationSnapshot {
    /// Name of the application.
    pub name: String,
    /// Requests sent.
    pub sent: u64,
    /// Requests with the right answer in time.
    pub ok: u64,
    /// Requests that failed.
    pub failed: u64,
    /// The failure noticed last.
    pub last_failure: Option<Failure>,
    /// Right answers per second, by cloud, to the requests of the last whole second. Clouds that did not answer are
    /// absent.
    pub clouds: Vec<(String, u32)>,
}

/// What was counted so far of one application's streams.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamsSnapshot {
    /// Name of the application.
    pub name: String,
    /// Events received.
    pub events: u64,
    /// Streams that ended cleanly.
    pub clean_ends: u64,
    /// Streams that were cut.
    pub broken_ends: u64,
    /// Attempts to open a stream that failed.
    pub refused: u64,
    /// Streams that are open, by the cloud that they listen to.
    pub open: Vec<(String, u32)>,
}

pub(crate) fn take(recorder: &Recorder) -> LoadSnapshot {
    let elapsed = recorder.clock.elapsed();
    let second = usize::try_from(elapsed.as_secs())
        .ok()
        .and_then(|second| second.checked_sub(1));
    let clouds = &recorder.clouds;
    let mut total = vec![0; clouds.len()];
    let mut applications = Vec::with_capacity(recorder.applications.len());
    for application in &recorder.applications {
        let answered = answered(application, second);
        for (number, count) in answered.iter().enumerate() {
            total[number] += count;
        }
        applications.push(ApplicationSnapshot {
            name: application.name.clone(),
            sent: application.sent,
            ok: application.ok,
            failed: application.failed(),
            last_failure: application.last_failure.clone(),
            clouds: named(clouds, answered),
        });
    }
    LoadSnapshot {
        elapsed,
        sent: applications
            .iter()
            .map(|application| application.sent)
            .sum(),
        ok: applications.iter().map(|application| application.ok).sum(),
        failed: applications
            .iter()
            .map(|application| application.failed)
            .sum(),
        clouds: named(clouds, &total),
        streams: recorder
            .streams
            .iter()
            .map(|streams| of_streams(streams, clouds))
            .collect(),
        applications,
    }
}

fn answered(application: &ApplicationRecorder, second: Option<usize>) -> &[u32] {
    second
        .and_then(|second| application.seconds.get(second))
        .map_or(&[], |second| &second.answered)
}

fn named(clouds: &Clouds, counts: &[u32]) -> Vec<(String, u32)> {
    let counts = counts.iter().enumerate().filter(|(_, count)| **count > 0);
    counts
        .map(|(number, count)| (clouds.name(number).to_owned(), *count))
        .collect()
}

fn of_streams(streams: &StreamsRecorder, clouds: &Clouds) -> StreamsSnapshot {
    let mut open = vec![0; clouds.len()];
    for cloud in streams.open() {
        open[cloud] += 1;
    }
    StreamsSnapshot {
        name: streams.name().to_owned(),
        events: streams.events,
        clean_ends: streams.clean_ends,
        broken_ends: streams.broken_ends,
        refused: streams.refused,
        open: named(clouds, &open),
    }
}
