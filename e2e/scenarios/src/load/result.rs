//! What became of the load.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Everything that was counted from start to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    /// When the first request was due; second 0 of all series.
    pub started: Timestamp,
    /// When the last answer was in.
    pub ended: Timestamp,
    /// All clouds in the order in which to list them: the configured ones first.
    pub clouds: Vec<String>,
    /// Requests sent to all applications.
    pub requests: u64,
    /// Requests that failed, of all applications. Streams are counted apart.
    pub failed: u64,
    /// Latency of the requests that did not fail, of all applications.
    pub latency: Latency,
    /// Each application.
    pub applications: Vec<ApplicationResult>,
    /// Event streams of each application that has some.
    pub streams: Vec<StreamsResult>,
    /// How the generator itself did.
    pub generator: GeneratorResult,
}

impl LoadResult {
    /// No request failed, and no stream was cut or refused.
    pub fn is_clean(&self) -> bool {
        self.failed == 0
            && self
                .streams
                .iter()
                .all(|streams| streams.broken_ends == 0 && streams.refused == 0)
    }

    /// The application of that name.
    pub fn application(&self, name: &str) -> Option<&ApplicationResult> {
        self.applications
            .iter()
            .find(|application| application.name == name)
    }
}

/// Requests to one application. `sent` is always `ok + failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplicationResult {
    /// Name of the application.
    pub name: String,
    /// Host under which it was asked.
    pub host: String,
    /// Requests per second that were asked for.
    pub rate: f64,
    /// Requests sent.
    pub sent: u64,
    /// Requests with the right answer in time.
    pub ok: u64,
    /// Requests without.
    pub failed: u64,
    /// Failed requests by cause; causes that did not occur are absent.
    pub failures: BTreeMap<FailureCause, u64>,
    /// The first failures, up to 20.
    pub examples: Vec<Failure>,
    /// Every time in which requests failed.
    pub outages: Vec<Outage>,
    /// Latency of the requests that did not fail.
    pub latency: Latency,
    /// The clouds that answered, in the order of their first answers.
    pub clouds: Vec<CloudResult>,
    /// The same, second by second.
    pub seconds: Seconds,
}

impl ApplicationResult {
    /// Outages of which a part lies in none of the windows.
    pub fn outages_outside(&self, windows: &[Window]) -> Vec<&Outage> {
        let outside = |outage: &&Outage| !windows.iter().any(|window| window.holds(outage));
        self.outages.iter().filter(outside).collect()
    }
}

/// A time in which requests to one application failed, with less than a second from one to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// When the first of them was due.
    pub first: Timestamp,
    /// When the last of them was due.
    pub last: Timestamp,
    /// When the first of them to fail had failed. A request that was due before a loss may fail because of it.
    pub noticed: Timestamp,
    /// How many they are.
    pub failed: u64,
}

/// A time in which requests may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first moment: a loss.
    pub from: Timestamp,
    /// Its last moment.
    pub until: Timestamp,
}

impl Window {
    /// Whether an outage began because of the loss, and was over in time.
    pub fn holds(&self, outage: &Outage) -> bool {
        self.from <= outage.noticed && outage.last <= self.until
    }
}

/// Why a request counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureCause {
    /// No connection could be made.
    Connect,
    /// The connection broke before the whole answer was there.
    Broken,
    /// No whole answer in time.
    Timeout,
    /// The status is not 200.
    Status,
    /// The body is not what an example application answers.
    Body,
    /// Another application answered.
    WrongApplication,
    /// A cloud answered that is not among the known ones.
    UnknownCloud,
}

impl FailureCause {
    /// The cause in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Connect => "cannot connect",
            Self::Broken => "connection broke",
            Self::Timeout => "timeout",
            Self::Status => "status not 200",
            Self::Body => "unreadable body",
            Self::WrongApplication => "wrong application",
            Self::UnknownCloud => "unknown cloud",
        }
    }
}

/// One request that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// When the request was due.
    pub time: Timestamp,
    /// Milliseconds from then until it had failed.
    pub after_ms: f64,
    /// What it asked for.
    pub path: String,
    /// Why it counts as failed.
    pub cause: FailureCause,
    /// What exactly happened.
    pub detail: String,
}

/// Answers of one cloud.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudResult {
    /// Name of the cloud.
    pub cloud: String,
    /// Requests that it answered rightly.
    pub answered: u64,
    /// When the first request that it answered was due.
    pub first: Timestamp,
    /// When the last one was.
    pub last: Timestamp,
}

/// Counts per second, by the second in which a request was due. All lists are equally long; index 0 is the second that
/// begins at the start of the load, and the last second may be incomplete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// Right answers, by cloud.
    pub answered: BTreeMap<String, Vec<u32>>,
    /// Failed requests.
    pub failed: Vec<u32>,
    /// The slowest right answer, in milliseconds; 0 where there is none.
    pub slowest_ms: Vec<f64>,
}

/// Latency in milliseconds, counted from when a request was due, not from when it was sent: a generator or an edge that
/// falls behind shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are their documentation")]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

/// Long-lived event streams of one application.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamsResult {
    /// Name of the application.
    pub name: String,
    /// Host under which it was asked.
    pub host: String,
    /// Streams kept open at a time.
    pub count: usize,
    /// Streams opened in all.
    pub opened: u64,
    /// Events received.
    pub events: u64,
    /// Streams that said goodbye and then ended whole.
    pub clean_ends: u64,
    /// Streams that were cut, fell silent for 5 seconds, or came from the wrong application or an unknown cloud.
    pub broken_ends: u64,
    /// Attempts to open a stream that failed.
    pub refused: u64,
    /// Streams that were open when the load was stopped.
    pub open_at_end: u64,
    /// The longest time that any stream's client was without an event, in milliseconds; about 1,000 when all is well,
    /// since events come once a second.
    pub longest_gap_ms: f64,
    /// How clients came back, in the order in which they did; the first 1,000.
    pub reconnects: Vec<Reconnect>,
    /// The first breaks and refusals in words, up to 20.
    pub examples: Vec<StreamFailure>,
}

/// A stream that came back after it had ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reconnect {
    /// When its first event came.
    pub time: Timestamp,
    /// Which stream, from 0.
    pub stream: usize,
    /// The cloud that it came from.
    pub from: String,
    /// The cloud that it went to.
    pub to: String,
    /// Milliseconds between the last event from there and the first event from here.
    pub gap_ms: f64,
    /// Whether it had ended cleanly.
    pub clean: bool,
}

/// A stream that was cut or could not be opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamFailure {
    /// When it was noticed.
    pub time: Timestamp,
    /// Which stream, from 0.
    pub stream: usize,
    /// What exactly happened.
    pub detail: String,
}

/// What the generator used, and whether it kept its own times: numbers to trust the others by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorResult {
    /// Processor time of the generator, in seconds.
    pub cpu_seconds: f64,
    /// The same as a part of one core.
    pub cpu_share: f64,
    /// How late requests left after they were due: the generator's own part in their latency.
    pub lateness: Latency,
}
