//! The objects that are measured with: one Deployment and one ConfigMap an application, of ordinary size.

use serde_json::{Value, json};

/// Namespace of the applications that the operator places.
pub const NAMESPACE: &str = "games";
/// Namespace of what the plain client writes, which the operator does not look at.
pub const PLAIN: &str = "plain";
/// The clusters of the fleet besides the hub.
pub const MEMBERS: [&str; 3] = ["north", "east", "south"];

/// A ConfigMap.
pub fn config_map(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": namespace },
        "data": { "TITLE": format!("Application {name}"), "DRAIN_SECONDS": "5", "LOG": "info" },
    })
}

/// A Deployment with what a careful team declares.
pub fn deployment(namespace: &str, name: &str) -> Value {
    let labels = json!({ "app.kubernetes.io/name": name });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "namespace": namespace, "labels": labels },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 30,
                    "containers": [{
                        "name": "games",
                        "image": "games.flambeau.dev/games:dev",
                        "args": ["serve"],
                        "env": [{ "name": "APPLICATION", "value": name }],
                        "envFrom": [{ "configMapRef": { "name": name } }],
                        "ports": [{ "name": "http", "containerPort": 8080 }],
                        "readinessProbe": { "httpGet": { "path": "/readyz", "port": "http" }, "periodSeconds": 1 },
                        "resources": {
                            "requests": { "cpu": "10m", "memory": "8Mi" },
                            "limits": { "memory": "64Mi" },
                        },
                        "securityContext": {
                            "allowPrivilegeEscalation": false,
                            "runAsNonRoot": true,
                            "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
        },
    })
}

/// The status that a controller reports once a Deployment of one replica serves.
pub fn ready_status() -> Value {
    json!({ "status": {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
    } })
}

/// A GamesApplication that prefers a cluster.
pub fn application(namespace: &str, name: &str, preferred: &str) -> Value {
    let bare = |mut object: Value| {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        object
    };
    json!({
        "apiVersion": "flambeau.dev/v1alpha1",
        "kind": "GamesApplication",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            "sensitivity": "Personal",
            "criticality": "Important",
            "placement": { "preferredClusters": [preferred] },
            "resources": [bare(config_map(namespace, name)), bare(deployment(namespace, name))],
        },
    })
}

/// The cluster that the application of a number prefers: all get their share.
pub fn preferred(number: usize) -> &'static str {
    MEMBERS[number % MEMBERS.len()]
}

/// A provider under the law of one country.
pub fn provider(name: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1",
        "kind": "CloudProvider",
        "metadata": { "name": name },
        "spec": {
            "legalEntity": format!("{name} operations (illustrative)"),
            "registeredOffice": "FR",
            "headquarters": "FR",
            "ownership": { "chain": "Complete" },
        },
    })
}

/// A member with its kubeconfig in the Secret that [`secret`] makes.
pub fn member(name: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1",
        "kind": "MemberCluster",
        "metadata": { "name": name },
        "spec": {
            "provider": name,
            "residency": "FR",
            "kubeconfigSecret": { "namespace": "flambeau-system", "name": format!("member-{name}") },
        },
    })
}

/// The Secret with a member's kubeconfig.
pub fn secret(name: &str, kubeconfig: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("member-{name}"), "namespace": "flambeau-system" },
        "stringData": { "kubeconfig": kubeconfig },
    })
}

/// A policy that every member satisfies, so that the law is asked.
pub fn policy() -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1",
        "kind": "SovereigntyPolicy",
        "metadata": { "name": "personal-data-stays" },
        "spec": {
            "sensitivities": ["Personal", "Sensitive", "Restricted"],
            "residency": { "allowed": ["EU"] },
            "jurisdiction": { "allowed": ["EU"], "forbidden": ["CN"] },
            "enforcement": "Enforce",
            "reference": "Regulation (EU) 2016/679 (GDPR), article 48",
        },
    })
}

/// A Namespace.
pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}
