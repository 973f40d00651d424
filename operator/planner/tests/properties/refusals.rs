//! What one more policy does: it can only refuse. Whom it does not concern
//! notices nothing, and whoever it leaves nowhere to go stays.

use crate::{
    fleets::{CLUSTERS, NOW, policy, snapshot, time},
    oracle::lawful,
};
use flambeau_planner::{
    ApplicationPlan, Plan, Reason,
    desired::Copy,
    fleet::{Decision, Motive},
    model::{Application, Name, Policy, Reach, Sensitivity, Snapshot},
    plan,
};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Where an application is to go, at once or as soon as something else is over.
fn target(decision: &Decision) -> Option<&Name> {
    match decision {
        Decision::Move { to, .. }
        | Decision::WaitForBudget { to, .. }
        | Decision::WaitForDependency { to, .. }
        | Decision::WaitForThaw { to, .. } => Some(to),
        _ => None,
    }
}

/// What is decided, without the words: they name the policies that refuse.
fn essence(decision: &Decision) -> Decision {
    let mut essence = decision.clone();
    match &mut essence {
        Decision::Move { reason, .. } => reason.clear(),
        Decision::Stalled { reason, message } => {
            *reason = Reason::NoLawfulCluster;
            message.clear();
        }
        _ => {}
    }
    essence
}

/// The fleet under one policy more.
fn with(snapshot: &Snapshot, policy: Policy) -> Snapshot {
    let mut stricter = snapshot.clone();
    let name: Name = "one-more".into();
    let policy = Policy {
        name: name.clone(),
        ..policy
    };
    stricter.policies.insert(name, Arc::new(policy));
    stricter
}

/// A policy that refuses nothing by itself.
fn empty() -> Policy {
    Policy {
        name: Name::default(),
        sensitivities: Sensitivity::ALL.into_iter().collect(),
        residency_allowed: None,
        jurisdiction_allowed: None,
        jurisdiction_forbidden: BTreeSet::new(),
        certifications: Vec::new(),
        refused_providers: BTreeSet::new(),
        enforce: true,
        effective_from: None,
        complete_by: None,
        invalid: None,
    }
}

/// One provider is refused, to the data of some sensitivities.
fn refusal() -> impl Strategy<Value = Policy> {
    let sensitivities = proptest::collection::btree_set(select(Sensitivity::ALL.to_vec()), 1..5);
    (select(CLUSTERS.to_vec()), sensitivities).prop_map(|(provider, sensitivities)| Policy {
        sensitivities,
        refused_providers: BTreeSet::from([provider.into()]),
        ..empty()
    })
}

/// Anything that could be signed: named providers, countries, certificates,
/// not in force yet, or not enforced.
fn one_more() -> impl Strategy<Value = Policy> {
    prop_oneof![3 => refusal(), 1 => policy()]
}

/// A fleet before and after one more policy, as the law and the planner see it.
struct Signed {
    before: (Snapshot, Plan),
    after: (Snapshot, Plan),
}

impl Signed {
    fn new(snapshot: Snapshot, policy: Policy) -> Self {
        let stricter = with(&snapshot, policy);
        let plans = (plan(&snapshot, NOW), plan(&stricter, NOW));
        Self {
            before: (snapshot, plans.0),
            after: (stricter, plans.1),
        }
    }

    /// Each application with what is planned before and after.
    fn applications(
        &self,
    ) -> impl Iterator<Item = (&Application, &ApplicationPlan, &ApplicationPlan)> {
        let plans = self.before.1.applications.iter();
        let both = plans.zip(&self.after.1.applications);
        let applications = self.before.0.applications.iter();
        applications
            .zip(both)
            .map(|(application, (before, after))| (application, before, after))
    }

    /// Whether the policy, and no other, refuses an application a cluster.
    fn refuses(&self, application: &Application, cluster: &str) -> bool {
        let sensitivity = application.spec.sensitivity;
        lawful(&self.before.0, cluster, sensitivity, NOW)
            && !lawful(&self.after.0, cluster, sensitivity, NOW)
    }

    /// Whether the policy refuses an application a cluster where it is, would
    /// go, or might go as far as anybody knows.
    fn concerns(&self, application: &Application, before: &ApplicationPlan) -> bool {
        CLUSTERS.into_iter().any(|cluster| {
            let uses = application.record.on(cluster).is_some()
                || before.record.on(cluster).is_some()
                || target(&before.decision).is_some_and(|to| **to == *cluster)
                || before.decision == Decision::NotYet
                || self.before.0.clusters[cluster].reach == Reach::NotObserved;
            uses && self.refuses(application, cluster)
        })
    }
}

