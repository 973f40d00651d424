//! Whoever may declare an application gets nothing through Flambeau that they
//! could not do themselves; whoever may write a kubeconfig gets nothing out of
//! the operator. One test for each way that came to mind. Refusals by the
//! definition of GamesApplications are in the tests of the API, those by
//! namespaces and kinds of a member in `joined`.

use crate::{
    joined::{joined, membership},
    support::{self, Fleet, Plane, application, kinds},
};
use flambeau_operator::{
    declared::Declared,
    members::{MemberError, rights::DEFAULT_KINDS},
};
use flambeau_planner::model::Reach;
use serde_json::{Value, json};

fn object(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}

fn config(name: &str) -> Value {
    let mut config = object("v1", "ConfigMap", name);
    config["data"] = json!({"key": "value"});
    config
}

async fn refused(fleet: &Fleet, declared: &Declared) -> MemberError {
    fleet.watch(declared);
    fleet.members.declare(std::sync::Arc::new(declared.clone()));
    fleet
        .until("every kind is known, or why it is not", || {
            let copy = fleet.observe(declared, 1);
            copy.observed || copy.obstacle().is_some()
        })
        .await;
    fleet.apply_once(declared, 1).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_cluster_scope_and_no_subresource_even_for_an_administrator() {
    let plane = support::own_plane();
    // Flambeau may do everything there: the worst case.
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    for (api_version, kind) in [
        ("v1", "Namespace"),
        ("v1", "Node"),
        ("v1", "PersistentVolume"),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
        ),
        (
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
        ),
        (
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
        ),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("apiregistration.k8s.io/v1", "APIService"),
        ("certificates.k8s.io/v1", "CertificateSigningRequest"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("scheduling.k8s.io/v1", "PriorityClass"),
        ("storage.k8s.io/v1", "StorageClass"),
        // Subresources have kinds of their own.
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("authorization.k8s.io/v1", "LocalSubjectAccessReview"),
        ("autoscaling/v1", "Scale"),
        ("policy/v1", "Eviction"),
        ("v1", "Binding"),
        ("v1", "PodExecOptions"),
        ("v1", "PodPortForwardOptions"),
        ("v1", "ConfigMapList"),
        // And one that nobody serves.
        ("example.org/v1", "Torch"),
    ] {
        // Each an application of its own: a refusal is remembered.
        let name = format!("escape-{}", kind.to_lowercase());
        let declared = application("deputy", &name, &[object(api_version, kind, "escape")]);
        let error = refused(&fleet, &declared).await;
        assert!(
            matches!(error, MemberError::NotServed { .. }) && error.is_refusal(),
            "{kind}: {error}"
        );
    }
    assert_eq!(plane.get("namespace/escape --ignore-not-found"), "");
    // Permissions, which are namespaced: refused for what they are.
    for kind in ["Role", "RoleBinding"] {
        let declared = application(
            "deputy",
            "escape",
            &[object("rbac.authorization.k8s.io/v1", kind, "escape")],
        );
        let error = refused(&fleet, &declared).await;
        assert!(
            error.to_string().contains("grants permissions"),
            "{kind}: {error}"
        );
    }
    assert_eq!(fleet.applies(), 0, "nothing was asked of the member");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_forges_is_written_over() {
    let plane = support::own_plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    plane.run("create namespace other");
    let mut forged = config("forged");
    forged["metadata"] = json!({
        "name": "forged", "namespace": "other", "resourceVersion": "7", "uid": "stolen",
        "labels": {"flambeau.dev/application": "neighbour", "app.kubernetes.io/managed-by": "somebody"},
        "annotations": {"flambeau.dev/epoch": "99", "flambeau.dev/digest": "stolen"},
        "managedFields": [{"manager": "somebody", "operation": "Apply", "apiVersion": "v1"}],
    });
    forged["status"] = json!({"ready": true});
    let declared = application("deputy", "shop", &[forged]);
    fleet.place(&declared, 1).await;
    assert_eq!(
        plane.get("configmaps -n other forged --ignore-not-found"),
        ""
    );
    let written: Value =
        serde_json::from_str(&plane.get("configmap/forged -n deputy -o json")).unwrap();
    let metadata = &written["metadata"];
    assert_eq!(metadata["labels"]["flambeau.dev/application"], "shop");
    assert_eq!(
        metadata["labels"]["app.kubernetes.io/managed-by"],
        "flambeau"
    );
    assert_eq!(metadata["annotations"]["flambeau.dev/epoch"], "1");
    assert_ne!(metadata["annotations"]["flambeau.dev/digest"], "stolen");
    assert_ne!(metadata["uid"], "stolen");
    // Nor does it count among the objects of the neighbour, who is erased.
    let neighbour = application("deputy", "neighbour", &[]);
    let members = &fleet.members;
    members
        .erase("member", &neighbour.key, &kinds(&declared), None)
        .await
        .unwrap();
    plane.get("configmap/forged -n deputy");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flambeau_itself_keeps_there_is_not_an_owners() {
    let plane = support::own_plane();
    let fleet = joined(&plane, &membership(&["games"], &DEFAULT_KINDS)).await;
    let mut epochs = object("v1", "ConfigMap", "flambeau-epochs");
    epochs["data"] = json!({"shop": "2100-01-01T00:00:00Z/9999999999"});
    for (kept, title) in [
        (epochs, "ConfigMap/flambeau-epochs"),
        (
            object("v1", "ServiceAccount", "flambeau-applications"),
            "ServiceAccount/flambeau-applications",
        ),
    ] {
        let declared = application("games", "thief", &[kept]);
        fleet.declare(&declared);
        let error = fleet.apply(&declared, 2).await.unwrap_err();
        assert!(
            matches!(&error, MemberError::Foreign { object, .. } if object == title),
            "{error}"
        );
    }
    let epochs = plane.get("configmap/flambeau-epochs -n games -o jsonpath={.data}");
    assert!(!epochs.contains("9999999999"), "{epochs}");
    for (object, why) in [
        // Addresses of one's own choice, and permissions, are not among the usual kinds.
        (
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "elsewhere", "labels": {"kubernetes.io/service-name": "shop"}},
                "ports": [{"port": 80}], "endpoints": [{"addresses": ["192.0.2.1"]}]}),
            "spec.access.kinds",
        ),
        (object("v1", "Pod", "bare"), "spec.access.kinds"),
        (object("v1", "Endpoints", "elsewhere"), "spec.access.kinds"),
        (
            object(
                "rbac.authorization.k8s.io/v1",
                "RoleBinding",
                "flambeau-applications",
            ),
            "spec.access.kinds",
        ),
    ] {
        let declared = application("games", "thief", &[object]);
        let error = refused(&fleet, &declared).await;
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_goes_holds_up_its_own_application_alone() {
    let plane = support::own_plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let mut stuck = config("stuck");
    stuck["metadata"]["finalizers"] = json!(["example.org/never"]);
    stuck["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Namespace", "name": "kube-system",
        "uid": "00000000-0000-4000-8000-000000000000", "blockOwnerDeletion": true, "controller": true}]);
    let stuck = application("deputy", "stuck", &[stuck]);
    let neighbour = application("deputy", "neighbour", &[config("neighbour")]);
    fleet.place(&neighbour, 1).await;
    // What belongs to another object counts as made by a controller: whether it is taken or not, it harms nobody.
    fleet.declare(&stuck);
    let _ = fleet.apply(&stuck, 1).await;
    let members = &fleet.members;
    for one in [&stuck, &neighbour] {
        let erased = members.erase("member", &one.key, &kinds(one), None).await;
        assert!(erased.is_ok(), "{erased:?}");
    }
    let key = &neighbour.key;
    fleet
        .until("the neighbour is gone", || {
            fleet.observe(&neighbour, 1).absent()
        })
        .await;
    let gone = members
        .verify_absent("member", key, &kinds(&neighbour))
        .await;
    assert!(gone.unwrap());
    plane.run("get namespace/kube-system");
}

