//! The definitions themselves, and what the API server makes of them.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, SharedCluster},
    documents::{resource, set, smallest},
};

pub fn trials(cluster: &Arc<SharedCluster>) -> Vec<Trial> {
    vec![
        cluster.trial(
            "definitions::are_established_without_a_complaint",
            established,
        ),
        cluster.trial(
            "definitions::refuse_every_kind_of_cluster_scope",
            cluster_scope_refused,
        ),
        cluster.trial("definitions::take_every_namespaced_kind", namespaced_taken),
        cluster.trial(
            "definitions::answer_to_short_names_and_category",
            short_names,
        ),
    ]
}

/// A definition whose rules cost too much, do not compile or are not
/// structural is refused, or gets a condition that says so.
fn established(cluster: &Cluster) -> Result<()> {
    for crd in flambeau_crds::all_crds() {
        let name = crd.metadata.name.context("a name")?;
        let stored = cluster.get(&format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        ))?;
        let conditions = stored["status"]["conditions"]
            .as_array()
            .context("conditions")?;
        let states: BTreeMap<&str, &str> = conditions
            .iter()
            .filter_map(|condition| {
                Some((condition["type"].as_str()?, condition["status"].as_str()?))
            })
            .collect();
        let expected = BTreeMap::from([("Established", "True"), ("NamesAccepted", "True")]);
        ensure!(states == expected, "{name}: {conditions:#?}");
    }
    Ok(())
}

fn short_names(cluster: &Cluster) -> Result<()> {
    for short_name in [
        "cprov", "member", "sovpol", "gapp", "mig", "evac", "freezes", "flambeau",
    ] {
        cluster.kubectl(&["get", short_name])?;
    }
    Ok(())
}

fn cluster_scope_refused(cluster: &Cluster) -> Result<()> {
    let kinds = served_kinds(cluster, false)?;
    ensure!(
        kinds.len() > 30,
        "only {} kinds of cluster scope found",
        kinds.len()
    );
    let error = match cluster.admit(&application_of(&kinds)) {
        Ok(()) => anyhow::bail!("an application of cluster-scoped kinds was taken"),
        Err(error) => format!("{error:#}"),
    };
    for (index, (version, kind)) in kinds.iter().enumerate() {
        let expected = format!("spec.resources[{index}].kind: Invalid value: is of cluster scope");
        ensure!(
            error.contains(&expected),
            "{version} {kind} is not refused by its scope:\n{error}"
        );
    }
    Ok(())
}

fn namespaced_taken(cluster: &Cluster) -> Result<()> {
    let kinds = served_kinds(cluster, true)?;
    ensure!(
        kinds.len() > 25,
        "only {} namespaced kinds found",
        kinds.len()
    );
    cluster.admit(&application_of(&kinds))
}

fn application_of(kinds: &[(String, String)]) -> Value {
    let mut application = smallest("GamesApplication");
    let resources = kinds
        .iter()
        .map(|(version, kind)| resource(version, kind, "any"))
        .collect();
    set(&mut application, "/spec/resources", Value::Array(resources));
    application
}

/// Every kind that the API server serves itself, with its apiVersion.
fn served_kinds(cluster: &Cluster, namespaced: bool) -> Result<Vec<(String, String)>> {
    let groups = cluster.get("/apis")?;
    let versions = groups["groups"]
        .as_array()
        .context("groups")?
        .iter()
        .filter(|group| group["name"] != flambeau_crds::GROUP)
        .filter_map(|group| group["preferredVersion"]["groupVersion"].as_str())
        .map(|version| (version.to_owned(), format!("/apis/{version}")));
    let mut kinds = Vec::new();
    for (version, path) in versions.chain([("v1".to_owned(), "/api/v1".to_owned())]) {
        let list = cluster.get(&path)?;
        for found in list["resources"].as_array().context("resources")? {
            let is_subresource = found["name"].as_str().is_none_or(|name| name.contains('/'));
            if !is_subresource && found["namespaced"] == json!(namespaced) {
                kinds.push((
                    version.clone(),
                    found["kind"].as_str().context("kind")?.to_owned(),
                ));
            }
        }
    }
    Ok(kinds)
}
