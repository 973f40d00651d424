//! A member that was joined with the rights that `kubectl flambeau join`
//! grants, and nothing more.

use crate::support::{self, Fleet, Plane, application, kinds, shop};
use flambeau_operator::{
    declared::Declared,
    members::{Fencing, MemberError, rights::Membership},
};
use flambeau_planner::model::Reach;
use flambeau_testbed::audit::{Audit, Right, Use};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const ACCOUNT: &str = "flambeau-applications";

pub fn membership(namespaces: &[&str], kinds: &[&str]) -> Membership {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Membership {
        name: "member".to_owned(),
        hub: "hub".to_owned(),
        namespace: "flambeau-system".to_owned(),
        service_account: "flambeau".to_owned(),
        application_service_account: ACCOUNT.to_owned(),
        namespaces: owned(namespaces),
        kinds: owned(kinds),
    }
}

fn access(membership: &Membership) -> Value {
    json!({"applicationServiceAccount": membership.application_service_account,
        "namespaces": membership.namespaces, "kinds": membership.kinds})
}

/// Joins a control plane.
pub async fn joined(plane: &Plane, membership: &Membership) -> Fleet {
    for manifest in membership.manifests() {
        plane.apply(&manifest);
    }
    let token = plane.run("create token flambeau -n flambeau-system");
    let fleet = Fleet::unconfigured(plane);
    let kubeconfig = plane.kubeconfig_with_user(&format!("token: {}", token.trim()));
    fleet.configure_with(&access(membership), Ok(&kubeconfig));
    fleet.reachable().await;
    fleet
        .until("fencing known", || {
            fleet.members.fencing("member") != Fencing::Unknown
        })
        .await;
    assert_eq!(fleet.members.fencing("member"), Fencing::Installed);
    // Known only where nodes and their leases may be listed.
    fleet
        .until("nodes known", || fleet.members.nodes("member").is_some())
        .await;
    fleet
}

const KINDS: [&str; 5] = [
    "configmaps",
    "secrets",
    "services",
    "deployments.apps",
    "endpointslices.discovery.k8s.io",
];

