//! What is shown of what is there.

use crate::{
    hub::{Hub, SharedHub},
    objects::{condition, freeze, lost, name, namespaced, progress, refusing, serving, step},
    trial,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::{process::Command, sync::Arc};

pub fn trials(hub: &Arc<SharedHub>) -> Vec<Trial> {
    vec![
        trial(hub, "looked::at_the_fleet", at_the_fleet),
        trial(hub, "looked::at_what_is_stuck", at_what_is_stuck),
        trial(hub, "looked::at_a_move", at_a_move),
        trial(hub, "looked::for_a_while", for_a_while),
        trial(hub, "looked::on_a_terminal", on_a_terminal),
        trial(hub, "looked::at_what_would_be", at_what_would_be),
        trial(hub, "looked::at_the_past", at_the_past),
        trial(hub, "looked::for_a_word", for_a_word),
        trial(hub, "looked::at_something_else", at_something_else),
    ]
}

fn same(shown: &str, expected: &[&str]) -> Result<()> {
    let expected = expected.join("\n") + "\n";
    ensure!(shown == expected, "shown:\n{shown}\nexpected:\n{expected}");
    Ok(())
}

fn at_the_fleet(hub: &Hub) -> Result<()> {
    let answer = hub.expect(0, "status")?;
    same(
        &answer.out,
        &[
            "2 applications: 2 serving, 0 moving, 0 unlawful, 0 stuck",
            "",
            "  APPLICATION   CLUSTER   LAWFUL   SERVING   WHAT HAPPENS",
            "✔ badges        alibaba   yes      yes",
            "✔ results       alibaba   yes      yes",
            "",
            "  CLUSTER   PROVIDER   APPLICATIONS   HEALTH",
            "✔ alibaba   alibaba    0              Healthy",
            "✔ atos      atos       0              Healthy",
            "✔ ovh       ovh        0              Healthy",
        ],
    )?;
    let wide = hub.expect(0, "status -o wide")?;
    ensure!(
        wide.out.contains("Personal") && wide.out.contains("2/2"),
        "{}",
        wide.out
    );
    let machine: Value = serde_json::from_str(&hub.expect(0, "status badges -o json")?.out)?;
    ensure!(
        machine["applications"]
            .as_array()
            .is_some_and(|all| all.len() == 1),
        "{machine:#}"
    );
    ensure!(
        machine["applications"][0]["lawful"]["status"] == "True",
        "{machine:#}"
    );
    ensure!(
        hub.expect(0, "status -o yaml")?
            .out
            .contains("health: Healthy")
    );
    Ok(())
}

fn at_what_is_stuck(hub: &Hub) -> Result<()> {
    let mut stuck = serving("badges", "alibaba");
    stuck["status"]["conditions"] = json!([
        condition("Ready", "False", "ClusterLost", "no answer since 10:00"),
        condition("Lawful", "True", "NotGoverned", ""),
        condition(
            "Stalled",
            "True",
            "FailoverManual",
            "spec.failover.mode is Manual"
        ),
    ]);
    let mut open = freeze();
    open["status"] =
        json!({"waiting": 1, "conditions": [condition("InForce", "True", "InForce", "")]});
    hub.apply(&[freeze()])?;
    hub.report(&[stuck, lost("alibaba"), open])?;
    let out = hub.expect(0, "status")?.out;
    for line in [
        "2 applications: 1 serving, 0 moving, 0 unlawful, 1 stuck",
        "✖ badges        alibaba   yes      NO        stuck: FailoverManual: spec.failover.mode is Manual",
        "✖ alibaba   alibaba    0              Lost since 10:00:00Z (",
        "Freeze ceremony until 2099-01-01 00:00:00Z: opening ceremony (1 move waiting)",
    ] {
        ensure!(
            out.lines().any(|shown| shown.starts_with(line)),
            "no line `{line}` in:\n{out}"
        );
    }
    let out = hub.expect(0, "status badges")?.out;
    ensure!(
        out.contains("Where    alibaba, epoch 1, the cluster is Lost"),
        "{out}"
    );
    ensure!(
        out.contains("Stuck    FailoverManual: spec.failover.mode is Manual"),
        "{out}"
    );
    Ok(())
}

/// A move in the middle of Shift.
fn shifting(name: &str) -> Value {
    let mut shift = step("Shift", false);
    shift["verdicts"] = json!([
        {"gate": "TargetServing", "passed": true, "reason": "Passed"},
        {"gate": "StageElapsed", "passed": false, "reason": "StageRunning",
         "message": "every stage lasts at least 5s"},
    ]);
    progress(
        name,
        json!({
            "step": "Shift", "targetPercent": 25, "epoch": 2,
            "steps": [step("Preflight", true), step("Prepare", true), step("Ready", true), step("Sync", true), shift],
            "waitingFor": "StageRunning: every stage lasts at least 5s",
        }),
    )
}

fn at_a_move(hub: &Hub) -> Result<()> {
    hub.expect(
        0,
        "relocate badges --to ovh --reason dinner --as anna --as-group system:masters",
    )?;
    let move_ = name(&hub.migrations()?[0]);
    hub.report(&[shifting(&move_)])?;
    let out = hub.expect(0, "status badges")?.out;
    let tree: Vec<&str> = out
        .lines()
        .skip_while(|line| !line.contains(&move_))
        .collect();
    let expected = [
        format!("⟳ {move_}  Relocate alibaba → ovh"),
        "│ anna asked: dinner".to_owned(),
        "├─✔ Preflight  10:00:00Z       2.5 s".to_owned(),
        "├─✔ Prepare    10:00:00Z       2.5 s".to_owned(),
        "├─✔ Ready      10:00:00Z       2.5 s".to_owned(),
        "├─✔ Sync       10:00:00Z       2.5 s".to_owned(),
    ];
    ensure!(tree[..expected.len()] == expected, "{out}");
    ensure!(tree[6].starts_with("├─⟳ Shift      10:00:00Z"), "{out}");
    ensure!(
        tree[6].ends_with("───────────────━━━━━  alibaba 75 %, ovh 25 %"),
        "{out}"
    );
    ensure!(
        tree[7..]
            == [
                "│    StageElapsed: StageRunning: every stage lasts at least 5s",
                "├─  Soak",
                "├─  Drain",
                "└─  Retire",
            ],
        "{out}"
    );
    let out = hub.expect(0, "status")?.out;
    ensure!(
        out.contains("Relocate → ovh, Shift 25 %: StageRunning: every stage lasts at least 5s"),
        "{out}"
    );
    Ok(())
}

/// In a pipe, every change is a line, and nothing else is.
fn for_a_while(hub: &Hub) -> Result<()> {
    let mut running = hub.begin("status -w")?;
    running.says("games/badges  on alibaba, serving")?;
    hub.report(&[lost("atos")])?;
    running.says("cluster/atos  Lost")?;
    hub.expect(0, "relocate badges --to ovh")?;
    let move_ = name(&hub.migrations()?[0]);
    running.says("games/badges  on alibaba, Relocate → ovh, not begun")?;
    hub.report(&[shifting(&move_)])?;
    running.says("Shift 25 %: StageRunning")?;
    running.interrupt()?;
    let answer = running.ends()?;
    ensure!(answer.code == 0, "{answer:?}");
    ensure!(!answer.out.contains('\x1b'), "no terminal, no colours");
    ensure!(
        answer.out.matches("cluster/ovh").count() == 1,
        "what did not change was said again:\n{}",
        answer.out
    );
    Ok(())
}

/// On a terminal, frames cover each other: nothing is cleared before it is
/// drawn, and the terminal is given back as it was, with the last frame on it.
fn on_a_terminal(hub: &Hub) -> Result<()> {
    let terminal = hub.begin_on_terminal("status -w")?;
    terminal.shows("2 serving")?;
    hub.expect(0, "relocate badges --to ovh")?;
    let move_ = name(&hub.migrations()?[0]);
    hub.report(&[shifting(&move_)])?;
    terminal.shows("alibaba 75 %, ovh 25 %")?;
    let shown = terminal.ends()?;
    ensure!(shown.starts_with("\x1b[?1049h\x1b[?25l"), "{shown:?}");
    ensure!(!shown.contains("\x1b[2J"), "the screen was cleared");
    let frames = shown.matches("\x1b[?2026h\x1b[H").count();
    ensure!(
        frames >= 2 && frames == shown.matches("\x1b[J\x1b[?2026l").count(),
        "{shown:?}"
    );
    let (_, rest) = shown.split_once("\x1b[?25h\x1b[?1049l").unwrap_or_default();
    ensure!(
        rest.contains("alibaba 75 %, ovh 25 %"),
        "the last frame does not stay: {rest:?}"
    );
    ensure!(rest.contains("\x1b[32m"), "no colours: {rest:?}");
    Ok(())
}

fn at_what_would_be(hub: &Hub) -> Result<()> {
    let quiet = hub.expect(0, "plan")?;
    ensure!(
        quiet.out.contains("games/badges") && quiet.out.contains("stays"),
        "{}",
        quiet.out
    );
    let lost = hub.expect(2, "plan --without-cluster alibaba")?;
    ensure!(lost.out.contains("fails over to atos now"), "{}", lost.out);
    ensure!(
        lost.out.contains("cluster alibaba: Lost since"),
        "{}",
        lost.out
    );
    let provider = hub.expect(2, "plan --without-provider alibaba -o json")?;
    let plan: Value = serde_json::from_str(&provider.out)?;
    ensure!(plan["applications"][0]["type"] == "Failover", "{plan:#}");
    let most = hub.expect(2, "plan --without-cluster alibaba --without-cluster ovh")?;
    ensure!(most.out.contains("the hub is suspected"), "{}", most.out);

    let file = hub.file(&[refusing("alibaba")])?;
    let unsigned = hub.run(&format!("plan --with {file}"))?;
    ensure!(
        unsigned.code == 2 && unsigned.out.contains("moves to atos now"),
        "{unsigned:?}"
    );
    ensure!(
        unsigned.out.contains("ProviderRefused: policy no-way"),
        "{}",
        unsigned.out
    );
    hub.expect(0, "plan")?;

    let wrong = hub.expect(1, "plan --without-cluster nowhere")?;
    ensure!(
        wrong.err.contains("the fleet is alibaba, atos, ovh"),
        "{}",
        wrong.err
    );
    Ok(())
}

fn at_the_past(hub: &Hub) -> Result<()> {
    ensure!(hub.expect(0, "history badges")?.out == "it never moved\n");
    hub.apply(&[namespaced(
        "Migration",
        "badges-1",
        json!({"spec": {
            "application": "badges", "type": "Failover", "from": "atos", "to": "alibaba",
            "trigger": "Loss", "reason": "ClusterLost: no answer",
        }}),
    )])?;
    hub.report(&[progress("badges-1", json!({
        "step": "Done", "outcome": "Completed", "targetPercent": 100,
        "startTime": "2020-02-02T10:00:00.000000Z", "completionTime": "2020-02-02T10:00:12.400000Z",
        "downtimeMilliseconds": 9200, "recoveryMilliseconds": 9200,
        "steps": [step("Preflight", true), step("Done", true)],
    }))])?;
    same(
        &hub.expect(0, "history badges")?.out,
        &[
            "  MOVE       TYPE       FROM → TO        WHO        WHEN                   TOOK   DOWN    RECOVERY        OUTCOME     WHY",
            "✔ badges-1   Failover   atos → alibaba   Flambeau   2020-02-02 10:00:00Z   12 s   9.2 s   9.2 s of 15 s   Completed   ClusterLost: no answer",
        ],
    )?;
    let entries: Value = serde_json::from_str(&hub.expect(0, "history badges -o json")?.out)?;
    ensure!(entries[0]["recoveryMilliseconds"] == 9200, "{entries:#}");
    ensure!(entries[0]["objectiveMilliseconds"] == 15000, "{entries:#}");
    Ok(())
}

/// Candidates for completion, in the way that kubectl asks for them.
fn for_a_word(hub: &Hub) -> Result<()> {
    let kubeconfig = hub.kubeconfig();
    let ask = |words: &[&str]| -> Result<String> {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-flambeau"))
            .args(["__complete", "--"])
            .args(words)
            .env("KUBECONFIG", &kubeconfig)
            .output()?;
        Ok(String::from_utf8(output.stdout)?)
    };
    ensure!(ask(&["rel"])? == "relocate\n:4\n");
    ensure!(ask(&["relocate", "-n", "games", "b"])? == "badges\n:4\n");
    ensure!(ask(&["relocate", "badges", "--to", ""])? == "alibaba\natos\novh\n:4\n");
    ensure!(ask(&["evacuate", "provider/o"])? == "provider/ovh\n:4\n");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = hub.expect(0, &format!("completion {shell}"))?.out;
        ensure!(
            script.contains("relocate") && script.len() > 1000,
            "{shell}"
        );
    }
    ensure!(
        hub.expect(0, "completion kubectl")?
            .out
            .contains("__complete")
    );
    Ok(())
}

/// A hub that is not there, and a cluster that is no hub.
fn at_something_else(hub: &Hub) -> Result<()> {
    let text = std::fs::read_to_string(hub.kubeconfig())?;
    let server = text
        .lines()
        .find(|line| line.contains("server:"))
        .unwrap_or_default();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("dead");
    std::fs::write(
        &file,
        text.replace(server.trim(), "server: https://127.0.0.1:1"),
    )?;
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-flambeau"))
        .args(["status", "--kubeconfig"])
        .arg(&file)
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        output.status.code() == Some(1) && said.contains("is the hub up"),
        "{said}"
    );
    let answer = hub.expect(1, "status --context nowhere")?;
    ensure!(answer.err.contains("nowhere"), "{}", answer.err);
    Ok(())
}
