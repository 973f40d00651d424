//! Planned moves of several applications, at the rate of requests of the demo.

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    Evacuation, EvacuationStatus, Sensitivity,
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

/// Relocated, aborted at every step and evacuated, which is given up once: no request fails.
pub fn no_request_fails(world: &World) -> Result<Counted> {
    use MigrationStep::{Drain, Preflight, Prepare, Ready, Shift, Soak, Sync};
    let stage = world.stage("planned")?;
    let clusters = ["alibaba", "atos", "ovh"];
    // The streams of the first keep a source busy until its time to drain is over.
    let played = [
        Application::Results,
        Application::Volunteers,
        Application::Accreditation,
    ]
    .map(|application| {
        let mut asked = stage.asked_as(application, Sensitivity::Public, &clusters);
        // Long enough to be told to stop meanwhile.
        (asked.pace.soak_seconds, asked.pace.drain_seconds) = (8, 15);
        stage.ask(asked, |_| {})
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
    for step in [Drain, Preflight, Prepare, Ready, Sync, Shift, Soak] {
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

    evacuate(world, "given-up")?;
    one_of_them_shifts(&all)?;
    let abort = json!({ "abort": true });
    world.hub.change_spec("evacuations/given-up", &abort)?;
    evacuated(world, "given-up", EvacuationOutcome::Aborted)?;
    for one in &played {
        one.rests_at("atos")?;
        one.whole_at("atos")?;
        one.nothing_at("ovh")?;
    }

    evacuate(world, "emptied")?;
    let status = evacuated(world, "emptied", EvacuationOutcome::Completed)?;
    ensure!(
        status.moved == 3 && status.total == 3,
        "it says {} of {}",
        status.moved,
        status.total
    );
    for one in &played {
        // Where a move was given up a moment ago comes last.
        let at = one.status()?.cluster.context("it is somewhere")?;
        ensure!(at != "atos", "{} is still there", one.name());
        one.rests_at(&at)?;
        one.nothing_at("atos")?;
    }
    let counted = load.ends_clean_after(&world.hub.migrations(&stage.namespace)?)?;
    Ok(counted.note(format!("aborted at {aborted:?}")))
}

fn evacuate(world: &World, name: &str) -> Result<()> {
    let evacuation = json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Evacuation", "metadata": { "name": name },
        "spec": { "cluster": "atos", "to": ["ovh", "alibaba"], "reason": "a scenario" },
    });
    world.testbed.hub().apply(&evacuation.to_string())
}

/// Waits until requests of an application are on their way to somewhere else, while no move has come to its end.
fn one_of_them_shifts(all: &[&Played<'_>]) -> Result<()> {
    until("requests are shifted", || {
        for one in all {
            let moves = one.moves()?;
            let steps = moves
                .iter()
                .filter_map(|migration| migration.status.as_ref());
            let mut open = steps.filter(|status| status.outcome.is_none());
            if open.any(|status| status.step == Some(MigrationStep::Shift)) {
                return Ok(None);
            }
        }
        Ok(Some("no move shifts".to_owned()))
    })
}

/// Waits until an evacuation is over, and checks how it ended.
fn evacuated(world: &World, name: &str, expected: EvacuationOutcome) -> Result<EvacuationStatus> {
    let mut ended = EvacuationStatus::default();
    until(&format!("the evacuation {name} is over"), || {
        let found: Vec<Evacuation> = world.hub.list("evacuations")?;
        let mut found = found
            .into_iter()
            .filter(|one| one.metadata.name.as_deref() == Some(name));
        let found = found.next().context("it is gone")?;
        ended = found.status.unwrap_or_default();
        Ok(ended
            .outcome
            .is_none()
            .then(|| format!("{} of {}, {:?}", ended.moved, ended.total, ended.remaining)))
    })?;
    ensure!(
        ended.outcome == Some(expected),
        "it ended as {:?}",
        ended.outcome
    );
    Ok(ended)
}
