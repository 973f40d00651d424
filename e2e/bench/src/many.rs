//! Many applications at once: created before the operator starts, then a restart with nothing to do.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::api;
use crate::fleet::Fleet;
use crate::idle::{APPLICATIONS, CONFIG_MAPS, DEPLOYMENTS, deployment_path};
use crate::objects::{self, MEMBERS, NAMESPACE, PLAIN};
use crate::operator::{Operator, Usage};
use crate::progress;
use crate::report::{Goal, Report, percentiles};
use crate::rest;
use crate::writes::Writes;

const PATIENCE: Duration = Duration::from_secs(300);
/// The operator has nothing more to do when the hub saw no change for this long.
const SETTLED: Duration = Duration::from_secs(2);

/// What is asked of a run.
pub struct Goals {
    /// Until every object exists.
    pub seconds: Goal,
    /// On a processor until then.
    pub cpu_seconds: Goal,
    /// Peak of resident memory.
    pub mib: Goal,
}

fn name(number: usize) -> String {
    format!("many-{number:04}")
}

/// Places a number of applications; then restarts the operator if asked.
pub async fn measure(
    report: &mut Report,
    count: usize,
    goals: &Goals,
    restart: bool,
) -> Result<()> {
    let fleet = Fleet::start(&format!("many-{count}")).await?;
    progress!("{count} applications: plain client writes of the same objects");
    let plain = plain(&fleet, count).await?;
    progress!("{count} applications: created before the operator starts");
    let applications: Vec<Value> = (0..count)
        .map(|number| objects::application(NAMESPACE, &name(number), objects::preferred(number)))
        .collect();
    fleet.hub.create_all(&applications).await?;
    drop(applications);

    let (hub_before, member_before) = (fleet.hub_writes().await?, fleet.member_writes().await?);
    let (tell, mut changes) = mpsc::unbounded_channel();
    fleet.hub.watch(0, APPLICATIONS, tell).await?;
    let (tell, mut arrivals) = mpsc::unbounded_channel();
    for (number, member) in fleet.members.iter().enumerate() {
        member.watch(number, DEPLOYMENTS, tell.clone()).await?;
        member.watch(number, CONFIG_MAPS, tell.clone()).await?;
    }
    progress!("{count} applications: the operator places them");
    let mut operator = Operator::start(&fleet.kubeconfig(), &fleet.folder, "operator").await?;
    let mut seen = BTreeSet::new();
    let (mut places, mut times) = (vec![0; count], Vec::new());
    let started = operator.started;
    let all = api::until(
        &mut arrivals,
        "every object in a member",
        PATIENCE,
        |arrival| {
            if let Some(number) = arrival
                .name
                .strip_prefix("many-")
                .and_then(|digits| digits.parse::<usize>().ok())
            {
                places[number] = arrival.cluster;
                if seen.insert((arrival.kind, number)) {
                    times.push((arrival.at - started).as_secs_f64());
                }
            }
            seen.len() == 2 * count
        },
    )
    .await?;
    let took = (all - operator.started).as_secs_f64();
    let placed = operator.usage()?;
    api::quiet(&mut changes, SETTLED).await;
    let settled = operator.usage()?;
    report.detail(
        &format!("many_{count}_arrivals_seconds"),
        percentiles(&times),
    );
    report.detail(
        &format!("many_{count}_operator_metrics"),
        planning(&operator.metrics().await?),
    );
    let hub = fleet.hub_writes().await?.since(&hub_before);
    let members = fleet.member_writes().await?.since(&member_before);
    add(
        report,
        count,
        goals,
        (took, plain),
        (placed, settled),
        (&hub, &members),
    );
    if restart {
        let before = Before {
            hub: hub_before,
            members: member_before,
        };
        ready(report, &fleet, &mut operator, &places, &before).await?;
        api::quiet(&mut changes, SETTLED).await;
        drop(operator);
        again(report, &fleet, count).await?;
    }
    Ok(())
}

fn add(
    report: &mut Report,
    count: usize,
    goals: &Goals,
    (took, plain): (f64, f64),
    (placed, settled): (Usage, Usage),
    (hub, members): (&Writes, &Writes),
) {
    let figure = |what: &str| format!("{count} applications: {what}");
    report.add(
        &figure("until every object exists"),
        took,
        Some(plain),
        "s",
        goals.seconds,
    );
    report.add(
        &figure("CPU until every object exists"),
        placed.cpu_seconds,
        None,
        "s",
        goals.cpu_seconds,
    );
    report.add(
        &figure("CPU until nothing is left to do"),
        settled.cpu_seconds,
        None,
        "s",
        Goal::None,
    );
    report.add(
        &figure("peak resident memory"),
        settled.peak_mib,
        None,
        "MiB",
        goals.mib,
    );
    report.detail(
        &format!("many_{count}"),
        json!({
            "placed": placed, "settled": settled, "hub_writes": hub.list(), "member_writes": members.list(),
            "hub_writes_done": hub.done(), "member_writes_done": members.done(),
            "refused": hub.refused() + members.refused(),
        }),
    );
}

