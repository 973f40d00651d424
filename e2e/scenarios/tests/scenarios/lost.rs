//! A cluster is lost: what may leave serves elsewhere within seconds, and what comes back does no harm.

use std::{thread::sleep, time::Duration};

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    Sensitivity,
    application::{FailoverMode, FailoverPolicy},
    migration::{MigrationOutcome, MigrationTrigger, MigrationType},
};
use flambeau_games::Application;
use flambeau_scenarios::application::RECOVERY_SECONDS;
use flambeau_testbed::partition::Direction;
use jiff::Timestamp;
use serde_json::json;

use crate::{
    load::{Counted, Load},
    stage::Played,
    wait::until,
    world::World,
};

/// Within which time everything that may leave a lost cluster serves elsewhere, under default settings.
pub const LIMIT: Duration = Duration::from_secs(RECOVERY_SECONDS.unsigned_abs() as u64);

/// How long a killed cluster stays dead.
const DEAD_FOR: Duration = Duration::from_secs(30);

/// Every process of a cluster is killed. Applications that may leave serve elsewhere in time; one that waits for a person
/// and one that has no lawful home say so. The cluster comes back after they have moved: stale copies never serve, and are
/// erased; what stayed serves again. Then one is sent home.
pub fn cluster_killed(world: &World) -> Result<Counted> {
    let stage = world.stage("cluster-killed")?;
    let clusters = ["alibaba", "atos", "ovh"];
    let public = |application| stage.asked_as(application, Sensitivity::Public, &clusters);
    let going = [
        Application::Accreditation,
        Application::Volunteers,
        Application::Website,
    ]
    .map(|application| stage.ask(public(application), |_| {}));
    let going = going.into_iter().collect::<Result<Vec<_>>>()?;
    let manual = stage.ask(public(Application::Ticketing), |object| {
        object.spec.failover = Some(FailoverPolicy {
            mode: FailoverMode::Manual,
            ..FailoverPolicy::default()
        });
    })?;
    let elsewhere = json!({ "refusedProviders": ["atos", "ovh"] });
    world.sign("alibaba-alone", "Restricted", &elsewhere)?;
    let bound = stage.asked_as(
        Application::AccessControl,
        Sensitivity::Restricted,
        &["alibaba"],
    );
    let bound = stage.ask(bound, |_| {})?;
    let bystander = stage.asked_as(Application::Results, Sensitivity::Public, &["ovh"]);
    let bystander = stage.play(bystander, |_| {})?;
    for one in going.iter().chain([&manual, &bound]) {
        one.rests_at("alibaba")?;
        one.serves()?;
    }

    let loaded: Vec<&Played<'_>> = going.iter().chain([&bystander]).collect();
    let load = Load::start(world, &loaded, 60.0)?;
    let lost = Timestamp::now();
    world.member("alibaba").kill()?;
    let mut measured = Vec::new();
    for one in &going {
        one.serves_at("atos", "alibaba")?;
        measured.push(recovered(one)?);
    }
    manual.says("Stalled", "True", "FailoverManual")?;
    bound.says("Stalled", "True", "NoLawfulCluster")?;
    world.thinks("alibaba", "Lost")?;
    // The time until then belongs to the story: a cluster that is back at once has not lost its applications.
    let dead = Timestamp::now().duration_since(lost);
    sleep(DEAD_FOR.saturating_sub(dead.unsigned_abs()));
    world.bring_back("alibaba")?;
    for one in &going {
        one.nothing_at("alibaba")?;
        one.rests_at("atos")?;
    }
    for one in [&manual, &bound] {
        one.rests_at("alibaba")?;
        one.serves()?;
        ensure!(one.moves()?.is_empty(), "{} made a move", one.name());
    }
    world.trusted("alibaba")?;

    let (home, away) = (&going[2], &going[..2]);
    home.request_a("Failback", "home", ("atos", "alibaba"), false)?;
    home.ends("home", MigrationOutcome::Completed)?;
    home.rests_at("alibaba")?;
    home.nothing_at("atos")?;
    let names: Vec<&str> = going.iter().map(Played::name).collect();
    let (counted, result) = load.ends_after_loss(&names, &[lost], LIMIT)?;
    for one in away {
        let application = result.application(one.name()).context("it had load")?;
        let stale = application
            .clouds
            .iter()
            .find(|cloud| cloud.cloud == "alibaba");
        let last = stale.context("it was at alibaba")?.last;
        ensure!(
            last <= lost + Duration::from_secs(1),
            "the copy of {} at alibaba answered at {last}",
            one.name()
        );
    }
    Ok(counted.note(format!("measured by Flambeau: {}", measured.join(", "))))
}

/// What a Migration says of a failover, checked.
pub fn recovered(played: &Played<'_>) -> Result<String> {
    let (migration, status) = played.last_move()?;
    let spec = &migration.spec;
    ensure!(
        spec.type_ == MigrationType::Failover && spec.trigger == MigrationTrigger::Loss,
        "the move is no failover: {spec:?}"
    );
    ensure!(
        status.lost_time.is_some(),
        "it does not say since when the source is lost"
    );
    let measured = status
        .recovery_milliseconds
        .context("it says how long recovery took")?;
    let limit = i64::from(RECOVERY_SECONDS) * 1000;
    ensure!(
        (1..=limit).contains(&measured),
        "recovery took {measured} ms"
    );
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let seconds = measured as f64 / 1000.0;
    Ok(format!("{} {seconds:.1} s", played.name()))
}

