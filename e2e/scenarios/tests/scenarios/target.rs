//! The target fails.

use std::time::Duration;

use anyhow::{Result, ensure};
use flambeau_crds::{GamesApplication, Sensitivity, migration::MigrationStep};
use flambeau_testbed::cluster::Cluster;
use jiff::Timestamp;
use serde_json::json;

use crate::{load::Counted, wait::until, world::World};

/// What requests that were under way get to end.
const UNDER_WAY: Duration = Duration::from_secs(2);

/// Within which time no request goes to a target any more that is lost while requests go over.
const WALKED_BACK: Duration = Duration::from_secs(10);

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
    world.sign_european()?;
    let migration = played.moves_to_step(MigrationStep::Ready)?;
    played.walks_back(&migration, "ReadyTimeout")?;
    played.rests_alone_at("ovh")?;
    load.ends_clean()
}

/// The first choice answers half of its requests with an error: the move is walked back in the middle of Shift, no request
/// fails before it or after it, and the next goes elsewhere.
pub fn answers_with_errors(world: &World) -> Result<Counted> {
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
    world.sign_european()?;
    let migration = played.moves_to_step(MigrationStep::Shift)?;
    let reason = played.walks_back(&migration, "TargetErrors")?;
    let over = Timestamp::now().duration_since(signed).unsigned_abs() + UNDER_WAY;
    played.rests_alone_at("ovh")?;
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
    world.sign_european()?;
    let migration = played.moves_to_step(MigrationStep::Ready)?;
    atos.cut_link()?;
    let reason = played.walks_back(&migration, "Cluster")?;
    // What was written to the lost cluster is unknown, not gone: it stays recorded.
    until("the application is active at ovh", || {
        let status = played.status()?;
        let at = status.cluster.as_deref() == Some("ovh");
        Ok((!at).then(|| status.next.unwrap_or_default()))
    })?;
    atos.restore_link()?;
    played.rests_alone_at("ovh")?;
    let counted = load.ends_clean()?;
    Ok(counted.note(format!("walked back: {reason}")))
}

/// Every process of the target's cluster is killed when half of the requests go there.
pub fn killed_during_shift(world: &World) -> Result<Counted> {
    lost_during_shift(
        world,
        "killed-late",
        |atos| atos.kill(),
        || world.bring_back("atos"),
    )
}

/// The link of the target's cluster is cut when half of the requests go there: what is sent there hangs.
pub fn cut_off_during_shift(world: &World) -> Result<Counted> {
    let atos = world.member("atos");
    lost_during_shift(world, "cut-late", Cluster::cut_link, || atos.restore_link())
}

/// The target is lost in the middle of Shift: requests go back to the source at once, and only those fail that are sent in
/// between; the next move goes elsewhere, and what was written is erased when the cluster is back.
fn lost_during_shift(
    world: &World,
    name: &str,
    lose: impl Fn(&Cluster) -> Result<()>,
    bring_back: impl Fn() -> Result<()>,
) -> Result<Counted> {
    let stage = world.stage(name)?;
    let mut asked = stage.asked(Sensitivity::Personal, &["alibaba", "atos", "ovh"]);
    // Long enough to be lost meanwhile.
    asked.pace.stage_seconds = 6;
    let played = stage.play(asked, |_| {})?;
    let load = played.load()?;
    world.sign_european()?;
    let migration = played.moves_to_step(MigrationStep::Shift)?;
    load.answered_by(played.name(), "atos")?;
    let lost = Timestamp::now();
    lose(world.member("atos"))?;
    let reason = played.walks_back(&migration, "Target")?;
    played.serves_at("ovh", "atos")?;
    bring_back()?;
    played.rests_alone_at("ovh")?;
    let moves = played.moves()?;
    ensure!(
        moves.len() == 2,
        "one move was walked back and one made, which are not {}",
        moves.len()
    );
    let (counted, _) = load.ends_after_loss(&[played.name()], &[lost], WALKED_BACK)?;
    Ok(counted.note(format!("walked back: {reason}")))
}
