//! What would happen now, and what if.

use crate::{
    cli::{self, Output},
    failure::code,
    hub::Hub,
    print,
};
use anyhow::{Context, bail};
use flambeau_operator::offline::{self, objects::Objects, print as offline_print, read};
use flambeau_planner::{
    model::{Name, Reach, Snapshot},
    plan,
};
use jiff::Timestamp;
use serde_json::Value;
use std::{collections::BTreeSet, process::ExitCode, sync::Arc};

/// `plan`.
///
/// # Errors
/// When the hub or a file cannot be read, or a cluster or provider is unknown.
pub async fn run(hub: &Hub, options: cli::Plan) -> anyhow::Result<ExitCode> {
    let mut objects = hub.fleet().await?;
    if !options.with.is_empty() {
        objects.overlay(Objects::from_files(&options.with).context("--with")?);
    }
    let now = options.at.unwrap_or_else(Timestamp::now);
    let mut snapshot = read::snapshot(objects, &Reach::NotObserved);
    snapshot.settings.concurrent_moves = usize::from(options.concurrent_moves);
    lose(&mut snapshot, &options, now)?;
    let plan = plan(&snapshot, now);
    match options.output {
        Output::Json => print::raw(&offline_print::json(&snapshot, &plan, now)?)?,
        Output::Yaml => {
            let value: Value = serde_json::from_str(&offline_print::json(&snapshot, &plan, now)?)?;
            print::yaml(&value)?;
        }
        Output::Table | Output::Wide => {
            print::raw(&offline_print::table(&snapshot, &plan, now))?;
        }
    }
    Ok(if offline::pending(&snapshot, &plan) {
        ExitCode::from(code::RULE)
    } else {
        ExitCode::SUCCESS
    })
}

/// As if some clusters had just been found to be lost.
fn lose(snapshot: &mut Snapshot, options: &cli::Plan, now: Timestamp) -> anyhow::Result<()> {
    let mut lost: BTreeSet<Name> = BTreeSet::new();
    for name in &options.without_cluster {
        if !snapshot.clusters.contains_key(name.as_str()) {
            let known: Vec<&str> = snapshot.clusters.keys().map(|name| &**name).collect();
            bail!(
                "--without-cluster {name}: the fleet is {}",
                known.join(", ")
            );
        }
        lost.insert(name.as_str().into());
    }
    for provider in &options.without_provider {
        let before = lost.len();
        let clusters = snapshot.clusters.values();
        lost.extend(
            clusters
                .filter(|cluster| *cluster.provider == **provider)
                .map(|cluster| cluster.name.clone()),
        );
        if lost.len() == before {
            let known: BTreeSet<&str> = snapshot
                .clusters
                .values()
                .map(|cluster| &*cluster.provider)
                .collect();
            let known: Vec<&str> = known.into_iter().collect();
            bail!(
                "--without-provider {provider}: it has no cluster (or none that is not lost \
                 already); providers with clusters are {}",
                known.join(", ")
            );
        }
    }
    for name in lost {
        if let Some(cluster) = snapshot.clusters.get_mut(&name) {
            let cluster = Arc::make_mut(cluster);
            cluster.services_answer = false;
            cluster.answers_since = None;
            if !matches!(cluster.reach, Reach::Unreachable { .. }) {
                cluster.reach = Reach::Unreachable { since: now };
            }
        }
    }
    Ok(())
}
