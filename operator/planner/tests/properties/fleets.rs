//! Fleets of every kind: facts, policies, applications where they are.

use flambeau_planner::model::{
    Application, ApplicationKey, ApplicationRecord, ApplicationSpec, Certification,
    CertificationRule, Cluster, CopyObservation, Country, Criticality, EdgeObservation, Evacuation,
    Failover, JurisdictionFact, Name, Placement, Policy, Provider, Reach, Role, Sensitivity,
    Service, Settings, Snapshot, Strategy as Pace,
};
use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub const NOW: Timestamp = Timestamp::constant(1_770_400_800, 0);
pub const CLUSTERS: [&str; 4] = ["north", "south", "east", "west"];

pub fn time(seconds: i64) -> Timestamp {
    NOW.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(NOW)
}

fn country() -> impl Strategy<Value = Country> {
    select(vec!["CN", "DE", "FR", "US"]).prop_filter_map("a country", Country::new)
}

fn countries() -> impl Strategy<Value = BTreeSet<Country>> {
    vec(country(), 1..3).prop_map(|list| list.into_iter().collect())
}

fn provider(name: &'static str) -> impl Strategy<Value = Provider> {
    let certification = (-5..5i64, any::<bool>()).prop_map(|(until, everywhere)| Certification {
        scheme: "SecNumCloud".to_owned(),
        level: None,
        clusters: if everywhere {
            BTreeSet::new()
        } else {
            BTreeSet::from(["north".into()])
        },
        valid_until: time(until),
    });
    (
        vec(country(), 0..3),
        proptest::bool::weighted(0.2),
        vec(certification, 0..2),
    )
        .prop_map(move |(countries, unknown, certifications)| Provider {
            name: name.into(),
            jurisdictions: countries
                .into_iter()
                .map(|country| JurisdictionFact {
                    country,
                    because: "office".to_owned(),
                })
                .collect(),
            unknown: if unknown {
                vec!["an owner".to_owned()]
            } else {
                Vec::new()
            },
            certifications,
        })
}

fn cluster(name: &'static str) -> impl Strategy<Value = Cluster> {
    let reach = prop_oneof![
        8 => Just(Reach::Reachable),
        1 => Just(Reach::NotObserved),
        1 => Just(Reach::Unreachable { since: NOW }),
    ];
    (
        proptest::option::weighted(0.9, country()),
        proptest::bool::weighted(0.1),
        reach,
        any::<[bool; 2]>(),
    )
        .prop_map(move |(residency, cordoned, reach, flags)| Cluster {
            name: name.into(),
            provider: name.into(),
            residency,
            cordoned,
            services_answer: flags[0] && flags[1],
            answers_since: (reach == Reach::Reachable).then_some(time(-5)),
            returned: flags[0] && !flags[1],
            reach,
            ..Cluster::default()
        })
}

pub fn policy() -> impl Strategy<Value = Policy> {
    (
        vec(select(Sensitivity::ALL.to_vec()), 1..4),
        proptest::option::weighted(0.3, countries()),
        proptest::option::weighted(0.3, countries()),
        proptest::option::weighted(0.5, countries()),
        any::<[bool; 2]>(),
        proptest::option::of(-2..3i64),
        proptest::bool::weighted(0.2),
    )
        .prop_map(
            |(sensitivities, residency, allowed, forbidden, flags, from, refuses)| Policy {
                name: "".into(),
                sensitivities: sensitivities.into_iter().collect(),
                residency_allowed: residency,
                jurisdiction_allowed: allowed,
                jurisdiction_forbidden: forbidden.unwrap_or_default(),
                certifications: if flags[0] && flags[1] {
                    vec![CertificationRule {
                        scheme: "SecNumCloud".to_owned(),
                        levels: BTreeSet::new(),
                    }]
                } else {
                    Vec::new()
                },
                refused_providers: if refuses {
                    BTreeSet::from(["east".into()])
                } else {
                    BTreeSet::new()
                },
                enforce: flags[0] || flags[1],
                effective_from: from.map(time),
                complete_by: None,
                invalid: None,
            },
        )
}

fn copy() -> impl Strategy<Value = CopyObservation> {
    (
        proptest::bool::weighted(0.9),
        0..2usize,
        0..2usize,
        proptest::option::weighted(0.9, 0..2usize),
        service(),
        proptest::option::of(-120..0i64),
    )
        .prop_map(
            |(observed, present, endpoints, at_edge, service, reached)| CopyObservation {
                observed,
                current: present * 3,
                declared: 3,
                present: present * 3,
                workloads_ready: present * endpoints,
                workloads: 1,
                endpoints: present * endpoints,
                endpoints_at_edge: at_edge,
                refused: None,
                hidden: None,
                service,
                reached: reached.map(time),
            },
        )
}

