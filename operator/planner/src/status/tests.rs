use super::backoff;
use crate::{
    Reason,
    model::{
        CopyObservation, FailedTarget, MigrationRecord, Placement, Role, Settings, Step,
        StepRecord, Trigger,
    },
    plan,
    testing::{NOW, fleet, migration, running, serving, steps},
};
use std::sync::Arc;

#[test]
fn a_move_is_over_only_when_its_target_is_recorded_with_the_deleted_application() {
    let mut snapshot = fleet(&[("alibaba", "DE"), ("ovh", "DE")]);
    let mut application = running("shop", "alibaba");
    application.deleting = true;
    let mut under_way = migration("shop-1", "alibaba", "ovh");
    under_way.record = Arc::new(MigrationRecord {
        epoch: 2,
        step: Some(Step::Prepare),
        steps: vec![StepRecord {
            step: Step::Prepare,
            start: NOW,
            end: None,
            verdicts: Vec::new(),
        }],
        ..MigrationRecord::default()
    });
    application.migrations.push(under_way);
    snapshot.applications.push(application);

    // The target was not observed since the operator started.
    let first = plan(&snapshot, NOW).applications.remove(0);
    let role = first.record.on("ovh").map(|placement| placement.role);
    assert_eq!(role, Some(Role::Retiring));
    assert!(
        !first.migrations[0].1.done(),
        "nobody else would know of the target"
    );

    snapshot.applications[0].record = Arc::new(first.record);
    let second = plan(&snapshot, NOW).applications.remove(0);
    assert!(second.migrations[0].1.done());
}

/// The source may hold objects that nobody may look at any more.
#[test]
fn a_copy_that_may_not_be_seen_stays_recorded_and_it_is_said_why() {
    let mut snapshot = fleet(&[("alibaba", "DE"), ("ovh", "DE")]);
    let mut application = running("shop", "ovh");
    let record = Arc::make_mut(&mut application.record);
    record.epoch = 2;
    record.placements[0].epoch = 2;
    record.placements.push(Placement {
        cluster: "alibaba".into(),
        role: Role::Retiring,
        epoch: 1,
        since: NOW,
    });
    let hidden = CopyObservation {
        hidden: Some("StatefulSets are not among spec.access.kinds".to_owned()),
        ..CopyObservation::default()
    };
    application.copies.insert("alibaba".into(), hidden);
    let mut under_way = migration("shop-1", "alibaba", "ovh");
    under_way.record = Arc::new(MigrationRecord {
        epoch: 2,
        step: Some(Step::Retire),
        steps: steps(&[Step::Prepare, Step::Soak, Step::Retire]),
        ..MigrationRecord::default()
    });
    application.migrations.push(under_way);
    snapshot.applications.push(application);

    let first = plan(&snapshot, NOW).applications.remove(0);
    let role = first.record.on("alibaba").map(|placement| placement.role);
    assert_eq!(role, Some(Role::Retiring), "it may run on");
    assert!(first.migrations[0].1.done(), "another move may be needed");
    snapshot.applications[0].migrations.clear();
    let second = plan(&snapshot, NOW).applications.remove(0);
    assert!(second.record.on("alibaba").is_some());
    assert!(second.report);
    let message = &second.conditions.reconciling.message;
    assert!(message.contains("spec.access.kinds"), "{message}");
}

#[test]
fn a_target_that_may_not_be_seen_is_given_up_when_its_time_is_over() {
    let mut snapshot = fleet(&[("alibaba", "DE"), ("ovh", "DE")]);
    let mut application = running("shop", "alibaba");
    let hidden = CopyObservation {
        hidden: Some("StatefulSets are not among spec.access.kinds".to_owned()),
        ..CopyObservation::default()
    };
    application.copies.insert("ovh".into(), hidden);
    let timeout = application.spec.strategy.ready_timeout;
    let mut under_way = migration("shop-1", "alibaba", "ovh");
    under_way.trigger = Trigger::Request;
    under_way.record = Arc::new(MigrationRecord {
        epoch: 2,
        step: Some(Step::Prepare),
        steps: vec![StepRecord {
            step: Step::Prepare,
            start: NOW,
            end: None,
            verdicts: Vec::new(),
        }],
        ..MigrationRecord::default()
    });
    application.migrations.push(under_way);
    snapshot.applications.push(application);
    let step = |now| {
        plan(&snapshot, now).applications.remove(0).migrations[0]
            .1
            .step
    };
    assert_eq!(step(NOW), Some(Step::Prepare));
    assert_eq!(step(NOW + timeout), Some(Step::Abort));
}

