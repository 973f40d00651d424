//! The operator dies.

use std::{
    collections::BTreeSet,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
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

/// How often a walk is made whose steps are not all hit: where nothing holds a step, chance has a word.
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
    let (mut from, mut to) = ("alibaba", "atos");
    let mut killed = Vec::new();
    for (number, (steps, expected)) in walks.iter().enumerate() {
        until_hit(steps, &mut killed, |attempt| {
            let name = format!("walk-{number}-{attempt}");
            let hit = walk(world, &played, &name, (from, to), (steps, attempt))?;
            played.ends(&name, *expected)?;
            if *expected == MigrationOutcome::Completed {
                (from, to) = (to, from);
            }
            played.rests_at(from)?;
            played.whole_at(from)?;
            played.nothing_at(to)?;
            Ok(hit)
        })?;
    }
    let counted = load.ends_clean()?;
    Ok(counted.note(format!("killed at {killed:?}")))
}

/// Makes a walk until the operator was killed at each of its steps in the same one or another. `hit` gets the steps of all
/// deaths.
fn until_hit(
    steps: &[MigrationStep],
    hit: &mut Vec<MigrationStep>,
    mut walk: impl FnMut(usize) -> Result<Vec<MigrationStep>>,
) -> Result<()> {
    let mut missed = steps.to_vec();
    for attempt in 0..TRIES {
        let deaths = walk(attempt)?;
        missed.retain(|step| !deaths.contains(step));
        hit.extend(deaths);
        if missed.is_empty() {
            return Ok(());
        }
    }
    bail!("the operator was never killed at {missed:?}, only at {hit:?}")
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
    let (mut losses, mut killed) = (Vec::new(), Vec::new());
    for steps in walks {
        until_hit(steps, &mut killed, |attempt| {
            losses.push(Timestamp::now());
            let deaths = lose(world, &played, (from, to), (steps, attempt))?;
            (from, to) = (to, from);
            Ok(deaths)
        })?;
    }
    let limit = LIMIT + 4 * EVERY_DEATH;
    let (counted, _) = load.ends_after_loss(&[played.name()], &losses, limit)?;
    Ok(counted.note(format!("killed at {killed:?}")))
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
    (steps, attempt): (&[MigrationStep], usize),
) -> Result<Vec<MigrationStep>> {
    use MigrationStep::{Preflight, Ready};
    let before = names(played)?;
    if steps.is_empty() {
        world.testbed.kill_operator()?;
        world.member(from).cut_link()?;
        world.testbed.start_operator()?;
    } else {
        world.member(from).cut_link()?;
    }
    if begins_held(steps) {
        // A person asks for this one, before Flambeau finds the loss.
        let name = format!("by-hand-{}", before.len());
        played.request_a("Failover", &name, (from, to), true)?;
    }
    let name = next_move(played, &before)?;
    let mut deaths = Vec::new();
    for step in steps {
        // Nothing holds a failover once its target is ready: not even a pause of its own, as Soak and Drain are for others.
        let strike = if matches!(step, Preflight | Ready) {
            Strike::Running
        } else {
            Strike::Sliced { attempt }
        };
        deaths.extend(dies_at(world, played, &name, *step, strike)?);
    }
    played.ends(&name, MigrationOutcome::Completed)?;
    played.serves_at(to, from)?;
    played.whole_at(to)?;
    world.member(from).restore_link()?;
    played.nothing_at(from)?;
    played.rests_at(to)?;
    let made = names(played)?.len() - before.len();
    ensure!(made == 1, "one loss set off {made} moves");
    world.trusted(from)?;
    Ok(deaths)
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

/// One move, with the operator killed at each of the steps; returns the steps that were recorded at its deaths.
fn walk(
    world: &World,
    played: &Played<'_>,
    name: &str,
    (from, to): (&str, &str),
    (steps, attempt): (&[MigrationStep], usize),
) -> Result<Vec<MigrationStep>> {
    use MigrationStep::{Abort, Prepare, Shift, Sync};
    played.request(name, from, to, begins_held(steps))?;
    let mut deaths = Vec::new();
    for step in steps {
        if *step == Abort {
            played.reaches(name, Shift)?;
            played.switch(name, &json!({ "abort": true }))?;
        }
        let strike = if matches!(step, Prepare | Sync) {
            Strike::Sliced { attempt }
        } else {
            Strike::Running
        };
        deaths.extend(dies_at(world, played, name, *step, strike)?);
    }
    Ok(deaths)
}

/// Whether a move has to be paused in its first step, so that the operator can be killed there, or before it goes on.
fn begins_held(steps: &[MigrationStep]) -> bool {
    use MigrationStep::{Preflight, Prepare};
    matches!(steps.first(), Some(Preflight | Prepare))
}

/// How the moment of a death is found.
#[derive(Clone, Copy)]
enum Strike {
    /// The step lasts: as soon as it is seen, in the middle of the operator's work.
    Running,
    /// The step is over sooner than somebody who looks can strike. So the operator runs in slices, and stands still while
    /// the hub is asked where the move is. At the first attempt it goes on for a moment before it dies, in the middle of
    /// its work; at others it dies where it stands.
    Sliced {
        /// How many walks were made for the same steps before.
        attempt: usize,
    },
}

/// Kills the operator with SIGKILL at a step of a move, starts it again, and returns the step that was recorded at its
/// death. A move that was paused for it goes on.
fn dies_at(
    world: &World,
    played: &Played<'_>,
    name: &str,
    step: MigrationStep,
    strike: Strike,
) -> Result<Option<MigrationStep>> {
    use MigrationStep::{Preflight, Prepare, Ready};
    match strike {
        Strike::Running => played.reaches(name, step)?,
        Strike::Sliced { attempt } => {
            played.reaches(name, if step == Prepare { Preflight } else { Ready })?;
            let go_on = || match step {
                Prepare => played.switch(name, &json!({ "pause": false })),
                _ => Ok(()),
            };
            runs_in_slices(world, go_on, || Ok(played.step(name)? >= Some(step)))?;
            if attempt == 0 {
                let operator = world.testbed.operator();
                operator.map_or(Ok(()), |operator| operator.signal(Signal::SIGCONT))?;
            }
        }
    }
    ensure!(
        world.testbed.operator().is_some(),
        "the operator ended by itself at {step:?}"
    );
    world.testbed.kill_operator()?;
    let died = played.step(name)?;
    world.testbed.start_operator()?;
    if step == Preflight {
        played.switch(name, &json!({ "pause": false }))?;
    }
    Ok(died)
}

/// Lets the operator run in slices in which it takes about one step, until `reached`; then it stands still. What is done
/// first is done while it does.
fn runs_in_slices(
    world: &World,
    first: impl FnOnce() -> Result<()>,
    reached: impl Fn() -> Result<bool>,
) -> Result<()> {
    /// Shorter than it takes to store a step and to hear that it is stored.
    const SLICE: Duration = Duration::from_millis(1);
    /// Within this time, what was sent to the hub before is stored there.
    const SETTLED: Duration = Duration::from_millis(10);
    // Looked up each time: one that lost its lead meanwhile is followed by another.
    let signal = |signal| {
        let operator = world.testbed.operator();
        operator.map_or(Ok(()), |operator| operator.signal(signal))
    };
    signal(Signal::SIGSTOP)?;
    first()?;
    let started = Instant::now();
    loop {
        signal(Signal::SIGSTOP)?;
        sleep(SETTLED);
        if reached()? {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "the move does not get further while the operator runs in slices"
        );
        signal(Signal::SIGCONT)?;
        sleep(SLICE);
    }
}
