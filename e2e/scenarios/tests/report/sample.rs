//! A story made up: 150 seconds, four moves.

use std::{collections::BTreeMap, time::Duration};

use flambeau_scenarios::{
    load::{
        ApplicationResult, CloudResult, Failure, FailureCause, GeneratorResult, Latency,
        LoadConfig, LoadResult, Outage, Reconnect, Seconds, StreamFailure, StreamsResult,
    },
    report::{Loss, MigrationReport, Moment, Placement, Report, StepReport, VerdictReport},
};
use jiff::Timestamp;

const SECONDS: usize = 150;

/// Steps of a move with their lengths in seconds.
const STEPS: [(&str, f64); 8] = [
    ("Preflight", 0.3),
    ("Prepare", 0.6),
    ("Ready", 5.2),
    ("Sync", 0.1),
    ("Shift", 9.0),
    ("Soak", 5.0),
    ("Drain", 3.0),
    ("Retire", 7.5),
];

/// Application, where to, and the second in which its move starts.
const MOVES: [(&str, &str, f64); 4] = [
    ("accreditation", "atos", 31.0),
    ("access-control", "atos", 31.4),
    ("volunteers", "ovh", 62.0),
    ("results", "ovh", 64.0),
];

/// Numbers from 0 to 1 that look random and are the same each time.
struct Noise(u64);

impl Noise {
    #[allow(clippy::cast_precision_loss)]
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1_u64 << 24) as f64
    }
}

fn at(seconds: f64) -> Timestamp {
    let start: Timestamp = "2026-02-06T18:00:00Z".parse().unwrap();
    start + Duration::from_secs_f64(seconds)
}

/// The nearest number that JSON gives back as it is.
fn exact(number: f64) -> f64 {
    (number * 8.0).round() / 8.0
}

fn latency(scale: f64) -> Latency {
    let scaled = |milliseconds: f64| exact(milliseconds * scale);
    Latency {
        p50_ms: scaled(1.2),
        p90_ms: scaled(3.1),
        p99_ms: scaled(14.6),
        p999_ms: scaled(38.0),
        max_ms: scaled(71.3),
    }
}

