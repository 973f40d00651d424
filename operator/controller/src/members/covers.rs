//! Whether an object on a member still says everything that was declared.
//!
//! What the API server and controllers add is none of our business; what was
//! declared must be there. The API server's own normalisations are not
//! drift: quantities, dropped empty values, `stringData` of Secrets.

use super::live::Live;
use crate::quantity;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

/// Whether every declared field has the declared value.
pub(super) fn covers(manifest: &Value, live: &Live) -> bool {
    let Some(manifest) = manifest.as_object() else {
        return false;
    };
    let secret = manifest.get("kind").is_some_and(|kind| kind == "Secret");
    manifest.iter().all(|(key, declared)| match key.as_str() {
        "apiVersion" | "kind" | "status" => true,
        "metadata" => metadata_covers(declared, live),
        "data" if secret => secret_covers(manifest, live),
        "stringData" if secret => secret_covers(manifest, live),
        _ => field_covers(declared, live.fields.get(key), key, false),
    })
}

fn metadata_covers(declared: &Value, live: &Live) -> bool {
    let has = |field: &str, live: &BTreeMap<String, String>| {
        declared
            .get(field)
            .and_then(Value::as_object)
            .is_none_or(|declared| {
                declared.iter().all(|(key, value)| {
                    value.is_null() || live.get(key).map(String::as_str) == value.as_str()
                })
            })
    };
    let finalizers = declared
        .get("finalizers")
        .and_then(Value::as_array)
        .is_none_or(|declared| {
            declared.iter().all(|finalizer| {
                live.metadata
                    .finalizers
                    .iter()
                    .any(|live| Some(live.as_str()) == finalizer.as_str())
            })
        });
    finalizers
        && has("labels", &live.metadata.labels)
        && has("annotations", &live.metadata.annotations)
}

/// The data of a Secret as it is written: `stringData` wins over `data`.
pub(super) fn secret_data(manifest: &Map<String, Value>) -> BTreeMap<&str, Value> {
    let entries = |field| {
        manifest
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
    };
    let mut data: BTreeMap<&str, Value> = entries("data")
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    for (key, value) in entries("stringData") {
        let value = value.as_str().map_or_else(
            || value.clone(),
            |text| Value::String(STANDARD.encode(text)),
        );
        data.insert(key, value);
    }
    data
}

fn secret_covers(manifest: &Map<String, Value>, live: &Live) -> bool {
    let live = live.fields.get("data");
    let decoded = |value: &Value| value.as_str().and_then(|text| STANDARD.decode(text).ok());
    secret_data(manifest).iter().all(|(key, declared)| {
        declared.is_null()
            || live.and_then(|live| live.get(*key)).is_some_and(|live| {
                declared == live
                    || decoded(declared).is_some_and(|bytes| Some(bytes) == decoded(live))
            })
    })
}

fn field_covers(declared: &Value, live: Option<&Value>, key: &str, quantities: bool) -> bool {
    let Some(live) = live.filter(|live| !live.is_null()) else {
        return dropped_when_empty(declared, key);
    };
    value_covers(declared, live, key, quantities || is_quantity(key))
}

fn value_covers(declared: &Value, live: &Value, key: &str, quantities: bool) -> bool {
    match (declared, live) {
        (Value::Null, _) => true,
        (Value::Object(declared), Value::Object(live)) => {
            let quantities = quantities || holds_quantities(key);
            declared
                .iter()
                .all(|(key, value)| field_covers(value, live.get(key), key, quantities))
        }
        (Value::Array(declared), Value::Array(live)) => list_covers(declared, live, key),
        (Value::Number(declared), Value::Number(live)) => {
            declared == live || declared.as_f64() == live.as_f64()
        }
        // Integers and strings stand for each other in ports, percentages and quantities.
        (Value::Number(number), Value::String(text))
        | (Value::String(text), Value::Number(number)) => {
            number.to_string() == *text || quantities && quantity::same(&number.to_string(), text)
        }
        (Value::String(declared), Value::String(live)) => {
            declared == live || quantities && quantity::same(declared, live)
        }
        _ => declared == live,
    }
}

/// Keys by which lists of maps are merged in the core API, most telling
/// first (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy>).
const MERGE_KEYS: [&str; 9] = [
    "mountPath",
    "devicePath",
    "name",
    "containerPort",
    "port",
    "key",
    "topologyKey",
    "ip",
    "type",
];

