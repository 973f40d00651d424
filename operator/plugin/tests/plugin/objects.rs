//! The objects of the fleet, and what the operator would report of them.

use serde_json::{Value, json};

/// When everything in the fleet was last seen to be as it is.
pub const THEN: &str = "2020-02-02T10:00:00Z";

/// The name of an object.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn object(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
    });
    for (field, value) in rest.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

/// An object of a namespaced kind.
pub fn namespaced(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = object(kind, name, rest);
    object["metadata"]["namespace"] = json!("games");
    object
}

/// A provider about which everything is known: French through and through.
pub fn provider(name: &str) -> Value {
    object(
        "CloudProvider",
        name,
        json!({"spec": {
            "legalEntity": name, "registeredOffice": "FR", "headquarters": "FR",
            "ownership": {"chain": "Complete"},
        }}),
    )
}

/// A cluster of the provider of the same name.
pub fn cluster(name: &str) -> Value {
    object(
        "MemberCluster",
        name,
        json!({"spec": {
            "provider": name, "residency": "FR",
            "kubeconfigSecret": {"namespace": "flambeau-system", "name": name},
        }}),
    )
}

/// A cluster that is well.
pub fn healthy(name: &str) -> Value {
    object(
        "MemberCluster",
        name,
        json!({"status": {
            "health": "Healthy", "applications": 0, "nodes": 2, "nodesReady": 2,
            "conditions": [condition("Ready", "True", "ClusterReachable", "")],
        }}),
    )
}

/// A cluster that is lost since long ago.
pub fn lost(name: &str) -> Value {
    object(
        "MemberCluster",
        name,
        json!({"status": {
            "health": "Lost", "applications": 0, "unreachableSince": THEN,
            "conditions": [condition("Ready", "False", "ClusterLost", "no answer comes")],
        }}),
    )
}

/// An application whose one Deployment requests one processor.
pub fn application(name: &str) -> Value {
    namespaced(
        "GamesApplication",
        name,
        json!({"spec": {
            "sensitivity": "Personal", "criticality": "Important",
            "objectives": {"recoveryTimeSeconds": 15},
            "resources": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                "spec": {
                    "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {"containers": [{
                            "name": "main", "image": "none",
                            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                        }]},
                    },
                },
            }],
        }}),
    )
}

/// A condition since long ago.
pub fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": THEN,
    })
}

/// An application that serves where the law allows.
pub fn serving(name: &str, cluster: &str) -> Value {
    namespaced(
        "GamesApplication",
        name,
        json!({"status": {
            "epoch": 1, "migrations": 0, "cluster": cluster,
            "placements": [{"cluster": cluster, "role": "Active", "epoch": 1, "since": THEN_MICRO}],
            "conditions": [
                condition("Ready", "True", "Serving", &format!("every workload on {cluster} is ready")),
                condition("Lawful", "True", "NotGoverned", ""),
                condition("Stalled", "False", "Settled", ""),
            ],
        }}),
    )
}

/// [`THEN`] with microseconds.
pub const THEN_MICRO: &str = "2020-02-02T10:00:00.000000Z";

/// A policy that refuses a provider.
pub fn refusing(provider: &str) -> Value {
    object(
        "SovereigntyPolicy",
        "no-way",
        json!({"spec": {
            "sensitivities": ["Personal"], "refusedProviders": [provider],
        }}),
    )
}

/// A window that is open.
pub fn freeze() -> Value {
    object(
        "Freeze",
        "ceremony",
        json!({"spec": {
            "from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "reason": "opening ceremony",
        }}),
    )
}

/// How far a Migration is.
pub fn progress(name: &str, status: Value) -> Value {
    namespaced("Migration", name, json!({ "status": status }))
}

/// A step that is over, or under way.
pub fn step(name: &str, over: bool) -> Value {
    let mut step = json!({"name": name, "startTime": THEN_MICRO});
    if over {
        step["endTime"] = json!("2020-02-02T10:00:02.500000Z");
    }
    step
}
