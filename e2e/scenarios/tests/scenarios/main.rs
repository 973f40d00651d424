//! Scenarios on one real testbed: what goes wrong in the world, and that no request notices.
//!
//! They need root, run one after the other, and print one line each. Arguments choose those whose name contains one of
//! them. With SOAK=1 in the environment, more is killed and everything takes longer.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a scenario ends with what goes wrong"
)]

mod bad_input;
mod ends;
mod killed;
mod law;
mod target;
mod world;

use std::{process::ExitCode, time::Instant};

use anyhow::Result;
use flambeau_testbed::{prerequisites, progress::Progress, testbed::Testbed};
use world::{Counted, World};

type Scenario = fn(&World) -> Result<Counted>;

/// All scenarios, the most valuable first.
const SCENARIOS: [(&str, Scenario); 13] = [
    ("operator-killed-at-every-step", killed::at_every_step),
    ("no-lawful-target", law::no_lawful_target),
    ("policy-withdrawn-before-shift", law::withdrawn_before_shift),
    ("policy-withdrawn-during-shift", law::withdrawn_during_shift),
    ("target-never-ready", target::never_ready),
    ("target-cut-off-before-shift", target::cut_off_before_shift),
    ("deleted-in-the-middle", ends::deleted_in_the_middle),
    ("changed-in-the-middle", ends::changed_in_the_middle),
    ("kinds-that-a-member-serves", bad_input::kinds),
    ("kubeconfig-of-no-use", bad_input::kubeconfigs),
    (
        "deleted-while-its-member-is-dead",
        ends::deleted_while_member_is_dead,
    ),
    ("hub-silent-during-shift", killed::hub_silent),
    ("cluster-and-provider-in-use", ends::in_use),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if let Err(missing) = prerequisites::check() {
        eprintln!("SKIPPED: no scenario was tried. {missing:#}");
        return ExitCode::SUCCESS;
    }
    let result = run(&wanted);
    let down = Testbed::down(Progress::quiet());
    match (result, down) {
        (Ok(0), Ok(())) => ExitCode::SUCCESS,
        (Ok(failed), Ok(())) => {
            eprintln!("{failed} scenarios failed");
            ExitCode::FAILURE
        }
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the wanted scenarios and returns how many failed.
fn run(wanted: &[String]) -> Result<usize> {
    let world = World::up()?;
    let rounds = if world::soak() { 3 } else { 1 };
    let mut failed = 0;
    for _ in 0..rounds {
        for (name, scenario) in SCENARIOS {
            if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
                continue;
            }
            let started = Instant::now();
            let result = scenario(&world);
            let seconds = started.elapsed().as_secs_f64();
            match result {
                Ok(counted) => eprintln!("ok     {name:<36} {seconds:5.1} s  {counted}"),
                Err(error) => {
                    failed += 1;
                    eprintln!("FAILED {name:<36} {seconds:5.1} s  {error:#}");
                    eprintln!("       {}", world.hints());
                }
            }
            world.tidy()?;
        }
    }
    Ok(failed)
}