/// Seconds that plain writes of the same objects take.
async fn plain(fleet: &Fleet, count: usize) -> Result<f64> {
    let mut shares = vec![Vec::new(); MEMBERS.len()];
    for number in 0..count {
        let share = &mut shares[number % MEMBERS.len()];
        share.push(objects::config_map(PLAIN, &name(number)));
        share.push(objects::deployment(PLAIN, &name(number)));
    }
    let begun = Instant::now();
    let written = fleet.members.iter().zip(&shares);
    try_join_all(written.map(|(member, share)| member.apply_all(share))).await?;
    Ok(begun.elapsed().as_secs_f64())
}

struct Before {
    hub: Writes,
    members: Writes,
}

/// Lets every Deployment get ready, as far as the operator can tell.
async fn ready(
    report: &mut Report,
    fleet: &Fleet,
    operator: &mut Operator,
    places: &[usize],
    before: &Before,
) -> Result<()> {
    progress!(
        "{} applications: their Deployments become ready",
        places.len()
    );
    let status = objects::ready_status();
    let each = fleet.members.iter().enumerate().map(|(number, member)| {
        let status = &status;
        async move {
            let here = places
                .iter()
                .enumerate()
                .filter(|(_, place)| **place == number);
            for (application, _) in here {
                member
                    .set_status(&deployment_path(&name(application)), status)
                    .await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(each).await?;
    operator.applications_ready(places.len(), PATIENCE).await?;
    let usage = operator.usage()?;
    report.detail(
        &format!("many_{}_ready", places.len()),
        json!({
            "usage": usage,
            "hub_writes": fleet.hub_writes().await?.since(&before.hub).list(),
            "member_writes": fleet.member_writes().await?.since(&before.members).list(),
        }),
    );
    Ok(())
}

/// Starts the operator again: nothing changed, so nothing is written.
async fn again(report: &mut Report, fleet: &Fleet, count: usize) -> Result<()> {
    progress!("{count} applications: the operator restarts with nothing to do");
    let lists = lists(fleet).await?;
    let (hub_before, member_before) = (fleet.hub_writes().await?, fleet.member_writes().await?);
    let mut operator =
        Operator::start(&fleet.kubeconfig(), &fleet.folder, "operator-restarted").await?;
    let answered = operator.ready(PATIENCE).await? - operator.started;
    let known = operator.applications_ready(count, PATIENCE).await? - operator.started;
    let usage = operator.usage()?;
    rest::measure(report, &mut operator, &format!("with {count} applications")).await?;
    let later = operator.usage()?;
    let hub = fleet.hub_writes().await?.since(&hub_before);
    let members = fleet.member_writes().await?.since(&member_before);
    let figure = |what: &str| format!("restart with {count}: {what}");
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let number = |count: u64| count as f64;
    report.add(
        &figure("writes on hub and members"),
        number(hub.done() + hub.refused() + members.done() + members.refused()),
        None,
        "",
        Goal::AtMost(0.0),
    );
    report.add(
        &figure("events"),
        number(hub.events()),
        None,
        "",
        Goal::AtMost(0.0),
    );
    report.add(
        &figure("start → /readyz"),
        answered.as_secs_f64(),
        Some(lists),
        "s",
        Goal::None,
    );
    report.add(
        &figure("start → every application known ready"),
        known.as_secs_f64(),
        Some(lists),
        "s",
        Goal::AtMost(lists + 2.0),
    );
    report.add(
        &figure("CPU until then"),
        usage.cpu_seconds,
        None,
        "s",
        Goal::None,
    );
    report.add(
        &figure("peak resident memory"),
        later.peak_mib,
        None,
        "MiB",
        Goal::AtMost(64.0),
    );
    report.detail("restart", json!({ "usage": usage, "later": later, "hub_writes": hub.list(), "member_writes": members.list() }));
    Ok(())
}

/// Seconds that a plain client takes to list what the operator has to list.
async fn lists(fleet: &Fleet) -> Result<f64> {
    let begun = Instant::now();
    let hub = async {
        let mut next = String::new();
        loop {
            let path =
                format!("/apis/flambeau.dev/v1alpha1/gamesapplications?limit=500&continue={next}");
            let page = fleet.hub.get(&path).await?;
            next = page["metadata"]["continue"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if next.is_empty() {
                return anyhow::Ok(());
            }
        }
    };
    let members = fleet.members.iter().map(|member| async move {
        for path in ["/apis/apps/v1/deployments", "/api/v1/configmaps"] {
            member
                .get(&format!("{path}?labelSelector=flambeau.dev%2Fapplication"))
                .await?;
        }
        anyhow::Ok(())
    });
    hub.await.context("list the hub")?;
    try_join_all(members).await.context("list members")?;
    Ok(begun.elapsed().as_secs_f64())
}

/// The lines of the operator's metrics that tell how often and how long it planned.
fn planning(metrics: &str) -> Vec<&str> {
    let lines = metrics.lines();
    lines
        .filter(|line| {
            line.starts_with("flambeau_planning") || line.starts_with("flambeau_hub_writes")
        })
        .collect()
}
