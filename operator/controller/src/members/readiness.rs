//! Whether a workload is ready: counted from what its controller reports,
//! never guessed from time.
//!
//! The rules are those of kstatus
//! (<https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus>),
//! stricter for Deployments: no replica of an older revision is left.

use super::live::Live;
use flambeau_planner::model::Kind;
use serde_json::Value;

/// Whether an object is a ready workload; none when it is no workload.
pub(super) fn ready(kind: &Kind, live: &Live) -> Option<bool> {
    let group = kind
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    match (group, &*kind.kind) {
        ("apps", "Deployment") => Some(observed(live) && deployment(live)),
        ("apps", "StatefulSet") => Some(observed(live) && stateful_set(live)),
        ("apps", "DaemonSet") => Some(observed(live) && daemon_set(live)),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            Some(observed(live) && replica_set(live))
        }
        ("batch", "Job") => Some(condition(live, "Complete") == Some("True")),
        ("", "Pod") => Some(pod(live)),
        // A claim may wait for its first consumer: what counts is that the consumer gets ready.
        ("", _) | ("apps" | "batch", _) => None,
        _ => other(live),
    }
}

fn observed(live: &Live) -> bool {
    live.status
        .get("observedGeneration")
        .and_then(Value::as_i64)
        .unwrap_or(0)
        >= live.metadata.generation
}

fn wanted(live: &Live) -> i64 {
    live.fields
        .get("spec")
        .and_then(|spec| spec.get("replicas"))
        .and_then(Value::as_i64)
        .unwrap_or(1)
}

fn count(live: &Live, field: &str) -> i64 {
    live.status.get(field).and_then(Value::as_i64).unwrap_or(0)
}

fn deployment(live: &Live) -> bool {
    let wanted = wanted(live);
    [
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
    ]
    .iter()
    .all(|field| count(live, field) == wanted)
}

fn stateful_set(live: &Live) -> bool {
    let wanted = wanted(live);
    let strategy = live
        .fields
        .get("spec")
        .and_then(|spec| spec.get("updateStrategy"));
    let partition = strategy
        .and_then(|strategy| strategy.pointer("/rollingUpdate/partition"))
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let on_delete = strategy
        .and_then(|strategy| strategy.get("type"))
        .is_some_and(|kind| kind == "OnDelete");
    let updated = on_delete || count(live, "updatedReplicas") >= wanted - partition.min(wanted);
    updated
        && ["replicas", "readyReplicas", "availableReplicas"]
            .iter()
            .all(|field| count(live, field) == wanted)
}

fn daemon_set(live: &Live) -> bool {
    let wanted = count(live, "desiredNumberScheduled");
    [
        "currentNumberScheduled",
        "updatedNumberScheduled",
        "numberReady",
        "numberAvailable",
    ]
    .iter()
    .all(|field| count(live, field) == wanted)
}

fn replica_set(live: &Live) -> bool {
    let wanted = wanted(live);
    ["replicas", "readyReplicas", "availableReplicas"]
        .iter()
        .all(|field| count(live, field) == wanted)
}

fn pod(live: &Live) -> bool {
    match live.status.get("phase").and_then(Value::as_str) {
        Some("Succeeded") => true,
        Some("Running") => condition(live, "Ready") == Some("True"),
        _ => false,
    }
}

/// Any other kind is a workload when it reports a Ready condition.
fn other(live: &Live) -> Option<bool> {
    let ready = condition(live, "Ready")?;
    let observed = live
        .status
        .get("observedGeneration")
        .and_then(Value::as_i64)
        .is_none_or(|generation| generation >= live.metadata.generation);
    Some(ready == "True" && observed && condition(live, "Stalled") != Some("True"))
}