/// Nobody leaves but those whose place the policy refuses; they go by law, and
/// to where it allows. Counts those that leave because of it.
fn only_the_refused_leave(signed: &Signed) -> Result<usize, TestCaseError> {
    let mut driven_away = 0;
    for (application, before, after) in signed.applications() {
        let (Some(to), Some(active)) = (target(&after.decision), application.record.active())
        else {
            continue;
        };
        let key = &application.spec.key;
        prop_assert!(!signed.refuses(application, to), "{} to {}", key, to);
        // Whoever does not know where to go yet wants to leave already.
        if target(&before.decision).is_some() || before.decision == Decision::NotYet {
            continue;
        }
        let refused = signed.refuses(application, &active.cluster);
        prop_assert!(
            refused,
            "{}: {:?}, then {:?}",
            key,
            before.decision,
            after.decision
        );
        if let Decision::Move { motive, .. } = &after.decision {
            prop_assert_eq!(motive, &Motive::Policy);
        }
        driven_away += 1;
    }
    Ok(driven_away)
}

/// Where nobody is and nobody goes may be refused without anything changing:
/// no decision, no record, nothing on members, no weight. Says whether that
/// was the case.
fn the_unconcerned_notice_nothing(signed: &Signed) -> Result<bool, TestCaseError> {
    let refuses_something = signed.applications().any(|(application, ..)| {
        CLUSTERS
            .into_iter()
            .any(|cluster| signed.refuses(application, cluster))
    });
    let mut applications = signed.applications();
    if applications.any(|(application, before, _)| signed.concerns(application, before)) {
        return Ok(false);
    }
    for (_, before, after) in signed.applications() {
        prop_assert_eq!(essence(&before.decision), essence(&after.decision));
        prop_assert_eq!(&before.record, &after.record);
        prop_assert_eq!(&before.desired, &after.desired);
    }
    Ok(refuses_something)
}

/// Whatever the policy says, what an application has left is not taken from
/// it: the copy that serves stays written, and keeps its requests.
fn the_active_copy_is_not_touched(signed: &Signed) -> Result<(), TestCaseError> {
    for (application, before, after) in signed.applications() {
        let Some(active) = application
            .record
            .active()
            .filter(|_| !application.deleting)
        else {
            continue;
        };
        let cluster = &active.cluster;
        prop_assert_ne!(after.desired.copies.get(cluster), Some(&Copy::Absent));
        let weights = |planned: &ApplicationPlan| planned.desired.weights.get(cluster).copied();
        prop_assert_eq!(weights(before), weights(after));
        let kept = after.record.active().map(|active| &active.cluster);
        prop_assert_eq!(kept, Some(cluster));
    }
    Ok(())
}

/// One property over many fleets, with what they led to.
#[test]
fn one_more_refusal_moves_nobody_but_those_that_it_refuses() {
    let config = Config {
        cases: 2_048,
        failure_persistence: None,
        ..Config::default()
    };
    let (left, unconcerned) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&(snapshot(), one_more()), |(snapshot, policy)| {
        let signed = Signed::new(snapshot, policy);
        left.set(left.get() + only_the_refused_leave(&signed)?);
        let unnoticed = the_unconcerned_notice_nothing(&signed)?;
        unconcerned.set(unconcerned.get() + usize::from(unnoticed));
        the_active_copy_is_not_touched(&signed)
    });
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    let reached = (left.get(), unconcerned.get());
    assert!(reached.0 > 30 && reached.1 > 30, "{reached:?}");
}

proptest! {
    #![proptest_config(Config { cases: 512, failure_persistence: None, ..Config::default() })]

    #[test]
    fn what_is_refused_everywhere_stays(snapshot in snapshot()) {
        let everywhere = Policy {
            refused_providers: CLUSTERS.into_iter().map(Name::from).collect(),
            ..empty()
        };
        let signed = Signed::new(snapshot, everywhere);
        for (_, _, after) in signed.applications() {
            prop_assert_eq!(target(&after.decision), None);
            let placed = matches!(after.decision, Decision::Place { .. });
            prop_assert!(!placed);
        }
        the_active_copy_is_not_touched(&signed)?;
    }

    #[test]
    fn a_policy_does_nothing_before_it_is_in_force(snapshot in snapshot(), policy in refusal()) {
        let later = Policy { effective_from: Some(time(1)), ..policy.clone() };
        let audited = Policy { enforce: false, ..policy };
        for idle in [later, audited] {
            let signed = Signed::new(snapshot.clone(), idle);
            for (_, before, after) in signed.applications() {
                prop_assert_eq!(&before.decision, &after.decision);
                prop_assert_eq!(&before.record, &after.record);
                prop_assert_eq!(&before.desired, &after.desired);
            }
        }
    }

    #[test]
    fn two_policies_refuse_what_either_refuses(
        snapshot in snapshot(),
        one in one_more(),
        other in one_more(),
    ) {
        let either = [&one, &other].map(|policy| with(&snapshot, policy.clone()));
        let mut both = with(&snapshot, one);
        both.policies.insert("another".into(), Arc::new(Policy { name: "another".into(), ..other }));
        let chosen: BTreeMap<_, _> = plan(&both, NOW)
            .applications
            .into_iter()
            .filter_map(|planned| Some((planned.key.clone(), target(&planned.decision)?.clone())))
            .collect();
        for application in &snapshot.applications {
            let Some(to) = chosen.get(&application.spec.key) else {
                continue;
            };
            for alone in &either {
                prop_assert!(lawful(alone, to, application.spec.sensitivity, NOW));
            }
        }
    }
}
