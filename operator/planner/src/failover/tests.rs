use crate::{
    Reason,
    fleet::{Decision, Motive},
    model::{
        ApplicationRecord, CopyObservation, FailedTarget, MigrationRecord, MoveType, Name,
        Placement, Reach, Role, Service, Snapshot, Step, StepRecord, Trigger,
    },
    plan,
    testing::{
        NOW, apply, change_cluster, change_spec, decision, forbid, later, lose, migration, reason,
        running, serving, three,
    },
};
use jiff::SignedDuration;
use std::{collections::BTreeMap, sync::Arc};

#[test]
fn a_lost_cluster_is_left_for_a_lawful_one() {
    let mut snapshot = three();
    apply(&mut snapshot, forbid("ban", "CN"));
    lose(&mut snapshot, "atos");
    let Decision::Move { to, motive, .. } = decision(&snapshot) else {
        panic!("{:?}", decision(&snapshot));
    };
    assert_eq!(&*to, "ovh");
    assert_eq!(motive.move_type(), MoveType::Failover);
    assert_eq!(motive.trigger(), Trigger::Loss);
}

#[test]
fn a_lost_cluster_is_not_left_for_an_unlawful_one() {
    let mut snapshot = three();
    apply(&mut snapshot, forbid("ban", "CN"));
    lose(&mut snapshot, "atos");
    change_cluster(&mut snapshot, "ovh", |cluster| cluster.cordoned = true);
    assert_eq!(reason(&snapshot), Some(Reason::NoEligibleCluster));
    apply(&mut snapshot, forbid("no-french", "FR"));
    assert_eq!(reason(&snapshot), Some(Reason::NoLawfulCluster));
}

#[test]
fn a_move_that_a_person_walked_back_before_the_loss_keeps_nothing_from_its_target() {
    let decided = |retry_after| {
        let mut snapshot = three();
        apply(&mut snapshot, forbid("ban", "CN"));
        lose(&mut snapshot, "atos");
        let record = Arc::make_mut(&mut snapshot.applications[0].record);
        record.failed_targets = vec![FailedTarget {
            cluster: "ovh".into(),
            attempts: 1,
            reason: Reason::AbortRequested,
            migration: "web-1".into(),
            retry_after,
        }];
        decision(&snapshot)
    };
    // Lost since NOW; the target is avoided for 30 seconds.
    let before = decided(later(25));
    assert!(matches!(before, Decision::Move { .. }), "{before:?}");
    // Whoever walks the failover itself back does not want it again at once.
    let after = decided(later(35));
    assert!(matches!(after, Decision::Stalled { .. }), "{after:?}");
}

#[test]
fn applications_that_answer_stay_where_the_api_server_is_silent() {
    let mut snapshot = three();
    lose(&mut snapshot, "atos");
    change_cluster(&mut snapshot, "atos", |cluster| {
        cluster.services_answer = true
    });
    assert_eq!(decision(&snapshot), Decision::Stay);
    let planned = plan(&snapshot, later(20)).applications.remove(0);
    assert_eq!(
        planned.conditions.ready.reason,
        Reason::ControlPlaneUnreachable
    );
}

#[test]
fn a_person_decides_in_manual_mode() {
    let mut snapshot = three();
    lose(&mut snapshot, "atos");
    change_spec(&mut snapshot.applications[0], |spec| {
        spec.failover.automatic = false;
    });
    assert_eq!(reason(&snapshot), Some(Reason::FailoverManual));
}

#[test]
fn silent_services_are_left_after_their_time_and_a_cool_down() {
    let mut snapshot = three();
    let silent = Service::Silent { since: later(55) };
    let web = &mut snapshot.applications[0];
    if let Some(copy) = web.copies.get_mut("atos") {
        copy.service = silent;
    }
    let at = |seconds| {
        plan(&snapshot, later(seconds))
            .applications
            .remove(0)
            .decision
    };
    assert_eq!(at(64), Decision::Stay, "not silent for 10 s yet");
    assert!(
        matches!(
            at(66),
            Decision::Move {
                motive: Motive::Loss(_),
                ..
            }
        ),
        "{:?}",
        at(66)
    );
    let mut record = (*snapshot.applications[0].record).clone();
    record.failed_targets.push(FailedTarget {
        cluster: "ovh".into(),
        attempts: 1,
        reason: Reason::ClusterLost,
        migration: "web-1".into(),
        retry_after: later(120),
    });
    snapshot.applications[0].record = Arc::new(record);
    let planned = plan(&snapshot, later(66));
    let held = planned.applications[0].decision.obstacle();
    assert_eq!(held.map(|(reason, _)| reason), Some(Reason::CoolingDown));
    assert_eq!(planned.wake_at, Some(later(120)));
}

