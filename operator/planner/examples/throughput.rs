//! How many applications the planner decides about in a second.
//!
//! `cargo run --release -p flambeau-planner --example throughput -- --json`

use flambeau_planner::{
    fleet::Decision,
    model::{
        Application, ApplicationKey, ApplicationRecord, ApplicationSpec, Cluster, CopyObservation,
        Country, Criticality, EdgeObservation, JurisdictionFact, Kind, Name, Placement, Policy,
        Provider, Reach, Role, Sensitivity, Settings, Snapshot, Strategy,
    },
    plan,
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

const CLUSTERS: usize = 100;
const APPLICATIONS: usize = 10_000;
const RUNS: usize = 7;
const NOW: Timestamp = Timestamp::constant(1_770_400_800, 0);

fn main() {
    let cases = [
        ("placing", fleet(false, false)),
        ("moving", fleet(true, true)),
        ("steady", fleet(true, false)),
        ("losing", lose(fleet(true, false))),
    ];
    let json = std::env::args().any(|argument| argument == "--json");
    let mut lines = Vec::new();
    for (name, snapshot) in cases {
        let best = (0..RUNS)
            .map(|_| measure(&snapshot))
            .min()
            .unwrap_or_default();
        let rate = APPLICATIONS as f64 / best.as_secs_f64();
        if json {
            lines.push(format!(
                "\"{name}\": {{\"seconds\": {:.6}, \"applicationsPerSecond\": {rate:.0}}}",
                best.as_secs_f64()
            ));
        } else {
            println!(
                "{name:<8} {:>8.1} ms  {rate:>9.0} applications/s",
                best.as_secs_f64() * 1e3
            );
        }
    }
    if json {
        let cases = lines.join(", ");
        println!("{{\"clusters\": {CLUSTERS}, \"applications\": {APPLICATIONS}, {cases}}}");
    }
}

fn measure(snapshot: &Snapshot) -> Duration {
    let begin = Instant::now();
    let planned = plan(black_box(snapshot), NOW);
    let taken = begin.elapsed();
    let decided = |decision: &Decision| !matches!(decision, Decision::NotYet);
    assert!(
        planned
            .applications
            .iter()
            .all(|one| decided(&one.decision))
    );
    taken
}

/// Every tenth cluster is under a law that half of the policies forbid.
fn fleet(placed: bool, forbidden: bool) -> Snapshot {
    let mut snapshot = Snapshot {
        settings: Settings {
            concurrent_moves: APPLICATIONS,
            ..Settings::default()
        },
        ..Snapshot::default()
    };
    for index in 0..CLUSTERS {
        let foreign = index % 10 == 0;
        let name: Name = format!("cluster-{index:03}").into();
        let provider: Name = format!("provider-{index:03}").into();
        snapshot
            .providers
            .insert(provider.clone(), Arc::new(provider_of(&provider, foreign)));
        snapshot
            .clusters
            .insert(name.clone(), Arc::new(cluster(&name, &provider)));
    }
    for index in 0..10 {
        let policy = policy(index, forbidden || !placed);
        snapshot
            .policies
            .insert(policy.name.clone(), Arc::new(policy));
    }
    snapshot.applications = (0..APPLICATIONS)
        .map(|index| application(index, placed))
        .collect();
    snapshot
}

/// A tenth of the applications loses its cluster.
fn lose(mut snapshot: Snapshot) -> Snapshot {
    if let Some(cluster) = snapshot.clusters.get_mut("cluster-000") {
        Arc::make_mut(cluster).reach = Reach::Unreachable { since: NOW };
    }
    snapshot
}

fn country(code: &str) -> BTreeSet<Country> {
    Country::new(code).into_iter().collect()
}

fn provider_of(name: &Name, foreign: bool) -> Provider {
    let because = "headquarters".to_owned();
    Provider {
        name: name.clone(),
        jurisdictions: country(if foreign { "CN" } else { "FR" })
            .into_iter()
            .map(|country| JurisdictionFact {
                country,
                because: because.clone(),
            })
            .collect(),
        unknown: Vec::new(),
        certifications: Vec::new(),
    }
}

fn kinds() -> BTreeSet<Kind> {
    ["Deployment", "StatefulSet"]
        .into_iter()
        .map(|kind| Kind {
            api_version: "apps/v1".into(),
            kind: kind.into(),
        })
        .collect()
}

fn cluster(name: &Name, provider: &Name) -> Cluster {
    Cluster {
        name: name.clone(),
        provider: provider.clone(),
        residency: Country::new("DE"),
        reach: Reach::Reachable,
        kinds: Some(Arc::new(kinds())),
        ..Cluster::default()
    }
}

fn policy(index: usize, forbids: bool) -> Policy {
    Policy {
        name: format!("policy-{index}").into(),
        sensitivities: Sensitivity::ALL.into_iter().collect(),
        residency_allowed: None,
        jurisdiction_allowed: None,
        jurisdiction_forbidden: country(if forbids && index.is_multiple_of(2) {
            "CN"
        } else {
            "US"
        }),
        certifications: Vec::new(),
        refused_providers: BTreeSet::new(),
        enforce: true,
        effective_from: None,
        complete_by: None,
        invalid: None,
    }
}

/// Placed applications run on the clusters under the foreign law.
fn application(index: usize, placed: bool) -> Application {
    let home: Name = format!("cluster-{:03}", index % 10 * 10).into();
    let sensitivity = Sensitivity::ALL[index % Sensitivity::ALL.len()];
    let copy = CopyObservation {
        observed: true,
        current: 3,
        declared: 3,
        present: 3,
        workloads_ready: 1,
        workloads: 1,
        endpoints: 2,
        endpoints_at_edge: Some(2),
        refused: None,
        hidden: None,
        service: flambeau_planner::model::Service::Unknown,
        reached: None,
    };
    let mut application = Application {
        spec: Arc::new(spec(index, sensitivity)),
        deleting: false,
        record: Arc::default(),
        copies: BTreeMap::new(),
        edge: EdgeObservation::default(),
        migrations: Vec::new(),
    };
    if placed {
        application.copies.insert(home.clone(), copy);
        application.edge.weights.insert(home.clone(), 100);
        application.edge.acknowledged = true;
        application.record = Arc::new(ApplicationRecord {
            epoch: 1,
            placements: vec![Placement {
                cluster: home,
                role: Role::Active,
                epoch: 1,
                since: NOW,
            }],
            ..ApplicationRecord::default()
        });
    }
    application
}

fn spec(index: usize, sensitivity: Sensitivity) -> ApplicationSpec {
    ApplicationSpec {
        key: ApplicationKey {
            namespace: "games".into(),
            name: format!("application-{index:05}").into(),
        },
        sensitivity,
        criticality: Criticality::Important,
        kinds: kinds(),
        traffic: true,
        preferred: vec![format!("cluster-{:03}", index % CLUSTERS).into()],
        strategy: Strategy {
            stages: vec![25, 50, 75, 100],
            stage: SignedDuration::from_secs(5),
            soak: SignedDuration::from_secs(10),
            drain: SignedDuration::from_secs(30),
            ready_timeout: SignedDuration::from_secs(300),
        },
        failover: flambeau_planner::model::Failover::default(),
        demand: flambeau_planner::model::Resources::default(),
        recovery_time: None,
        depends_on: Vec::new(),
        invalid: None,
    }
}