fn list_covers(declared: &[Value], live: &[Value], key: &str) -> bool {
    if !declared.iter().all(Value::is_object) {
        return declared.len() == live.len()
            && declared
                .iter()
                .zip(live)
                .all(|(declared, live)| value_covers(declared, live, key, false));
    }
    if let Some(merge_key) = MERGE_KEYS
        .into_iter()
        .find(|merge_key| identifies(declared, merge_key))
    {
        return declared.iter().all(|element| {
            live.iter()
                .filter(|candidate| {
                    candidate
                        .get(merge_key)
                        .is_some_and(|value| Some(value) == element.get(merge_key))
                })
                .any(|candidate| value_covers(element, candidate, key, false))
        });
    }
    declared.len() <= live.len()
        && declared
            .iter()
            .zip(live)
            .all(|(declared, live)| value_covers(declared, live, key, false))
}

fn identifies(elements: &[Value], key: &str) -> bool {
    let mut seen = BTreeSet::new();
    elements.iter().all(|element| {
        element
            .get(key)
            .filter(|value| value.is_string() || value.is_number())
            .is_some_and(|value| seen.insert(value.to_string()))
    })
}

/// Whether the API server drops such a value when it stores the object, so
/// that its absence is no drift. Only where empty and absent mean the same:
/// `emptyDir: {}` or `podSelector: {}` say something.
fn dropped_when_empty(declared: &Value, key: &str) -> bool {
    match declared {
        Value::Null => true,
        Value::Bool(false) => matches!(
            key,
            "hostNetwork"
                | "hostPID"
                | "hostIPC"
                | "readOnly"
                | "stdin"
                | "stdinOnce"
                | "tty"
                | "paused"
                | "publishNotReadyAddresses"
        ),
        Value::String(text) if text.is_empty() => matches!(
            key,
            "value" | "medium" | "subPath" | "group" | "apiGroup" | "clusterIP"
        ),
        Value::Number(number) => key == "minReadySeconds" && number.as_i64() == Some(0),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .all(|(key, value)| dropped_when_empty(value, key)),
        Value::Object(_) => matches!(
            key,
            "labels"
                | "annotations"
                | "data"
                | "binaryData"
                | "stringData"
                | "limits"
                | "requests"
                | "nodeSelector"
                | "matchLabels"
        ),
        _ => false,
    }
}

/// Fields whose members are quantities.
fn holds_quantities(key: &str) -> bool {
    matches!(
        key,
        "limits"
            | "requests"
            | "capacity"
            | "hard"
            | "overhead"
            | "default"
            | "defaultRequest"
            | "min"
            | "max"
            | "maxLimitRequestRatio"
    )
}

/// Fields that are quantities.
fn is_quantity(key: &str) -> bool {
    matches!(key, "sizeLimit" | "divisor" | "averageValue")
}