fn application() -> impl Strategy<Value = Application> {
    (
        select(Sensitivity::ALL.to_vec()),
        proptest::option::weighted(0.8, select(CLUSTERS.to_vec())),
        proptest::option::weighted(0.3, select(CLUSTERS.to_vec())),
        vec(copy(), CLUSTERS.len()),
        vec(0..101u8, 1),
        any::<[bool; 3]>(),
        failover(),
        [0.3, 0.2, 0.4].map(|chance| proptest::option::weighted(chance, select(CLUSTERS.to_vec()))),
    )
        .prop_map(
            |(sensitivity, active, retiring, copies, weights, flags, failover, others)| {
                let [standby, home, preferred] = others;
                let mut placements = Vec::new();
                let mut put = |cluster: Option<&str>, role| {
                    placements.extend(cluster.map(|cluster| Placement {
                        cluster: cluster.into(),
                        role,
                        epoch: 1,
                        since: NOW,
                    }));
                };
                put(active, Role::Active);
                put(
                    retiring.filter(|cluster| Some(*cluster) != active),
                    Role::Retiring,
                );
                let free = |cluster: &&str| Some(*cluster) != active && Some(*cluster) != retiring;
                put(standby.filter(free), Role::Standby);
                let mut edge = EdgeObservation {
                    acknowledged: flags[0],
                    ..EdgeObservation::default()
                };
                for (cluster, weight) in active.iter().zip([100 - weights[0]]) {
                    edge.weights.insert((*cluster).into(), weight);
                }
                for cluster in retiring.iter().filter(|_| flags[1]) {
                    edge.weights.entry((*cluster).into()).or_insert(weights[0]);
                }
                Application {
                    spec: Arc::new(ApplicationSpec {
                        failover,
                        preferred: preferred.into_iter().map(Name::from).collect(),
                        ..spec(sensitivity)
                    }),
                    deleting: flags[0] && flags[1] && flags[2],
                    record: Arc::new(ApplicationRecord {
                        epoch: i64::from(active.is_some()),
                        placements,
                        failed_over_from: home.map(Name::from),
                        ..ApplicationRecord::default()
                    }),
                    copies: CLUSTERS.into_iter().map(Name::from).zip(copies).collect(),
                    edge,
                    migrations: Vec::new(),
                }
            },
        )
}

fn failover() -> impl Strategy<Value = Failover> {
    let standby = proptest::option::weighted(0.4, 0..2u32);
    let failback = proptest::option::weighted(0.5, 0..10i64);
    (proptest::bool::weighted(0.8), standby, 0..20i64, failback).prop_map(
        |(automatic, standby, cooldown, failback)| Failover {
            automatic,
            standby,
            cooldown: SignedDuration::from_secs(cooldown),
            failback_after: failback.map(SignedDuration::from_secs),
            ..Failover::default()
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    prop_oneof![
        4 => Just(Service::Answers),
        2 => Just(Service::Unknown),
        2 => (-30..0i64).prop_map(|since| Service::Silent { since: time(since) }),
    ]
}

fn spec(sensitivity: Sensitivity) -> ApplicationSpec {
    ApplicationSpec {
        key: ApplicationKey {
            namespace: "games".into(),
            name: "".into(),
        },
        sensitivity,
        criticality: Criticality::Important,
        kinds: BTreeSet::new(),
        traffic: true,
        preferred: Vec::new(),
        strategy: Pace {
            stages: vec![100],
            stage: SignedDuration::from_secs(1),
            soak: SignedDuration::from_secs(1),
            drain: SignedDuration::from_secs(1),
            ready_timeout: SignedDuration::from_secs(10),
        },
        failover: Failover::default(),
        demand: flambeau_planner::model::Resources::default(),
        recovery_time: None,
        depends_on: Vec::new(),
        invalid: None,
    }
}

pub fn snapshot() -> impl Strategy<Value = Snapshot> {
    let clusters = (
        cluster(CLUSTERS[0]),
        cluster(CLUSTERS[1]),
        cluster(CLUSTERS[2]),
        cluster(CLUSTERS[3]),
    );
    let providers = (
        provider(CLUSTERS[0]),
        provider(CLUSTERS[1]),
        provider(CLUSTERS[2]),
        provider(CLUSTERS[3]),
    );
    (
        clusters,
        providers,
        vec(policy(), 0..4),
        vec(application(), 0..6),
        proptest::option::weighted(0.2, evacuation()),
    )
        .prop_map(
            |(clusters, providers, policies, applications, evacuation)| Snapshot {
                services_since: None,
                clock_since: None,
                providers: [providers.0, providers.1, providers.2, providers.3]
                    .into_iter()
                    .map(|provider| (provider.name.clone(), Arc::new(provider)))
                    .collect(),
                clusters: [clusters.0, clusters.1, clusters.2, clusters.3]
                    .into_iter()
                    .map(|cluster| (cluster.name.clone(), Arc::new(cluster)))
                    .collect(),
                policies: named(policies),
                evacuations: evacuation
                    .map(|one| (one.name.clone(), Arc::new(one)))
                    .into_iter()
                    .collect(),
                freezes: BTreeMap::new(),
                applications: applications
                    .into_iter()
                    .enumerate()
                    .map(|(index, mut application)| {
                        let name = format!("application-{index}").into();
                        Arc::make_mut(&mut application.spec).key.name = name;
                        application
                    })
                    .collect(),
                settings: Settings::default(),
            },
        )
        .prop_map(|mut snapshot| {
            // What one application says there is true of its cluster.
            for application in &snapshot.applications {
                for (name, copy) in &application.copies {
                    if copy.service == Service::Answers
                        && let Some(cluster) = snapshot.clusters.get_mut(name)
                    {
                        Arc::make_mut(cluster).services_answer = true;
                    }
                }
            }
            snapshot
        })
}

fn evacuation() -> impl Strategy<Value = Evacuation> {
    let to = proptest::option::weighted(0.3, select(CLUSTERS.to_vec()));
    (select(CLUSTERS.to_vec()), to).prop_map(|(cluster, to)| Evacuation {
        name: "maintenance".into(),
        cluster: Some(cluster.into()),
        to: to.into_iter().map(Name::from).collect(),
        ..Evacuation::default()
    })
}

pub fn named(policies: Vec<Policy>) -> BTreeMap<Name, Arc<Policy>> {
    policies
        .into_iter()
        .enumerate()
        .map(|(index, policy)| {
            let name: Name = format!("policy-{index}").into();
            (name.clone(), Arc::new(Policy { name, ..policy }))
        })
        .collect()
}