#[test]
fn most_of_the_fleet_lost_at_once_moves_nothing() {
    let mut snapshot = three();
    lose(&mut snapshot, "atos");
    lose(&mut snapshot, "alibaba");
    assert_eq!(reason(&snapshot), Some(Reason::HubSuspect));
}

#[test]
fn critical_applications_fail_over_first() {
    let mut snapshot = three();
    let mut critical = running("zebra", "atos");
    change_spec(&mut critical, |spec| {
        spec.criticality = crate::model::Criticality::Critical;
    });
    snapshot.applications.push(critical);
    snapshot.settings.concurrent_failovers = 1;
    lose(&mut snapshot, "atos");
    let plan = plan(&snapshot, later(20));
    let moves = |index: usize| matches!(plan.applications[index].decision, Decision::Move { .. });
    assert!(moves(1) && !moves(0));
}

/// A failover of `web` from atos to ovh, at a step.
fn failing_over(snapshot: &mut Snapshot, step: Step, percent: u8) {
    let mut open = migration("web-1", "atos", "ovh");
    (open.move_type, open.trigger) = (MoveType::Failover, Trigger::Loss);
    let began = |step| StepRecord {
        step,
        start: NOW,
        end: None,
        verdicts: Vec::new(),
    };
    open.record = Arc::new(MigrationRecord {
        epoch: 2,
        step: Some(step),
        percent,
        stage_since: (percent > 0).then_some(NOW),
        steps: vec![began(Step::Prepare), began(step)],
        ..MigrationRecord::default()
    });
    let web = &mut snapshot.applications[0];
    let mut record = (*web.record).clone();
    record.migrations = 1;
    record.placements.push(Placement {
        cluster: "ovh".into(),
        role: Role::Target,
        epoch: 2,
        since: NOW,
    });
    web.record = Arc::new(record);
    web.copies.insert("ovh".into(), serving());
    web.edge.weights = BTreeMap::from([("atos".into(), 100 - percent), ("ovh".into(), percent)]);
    web.migrations.push(open);
}

fn next_step(snapshot: &Snapshot) -> MigrationRecord {
    let (_, record) = plan(snapshot, later(20))
        .applications
        .remove(0)
        .migrations
        .remove(0);
    record
}

#[test]
fn requests_that_went_over_stay_with_a_target_that_serves() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Ready, 100);
    // The source answers again, also for a failover that did not get to Shift.
    let record = next_step(&snapshot);
    assert_eq!((record.step, record.percent), (Some(Step::Sync), 100));
    snapshot.applications[0].migrations[0].abort = true;
    let mut record = next_step(&snapshot);
    assert_eq!((record.step, record.percent), (Some(Step::Abort), 0));
    // Back at the source, but requests may be open at the target.
    record
        .steps
        .iter_mut()
        .for_each(|step| step.start = later(20));
    snapshot.applications[0].migrations[0].record = Arc::new(record);
    snapshot.applications[0].edge.weights =
        BTreeMap::from([("atos".into(), 100), ("ovh".into(), 0)]);
    let record = next_step(&snapshot);
    assert_eq!(record.step, Some(Step::Abort));
    let verdicts = &record.steps.last().expect("a step").verdicts;
    assert_eq!(verdicts[0].reason, Reason::SourceBusy);
}

/// Right after a restart, nobody has looked at the lost cluster yet.
#[test]
fn requests_that_went_over_stay_at_a_target_until_the_source_was_looked_at() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Ready, 100);
    let copy = snapshot.applications[0].copies.get_mut("ovh");
    copy.expect("a copy").endpoints = 0;
    let lost = snapshot.applications[0].copies.get_mut("atos");
    *lost.expect("a copy") = CopyObservation::default();
    change_cluster(&mut snapshot, "atos", |cluster| {
        cluster.reach = Reach::NotObserved
    });
    assert_eq!(next_step(&snapshot).percent, 100);
}

#[test]
fn a_target_that_nobody_looked_at_yet_is_not_given_up() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Ready, 100);
    lose(&mut snapshot, "atos");
    snapshot.applications[0].migrations[0].abort = true;
    let copy = snapshot.applications[0].copies.get_mut("ovh");
    *copy.expect("a copy") = CopyObservation::default();
    change_cluster(&mut snapshot, "ovh", |cluster| {
        cluster.reach = Reach::NotObserved
    });
    assert_eq!(next_step(&snapshot).step, Some(Step::Ready));
    // Two of six are no reason to suspect the hub.
    for name in ["first", "second", "third"] {
        let other = Arc::clone(&snapshot.clusters["alibaba"]);
        snapshot.clusters.insert(name.into(), other);
    }
    lose(&mut snapshot, "ovh");
    assert_eq!(next_step(&snapshot).step, Some(Step::Abort));
}