/// The part of an application's requests that its target serves in a second.
#[allow(clippy::cast_precision_loss)]
fn shifted(start: f64, second: usize) -> f64 {
    let before: f64 = STEPS
        .iter()
        .take_while(|(name, _)| *name != "Shift")
        .map(|(_, length)| length)
        .sum();
    let stage = ((second as f64 + 0.5 - start - before) / 9.0 * 4.0).floor() / 4.0;
    stage.clamp(0.0, 1.0)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn application(name: &str, host: &str, rate: f64, noise: &mut Noise) -> ApplicationResult {
    let home = if name == "ticketing" {
        "ovh"
    } else {
        "alibaba"
    };
    let route = MOVES.iter().find(|(application, ..)| *application == name);
    let target = route.map_or(home, |(_, target, _)| target);
    let mut seconds = Seconds::default();
    for second in 0..SECONDS {
        let part = route.map_or(0.0, |(_, _, start)| shifted(*start, second));
        let total = (rate + (noise.next() - 0.5) * 2.0).round();
        let there = (total * part).round();
        for (cloud, count) in [(home, total - there), (target, there)] {
            let counts = seconds
                .answered
                .entry(cloud.to_owned())
                .or_insert_with(|| vec![0; SECONDS]);
            counts[second] += count as u32;
        }
        seconds.failed.push(0);
        let shifting = if part > 0.0 && part < 1.0 { 12.0 } else { 0.0 };
        seconds
            .slowest_ms
            .push(exact(4.0 + noise.next().powi(4) * 55.0 + shifting));
    }
    let mut clouds: Vec<CloudResult> = seconds
        .answered
        .iter()
        .map(|(cloud, counts)| CloudResult {
            cloud: cloud.clone(),
            answered: counts.iter().map(|count| u64::from(*count)).sum(),
            first: at(if cloud == home { 0.0 } else { 40.0 }),
            last: at(if cloud == target { 149.9 } else { 75.0 }),
        })
        .collect();
    clouds.sort_by_key(|cloud| cloud.first);
    let ok = clouds.iter().map(|cloud| cloud.answered).sum();
    ApplicationResult {
        name: name.to_owned(),
        host: host.to_owned(),
        rate,
        sent: ok,
        ok,
        failed: 0,
        failures: BTreeMap::new(),
        examples: Vec::new(),
        outages: Vec::new(),
        latency: latency(0.8 + rate / 500.0),
        clouds,
        seconds,
    }
}

fn streams() -> StreamsResult {
    let reconnect = |stream: u32| Reconnect {
        time: at(96.0 + f64::from(stream) * 0.01),
        stream: stream as usize,
        from: "alibaba".to_owned(),
        to: "ovh".to_owned(),
        gap_ms: 1006.0 + f64::from(stream),
        clean: true,
    };
    StreamsResult {
        name: "results".to_owned(),
        host: "results.games.example".to_owned(),
        count: 20,
        opened: 40,
        events: 3004,
        clean_ends: 20,
        broken_ends: 0,
        refused: 0,
        open_at_end: 20,
        longest_gap_ms: 1025.0,
        reconnects: (0..20).map(reconnect).collect(),
        examples: Vec::new(),
    }
}

fn load() -> LoadResult {
    let mut noise = Noise(2024);
    let config = LoadConfig::games(
        "http://127.0.0.1:8080",
        "games.example",
        &["alibaba", "atos", "ovh"],
        20,
    );
    let applications: Vec<ApplicationResult> = config
        .applications
        .iter()
        .map(|load| application(&load.name, &load.host, load.rate, &mut noise))
        .collect();
    LoadResult {
        started: at(0.0),
        ended: at(150.3),
        clouds: config.clouds,
        requests: applications
            .iter()
            .map(|application| application.sent)
            .sum(),
        failed: 0,
        latency: latency(1.0),
        applications,
        streams: vec![streams()],
        generator: GeneratorResult {
            cpu_seconds: 13.5,
            cpu_share: 0.09375,
            lateness: latency(0.7),
        },
    }
}

fn migration(name: &str, to: &str, start: f64) -> MigrationReport {
    let mut now = start;
    let steps = STEPS.iter().map(|(step, length)| {
        let begin = now;
        now += length;
        let verdict = VerdictReport {
            gate: "TargetServes".to_owned(),
            passed: true,
            reason: "AllReady".to_owned(),
            message: Some(format!("2 of 2 endpoints of {name} are ready in {to}")),
        };
        StepReport {
            name: (*step).to_owned(),
            start: at(begin),
            end: Some(at(now)),
            verdicts: vec![verdict],
        }
    });
    let steps = steps.collect();
    MigrationReport {
        application: name.to_owned(),
        namespace: "games".to_owned(),
        from: "alibaba".to_owned(),
        to: to.to_owned(),
        kind: "Relocate".to_owned(),
        trigger: "Policy".to_owned(),
        reason: "JurisdictionForbidden: CN reaches the operator of alibaba through its owners"
            .to_owned(),
        start: at(start),
        end: Some(at(now)),
        outcome: Some("Completed".to_owned()),
        downtime_ms: 0,
        recovery_ms: None,
        steps,
    }
}

fn placement(
    name: &str,
    sensitivity: &str,
    criticality: &str,
    cluster: &str,
    because: &str,
) -> Placement {
    Placement {
        application: name.to_owned(),
        namespace: "games".to_owned(),
        sensitivity: sensitivity.to_owned(),
        criticality: criticality.to_owned(),
        before: Some(
            if name == "ticketing" {
                "ovh"
            } else {
                "alibaba"
            }
            .to_owned(),
        ),
        cluster: Some(cluster.to_owned()),
        lawful: true,
        explanation: Some(because.to_owned()),
    }
}

/// Everything went as it should.
pub(crate) fn clean() -> Report {
    story(load(), Vec::new(), &[])
}

fn story(load: LoadResult, more: Vec<MigrationReport>, losses: &[Loss]) -> Report {
    let planned = MOVES
        .iter()
        .map(|(name, to, start)| migration(name, to, *start));
    let migrations = planned.chain(more).collect();
    let mut report = Report::new(
        "A banned provider is emptied while its applications keep serving",
        load,
        migrations,
        losses,
    );
    let moment = |seconds, label: &str| Moment {
        time: at(seconds),
        label: label.to_owned(),
    };
    report.moments = vec![
        moment(30.0, "policy eu-sovereignty is applied"),
        moment(89.5, "alibaba holds nothing governed any more"),
    ];
    let qualified = "atos: FR, SecNumCloud qualified until 2027-11-30";
    report.placements = vec![
        placement("accreditation", "Sensitive", "Critical", "atos", qualified),
        placement("access-control", "Sensitive", "Critical", "atos", qualified),
        placement(
            "volunteers",
            "Personal",
            "Important",
            "ovh",
            "ovh: FR, no foreign jurisdiction",
        ),
        placement(
            "ticketing",
            "Personal",
            "Critical",
            "ovh",
            "lawful where it is",
        ),
        placement(
            "results",
            "Internal",
            "Critical",
            "ovh",
            "follows its dependency accreditation",
        ),
        placement(
            "website",
            "Public",
            "Standard",
            "alibaba",
            "no policy governs Public",
        ),
    ];
    report
}

/// The cluster of accreditation was killed, and its requests failed until they went elsewhere.
pub(crate) fn lost() -> Report {
    lost_at(110.0, 15.0)
}

/// The same, told as if the loss had come at that second with that limit in seconds.
pub(crate) fn lost_at(second: f64, limit: f64) -> Report {
    let mut load = load();
    let application = load
        .applications
        .iter_mut()
        .find(|application| application.name == "accreditation")
        .unwrap();
    for second in 110..SECONDS {
        let gone =
            std::mem::take(&mut application.seconds.answered.get_mut("atos").unwrap()[second]);
        if second < 119 {
            application.seconds.failed[second] = gone;
            application.failed += u64::from(gone);
        } else {
            let there = application.seconds.answered.entry("ovh".to_owned());
            there.or_insert_with(|| vec![0; SECONDS])[second] = gone;
        }
    }
    application.ok -= application.failed;
    application.failures = BTreeMap::from([(FailureCause::Status, application.failed)]);
    application.outages = vec![Outage {
        first: at(109.99),
        last: at(118.5),
        noticed: at(110.1),
        failed: application.failed,
    }];
    load.failed = application.failed;
    let mut failover = migration("accreditation", "ovh", 117.5);
    "atos".clone_into(&mut failover.from);
    "Failover".clone_into(&mut failover.kind);
    "Loss".clone_into(&mut failover.trigger);
    "ClusterLost".clone_into(&mut failover.reason);
    failover.recovery_ms = Some(9200);
    let loss = Loss {
        time: at(second),
        cluster: "atos".to_owned(),
        limit: Duration::from_secs_f64(limit),
    };
    let mut report = story(load, vec![failover], &[loss]);
    report.moments.push(Moment {
        time: at(110.0),
        label: "atos is killed".to_owned(),
    });
    report
}

/// Some streams of results did not follow it: one ended and never came back, one came back where it had been, and one was
/// cut.
pub(crate) fn left_behind() -> Report {
    let mut load = load();
    let streams = &mut load.streams[0];
    streams.reconnects.retain(|one| one.stream != 3);
    "alibaba".clone_into(&mut streams.reconnects[4].to);
    streams.reconnects[6].clean = false;
    streams.open_at_end = 19;
    story(load, Vec::new(), &[])
}

/// The target of results died while requests went over, and the move was walked back.
pub(crate) fn troubled() -> Report {
    let mut load = load();
    let results = load
        .applications
        .iter_mut()
        .find(|application| application.name == "results")
        .unwrap();
    for (second, failed) in [(72, 31), (73, 118), (74, 64), (75, 4)] {
        results.seconds.failed[second] = failed;
        results.seconds.slowest_ms[second] = 840.0;
        results.failed += u64::from(failed);
    }
    for second in 76..SECONDS {
        let walked_back =
            std::mem::take(&mut results.seconds.answered.get_mut("ovh").unwrap()[second]);
        results.seconds.answered.get_mut("alibaba").unwrap()[second] += walked_back;
    }
    results.failures = BTreeMap::from([
        (FailureCause::Status, results.failed - 9),
        (FailureCause::Timeout, 9),
    ]);
    results.sent += results.failed;
    results.outages = vec![Outage {
        first: at(72.4),
        last: at(75.0),
        noticed: at(72.4),
        failed: results.failed,
    }];
    results.examples = vec![Failure {
        time: at(72.4),
        after_ms: 3.2,
        path: "/medals".to_owned(),
        cause: FailureCause::Status,
        detail: "503 Service Unavailable: no healthy upstream".to_owned(),
    }];
    load.failed = results.failed;
    load.requests += results.failed;
    load.streams[0].broken_ends = 3;
    load.streams[0].examples = vec![StreamFailure {
        time: at(72.3),
        stream: 4,
        detail: "ended without a goodbye".to_owned(),
    }];
    let mut report = story(load, Vec::new(), &[]);
    let results = report
        .placements
        .iter_mut()
        .find(|placement| placement.application == "results")
        .unwrap();
    results.cluster = Some("alibaba".to_owned());
    results.lawful = false;
    results.explanation = Some("Stalled: no lawful cluster is ready".to_owned());
    let broken = report.migrations.last_mut().unwrap();
    broken.outcome = Some("Aborted".to_owned());
    broken.downtime_ms = 2840;
    broken.steps.truncate(5);
    let shift = broken.steps.last_mut().unwrap();
    shift.end = Some(at(76.0));
    shift.verdicts[0].passed = false;
    "NoReadyEndpoint".clone_into(&mut shift.verdicts[0].reason);
    broken.steps.push(StepReport {
        name: "Abort".to_owned(),
        start: at(76.0),
        end: Some(at(79.1)),
        verdicts: Vec::new(),
    });
    broken.end = Some(at(79.1));
    report
}
