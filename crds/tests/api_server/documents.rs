//! The examples as documents, and edits to them.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::folder;

/// Every document of the examples.
pub fn examples() -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for entry in fs::read_dir(folder("examples"))? {
        let file = entry?.path();
        let text = fs::read_to_string(&file)?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            let value =
                Value::deserialize(document).with_context(|| format!("read {}", file.display()))?;
            documents.push(value);
        }
    }
    Ok(documents)
}

/// The smallest valid object of a kind.
pub fn smallest(kind: &str) -> Value {
    let spec = match kind {
        "CloudProvider" => json!({ "legalEntity": "An Operator S.A." }),
        "MemberCluster" => json!({
            "provider": "an-operator",
            "residency": "FR",
            "kubeconfigSecret": { "namespace": "flambeau-system", "name": "paris-1" },
        }),
        "SovereigntyPolicy" => json!({
            "sensitivities": ["Personal"],
            "jurisdiction": { "allowed": ["EU"] },
        }),
        "GamesApplication" => json!({
            "sensitivity": "Personal",
            "resources": [resource("v1", "Service", "web")],
        }),
        "Migration" => json!({
            "application": "web",
            "type": "Relocate",
            "from": "paris-1",
            "to": "paris-2",
            "trigger": "Request",
            "reason": "maintenance",
        }),
        "Evacuation" => json!({ "cluster": "paris-1", "reason": "maintenance" }),
        "Freeze" => json!({
            "from": "2030-07-26T16:00:00Z",
            "until": "2030-07-26T23:00:00Z",
            "reason": "ceremony",
        }),
        other => unreachable!("{other} is no kind of Flambeau"),
    };
    json!({
        "apiVersion": "flambeau.dev/v1alpha1",
        "kind": kind,
        "metadata": { "name": "smallest" },
        "spec": spec,
    })
}

/// An object of an application without anything but its name.
pub fn resource(version: &str, kind: &str, name: &str) -> Value {
    json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name } })
}

/// Sets what the JSON pointer names, and makes the objects on the way to it;
/// an index one past the end of a list, or no index, adds to it.
pub fn set(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for step in pointer.split('/').skip(1) {
        place = match place {
            Value::Array(items) => {
                let index = step.parse().unwrap_or(items.len());
                if index == items.len() {
                    items.push(Value::Null);
                }
                &mut items[index]
            }
            Value::Null => {
                *place = json!({});
                &mut place[step]
            }
            _ => &mut place[step],
        };
    }
    *place = value;
}