/// A digest of everything in an object that people and webhooks write:
/// its fields, labels and annotations, not its status or versions.
pub(super) fn shape(live: &Live) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        &live.metadata.labels,
        &live.metadata.annotations,
        &live.metadata.finalizers,
    )
        .hash(&mut hasher);
    for (key, value) in &live.fields {
        key.hash(&mut hasher);
        value.hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn live(value: Value) -> Live {
        serde_json::from_value(value).unwrap()
    }

    fn check(declared: &Value, there: Value) -> bool {
        covers(declared, &live(there))
    }

    #[test]
    fn additions_are_no_drift_and_changes_are() {
        let declared = json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}}});
        assert!(check(
            &declared,
            json!({"spec": {"replicas": 2, "paused": true, "template": {"spec": {"dnsPolicy": "Default",
                "containers": [{"name": "sidecar", "image": "s"}, {"name": "a", "image": "x", "tty": true}]}}}, "status": {"replicas": 1}})
        ));
        assert!(!check(
            &declared,
            json!({"spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}}})
        ));
        assert!(!check(
            &declared,
            json!({"spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "a", "image": "y"}]}}}})
        ));
        assert!(!check(
            &declared,
            json!({"spec": {"replicas": 2, "template": {"spec": {"containers": []}}}})
        ));
        assert!(!check(&declared, json!({})));
    }

    #[test]
    fn quantities_are_compared_by_value_where_they_are_quantities() {
        let resources = |cpu: Value, memory: &str| json!({"spec": {"resources": {"limits": {"cpu": cpu, "memory": memory}}}});
        assert!(check(
            &resources(json!("1000m"), "1Gi"),
            resources(json!("1"), "1024Mi")
        ));
        assert!(check(
            &resources(json!(1), "1G"),
            resources(json!("1"), "1000M")
        ));
        assert!(check(
            &resources(json!("0.1"), "1e3"),
            resources(json!("100m"), "1k")
        ));
        assert!(!check(
            &resources(json!("1"), "1Gi"),
            resources(json!("1"), "1G")
        ));
        assert!(!check(
            &json!({"data": {"cpu": "1000m"}}),
            json!({"data": {"cpu": "1"}})
        ));
        assert!(check(
            &json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1000m"}}}]}}}}),
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}]}}}})
        ));
    }

    #[test]
    fn ports_are_the_same_as_text_and_as_number() {
        assert!(check(
            &json!({"spec": {"targetPort": 80}}),
            json!({"spec": {"targetPort": "80"}})
        ));
        assert!(!check(
            &json!({"spec": {"targetPort": 80}}),
            json!({"spec": {"targetPort": "http"}})
        ));
    }

    #[test]
    fn lists_of_maps_are_matched_by_their_key_and_others_by_place() {
        let mounts = |list: Value| json!({"spec": {"volumeMounts": list}});
        assert!(check(
            &mounts(json!([{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}])),
            mounts(
                json!([{"name": "token", "mountPath": "/t"}, {"name": "v", "mountPath": "/b"}, {"name": "v", "mountPath": "/a"}])
            )
        ));
        assert!(check(
            &json!({"spec": {"args": ["a", "b"]}}),
            json!({"spec": {"args": ["a", "b"]}})
        ));
        assert!(!check(
            &json!({"spec": {"args": ["a", "b"]}}),
            json!({"spec": {"args": ["b", "a"]}})
        ));
        assert!(!check(
            &json!({"spec": {"args": ["a"]}}),
            json!({"spec": {"args": ["a", "b"]}})
        ));
        let rules = |verb: &str| json!({"rules": [{"verbs": [verb]}]});
        assert!(check(&rules("get"), rules("get")));
        assert!(!check(&rules("get"), rules("list")));
        // The same name twice, as TCP and UDP of one port number.
        let ports = json!({"spec": {"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
        assert!(check(&ports, ports.clone()));
    }

    #[test]
    fn string_data_of_a_secret_is_compared_as_data() {
        let declared =
            json!({"kind": "Secret", "data": {"a": "Zmlyc3Q="}, "stringData": {"b": "second"}});
        assert!(check(
            &declared,
            json!({"data": {"a": "Zmlyc3Q=", "b": "c2Vjb25k", "c": "eA=="}})
        ));
        assert!(!check(
            &declared,
            json!({"data": {"a": "Zmlyc3Q=", "b": "Zmlyc3Q="}})
        ));
        assert!(!check(&declared, json!({"data": {"a": "Zmlyc3Q="}})));
        assert!(!check(&declared, json!({})));
    }

    #[test]
    fn dropped_empty_values_are_no_drift_and_meaningful_ones_are() {
        let container = |fields: Value| json!({"spec": {"containers": [fields]}});
        assert!(check(
            &container(
                json!({"name": "a", "env": [{"name": "E", "value": ""}], "tty": false, "args": []})
            ),
            container(json!({"name": "a", "env": [{"name": "E"}]}))
        ));
        assert!(check(
            &json!({"metadata": {"labels": {}}, "spec": {"a": null}}),
            json!({})
        ));
        assert!(!check(
            &json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}),
            json!({"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}})
        ));
        assert!(!check(
            &json!({"spec": {"automountServiceAccountToken": false}}),
            json!({"spec": {}})
        ));
    }

    #[test]
    fn declared_labels_and_annotations_must_stay() {
        let declared =
            json!({"metadata": {"name": "a", "labels": {"l": "1"}, "annotations": {"x": "y"}}});
        assert!(check(
            &declared,
            json!({"metadata": {"labels": {"l": "1", "m": "2"}, "annotations": {"x": "y"}}})
        ));
        assert!(!check(
            &declared,
            json!({"metadata": {"labels": {"l": "2"}, "annotations": {"x": "y"}}})
        ));
        assert!(!check(
            &declared,
            json!({"metadata": {"labels": {"l": "1"}}})
        ));
    }

    #[test]
    fn the_shape_ignores_status_and_versions() {
        let one = live(
            json!({"metadata": {"resourceVersion": "1", "generation": 1}, "spec": {"a": 1}, "status": {"x": 1}}),
        );
        let same = live(
            json!({"metadata": {"resourceVersion": "2", "generation": 2}, "spec": {"a": 1}, "status": {"x": 2}}),
        );
        let other = live(json!({"metadata": {"resourceVersion": "2"}, "spec": {"a": 2}}));
        assert_eq!(shape(&one), shape(&same));
        assert_ne!(shape(&one), shape(&other));
    }
}
