//! Hubs and members that lack something, and credentials that are over: each
//! is told where people look, and does no harm to what runs.

use crate::{
    active,
    fleet::{Fleet, application, condition},
    joined::join,
    shared::shared,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use flambeau_operator::members::rights::RENEWED_LABEL;
use flambeau_testbed::control_plane::{ControlPlane, Options};
use jiff::Timestamp;
use serde_json::{Value, json};

/// The generated definition of GamesApplication, as a version wrote it that
/// knew less.
fn older(fleet: &Fleet) -> Value {
    let mut definition = fleet.get("crd/gamesapplications.flambeau.dev");
    let version = &mut definition["spec"]["versions"][0];
    let schema = &mut version["schema"]["openAPIV3Schema"]["properties"];
    let status = schema["status"]["properties"].as_object_mut().unwrap();
    status.remove("epoch").unwrap();
    let metadata = json!({"name": definition["metadata"]["name"]});
    json!({"apiVersion": definition["apiVersion"], "kind": definition["kind"], "metadata": metadata,
        "spec": definition["spec"]})
}

#[test]
fn definitions_older_than_the_operator_are_told_and_nothing_is_done() {
    let mut fleet = Fleet::start();
    fleet.place(&application("badges"));
    fleet.kill_operator();
    let definition = older(&fleet);
    let file = fleet.hub.manifests(&[definition]).unwrap();
    fleet.hub(&["replace", "-f", &file]);
    fleet.launch_operator();
    fleet.until("readiness names what is lacking", |fleet| {
        fleet.readyz().is_some_and(|(status, text)| {
            status == 503
                && text.contains("older than this version")
                && text.contains("gamesapplications.flambeau.dev lacks status.epoch")
        })
    });
    assert!(
        fleet
            .log()
            .contains("gamesapplications.flambeau.dev lacks status.epoch"),
        "{}",
        fleet.log()
    );
    fleet.apply(&application("later"));
    assert_eq!(fleet.configmaps("one"), "configmap/badges");
    fleet.hub(&[
        "replace",
        "-f",
        "../../crds/generated/gamesapplications.yaml",
    ]);
    fleet.condition("gapp/later", "Ready", "True");
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    // They are rolled back while it runs.
    fleet.hub(&["replace", "-f", &file]);
    fleet.until("readiness names what is lacking now", |fleet| {
        fleet
            .readyz()
            .is_some_and(|(status, text)| status == 503 && text.contains("lacks status.epoch"))
    });
    fleet.apply(&application("latest"));
    fleet.hub(&[
        "replace",
        "-f",
        "../../crds/generated/gamesapplications.yaml",
    ]);
    fleet.condition("gapp/latest", "Ready", "True");
}

#[test]
fn without_gateway_api_an_application_runs_and_says_why_nobody_reaches_it() {
    let fleet = shared();
    let mut shop = application("shop");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"},
        "spec": {"ports": [{"port": 80}]}});
    // What a controller would say of pods.
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "shop", "labels": {"kubernetes.io/service-name": "shop"}},
        "ports": [{"port": 8080}], "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": true}}]});
    let resources = shop["spec"]["resources"].as_array_mut().unwrap();
    resources.extend([service, slice]);
    shop["spec"]["traffic"] =
        json!({"hostnames": ["shop.example"], "service": {"name": "shop", "port": 80}});
    fleet.apply(&shop);
    fleet.until("what is lacking is named", |fleet| {
        let status = fleet.get("gapp/shop")["status"]["conditions"].to_string();
        status.contains("Gateway API")
    });
    fleet.until("it is written all the same", |fleet| {
        fleet.configmaps("one") == "configmap/shop"
    });
    // Others do not mind.
    fleet.place(&application("badges"));
    println!("{}", fleet.get("gapp/shop")["status"]["conditions"]);
}