/// A kubeconfig whose command, or files, would work: they must not be used.
#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_neither_runs_a_command_nor_reads_a_file() {
    let plane = support::own_plane();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let administrator: serde_yaml::Value = serde_yaml::from_slice(&plane.kubeconfig()).unwrap();
    let user = &administrator["users"][0]["user"];
    for (file, field) in [
        ("crt", "client-certificate-data"),
        ("key", "client-key-data"),
    ] {
        use base64::Engine;
        let data = user[field].as_str().unwrap();
        let data = base64::engine::general_purpose::STANDARD
            .decode(data)
            .unwrap();
        std::fs::write(path(file), data).unwrap();
    }
    plane.run("create serviceaccount reader -n default");
    let token = plane.run("create token reader -n default");
    std::fs::write(path("token"), token.trim()).unwrap();
    let ran = path("ran");
    let cases = [
        json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [ran],
            "interactiveMode": "Never"}}),
        json!({"auth-provider": {"name": "gcp", "config": {"cmd-path": "touch", "cmd-args": ran}}}),
        json!({"tokenFile": path("token")}),
        json!({"client-certificate": path("crt"), "client-key": path("key")}),
        // Beside what would be enough.
        json!({"token": token.trim(), "tokenFile": path("token")}),
    ];
    let fleet = Fleet::unconfigured(&plane);
    for user in cases {
        let kubeconfig = plane.kubeconfig_with_user(&user.to_string());
        fleet.configure(Ok(&kubeconfig));
        fleet
            .until("refused", || {
                matches!(fleet.members.reach("member"), Reach::Misconfigured { message } if message.contains("is refused"))
            })
            .await;
        assert!(
            fleet.members.version("member").is_none(),
            "it was not asked: {user}"
        );
    }
    assert!(!std::fs::exists(&ran).unwrap(), "a command ran");
}

