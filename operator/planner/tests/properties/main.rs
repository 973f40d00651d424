//! What holds for every fleet.

mod fleets;
#[path = "../support/oracle.rs"]
mod oracle;
mod refusals;

use flambeau_planner::{
    Plan,
    desired::Copy,
    fleet::{Decision, Motive},
    model::{ApplicationKey, Freeze, Placement, Reach, Role, Sensitivity, Service},
    plan,
};
use fleets::{CLUSTERS, NOW, named, snapshot, time};
use oracle::lawful;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
