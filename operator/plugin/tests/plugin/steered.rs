//! Pause, resume, abort, cordon, uncordon.

use crate::{
    hub::{Hub, SharedHub},
    objects::{name, progress, step},
    trial,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use std::sync::Arc;

pub fn trials(hub: &Arc<SharedHub>) -> Vec<Trial> {
    vec![
        trial(hub, "steered::moves", moves),
        trial(hub, "steered::moves_beyond_return", moves_beyond_return),
        trial(hub, "steered::evacuations", evacuations),
        trial(hub, "steered::clusters", clusters),
    ]
}

fn moves(hub: &Hub) -> Result<()> {
    hub.expect(0, "relocate badges --to ovh")?;
    let move_ = name(&hub.migrations()?[0]);
    let field = |field: &str| -> Result<bool> { Ok(hub.migrations()?[0]["spec"][field] == true) };
    let answer = hub.expect(0, "pause badges --dry-run")?;
    ensure!(
        answer.out.contains("nothing was changed") && !field("pause")?,
        "{}",
        answer.out
    );
    let answer = hub.expect(0, "pause badges --reason not_before_dinner")?;
    ensure!(
        answer.out == format!("migration.flambeau.dev/{move_} paused\n"),
        "{}",
        answer.out
    );
    ensure!(field("pause")?);
    ensure!(
        hub.migrations()?[0]["metadata"]["annotations"]["flambeau.dev/reason"]
            == "not before dinner"
    );
    ensure!(
        hub.expect(0, &format!("pause {move_}"))?
            .out
            .contains("already")
    );
    hub.expect(0, &format!("resume migration/{move_}"))?;
    ensure!(!field("pause")?);
    hub.expect(0, &format!("abort {move_}"))?;
    ensure!(field("abort")?);
    let nothing = hub.expect(2, "abort results")?;
    ensure!(
        nothing.err.contains("no move of results is under way"),
        "{}",
        nothing.err
    );
    ensure!(
        hub.expect(1, "abort nobody")?
            .err
            .contains("no Migration and no application nobody")
    );
    Ok(())
}

fn moves_beyond_return(hub: &Hub) -> Result<()> {
    hub.expect(0, "relocate badges --to ovh")?;
    let move_ = name(&hub.migrations()?[0]);
    hub.report(&[progress(
        &move_,
        json!({"step": "Retire", "steps": [step("Retire", false)]}),
    )])?;
    for verb in ["abort", "pause"] {
        let answer = hub.expect(2, &format!("{verb} badges"))?;
        ensure!(answer.err.contains("erasing the source"), "{}", answer.err);
        ensure!(
            answer.err.contains("relocate badges --to alibaba"),
            "{}",
            answer.err
        );
    }
    hub.report(&[progress(
        &move_,
        json!({"step": "Done", "outcome": "Completed", "steps": [step("Done", true)]}),
    )])?;
    let answer = hub.expect(2, &format!("abort {move_}"))?;
    ensure!(answer.err.contains("is over: Completed"), "{}", answer.err);
    ensure!(hub.migrations()?[0]["spec"]["abort"] == false);
    Ok(())
}

fn evacuations(hub: &Hub) -> Result<()> {
    hub.expect(0, "evacuate cluster/alibaba --reason test")?;
    let spec =
        || -> Result<serde_json::Value> { Ok(hub.get("evacuations")?["items"][0]["spec"].clone()) };
    let name = name(&hub.get("evacuations")?["items"][0]);
    hub.expect(0, &format!("pause evacuation/{name}"))?;
    ensure!(spec()?["pause"] == true);
    hub.expect(0, &format!("resume evacuation/{name}"))?;
    ensure!(spec()?["pause"] == false);
    hub.expect(0, &format!("abort evacuation/{name}"))?;
    ensure!(spec()?["abort"] == true);
    let answer = hub.expect(1, &format!("abort {name}"))?;
    ensure!(
        answer.err.contains(&format!("say evacuation/{name}")),
        "{}",
        answer.err
    );
    ensure!(
        hub.expect(1, "abort evacuation/none")?
            .err
            .contains("kubectl get evacuations")
    );
    Ok(())
}

fn clusters(hub: &Hub) -> Result<()> {
    hub.expect(0, "cordon ovh --reason disks")?;
    let ovh = hub.get("member/ovh")?;
    ensure!(ovh["spec"]["cordoned"] == true);
    ensure!(ovh["metadata"]["annotations"]["flambeau.dev/reason"] == "disks");
    ensure!(
        hub.expect(0, "status -A")?
            .out
            .contains("Healthy, cordoned")
    );
    ensure!(hub.expect(0, "cordon ovh")?.out.contains("already"));
    hub.expect(0, "uncordon ovh")?;
    ensure!(hub.get("member/ovh")?["spec"]["cordoned"] == false);
    let answer = hub.expect(1, "cordon nowhere")?;
    ensure!(
        answer.err.contains("the fleet is alibaba, atos, ovh"),
        "{}",
        answer.err
    );
    Ok(())
}
