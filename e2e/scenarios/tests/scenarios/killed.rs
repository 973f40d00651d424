//! The operator dies.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    GamesApplication, Sensitivity,
    application::FailoverPolicy,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_games::Application;
use flambeau_testbed::{command::run, process::recorded};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    load::Counted,
    lost::LIMIT,
    stage::Played,
    wait::until,
    world::{World, soak},
};

/// How often is tried to kill the operator in a step that may be over sooner than it is seen.
const TRIES: usize = 3;

/// The hub's API server is silent for a while in the middle of a move: requests do not mind, and the move goes on.
pub fn hub_silent(world: &World) -> Result<Counted> {
    const SILENCE: Duration = Duration::from_secs(20);
    let stage = world.stage("silent")?;
    let played = stage.play(stage.asked(Sensitivity::Public, &["alibaba"]), |_| {})?;
    let load = played.load()?;
    played.request("away", "alibaba", "atos", false)?;
    played.reaches("away", MigrationStep::Shift)?;
    let hub = world.testbed.hub();
    let server =
        recorded::running(hub.folder(), "kube-apiserver").context("the API server runs")?;
    let pid = server.pid.to_string();
    run("kill", &["-STOP", &pid])?;
    // Nothing can be awaited: that nothing happens is the point.
    sleep(SILENCE);
    run("kill", &["-CONT", &pid])?;
    until("the hub answers", || {
        Ok(played.object().err().map(|error| format!("{error:#}")))
    })?;
    played.ends("away", MigrationOutcome::Completed)?;
    played.rests_at("atos")?;
    played.nothing_at("alibaba")?;
    load.ends_clean()
}

/// Kills the operator with SIGKILL at every step of moves under load, and starts it again each time.
pub fn at_every_step(world: &World) -> Result<Counted> {
    use MigrationStep::{Abort, Drain, Preflight, Prepare, Ready, Retire, Shift, Soak, Sync};
    let stage = world.stage("killed")?;
    let mut asked = stage.asked(Sensitivity::Public, &["alibaba"]);
    // Its streams keep the source busy, so that Drain takes its time.
    asked.application = Application::Results;
    asked.pace.drain_seconds = 4;
    let played = stage.play(asked, |_| {})?;
    let load = played.load()?;
    // Steps in which one and the same move is killed. Neighbours are apart, so that there is time to come back.
    let walks: [(&[MigrationStep], MigrationOutcome); 4] = [
        (
            &[Preflight, Ready, Soak, Retire],
            MigrationOutcome::Completed,
        ),
        (&[Prepare, Shift, Drain], MigrationOutcome::Completed),
        (&[Sync], MigrationOutcome::Completed),
        (&[Abort], MigrationOutcome::Aborted),
    ];
    // Nothing holds Sync, and Prepare only for as long as a silent target is not noticed: to miss them is no failure.
    let fleeting = [Prepare, Sync];
    let (mut from, mut to) = ("alibaba", "atos");
    let mut killed = Vec::new();
    // Each costs ten seconds, which not every change has.
    let tries = if soak() { TRIES } else { 1 };
    for (number, (steps, expected)) in walks.iter().enumerate() {
        for attempt in 0..tries {
            let name = format!("walk-{number}-{attempt}");
            killed.extend(walk(world, &played, &name, (from, to), steps)?);
            played.ends(&name, *expected)?;
            if *expected == MigrationOutcome::Completed {
                (from, to) = (to, from);
            }
            played.rests_at(from)?;
            played.whole_at(from)?;
            played.nothing_at(to)?;
            let missed = |step| fleeting.contains(step) && !killed.contains(step);
            if !steps.iter().any(missed) {
                break;
            }
        }
    }
    let counted = load.ends_clean()?;
    for step in [Preflight, Ready, Shift, Soak, Drain, Retire, Abort] {
        ensure!(
            killed.contains(&step),
            "the operator was never killed at {step:?}, only at {killed:?}"
        );
    }
    Ok(counted.note(told(&killed, &fleeting)))
}

/// The steps in which the operator died, and those of the wanted ones in which it did not.
fn told(killed: &[MigrationStep], wanted: &[MigrationStep]) -> String {
    let missed: Vec<_> = wanted
        .iter()
        .filter(|step| !killed.contains(step))
        .collect();
    let mut told = format!("killed at {killed:?}");
    if !missed.is_empty() {
        told += &format!(", not hit: {missed:?}");
    }
    told
}

