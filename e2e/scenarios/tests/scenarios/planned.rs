//! Planned moves of several applications, at the rate of requests of the demo.

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    Evacuation, Sensitivity,
    evacuation::EvacuationOutcome,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_games::Application;
use serde_json::json;

use crate::{
    load::{Counted, Load},
    stage::Played,
    wait::until,
    world::World,
};

/// Requests per second in all.
const RATE: f64 = 815.0;

/// Relocated, aborted at every step, and evacuated: no request fails.
pub fn no_request_fails(world: &World) -> Result<Counted> {
    use MigrationStep::{Drain, Preflight, Prepare, Ready, Shift, Soak, Sync};
    let stage = world.stage("planned")?;
    let clusters = ["alibaba", "atos", "ovh"];
    let played = [
        Application::Website,
        Application::Volunteers,
        Application::Accreditation,
    ]
    .map(|application| {
        stage.ask(
            stage.asked_as(application, Sensitivity::Public, &clusters),
            |_| {},
        )
    });
    let played = played.into_iter().collect::<Result<Vec<_>>>()?;
    for one in &played {
        one.rests_at("alibaba")?;
        one.serves()?;
    }
    let all: Vec<&Played<'_>> = played.iter().collect();
    let load = Load::start(world, &all, RATE / 3.0)?;
    for one in &played {
        one.request(&format!("{}-away", one.name()), "alibaba", "atos", false)?;
    }
    for one in &played {
        one.ends(&format!("{}-away", one.name()), MigrationOutcome::Completed)?;
        one.rests_at("atos")?;
        one.nothing_at("alibaba")?;
    }

    let mut aborted = Vec::new();
    for step in [Preflight, Prepare, Ready, Sync, Shift, Soak, Drain] {
        let one = &played[aborted.len() % played.len()];
        let name = format!("aborted-at-{}", format!("{step:?}").to_lowercase());
        // A move that is held at its first step can be aborted there.
        one.request(&name, "atos", "ovh", step == Preflight)?;
        one.reaches(&name, step)?;
        one.switch(&name, &json!({ "abort": true }))?;
        one.ends(&name, MigrationOutcome::Aborted)?;
        one.rests_at("atos")?;
        one.whole_at("atos")?;
        one.nothing_at("ovh")?;
        aborted.push(step);
    }

    let evacuation = json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Evacuation", "metadata": { "name": "atos-is-emptied" },
        "spec": { "cluster": "atos", "to": ["ovh", "alibaba"], "reason": "a scenario" },
    });
    world.testbed.hub().apply(&evacuation.to_string())?;
    until("the evacuation is over", || {
        let found: Vec<Evacuation> = world.hub.list("evacuations")?;
        let status = found
            .into_iter()
            .next()
            .context("it is gone")?
            .status
            .unwrap_or_default();
        if status.outcome == Some(EvacuationOutcome::Completed) {
            ensure!(
                status.moved == 3 && status.total == 3,
                "it says {} of {}",
                status.moved,
                status.total
            );
            return Ok(None);
        }
        Ok(Some(format!(
            "{} of {}, {:?}",
            status.moved, status.total, status.remaining
        )))
    })?;
    for one in &played {
        one.rests_at("ovh")?;
        one.nothing_at("atos")?;
    }
    let counted = load.ends_clean()?;
    Ok(counted.note(format!("aborted at {aborted:?}")))
}
