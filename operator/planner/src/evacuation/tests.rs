use crate::{
    Reason,
    fleet::Decision,
    model::{ApplicationRecord, Evacuation, Placement, Resources, Role},
    plan,
    testing::{NOW, apply, change_cluster, change_spec, forbid, later, running, three},
};
use std::sync::Arc;

#[test]
fn an_evacuation_moves_everything_and_tells_what_does_not_fit() {
    let mut snapshot = three();
    for name in ["one", "two"] {
        snapshot.applications.push(running(name, "atos"));
    }
    for application in &mut snapshot.applications {
        change_spec(application, |spec| {
            spec.demand = Resources {
                milli_cpu: 1000,
                memory: 0,
            };
        });
    }
    change_cluster(&mut snapshot, "ovh", |cluster| {
        cluster.capacity = Some(Resources {
            milli_cpu: 2000,
            memory: 0,
        });
    });
    let evacuation = Evacuation {
        name: "leave".into(),
        cluster: Some("atos".into()),
        to: vec!["ovh".into()],
        max_concurrent: Some(1),
        ..Evacuation::default()
    };
    snapshot
        .evacuations
        .insert("leave".into(), Arc::new(evacuation));
    let plan = plan(&snapshot, later(20));
    let begun = plan
        .applications
        .iter()
        .filter(|one| matches!(one.decision, Decision::Move { .. }))
        .count();
    assert_eq!(begun, 1, "its own budget");
    let leave = &plan.evacuations[0];
    assert_eq!((leave.total, leave.moved), (3, 0));
    assert!(leave.remaining[0].stuck && !leave.remaining[1].stuck);
    assert!(
        leave
            .shortfall
            .as_deref()
            .is_some_and(|text| text.contains("1 CPU"))
    );
}

#[test]
fn an_evacuation_says_which_of_its_targets_does_not_exist() {
    let told = |to: &[&str]| {
        let mut snapshot = three();
        snapshot.applications.push(running("one", "atos"));
        let evacuation = Evacuation {
            name: "leave".into(),
            cluster: Some("atos".into()),
            to: to.iter().map(|name| (*name).into()).collect(),
            ..Evacuation::default()
        };
        snapshot
            .evacuations
            .insert("leave".into(), Arc::new(evacuation));
        let mut plan = plan(&snapshot, later(20));
        let moves = plan.applications.iter();
        let begun = moves.filter(|one| matches!(one.decision, Decision::Move { .. }));
        (begun.count() > 0, plan.evacuations.remove(0))
    };
    let (moves, known) = told(&["ovh"]);
    assert!(moves && known.message.is_empty(), "{known:?}");
    let (moves, some) = told(&["ovh", "ohv"]);
    assert!(moves && some.state == Reason::Evacuating, "{some:?}");
    assert!(some.message.contains("spec.to names ohv,"), "{some:?}");
    let (moves, none) = told(&["ohv"]);
    assert!(!moves && none.state == Reason::ClusterUnknown, "{none:?}");
}

#[test]
fn nothing_new_goes_to_a_cluster_that_is_being_emptied() {
    let mut snapshot = three();
    snapshot.applications[0].record = Arc::new(ApplicationRecord {
        placements: vec![Placement {
            cluster: "alibaba".into(),
            role: Role::Active,
            epoch: 1,
            since: NOW,
        }],
        epoch: 1,
        ..ApplicationRecord::default()
    });
    apply(&mut snapshot, forbid("ban", "CN"));
    for (name, cluster) in [("one", "atos"), ("two", "ovh")] {
        let evacuation = Evacuation {
            name: name.into(),
            cluster: Some(cluster.into()),
            ended: true,
            ..Evacuation::default()
        };
        snapshot
            .evacuations
            .insert(name.into(), Arc::new(evacuation));
    }
    let planned = plan(&snapshot, NOW).applications.remove(0);
    let reasons: Vec<Reason> = planned.candidates.iter().map(|one| one.reason).collect();
    assert_eq!(reasons[1..], [Reason::ClusterEvacuated; 2]);
}
