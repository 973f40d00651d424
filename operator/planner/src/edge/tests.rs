use crate::{
    Reason,
    fleet::Decision,
    model::{MigrationRecord, MoveType, Reach, Service, Snapshot, Step, Trigger},
    plan,
    testing::{
        NOW, change_cluster, decision, later, migration, reason, running, serving, steps, three,
    },
};
use jiff::Timestamp;
use std::sync::Arc;

#[test]
fn services_that_fall_silent_everywhere_make_the_edge_suspect() {
    let silent = |snapshot: &mut Snapshot, index: usize, cluster: &str, second| {
        let copies = &mut snapshot.applications[index].copies;
        if let Some(copy) = copies.get_mut(cluster) {
            copy.service = Service::Silent {
                since: later(second),
            };
        }
    };
    let mut snapshot = three();
    for (name, cluster) in [("one", "alibaba"), ("two", "ovh")] {
        snapshot.applications.push(running(name, cluster));
        let copies = &mut snapshot.applications.last_mut().unwrap().copies;
        copies.get_mut(cluster).unwrap().service = Service::Answers;
    }
    silent(&mut snapshot, 0, "atos", 0);
    assert!(matches!(decision(&snapshot), Decision::Move { .. }));
    silent(&mut snapshot, 1, "alibaba", 3);
    assert_eq!(reason(&snapshot), Some(Reason::EdgeSuspect));
    let copies = &mut snapshot.applications[1].copies;
    copies.get_mut("alibaba").unwrap().service = Service::AnswersAgain {
        silent_since: later(3),
    };
    assert_eq!(
        reason(&snapshot),
        Some(Reason::EdgeSuspect),
        "the other is about to answer as well"
    );
    // Of one that fell silent long ago, the edge is not to blame.
    silent(&mut snapshot, 1, "alibaba", -3600);
    assert!(matches!(decision(&snapshot), Decision::Move { .. }));
    // Nor where another application of the cluster answers.
    silent(&mut snapshot, 1, "alibaba", 3);
    snapshot.applications.push(running("three", "alibaba"));
    let copies = &mut snapshot.applications[3].copies;
    copies.get_mut("alibaba").unwrap().service = Service::Answers;
    assert!(matches!(decision(&snapshot), Decision::Move { .. }));
}

#[test]
fn services_that_fall_silent_before_the_others_wait_for_a_word_from_elsewhere() {
    let mut snapshot = three();
    snapshot.applications.push(running("one", "alibaba"));
    let mut set = |index: usize, cluster: &str, service, reached| {
        let copy = snapshot.applications[index].copies.get_mut(cluster);
        let copy = copy.expect("the application has a copy there");
        (copy.service, copy.reached) = (service, reached);
        (decision(&snapshot), reason(&snapshot))
    };
    let silent = Service::Silent { since: NOW };
    set(0, "atos", silent, Some(later(-1)));
    // Decided 20 seconds later: nothing came from alibaba since.
    let (_, held) = set(1, "alibaba", Service::Unknown, Some(later(-1)));
    assert_eq!(held, Some(Reason::EdgeSuspect));
    let (_, held) = set(1, "alibaba", Service::Answers, Some(NOW));
    assert_eq!(held, Some(Reason::EdgeSuspect), "not after it, either");
    // Nobody asks alibaba for anything.
    let (alone, _) = set(1, "alibaba", Service::Unknown, Some(later(-41)));
    assert!(matches!(alone, Decision::Move { .. }), "{alone:?}");
    let (witnessed, _) = set(1, "alibaba", Service::Answers, Some(later(1)));
    assert!(matches!(witnessed, Decision::Move { .. }), "{witnessed:?}");
    set(1, "alibaba", Service::Unknown, Some(later(-1)));
    // It answers each request, with an error: the edge reaches it.
    let (itself, _) = set(0, "atos", silent, Some(later(15)));
    assert!(matches!(itself, Decision::Move { .. }), "{itself:?}");
}

#[test]
fn what_nobody_heard_of_since_the_operator_started_may_have_answered_before() {
    let mut snapshot = three();
    snapshot.applications.push(running("one", "alibaba"));
    let copies = &mut snapshot.applications[0].copies;
    copies.get_mut("atos").unwrap().service = Service::Silent { since: NOW };
    snapshot.services_since = Some(later(-39));
    assert_eq!(reason(&snapshot), Some(Reason::EdgeSuspect));
    snapshot.services_since = Some(later(-40));
    assert!(matches!(decision(&snapshot), Decision::Move { .. }));
}

/// Whether a failover that began at the beginning gives its source up.
fn retires(source_answers: bool, reached: Option<Timestamp>, now: Timestamp) -> bool {
    let mut snapshot = three();
    let web = &mut snapshot.applications[0];
    let mut target = serving();
    (target.service, target.reached) = (Service::Unknown, reached);
    web.copies.insert("ovh".into(), target);
    web.edge.weights = [("atos".into(), 0), ("ovh".into(), 100)].into();
    web.edge.open_requests = [("atos".into(), 0)].into();
    let record = Arc::make_mut(&mut web.record);
    record.epoch = 2;
    record.placements[0].cluster = "ovh".into();
    let mut under_way = migration("web-1", "atos", "ovh");
    (under_way.move_type, under_way.trigger) = (MoveType::Failover, Trigger::Loss);
    under_way.record = Arc::new(MigrationRecord {
        epoch: 2,
        percent: 100,
        step: Some(Step::Drain),
        steps: steps(&[Step::Prepare, Step::Shift, Step::Drain]),
        stage_since: Some(NOW),
        ..MigrationRecord::default()
    });
    web.migrations.push(under_way);
    change_cluster(&mut snapshot, "atos", |atos| {
        if !source_answers {
            atos.reach = Reach::Unreachable { since: NOW };
        }
    });
    let planned = plan(&snapshot, now).applications.remove(0);
    planned.migrations[0].1.reached(Step::Retire)
}

#[test]
fn a_source_that_is_there_is_given_up_when_its_target_was_heard_of() {
    assert!(!retires(true, None, later(20)));
    assert!(
        !retires(true, Some(later(-1)), later(20)),
        "that was before"
    );
    assert!(retires(true, Some(later(2)), later(20)));
    assert!(retires(true, None, later(60)), "nobody asks for it");
    assert!(
        retires(false, None, later(1)),
        "a lost cluster waits for nobody"
    );
}
