//! What Helm makes of the chart.

use anyhow::{Context, Result};
use flambeau_testbed::helm::{Helm, NAMESPACE, RELEASE, chart};
use serde::Deserialize;
use serde_json::Value;

/// Every object that an installation with these values consists of, tests included. Each setting is one argument, such
/// as `--set=replicas=3`.
///
/// # Errors
/// When Helm is not built, or refuses the values: the message is Helm's.
pub fn objects(settings: &[&str]) -> Result<Vec<Value>> {
    let chart = chart().display().to_string();
    let command = ["template", RELEASE, &chart, "--namespace", NAMESPACE];
    parse(&Helm::offline()?.run(&[&command[..], settings].concat())?)
}

/// The objects of a text of YAML documents; empty ones are left out.
///
/// # Errors
/// When it is no YAML.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml::Deserializer::from_str(text);
    let mut objects = Vec::new();
    for document in documents {
        let object = Value::deserialize(document).context("read what Helm rendered")?;
        if !object.is_null() {
            objects.push(object);
        }
    }
    Ok(objects)
}

/// The first object of a kind.
///
/// # Errors
/// When there is none.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Result<&'a Value> {
    let found = objects.iter().find(|object| object["kind"] == kind);
    found.with_context(|| format!("no {kind} is rendered"))
}

/// How people call an object.
#[must_use]
pub fn name(object: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}",
        word(&object["kind"]),
        word(&object["metadata"]["name"])
    )
}
