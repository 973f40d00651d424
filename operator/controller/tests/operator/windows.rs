//! Evacuations and freezes, and a hub that does not know of them.

use crate::{
    active,
    fleet::{Fleet, application, condition, refuse},
    shared::shared,
};
use serde_json::{Value, json};

fn operation(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "flambeau.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

#[test]
fn an_evacuation_empties_a_cluster_and_keeps_it_empty() {
    let fleet = shared();
    for name in ["badges", "gates", "volunteers"] {
        fleet.apply(&application(name));
    }
    for name in ["badges", "gates", "volunteers"] {
        fleet.condition(&format!("gapp/{name}"), "Ready", "True");
    }
    let spec = json!({"cluster": "one", "reason": "maintenance", "maxConcurrent": 1});
    fleet.apply(&operation("Evacuation", "one", spec));
    fleet.condition("evacuation/one", "Ready", "True");
    let status = fleet.get("evacuation/one")["status"].take();
    assert_eq!(status["outcome"], "Completed");
    assert_eq!((&status["total"], &status["moved"]), (&json!(3), &json!(3)));
    assert_eq!(status["stuck"], 0);
    assert!(status["startTime"].is_string() && status["completionTime"].is_string());
    assert_eq!(fleet.configmaps("one"), "");
    let moves = fleet.get("migrations");
    for one in moves["items"].as_array().unwrap() {
        assert_eq!(one["spec"]["trigger"], "Evacuation");
        assert_eq!(one["spec"]["evacuation"], "one");
    }
    for event in ["EvacuationBegun", "Evacuated"] {
        fleet.until(&format!("event {event} is told"), |fleet| {
            fleet.hub(&["get", "events", "-A"]).contains(event)
        });
    }
    // Although it prefers cluster one.
    fleet.place(&application("late"));
    assert_eq!(active(&fleet.get("gapp/late")), Some("two"));
}

#[test]
fn an_evacuation_says_at_once_that_room_is_missing() {
    // Nobody ends what is deleted in the foreground there.
    let fleet = Fleet::start();
    let mut large = application("badges");
    large["spec"]["resources"][1] = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "badges"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "badges"}}, "template": {
            "metadata": {"labels": {"app": "badges"}},
            "spec": {"containers": [{"name": "badges", "image": "badges"}]}}},
    });
    fleet.apply(&large);
    fleet.active_on("gapp/badges", "one");
    let container = &mut large["spec"]["resources"][1]["spec"]["template"]["spec"]["containers"][0];
    container["resources"] = json!({"requests": {"cpu": "3", "memory": "2Gi"}});
    large["spec"]["resources"][1]["spec"]["replicas"] = json!(2);
    fleet.apply(&large);
    fleet.hub(&[
        "patch",
        "membercluster",
        "two",
        "--type=merge",
        "-p",
        r#"{"spec": {"capacity": {"cpu": "5"}}}"#,
    ]);
    fleet.until("the request is known", |fleet| {
        ["membercluster/two", "gapp/badges"].iter().all(|what| {
            let object = fleet.get(what);
            object["status"]["observedGeneration"] == object["metadata"]["generation"]
        })
    });
    let spec = json!({"cluster": "one", "reason": "maintenance"});
    fleet.apply(&operation("Evacuation", "one", spec));
    let (_, message) = fleet.condition("evacuation/one", "Stalled", "True");
    assert!(message.contains("default/badges"), "{message}");
    let status = fleet.get("evacuation/one")["status"].take();
    let shortfall = status["shortfall"].as_str().unwrap();
    assert!(shortfall.starts_with("1 applications"), "{shortfall}");
    assert_eq!(status["stuck"], 1);
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    fleet.until("an event tells", |fleet| {
        fleet.hub(&["get", "events", "-A"]).contains("ClusterFull")
    });
}

#[test]
fn a_freeze_holds_planned_moves_and_says_how_many() {
    let fleet = shared();
    fleet.place(&application("badges"));
    let spec = json!({"from": "2020-01-01T00:00:00Z", "until": "2120-01-01T00:00:00Z", "reason": "ceremony"});
    fleet.apply(&operation("Freeze", "ceremony", spec));
    fleet.condition("freeze/ceremony", "InForce", "True");
    fleet.apply(&refuse("law", &["east"]));
    fleet.until("the move waits", |fleet| {
        fleet.get("freeze/ceremony")["status"]["waiting"] == 1
    });
    let waits = condition(&fleet.get("gapp/badges"), "Reconciling").unwrap();
    assert_eq!(waits["reason"], "Frozen", "{waits}");
    assert_eq!(fleet.configmaps("two"), "");
    let metrics = fleet.metrics();
    assert!(metrics.contains("flambeau_freezes_in_force 1"), "{metrics}");
    fleet.hub(&["delete", "freeze", "ceremony"]);
    fleet.active_on("gapp/badges", "two");
}

#[test]
fn a_hub_of_an_older_version_is_told_what_it_lacks() {
    let mut fleet = Fleet::start();
    fleet.place(&application("badges"));
    fleet.kill_operator();
    fleet.hub(&["delete", "crd", "freezes.flambeau.dev"]);
    fleet.launch_operator();
    fleet.until("readiness names what is missing", |fleet| {
        fleet
            .readyz()
            .is_some_and(|(status, text)| status == 503 && text.contains("freezes.flambeau.dev"))
    });
    fleet.define();
    fleet.until("it goes on by itself", |fleet| {
        fleet.readyz().is_some_and(|(status, _)| status == 200)
    });
    assert_eq!(fleet.configmaps("one"), "configmap/badges");
}
