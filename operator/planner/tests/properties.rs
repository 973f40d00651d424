//! What holds for every fleet.

#[path = "support/oracle.rs"]
mod oracle;

use flambeau_planner::{
    Plan,
    desired::Copy,
    fleet::{Decision, Motive},
    model::{
        Application, ApplicationKey, ApplicationRecord, ApplicationSpec, Certification,
        CertificationRule, Cluster, CopyObservation, Country, Criticality, EdgeObservation,
        Failover, Freeze, JurisdictionFact, Name, Placement, Policy, Provider, Reach, Role,
        Sensitivity, Service, Settings, Snapshot, Strategy as Pace,
    },
    plan,
};
use jiff::{SignedDuration, Timestamp};
use oracle::lawful;
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const NOW: Timestamp = Timestamp::constant(1_770_400_800, 0);
const CLUSTERS: [&str; 4] = ["north", "south", "east", "west"];

fn time(seconds: i64) -> Timestamp {
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

fn policy() -> impl Strategy<Value = Policy> {
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
        0..2usize,
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
        proptest::option::weighted(0.3, select(CLUSTERS.to_vec())),
    )
        .prop_map(
            |(sensitivity, active, retiring, copies, weights, flags, failover, standby)| {
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
                        ..spec(sensitivity)
                    }),
                    deleting: flags[0] && flags[1] && flags[2],
                    record: Arc::new(ApplicationRecord {
                        epoch: i64::from(active.is_some()),
                        placements,
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
    (proptest::bool::weighted(0.8), standby, 0..20i64).prop_map(|(automatic, standby, cooldown)| {
        Failover {
            automatic,
            standby,
            cooldown: SignedDuration::from_secs(cooldown),
            ..Failover::default()
        }
    })
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

fn snapshot() -> impl Strategy<Value = Snapshot> {
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
    )
        .prop_map(|(clusters, providers, policies, applications)| Snapshot {
            services_since: None,
            providers: [providers.0, providers.1, providers.2, providers.3]
                .into_iter()
                .map(|provider| (provider.name.clone(), Arc::new(provider)))
                .collect(),
            clusters: [clusters.0, clusters.1, clusters.2, clusters.3]
                .into_iter()
                .map(|cluster| (cluster.name.clone(), Arc::new(cluster)))
                .collect(),
            policies: named(policies),
            evacuations: BTreeMap::new(),
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
        })
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

fn named(policies: Vec<Policy>) -> BTreeMap<Name, Arc<Policy>> {
    policies
        .into_iter()
        .enumerate()
        .map(|(index, policy)| {
            let name: Name = format!("policy-{index}").into();
            (name.clone(), Arc::new(Policy { name, ..policy }))
        })
        .collect()
}

/// What is decided, by application; reasons may name another policy first.
fn choices(plan: &Plan) -> BTreeMap<ApplicationKey, String> {
    plan.applications
        .iter()
        .map(|application| {
            let choice = match &application.decision {
                Decision::Move {
                    from,
                    to,
                    migration,
                    ..
                } => format!("{from} {to} {migration}"),
                Decision::Stalled { reason, .. } => format!("stalled {reason}"),
                other => format!("{other:?}"),
            };
            (application.key.clone(), choice)
        })
        .collect()
}

/// Applications that the law drives away from where they are.
fn needed(snapshot: &Snapshot) -> BTreeSet<ApplicationKey> {
    plan(snapshot, NOW)
        .applications
        .iter()
        .filter(|application| {
            application
                .judgement
                .as_ref()
                .is_some_and(|judgement| !judgement.lawful())
        })
        .map(|application| application.key.clone())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_choice_is_ever_unlawful(snapshot in snapshot()) {
        for (application, planned) in snapshot.applications.iter().zip(plan(&snapshot, NOW).applications) {
            let chosen = match planned.decision {
                Decision::Place { cluster } => cluster,
                Decision::Move { to, .. }
                | Decision::WaitForBudget { to, .. }
                | Decision::WaitForDependency { to, .. } => to,
                _ => continue,
            };
            prop_assert!(lawful(&snapshot, &chosen, application.spec.sensitivity, NOW));
            prop_assert_eq!(&snapshot.clusters[&chosen].reach, &Reach::Reachable);
        }
    }

    #[test]
    fn the_planner_reads_the_law_as_it_stands(snapshot in snapshot()) {
        let law = flambeau_planner::law::LawBook::new(&snapshot, NOW);
        for cluster in CLUSTERS.iter().chain(["nowhere"].iter()) {
            for sensitivity in Sensitivity::ALL {
                let judged = law.judge(cluster, sensitivity).lawful();
                prop_assert_eq!(judged, lawful(&snapshot, cluster, sensitivity, NOW));
            }
        }
    }

    #[test]
    fn the_order_of_policies_does_not_matter(snapshot in snapshot()) {
        let mut turned = snapshot.clone();
        turned.policies = named(snapshot.policies.values().rev().map(|policy| (**policy).clone()).collect());
        prop_assert_eq!(choices(&plan(&snapshot, NOW)), choices(&plan(&turned, NOW)));
    }

    #[test]
    fn the_order_of_applications_does_not_matter(snapshot in snapshot()) {
        let mut turned = snapshot.clone();
        turned.applications.reverse();
        prop_assert_eq!(choices(&plan(&snapshot, NOW)), choices(&plan(&turned, NOW)));
    }

    #[test]
    fn the_same_snapshot_gives_the_same_plan(snapshot in snapshot()) {
        let (one, other) = (plan(&snapshot, NOW), plan(&snapshot.clone(), NOW));
        prop_assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }

    #[test]
    fn refusing_an_empty_cluster_drives_nobody_away(snapshot in snapshot(), refused in select(CLUSTERS.to_vec())) {
        let used = snapshot.applications.iter().any(|application| {
            application.record.active().is_some_and(|active| &*active.cluster == refused)
        });
        prop_assume!(!used);
        let before = needed(&snapshot);
        let mut stricter = snapshot;
        let ban = Policy {
            name: "ban".into(),
            sensitivities: Sensitivity::ALL.into_iter().collect(),
            residency_allowed: None,
            jurisdiction_allowed: None,
            jurisdiction_forbidden: BTreeSet::new(),
            certifications: Vec::new(),
            refused_providers: BTreeSet::from([refused.into()]),
            enforce: true,
            effective_from: None,
            complete_by: None,
            invalid: None,
        };
        // A newly placed application is not driven away, it goes elsewhere.
        stricter.applications.retain(|application| application.record.active().is_some());
        let before: BTreeSet<_> = before
            .into_iter()
            .filter(|key| stricter.applications.iter().any(|application| application.spec.key == *key))
            .collect();
        stricter.policies.insert("ban".into(), Arc::new(ban));
        prop_assert_eq!(needed(&stricter), before);
    }

    #[test]
    fn a_copy_goes_only_when_it_is_not_needed(snapshot in snapshot()) {
        for (application, planned) in snapshot.applications.iter().zip(plan(&snapshot, NOW).applications) {
            if application.deleting {
                continue;
            }
            let active = application.record.active().map(|active| active.cluster.clone());
            let served = active.as_ref().is_some_and(|active| snapshot.serves(application, active));
            for (cluster, copy) in &planned.desired.copies {
                if *copy != Copy::Absent {
                    continue;
                }
                let seen = &application.copies[cluster];
                prop_assert_ne!(Some(cluster), active.as_ref());
                prop_assert!(served || (seen.observed && seen.endpoints == 0));
                prop_assert!(application.edge.acknowledged);
                prop_assert_eq!(application.edge.weights.get(cluster).copied().unwrap_or(0), 0);
            }
        }
    }

    #[test]
    fn the_budgets_are_never_exceeded(snapshot in snapshot()) {
        let plan = plan(&snapshot, NOW);
        let begun = |planned: bool| {
            let moves = plan.applications.iter().filter(|application| {
                matches!(&application.decision, Decision::Move { motive, .. } if motive.planned() == planned)
            });
            moves.count()
        };
        prop_assert!(begun(true) <= snapshot.settings.concurrent_moves);
        prop_assert!(begun(false) <= snapshot.settings.concurrent_failovers);
    }

    #[test]
    fn only_what_is_lost_and_may_go_is_failed_over(snapshot in snapshot()) {
        for (application, planned) in snapshot.applications.iter().zip(plan(&snapshot, NOW).applications) {
            let Decision::Move { from, motive: Motive::Loss(_), .. } = planned.decision else {
                continue;
            };
            prop_assert!(application.spec.failover.automatic);
            prop_assert!(!snapshot.hub_suspect(NOW));
            let service = application.copies[&from].service;
            prop_assert!(!service.answers());
            let cluster = &snapshot.clusters[&from];
            let lost = matches!(cluster.reach, Reach::Unreachable { .. }) && !cluster.services_answer;
            let silent = matches!(service, Service::Silent { since }
                if NOW.duration_since(since) >= application.spec.failover.unhealthy_after);
            prop_assert!(lost || silent);
            if let (false, Service::Silent { since }) = (lost, service) {
                let copies = || snapshot.applications.iter().flat_map(|one| &one.copies);
                let witness = copies().any(|(_, copy)| copy.reached > Some(since));
                let awaited = snapshot.applications.iter().any(|one| {
                    let active = one.record.active().filter(|active| active.cluster != from);
                    let reached = active.and_then(|active| one.copies.get(&active.cluster)?.reached);
                    reached.is_some_and(|reached| NOW.duration_since(reached) < snapshot.settings.hub_window)
                });
                prop_assert!(witness || !awaited, "another cluster may be about to fall silent");
            }
        }
    }

    #[test]
    fn a_standby_is_lawful_alone_and_without_requests(snapshot in snapshot()) {
        for (application, planned) in snapshot.applications.iter().zip(plan(&snapshot, NOW).applications) {
            let standbys: Vec<&Placement> = planned
                .record
                .placements
                .iter()
                .filter(|placement| placement.role == Role::Standby)
                .collect();
            prop_assert!(standbys.len() <= 1);
            for standby in standbys {
                let sensitivity = application.spec.sensitivity;
                prop_assert!(application.deleting || lawful(&snapshot, &standby.cluster, sensitivity, NOW));
                let weight = planned.desired.weights.get(&standby.cluster).copied().unwrap_or(0);
                let before = application.edge.weights.get(&standby.cluster).copied().unwrap_or(0);
                prop_assert!(weight <= before);
            }
        }
    }

    #[test]
    fn a_planned_move_waits_for_the_end_of_a_freeze(snapshot in snapshot()) {
        let mut frozen = snapshot;
        let freeze = Freeze {
            name: "ceremony".into(),
            from: NOW,
            until: time(1),
            namespaces: BTreeSet::new(),
            reason: "opening ceremony".to_owned(),
        };
        frozen.freezes.insert("ceremony".into(), Arc::new(freeze));
        for planned in plan(&frozen, NOW).applications {
            if let Decision::Move { motive, .. } = planned.decision {
                prop_assert!(!motive.planned());
            }
        }
        for planned in plan(&frozen, time(1)).applications {
            let waits = matches!(planned.decision, Decision::WaitForThaw { .. });
            prop_assert!(!waits);
        }
    }

    #[test]
    fn what_is_not_known_is_not_forgotten(snapshot in snapshot()) {
        for (application, planned) in snapshot.applications.iter().zip(plan(&snapshot, NOW).applications) {
            for placement in &application.record.placements {
                let known = snapshot.reaches(&placement.cluster)
                    && application.copies[&placement.cluster].absent();
                prop_assert!(known || planned.record.on(&placement.cluster).is_some());
            }
        }
    }
}
