//! A cluster with many applications is lost: how long until every object of theirs is written elsewhere, and what the time
//! went into. No pod runs, so what workloads take to get ready is left out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api::{self, Arrival, Watched};
use crate::fleet::Fleet;
use crate::idle::{APPLICATIONS, CONFIG_MAPS, DEPLOYMENTS, deployment_path};
use crate::objects::{self, MEMBERS, NAMESPACE, PLAIN};
use crate::operator::Operator;
use crate::progress;
use crate::report::{Goal, Report, percentiles};

const PATIENCE: Duration = Duration::from_secs(120);
/// The operator has nothing more to do when the hub saw no change for this long.
const SETTLED: Duration = Duration::from_secs(2);
/// Number of the cluster that is lost.
const LOST: usize = 0;

const MIGRATIONS: Watched = Watched {
    kind: ("flambeau.dev", "v1alpha1", "Migration"),
    plural: "migrations",
    namespace: NAMESPACE,
    changes: false,
};

fn name(number: usize) -> String {
    format!("lost-{number:04}")
}

/// Measures with a number of applications, which are to be written elsewhere within so many seconds from the loss.
pub async fn measure(report: &mut Report, count: usize, goal: Goal) -> Result<()> {
    let mut fleet = Fleet::start("failover").await?;
    progress!("{count} applications: plain client writes of the same objects");
    let plain = plain(&fleet, count).await?;
    let mut operator = Operator::start(&fleet.kubeconfig(), &fleet.folder, "operator").await?;
    progress!("{count} applications: placed on {}", MEMBERS[LOST]);
    place(&fleet, &mut operator, count).await?;

    let (tell, mut begun) = mpsc::unbounded_channel();
    fleet.hub.watch(0, MIGRATIONS, tell).await?;
    let (tell, mut arrivals) = mpsc::unbounded_channel();
    for (number, member) in fleet
        .members
        .iter()
        .enumerate()
        .filter(|(number, _)| *number != LOST)
    {
        member.watch(number, DEPLOYMENTS, tell.clone()).await?;
        member.watch(number, CONFIG_MAPS, tell.clone()).await?;
    }
    progress!("{count} applications: {} is killed", MEMBERS[LOST]);
    let killed = Instant::now();
    fleet.kill(LOST);
    let (decisions, writes) = futures::try_join!(
        times(&mut begun, "a Migration of every application", count),
        times(&mut arrivals, "every object elsewhere", 2 * count),
    )?;
    recorded(&fleet, count).await?;

    let since = |times: &[Instant]| -> Vec<f64> {
        times
            .iter()
            .map(|time| (*time - killed).as_secs_f64())
            .collect()
    };
    let (decisions, writes) = (since(&decisions), since(&writes));
    let first = decisions.first().copied().unwrap_or_default();
    let last = decisions.last().copied().unwrap_or_default();
    let written = writes.last().copied().unwrap_or_default();
    let figure = |what: &str| format!("{count} applications lost: {what}");
    report.add(
        &figure("detect, kill → first Migration"),
        first,
        None,
        "s",
        Goal::None,
    );
    report.add(
        &figure("decide, first → last Migration"),
        last - first,
        None,
        "s",
        Goal::None,
    );
    report.add(
        &figure("write, first Migration → last object"),
        written - first,
        Some(plain),
        "s",
        Goal::None,
    );
    report.add(
        &figure("kill → every object written elsewhere"),
        written,
        None,
        "s",
        goal,
    );
    let usage = operator.usage()?;
    report.detail(
        "failover",
        json!({
            "applications": count, "decisions_seconds": percentiles(&decisions), "writes_seconds": percentiles(&writes),
            "plain_writes_seconds": plain, "usage": usage,
        }),
    );
    Ok(())
}

/// When each of so many different objects came, the first first.
async fn times(
    arrivals: &mut mpsc::UnboundedReceiver<Arrival>,
    what: &str,
    count: usize,
) -> Result<Vec<Instant>> {
    let (mut seen, mut times) = (BTreeSet::new(), Vec::new());
    api::until(arrivals, what, PATIENCE, |arrival| {
        if seen.insert((arrival.kind, arrival.name.clone())) {
            times.push(arrival.at);
        }
        seen.len() == count
    })
    .await?;
    times.sort();
    Ok(times)
}

/// Seconds that plain writes of the same objects to the clusters that are left take.
async fn plain(fleet: &Fleet, count: usize) -> Result<f64> {
    let left = fleet
        .members
        .iter()
        .enumerate()
        .filter(|(number, _)| *number != LOST);
    let left: Vec<_> = left.map(|(_, member)| member).collect();
    let mut shares = vec![Vec::new(); left.len()];
    for number in 0..count {
        let share = &mut shares[number % left.len()];
        share.push(objects::config_map(PLAIN, &name(number)));
        share.push(objects::deployment(PLAIN, &name(number)));
    }
    let begun = Instant::now();
    try_join_all(
        left.iter()
            .zip(&shares)
            .map(|(member, share)| member.apply_all(share)),
    )
    .await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Creates the applications, all where they will be lost, and lets them get ready.
async fn place(fleet: &Fleet, operator: &mut Operator, count: usize) -> Result<()> {
    let (tell, mut changes) = mpsc::unbounded_channel();
    fleet.hub.watch(0, APPLICATIONS, tell).await?;
    let (tell, mut arrivals) = mpsc::unbounded_channel();
    fleet.members[LOST].watch(LOST, DEPLOYMENTS, tell).await?;
    let applications: Vec<Value> = (0..count)
        .map(|number| objects::application(NAMESPACE, &name(number), MEMBERS[LOST]))
        .collect();
    fleet.hub.create_all(&applications).await?;
    times(&mut arrivals, "every Deployment", count).await?;
    let status = objects::ready_status();
    for number in 0..count {
        let path = deployment_path(&name(number));
        fleet.members[LOST].set_status(&path, &status).await?;
    }
    operator.applications_ready(count, PATIENCE).await?;
    api::quiet(&mut changes, SETTLED).await;
    Ok(())
}

/// What was written is what is recorded, and nothing is recorded to go where it was lost.
async fn recorded(fleet: &Fleet, count: usize) -> Result<()> {
    let path = format!("/apis/flambeau.dev/v1alpha1/namespaces/{NAMESPACE}/migrations");
    let list = fleet.hub.get(&path).await?;
    let migrations = list["items"].as_array().context("a list of Migrations")?;
    ensure!(
        migrations.len() == count,
        "{} Migrations for {count} applications",
        migrations.len()
    );
    for migration in migrations {
        let spec = &migration["spec"];
        let right = spec["type"] == "Failover"
            && spec["from"] == MEMBERS[LOST]
            && spec["to"] != MEMBERS[LOST];
        ensure!(right, "a wrong move: {spec}");
    }
    Ok(())
}
