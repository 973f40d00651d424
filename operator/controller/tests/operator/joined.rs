//! A member that was joined, from the hub's point of view.

use crate::{
    active,
    fleet::{Fleet, application},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use flambeau_operator::members::rights::{Membership, RENEWED_LABEL};
use serde_json::{Value, json};

const ACCOUNT: &str = "flambeau-applications";

/// Refuses what is done to an object of an application by anybody but the
/// ServiceAccount of its namespace.
fn witness() -> [Value; 2] {
    let labelled = |object: &str| {
        format!(
            "has({object}.metadata.labels) && 'flambeau.dev/application' in {object}.metadata.labels && !{object}.metadata.name.startsWith('flambeau-')"
        )
    };
    let condition = format!(
        "request.operation == 'DELETE' ? ({}) : ({})",
        labelled("oldObject"),
        labelled("object")
    );
    let api = "admissionregistration.k8s.io/v1";
    [
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "witness"}, "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE", "DELETE"], "resources": ["configmaps", "secrets"]}]},
            "matchConditions": [{"name": "of-an-application", "expression": condition}],
            "validations": [{"expression": format!("request.userInfo.username == 'system:serviceaccount:' + request.namespace + ':{ACCOUNT}'"),
                "messageExpression": "'not the application: ' + request.userInfo.username"}]}}),
        json!({"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "witness"},
            "spec": {"policyName": "witness", "validationActions": ["Deny"]}}),
    ]
}

fn write(fleet: &Fleet, member: &str, object: &Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.to_string()).unwrap();
    let path = file.path().display().to_string();
    fleet.member(member, &["apply", "-f", &path]);
}

/// Joins a member again, which an administrator's kubeconfig led to before.
pub fn join(fleet: &Fleet, member: &str) {
    let membership = Membership {
        name: member.to_owned(),
        hub: "hub".to_owned(),
        namespace: "flambeau-system".to_owned(),
        service_account: "flambeau".to_owned(),
        application_service_account: ACCOUNT.to_owned(),
        namespaces: vec!["default".to_owned()],
        kinds: vec!["configmaps".to_owned(), "secrets".to_owned()],
    };
    for manifest in membership.manifests().iter().chain(&witness()) {
        write(fleet, member, manifest);
    }
    let token = fleet.member(
        member,
        &["create", "token", "flambeau", "-n", "flambeau-system"],
    );
    let secret = fleet.get(&format!("secret/member-{member}"));
    let kubeconfig = secret["data"]["kubeconfig"].as_str().unwrap();
    let kubeconfig = STANDARD.decode(kubeconfig).unwrap();
    let mut kubeconfig: serde_yaml::Value = serde_yaml::from_slice(&kubeconfig).unwrap();
    kubeconfig["users"][0]["user"] = serde_yaml::to_value(json!({"token": token.trim()})).unwrap();
    fleet.apply(&json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": format!("member-{member}"), "namespace": "default", "labels": {RENEWED_LABEL: "true"}},
        "stringData": {"kubeconfig": serde_yaml::to_string(&kubeconfig).unwrap()}}));
    let access = json!({"spec": {"access": {"applicationServiceAccount": ACCOUNT,
        "namespaces": membership.namespaces, "kinds": membership.kinds}}});
    let patch = ["patch", "membercluster", member, "--type=merge", "-p"];
    fleet.hub(&[&patch[..], &[&access.to_string()]].concat());
}

#[test]
fn applications_come_and_go_under_their_own_identity() {
    let fleet = Fleet::start();
    join(&fleet, "one");
    let (reason, message) = fleet.condition("membercluster/one", "CredentialsRenewed", "True");
    assert_eq!(reason, "CredentialsValid");
    assert!(message.contains("lasts until"), "{message}");
    fleet.condition("membercluster/one", "Fenced", "True");

    fleet.apply(&application("badges"));
    fleet.condition("gapp/badges", "Ready", "True");
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    fleet.hub(&["delete", "gapp", "badges", "--timeout=60s"]);
    assert_eq!(fleet.configmaps("one"), "");

    // A kind that the member was not joined for goes elsewhere.
    let mut shop = application("shop");
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"},
        "spec": {"ports": [{"port": 80}]}});
    let resources = shop["spec"]["resources"].as_array_mut().unwrap();
    resources.push(service);
    fleet.apply(&shop);
    fleet.condition("gapp/shop", "Ready", "True");
    let shop = fleet.get("gapp/shop");
    assert_eq!(active(&shop), Some("two"));
    let candidates = shop["status"]["candidates"].as_array().unwrap();
    let one = candidates
        .iter()
        .find(|candidate| candidate["cluster"] == "one")
        .unwrap();
    assert_eq!(one["reason"], "KindNotAllowed", "{one}");
}
