//! How the policy gets to a member and stays there, and a member without it.

use crate::{
    fencing::{erasure, fenced, gone, settings},
    support::{self, Fleet},
};
use flambeau_operator::members::{Fencing, MemberError, MemberSettings};
use std::{collections::BTreeSet, time::Duration};

const POLICY: &str = "validatingadmissionpolicy/flambeau-fencing";
const BINDING: &str = "validatingadmissionpolicybinding/flambeau-fencing";

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_comes_back_and_is_put_right() {
    let plane = support::own_plane();
    let fleet = fenced(&plane).await;
    plane.run(&format!("delete {POLICY} {BINDING}"));
    let patch = r#"{"spec":{"validationActions":["Audit"]}}"#;
    plane.run(&format!(
        "patch {BINDING}-remembered --type=merge -p {patch}"
    ));
    drop(fleet);
    // A new connection looks at once.
    let fleet = fenced(&plane).await;
    assert_eq!(
        plane.get(&format!(
            "{BINDING}-remembered -o jsonpath={{.spec.validationActions[0]}}"
        )),
        "Deny"
    );
    let weakened = r#"{"spec":{"matchConstraints":{"excludeResourceRules":[{"apiGroups":["*"],"apiVersions":["*"],"operations":["*"],"resources":["*"]}]}}}"#;
    plane.run(&format!("patch {POLICY} --type=merge -p {weakened}"));
    drop(fleet);
    let fleet = fenced(&plane).await;
    assert_eq!(
        plane.get(&format!(
            "{POLICY} -o jsonpath={{.spec.matchConstraints.excludeResourceRules}}"
        )),
        ""
    );

    // A lasting connection looks from time to time.
    drop(fleet);
    let settings = MemberSettings {
        fencing_check: Duration::from_millis(500),
        ..MemberSettings::default()
    };
    let fleet = Fleet::with(settings);
    fleet.configure(Ok(&plane.kubeconfig()));
    fleet
        .until("fenced", || {
            fleet.members.fencing("member") == Fencing::Installed
        })
        .await;
    plane.run(&format!("delete {POLICY}"));
    plane.until("back", || {
        plane
            .get("validatingadmissionpolicies -o name")
            .contains("flambeau-fencing")
    });

    // What a newer operator wrote stays.
    plane.run(&format!(
        "annotate --overwrite {BINDING}-remembered flambeau.dev/fencing-revision=99"
    ));
    plane.run(&format!(
        "patch {BINDING}-remembered --type=merge -p {patch}"
    ));
    drop(fleet);
    drop(fenced(&plane).await);
    assert_eq!(
        plane.get(&format!(
            "{BINDING}-remembered -o jsonpath={{.spec.validationActions[0]}}"
        )),
        "Audit"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_permits_no_policy_says_so_and_takes_writes() {
    let plane = support::own_plane();
    plane.run("create serviceaccount limited -n default");
    plane.run("create clusterrole limited --verb=get,list,watch,create,patch,delete --resource=configmaps,namespaces,endpointslices.discovery.k8s.io,nodes,leases.coordination.k8s.io");
    plane.run(
        "create clusterrolebinding limited --clusterrole=limited --serviceaccount=default:limited",
    );
    let token = plane.run("create token limited -n default");
    let fleet = Fleet::unconfigured(&plane);
    fleet.configure(Ok(
        &plane.kubeconfig_with_user(&format!("token: {}", token.trim()))
    ));
    fleet.reachable().await;
    fleet
        .until("unavailable", || {
            matches!(fleet.members.fencing("member"), Fencing::Unavailable { message }
                if message.contains("validatingadmissionpolicies") && message.contains("grant"))
        })
        .await;
    let declared = settings("fence-without", "settings", "new");
    fleet.place(&declared, 2).await;
    assert!(fleet.observe(&declared, 2).settled());
    let error = fleet.apply(&declared, 1).await.unwrap_err();
    assert!(
        matches!(
            error,
            MemberError::EpochTooLow {
                live: 2,
                epoch: 1,
                ..
            }
        ),
        "{error}"
    );
    fleet
        .members
        .erase(
            "member",
            &declared.key,
            &BTreeSet::new(),
            Some(&erasure(&declared, 2, 3)),
        )
        .await
        .unwrap();
    gone(&fleet, &declared).await;
}