/// Kills the operator with SIGKILL at every step of failovers, and once before a cluster is lost, and starts it again each
/// time. The application ends at one place, whole, and nothing is left where it was.
pub fn at_every_step_of_a_failover(world: &World) -> Result<Counted> {
    use MigrationStep::{Drain, Preflight, Prepare, Ready, Retire, Shift, Soak, Sync};
    /// Every death costs the time until the next process may write.
    const EVERY_DEATH: Duration = Duration::from_secs(30);
    const ALL: [MigrationStep; 8] = [Preflight, Prepare, Ready, Sync, Shift, Soak, Drain, Retire];
    /// When requests are at the target for good. Nothing holds a failover in any of these, so that one of them has to do.
    const LATE: [MigrationStep; 4] = [Shift, Soak, Drain, Retire];
    let stage = world.stage("killed-failover")?;
    let played = stage.play(
        stage.asked(Sensitivity::Public, &["alibaba", "atos"]),
        |application| {
            // It goes back and forth faster than a cool-down, which would send it to a third cluster.
            application.spec.failover = Some(FailoverPolicy {
                cooldown_seconds: 0,
                ..FailoverPolicy::default()
            });
            get_ready_slowly(application);
        },
    )?;
    let load = played.load()?;
    // Without a step: the operator is dead when the cluster is lost. Neighbours are apart where they are short. Ready comes
    // first: while a process is dead that got any further than Preflight, pods get ready without it.
    let walks: &[&[MigrationStep]] = if soak() {
        &[
            &[],
            &[Preflight],
            &[Prepare],
            &[Ready],
            &[Sync],
            &[Shift],
            &[Soak],
            &[Drain],
            &[Retire],
        ]
    } else {
        &[
            &[],
            &[Ready, Soak, Retire],
            &[Preflight, Shift, Drain],
            &[Prepare, Sync],
        ]
    };
    let again: [&[MigrationStep]; TRIES] = [&[Ready, Shift]; TRIES];
    let (mut from, mut to) = ("alibaba", "atos");
    let (mut losses, mut deaths) = (Vec::new(), Vec::new());
    for (number, steps) in walks.iter().chain(&again).enumerate() {
        let enough = deaths.contains(&Ready) && LATE.iter().any(|late| deaths.contains(late));
        if number >= walks.len() && enough {
            break;
        }
        losses.push(Timestamp::now());
        deaths.extend(lose(world, &played, (from, to), steps)?);
        (from, to) = (to, from);
    }
    let limit = LIMIT + 4 * EVERY_DEATH;
    let (counted, _) = load.ends_after_loss(&[played.name()], &losses, limit)?;
    ensure!(
        deaths.contains(&Ready),
        "the operator was never killed at Ready, only at {deaths:?}"
    );
    ensure!(
        LATE.iter().any(|late| deaths.contains(late)),
        "the operator was never killed at any of {LATE:?}, only at {deaths:?}"
    );
    Ok(counted.note(told(&deaths, &ALL)))
}

/// Lets a failover stay in Ready for longer than it takes to see it there.
fn get_ready_slowly(application: &mut GamesApplication) {
    const SECONDS: u32 = 5;
    for resource in &mut application.spec.resources {
        if resource["kind"] == "Deployment" {
            let container = &mut resource["spec"]["template"]["spec"]["containers"][0];
            container["readinessProbe"]["initialDelaySeconds"] = json!(SECONDS);
        }
    }
}

/// One loss, with the operator killed at each of the steps of the failover, or before the loss when there is none; returns
/// the steps that were recorded at its deaths.
fn lose(
    world: &World,
    played: &Played<'_>,
    (from, to): (&str, &str),
    steps: &[MigrationStep],
) -> Result<Vec<MigrationStep>> {
    let before = played.moves()?.len();
    if steps.is_empty() {
        world.testbed.kill_operator()?;
        world.member(from).cut_link()?;
        world.testbed.start_operator()?;
    } else {
        world.member(from).cut_link()?;
    }
    let mut deaths = Vec::new();
    for step in steps {
        let name = nth_move(played, before)?;
        played.reaches(&name, *step)?;
        world.testbed.kill_operator()?;
        deaths.extend(played.step(&name)?);
        world.testbed.start_operator()?;
    }
    let name = nth_move(played, before)?;
    played.ends(&name, MigrationOutcome::Completed)?;
    played.serves_at(to, from)?;
    played.whole_at(to)?;
    world.member(from).restore_link()?;
    played.nothing_at(from)?;
    played.rests_at(to)?;
    let made = played.moves()?.len() - before;
    ensure!(made == 1, "one loss set off {made} moves");
    world.trusted(from)?;
    Ok(deaths)
}

/// The name of the application's move of that number, once there is one.
fn nth_move(played: &Played<'_>, number: usize) -> Result<String> {
    let mut name = None;
    until("a move begins", || {
        name = played
            .moves()?
            .into_iter()
            .nth(number)
            .and_then(|found| found.metadata.name);
        Ok(name
            .is_none()
            .then(|| played.status().unwrap_or_default().next.unwrap_or_default()))
    })?;
    name.context("a Migration has a name")
}

/// One move, with the operator killed at each of the steps; returns the steps that were recorded at its deaths.
fn walk(
    world: &World,
    played: &Played<'_>,
    name: &str,
    (from, to): (&str, &str),
    steps: &[MigrationStep],
) -> Result<Vec<MigrationStep>> {
    use MigrationStep::{Abort, Preflight, Prepare, Shift};
    let held = steps.contains(&Preflight) || steps.contains(&Prepare);
    played.request(name, from, to, held)?;
    let mut killed = Vec::new();
    for step in steps {
        match step {
            Prepare => {
                // A target that is silent for a moment holds the move where its objects are to be written.
                played.reaches(name, Preflight)?;
                world.member(to).pause()?;
                played.switch(name, &json!({ "pause": false }))?;
            }
            Abort => {
                played.reaches(name, Shift)?;
                played.switch(name, &json!({ "abort": true }))?;
            }
            _ => {}
        }
        played.reaches(name, *step)?;
        world.testbed.kill_operator()?;
        killed.extend(played.step(name)?);
        world.member(to).resume()?;
        world.testbed.start_operator()?;
        if *step == Preflight {
            played.switch(name, &json!({ "pause": false }))?;
        }
    }
    Ok(killed)
}
