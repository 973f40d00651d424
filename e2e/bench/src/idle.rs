//! One application after the other on an idle fleet: the floor, the time to its Deployment, the writes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc;

use crate::api::{self, Watched};
use crate::fleet::Fleet;
use crate::objects::{self, MEMBERS, NAMESPACE, PLAIN};
use crate::operator::Operator;
use crate::progress;
use crate::report::{Goal, Report, percentile, percentiles};
use crate::rest;
use crate::writes::Writes;

const PATIENCE: Duration = Duration::from_secs(30);
/// The fleet counts as idle again when nothing was written to an application for this long.
const IDLE: Duration = Duration::from_millis(100);

/// What is watched on the hub.
pub const APPLICATIONS: Watched = Watched {
    kind: ("flambeau.dev", "v1alpha1", "GamesApplication"),
    plural: "gamesapplications",
    namespace: NAMESPACE,
    changes: true,
};
/// What is watched on members.
pub const DEPLOYMENTS: Watched = Watched {
    kind: ("apps", "v1", "Deployment"),
    plural: "deployments",
    namespace: NAMESPACE,
    changes: false,
};
/// What else is watched on members.
pub const CONFIG_MAPS: Watched = Watched {
    kind: ("", "v1", "ConfigMap"),
    plural: "configmaps",
    namespace: NAMESPACE,
    changes: false,
};

/// Path of one application on the hub.
pub fn application_path(namespace: &str, name: &str) -> String {
    format!("/apis/flambeau.dev/v1alpha1/namespaces/{namespace}/gamesapplications/{name}")
}

/// Path of one Deployment on a member.
pub fn deployment_path(name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")
}

/// Measures with a number of applications.
pub async fn measure(report: &mut Report, count: usize) -> Result<()> {
    let fleet = Fleet::start("idle").await?;
    progress!("floor: {count} watch deliveries and object writes by a plain client");
    let (watch, write) = floor(&fleet, count).await?;
    let both: Vec<f64> = watch
        .iter()
        .zip(&write)
        .map(|(one, other)| one + other)
        .collect();
    let (f50, f99) = (percentile(&both, 0.5), percentile(&both, 0.99));
    report.add(
        "F: watch delivery + object write, p50",
        f50,
        None,
        "ms",
        Goal::None,
    );
    report.add(
        "F: watch delivery + object write, p99",
        f99,
        None,
        "ms",
        Goal::None,
    );
    report.detail("floor_watch_ms", percentiles(&watch));
    report.detail("floor_write_ms", percentiles(&write));

    let mut operator = Operator::start(&fleet.kubeconfig(), &fleet.folder, "operator").await?;
    operator.ready(PATIENCE).await?;
    settle(&fleet).await?;
    rest::measure(report, &mut operator, "without applications").await?;
    progress!("idle placement: {count} applications, one after the other");
    let (hub_before, member_before) = (fleet.hub_writes().await?, fleet.member_writes().await?);
    let (times, parts, mut changes) = place(&fleet, count).await?;
    report.add(
        "created → Deployment in the member, p50",
        percentile(&times, 0.5),
        Some(f50),
        "ms",
        Goal::Ratio(2.0, 1.5),
    );
    report.add(
        "created → Deployment in the member, p99",
        percentile(&times, 0.99),
        Some(f50),
        "ms",
        Goal::Ratio(5.0, 4.0),
    );
    report.detail("idle_placement_ms", percentiles(&times));
    report.detail("idle_delivered_ms", percentiles(&parts.delivered));
    report.detail("idle_intent_stored_ms", percentiles(&parts.stored));
    operator.applications_ready(count, PATIENCE).await?;
    api::quiet(&mut changes, Duration::from_secs(1)).await;
    count_writes(report, &fleet, count, &hub_before, &member_before).await
}

/// What was written for the applications, on the hub and on members.
async fn count_writes(
    report: &mut Report,
    fleet: &Fleet,
    count: usize,
    hub_before: &Writes,
    member_before: &Writes,
) -> Result<()> {
    let hub =
        fleet
            .hub_writes()
            .await?
            .since(hub_before)
            .without("POST", "gamesapplications", count);
    let members = fleet.member_writes().await?.since(member_before).without(
        "PATCH",
        "deployments/status",
        count,
    );
    let fleet_writes = hub.of_the_fleet();
    report.add(
        "hub writes per application, until Ready",
        by(hub.done() - fleet_writes, count),
        None,
        "",
        Goal::AtMost(3.0),
    );
    report.add(
        "hub writes about clusters and policies, per application",
        by(fleet_writes, count),
        None,
        "",
        Goal::None,
    );
    report.add(
        "member writes per application",
        by(members.done(), count),
        Some(2.0),
        "",
        Goal::AtMost(2.0),
    );
    report.detail("idle_hub_writes", hub.list());
    report.detail("idle_member_writes", members.list());
    Ok(())
}