/// A process that has just begun may find a move in Shift of which it has
/// written no weight yet: the proxy was not asked about the target.
#[test]
fn a_target_of_which_the_edge_was_not_asked_yet_is_not_given_up() {
    for move_type in [MoveType::Relocate, MoveType::Failover] {
        let mut snapshot = three();
        failing_over(&mut snapshot, Step::Shift, 50);
        snapshot.applications[0].migrations[0].move_type = move_type;
        snapshot.applications[0].edge.weights =
            BTreeMap::from([("atos".into(), 100), ("ovh".into(), 0)]);
        let known = |snapshot: &mut Snapshot, endpoints| {
            let copy = snapshot.applications[0].copies.get_mut("ovh");
            copy.expect("a copy").endpoints_at_edge = endpoints;
        };
        known(&mut snapshot, None);
        assert_eq!(next_step(&snapshot).step, Some(Step::Shift));
        let desired = plan(&snapshot, later(20)).applications.remove(0).desired;
        assert_eq!(desired.weights["ovh"], 0, "nor gets it requests");
        known(&mut snapshot, Some(0));
        assert_eq!(next_step(&snapshot).step, Some(Step::Abort));
    }
}

#[test]
fn a_target_that_may_not_be_looked_at_any_more_is_given_up_after_its_time() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Shift, 50);
    snapshot.applications[0].migrations[0].move_type = MoveType::Relocate;
    snapshot.applications[0].copies.insert(
        "ovh".into(),
        CopyObservation {
            hidden: Some("namespace shop is not in spec.access".to_owned()),
            ..CopyObservation::default()
        },
    );
    assert_eq!(next_step(&snapshot).step, Some(Step::Shift));
    change_spec(&mut snapshot.applications[0], |spec| {
        spec.strategy.ready_timeout = SignedDuration::from_secs(10);
    });
    assert_eq!(next_step(&snapshot).step, Some(Step::Abort));
}

#[test]
fn a_refused_object_is_no_reason_to_give_up_a_target_that_is_about_to_be_looked_at() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Soak, 100);
    snapshot.applications[0].migrations[0].move_type = MoveType::Relocate;
    change_spec(&mut snapshot.applications[0], |spec| {
        spec.strategy.ready_timeout = SignedDuration::from_secs(10);
    });
    // The application was edited: its copies are compared anew.
    let copy = snapshot.applications[0].copies.get_mut("ovh");
    let copy = copy.expect("a copy");
    copy.observed = false;
    copy.refused = Some("Deployment web: spec.replicas must not be negative".to_owned());
    assert_eq!(next_step(&snapshot).step, Some(Step::Soak));
}

#[test]
fn a_standby_has_taken_over_before_all_of_it_is_ready() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Ready, 100);
    lose(&mut snapshot, "atos");
    let web = &mut snapshot.applications[0];
    Arc::make_mut(&mut web.migrations[0].record).lost_since = Some(NOW);
    let copy = web.copies.get_mut("ovh").expect("a copy");
    copy.workloads_ready = 0;
    let record = next_step(&snapshot);
    assert_eq!(
        (record.step, record.recovery),
        (Some(Step::Ready), Some(SignedDuration::from_secs(20)))
    );
    // Requests may still be where nobody answers.
    snapshot.applications[0].edge.acknowledged = false;
    assert_eq!(next_step(&snapshot).recovery, None);
}

#[test]
fn an_abort_never_takes_requests_back_to_a_lost_cluster() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Shift, 100);
    snapshot.applications[0].migrations[0].abort = true;
    lose(&mut snapshot, "atos");
    assert_eq!(
        next_step(&snapshot).step,
        Some(Step::Soak),
        "only the target serves"
    );
    let copy = snapshot.applications[0]
        .copies
        .get_mut("ovh")
        .expect("a copy");
    copy.service = Service::Silent { since: NOW };
    assert_eq!(
        next_step(&snapshot).step,
        Some(Step::Abort),
        "neither serves"
    );
}

