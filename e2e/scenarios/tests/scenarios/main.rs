//! Scenarios on one real testbed: what goes wrong in the world, and that no request notices more than it must.
//!
//! They need root, and run one after the other. Those that tell most are tried with every change; `--include-ignored` tries
//! the others as well, and names choose some. With SOAK=1 in the environment, more is killed, disturbances last longer, and
//! those of every change are tried three times.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a scenario ends with what goes wrong"
)]

mod bad_input;
mod ends;
mod killed;
mod law;
mod leader;
mod load;
mod lost;
mod mute;
mod planned;
mod pods;
mod stage;
mod standby;
mod target;
mod wait;
mod watched;
mod world;

use std::{
    io::Write,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Result, anyhow};
use flambeau_testbed::{prerequisites, progress::Progress, testbed::Testbed};
use libtest_mimic::{Arguments, Failed, Trial};
use load::Counted;
use world::World;

type Scenario = fn(&World) -> Result<Counted>;

/// When a scenario is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// With every change.
    Always,
    /// When somebody asks for all.
    Asked,
}
use When::{Always, Asked};

/// All scenarios, the most valuable first.
const SCENARIOS: &[(&str, When, Scenario)] = &[
    ("cluster-killed", Always, lost::cluster_killed),
    ("api-server-hung", Always, mute::api_server_hung),
    ("hub-cut-off", Always, mute::hub_cut_off),
    (
        "operator-killed-at-every-step-of-a-move",
        Always,
        killed::at_every_step,
    ),
    ("chart-lifecycle", Asked, pods::chart_lifecycle),
    ("leader-pod-killed", Asked, pods::leader_pod_killed),
    ("hub-api-away", Asked, pods::hub_api_away),
    (
        "operator-killed-at-every-step-of-a-failover",
        Asked,
        killed::at_every_step_of_a_failover,
    ),
    ("leader-stopped-and-woken", Asked, leader::stopped_and_woken),
    ("third-leader", Asked, leader::third_leader),
    (
        "standby-warm-failback-automatic",
        Asked,
        standby::warm_and_automatic,
    ),
    (
        "planned-moves-at-full-rate",
        Asked,
        planned::no_request_fails,
    ),
    ("link-cut-both-ways", Asked, lost::link_cut_both_ways),
    ("link-cut-inbound", Asked, lost::link_cut_inbound),
    ("link-cut-outbound", Asked, lost::link_cut_outbound),
    ("link-flapping", Asked, lost::link_flapping),
    ("most-clusters-vanish", Asked, lost::most_clusters_vanish),
    ("node-dead", Asked, lost::node_dead),
    ("api-server-dead", Asked, mute::api_server_dead),
    ("edge-cut-off", Asked, mute::edge_cut_off),
    ("no-lawful-target", Asked, law::no_lawful_target),
    (
        "policy-withdrawn-before-shift",
        Asked,
        law::withdrawn_before_shift,
    ),
    (
        "policy-withdrawn-during-shift",
        Asked,
        law::withdrawn_during_shift,
    ),
    ("target-never-ready", Asked, target::never_ready),
    (
        "target-answers-with-errors",
        Asked,
        target::answers_with_errors,
    ),
    (
        "target-cut-off-before-shift",
        Asked,
        target::cut_off_before_shift,
    ),
    (
        "target-killed-during-shift",
        Asked,
        target::killed_during_shift,
    ),
    (
        "target-cut-off-during-shift",
        Asked,
        target::cut_off_during_shift,
    ),
    ("deleted-in-the-middle", Asked, ends::deleted_in_the_middle),
    ("changed-in-the-middle", Asked, ends::changed_in_the_middle),
    ("kinds-that-a-member-serves", Asked, bad_input::kinds),
    ("kubeconfig-of-no-use", Asked, bad_input::kubeconfigs),
    (
        "deleted-while-its-member-is-dead",
        Asked,
        ends::deleted_while_member_is_dead,
    ),
    ("hub-silent-during-shift", Asked, killed::hub_silent),
    ("cluster-and-provider-in-use", Asked, ends::in_use),
];

/// The one testbed; none before the first scenario, and after one that could not be undone.
static WORLD: Mutex<Option<World>> = Mutex::new(None);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // There is one testbed.
    arguments.test_threads = Some(1);
    if !arguments.list
        && let Err(missing) = prerequisites::check()
    {
        eprintln!("SKIPPED: no scenario was tried. {missing:#}");
        return ExitCode::SUCCESS;
    }
    let trials = SCENARIOS.iter().map(|(name, when, scenario)| {
        Trial::test(*name, || run(*scenario, *when)).with_ignored_flag(*when == Asked)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    let up = lock().take().is_some();
    if up && let Err(error) = Testbed::down(Progress::quiet()) {
        eprintln!("error: {error:#}; run `make down`");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

/// Runs a scenario, one that tells most three times if there is time for more, and says what it counted.
fn run(scenario: Scenario, when: When) -> Result<(), Failed> {
    let mut world = lock();
    let again = world::soak() && when == Always;
    for _ in 0..if again { 3 } else { 1 } {
        let tried = once(&mut world, scenario);
        let counted = tried.map_err(|error| Failed::from(format!("{error:#}")))?;
        print!("{counted} ... ");
        // What cannot be shown is no reason to fail.
        let _ = std::io::stdout().flush();
    }
    Ok(())
}

fn once(world: &mut Option<World>, scenario: Scenario) -> Result<String> {
    let current = match world.take() {
        Some(current) => current,
        None => World::up()?,
    };
    let started = Instant::now();
    let result = scenario(&current);
    let seconds = started.elapsed().as_secs_f64();
    let hints = current.hints();
    match (result, current.tidy()) {
        (Ok(counted), Ok(())) => {
            *world = Some(current);
            Ok(format!("{seconds:.1} s, {counted}"))
        }
        // The next scenario gets a testbed of its own.
        (Ok(_), Err(error)) => Err(error.context("it went well, and cannot be undone")),
        (Err(error), tidied) => {
            if tidied.is_ok() {
                *world = Some(current);
            }
            Err(anyhow!("after {seconds:.1} s: {error:#}\n{hints}"))
        }
    }
}

fn lock() -> std::sync::MutexGuard<'static, Option<World>> {
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}
