//! Counts, while the load goes on.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use jiff::Timestamp;

use super::{
    config::LoadConfig,
    result::{
        ApplicationResult, CloudResult, Failure, FailureCause, Latency, LoadResult, Outage, Seconds,
    },
    streams::StreamsRecorder,
};

/// How many failures to keep as examples.
pub(crate) const EXAMPLES: usize = 20;

/// Failed requests that are further apart belong to different outages.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest latency that the histograms tell apart from longer ones: one minute, in microseconds.
const LONGEST_MICROSECONDS: u64 = 60_000_000;

pub(crate) struct Recorder {
    pub(crate) clock: Clock,
    pub(crate) clouds: Clouds,
    pub(crate) applications: Vec<ApplicationRecorder>,
    pub(crate) streams: Vec<StreamsRecorder>,
    pub(crate) lateness: LatencyRecorder,
}

/// Ties the steady clock that times requests to the calendar.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) start: Instant,
    pub(crate) started: Timestamp,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            started: Timestamp::now(),
        }
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn time(self, offset: Duration) -> Timestamp {
        // Saturates at the end of the calendar, some thousand years from now.
        self.started
            .saturating_add(offset)
            .unwrap_or(Timestamp::MAX)
    }
}

/// The clouds seen so far, each with a small number.
pub(crate) struct Clouds {
    names: Vec<String>,
    fixed: bool,
}

impl Clouds {
    fn new(known: &[String]) -> Self {
        Self {
            names: known.to_vec(),
            fixed: !known.is_empty(),
        }
    }

    /// The number of a cloud; none when it is not among the known ones.
    pub(crate) fn number(&mut self, name: &str) -> Option<usize> {
        let position = self.names.iter().position(|known| known == name);
        if position.is_none() && !self.fixed {
            self.names.push(name.to_owned());
            return Some(self.names.len() - 1);
        }
        position
    }

    pub(crate) fn name(&self, number: usize) -> &str {
        self.names.get(number).map_or("", String::as_str)
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }
}

/// Latencies, in microseconds.
pub(crate) struct LatencyRecorder(Histogram<u64>);

impl LatencyRecorder {
    pub(crate) fn new() -> Self {
        // The bounds are constants that the histogram accepts; they are checked by every test here.
        #[allow(clippy::expect_used)]
        Self(Histogram::new_with_bounds(1, LONGEST_MICROSECONDS, 3).expect("valid bounds"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(microseconds.max(1));
    }

    fn merge(&mut self, other: &Self) {
        // Fails only for unequal bounds; all have the same.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn latency(&self) -> Latency {
        let at = |quantile| milliseconds(Duration::from_micros(self.0.value_at_quantile(quantile)));
        Latency {
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: milliseconds(Duration::from_micros(self.0.max())),
        }
    }
}

/// Milliseconds with three digits behind the point.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// What one second saw.
#[derive(Clone, Default)]
pub(crate) struct Second {
    /// By number of the cloud; may be shorter than there are clouds.
    pub(crate) answered: Vec<u32>,
    pub(crate) failed: u32,
    slowest: Duration,
}

struct CloudRecorder {
    number: usize,
    answered: u64,
    first: Duration,
    last: Duration,
}

pub(crate) struct ApplicationRecorder {
    pub(crate) name: String,
    host: String,
    rate: f64,
    pub(crate) sent: u64,
    pub(crate) ok: u64,
    pub(crate) failures: BTreeMap<FailureCause, u64>,
    pub(crate) examples: Vec<Failure>,
    pub(crate) last_failure: Option<Failure>,
    /// Of each failed request: when it was due, and when it had failed.
    lost: Vec<(Duration, Duration)>,
    latency: LatencyRecorder,
    clouds: Vec<CloudRecorder>,
    pub(crate) seconds: Vec<Second>,
}

impl ApplicationRecorder {
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// A request that was due at `due` got the right answer from the cloud of that number.
    pub(crate) fn answered(&mut self, due: Duration, latency: Duration, number: usize) {
        self.ok += 1;
        self.latency.record(latency);
        let second = self.second(due);
        if second.answered.len() <= number {
            second.answered.resize(number + 1, 0);
        }
        second.answered[number] += 1;
        second.slowest = second.slowest.max(latency);
        if let Some(cloud) = self.clouds.iter_mut().find(|cloud| cloud.number == number) {
            cloud.answered += 1;
            cloud.first = cloud.first.min(due);
            cloud.last = cloud.last.max(due);
        } else {
            self.clouds.push(CloudRecorder {
                number,
                answered: 1,
                first: due,
                last: due,
            });
        }
    }

    /// A request that was due at `due` had failed at `over`.
    pub(crate) fn failure(&mut self, due: Duration, over: Duration, failure: Failure) {
        self.lost.push((due, over));
        *self.failures.entry(failure.cause).or_default() += 1;
        self.second(due).failed += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(failure.clone());
        }
        self.last_failure = Some(failure);
    }

    fn second(&mut self, due: Duration) -> &mut Second {
        let index = usize::try_from(due.as_secs()).unwrap_or(usize::MAX);
        if self.seconds.len() <= index {
            self.seconds.resize_with(index + 1, Second::default);
        }
        &mut self.seconds[index]
    }

    fn result(&self, clock: Clock, clouds: &Clouds, seconds: usize) -> ApplicationResult {
        let cloud = |cloud: &CloudRecorder| CloudResult {
            cloud: clouds.name(cloud.number).to_owned(),
            answered: cloud.answered,
            first: clock.time(cloud.first),
            last: clock.time(cloud.last),
        };
        let mut answers: Vec<CloudResult> = self.clouds.iter().map(cloud).collect();
        answers.sort_by_key(|cloud| cloud.first);
        let mut padded = self.seconds.clone();
        padded.resize_with(seconds, Second::default);
        let of_cloud = |number: usize| -> Vec<u32> {
            padded
                .iter()
                .map(|second| second.answered.get(number).copied().unwrap_or(0))
                .collect()
        };
        ApplicationResult {
            name: self.name.clone(),
            host: self.host.clone(),
            rate: self.rate,
            sent: self.sent,
            ok: self.ok,
            failed: self.failed(),
            failures: self.failures.clone(),
            examples: self.examples.clone(),
            outages: outages(&self.lost, clock),
            latency: self.latency.latency(),
            seconds: Seconds {
                answered: self
                    .clouds
                    .iter()
                    .map(|cloud| (clouds.name(cloud.number).to_owned(), of_cloud(cloud.number)))
                    .collect(),
                failed: padded.iter().map(|second| second.failed).collect(),
                slowest_ms: padded
                    .iter()
                    .map(|second| milliseconds(second.slowest))
                    .collect(),
            },
            clouds: answers,
        }
    }
}

/// Failed requests that belong together.
fn outages(lost: &[(Duration, Duration)], clock: Clock) -> Vec<Outage> {
    let mut lost = lost.to_vec();
    lost.sort_unstable();
    let together = |one: &(Duration, Duration), next: &(Duration, Duration)| next.0 - one.0 < PAUSE;
    let outage = |failed: &[(Duration, Duration)]| Outage {
        first: clock.time(failed[0].0),
        last: clock.time(failed[failed.len() - 1].0),
        noticed: clock.time(
            failed
                .iter()
                .map(|(_, over)| *over)
                .min()
                .unwrap_or_default(),
        ),
        failed: failed.len() as u64,
    };
    lost.chunk_by(together).map(outage).collect()
}

impl Recorder {
    pub(crate) fn new(config: &LoadConfig, clock: Clock) -> Self {
        let applications = config
            .applications
            .iter()
            .map(|application| ApplicationRecorder {
                name: application.name.clone(),
                host: application.host.clone(),
                rate: application.rate,
                sent: 0,
                ok: 0,
                failures: BTreeMap::new(),
                examples: Vec::new(),
                last_failure: None,
                lost: Vec::new(),
                latency: LatencyRecorder::new(),
                clouds: Vec::new(),
                seconds: Vec::new(),
            });
        Self {
            clock,
            clouds: Clouds::new(&config.clouds),
            applications: applications.collect(),
            streams: config.streams.iter().map(StreamsRecorder::new).collect(),
            lateness: LatencyRecorder::new(),
        }
    }

