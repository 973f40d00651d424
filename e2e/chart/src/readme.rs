//! The README of the chart: a table of its values, each with its default and the comment above it.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, bail};
use flambeau_testbed::helm::chart;
use serde_json::Value;

/// What stands above the table.
const INTRODUCTION: &str = "\
<!-- Generated from Chart.yaml and values.yaml by `make generate`; do not edit. -->
";

/// One value of the chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Names from the root, with dots between them.
    pub path: String,
    /// What it is when nobody says otherwise.
    pub default: Value,
    /// What it means, in one line of Markdown.
    pub meaning: String,
}

/// The text of the README.
///
/// # Errors
/// When Chart.yaml or values.yaml cannot be read, or a value has no comment.
pub fn generate() -> Result<String> {
    let read = |name: &str| {
        let file = chart().join(name);
        fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
    };
    let description: Value = serde_yaml::from_str(&read("Chart.yaml")?)?;
    let word = |key: &str| description[key].as_str().unwrap_or_default().to_owned();
    let mut text = INTRODUCTION.to_owned();
    writeln!(text, "# {}\n", word("name"))?;
    writeln!(text, "{}.\n", word("description"))?;
    writeln!(
        text,
        "Chart {}, Flambeau {}, Kubernetes {}.\n",
        word("version"),
        word("appVersion"),
        word("kubeVersion").trim_end_matches("-0")
    )?;
    text.push_str(
        "```console\n$ helm install flambeau charts/flambeau --namespace flambeau-system --create-namespace\n```\n\n",
    );
    text.push_str("[docs/install.md](../../docs/install.md) has installation, upgrade, removal, roles and rules.\n\n");
    text.push_str("## Values\n\n| value | default | meaning |\n|---|---|---|\n");
    for entry in entries(&read("values.yaml")?)? {
        let default = serde_json::to_string(&entry.default)?.replace('|', "\\|");
        writeln!(
            text,
            "| `{}` | `{default}` | {} |",
            entry.path,
            entry.meaning.replace('|', "\\|")
        )?;
    }
    Ok(text)
}

/// Every value of a commented values.yaml that is not made of further commented values, in order.
///
/// # Errors
/// When it is no YAML, or one of them has no comment.
pub fn entries(text: &str) -> Result<Vec<Entry>> {
    let values: Value = serde_yaml::from_str(text).context("parse values.yaml")?;
    let mut entries: Vec<Entry> = Vec::new();
    // Names from the root, each with its indentation.
    let mut path: Vec<(usize, String)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        let indentation = line.len() - content.len();
        if let Some(said) = content.strip_prefix('#') {
            comment.push(said.trim());
            continue;
        }
        let meaning = std::mem::take(&mut comment).join(" ");
        let key = content.split_once(':').map(|(key, _)| key);
        let Some(key) = key.filter(|key| key.chars().all(char::is_alphanumeric)) else {
            continue;
        };
        path.retain(|(before, _)| *before < indentation);
        path.push((indentation, key.to_owned()));
        let names: Vec<&str> = path.iter().map(|(_, name)| name.as_str()).collect();
        let name = names.join(".");
        // Within a value that has a comment of its own, nothing is a value of the chart.
        if entries
            .iter()
            .any(|entry| name.starts_with(&format!("{}.", entry.path)))
        {
            continue;
        }
        let default = names.iter().fold(&values, |value, name| &value[*name]);
        if meaning.is_empty() {
            if default.is_object() {
                continue;
            }
            bail!("values.yaml: {name} has no comment that says what it means");
        }
        entries.push(Entry {
            path: name,
            default: default.clone(),
            meaning,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn comments_become_meanings_and_commented_groups_stay_whole() {
        let text = "\
# About the file.

# How many.
count: 2
group:
  # One
  # thing.
  one: \"\"
# As a whole.
whole:
  cpu: 1
  nested:
    - topologyKey: x
";
        let entries = entries(text).unwrap();
        let found: Vec<(&str, &str)> = entries
            .iter()
            .map(|entry| (entry.path.as_str(), entry.meaning.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("count", "How many."),
                ("group.one", "One thing."),
                ("whole", "As a whole.")
            ]
        );
        assert_eq!(entries[2].default["cpu"], json!(1));
    }

    #[test]
    fn a_value_without_a_comment_is_an_error_that_names_it() {
        let error = entries("group:\n  silent: 1\n").unwrap_err();
        assert!(error.to_string().contains("group.silent"), "{error}");
    }
}
