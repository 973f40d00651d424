use super::*;
use crate::{
    model::{Criticality, Reach, Sensitivity},
    testing::{NOW, apply, change_cluster, change_spec, fleet, forbid, key, migration, running},
};

/// Applications on a cluster that a policy refuses.
fn banned(applications: Vec<Application>, budget: usize) -> Snapshot {
    let mut snapshot = fleet(&[("bad", "CN"), ("good", "FR"), ("other", "FR")]);
    apply(&mut snapshot, forbid("ban", "CN"));
    snapshot.settings.concurrent_moves = budget;
    snapshot.applications = applications;
    snapshot
        .applications
        .sort_by(|one, other| one.spec.key.cmp(&other.spec.key));
    snapshot
}

fn moving(snapshot: &Snapshot) -> Vec<String> {
    plan(snapshot, NOW)
        .applications
        .iter()
        .filter(|application| matches!(application.decision, Decision::Move { .. }))
        .map(|application| application.key.name.to_string())
        .collect()
}

fn decision(snapshot: &Snapshot, name: &str) -> Decision {
    let planned = plan(snapshot, NOW).applications;
    planned
        .into_iter()
        .find(|one| one.key == key(name))
        .unwrap()
        .decision
}

fn depending(name: &str, on: &str) -> Application {
    let mut application = running(name, "bad");
    change_spec(&mut application, |spec| spec.depends_on = vec![on.into()]);
    application
}

#[test]
fn critical_ones_go_first_then_sensitive_ones_then_by_name() {
    let mut website = running("a-website", "bad");
    change_spec(&mut website, |spec| {
        spec.criticality = Criticality::Standard
    });
    let mut access = running("z-access", "bad");
    change_spec(&mut access, |spec| spec.criticality = Criticality::Critical);
    let mut medical = running("y-medical", "bad");
    change_spec(&mut medical, |spec| {
        spec.sensitivity = Sensitivity::Sensitive
    });
    let others = [website, access, medical, running("m-plain", "bad")];
    for (budget, expected) in [
        (1, vec!["z-access"]),
        (2, vec!["y-medical", "z-access"]),
        (3, vec!["m-plain", "y-medical", "z-access"]),
    ] {
        assert_eq!(moving(&banned(others.to_vec(), budget)), expected);
    }
}

#[test]
fn the_budget_counts_moves_under_way() {
    let mut busy = running("busy", "bad");
    busy.migrations.push(migration("busy-1", "bad", "good"));
    let snapshot = banned(vec![busy, running("web", "bad")], 1);
    let waiting = decision(&snapshot, "web");
    assert!(
        matches!(waiting, Decision::WaitForBudget { .. }),
        "{waiting:?}"
    );
}

#[test]
fn nothing_moves_before_what_it_calls() {
    let snapshot = banned(
        vec![depending("a-shop", "database"), running("database", "bad")],
        2,
    );
    assert_eq!(moving(&snapshot), ["database"]);
    let waiting = decision(&snapshot, "a-shop");
    let Decision::WaitForDependency { dependency, .. } = waiting else {
        panic!("{waiting:?}");
    };
    assert_eq!(dependency, key("database"));
}

#[test]
fn a_circle_opens_where_it_is_closed() {
    let ring = vec![
        depending("a-outside", "ring-1"),
        depending("ring-1", "ring-2"),
        depending("ring-2", "ring-1"),
    ];
    assert_eq!(moving(&banned(ring, 3)), ["ring-1"]);
}

#[test]
fn nothing_moves_while_most_clusters_are_silent() {
    let mut snapshot = banned(vec![running("web", "bad")], 2);
    let silent = || Reach::Unreachable { since: NOW };
    change_cluster(&mut snapshot, "other", |cluster| cluster.reach = silent());
    assert_eq!(moving(&snapshot), ["web"]);
    change_cluster(&mut snapshot, "bad", |cluster| cluster.reach = silent());
    let held = decision(&snapshot, "web");
    assert!(
        matches!(
            held,
            Decision::Stalled {
                reason: Reason::HubSuspect,
                ..
            }
        ),
        "{held:?}"
    );
}

#[test]
fn no_planned_move_begins_at_a_cluster_whose_api_server_does_not_answer() {
    let mut snapshot = banned(vec![running("web", "bad")], 2);
    change_cluster(&mut snapshot, "bad", |cluster| {
        cluster.reach = Reach::Unreachable { since: NOW };
        cluster.services_answer = true;
    });
    let held = decision(&snapshot, "web");
    assert!(
        matches!(
            held,
            Decision::Stalled {
                reason: Reason::ControlPlaneUnreachable,
                ..
            }
        ),
        "{held:?}"
    );
}

#[test]
fn violations_past_the_deadline_are_reported_and_nothing_is_deleted() {
    let mut snapshot = fleet(&[("bad", "CN")]);
    let policy = crate::model::Policy {
        complete_by: Some(NOW),
        ..forbid("ban", "CN")
    };
    apply(&mut snapshot, policy);
    snapshot.applications.push(running("web", "bad"));
    let planned = plan(&snapshot, NOW);
    assert!(planned.policies[0].deadline_missed);
    assert_eq!(planned.policies[0].violations, [key("web")]);
    let web = &planned.applications[0];
    assert!(matches!(
        web.decision,
        Decision::Stalled {
            reason: Reason::NoLawfulCluster,
            ..
        }
    ));
    assert_eq!(web.record, *snapshot.applications[0].record);
}