/// The link of a cluster is cut, and restored once its application serves elsewhere: the copy that ran on all the time never
/// serves again, and is erased.
fn link_cut(world: &World, name: &str, direction: Direction) -> Result<Counted> {
    let stage = world.stage(name)?;
    let played = stage.play(
        stage.asked(Sensitivity::Public, &["alibaba", "atos"]),
        |_| {},
    )?;
    let load = played.load()?;
    let lost = Timestamp::now();
    world.member("alibaba").cut(direction)?;
    played.serves_at("atos", "alibaba")?;
    let moved = Timestamp::now();
    let measured = recovered(&played)?;
    world.member("alibaba").restore_link()?;
    played.nothing_at("alibaba")?;
    played.rests_at("atos")?;
    let (counted, result) = load.ends_after_loss(&[played.name()], &[lost], LIMIT)?;
    let stale = result.applications[0]
        .clouds
        .iter()
        .find(|cloud| cloud.cloud == "alibaba");
    // Requests that were on their way when requests went elsewhere may be answered once the link is back.
    let last = stale.context("it was at alibaba")?.last;
    ensure!(
        last <= moved,
        "the copy at alibaba answered a request of {last}, and requests went to atos from {moved} on"
    );
    Ok(counted.note(format!("measured by Flambeau: {measured}")))
}

/// Nothing goes over the link of a cluster.
pub fn link_cut_both_ways(world: &World) -> Result<Counted> {
    link_cut(world, "cut-both", Direction::Both)
}

/// A cluster hears nobody.
pub fn link_cut_inbound(world: &World) -> Result<Counted> {
    link_cut(world, "cut-inbound", Direction::Inbound)
}

/// Nobody hears a cluster.
pub fn link_cut_outbound(world: &World) -> Result<Counted> {
    link_cut(world, "cut-outbound", Direction::Outbound)
}

/// The link of a cluster is down again and again, each time for less than it takes to count as lost: nothing moves.
pub fn link_flapping(world: &World) -> Result<Counted> {
    let stage = world.stage("flapping")?;
    let played = stage.play(
        stage.asked(Sensitivity::Public, &["alibaba", "atos"]),
        |_| {},
    )?;
    for _ in 0..4 {
        world.member("alibaba").cut_link()?;
        // Below every threshold; that nothing happens is the point.
        sleep(Duration::from_secs(4));
        world.member("alibaba").restore_link()?;
        sleep(Duration::from_secs(3));
    }
    world.trusted("alibaba")?;
    played.rests_at("alibaba")?;
    ensure!(
        played.moves()?.is_empty(),
        "it moved because of a link that flaps"
    );
    let load = played.load()?;
    load.ends_clean()
}

/// Most clusters are gone together: more likely it is the hub that is cut off, so nothing moves, and everybody is told why.
/// Once most are back, what is still lost moves by itself.
pub fn most_clusters_vanish(world: &World) -> Result<Counted> {
    let stage = world.stage("vanished")?;
    let played = stage.play(
        stage.asked(Sensitivity::Public, &["alibaba", "atos"]),
        |_| {},
    )?;
    for name in ["alibaba", "atos"] {
        world.member(name).cut_link()?;
    }
    played.says("Stalled", "True", "HubSuspect")?;
    ensure!(
        played.moves()?.is_empty(),
        "it moved although the hub is suspected"
    );
    world.member("atos").restore_link()?;
    until("it leaves by itself", || {
        let at = played.status()?.cluster;
        Ok((at.as_deref() == Some("alibaba"))
            .then(|| played.status().unwrap_or_default().next.unwrap_or_default()))
    })?;
    world.member("alibaba").restore_link()?;
    played.nothing_at("alibaba")?;
    played.serves()?;
    Ok(Counted::default())
}

/// The only node of a cluster dies; its API server is well. Services that do not answer are a reason to leave, for each
/// application by itself.
pub fn node_dead(world: &World) -> Result<Counted> {
    /// Services are given 10 seconds by default, which begin with the first attempt that fails.
    const NODE_LIMIT: Duration = Duration::from_secs(20);
    let stage = world.stage("node-dead")?;
    let asked = stage.asked(Sensitivity::Public, &["alibaba", "atos"]);
    let played = stage.play(asked, |_| {})?;
    let load = played.load()?;
    let lost = Timestamp::now();
    world.member("alibaba").kill_node()?;
    until("it serves at atos", || {
        let status = played.status()?;
        let at = status.cluster.as_deref() == Some("atos");
        Ok((!at).then(|| status.next.unwrap_or_default()))
    })?;
    let (migration, _) = played.last_move()?;
    ensure!(
        migration.spec.type_ == MigrationType::Failover,
        "the move is no failover"
    );
    ensure!(
        migration.spec.reason.contains("ServiceLost")
            || !migration.spec.reason.contains("API server of"),
        "the cluster itself is not lost: {}",
        migration.spec.reason
    );
    world
        .member("alibaba")
        .client()?
        .get("/readyz")
        .context("its API server is well")?;
    world.bring_node_back("alibaba")?;
    played.nothing_at("alibaba")?;
    played.rests_at("atos")?;
    Ok(load
        .ends_after_loss(&[played.name()], &[lost], NODE_LIMIT)?
        .0)
}