/// Every question that a thief would ask first.
fn everything(plane: &Plane, token: &str) -> Vec<String> {
    let token = format!("--token={token}");
    let nobody = plane.kubeconfig_without_user();
    let nobody = format!("--kubeconfig={nobody}");
    let asked = [
        "auth whoami",
        "get secrets -A",
        "get configmaps -A",
        "get namespaces",
        "get nodes",
        "get serviceaccounts -A",
        "get secrets -n flambeau-system",
        "create configmap stolen -n default",
        "create token flambeau -n flambeau-system",
        "delete namespace default",
        "get --raw /metrics",
        "get --raw /apis",
    ];
    let answers = asked.iter().map(|question| {
        let arguments = question.split(' ').chain([token.as_str(), nobody.as_str()]);
        let arguments: Vec<&str> = arguments.collect();
        match plane.try_run(&arguments) {
            Ok(answer) => format!("{question}: {answer}"),
            Err(error) => format!("{question}: {error}"),
        }
    });
    answers.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_credential_of_one_member_opens_no_other() {
    let (one, other) = (support::own_plane(), support::own_plane());
    let all = membership(&[], &DEFAULT_KINDS);
    for plane in [&one, &other] {
        for manifest in all.manifests() {
            plane.apply(&manifest);
        }
    }
    let token = one.run("create token flambeau -n flambeau-system");
    let token = token.trim();
    let at_home = everything(&one, token);
    assert!(
        at_home[0].contains("system:serviceaccount:flambeau-system:flambeau"),
        "{at_home:#?}"
    );
    // At home too, it may not do what applications may, nor make itself at home.
    for answer in &at_home[7..] {
        let own_token = answer.starts_with("create token flambeau ");
        let public = answer.starts_with("get --raw /apis");
        assert!(
            own_token || public || answer.contains("forbidden"),
            "{answer}"
        );
    }
    // The other one, or the hub, which is a cluster like any other: it is nobody there.
    for answer in everything(&other, token) {
        assert!(
            answer.contains("Unauthorized") || answer.contains("must be logged in"),
            "{answer}"
        );
    }
}
