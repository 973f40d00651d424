//! The token of a member is renewed before it expires. One control plane is
//! hub and member in one.

use crate::{
    joined::membership,
    support::{self, Plane},
};
use flambeau_operator::{
    dirty::Dirty,
    hub::Hub,
    leader::Leadership,
    members::{MemberSettings, Members, Renewal, rights::RENEWED_LABEL},
    transport,
};
use flambeau_planner::model::Reach;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;
use std::{path::Path, time::Duration};
use tokio::task::JoinSet;

const PATIENCE: Duration = Duration::from_secs(60);

/// A member that was joined with a token of ten minutes, followed by a hub
/// whose clock says that six of them are over.
struct Followed {
    plane: Plane,
    members: Members,
    dirty: Dirty,
    before: String,
    _watches: JoinSet<()>,
}

async fn followed(prepare: impl Fn(&Plane)) -> Followed {
    let plane = support::own_plane();
    let generated = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/generated");
    plane.run(&format!("apply -f {}", generated.display()));
    plane.run("wait crd --all --for=condition=Established --timeout=60s");
    for manifest in membership(&["games"], &["services"]).manifests() {
        plane.apply(&manifest);
    }
    let token = plane.run("create token flambeau -n flambeau-system --duration 10m");
    prepare(&plane);
    let kubeconfig = plane.kubeconfig_with_user(&format!("token: {}", token.trim()));
    plane.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "member", "namespace": "flambeau-system",
        "labels": {RENEWED_LABEL: "true"}}, "stringData": {"kubeconfig": String::from_utf8(kubeconfig).unwrap()}}));
    plane.apply(
        &json!({"apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": "member"},
        "spec": {"provider": "example", "residency": "FR", "kubeconfigSecret": {"namespace": "flambeau-system", "name": "member"}}}),
    );
    let administrator: Kubeconfig = serde_yaml::from_slice(&plane.kubeconfig()).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(administrator, &options);
    let dirty = Dirty::default();
    let members = Members::new(
        dirty.clone(),
        MemberSettings::default(),
        Leadership::always(),
    );
    let client = transport::client(&config.await.unwrap(), &Leadership::always()).unwrap();
    let mut hub = Hub::new(client);
    hub.now = || Timestamp::now() + SignedDuration::from_mins(6);
    let before = stored(&plane);
    let watches = hub.watch(&members, &dirty);
    Followed {
        plane,
        members,
        dirty,
        before,
        _watches: watches,
    }
}

fn stored(plane: &Plane) -> String {
    plane.get("secret/member -n flambeau-system -o jsonpath={.data.kubeconfig}")
}

impl Followed {
    async fn until(&self, what: &str, condition: impl Fn(Option<Renewal>) -> bool) {
        let wait = async {
            while !condition(self.members.renewal("member")) {
                self.dirty.wait().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(
            waited.is_ok(),
            "{what}: {:?}",
            self.members.renewal("member")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_at_half_of_its_life_and_nobody_notices() {
    let followed = followed(|_| {}).await;
    let Followed { plane, members, .. } = &followed;
    plane.until("renewed", || stored(plane) != followed.before);
    let unreachable = |reach: &Reach| !matches!(reach, Reach::Reachable | Reach::NotObserved);
    assert!(!unreachable(&members.reach("member")));
    // The new one is used, and does as well.
    let works = members.another_token(
        "member",
        ("flambeau-system", "flambeau"),
        SignedDuration::from_mins(10),
    );
    works.await.unwrap();
    assert_eq!(members.reach("member"), Reach::Reachable);
    let manager = plane
        .get("secret/member -n flambeau-system -o jsonpath={.metadata.managedFields[*].manager}");
    assert!(manager.contains("flambeau"), "{manager}");
    let label = plane.get("secret/member -n flambeau-system --show-labels");
    assert!(label.contains(RENEWED_LABEL), "{label}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_renewed_is_told_while_it_still_lasts() {
    let followed = followed(|plane| {
        plane.run("delete rolebinding --all -n flambeau-system");
    })
    .await;
    followed
        .until("told", |renewal| {
            renewal
                .and_then(|renewal| renewal.trouble)
                .is_some_and(|trouble| trouble.contains("serviceaccounts/token"))
        })
        .await;
    assert_eq!(followed.members.reach("member"), Reach::Reachable);
    assert_eq!(stored(&followed.plane), followed.before);
}
