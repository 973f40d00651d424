//! What `kubectl get` shows.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, SharedCluster},
    documents::{set, smallest},
};

/// One kind of `columns.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    status: Value,
    shows: Vec<(String, String)>,
}

pub fn trials(cluster: &Arc<SharedCluster>) -> Result<Vec<Trial>> {
    let tables: BTreeMap<String, Table> = serde_yaml::from_str(include_str!("columns.yaml"))?;
    let trials = tables.into_iter().map(|(kind, table)| {
        cluster.trial(format!("columns::{kind}"), move |cluster| {
            shows(cluster, &kind, table)
        })
    });
    Ok(trials.collect())
}

/// Stores an object with a status and compares its row, cell by cell.
fn shows(cluster: &Cluster, kind: &str, table: Table) -> Result<()> {
    let mut object = smallest(kind);
    set(&mut object, "/metadata/name", json!("shown"));
    cluster.apply(&object)?;
    let mut status = table.status;
    let conditions = status
        .pointer_mut("/conditions")
        .and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        set(condition, "/message", json!(""));
        set(
            condition,
            "/lastTransitionTime",
            json!("2026-01-01T00:00:00Z"),
        );
    }
    cluster.apply_status(&json!({
        "apiVersion": object["apiVersion"],
        "kind": kind,
        "metadata": object["metadata"],
        "status": status,
    }))?;
    let text = cluster.kubectl(&["get", kind, "shown", "-o", "wide"])?;
    let mut cells = cells(&text).context("no row is shown")?;
    let age = cells.pop().context("an empty table")?;
    ensure!(age.0 == "AGE", "does not end with the age:\n{text}");
    let name = ("NAME".to_owned(), "shown".to_owned());
    let expected: Vec<_> = [name].into_iter().chain(table.shows).collect();
    ensure!(cells == expected, "expected {expected:?}, and not:\n{text}");
    Ok(())
}

/// Headers and cells of a table of one row; a column begins where its header
/// does, three blanks or more after the one before.
fn cells(table: &str) -> Option<Vec<(String, String)>> {
    let (header, row) = table.trim_end().split_once('\n')?;
    let starts: Vec<usize> = (0..header.len())
        .filter(|&at| !header[at..].starts_with(' ') && (at == 0 || header[..at].ends_with("   ")))
        .collect();
    let cell = |line: &str, column: usize| {
        let end = starts.get(column + 1).copied().unwrap_or(line.len());
        let cell = line.get(starts[column]..end.min(line.len()));
        cell.unwrap_or_default().trim().to_owned()
    };
    let columns = (0..starts.len()).map(|column| (cell(header, column), cell(row, column)));
    Some(columns.collect())
}
