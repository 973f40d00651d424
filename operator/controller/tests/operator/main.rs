//! The operator as a process, against real API servers.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test ends with what goes wrong"
)]

mod bad_input;
mod canary;
mod clock;
mod disagreement;
mod failover;
mod fleet;
mod joined;
mod large;
mod leftovers;
mod link;
mod metrics;
mod moves;
mod page;
mod prometheus;
mod removed;
mod shared;
mod traces;
mod windows;

use fleet::{Fleet, application, condition, provider_facts, refuse};
use serde_json::{Value, json};
use shared::shared;

fn active(application: &Value) -> Option<&str> {
    let placements = application["status"]["placements"].as_array()?;
    placements
        .iter()
        .find(|placement| placement["role"] == "Active")?["cluster"]
        .as_str()
}

#[test]
fn an_application_is_placed_once_and_a_restart_writes_nothing() {
    let mut fleet = Fleet::start();
    fleet.apply(&application("badges"));
    let (reason, _) = fleet.condition("gapp/badges", "Ready", "True");
    assert_eq!(reason, "Serving");
    let placed = fleet.get("gapp/badges");
    assert_eq!(active(&placed), Some("one"));
    assert_eq!(placed["status"]["epoch"], 1);
    assert_eq!(
        placed["metadata"]["finalizers"],
        json!(["flambeau.dev/cleanup"])
    );
    let written = fleet.member(
        "one",
        &[
            "get",
            "configmap",
            "badges",
            "-o",
            "jsonpath={.metadata.annotations.flambeau\\.dev/epoch}",
        ],
    );
    assert_eq!(written, "1");
    assert_eq!(fleet.configmaps("two"), "");

    fleet.thought();
    let before = fleet.versions();
    fleet.kill_operator();
    fleet.start_operator();
    fleet.thought();
    assert_eq!(fleet.versions(), before);
}

#[test]
fn a_policy_moves_an_application_and_nothing_is_left_behind() {
    let fleet = shared();
    fleet.place(&application("badges"));
    fleet.apply(&refuse("law", &["east"]));
    fleet.until("the Migration is done", |fleet| {
        let migrations = fleet.get("migrations");
        migrations["items"].as_array().is_some_and(|all| {
            all.iter()
                .any(|one| one["status"]["outcome"] == "Completed")
        })
    });
    fleet.condition("gapp/badges", "Reconciling", "False");
    let moved = fleet.get("gapp/badges");
    assert_eq!(active(&moved), Some("two"));
    assert_eq!(moved["status"]["epoch"], 2);
    assert_eq!(
        moved["status"]["placements"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(fleet.configmaps("one"), "");
    assert_eq!(fleet.configmaps("two"), "configmap/badges");
    assert_eq!(
        fleet
            .member("one", &["get", "secrets", "-o", "name"])
            .trim(),
        ""
    );
    let migration = fleet.get("migrations/badges-1");
    let steps: Vec<&str> = migration["status"]["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        steps,
        [
            "Preflight",
            "Prepare",
            "Ready",
            "Sync",
            "Shift",
            "Soak",
            "Drain",
            "Retire",
            "Done"
        ]
    );
    assert!(
        migration["spec"]["reason"]
            .as_str()
            .unwrap()
            .starts_with("ProviderRefused: policy law")
    );

    // There and back again.
    fleet.hub(&["delete", "sovereigntypolicy", "law"]);
    fleet.apply(&refuse("law", &["west"]));
    fleet.active_on("gapp/badges", "one");
    fleet.condition("gapp/badges", "Reconciling", "False");
    assert_eq!(fleet.get("gapp/badges")["status"]["epoch"], 3);
    assert_eq!(fleet.configmaps("two"), "");
}

#[test]
fn without_a_lawful_cluster_nothing_moves_until_there_is_one() {
    let fleet = shared();
    fleet.place(&application("badges"));
    let mut unknown = provider_facts("west");
    unknown["spec"]["ownership"] = json!({"chain": "Incomplete"});
    fleet.apply(&unknown);
    fleet.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "SovereigntyPolicy", "metadata": {"name": "law"},
        "spec": {"sensitivities": ["Personal"], "jurisdiction": {"allowed": ["EU"]}, "refusedProviders": ["east"]},
    }));
    let (reason, message) = fleet.condition("gapp/badges", "Stalled", "True");
    assert_eq!(reason, "NoLawfulCluster");
    assert!(message.contains("two: JurisdictionUnknown"), "{message}");
    let (reason, message) = fleet.condition("gapp/badges", "Lawful", "False");
    assert_eq!(reason, "ProviderRefused");
    assert!(message.contains("policy law"), "{message}");
    assert_eq!(fleet.configmaps("one"), "configmap/badges");
    fleet.until("an event tells", |fleet| {
        fleet.hub(&["get", "events"]).contains("NoLawfulCluster")
    });
    assert_eq!(
        condition(&fleet.get("gapp/badges"), "Ready").unwrap()["status"],
        "True"
    );

    // It moves without being asked.
    fleet.apply(&provider_facts("west"));
    fleet.active_on("gapp/badges", "two");
    fleet.condition("gapp/badges", "Stalled", "False");
}

