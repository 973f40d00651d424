use super::*;
use crate::{
    model::{FailedTarget, Placement, Role},
    testing::{
        NOW, application, apply, change_cluster, change_spec, fleet, forbid, later, running,
    },
};
use std::sync::Arc;

fn choose(application: &Application, snapshot: &Snapshot) -> (Choice, Vec<Reason>) {
    let law = LawBook::new(snapshot, NOW);
    let ledger = Ledger {
        load: Load::from([("a".into(), 2), ("b".into(), 1)]),
        requested: BTreeMap::new(),
    };
    let (choice, candidates) = consider(
        application,
        snapshot,
        &law,
        &ledger,
        Bounds::default(),
        &mut MissingKinds::default(),
        NOW,
    );
    (
        choice,
        candidates
            .into_iter()
            .map(|candidate| candidate.reason)
            .collect(),
    )
}

fn one(change: impl FnOnce(&mut Cluster)) -> (Choice, Vec<Reason>) {
    let mut snapshot = fleet(&[("a", "FR")]);
    change_cluster(&mut snapshot, "a", change);
    choose(&application("web"), &snapshot)
}

#[test]
fn every_refusal_has_its_reason() {
    let none = |reason| (Choice::NoneEligible, vec![reason]);
    assert_eq!(
        one(|cluster| cluster.cordoned = true),
        none(Reason::ClusterCordoned)
    );
    assert_eq!(
        one(|cluster| cluster.deleting = true),
        none(Reason::ClusterDeleting)
    );
    let reach = Reach::Unreachable { since: NOW };
    assert_eq!(
        one(|cluster| cluster.reach = reach),
        none(Reason::ClusterUnreachable)
    );
    let reach = Reach::Misconfigured {
        message: "no key".to_owned(),
    };
    assert_eq!(
        one(|cluster| cluster.reach = reach),
        none(Reason::ClusterMisconfigured)
    );
    let unseen = (Choice::NotYet, vec![Reason::ClusterNotObserved]);
    assert_eq!(one(|cluster| cluster.reach = Reach::NotObserved), unseen);
}

#[test]
fn the_law_is_the_first_reason() {
    let mut snapshot = fleet(&[("a", "CN")]);
    apply(&mut snapshot, forbid("ban", "CN"));
    change_cluster(&mut snapshot, "a", |cluster| cluster.cordoned = true);
    let expected = (Choice::NoneLawful, vec![Reason::JurisdictionForbidden]);
    assert_eq!(choose(&application("web"), &snapshot), expected);
}

#[test]
fn a_kind_that_is_not_served_refuses() {
    let mut snapshot = fleet(&[("a", "FR"), ("b", "FR")]);
    let kind = Kind {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
    };
    let mut web = application("web");
    change_spec(&mut web, |spec| spec.kinds = BTreeSet::from([kind.clone()]));
    change_cluster(&mut snapshot, "a", |cluster| {
        cluster.kinds = Some(Arc::default())
    });
    let kinds = Some(Arc::new(BTreeSet::from([kind])));
    change_cluster(&mut snapshot, "b", |cluster| cluster.kinds = kinds);
    let expected = (
        Choice::Cluster("b".into()),
        vec![Reason::KindNotServed, Reason::Chosen],
    );
    assert_eq!(choose(&web, &snapshot), expected);
}

#[test]
fn a_cluster_takes_what_it_was_joined_for() {
    let mut snapshot = fleet(&[("a", "FR"), ("b", "FR"), ("c", "FR")]);
    let kind = Kind {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
    };
    let mut web = application("web");
    change_spec(&mut web, |spec| spec.kinds = BTreeSet::from([kind.clone()]));
    for name in ["a", "b", "c"] {
        let kinds = Arc::new(BTreeSet::from([kind.clone()]));
        change_cluster(&mut snapshot, name, |cluster| cluster.kinds = Some(kinds));
    }
    let namespace = web.spec.key.namespace.clone();
    change_cluster(&mut snapshot, "a", |cluster| {
        cluster.refused_kinds = Arc::new(BTreeSet::from([kind.clone()]))
    });
    change_cluster(&mut snapshot, "b", |cluster| {
        cluster.namespaces = BTreeSet::from(["another".into()])
    });
    change_cluster(&mut snapshot, "c", |cluster| {
        cluster.namespaces = BTreeSet::from([namespace])
    });
    let expected = (
        Choice::Cluster("c".into()),
        vec![
            Reason::KindNotAllowed,
            Reason::NamespaceNotAllowed,
            Reason::Chosen,
        ],
    );
    assert_eq!(choose(&web, &snapshot), expected);
}

#[test]
fn a_target_that_failed_rests_and_a_leftover_is_erased_first() {
    let snapshot = fleet(&[("a", "FR"), ("b", "FR"), ("c", "FR")]);
    let mut web = running("web", "a");
    let record = Arc::make_mut(&mut web.record);
    record.failed_targets.push(FailedTarget {
        cluster: "b".into(),
        attempts: 1,
        reason: Reason::ReadyTimeout,
        migration: "web-1".into(),
        retry_after: later(1),
    });
    record.placements.push(Placement {
        cluster: "c".into(),
        role: Role::Retiring,
        epoch: 1,
        since: NOW,
    });
    let reasons = vec![
        Reason::AlreadyThere,
        Reason::RecentlyFailed,
        Reason::TargetNotClean,
    ];
    assert_eq!(choose(&web, &snapshot), (Choice::NoneEligible, reasons));
}

#[test]
fn preference_comes_first_then_load_then_the_name() {
    let snapshot = fleet(&[("a", "FR"), ("b", "FR"), ("c", "FR"), ("d", "FR")]);
    let mut web = application("web");
    assert_eq!(choose(&web, &snapshot).0, Choice::Cluster("c".into()));
    change_spec(&mut web, |spec| {
        spec.preferred = vec!["gone".into(), "a".into(), "b".into()]
    });
    assert_eq!(choose(&web, &snapshot).0, Choice::Cluster("a".into()));
}
