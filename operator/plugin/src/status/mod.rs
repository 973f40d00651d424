//! Where, lawful, serving, moving, stuck why.

mod fleet;
mod tree;
mod view;

pub use fleet::{evacuation as evacuation_lines, happening, lines as fleet_lines};
pub use tree::{application as application_lines, migration as migration_lines};
pub use view::{ApplicationView, ClusterView, EvacuationView, FreezeView, MoveView, Verdict, View};

use crate::{
    cli::{self, Output},
    hub::Hub,
    live, print,
};
use anyhow::bail;
use flambeau_crds::GamesApplication;
use flambeau_operator::offline::objects::Objects;
use flambeau_planner::model::ApplicationKey;
use jiff::Timestamp;
use kube::ResourceExt;
use std::process::ExitCode;

/// Shows one application, or all of them.
///
/// # Errors
/// When the hub cannot be asked, or the application does not exist.
pub async fn run(hub: &Hub, options: cli::Status) -> anyhow::Result<ExitCode> {
    let chosen = options.application.as_deref().map(|name| hub.key(name));
    let objects = hub.scope().await?;
    let now = Timestamp::now();
    if let Some(key) = &chosen {
        find(hub, &objects, key).await?;
    }
    if options.watch {
        live::watch(hub, chosen).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let view = View::of(&objects, chosen.as_ref());
    match options.output {
        Output::Json => print::json(&view)?,
        Output::Yaml => print::yaml(&view)?,
        output => {
            let lines = match &chosen {
                Some(key) => application_lines(&objects, key, now),
                None => fleet_lines(&view, output == Output::Wide, now),
            };
            crate::text::print(&lines)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what to do when an application does not exist.
///
/// # Errors
/// When it does not exist.
pub async fn find(hub: &Hub, objects: &Objects, key: &ApplicationKey) -> anyhow::Result<()> {
    if objects.applications.contains_key(key) {
        return Ok(());
    }
    // Whoever may not look into other namespaces gets the shorter answer.
    let all: Vec<GamesApplication> = hub.list().await.unwrap_or_default();
    let elsewhere: Vec<String> = all
        .iter()
        .filter(|other| other.name_any() == *key.name)
        .filter_map(ResourceExt::namespace)
        .collect();
    if let Some(namespace) = elsewhere.first() {
        bail!(
            "no GamesApplication {} in namespace {}, but there is one in {}: add -n {namespace}",
            key.name,
            key.namespace,
            elsewhere.join(", ")
        );
    }
    bail!(
        "no GamesApplication {} in namespace {}: kubectl flambeau status -A lists all",
        key.name,
        key.namespace
    )
}
