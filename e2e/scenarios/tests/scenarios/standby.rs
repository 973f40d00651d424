//! What is kept ready on another cluster, and who goes home by himself.

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    Sensitivity,
    application::{FailbackMode, FailoverPolicy, PlacementRole, StandbyMode},
    migration::{MigrationOutcome, MigrationTrigger, MigrationType},
};
use flambeau_games::Application;
use flambeau_scenarios::hub::truth;
use jiff::Timestamp;

use crate::{
    load::{Counted, Load},
    lost::{LIMIT, recovered},
    stage::Played,
    wait::until,
    world::World,
};

/// What a standby's workload is scaled down to; the application has two pods.
const FLOOR: i32 = 1;
const PODS: i32 = 2;

/// For how long a cluster has to be well before somebody goes home to it.
const WELL_FOR: i32 = 5;

/// Of two applications on a cluster that dies, one has a standby: it serves elsewhere first. When the cluster is back and
/// well, that one goes home by itself, make-before-break, and the other stays.
pub fn warm_and_automatic(world: &World) -> Result<Counted> {
    let stage = world.stage("standby")?;
    let clusters = ["alibaba", "atos", "ovh"];
    let cold = stage.asked_as(Application::Volunteers, Sensitivity::Public, &clusters);
    let cold = stage.play(cold, |_| {})?;
    let warm = stage.asked_as(Application::Website, Sensitivity::Public, &clusters);
    let warm = stage.ask(warm, |application| {
        application.spec.failover = Some(FailoverPolicy {
            standby: StandbyMode::Warm,
            standby_replicas: FLOOR,
            cooldown_seconds: 0,
            failback: FailbackMode::Automatic,
            failback_after_seconds: WELL_FOR,
            ..FailoverPolicy::default()
        });
    })?;
    stands_by(&warm, "alibaba", "atos")?;
    pods_at(&warm, "alibaba", PODS)?;
    warm.whole_at("atos")?;
    pods_at(&warm, "atos", FLOOR)?;
    warm.serves()?;

    let load = Load::start(world, &[&warm, &cold], 100.0)?;
    let lost = Timestamp::now();
    world.member("alibaba").kill()?;
    cold.serves_at("atos", "alibaba")?;
    stands_by(&warm, "atos", "ovh")?;
    let measured = [recovered(&warm)?, recovered(&cold)?].join(", ");
    pods_at(&warm, "atos", PODS)?;
    pods_at(&warm, "ovh", FLOOR)?;

    world.bring_back("alibaba")?;
    let back = Timestamp::now();
    until("it goes home by itself", || {
        let moves = warm.moves()?.len();
        let next = warm.status()?.next.unwrap_or_default();
        Ok((moves < 2).then_some(next))
    })?;
    let (home, _) = warm.last_move()?;
    let name = home.metadata.name.as_deref();
    warm.ends(
        name.context("a Migration has a name")?,
        MigrationOutcome::Completed,
    )?;
    ensure!(
        home.spec.type_ == MigrationType::Failback
            && home.spec.trigger == MigrationTrigger::Failback,
        "it went home as something else: {:?}",
        home.spec
    );
    stands_by(&warm, "alibaba", "ovh")?;
    warm.nothing_at("atos")?;
    let after = Timestamp::now().duration_since(back).as_secs_f64();
    cold.rests_alone_at("atos")?;
    ensure!(
        cold.moves()?.len() == 1,
        "the one that did not ask for it went home"
    );

    let names = [warm.name(), cold.name()];
    let (counted, result) = load.ends_after_loss(&names, &[lost], LIMIT)?;
    let [warm, cold] = names.map(|name| {
        let outages = result.application(name).map(|one| &one.outages);
        outages
            .and_then(|outages| outages.last())
            .map(|last| last.last)
    });
    ensure!(
        warm < cold,
        "the one with a standby answered again no sooner: {warm:?}, and the other {cold:?}"
    );
    Ok(counted.note(format!(
        "measured by Flambeau: {measured}; home again {after:.1} s after the cluster was back"
    )))
}

/// Waits until the active copy serves in one place and a standby is in another. What is being erased elsewhere may be.
fn stands_by(played: &Played<'_>, active: &str, standby: &str) -> Result<()> {
    let wanted = [
        (active, PlacementRole::Active),
        (standby, PlacementRole::Standby),
    ];
    until(
        &format!(
            "{} is active at {active} and stands by at {standby}",
            played.name()
        ),
        || {
            let status = played.status()?;
            let mut copies: Vec<_> = status
                .placements
                .iter()
                .map(|placement| (placement.cluster.as_str(), placement.role))
                .filter(|(_, role)| *role != PlacementRole::Retiring)
                .collect();
            copies.sort_unstable_by_key(|(_, role)| *role != PlacementRole::Active);
            let ready = truth(&status.conditions, "Ready");
            let next = status.next.as_deref().unwrap_or_default();
            let there = copies == wanted && ready == "True";
            Ok((!there).then(|| format!("{copies:?}, Ready is {ready}: {next}")))
        },
    )
}

/// Waits until the Deployment of an application has so many ready pods in a member, and asks for no more.
fn pods_at(played: &Played<'_>, member: &str, pods: i32) -> Result<()> {
    let shown = "jsonpath={.spec.replicas} {.status.readyReplicas}";
    let deployment = format!("deployment/{}", played.name());
    let namespace = format!("--namespace={}", played.asked().namespace);
    let arguments = [&namespace, "get", &deployment, "--output", shown];
    let wanted = format!("{pods} {pods}");
    until(&format!("{pods} pods at {member}"), || {
        let seen = played.world().member(member).kubectl(&arguments)?;
        Ok((seen != wanted).then_some(seen))
    })
}