#[test]
fn a_member_without_admission_policies_is_told_and_serves() {
    let fleet = shared();
    let options = Options {
        apiserver_arguments: vec![
            "--disable-admission-plugins=MutatingAdmissionPolicy,MutatingAdmissionWebhook,ValidatingAdmissionPolicy,ValidatingAdmissionWebhook".to_owned(),
            "--runtime-config=admissionregistration.k8s.io/v1=false".to_owned(),
        ],
        ..Options::default()
    };
    let old = ControlPlane::start_temporary(&options).unwrap();
    let kubeconfig = std::fs::read_to_string(old.kubeconfig()).unwrap();
    fleet.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "member-old", "namespace": "default"},
        "stringData": {"kubeconfig": kubeconfig}}));
    fleet.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": "old"},
        "spec": {"provider": "east", "residency": "FR",
            "kubeconfigSecret": {"namespace": "default", "name": "member-old"}},
    }));
    let (reason, message) = fleet.condition("membercluster/old", "Fenced", "False");
    assert_eq!(reason, "FencingUnavailable", "{message}");
    assert!(
        message.contains("is not served: fencing needs Kubernetes 1.30"),
        "{message}"
    );
    let mut badges = application("badges");
    badges["spec"]["placement"]["preferredClusters"] = json!(["old"]);
    fleet.place(&badges);
    assert_eq!(active(&fleet.get("gapp/badges")), Some("old"));
    // As long as it is there.
    fleet.hub(&["delete", "gapp", "badges", "--timeout=60s"]);
    fleet.hub(&["delete", "membercluster", "old", "--timeout=60s"]);
}

/// The token of an account, over since an hour.
fn expired() -> String {
    let now = Timestamp::now().as_second();
    let claims = json!({"sub": "system:serviceaccount:flambeau-system:flambeau", "iat": now - 7200, "exp": now - 3600});
    let claims = URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{claims}.unsigned")
}

#[test]
fn a_token_that_is_over_or_was_revoked_is_told_and_nothing_is_moved() {
    let fleet = Fleet::start();
    join(&fleet, "one");
    fleet.condition("membercluster/one", "CredentialsRenewed", "True");
    fleet.condition("membercluster/one", "Fenced", "True");
    fleet.place(&application("badges"));
    fleet.active_on("gapp/badges", "one");
    let misconfigured = |says: &str| {
        fleet.until(says, |fleet| {
            let ready = condition(&fleet.get("membercluster/one"), "Ready").unwrap();
            let message = ready["message"].as_str().unwrap_or_default();
            ready["status"] == "False"
                && message.contains(says)
                && message.contains("kubectl flambeau join")
        });
        let application = fleet.get("gapp/badges");
        let told = || format!("{says}: {application}\n{}", fleet.log());
        assert_eq!(active(&application), Some("one"), "{}", told());
        assert_eq!(application["status"]["migration"], Value::Null);
        assert_eq!(fleet.configmaps("one"), "configmap/badges");
        assert_eq!(fleet.configmaps("two"), "");
    };

    fleet.member(
        "one",
        &[
            "delete",
            "serviceaccount",
            "flambeau",
            "-n",
            "flambeau-system",
        ],
    );
    misconfigured("revoked");
    join(&fleet, "one");
    fleet.condition("membercluster/one", "Ready", "True");

    let kubeconfig = fleet.members["one"].kubeconfig_of(json!({"token": expired()}));
    fleet.apply(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "member-one", "namespace": "default", "labels": {RENEWED_LABEL: "true"}},
        "stringData": {"kubeconfig": kubeconfig.unwrap()}}));
    misconfigured("expired");
    let (reason, message) = fleet.condition("membercluster/one", "CredentialsRenewed", "False");
    assert_eq!(reason, "CredentialsExpired", "{message}");
    join(&fleet, "one");
    fleet.condition("membercluster/one", "Ready", "True");
    fleet.condition("membercluster/one", "CredentialsRenewed", "True");
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
}