fn condition<'a>(live: &'a Live, kind: &str) -> Option<&'a str> {
    live.status
        .get("conditions")?
        .as_array()?
        .iter()
        .find(|condition| condition.get("type").is_some_and(|value| value == kind))?
        .get("status")?
        .as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judge(api_version: &str, kind: &str, value: Value) -> Option<bool> {
        let kind = Kind {
            api_version: api_version.into(),
            kind: kind.into(),
        };
        ready(&kind, &serde_json::from_value(value).unwrap())
    }

    fn deployment(observed: i64, replicas: i64, updated: i64, available: i64) -> Option<bool> {
        judge(
            "apps/v1",
            "Deployment",
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": observed,
                "replicas": replicas, "updatedReplicas": updated, "readyReplicas": available, "availableReplicas": available}}),
        )
    }

    #[test]
    fn a_deployment_is_ready_when_all_replicas_are_new_and_available() {
        assert_eq!(deployment(2, 2, 2, 2), Some(true));
        assert_eq!(
            deployment(1, 2, 2, 2),
            Some(false),
            "the controller has not seen the change"
        );
        assert_eq!(
            deployment(2, 3, 2, 2),
            Some(false),
            "an old replica is left"
        );
        assert_eq!(deployment(2, 2, 1, 2), Some(false));
        assert_eq!(deployment(2, 2, 2, 1), Some(false));
        assert_eq!(
            judge(
                "apps/v1",
                "Deployment",
                json!({"metadata": {"generation": 1}, "spec": {}})
            ),
            Some(false)
        );
    }

    #[test]
    fn a_deployment_without_replicas_is_ready_once_observed() {
        let empty = |observed: i64| {
            judge(
                "apps/v1",
                "Deployment",
                json!({"metadata": {"generation": 1}, "spec": {"replicas": 0}, "status": {"observedGeneration": observed}}),
            )
        };
        assert_eq!((empty(0), empty(1)), (Some(false), Some(true)));
    }

    #[test]
    fn a_stateful_set_may_hold_back_a_partition() {
        let set = |updated: i64, partition: i64| {
            judge(
                "apps/v1",
                "StatefulSet",
                json!({"metadata": {"generation": 1}, "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": partition}}},
                    "status": {"observedGeneration": 1, "replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "updatedReplicas": updated}}),
            )
        };
        assert_eq!(
            (set(3, 0), set(2, 0), set(2, 1)),
            (Some(true), Some(false), Some(true))
        );
    }

    #[test]
    fn a_daemon_set_counts_nodes() {
        let set = |ready: i64| {
            judge(
                "apps/v1",
                "DaemonSet",
                json!({"status": {"desiredNumberScheduled": 2, "currentNumberScheduled": 2, "updatedNumberScheduled": 2,
                    "numberReady": ready, "numberAvailable": ready}}),
            )
        };
        assert_eq!((set(1), set(2)), (Some(false), Some(true)));
    }

    #[test]
    fn jobs_and_pods() {
        let job = |kind: &str| {
            judge(
                "batch/v1",
                "Job",
                json!({"status": {"conditions": [{"type": kind, "status": "True"}]}}),
            )
        };
        assert_eq!((job("Complete"), job("Failed")), (Some(true), Some(false)));
        let pod = |phase: &str, ready: &str| {
            judge(
                "v1",
                "Pod",
                json!({"status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}}),
            )
        };
        assert_eq!(pod("Running", "True"), Some(true));
        assert_eq!(pod("Running", "False"), Some(false));
        assert_eq!(pod("Succeeded", "False"), Some(true));
        assert_eq!(pod("Pending", "False"), Some(false));
    }

    #[test]
    fn what_is_no_workload_says_so() {
        for kind in ["ConfigMap", "Secret", "Service", "PersistentVolumeClaim"] {
            assert_eq!(judge("v1", kind, json!({})), None);
        }
        assert_eq!(
            judge("example.org/v1", "Database", json!({"status": {}})),
            None
        );
    }

    #[test]
    fn other_kinds_are_judged_by_their_conditions() {
        let database = |ready: &str, observed: i64, stalled: &str| {
            judge(
                "example.org/v1",
                "Database",
                json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": [
                    {"type": "Ready", "status": ready}, {"type": "Stalled", "status": stalled}]}}),
            )
        };
        assert_eq!(database("True", 2, "False"), Some(true));
        assert_eq!(database("True", 1, "False"), Some(false));
        assert_eq!(database("True", 2, "True"), Some(false));
        assert_eq!(database("Unknown", 2, "False"), Some(false));
    }
}
