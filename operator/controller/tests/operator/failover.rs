//! Clusters that are lost and return.

use crate::{
    active,
    fleet::{Fleet, application, condition},
    moves::outcome,
};
use serde_json::{Value, json};

fn health(fleet: &Fleet, cluster: &str) -> Value {
    fleet.get(&format!("membercluster/{cluster}"))["status"]["health"].take()
}

/// Everything that the operator could have written while a cluster is lost.
fn versions_without_events(fleet: &Fleet) -> String {
    let only =
        "-o=jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}";
    let hub = fleet.hub(&[
        "get",
        "cloudproviders,memberclusters,gamesapplications,migrations",
        "-A",
        only,
    ]);
    let member = fleet.member("two", &["get", "configmaps,secrets", "-A", only]);
    format!("{hub}\n{member}")
}

#[test]
fn a_lost_cluster_is_left_and_may_return() {
    let mut fleet = Fleet::start();
    let mut badges = application("badges");
    badges["spec"]["objectives"] = json!({"recoveryTimeSeconds": 60});
    fleet.place(&badges);

    fleet.cut("one");
    fleet.active_on("gapp/badges", "two");
    assert_eq!(outcome(&fleet, "badges-1").0, "Completed");
    assert_eq!(fleet.configmaps("two"), "configmap/badges");
    let moved = fleet.get("migration/badges-1");
    assert_eq!(moved["spec"]["type"], "Failover");
    assert_eq!(moved["spec"]["trigger"], "Loss");
    let reason = moved["spec"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("ClusterLost"), "{reason}");
    assert!(moved["status"]["lostTime"].is_string());
    let recovery = moved["status"]["recoveryMilliseconds"].as_i64().unwrap();
    assert!((1..60_000).contains(&recovery), "{recovery} ms");
    assert!(
        moved["metadata"]["finalizers"].is_null(),
        "it may be deleted"
    );
    for event in ["FailoverBegun", "Recovered", "ClusterLost"] {
        fleet.until(&format!("event {event} is told"), |fleet| {
            fleet.hub(&["get", "events", "-A"]).contains(event)
        });
    }
    // The move comes first; what is thought of the cluster is told after it.
    fleet.until("the loss is told", |fleet| health(fleet, "one") == "Lost");
    let ready = condition(&fleet.get("membercluster/one"), "Ready").unwrap();
    assert_eq!(ready["reason"], "ClusterLost");
    assert_eq!(fleet.get("gapp/badges")["status"]["failedOverFrom"], "one");
    let text = fleet.metrics();
    for line in [
        "flambeau_member_health{cluster=\"one\",health=\"Lost\"} 1",
        "flambeau_moves_total{type=\"Failover\",result=\"Completed\"} 1",
        "flambeau_failover_recovery_seconds_count 1",
        "flambeau_hub_suspect 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }

    // A restart knows since when the cluster is lost, and says it once.
    fleet.condition("gapp/badges", "Ready", "True");
    fleet.thought_once_more();
    let before = versions_without_events(&fleet);
    fleet.kill_operator();
    fleet.start_operator();
    fleet.until("the loss is known again", |fleet| {
        let text = fleet.metrics();
        text.contains("flambeau_member_health{cluster=\"one\",health=\"Lost\"} 1")
    });
    fleet.thought_on("two");
    assert_eq!(
        without(&versions_without_events(&fleet), "two"),
        without(&before, "two")
    );

    fleet.mend("one");
    fleet.until("the stale copy is erased", |fleet| {
        fleet.configmaps("one").is_empty()
    });
    fleet.condition("gapp/badges", "Reconciling", "False");
    fleet.until("it has proved itself", |fleet| {
        health(fleet, "one") == "Healthy"
    });
    fleet.until("its return is told", |fleet| {
        fleet
            .hub(&["get", "events", "-A"])
            .contains("ClusterReturned")
    });
    let after = fleet.get("gapp/badges");
    assert_eq!(active(&after), Some("two"), "never back by itself");
    assert_eq!(after["status"]["epoch"], 2);
}

/// The annotation that asks for a pass is a write of the test's own.
fn without(versions: &str, member: &str) -> String {
    let own = format!("MemberCluster/{member}=");
    let others = versions
        .split_whitespace()
        .filter(|one| !one.starts_with(&own));
    others.collect::<Vec<_>>().join(" ")
}

#[test]
fn an_application_that_asks_for_a_person_says_so_and_stays() {
    let fleet = Fleet::start();
    let mut manual = application("badges");
    manual["spec"]["failover"] = json!({"mode": "Manual"});
    fleet.place(&manual);
    fleet.cut("one");
    let (reason, message) = fleet.condition("gapp/badges", "Stalled", "True");
    assert_eq!(reason, "FailoverManual");
    assert!(
        message.contains("kubectl flambeau failover badges"),
        "{message}"
    );
    fleet.until("an event tells", |fleet| {
        fleet.hub(&["get", "events"]).contains("FailoverManual")
    });
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    fleet.mend("one");
    fleet.condition("gapp/badges", "Stalled", "False");
    fleet.condition("gapp/badges", "Ready", "True");
    assert_eq!(fleet.configmaps("two"), "");
}

#[test]
fn when_most_clusters_vanish_together_nothing_moves() {
    let fleet = Fleet::start();
    fleet.place(&application("badges"));
    fleet.cut("one");
    fleet.cut("two");
    fleet.until("the hub is suspected", |fleet| {
        fleet.metrics().contains("flambeau_hub_suspect 1")
    });
    let (reason, _) = fleet.condition("gapp/badges", "Stalled", "True");
    assert_eq!(reason, "HubSuspect");
    fleet.mend("one");
    fleet.mend("two");
    fleet.condition("gapp/badges", "Stalled", "False");
    fleet.condition("gapp/badges", "Ready", "True");
    // Not before the other is back too.
    fleet.until("the hub is suspected no longer", |fleet| {
        fleet.metrics().contains("flambeau_hub_suspect 0")
    });
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    assert_eq!(fleet.get("gapp/badges")["status"]["epoch"], 1);
}
