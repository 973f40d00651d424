use crate::{
    model::{MigrationRecord, Role, Step, StepRecord},
    plan,
    testing::{NOW, fleet, migration, running},
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
