//! The law leaves no place, or changes its mind.

use anyhow::{Result, ensure};
use flambeau_crds::{
    Sensitivity,
    migration::{MigrationOutcome, MigrationStep},
};
use serde_json::json;

use crate::{
    load::Counted,
    wait::metric,
    world::{EUROPEAN, World},
};

/// No cluster is lawful: the application stays, serves and says so; it moves by itself once one is.
pub fn no_lawful_target(world: &World) -> Result<Counted> {
    let stage = world.stage("nowhere")?;
    let played = stage.play(stage.asked(Sensitivity::Restricted, &["alibaba"]), |_| {})?;
    let load = played.load()?;
    let rule = json!({ "requiredCertifications": [{ "scheme": "Laurel" }] });
    world.sign("laurel-only", "Restricted", &rule)?;
    played.says("Stalled", "True", "NoLawfulCluster")?;
    played.says("Ready", "True", "Serving")?;
    played.whole_at("alibaba")?;
    played.event("NoLawfulCluster")?;
    metric(
        world,
        "flambeau_applications_stalled{reason=\"NoLawfulCluster\"} 1",
    )?;
    ensure!(
        played.moves()?.is_empty(),
        "nothing moves without a lawful place"
    );

    let certification = json!({ "spec": { "certifications": [{
        "scheme": "Laurel", "scope": "Everything (illustrative)", "validUntil": "2035-01-01T00:00:00Z",
        "evidence": "Certificate 0000 (illustrative)",
    }] } });
    let hub = world.testbed.hub();
    hub.kubectl(&[
        "patch",
        "cprov",
        "ovh",
        "--type=merge",
        "-p",
        &certification.to_string(),
    ])?;
    played.rests_at("ovh")?;
    played.nothing_at("alibaba")?;
    let counted = load.ends_clean()?;
    let without = r#"{"spec":{"certifications":null}}"#;
    hub.kubectl(&["patch", "cprov", "ovh", "--type=merge", "-p", without])?;
    Ok(counted)
}

/// The policy goes while the target gets ready: the move is dropped.
pub fn withdrawn_before_shift(world: &World) -> Result<Counted> {
    let stage = world.stage("withdrawn")?;
    let played = stage.play(
        stage.asked(Sensitivity::Personal, &["alibaba", "atos"]),
        |_| {},
    )?;
    let load = played.load()?;
    // No pod starts at the target, so that the move waits there.
    world.member("atos").kubectl(&["cordon", "atos-1"])?;
    world.sign_european()?;
    let migration = played.moves_to_step(MigrationStep::Ready)?;
    world.withdraw(EUROPEAN)?;
    played.walks_back(&migration, "TriggerWithdrawn")?;
    played.rests_alone_at("alibaba")?;
    load.ends_clean()
}

/// The policy goes while requests go over: going on costs no more than going back.
pub fn withdrawn_during_shift(world: &World) -> Result<Counted> {
    let stage = world.stage("withdrawn-late")?;
    let played = stage.play(
        stage.asked(Sensitivity::Personal, &["alibaba", "atos"]),
        |_| {},
    )?;
    let load = played.load()?;
    world.sign_european()?;
    let migration = played.moves_to_step(MigrationStep::Shift)?;
    world.withdraw(EUROPEAN)?;
    played.ends(&migration, MigrationOutcome::Completed)?;
    played.rests_alone_at("atos")?;
    load.ends_clean()
}