#[test]
fn a_source_that_comes_and_goes_ends_one_failover_and_not_the_next() {
    let mut snapshot = three();
    failing_over(&mut snapshot, Step::Ready, 0);
    snapshot.applications[0]
        .copies
        .get_mut("ovh")
        .expect("a copy")
        .endpoints = 0;
    let record = next_step(&snapshot);
    assert_eq!(
        record.abort_reason.as_ref().map(|(reason, _)| *reason),
        Some(Reason::SourceRecovered)
    );
    snapshot.applications[0].migrations[0].record = Arc::new(record);
    let planned = plan(&snapshot, later(20)).applications.remove(0).record;
    let avoided: Vec<&str> = planned
        .failed_targets
        .iter()
        .map(|one| &*one.cluster)
        .collect();
    assert_eq!(avoided, ["atos"]);
    let mut again = three();
    failing_over(&mut again, Step::Ready, 0);
    again.applications[0]
        .copies
        .get_mut("ovh")
        .expect("a copy")
        .endpoints = 0;
    again.applications[0].migrations[0].name = "web-2".into();
    let mut record = (*again.applications[0].record).clone();
    record.failed_targets = planned.failed_targets;
    again.applications[0].record = Arc::new(record);
    assert_eq!(next_step(&again).step, Some(Step::Ready));
}

#[test]
fn a_failback_leads_home_and_a_move_from_nowhere_ends() {
    let mut snapshot = three();
    let mut back = migration("back", "atos", "ovh");
    (back.move_type, back.trigger) = (MoveType::Failback, Trigger::Request);
    back.record = Arc::new(MigrationRecord {
        step: Some(Step::Preflight),
        ..MigrationRecord::default()
    });
    let mut nowhere = back.clone();
    snapshot.applications[0].migrations.push(back);
    let why = |snapshot: &Snapshot| next_step(snapshot).abort_reason.map(|(reason, _)| reason);
    assert_eq!(why(&snapshot), Some(Reason::NotFailedOver));
    (nowhere.from, nowhere.to) = ("nowhere".into(), "atos".into());
    nowhere.move_type = MoveType::Relocate;
    snapshot.applications[0].migrations = vec![nowhere];
    assert_eq!(why(&snapshot), Some(Reason::SourceMismatch));
}

#[test]
fn a_failover_does_not_wait_for_a_cluster_that_nobody_has_seen_yet() {
    let mut snapshot = three();
    change_cluster(&mut snapshot, "alibaba", |cluster| {
        cluster.reach = Reach::NotObserved
    });
    lose(&mut snapshot, "atos");
    assert!(matches!(decision(&snapshot), Decision::Move { to, .. } if &*to == "ovh"));
}

#[test]
fn a_warm_standby_is_kept_where_the_next_failover_leads() {
    let mut snapshot = three();
    apply(&mut snapshot, forbid("ban", "CN"));
    change_spec(&mut snapshot.applications[0], |spec| {
        spec.failover.standby = Some(1);
    });
    let planned = plan(&snapshot, NOW).applications.remove(0);
    let standby = planned.record.on("ovh").map(|placement| placement.role);
    assert_eq!(standby, Some(Role::Standby));
    snapshot.applications[0].record = Arc::new(planned.record);
    let planned = plan(&snapshot, NOW).applications.remove(0);
    assert_eq!(planned.desired.weights.get("ovh"), Some(&0));
    assert!(matches!(
        planned.desired.copies.get("ovh"),
        Some(crate::desired::Copy::Standby { replicas: 1, .. })
    ));
    apply(&mut snapshot, forbid("no-french", "FR"));
    let planned = plan(&snapshot, NOW).applications.remove(0);
    let standby = planned.record.on("ovh").map(|placement| placement.role);
    assert_eq!(standby, Some(Role::Retiring), "unlawful standbys go");
}

#[test]
fn a_failback_waits_until_home_is_well_for_long_enough() {
    let mut snapshot = three();
    let home: Name = "ovh".into();
    snapshot.applications[0].record = Arc::new(ApplicationRecord {
        failed_over_from: Some(home),
        ..(*snapshot.applications[0].record).clone()
    });
    change_spec(&mut snapshot.applications[0], |spec| {
        spec.failover.failback_after = Some(SignedDuration::from_mins(10));
    });
    change_cluster(&mut snapshot, "ovh", |cluster| {
        cluster.answers_since = Some(NOW)
    });
    let early = plan(&snapshot, later(599));
    assert_eq!(early.applications[0].decision, Decision::Stay);
    assert_eq!(early.wake_at, Some(later(600)));
    let Decision::Move { to, motive, .. } =
        plan(&snapshot, later(600)).applications.remove(0).decision
    else {
        panic!("no failback");
    };
    assert_eq!((&*to, motive), ("ovh", Motive::Failback));
}
