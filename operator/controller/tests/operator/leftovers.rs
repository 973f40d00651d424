//! What must not be left on members.

use crate::{
    active,
    fleet::{Fleet, application, refuse},
    moves::{outcome, request},
};
use serde_json::{Value, json};

/// Objects of the test that are left on a member, beyond ConfigMaps.
fn secrets(fleet: &Fleet, member: &str) -> String {
    let only = [
        "get",
        "secrets",
        "-l",
        "flambeau.dev/application",
        "-o",
        "name",
    ];
    fleet.member(member, &only).trim().to_owned()
}

#[test]
fn a_kind_that_went_out_of_use_while_nobody_looked_is_erased() {
    let mut fleet = Fleet::start();
    let mut badges = application("badges");
    fleet.place(&badges);
    assert_eq!(secrets(&fleet, "one"), "secret/badges");
    fleet.kill_operator();
    badges["spec"]["resources"].as_array_mut().unwrap().pop();
    fleet.apply(&badges);
    fleet.start_operator();
    fleet.until("the Secret is erased", |fleet| {
        secrets(fleet, "one").is_empty()
    });
    assert_eq!(fleet.configmaps("one"), "configmap/badges");
}

#[test]
fn a_kind_that_went_out_of_use_while_its_cluster_was_away_is_erased() {
    let mut fleet = Fleet::start();
    let mut badges = application("badges");
    fleet.place(&badges);
    fleet.cut("one");
    fleet.active_on("gapp/badges", "two");
    badges["spec"]["resources"].as_array_mut().unwrap().pop();
    fleet.apply(&badges);
    fleet.until("the Secret is erased where it serves", |fleet| {
        secrets(fleet, "two").is_empty()
    });
    fleet.kill_operator();
    fleet.start_operator();
    fleet.mend("one");
    fleet.until("nothing is left where it was", |fleet| {
        fleet.configmaps("one").is_empty() && secrets(fleet, "one").is_empty()
    });
    fleet.condition("gapp/badges", "Reconciling", "False");
    let kinds = fleet.get("gapp/badges")["status"]["kinds"].to_string();
    assert!(
        kinds.contains("Secret"),
        "as long as a copy is anywhere: {kinds}"
    );
}

/// A process that wrote to a cluster died, and its write arrives when the
/// application has left: nothing but the member's watch tells of it. What
/// another hub has there under the same name is none of this hub's business.
#[test]
fn a_write_that_comes_late_to_where_nobody_looks_any_more_is_erased() {
    let fleet = Fleet::start();
    let names = ["passes", "badges"];
    let late: Vec<Value> = names
        .iter()
        .map(|name| {
            fleet.place(&application(name));
            let path = format!("/api/v1/namespaces/default/configmaps/{name}");
            let live = fleet.members["one"].client().get(&path).unwrap();
            let live: Value = serde_json::from_str(&live).unwrap();
            let mut annotations = live["metadata"]["annotations"].clone();
            annotations["flambeau.dev/epoch"] = json!("2");
            if *name == "passes" {
                annotations["flambeau.dev/application-uid"] = json!("of-another-hub");
            }
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": live["data"],
                "metadata": {"name": name, "namespace": "default",
                    "labels": live["metadata"]["labels"], "annotations": annotations},
            })
        })
        .collect();
    for name in names {
        fleet.apply(&request(&format!("{name}-away"), name, "one", "two"));
        assert_eq!(outcome(&fleet, &format!("{name}-away")).0, "Completed");
    }
    assert_eq!(fleet.configmaps("one"), "");
    fleet.members["one"].apply(&late).unwrap();
    fleet.until("what is this hub's is erased", |fleet| {
        fleet.configmaps("one") == "configmap/passes"
    });
    fleet.condition("gapp/badges", "Reconciling", "False");
    assert_eq!(active(&fleet.get("gapp/badges")), Some("two"));
    assert_eq!(fleet.configmaps("one"), "configmap/passes");
}

#[test]
fn an_application_created_again_is_not_confused_with_what_is_left_of_the_first() {
    let fleet = Fleet::start();
    let mut badges = application("badges");
    fleet.place(&badges);
    // Twice moved: the copy on cluster one has epoch 3.
    for (law, target) in [("east", "two"), ("west", "one")] {
        fleet.apply(&refuse("law", &[law]));
        fleet.active_on("gapp/badges", target);
        fleet.condition("gapp/badges", "Reconciling", "False");
    }
    fleet.cut("one");
    // Its only lawful place does not answer.
    fleet.hub(&["delete", "gapp", "badges", "--timeout=60s"]);
    badges["spec"]["resources"][0]["data"]["key"] = "another".into();
    fleet.apply(&badges);
    fleet.condition("gapp/badges", "Stalled", "True");
    fleet.mend("one");
    let (reason, _) = fleet.condition("gapp/badges", "Ready", "True");
    assert_eq!(reason, "Serving");
    let value = ["get", "configmap", "badges", "-o", "jsonpath={.data.key}"];
    assert_eq!(fleet.member("one", &value), "another");
    assert_eq!(fleet.get("gapp/badges")["status"]["epoch"], 1);
}
