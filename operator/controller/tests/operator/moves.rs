//! Moves that people ask for, and what they do to them.

use crate::{
    active,
    fleet::{Fleet, application, refuse},
    shared::shared,
};
use serde_json::{Value, json};

pub fn request(name: &str, application: &str, from: &str, to: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Migration", "metadata": {"name": name, "namespace": "default"},
        "spec": {"application": application, "type": "Relocate", "from": from, "to": to,
            "trigger": "Request", "reason": "a person asks"},
    })
}

/// Waits for the end of a move, and returns how it ended and why.
pub fn outcome(fleet: &Fleet, name: &str) -> (String, String) {
    let what = format!("migration/{name}");
    fleet.until(&format!("{name} is over"), |fleet| {
        fleet.get(&what)["status"]["outcome"].is_string()
    });
    let status = &fleet.get(&what)["status"];
    let text = |field: &str| status[field].as_str().unwrap_or_default().to_owned();
    (text("outcome"), text("abortReason"))
}

/// Waits until a move is walked back for this reason.
fn aborted(fleet: &Fleet, name: &str, reason: &str) {
    let (outcome, why) = outcome(fleet, name);
    assert_eq!(outcome, "Aborted", "{name}");
    assert!(why.starts_with(reason), "{name}: {why}");
}

/// An application in the middle of the move `away` from cluster one to two: it
/// is recorded there, and soaks for so long.
fn soaking(fleet: &Fleet, seconds: u32) -> Value {
    let mut badges = application("badges");
    badges["spec"]["migration"]["soakSeconds"] = json!(seconds);
    fleet.place(&badges);
    fleet.apply(&request("away", "badges", "one", "two"));
    fleet.active_on("gapp/badges", "two");
    badges
}

#[test]
fn a_person_may_move_an_application_but_not_beyond_the_law() {
    let fleet = shared();
    fleet.place(&application("badges"));
    for (name, application, from, to, reason) in [
        ("unknown", "badges", "one", "nowhere", "ClusterUnknown"),
        ("elsewhere", "badges", "two", "one", "SourceMismatch"),
        ("nobody", "nobody", "one", "two", "ApplicationGone"),
    ] {
        fleet.apply(&request(name, application, from, to));
        aborted(&fleet, name, reason);
    }
    fleet.apply(&refuse("law", &["west"]));
    fleet.condition("sovereigntypolicy/law", "InForce", "True");
    fleet.apply(&request("unlawful", "badges", "one", "two"));
    aborted(&fleet, "unlawful", "ProviderRefused");
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    assert_eq!(fleet.configmaps("two"), "");

    fleet.hub(&["delete", "sovereigntypolicy", "law"]);
    // The name that the operator would choose for the first move, and at once
    // a second one.
    let both = ["badges-1", "second"].map(|name| request(name, "badges", "one", "two"));
    fleet.hub.apply(&both).unwrap();
    aborted(&fleet, "second", "AnotherMove");
    let (_, message) = fleet.condition("migration/second", "Ready", "False");
    assert!(
        message.contains("Migration badges-1") && message.contains("wait for its end"),
        "{message}"
    );
    assert_eq!(outcome(&fleet, "badges-1").0, "Completed");
    assert_eq!(fleet.get("gapp/badges")["status"]["epoch"], 2);
    fleet.apply(&refuse("law", &["west"]));
    fleet.active_on("gapp/badges", "one");
}

#[test]
fn a_move_deleted_by_hand_is_walked_back_first() {
    let fleet = shared();
    soaking(&fleet, 600);
    fleet.hub(&["delete", "migration", "away", "--timeout=60s"]);
    fleet.condition("gapp/badges", "Reconciling", "False");
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    assert_eq!(fleet.configmaps("one"), "configmap/badges");
    assert_eq!(fleet.configmaps("two"), "");
    fleet.apply(&request("again", "badges", "one", "two"));
    fleet.active_on("gapp/badges", "two");
}

#[test]
fn an_application_deleted_in_the_middle_of_a_move_and_created_again_starts_anew() {
    let fleet = shared();
    let slow = soaking(&fleet, 600);
    let before = fleet.get("gapp/badges");
    fleet.hub(&["delete", "gapp", "badges", "--timeout=60s"]);
    fleet.place(&slow);
    let after = fleet.get("gapp/badges");
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    assert_eq!(active(&after), Some("one"));
    assert_eq!(after["status"]["epoch"], 1);
    assert_eq!(fleet.configmaps("one"), "configmap/badges");
    assert_eq!(fleet.configmaps("two"), "");
    assert_eq!(outcome(&fleet, "away").0, "Aborted");
}

#[test]
fn a_dead_cluster_that_an_application_has_left_may_be_removed() {
    let mut fleet = Fleet::start();
    soaking(&fleet, 5);
    fleet.members.remove("one");
    assert_eq!(outcome(&fleet, "away").0, "Completed");
    fleet.condition("membercluster/one", "Ready", "False");
    fleet.hub(&["delete", "membercluster", "one", "--timeout=60s"]);
    // Whoever takes it out of the fleet takes its contents upon themselves.
    fleet.condition("gapp/badges", "Reconciling", "False");
    fleet.until("an event tells what is left behind", |fleet| {
        let events = fleet.hub(&["get", "events", "--field-selector=reason=LeftBehind"]);
        events.contains("cluster one was taken out")
    });
    fleet.hub(&["delete", "gapp", "badges", "--timeout=60s"]);
    assert_eq!(fleet.configmaps("two"), "");
}
