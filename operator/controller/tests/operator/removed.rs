//! A cluster that is lost, and taken out of the fleet while applications are
//! still recorded there.

use crate::{
    active,
    fleet::{Fleet, application, condition},
    moves::{outcome, request},
};
use serde_json::json;

#[test]
fn a_lost_cluster_is_removed_when_its_last_application_has_failed_over() {
    let fleet = Fleet::start();
    let mut manual = application("gates");
    manual["spec"]["failover"] = json!({"mode": "Manual"});
    fleet.apply(&application("badges"));
    fleet.place(&manual);
    fleet.condition("gapp/badges", "Ready", "True");
    let member = fleet.get("membercluster/one");

    fleet.cut("one");
    fleet.hub(&["delete", "membercluster", "one", "--wait=false"]);
    // Whoever may leave by itself does.
    fleet.active_on("gapp/badges", "two");
    assert_eq!(outcome(&fleet, "badges-1").0, "Completed");
    fleet.condition("gapp/badges", "Ready", "True");
    // Whoever waits for a person says so, and holds the cluster.
    let (reason, message) = fleet.condition("gapp/gates", "Stalled", "True");
    assert_eq!(reason, "FailoverManual");
    assert!(
        message.contains("kubectl flambeau failover gates"),
        "{message}"
    );
    fleet.until("what holds the cluster is named", |fleet| {
        let stalled = condition(&fleet.get("membercluster/one"), "Stalled").unwrap();
        let message = stalled["message"].as_str().unwrap_or_default();
        stalled["reason"] == "InUse"
            && message.contains("here: default/gates; ")
            && message.contains("kubectl flambeau failover")
    });
    assert_eq!(active(&fleet.get("gapp/gates")), Some("one"));

    let mut failover = request("asked", "gates", "one", "two");
    failover["spec"]["type"] = json!("Failover");
    fleet.apply(&failover);
    assert_eq!(outcome(&fleet, "asked").0, "Completed");
    fleet.hub(&["wait", "membercluster/one", "--for=delete", "--timeout=60s"]);
    for name in ["badges", "gates"] {
        let what = format!("gapp/{name}");
        fleet.condition(&what, "Ready", "True");
        fleet.condition(&what, "Stalled", "False");
        fleet.condition(&what, "Reconciling", "False");
        assert_eq!(active(&fleet.get(&what)), Some("two"), "{name}");
    }
    fleet.until("events tell what is left behind", |fleet| {
        let events = fleet.hub(&["get", "events", "--field-selector=reason=LeftBehind"]);
        events.matches("cluster one was taken out").count() >= 2
    });
    // Nobody reaches for a cluster that is not of the fleet.
    let both = "configmap/badges\nconfigmap/gates";
    fleet.mend("one");
    fleet.thought_once_more();
    assert_eq!(fleet.configmaps("one"), both);

    // It returns: what it still has is not taken for a copy that serves.
    fleet.apply(
        &json!({"apiVersion": member["apiVersion"], "kind": "MemberCluster",
        "metadata": {"name": "one"}, "spec": member["spec"]}),
    );
    fleet.condition("membercluster/one", "Ready", "True");
    fleet.thought();
    for name in ["badges", "gates"] {
        let what = format!("gapp/{name}");
        assert_eq!(active(&fleet.get(&what)), Some("two"), "{name}");
        assert_eq!(fleet.get(&what)["status"]["epoch"], 2, "{name}");
    }
    assert_eq!(fleet.configmaps("two"), both);
}
