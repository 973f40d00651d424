//! The operator dies.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    GamesApplication, Sensitivity,
    application::FailoverPolicy,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_games::Application;
use flambeau_testbed::{command::run, process::recorded};
use jiff::Timestamp;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    load::Counted,
    lost::LIMIT,
    stage::Played,
    wait::{PATIENCE, until},
    world::{World, soak},
};

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
    let (mut from, mut to) = ("alibaba", "atos");
    let mut killed = Vec::new();
    for (number, (steps, expected)) in walks.iter().enumerate() {
        let name = format!("walk-{number}");
        walk(world, &played, &name, (from, to), steps)?;
        killed.extend_from_slice(steps);
        played.ends(&name, *expected)?;
        if *expected == MigrationOutcome::Completed {
            (from, to) = (to, from);
        }
        played.rests_at(from)?;
        played.whole_at(from)?;
        played.nothing_at(to)?;
    }
    let counted = load.ends_clean()?;
    Ok(counted.note(format!("killed at {killed:?}")))
}

/// Kills the operator with SIGKILL at every step of failovers, and once before a cluster is lost, and starts it again each
/// time. The application ends at one place, whole, and nothing is left where it was.
pub fn at_every_step_of_a_failover(world: &World) -> Result<Counted> {
    use MigrationStep::{Drain, Preflight, Prepare, Ready, Retire, Shift, Soak, Sync};
    /// Every death costs the time until the next process may write.
    const EVERY_DEATH: Duration = Duration::from_secs(30);
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
    let (mut from, mut to) = ("alibaba", "atos");
    let mut losses = Vec::new();
    for steps in walks {
        losses.push(Timestamp::now());
        lose(world, &played, (from, to), steps)?;
        (from, to) = (to, from);
    }
    let limit = LIMIT + 4 * EVERY_DEATH;
    let (counted, _) = load.ends_after_loss(&[played.name()], &losses, limit)?;
    Ok(counted.note(format!("killed at {:?}", walks.concat())))
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

/// One loss, with the operator killed at each of the steps of the failover, or before the loss when there is none.
fn lose(
    world: &World,
    played: &Played<'_>,
    (from, to): (&str, &str),
    steps: &[MigrationStep],
) -> Result<()> {
    let before = names(played)?;
    if steps.is_empty() {
        world.testbed.kill_operator()?;
        world.member(from).cut_link()?;
        world.testbed.start_operator()?;
    } else {
        world.member(from).cut_link()?;
    }
    if steps.contains(&MigrationStep::Preflight) {
        // Nothing holds a failover there by itself: a person asks for this one, before Flambeau finds the loss.
        let name = format!("by-hand-{}", before.len());
        played.request_a("Failover", &name, (from, to), true)?;
    }
    let name = next_move(played, &before)?;
    for step in steps {
        dies_at(world, played, &name, *step)?;
        world.testbed.start_operator()?;
        if *step == MigrationStep::Preflight {
            played.switch(&name, &json!({ "pause": false }))?;
        }
    }
    played.ends(&name, MigrationOutcome::Completed)?;
    played.serves_at(to, from)?;
    played.whole_at(to)?;
    world.member(from).restore_link()?;
    played.nothing_at(from)?;
    played.rests_at(to)?;
    let made = names(played)?.len() - before.len();
    ensure!(made == 1, "one loss set off {made} moves");
    world.trusted(from)
}

/// Names of the application's moves.
fn names(played: &Played<'_>) -> Result<BTreeSet<String>> {
    let moves = played.moves()?.into_iter();
    Ok(moves.filter_map(|found| found.metadata.name).collect())
}

/// The name of a move that was not there before, once there is one.
fn next_move(played: &Played<'_>, before: &BTreeSet<String>) -> Result<String> {
    let mut name = None;
    until("a move begins", || {
        name = names(played)?.difference(before).next().cloned();
        Ok(name
            .is_none()
            .then(|| played.status().unwrap_or_default().next.unwrap_or_default()))
    })?;
    name.context("a move began")
}

/// One move, with the operator killed at each of the steps.
fn walk(
    world: &World,
    played: &Played<'_>,
    name: &str,
    (from, to): (&str, &str),
    steps: &[MigrationStep],
) -> Result<()> {
    use MigrationStep::{Abort, Preflight, Shift};
    played.request(name, from, to, steps.contains(&Preflight))?;
    for step in steps {
        if *step == Abort {
            played.reaches(name, Shift)?;
            played.switch(name, &json!({ "abort": true }))?;
        }
        dies_at(world, played, name, *step)?;
        world.testbed.start_operator()?;
        if *step == Preflight {
            played.switch(name, &json!({ "pause": false }))?;
        }
    }
    Ok(())
}

/// Kills the operator with SIGKILL when the move is at the step and no further.
///
/// Some steps are over sooner than somebody who looks can strike. So the operator runs in slices in which it takes one step
/// at most, and stands still while the hub is asked where the move is.
fn dies_at(world: &World, played: &Played<'_>, name: &str, wanted: MigrationStep) -> Result<()> {
    /// Shorter than it takes to store a step and to hear that it is stored.
    const SLICE: Duration = Duration::from_millis(1);
    /// Within this time, what was sent to the hub before is stored there.
    const SETTLED: Duration = Duration::from_millis(10);
    if let Some(before) = step_before(wanted) {
        played.reaches(name, before)?;
    }
    let operator = world.testbed.operator().context("the operator runs")?;
    let started = Instant::now();
    let found = loop {
        operator.signal(Signal::SIGSTOP)?;
        sleep(SETTLED);
        let found = played.step(name)?;
        if found >= Some(wanted) || started.elapsed() > PATIENCE {
            break found;
        }
        operator.signal(Signal::SIGCONT)?;
        sleep(SLICE);
    };
    world.testbed.kill_operator()?;
    let left = played.step(name)?;
    ensure!(
        (found, left) == (Some(wanted), Some(wanted)),
        "{name} was found at {found:?} and left at {left:?}, not at {wanted:?}"
    );
    Ok(())
}

/// The last step that takes its time before this one; none where the beginning of the move is it.
fn step_before(step: MigrationStep) -> Option<MigrationStep> {
    use MigrationStep::{Abort, Done, Drain, Preflight, Prepare, Ready, Retire, Shift, Soak, Sync};
    match step {
        Preflight | Prepare => None,
        Ready => Some(Prepare),
        Sync | Shift => Some(Ready),
        Soak | Abort => Some(Shift),
        Drain => Some(Soak),
        Retire => Some(Drain),
        Done => Some(Retire),
    }
}