    /// Everything, once nothing is in flight any more. Nothing was sent after `stopped`.
    pub(crate) fn result(&self, stopped: Duration, cpu: Duration) -> LoadResult {
        let elapsed = self.clock.elapsed();
        let mut latency = LatencyRecorder::new();
        for application in &self.applications {
            latency.merge(&application.latency);
        }
        let seconds = self
            .applications
            .iter()
            .map(|application| application.seconds.len())
            .max()
            .unwrap_or(0);
        LoadResult {
            started: self.clock.started,
            ended: self.clock.time(elapsed),
            clouds: (0..self.clouds.len())
                .map(|number| self.clouds.name(number).to_owned())
                .collect(),
            requests: self
                .applications
                .iter()
                .map(|application| application.sent)
                .sum(),
            failed: self
                .applications
                .iter()
                .map(ApplicationRecorder::failed)
                .sum(),
            latency: latency.latency(),
            applications: self
                .applications
                .iter()
                .map(|application| application.result(self.clock, &self.clouds, seconds))
                .collect(),
            streams: self
                .streams
                .iter()
                .map(|streams| streams.result(stopped))
                .collect(),
            generator: super::result::GeneratorResult {
                cpu_seconds: cpu.as_secs_f64(),
                cpu_share: cpu.as_secs_f64() / elapsed.as_secs_f64().max(f64::EPSILON),
                lateness: self.lateness.latency(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_that_are_close_are_one_outage() {
        let clock = Clock::start();
        let at = |due: u64, over: u64| (Duration::from_millis(due), Duration::from_millis(over));
        let lost = [
            at(5500, 5600),
            at(1000, 6000),
            at(1900, 2400),
            at(6400, 6500),
        ];
        let time = |millis| clock.time(Duration::from_millis(millis));
        let outage = |first, last, noticed, failed| Outage {
            first: time(first),
            last: time(last),
            noticed: time(noticed),
            failed,
        };
        let found = outages(&lost, clock);
        assert_eq!(
            found,
            [outage(1000, 1900, 2400, 2), outage(5500, 6400, 5600, 2)]
        );
    }
}
