//! Replicas of the operator, of which one leads.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    Sensitivity,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_testbed::{command, operator::Replica, process::recorded::ProcessId};
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
    let both = [Replica::First, Replica::Second];
    let mut led = Vec::new();
    for trial in 0..trials {
        let leads = leader(world, &both)?;
        let leading = world.testbed.process_of(leads);
        let leading = leading.context("the leader runs")?;
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
        leading.signal(Signal::SIGSTOP)?;
        let woken = wake_later(leading);
        ends_elsewhere(&played, &name, (from, to))?;
        woken
            .join()
            .map_err(|_| anyhow::anyhow!("the waking thread panicked"))??;
        leads_no_more(leading)?;
        played.rests_at(to)?;
        (from, to) = (to, from);
        ensure!(
            led.last() != Some(&leads),
            "{leads:?} leads again, although the other took over"
        );
        led.push(leads);
    }
    watched.end()?.nothing_fell()?;
    let refused = refusals(world)?.saturating_sub(before);
    end(world, &[Replica::Second])?;
    let counted = load.ends_clean()?;
    Ok(counted.note(told(trials, refused)))
}

/// The leader is stopped in the middle of a move, the next one in the middle of what it took over, and the third goes on
/// with it; then both wake, while requests still go over. Neither does any harm.
pub fn third_leader(world: &World) -> Result<Counted> {
    let trials = if soak() { 5 } else { 1 };
    let stage = world.stage("third")?;
    let mut asked = stage.asked(Sensitivity::Public, &["alibaba"]);
    // There is something left to do for the third.
    asked.pace.stage_seconds = 4;
    let played = stage.play(asked, |_| {})?;
    let load = played.load()?;
    for standby in [Replica::Second, Replica::Third] {
        world.testbed.start_replica(standby, &[])?;
    }
    let watched = Watched::begin(world, &stage.namespace)?;
    let before = refusals(world)?;
    let (mut from, mut to) = ("alibaba", "atos");
    let mut led = Vec::new();
    for trial in 0..trials {
        let mut others = Replica::ALL.to_vec();
        let mut stopped = Vec::new();
        let name = format!("trial-{trial}");
        for step in [MigrationStep::Prepare, MigrationStep::Shift] {
            let leader = leader(world, &others)?;
            if stopped.is_empty() {
                played.request(&name, from, to, false)?;
            }
            played.reaches(&name, step)?;
            let process = world.testbed.process_of(leader);
            let process = process.context("the leader runs")?;
            process.signal(Signal::SIGSTOP)?;
            stopped.push(process);
            led.push(leader);
            others.retain(|other| *other != leader);
        }
        led.push(leader(world, &others)?);
        ensure!(
            played.step(&name)? < Some(MigrationStep::Retire),
            "the move was over before the third led"
        );
        for process in &stopped {
            process.signal(Signal::SIGCONT)?;
        }
        ends_elsewhere(&played, &name, (from, to))?;
        for process in stopped {
            leads_no_more(process)?;
        }
        (from, to) = (to, from);
    }
    watched.end()?.nothing_fell()?;
    let refused = refusals(world)?.saturating_sub(before);
    end(world, &[Replica::Second, Replica::Third])?;
    let counted = load.ends_clean()?;
    Ok(counted.note(format!(
        "leaders in turn {led:?}; {}",
        told(trials, refused)
    )))
}

fn told(trials: usize, refused: u64) -> String {
    format!(
        "trials: {trials}, 0 stale writes accepted, {refused} denials by the members' fencing policy, Flambeau's own probes \
         included"
    )
}

/// The replica that leads, once one of them does and the others stand by.
fn leader(world: &World, replicas: &[Replica]) -> Result<Replica> {
    let mut leader = None;
    until(
        &format!("one of {replicas:?} leads, and the others stand by"),
        || {
            let seen: Vec<_> = replicas
                .iter()
                .map(|replica| (*replica, leads(world, *replica)))
                .collect();
            let answer = seen.iter().all(|(_, leads)| leads.is_some());
            let leading = seen.iter().filter(|(_, leads)| *leads == Some(true));
            let leading: Vec<Replica> = leading.map(|(replica, _)| *replica).collect();
            leader = match leading[..] {
                [one] if answer => Some(one),
                _ => None,
            };
            Ok(leader.is_none().then(|| format!("{seen:?}")))
        },
    )?;
    leader.context("one leads")
}

/// Whether a replica says that it leads; none when it says nothing.
fn leads(world: &World, replica: Replica) -> Option<bool> {
    let url = format!("{}/metrics", world.testbed.url_of(replica));
    let arguments = ["--silent", "--fail", "--max-time", "5", &url];
    let text = command::run("curl", &arguments).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("flambeau_leader "))?;
    Some(line.trim() == "1")
}

/// Ends replicas that have time to hand over.
fn end(world: &World, replicas: &[Replica]) -> Result<()> {
    replicas
        .iter()
        .try_for_each(|replica| world.testbed.end_replica(*replica, Signal::SIGTERM))
}

/// Waits until a process that was stopped for longer than its Lease has ended by itself.
fn leads_no_more(process: ProcessId) -> Result<()> {
    until("the woken leader leads no more", || {
        Ok(process.alive().then(|| "it runs on".to_owned()))
    })
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
