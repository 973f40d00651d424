//! Who takes the Lease, when, and when it is lost.

use crate::{
    candidate::{ByHand, Candidate, Renewals},
    plane::{Plane, plane},
};
use flambeau_operator::leader::End;
use jiff::{SignedDuration, Timestamp};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// For the machine, which may be busy.
const SLACK: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_free_lease_is_taken_at_once_and_shows_its_holder() {
    let plane = plane();
    let mut one = Candidate::start(&plane, "free", "one", 10).await;
    assert!(one.leads().await < SLACK);
    assert_eq!(one.leadership.check(), Ok(()));
    let lease = plane.get("lease/free");
    assert_eq!(lease["spec"]["holderIdentity"], "one");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 10);
    let mut short = Candidate::start(&plane, "renewed", "one", 2).await;
    short.leads().await;
    // Each is 0.3 s after the one before: longer together than it was granted.
    Renewals::of(&plane, "renewed").await.wait_for(14).await;
    assert_eq!(short.leadership.check(), Ok(()));
}

#[tokio::test]
async fn a_released_lease_is_taken_over_at_once() {
    let plane = plane();
    let mut one = Candidate::start(&plane, "released", "one", 10).await;
    one.leads().await;
    let mut two = Candidate::start(&plane, "released", "two", 10).await;
    Renewals::of(&plane, "released").await.wait_for(2).await;
    assert!(two.stands_by());
    let first = one.leadership.clone();
    let asked = Instant::now();
    one.release().await;
    assert!(first.ended());
    two.leads().await;
    assert!(asked.elapsed() < SLACK, "{:?}", asked.elapsed());
    assert_eq!(plane.get("lease/released")["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn a_dead_holder_is_waited_for_no_longer_than_it_was_granted() {
    let plane = plane();
    let mut one = Candidate::start(&plane, "dead", "one", 3).await;
    one.leads().await;
    let mut two = Candidate::start(&plane, "dead", "two", 3).await;
    Renewals::of(&plane, "dead").await.wait_for(2).await;
    let first = one.leadership.clone();
    let died = Instant::now();
    one.task.abort();
    two.leads().await;
    // The last renewal was up to 0.45 s earlier, as was the last look.
    let took = died.elapsed();
    assert!(took > Duration::from_millis(2400), "{took:?}");
    assert!(took < Duration::from_millis(3450) + SLACK, "{took:?}");
    assert!(first.ended(), "a task that dies takes leadership with it");
}

#[tokio::test]
async fn a_lease_deleted_by_hand_stays_with_its_holder() {
    let plane = plane();
    let mut one = Candidate::start(&plane, "deleted", "one", 3).await;
    one.leads().await;
    let two = Candidate::start(&plane, "deleted", "two", 3).await;
    let mut renewals = Renewals::of(&plane, "deleted").await;
    renewals.wait_for(2).await;
    for _ in 0..3 {
        plane.run(&["delete", "lease", "deleted"]);
        // It is made anew, and both have looked at it since.
        renewals.wait_for(2).await;
        assert_eq!(plane.get("lease/deleted")["spec"]["holderIdentity"], "one");
    }
    assert_eq!(one.leadership.check(), Ok(()));
    assert!(two.stands_by());
}

#[tokio::test]
async fn a_label_by_hand_does_not_matter_and_another_holder_ends_leadership_at_once() {
    let plane = plane();
    let mut one = Candidate::start(&plane, "stolen", "one", 10).await;
    one.leads().await;
    plane.run(&["label", "lease", "stolen", "looked=at"]);
    Renewals::of(&plane, "stolen").await.wait_for(1).await;
    assert_eq!(one.leadership.check(), Ok(()));
    let patch = r#"{"spec":{"holderIdentity":"thief"}}"#;
    plane.run(&["patch", "lease", "stolen", "--type=merge", "-p", patch]);
    let (stolen, leadership) = (Instant::now(), one.leadership.clone());
    let End::Taken { now, .. } = one.end().await else {
        panic!("the Lease was taken");
    };
    // Sooner than the next renewal, which is 1.5 s after the last.
    assert!(stolen.elapsed() < SLACK, "{:?}", stolen.elapsed());
    assert!(leadership.ended());
    assert_eq!(now, "held by thief now");
}

#[tokio::test]
async fn a_clock_that_is_wrong_neither_steals_nor_loses() {
    let plane = plane();
    let hour = SignedDuration::from_hours(1);
    let behind = Timestamp::now() - hour;
    let mut slow = ByHand::take(&plane, "slow", 2, behind).await;
    let candidate = Candidate::start(&plane, "slow", "candidate", 2).await;
    for renewal in 1..=20 {
        // The pace of the holder, for more than twice as long as is granted.
        sleep(Duration::from_millis(250)).await;
        slow.renew(behind + SignedDuration::from_millis(250 * renewal))
            .await;
    }
    assert!(candidate.stands_by(), "an hour behind, but alive");

    // An hour ahead and dead: it would be waited for for an hour.
    ByHand::take(&plane, "fast", 2, Timestamp::now() + hour).await;
    let mut candidate = Candidate::start(&plane, "fast", "candidate", 2).await;
    let took = candidate.leads().await;
    assert!(took >= Duration::from_secs(2), "{took:?}");
    assert!(took < Duration::from_millis(2300) + SLACK, "{took:?}");
}

#[tokio::test]
async fn a_process_takes_its_own_lease_over_at_once_and_two_of_one_name_cannot_lead_both() {
    let plane = plane();
    let mut before = Candidate::start(&plane, "own", "one", 10).await;
    before.leads().await;
    before.task.abort();
    let mut after = Candidate::start(&plane, "own", "one", 10).await;
    assert!(after.leads().await < SLACK);

    let mut twin = Candidate::start(&plane, "own", "one", 10).await;
    assert!(twin.leads().await < SLACK);
    let End::Taken { now, .. } = after.end().await else {
        panic!("the Lease was taken");
    };
    assert!(now.contains("same --identity one"), "{now}");
    assert_eq!(twin.leadership.check(), Ok(()));
}

#[tokio::test]
async fn without_an_api_server_leadership_ends_and_nobody_takes_it() {
    let plane = Plane::start();
    let mut one = Candidate::start(&plane, "silent", "one", 4).await;
    one.leads().await;
    let mut two = Candidate::start(&plane, "silent", "two", 4).await;
    Renewals::of(&plane, "silent").await.wait_for(2).await;
    let leadership = one.leadership.clone();
    let silent = plane.stop_api_server();
    let begun = Instant::now();
    let end = one.end().await;
    assert!(matches!(end, End::Expired { .. }), "{end}");
    assert!(leadership.ended());
    // 0.6 of the Lease's 4 s after the last renewal, which was up to 0.6 s ago.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(2400) + SLACK, "{took:?}");
    assert!(took > Duration::from_millis(1500), "{took:?}");
    // Until well after the Lease has run out: nobody takes it without an answer.
    sleep(Duration::from_secs(3)).await;
    assert!(two.stands_by());
    drop(silent);
    assert!(two.leads().await < Duration::from_secs(5));
}