#[test]
fn a_target_that_fails_again_after_the_requests_went_over_is_avoided_for_longer() {
    let settings = Settings::default();
    let waited = |attempts: u32, step| {
        let mut snapshot = fleet(&[("alibaba", "DE"), ("ovh", "DE")]);
        let mut application = running("shop", "alibaba");
        application.copies.insert("ovh".into(), serving());
        let record = Arc::make_mut(&mut application.record);
        record.failed_targets = vec![FailedTarget {
            cluster: "ovh".into(),
            attempts,
            reason: Reason::TargetErrors,
            migration: "shop-1".into(),
            retry_after: NOW,
        }];
        let mut under_way = migration("shop-2", "alibaba", "ovh");
        under_way.record = Arc::new(MigrationRecord {
            epoch: 2,
            step: Some(step),
            steps: steps(&[Step::Prepare, step]),
            ..MigrationRecord::default()
        });
        application.migrations.push(under_way);
        snapshot.applications.push(application);
        let record = plan(&snapshot, NOW).applications.remove(0).record;
        record.failed_targets.first().map(|failed| failed.attempts)
    };
    for step in [Step::Soak, Step::Drain] {
        assert_eq!(waited(3, step), Some(3), "{step:?}");
    }
    assert_eq!(waited(3, Step::Retire), None, "it serves");
    assert!(backoff(&settings, 4) > backoff(&settings, 1));
}

/// The record of a move was taken away by hand while no operator ran, and
/// another move was asked for before one did.
#[test]
fn a_target_of_a_move_that_is_gone_is_erased_although_another_move_waits_for_it() {
    let mut snapshot = fleet(&[("alibaba", "DE"), ("ovh", "DE")]);
    let mut application = running("shop", "alibaba");
    Arc::make_mut(&mut application.record)
        .placements
        .push(Placement {
            cluster: "ovh".into(),
            role: Role::Target,
            epoch: 2,
            since: NOW,
        });
    application.copies.insert("ovh".into(), serving());
    application
        .migrations
        .push(migration("by-hand", "alibaba", "ovh"));
    snapshot.applications.push(application);
    let planned = plan(&snapshot, NOW).applications.remove(0);
    let target = planned.record.on("ovh").map(|placement| placement.role);
    assert_eq!(target, Some(Role::Retiring));
    assert_eq!(planned.record.epoch, 2, "its epoch is spent");
}

/// The same, with the next move to a third cluster, which need not wait.
#[test]
fn no_move_gets_the_epoch_of_one_that_is_gone() {
    let mut snapshot = fleet(&[("alibaba", "DE"), ("ovh", "DE"), ("atos", "DE")]);
    let mut application = running("shop", "alibaba");
    let epoch = application.record.epoch;
    Arc::make_mut(&mut application.record)
        .placements
        .push(Placement {
            cluster: "ovh".into(),
            role: Role::Target,
            epoch: epoch + 1,
            since: NOW,
        });
    application.copies.insert("ovh".into(), serving());
    let mut next = migration("by-hand", "alibaba", "atos");
    next.trigger = Trigger::Request;
    application.migrations.push(next);
    application.copies.insert(
        "atos".into(),
        CopyObservation {
            observed: true,
            ..CopyObservation::default()
        },
    );
    snapshot.applications.push(application);
    let planned = plan(&snapshot, NOW).applications.remove(0);
    let (_, record) = &planned.migrations[0];
    assert_eq!(record.step, Some(Step::Prepare), "{record:?}");
    assert_eq!(record.epoch, epoch + 2);
}
