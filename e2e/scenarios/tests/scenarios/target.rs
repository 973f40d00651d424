//! The target fails.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    GamesApplication, Sensitivity,
    migration::{MigrationOutcome, MigrationStep},
};
use jiff::Timestamp;
use serde_json::json;

use crate::{load::Counted, wait::until, world::World};

/// Changes the settings in an application's ConfigMap.
fn set(object: &mut GamesApplication, settings: &[(&str, &str)]) {
    for resource in &mut object.spec.resources {
        if resource["kind"] == "ConfigMap" {
            for (name, value) in settings {
                resource["data"][*name] = json!(value);
            }
        }
    }
}

/// The pods never get ready at the first choice: the move is walked back, and the next goes elsewhere.
pub fn never_ready(world: &World) -> Result<Counted> {
    let stage = world.stage("never-ready")?;
    let mut asked = stage.asked(Sensitivity::Personal, &["alibaba", "atos", "ovh"]);
    asked.pace.ready_timeout_seconds = 5;
    let played = stage.play(asked, |object| {
        set(
            object,
            &[("FAULT_NEVER_READY", "true"), ("FAULT_CLOUDS", "atos")],
        );
    })?;
    let load = played.load()?;
    world.sign(
        "european",
        "Personal",
        &json!({ "jurisdiction": { "allowed": ["EU"] } }),
    )?;
    let migration = played.moves_to_step(MigrationStep::Ready)?;
    played.ends(&migration, MigrationOutcome::Aborted)?;
    let moves = played.moves()?;
    let status = moves[0].status.clone().context("a status")?;
    let reason = status.abort_reason.unwrap_or_default();
    ensure!(
        reason.contains("ReadyTimeout"),
        "the move says why it was abandoned: {reason}"
    );
    played.rests_at("ovh")?;
    played.nothing_at("alibaba")?;
    played.nothing_at("atos")?;
    load.ends_clean()
}

/// The first choice answers half of its requests with an error: the move is walked back in the middle of Shift, no request
/// fails before it or after it, and the next goes elsewhere.
pub fn answers_with_errors(world: &World) -> Result<Counted> {
    /// What requests that were under way then get to end.
    const UNDER_WAY: Duration = Duration::from_secs(2);
    let stage = world.stage("errors")?;
    let asked = stage.asked(Sensitivity::Personal, &["alibaba", "atos", "ovh"]);
    let played = stage.play(asked, |object| {
        set(
            object,
            &[("FAULT_ERROR_FRACTION", "0.5"), ("FAULT_CLOUDS", "atos")],
        );
    })?;
    let load = played.load()?;
    let signed = Timestamp::now();
    world.sign(
        "european",
        "Personal",
        &json!({ "jurisdiction": { "allowed": ["EU"] } }),
    )?;
    let migration = played.moves_to_step(MigrationStep::Shift)?;
    played.ends(&migration, MigrationOutcome::Aborted)?;
    let over = Timestamp::now().duration_since(signed).unsigned_abs() + UNDER_WAY;
    let moves = played.moves()?;
    let status = moves[0].status.clone().context("a status")?;
    let reason = status.abort_reason.unwrap_or_default();
    ensure!(
        reason.contains("TargetErrors"),
        "the move says why it was walked back: {reason}"
    );
    played.rests_at("ovh")?;
    played.nothing_at("alibaba")?;
    played.nothing_at("atos")?;
    let (counted, _) = load.ends_after_loss(&[played.name()], &[signed], over)?;
    Ok(counted.note(format!("walked back: {reason}")))
}

/// The target's cluster is cut off while its pods get ready: the move is walked back, the next goes elsewhere, and
/// what was written is erased when the cluster is back.
pub fn cut_off_before_shift(world: &World) -> Result<Counted> {
    let stage = world.stage("cut-off")?;
    let played = stage.play(
        stage.asked(Sensitivity::Personal, &["alibaba", "atos", "ovh"]),
        |_| {},
    )?;
    let load = played.load()?;
    let atos = world.member("atos");
    atos.kubectl(&["cordon", "atos-1"])?;
    world.sign(
        "european",
        "Personal",
        &json!({ "jurisdiction": { "allowed": ["EU"] } }),
    )?;
    let migration = played.moves_to_step(MigrationStep::Ready)?;
    atos.cut_link()?;
    played.ends(&migration, MigrationOutcome::Aborted)?;
    // What was written to the lost cluster is unknown, not gone: it stays recorded.
    until("the application is active at ovh", || {
        let status = played.status()?;
        let at = status.cluster.as_deref() == Some("ovh");
        Ok((!at).then(|| status.next.unwrap_or_default()))
    })?;
    atos.restore_link()?;
    played.rests_at("ovh")?;
    played.nothing_at("atos")?;
    played.nothing_at("alibaba")?;
    load.ends_clean()
}
