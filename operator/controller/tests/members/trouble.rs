//! Connection details that cannot work, and a member that hangs.

use crate::support::{self, Fleet, application, key, kinds, plane, shop};
use flambeau_operator::members::MemberError;
use flambeau_planner::model::Reach;

#[tokio::test(flavor = "multi_thread")]
async fn bad_connection_details_are_named_and_good_ones_work_at_once() {
    let plane = plane();
    let fleet = Fleet::unconfigured(&plane);
    let good = plane.kubeconfig();
    let other_ca = plane.kubeconfig_with_another_authority();
    let cases: Vec<(Result<Vec<u8>, String>, &str)> = vec![
        (
            Err("Secret platform/member does not exist: create it".into()),
            "does not exist",
        ),
        (Ok(b"sesame: [".to_vec()), "cannot be understood"),
        (Ok(other_ca), "TLS with https://"),
        (
            Ok(plane.kubeconfig_with_user("token: wrong")),
            "does not accept the credentials",
        ),
        (
            Ok(plane.kubeconfig_with_user(
                "exec: {apiVersion: client.authentication.k8s.io/v1, command: id}",
            )),
            "exec",
        ),
        (
            Ok(plane.kubeconfig_with_server("https://127.0.0.1:1")),
            "never answered",
        ),
        (
            Ok(plane.kubeconfig_with_server("https://nowhere.invalid:6443")),
            "never answered",
        ),
    ];
    let mut known = false;
    for (details, expected) in cases {
        fleet.configure(details.as_deref().map_err(Clone::clone));
        fleet
            .until(expected, || matches!(fleet.members.reach("member"), Reach::Misconfigured { message } if message.contains(expected)))
            .await;
        assert!(
            known
                || !fleet
                    .members
                    .observe("member", &key("any", "any"), 1)
                    .absent(),
            "nothing is known"
        );
        fleet.configure(Ok(&good));
        fleet.reachable().await;
        fleet
            .until("listed", || {
                fleet
                    .members
                    .observe("member", &key("any", "any"), 1)
                    .absent()
            })
            .await;
        known = true;
    }
    assert!(fleet.members.version("member").unwrap().starts_with("v1."));
    fleet.members.forget("member");
    assert_eq!(fleet.members.reach("member"), Reach::NotObserved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hangs_is_unreachable_and_its_objects_stay_known() {
    let plane = support::own_plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let declared = application("hang", "shop", &shop()[..1]);
    fleet.place(&declared, 1).await;

    let stopped = plane.stop_api_server();
    fleet
        .until("unreachable", || {
            matches!(fleet.members.reach("member"), Reach::Unreachable { .. })
        })
        .await;
    assert!(
        fleet.observe(&declared, 1).settled(),
        "unknown is not absent"
    );
    let error = fleet.apply_once(&declared, 2).await.unwrap_err();
    assert!(matches!(error, MemberError::NotConnected { .. }), "{error}");
    assert!(
        fleet
            .members
            .verify_absent("member", &declared.key, &kinds(&declared))
            .await
            .is_err()
    );
    assert!(!fleet.members.observes("member"));

    drop(stopped);
    fleet
        .until("reachable", || {
            fleet.members.reach("member") == Reach::Reachable
        })
        .await;
    plane.run("patch configmap/settings -n hang --type=merge -p {\"data\":{\"TITLE\":\"Stolen\"}}");
    fleet
        .until("drift seen", || fleet.observe(&declared, 1).current == 0)
        .await;
    fleet.apply(&declared, 2).await.unwrap();
    assert!(fleet.observe(&declared, 2).settled());
}
