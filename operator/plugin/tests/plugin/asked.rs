//! What is made, and how a wait for it ends.

use crate::{
    hub::{Hub, SharedHub},
    objects::{lost, name, progress, serving, step},
    trial,
};
use anyhow::{Context, Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::{fs, sync::Arc};

pub fn trials(hub: &Arc<SharedHub>) -> Vec<Trial> {
    vec![
        trial(
            hub,
            "asked::relocate_says_who_and_why",
            relocate_says_who_and_why,
        ),
        trial(
            hub,
            "asked::failover_of_a_lost_cluster",
            failover_of_a_lost_cluster,
        ),
        trial(hub, "asked::failback_goes_home", failback_goes_home),
        trial(
            hub,
            "asked::a_dry_run_is_a_manifest",
            a_dry_run_is_a_manifest,
        ),
        trial(
            hub,
            "asked::evacuation_of_a_provider",
            evacuation_of_a_provider,
        ),
        trial(
            hub,
            "asked::a_wait_ends_with_the_move",
            a_wait_ends_with_the_move,
        ),
        trial(hub, "asked::a_wait_ends_otherwise", a_wait_ends_otherwise),
    ]
}

fn the_one(hub: &Hub) -> Result<Value> {
    let made = hub.migrations()?;
    ensure!(made.len() == 1, "{} Migrations were made", made.len());
    Ok(made[0].clone())
}

fn relocate_says_who_and_why(hub: &Hub) -> Result<()> {
    let answer = hub.expect(
        0,
        "relocate badges --to ovh --reason maintenance_tonight --as anna --as-group system:masters",
    )?;
    let made = the_one(hub)?;
    let name = name(&made);
    ensure!(
        answer.out
            == format!(
                "migration.flambeau.dev/{name} created: Relocate of badges from alibaba to ovh\n"
            ),
        "{}",
        answer.out
    );
    ensure!(
        answer
            .err
            .contains("kubectl flambeau status badges -n games -w"),
        "{}",
        answer.err
    );
    ensure!(name.starts_with("badges-relocate-") && name.len() == "badges-relocate-".len() + 5);
    ensure!(
        made["spec"]
            == json!({
                "application": "badges", "type": "Relocate", "from": "alibaba", "to": "ovh",
                "trigger": "Request", "reason": "maintenance tonight", "requestedBy": "anna",
                "ignoreFreeze": false, "pause": false, "abort": false,
            }),
        "{made:#}"
    );
    let managed = hub.kubectl(&[
        "get",
        "-n",
        "games",
        "migration",
        &name,
        "--show-managed-fields",
        "-o",
        "jsonpath={.metadata.managedFields[*].manager}",
    ])?;
    ensure!(managed == "kubectl-flambeau", "{managed}");
    Ok(())
}

fn failover_of_a_lost_cluster(hub: &Hub) -> Result<()> {
    let warned = hub.expect(0, "failover badges --to ovh --reason drill --dry-run")?;
    ensure!(
        warned.err.contains("badges still serves on alibaba"),
        "{}",
        warned.err
    );
    hub.report(&[lost("alibaba")])?;
    let refused = hub.expect(2, "relocate badges --to ovh")?;
    ensure!(
        refused.err.contains("kubectl flambeau failover badges"),
        "{}",
        refused.err
    );
    let answer = hub.expect(0, "failover badges --to ovh --reason fire")?;
    ensure!(!answer.err.contains("still serves"), "{}", answer.err);
    let made = the_one(hub)?;
    ensure!(made["spec"]["type"] == "Failover", "{made:#}");
    Ok(())
}

fn failback_goes_home(hub: &Hub) -> Result<()> {
    let mut away = serving("badges", "ovh");
    away["status"]["failedOverFrom"] = json!("atos");
    hub.report(&[away])?;
    let answer = hub.expect(0, "failback badges -o json")?;
    let made: Value = serde_json::from_str(&answer.out)?;
    ensure!(
        made["spec"]["type"] == "Failback" && made["spec"]["to"] == "atos",
        "{made:#}"
    );
    ensure!(made["spec"]["from"] == "ovh", "{made:#}");
    Ok(())
}

fn a_dry_run_is_a_manifest(hub: &Hub) -> Result<()> {
    for line in [
        "relocate badges --to ovh --dry-run",
        "evacuate provider/alibaba --to ovh,atos --max-concurrent 1 --reason test --dry-run",
    ] {
        let answer = hub.expect(0, line)?;
        ensure!(
            answer.out.starts_with("# "),
            "what the planner says: {}",
            answer.out
        );
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("draft.yaml");
        fs::write(&file, &answer.out)?;
        let file = file.display().to_string();
        hub.kubectl(&[
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &file,
        ])?;
    }
    ensure!(hub.migrations()?.is_empty(), "a Migration was made");
    ensure!(
        hub.get("evacuations")?["items"] == json!([]),
        "an Evacuation was made"
    );
    Ok(())
}

fn evacuation_of_a_provider(hub: &Hub) -> Result<()> {
    let answer = hub.expect(
        0,
        "evacuate provider/alibaba --to ovh,atos --max-concurrent 1 --reason strike",
    )?;
    ensure!(
        answer.err.contains("2 applications would leave"),
        "{}",
        answer.err
    );
    ensure!(
        answer.err.contains("games/badges: moves to ovh"),
        "{}",
        answer.err
    );
    let made = hub.get("evacuations")?["items"][0].clone();
    let spec = &made["spec"];
    ensure!(
        spec["provider"] == "alibaba" && spec["to"] == json!(["ovh", "atos"]),
        "{made:#}"
    );
    ensure!(
        spec["maxConcurrent"] == 1 && spec["reason"] == "strike",
        "{made:#}"
    );
    ensure!(
        spec["requestedBy"]
            .as_str()
            .is_some_and(|who| !who.is_empty()),
        "{made:#}"
    );
    let again = hub.expect(2, "evacuate provider/alibaba --reason strike")?;
    ensure!(
        again.err.contains("AnotherMove") && again.err.contains(&name(&made)),
        "{}",
        again.err
    );
    Ok(())
}

/// A move that goes well, as the operator would report it.
fn a_wait_ends_with_the_move(hub: &Hub) -> Result<()> {
    let mut running = hub.begin("relocate badges --to ovh --wait")?;
    let name = hub.made()?;
    running.says("not begun")?;
    let steps = |last: &str, over| json!([step("Preflight", true), step(last, over)]);
    hub.report(&[progress(
        &name,
        json!({
            "step": "Shift", "targetPercent": 25, "steps": steps("Shift", false),
            "waitingFor": "StageRunning: every stage lasts at least 5s",
        }),
    )])?;
    let line = running.says("Shift 25 %")?;
    ensure!(line.contains("every stage lasts at least 5s"), "{line}");
    hub.report(&[progress(
        &name,
        json!({"step": "Done", "outcome": "Completed", "targetPercent": 100, "steps": steps("Done", true)}),
    )])?;
    let answer = running.ends()?;
    ensure!(
        answer.code == 0 && answer.out.contains("Completed"),
        "{answer:?}"
    );
    Ok(())
}

fn a_wait_ends_otherwise(hub: &Hub) -> Result<()> {
    let answer = hub.expect(3, "relocate badges --to ovh --wait --timeout 2s")?;
    ensure!(answer.err.contains("goes on"), "{}", answer.err);

    let mut running = hub.begin("resume results --wait")?;
    let refused = running
        .says("")
        .err()
        .context("there is nothing to resume")?;
    ensure!(format!("{refused}").contains("does not say"), "{refused}");
    ensure!(running.ends()?.code == 2);

    let running = hub.begin("relocate results --to ovh --wait")?;
    let made = loop {
        let all = hub.migrations()?;
        if let Some(made) = all
            .iter()
            .find(|one| one["spec"]["application"] == "results")
        {
            break name(made);
        }
    };
    hub.report(&[progress(
        &made,
        json!({
            "step": "Done", "outcome": "Aborted", "steps": [step("Preflight", true), step("Done", true)],
            "abortReason": "ReadyTimeout: 0 of 1 workloads are ready after 5m",
        }),
    )])?;
    let answer = running.ends()?;
    ensure!(answer.code == 4, "{answer:?}");
    ensure!(
        answer.err.contains("walked back: ReadyTimeout"),
        "{}",
        answer.err
    );

    let mut running = hub.begin("abort badges --wait")?;
    running.says("abort requested")?;
    running.interrupt()?;
    let answer = running.ends()?;
    ensure!(answer.code == 130, "{answer:?}");
    let spec = hub
        .migrations()?
        .into_iter()
        .find(|one| one["spec"]["application"] == "badges");
    ensure!(
        spec.is_some_and(|one| one["spec"]["abort"] == true),
        "the abort stays asked for"
    );
    Ok(())
}
