//! Two replicas of the operator, of which one leads.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result};
use flambeau_crds::{
    Sensitivity,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_testbed::{operator::Replica, process::recorded::ProcessId};
use nix::sys::signal::Signal;

use crate::{
    load::Counted,
    stage::Played,
    wait::until,
    watched::Watched,
    world::{World, soak},
};

/// How long the leader is stopped: longer than its Lease.
const STOPPED: Duration = Duration::from_secs(20);

/// How the members' API servers label what the fencing policy does.
const FENCING: &str = "policy=\"flambeau-fencing\"";

/// The leader is stopped in the middle of a move, again and again; another takes over and ends the move under a higher
/// epoch; the old one wakes. No member takes anything from it: the epoch of no object ever falls.
pub fn stopped_and_woken(world: &World) -> Result<Counted> {
    let trials = if soak() { 20 } else { 2 };
    let stage = world.stage("woken")?;
    let played = stage.play(stage.asked(Sensitivity::Public, &["alibaba"]), |_| {})?;
    let load = played.load()?;
    world.testbed.start_replica(Replica::Second, &[])?;
    let watched = Watched::begin(world, &stage.namespace)?;
    let before = refusals(world)?;
    let (mut from, mut to) = ("alibaba", "atos");
    let mut leads = Replica::First;
    for trial in 0..trials {
        let leader = leading(world, leads)?;
        let name = format!("trial-{trial}");
        played.request(&name, from, to, false)?;
        // Each time somewhere else in its work.
        let steps = [
            MigrationStep::Prepare,
            MigrationStep::Shift,
            MigrationStep::Retire,
            MigrationStep::Preflight,
        ];
        played.reaches(&name, steps[trial % steps.len()])?;
        leader.signal(Signal::SIGSTOP)?;
        let woken = wake_later(leader);
        ends_elsewhere(&played, &name, (from, to))?;
        woken
            .join()
            .map_err(|_| anyhow::anyhow!("the waking thread panicked"))??;
        until("the woken leader leads no more", || {
            Ok(leader.alive().then(|| "it runs on".to_owned()))
        })?;
        played.rests_at(to)?;
        (from, to) = (to, from);
        leads = other(leads);
    }
    watched.end()?.nothing_fell()?;
    let refused = refusals(world)?.saturating_sub(before);
    world
        .testbed
        .end_replica(Replica::Second, Signal::SIGTERM)?;
    let counted = load.ends_clean()?;
    Ok(counted.note(format!(
        "{trials} trials, 0 stale writes accepted, {refused} denials by the members' fencing policy, Flambeau's own probes \
         included"
    )))
}

const fn other(replica: Replica) -> Replica {
    match replica {
        Replica::First => Replica::Second,
        Replica::Second => Replica::First,
    }
}

/// The process of the replica that has to lead now.
fn leading(world: &World, replica: Replica) -> Result<ProcessId> {
    until(
        &format!("{replica:?} leads, and the other stands by"),
        || {
            let leads = |replica| {
                let url = format!("{}/metrics", world.testbed.url_of(replica));
                let text = flambeau_testbed::command::run(
                    "curl",
                    &["--silent", "--fail", "--max-time", "5", &url],
                );
                text.ok().and_then(|text| {
                    text.lines()
                        .find_map(|line| line.strip_prefix("flambeau_leader ")?.parse().ok())
                })
            };
            let seen: (Option<u8>, Option<u8>) = (leads(replica), leads(other(replica)));
            Ok((seen != (Some(1), Some(0))).then(|| format!("{seen:?}")))
        },
    )?;
    world.testbed.process_of(replica).context("the leader runs")
}

/// Lets a stopped process go on after its time.
fn wake_later(process: ProcessId) -> std::thread::JoinHandle<Result<()>> {
    std::thread::spawn(move || {
        sleep(STOPPED);
        process.signal(Signal::SIGCONT)
    })
}

fn ends_elsewhere(played: &Played<'_>, name: &str, (from, to): (&str, &str)) -> Result<()> {
    played.ends(name, MigrationOutcome::Completed)?;
    played.rests_at(to)?;
    played.nothing_at(from)
}

/// Denials by the members' fencing policy, all in all. Flambeau's own probes, which it has to refuse, cannot be told apart.
fn refusals(world: &World) -> Result<u64> {
    let mut sum = 0.0;
    for member in world.testbed.members() {
        let text = member.client()?.get("/metrics")?;
        let denied = text.lines().filter(|line| {
            line.starts_with("apiserver_validating_admission_policy_check_total{")
                && line.contains("enforcement_action=\"deny\"")
                && line.contains(FENCING)
        });
        sum += denied
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small count"
    )]
    let sum = sum as u64;
    Ok(sum)
}