/// Written under two epochs, put right, and erased.
async fn lives_and_goes(plane: &Plane, fleet: &Fleet, declared: &Declared) {
    let namespace = &declared.key.namespace;
    fleet.declare(declared);
    fleet.apply(declared, 1).await.unwrap();
    fleet
        .until("settled", || fleet.observe(declared, 1).settled())
        .await;
    plane.run(&format!("delete service/shop -n {namespace}"));
    fleet
        .until("seen", || !fleet.observe(declared, 1).settled())
        .await;
    fleet.apply(declared, 1).await.unwrap();
    fleet.apply(declared, 2).await.unwrap();
    assert!(fleet.observe(declared, 2).settled());
    let erasure = crate::fencing::erasure(declared, 2, 3);
    let key = &declared.key;
    let members = &fleet.members;
    members
        .erase("member", key, &kinds(declared), Some(&erasure))
        .await
        .unwrap();
    crate::fencing::gone(fleet, declared).await;
    assert!(
        members
            .verify_absent("member", key, &kinds(declared))
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn within_namespaces_its_rights_suffice_for_everything() {
    let plane = support::own_plane();
    let fleet = joined(&plane, &membership(&["games", "staff"], &KINDS)).await;
    let objects = &shop()[..3];
    lives_and_goes(&plane, &fleet, &application("games", "shop", objects)).await;
    lives_and_goes(&plane, &fleet, &application("staff", "shop", objects)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_it_lets_applications_into_new_ones() {
    let plane = support::own_plane();
    let fleet = joined(&plane, &membership(&[], &KINDS)).await;
    let objects = &shop()[..3];
    lives_and_goes(&plane, &fleet, &application("new", "shop", objects)).await;
    let role = plane.get(&format!(
        "rolebinding/{ACCOUNT} -n new -o jsonpath={{.roleRef.kind}}/{{.roleRef.name}}"
    ));
    assert_eq!(role, format!("ClusterRole/{ACCOUNT}"));
}

/// What roles of a name allow.
fn granted(membership: &Membership, role: &str) -> BTreeSet<Right> {
    let words =
        |list: &Value| -> Vec<String> { serde_json::from_value(list.clone()).unwrap_or_default() };
    let mut rights = BTreeSet::new();
    for manifest in membership.manifests() {
        let kind = manifest["kind"].as_str();
        if !matches!(kind, Some("Role" | "ClusterRole")) || manifest["metadata"]["name"] != role {
            continue;
        }
        for rule in manifest["rules"].as_array().unwrap() {
            let group = words(&rule["apiGroups"]).pop().unwrap_or_default();
            for what in ["resources", "nonResourceURLs"] {
                for resource in words(&rule[what]) {
                    let verbs = words(&rule["verbs"]).into_iter();
                    rights.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
                }
            }
        }
    }
    rights
}

fn right(group: &str, resource: &str, verb: &str) -> Right {
    (group.to_owned(), resource.to_owned(), verb.to_owned())
}

/// What Flambeau's own identity used, and what that of applications did.
fn used(audit: &Audit) -> (BTreeSet<Right>, BTreeSet<Right>) {
    let uses = audit.uses().unwrap();
    let (as_application, own): (Vec<Use>, Vec<Use>) =
        uses.into_iter().partition(|one| one.impersonated.is_some());
    let rights = |uses: Vec<Use>| -> BTreeSet<Right> {
        let allowed = uses.into_iter().filter(|one| !one.refused);
        allowed.flat_map(Use::rights).collect()
    };
    let (applications, mut own) = (rights(as_application), rights(own));
    // What an API server looks at without being asked for it.
    let group = "rbac.authorization.k8s.io";
    if !applications.is_empty() {
        own.insert(right("", "serviceaccounts", "impersonate"));
    }
    if own.contains(&right(group, "rolebindings", "create")) {
        own.insert(right(group, "clusterroles", "bind"));
    }
    // Shown where tokens are renewed, with a clock that is set.
    own.insert(right("", "serviceaccounts/token", "create"));
    (own, applications)
}

async fn every_right_is_needed(namespaces: &[&str]) {
    let user = "system:serviceaccount:flambeau-system:flambeau";
    let (plane, audit, _folder) = support::audited_plane(user);
    // No ConfigMaps, so that what is granted for those of fencing shows.
    let membership = membership(namespaces, &["secrets", "services"]);
    let fleet = joined(&plane, &membership).await;
    let objects = &shop()[1..3];
    let declared = application("games", "shop", objects);
    lives_and_goes(&plane, &fleet, &declared).await;
    // Whether another has taken over is looked at before it is told.
    let error = fleet.apply_once(&declared, 2).await.unwrap_err();
    assert!(matches!(error, MemberError::Fenced { .. }), "{error}");
    // So is what bears the name of an object and none of Flambeau's labels.
    for object in objects {
        let mut another = object.clone();
        another["metadata"] = json!({"name": "taken", "namespace": "games"});
        plane.apply(&another);
        another["metadata"] = json!({"name": "taken"});
        let declared = application("games", "newcomer", &[another]);
        fleet.declare(&declared);
        let error = fleet.apply(&declared, 1).await.unwrap_err();
        assert!(matches!(error, MemberError::Foreign { .. }), "{error}");
    }
    let (own, applications) = used(&audit);
    for (role, used) in [
        (membership.role_name(), own),
        (ACCOUNT.to_owned(), applications),
    ] {
        let granted = granted(&membership, &role);
        assert!(!granted.is_empty(), "{role}");
        let idle: Vec<&Right> = granted.difference(&used).collect();
        assert!(
            idle.is_empty(),
            "{role} grants what nobody asked for: {idle:?}"
        );
        let count = granted.len();
        println!("{role}: {count} rights (one verb on one resource each), each of them used");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn within_namespaces_every_right_is_needed() {
    every_right_is_needed(&["games"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_namespaces_every_right_is_needed() {
    every_right_is_needed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_somebody_took_away_is_missed_and_not_put_back() {
    let plane = support::own_plane();
    let membership = membership(&["games"], &KINDS);
    let fleet = joined(&plane, &membership).await;
    plane.run("delete validatingadmissionpolicybinding/flambeau-fencing");
    // A new connection looks at once.
    let token = plane.run("create token flambeau -n flambeau-system");
    let kubeconfig = plane.kubeconfig_with_user(&format!("token: {}", token.trim()));
    fleet.configure_with(&access(&membership), Ok(&kubeconfig));
    fleet
        .until("missed", || {
            matches!(fleet.members.fencing("member"), Fencing::Unavailable { message }
                if message.contains("flambeau-fencing") && message.contains("kubectl flambeau join"))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_named_with_the_remedy_and_what_is_known_stays_known() {
    let plane = support::own_plane();
    let membership = membership(&["games"], &KINDS);
    let fleet = joined(&plane, &membership).await;
    let declared = application("games", "shop", &shop()[..3]);
    fleet.declare(&declared);
    fleet.apply(&declared, 1).await.unwrap();
    fleet
        .until("settled", || fleet.observe(&declared, 1).settled())
        .await;
    plane.run("delete serviceaccount/flambeau -n flambeau-system");
    fleet
        .until("refused", || {
            matches!(fleet.members.reach("member"), Reach::Misconfigured { message }
                if message.contains("revoked") && message.contains("kubectl flambeau join"))
        })
        .await;
    assert_eq!(fleet.observe(&declared, 1).current, 3);

    for manifest in membership.manifests() {
        plane.apply(&manifest);
    }
    let token = plane.run("create token flambeau -n flambeau-system");
    let kubeconfig = plane.kubeconfig_with_user(&format!("token: {}", token.trim()));
    fleet.configure_with(&access(&membership), Ok(&kubeconfig));
    fleet.reachable().await;
    assert!(fleet.observe(&declared, 1).settled());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_gets_no_further_than_its_own_namespace_does() {
    let plane = support::own_plane();
    let membership = membership(&["games"], &["configmaps", "secrets", "services"]);
    let fleet = joined(&plane, &membership).await;
    let config = &shop()[..1];
    let apply = async |namespace: &str, objects: &[Value]| {
        let declared = application(namespace, "shop", objects);
        fleet.declare(&declared);
        fleet.apply_once(&declared, 1).await.unwrap_err()
    };
    for namespace in ["staff", "kube-system", "flambeau-system"] {
        let error = apply(namespace, config).await;
        assert!(
            matches!(error, MemberError::NotAllowed { .. }) && error.is_refusal(),
            "{error}"
        );
        assert!(error.to_string().contains(namespace), "{error}");
    }
    let escape = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "escape"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "games"}]});
    let error = apply("games", &[escape]).await;
    assert!(error.to_string().contains("spec.access.kinds"), "{error}");

    // What the member's own administrators took from the namespace, Flambeau does not give back.
    let declared = application("games", "settings", config);
    fleet.declare(&declared);
    plane.run(&format!("delete rolebinding/{ACCOUNT} -n games"));
    let denied = fleet.apply(&declared, 1).await;
    let mut error = denied.err();
    for _ in 0..50 {
        // The API server goes by the deletion within moments.
        if error.is_some() {
            break;
        }
        plane.run("delete configmap/settings -n games");
        fleet
            .until("gone", || fleet.observe(&declared, 1).present == 0)
            .await;
        error = fleet.apply(&declared, 1).await.err();
    }
    let error = error.unwrap();
    assert!(matches!(error, MemberError::Refused { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("system:serviceaccount:games:flambeau-applications"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn permissions_are_granted_only_as_far_as_the_application_has_them() {
    let plane = support::own_plane();
    let role = |verb: &str, resource: &str| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "of-the-application"},
            "rules": [{"apiGroups": [""], "resources": [resource], "verbs": [verb]}]})
    };
    // An administrator's kubeconfig, and no identity of applications: not at all.
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let declared = application("games", "shop", &[role("patch", "configmaps")]);
    fleet.declare(&declared);
    let error = fleet.apply_once(&declared, 1).await.unwrap_err();
    assert!(
        error.to_string().contains("applicationServiceAccount"),
        "{error}"
    );
    drop(fleet);
    let kinds = ["configmaps", "roles.rbac.authorization.k8s.io"];
    let fleet = joined(&plane, &membership(&["games"], &kinds)).await;
    let more = application("games", "shop", &[role("get", "secrets")]);
    fleet.declare(&more);
    let error = fleet.apply(&more, 1).await.unwrap_err();
    assert!(error.to_string().contains("attempting to grant"), "{error}");
    fleet.declare(&declared);
    fleet.apply(&declared, 1).await.unwrap();
}