fn name(number: usize) -> String {
    format!("idle-{number:04}")
}

fn by(writes: u64, count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let share = writes as f64 / count as f64;
    share
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Times of a watch delivery on the hub and of a write on a member, by a plain client, in pairs.
async fn floor(fleet: &Fleet, count: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let (tell, mut arrivals) = mpsc::unbounded_channel();
    let plain = Watched {
        namespace: PLAIN,
        changes: false,
        ..APPLICATIONS
    };
    fleet.hub.watch(0, plain, tell).await?;
    let (mut watches, mut writes) = (Vec::new(), Vec::new());
    for number in 0..count {
        let name = format!("floor-{number:04}");
        let preferred = objects::preferred(number);
        let application = objects::application(PLAIN, &name, preferred);
        let begun = Instant::now();
        let (created, seen) = futures::join!(
            fleet.hub.create(&application),
            api::until(
                &mut arrivals,
                "a watch delivery",
                PATIENCE,
                |arrival| arrival.name == name
            )
        );
        created?;
        watches.push(millis(seen? - begun));
        let deployment = objects::deployment(PLAIN, &name);
        let begun = Instant::now();
        fleet.members[number % MEMBERS.len()]
            .apply(&deployment)
            .await?;
        writes.push(millis(begun.elapsed()));
    }
    for number in 0..count {
        fleet
            .hub
            .delete(&application_path(PLAIN, &format!("floor-{number:04}")))
            .await?;
    }
    Ok((watches, writes))
}

/// Waits until the operator has nothing more to say about a fleet without applications.
async fn settle(fleet: &Fleet) -> Result<()> {
    let mut before = fleet.hub_writes().await?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = fleet.hub_writes().await?;
        if after == before && after.of_the_fleet() > 0 {
            return Ok(());
        }
        before = after;
    }
}

type Changes = mpsc::UnboundedReceiver<api::Arrival>;

/// When a plain watch of the hub saw what happened on the way, from the creation on.
#[derive(Default)]
struct Parts {
    /// The application.
    delivered: Vec<f64>,
    /// The intent, which has to be stored before anything is written to a member.
    stored: Vec<f64>,
}

/// Times from an application created to its Deployment in a member; the Deployment gets ready at once then.
async fn place(fleet: &Fleet, count: usize) -> Result<(Vec<f64>, Parts, Changes)> {
    let (tell, mut arrivals) = mpsc::unbounded_channel();
    for (number, member) in fleet.members.iter().enumerate() {
        member.watch(number, DEPLOYMENTS, tell.clone()).await?;
    }
    let (tell, mut changes) = mpsc::unbounded_channel();
    fleet.hub.watch(0, APPLICATIONS, tell).await?;
    let (mut times, mut parts) = (Vec::new(), Parts::default());
    for number in 0..count {
        let name = name(number);
        let application = objects::application(NAMESPACE, &name, objects::preferred(number));
        let mut place = 0;
        let begun = Instant::now();
        let (created, seen) = futures::join!(
            fleet.hub.create(&application),
            api::until(
                &mut arrivals,
                "a Deployment in a member",
                PATIENCE,
                |arrival| {
                    place = arrival.cluster;
                    arrival.name == name
                }
            )
        );
        created?;
        times.push(millis(seen? - begun));
        intended(fleet, &name, MEMBERS[place]).await?;
        fleet.members[place]
            .set_status(&deployment_path(&name), &objects::ready_status())
            .await?;
        let seen = api::quiet(&mut changes, IDLE).await;
        if let [delivered, stored, ..] = seen[..] {
            parts.delivered.push(millis(delivered - begun));
            parts.stored.push(millis(stored - begun));
        }
    }
    Ok((times, parts, changes))
}

/// The intent is stored before the act: what was written is what is recorded.
async fn intended(fleet: &Fleet, name: &str, member: &str) -> Result<()> {
    let application = fleet.hub.get(&application_path(NAMESPACE, name)).await?;
    let placements = application["status"]["placements"]
        .as_array()
        .with_context(|| format!("{name} has a Deployment and no recorded place"))?;
    let recorded = placements
        .iter()
        .any(|placement| placement["cluster"] == member && placement["role"] == "Active");
    if !recorded {
        bail!("{name} has a Deployment on {member}, which is not recorded: {placements:?}");
    }
    Ok(())
}