#[test]
fn what_cannot_be_used_is_told_and_harms_nobody() {
    let fleet = shared();
    let mut unserved = application("unserved");
    unserved["spec"]["resources"][0] =
        json!({"apiVersion": "example.org/v1", "kind": "Torch", "metadata": {"name": "torch"}});
    fleet.apply(&unserved);
    let (reason, message) = fleet.condition("gapp/unserved", "Stalled", "True");
    assert_eq!(reason, "NoEligibleCluster");
    assert!(message.contains("one: KindNotServed"), "{message}");

    let mut refused = application("refused");
    refused["spec"]["resources"][0]["data"] = json!({"key": {"not": "a string"}});
    fleet.apply(&refused);
    let (reason, message) = fleet.condition("gapp/refused", "Stalled", "True");
    assert_eq!(reason, "ObjectRefused");
    assert!(
        message.contains("ConfigMap") && message.contains("refused"),
        "{message}"
    );

    fleet.hub(&[
        "create",
        "secret",
        "generic",
        "garbage",
        "--from-literal=kubeconfig=garbage",
    ]);
    fleet.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": "three"},
        "spec": {"provider": "nobody", "residency": "FR", "kubeconfigSecret": {"namespace": "default", "name": "garbage"}},
    }));
    let (reason, _) = fleet.condition("membercluster/three", "Stalled", "True");
    assert_eq!(reason, "ProviderUnknown");
    fleet.until("the kubeconfig is told to be of no use", |fleet| {
        let ready = condition(&fleet.get("membercluster/three"), "Ready");
        ready.is_some_and(|ready| ready["reason"] == "ClusterMisconfigured")
    });

    fleet.place(&application("badges"));
    fleet.hub(&["delete", "membercluster/three", "secret/garbage"]);
}

#[test]
fn what_is_in_use_is_not_deleted() {
    let fleet = shared();
    fleet.place(&application("badges"));
    fleet.hub(&["delete", "membercluster", "one", "--wait=false"]);
    fleet.hub(&["delete", "cloudprovider", "east", "--wait=false"]);
    let (reason, _) = fleet.condition("membercluster/one", "Stalled", "True");
    assert_eq!(reason, "InUse");
    let (reason, _) = fleet.condition("cloudprovider/east", "Stalled", "True");
    assert_eq!(reason, "InUse");
    assert_eq!(fleet.configmaps("one"), "configmap/badges");

    fleet.hub(&["delete", "gapp", "badges", "--timeout=60s"]);
    fleet.until("the cluster may go", |fleet| {
        !fleet
            .hub(&["get", "membercluster", "-o", "name"])
            .contains("/one")
    });
    fleet.until("the provider may go", |fleet| {
        !fleet
            .hub(&["get", "cloudprovider", "-o", "name"])
            .contains("/east")
    });
    assert_eq!(fleet.configmaps("one"), "");
}

#[test]
fn a_dead_member_does_not_hold_up_a_deletion() {
    let mut fleet = Fleet::start();
    fleet.place(&application("badges"));
    fleet.members.remove("one");
    fleet.condition("membercluster/one", "Ready", "False");
    fleet.hub(&["delete", "gapp", "badges", "--timeout=60s"]);
    let member = fleet.get("membercluster/one");
    assert_eq!(
        member["status"]["pendingErasures"][0]["application"],
        "badges"
    );
}
