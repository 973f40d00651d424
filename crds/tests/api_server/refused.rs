//! Bad input, each refused with words that name the field and the remedy.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Result, bail, ensure};
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    cluster::{Admission, Cluster, SharedCluster},
    documents::{set, smallest},
};

/// One case of `refused.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The edits that make the smallest object of the kind bad.
    set: BTreeMap<String, Value>,
    /// The field that the refusal names.
    field: String,
    /// What the refusal says, mostly what to do.
    says: String,
}

pub fn trials(cluster: &Arc<SharedCluster>) -> Result<Vec<Trial>> {
    let kinds: BTreeMap<String, BTreeMap<String, Case>> =
        serde_yaml::from_str(include_str!("refused.yaml"))?;
    let mut batch = Vec::new();
    let mut expected = Vec::new();
    for (kind, cases) in kinds {
        for (name, case) in cases {
            let mut object = smallest(&kind);
            for (pointer, value) in case.set {
                set(&mut object, &pointer, value);
            }
            batch.push(object);
            let test = format!("refused::{kind}::{}", name.replace(' ', "_"));
            expected.push((test, case.field, case.says));
        }
    }
    let admission = Arc::new(Admission::of(batch));
    let mut trials = Vec::new();
    for (index, (test, field, says)) in expected.into_iter().enumerate() {
        let admission = Arc::clone(&admission);
        trials.push(cluster.trial(test, move |cluster| {
            expect_refusal(admission.outcome(cluster, index), &field, &says)
        }));
    }
    trials.push(cluster.trial(
        "refused::Migration::changed_but_for_pause_and_abort",
        migration_changed,
    ));
    trials.push(cluster.trial("refused::Migration::abort_taken_back", abort_taken_back));
    trials.push(cluster.trial(
        "refused::Evacuation::changed_or_abort_taken_back",
        evacuation_changed,
    ));
    trials.push(cluster.trial(
        "refused::GamesApplication::beyond_what_etcd_takes",
        too_large,
    ));
    Ok(trials)
}

fn expect_refusal(outcome: Result<()>, field: &str, says: &str) -> Result<()> {
    let Err(error) = outcome else {
        bail!("was taken; expected a refusal of {field}: {says}");
    };
    let error = format!("{error:#}");
    ensure!(
        error.contains(&format!("{field}: ")) && error.contains(says),
        "the refusal does not say `{field}: … {says}`, but:\n{error}"
    );
    Ok(())
}

/// Everything but pause and abort is part of the evidence.
fn migration_changed(cluster: &Cluster) -> Result<()> {
    let mut migration = smallest("Migration");
    set(&mut migration, "/metadata/name", json!("unchangeable"));
    cluster.apply(&migration)?;
    for (field, value) in [
        ("application", "another"),
        ("from", "paris-3"),
        ("to", "paris-3"),
        ("trigger", "Policy"),
        ("type", "Failover"),
        ("reason", "another"),
        ("evacuation", "another"),
    ] {
        let mut changed = migration.clone();
        set(&mut changed, &format!("/spec/{field}"), json!(value));
        expect_refusal(
            cluster.apply(&changed).map(drop),
            &format!("spec.{field}"),
            "is immutable: abort this Migration and create a new one instead",
        )?;
    }
    for (field, value, says) in [
        ("ignoreFreeze", json!(true), "is immutable"),
        (
            "requestedBy",
            json!("mallory"),
            "is immutable: it says who asked",
        ),
    ] {
        let mut changed = migration.clone();
        set(&mut changed, &format!("/spec/{field}"), value);
        expect_refusal(
            cluster.apply(&changed).map(drop),
            &format!("spec.{field}"),
            says,
        )?;
    }
    Ok(())
}

/// What an Evacuation empties cannot change, nor its abort be taken back.
fn evacuation_changed(cluster: &Cluster) -> Result<()> {
    const IMMUTABLE: &str = "is immutable: abort this Evacuation and create a new one instead";
    let mut evacuation = smallest("Evacuation");
    set(&mut evacuation, "/metadata/name", json!("unchangeable"));
    set(&mut evacuation, "/spec/abort", json!(true));
    cluster.apply(&evacuation)?;
    for (field, value, says) in [
        ("cluster", json!("paris-2"), IMMUTABLE),
        ("provider", json!("paris"), IMMUTABLE),
        ("abort", json!(false), "an abort cannot be taken back"),
    ] {
        let mut changed = evacuation.clone();
        if let Some(spec) = changed["spec"]
            .as_object_mut()
            .filter(|_| field == "provider")
        {
            spec.remove("cluster");
        }
        set(&mut changed, &format!("/spec/{field}"), value);
        expect_refusal(
            cluster.apply(&changed).map(drop),
            &format!("spec.{field}"),
            says,
        )?;
    }
    Ok(())
}

fn abort_taken_back(cluster: &Cluster) -> Result<()> {
    let mut migration = smallest("Migration");
    set(&mut migration, "/metadata/name", json!("aborted"));
    set(&mut migration, "/spec/abort", json!(true));
    cluster.apply(&migration)?;
    // Left out is the same as false: the default is filled in.
    for abort in [json!(false), Value::Null] {
        set(&mut migration, "/spec/abort", abort);
        expect_refusal(
            cluster.apply(&migration).map(drop),
            "spec.abort",
            "an abort cannot be taken back",
        )?;
    }
    Ok(())
}

/// etcd takes 1.5 MiB a request.
fn too_large(cluster: &Cluster) -> Result<()> {
    let mut application = smallest("GamesApplication");
    set(&mut application, "/metadata/name", json!("too-large"));
    set(
        &mut application,
        "/spec/resources/0/data",
        json!({ "text": "x".repeat(2_000_000) }),
    );
    match cluster.apply(&application) {
        Ok(_) => bail!("2 MB of manifests were taken"),
        Err(error) if format!("{error:#}").contains("request is too large") => Ok(()),
        Err(error) => Err(error.context("2 MB of manifests: the refusal does not name the size")),
    }
}
