//! Somebody does not answer, and everything serves: an API server alone, or all that the operator asks.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use flambeau_crds::Sensitivity;
use flambeau_games::Application;
use flambeau_testbed::cluster::{API_SERVER, Cluster};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    load::{Counted, Load},
    stage::Played,
    wait::until_within,
    world::{World, soak},
};

/// Longer than every threshold under default settings.
const BEYOND_THRESHOLDS: Duration = Duration::from_secs(15);

/// An API server is dead; its applications serve, so they stay.
pub fn api_server_dead(world: &World) -> Result<Counted> {
    control_plane(
        world,
        "api-dead",
        |member| member.kill_component(API_SERVER),
        Cluster::restart_api_server,
    )
}

/// An API server takes connections and answers nothing; its applications serve, so they stay.
pub fn api_server_hung(world: &World) -> Result<Counted> {
    control_plane(
        world,
        "api-hung",
        |member| member.hang_component(API_SERVER),
        |member| member.resume_component(API_SERVER),
    )
}

fn control_plane(
    world: &World,
    name: &str,
    harm: impl Fn(&Cluster) -> Result<()>,
    mend: impl Fn(&Cluster) -> Result<()>,
) -> Result<Counted> {
    let stage = world.stage(name)?;
    let played = stage.play(stage.asked(Sensitivity::Public, &["atos", "ovh"]), |_| {})?;
    let load = played.load()?;
    harm(world.member("atos"))?;
    world.thinks("atos", "ControlPlaneUnreachable")?;
    played.says("Ready", "Unknown", "ControlPlaneUnreachable")?;
    // Nothing can be awaited: that nothing happens is the point.
    sleep(BEYOND_THRESHOLDS);
    world.thinks("atos", "ControlPlaneUnreachable")?;
    mend(world.member("atos"))?;
    world.trusted("atos")?;
    played.rests_at("atos")?;
    ensure!(played.moves()?.is_empty(), "it moved although it served");
    load.ends_clean()
}

/// The operator hears nobody any more, the hub included, and the edge goes on: nothing changes in any member, no request
/// fails, and what was asked for meanwhile is done as soon as it hears again.
pub fn hub_cut_off(world: &World) -> Result<Counted> {
    /// Within which time everything is as it should be again.
    const RECONVERGED: Duration = Duration::from_secs(5);
    let length = Duration::from_secs(if soak() { 120 } else { 25 });
    let stage = world.stage("hub-cut")?;
    let one = stage.asked_as(Application::Website, Sensitivity::Public, &["alibaba"]);
    let mut one = stage.play(one, |_| {})?;
    let other = stage.asked_as(Application::Volunteers, Sensitivity::Public, &["atos"]);
    let other = stage.play(other, |_| {})?;
    let load = Load::start(world, &[&one, &other], 100.0)?;
    let before = versions(world, "hub-cut")?;
    let everybody: Vec<&Cluster> = world.testbed.clusters().iter().collect();
    world.testbed.cut_operator_off(&everybody)?;
    sleep(length);
    let wish = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "asked-meanwhile" } });
    one.change(|object| object.spec.resources.push(wish))?;
    ensure!(
        before == versions(world, "hub-cut")?,
        "something changed in a member"
    );
    let again = Instant::now();
    world.testbed.rejoin_operator()?;
    let done = |played: &Played<'_>| -> Result<Option<String>> {
        Ok(match played.whole_at("alibaba") {
            Ok(()) => None,
            Err(error) => Some(format!("{error:#}")),
        })
    };
    until_within("what was asked for meanwhile is done", RECONVERGED, || {
        done(&one)
    })?;
    let took = again.elapsed();
    one.rests_at("alibaba")?;
    other.rests_at("atos")?;
    ensure!(
        one.moves()?.is_empty() && other.moves()?.is_empty(),
        "something moved"
    );
    let counted = load.ends_clean()?;
    Ok(counted.note(format!(
        "cut off for {} s, 0 changes, converged after {:.1} s",
        length.as_secs(),
        took.as_secs_f64()
    )))
}

/// The edge reaches no pod of any member, and everybody else does: no other cluster would answer either, so nothing moves,
/// and everything serves as soon as the edge is whole again.
pub fn edge_cut_off(world: &World) -> Result<Counted> {
    /// The edge takes up its connections within this time.
    const SERVES_AGAIN: Duration = Duration::from_secs(15);
    let stage = world.stage("edge-cut")?;
    let play = |application, cluster| {
        let clusters = [cluster, "ovh"];
        stage.play(
            stage.asked_as(application, Sensitivity::Public, &clusters),
            |_| {},
        )
    };
    let one = play(Application::Website, "alibaba")?;
    let other = play(Application::Volunteers, "atos")?;
    let load = Load::start(world, &[&one, &other], 100.0)?;
    let cut = Timestamp::now();
    world.testbed.cut_edge_off()?;
    for played in [&one, &other] {
        played.says("Stalled", "True", "EdgeSuspect")?;
    }
    // Nothing can be awaited: that nothing happens is the point.
    sleep(BEYOND_THRESHOLDS);
    world.testbed.hub().restore_link()?;
    for played in [&one, &other] {
        played.serves()?;
        played.says("Stalled", "False", "Settled")?;
    }
    one.rests_at("alibaba")?;
    other.rests_at("atos")?;
    for played in [&one, &other] {
        ensure!(played.moves()?.is_empty(), "{} moved", played.name());
    }
    let limit = Timestamp::now().duration_since(cut).unsigned_abs() + SERVES_AGAIN;
    let (counted, _) = load.ends_after_loss(&[one.name(), other.name()], &[cut], limit)?;
    Ok(counted)
}

/// The version of everything that belongs to applications of a namespace, in every member.
fn versions(world: &World, namespace: &str) -> Result<Vec<String>> {
    let shown = r#"jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}"#;
    let kinds = "deployments,services,configmaps,secrets,serviceaccounts,pods";
    world
        .testbed
        .members()
        .iter()
        .map(|member| member.kubectl(&["--namespace", namespace, "get", kinds, "--output", shown]))
        .collect()
}
