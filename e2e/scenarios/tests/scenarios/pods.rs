//! The operator as pods, installed by the chart.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use flambeau_crds::{
    Migration, Sensitivity,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_games::Application;
use flambeau_testbed::{
    cluster::{API_SERVER, Cluster},
    command,
    helm::{Helm, NAMESPACE, RELEASE, chart},
    installed::OperatorPod,
};
use jiff::Timestamp;

use crate::{
    load::{Counted, Load},
    stage::{Played, Stage},
    wait::{until, until_within},
    watched::Watched,
    world::{World, soak},
};

/// How long nobody leads when the leader is asked to stop.
const HANDED_OVER: Duration = Duration::from_secs(5);

/// The same when it cannot say goodbye: its Lease, by the chart's `operator.leaseSeconds`, and how often another looks at it.
const LEASE_OVER: Duration = Duration::from_millis(10_000 + 1_500);

/// A chart that is older than this repository's: another version, and logs more.
struct PreviousChart {
    _folder: tempfile::TempDir,
    package: PathBuf,
}

impl PreviousChart {
    fn make() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let copy = folder.path().join("flambeau");
        let (from, to) = (chart().display().to_string(), copy.display().to_string());
        command::run("cp", &["--recursive", &from, &to])?;
        let values = copy.join("values.yaml");
        let now = fs::read_to_string(&values)?;
        let before = now.replace("level: info,", "level: info,flambeau_operator=debug,");
        ensure!(before != now, "values.yaml has another level of logs");
        fs::write(&values, before)?;
        let destination = folder.path().display().to_string();
        Helm::offline()?.run(&[
            "package",
            &to,
            "--version=0.0.1",
            "--app-version=0.0.1",
            "--destination",
            &destination,
        ])?;
        Ok(Self {
            package: folder.path().join("flambeau-0.0.1.tgz"),
            _folder: folder,
        })
    }
}

/// Installed in an older version, upgraded and rolled back while applications move, uninstalled and installed again: no
/// request fails, no object is made twice, and nothing that runs notices the uninstallation.
pub fn chart_lifecycle(world: &World) -> Result<Counted> {
    let (testbed, previous) = (&world.testbed, PreviousChart::make()?);
    testbed.stop_operator()?;
    refuses_careless_pods(world)?;
    testbed.install_chart(&previous.package, &[])?;
    testbed.await_rollout()?;
    proves_itself(world)?;
    let stage = world.stage("chart")?;
    let played = two(&stage)?;
    let all: Vec<&Played<'_>> = played.iter().collect();
    let load = Load::start(world, &all, 100.0)?;
    let watched = Watched::begin(world, &stage.namespace)?;

    let upgraded = roll(world, &all, "upgrade", ("alibaba", "atos"), || {
        testbed.install_chart(&chart(), &["--reset-then-reuse-values"])
    })?;
    runs_version(world, env!("CARGO_PKG_VERSION"))?;
    let back = roll(world, &all, "rollback", ("atos", "alibaba"), || {
        let arguments = ["rollback", RELEASE, "1", "--namespace", NAMESPACE];
        testbed.helm(&arguments).map(drop)
    })?;
    runs_version(world, "0.0.1")?;
    proves_itself(world)?;

    let before = everything(world, &stage)?;
    testbed.uninstall_operator()?;
    // Nothing can be awaited: that nothing happens is the point.
    sleep(Duration::from_secs(5));
    unchanged(&before, &everything(world, &stage)?, "without an operator")?;
    testbed.install_operator()?;
    for one in &all {
        one.rests_at("alibaba")?;
        one.serves()?;
    }
    unchanged(&before, &everything(world, &stage)?, "installed again")?;
    let seen = watched.end()?;
    seen.nothing_fell()?;
    seen.made(&[("alibaba", 2), ("atos", 1)])?;
    let counted = load.ends_clean()?;
    Ok(counted.note(format!(
        "upgrade: {upgraded}; rollback: {back}; uninstalled and installed again: 0 changes"
    )))
}

/// The leader of two pods is deleted in the middle of a move, and killed in the middle of the next one: the other goes on.
pub fn leader_pod_killed(world: &World) -> Result<Counted> {
    let testbed = &world.testbed;
    testbed.stop_operator()?;
    testbed.install_operator()?;
    let stage = world.stage("pods")?;
    let played = stage.play(stage.asked(Sensitivity::Public, &["alibaba"]), |_| {})?;
    let load = played.load()?;
    let watched = Watched::begin(world, &stage.namespace)?;
    let steps = [MigrationStep::Shift, MigrationStep::Prepare];
    let (mut from, mut to) = ("alibaba", "atos");
    let (mut deleted, mut killed) = (Vec::new(), Vec::new());
    for step in steps {
        for (ends, limit, took) in [
            (End::Deleted, HANDED_OVER, &mut deleted),
            (End::Killed, LEASE_OVER, &mut killed),
        ] {
            let name = format!("{ends:?}-at-{step:?}").to_lowercase();
            played.request(&name, from, to, false)?;
            played.reaches(&name, step)?;
            took.push(succeeded(world, ends, limit)?.as_secs_f64());
            played.ends(&name, MigrationOutcome::Completed)?;
            played.rests_at(to)?;
            played.nothing_at(from)?;
            testbed.await_rollout()?;
            (from, to) = (to, from);
        }
    }
    each_step_once(&played)?;
    let seen = watched.end()?;
    seen.nothing_fell()?;
    // It began at the first, and came back to it twice.
    seen.made(&[("alibaba", 3), ("atos", 2)])?;
    let counted = load.ends_clean()?;
    let longest = |took: &[f64]| took.iter().copied().fold(0.0, f64::max);
    Ok(counted.note(format!(
        "until another leads: {:.1} s at most after a deletion, {:.1} s after SIGKILL; no step twice",
        longest(&deleted),
        longest(&killed)
    )))
}

/// The hub's API server is away, dead first and hung then, while an application moves: requests do not mind, the pods wait,
/// and the move goes on.
pub fn hub_api_away(world: &World) -> Result<Counted> {
    let away = Duration::from_secs(if soak() { 120 } else { 25 });
    let (testbed, hub) = (&world.testbed, world.testbed.hub());
    testbed.stop_operator()?;
    testbed.install_operator()?;
    let before = names(&testbed.operator_pods()?);
    let stage = world.stage("away")?;
    let mut asked = stage.asked(Sensitivity::Public, &["alibaba"]);
    asked.pace.soak_seconds = 5;
    let played = stage.play(asked, |_| {})?;
    let load = played.load()?;
    let watched = Watched::begin(world, &stage.namespace)?;
    let mut took = Vec::new();
    // In Shift, where a move waits for what the edge says, which may be lost with the API server.
    for (name, from, to) in [("dead", "alibaba", "atos"), ("hung", "atos", "alibaba")] {
        played.request(name, from, to, false)?;
        played.reaches(name, MigrationStep::Shift)?;
        if name == "dead" {
            hub.kill_component(API_SERVER)?;
        } else {
            hub.hang_component(API_SERVER)?;
        }
        // Nothing can be awaited: that nothing happens is the point.
        sleep(away);
        let again = Instant::now();
        hub.resume_component(API_SERVER)?;
        hub.restart_api_server()?;
        until("the hub answers", || {
            Ok(played.object().err().map(|error| format!("{error:#}")))
        })?;
        played.ends(name, MigrationOutcome::Completed)?;
        took.push(format!("{:.1} s", again.elapsed().as_secs_f64()));
        played.rests_at(to)?;
        played.nothing_at(from)?;
        testbed.await_rollout()?;
    }
    ensure!(
        before == names(&testbed.operator_pods()?),
        "the pods that waited are the same"
    );
    each_step_once(&played)?;
    let seen = watched.end()?;
    seen.nothing_fell()?;
    seen.made(&[("alibaba", 2), ("atos", 1)])?;
    let counted = load.ends_clean()?;
    Ok(counted.note(format!(
        "away for {} s twice; the moves were over {} after its return",
        away.as_secs(),
        took.join(" and ")
    )))
}

/// How a leader ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Deleted,
    Killed,
}

/// Ends the leader, and waits until another process leads; returns how long that took.
fn succeeded(world: &World, end: End, limit: Duration) -> Result<Duration> {
    let testbed = &world.testbed;
    let holder = testbed.lease_holder()?.context("somebody leads")?;
    let name = testbed.leader()?.context("a pod leads")?;
    let pods = testbed.operator_pods()?;
    let pod = pods.iter().find(|pod| pod.name == name);
    let pod = pod.with_context(|| format!("{name} leads and is not among {pods:?}"))?;
    let ended = Instant::now();
    match end {
        End::Deleted => {
            let arguments = ["delete", "pod", &name, "--wait=false", "-n", NAMESPACE];
            testbed.hub().kubectl(&arguments).map(drop)?;
        }
        End::Killed => testbed.kill_in(pod)?,
    }
    until_within("another leads", limit, || {
        let now = testbed.lease_holder()?;
        Ok(match now {
            Some(now) if now != holder => None,
            other => Some(format!("{other:?} holds the Lease")),
        })
    })?;
    Ok(ended.elapsed())
}

/// Moves applications while the pods of the operator are replaced, and checks that the leader did change while a move was
/// open. Returns what is worth telling.
fn roll(
    world: &World,
    all: &[&Played<'_>],
    name: &str,
    (from, to): (&str, &str),
    change: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let over = AtomicBool::new(false);
    let migration = |played: &Played<'_>| format!("{}-{name}", played.name());
    let changes = scope(|scope| {
        let watching = scope.spawn(|| leaders(world, &over));
        let rolled = (|| {
            for one in all {
                one.request(&migration(one), from, to, false)?;
            }
            all[0].reaches(&migration(all[0]), MigrationStep::Prepare)?;
            change()?;
            world.testbed.await_rollout()?;
            for one in all {
                one.ends(&migration(one), MigrationOutcome::Completed)?;
                one.rests_at(to)?;
                one.nothing_at(from)?;
                each_step_once(one)?;
            }
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        let changes = watching.join().map_err(|_| anyhow!("a watcher panicked"));
        rolled.and(changes)
    })?;
    let mut under_way = 0;
    for one in all {
        let (_, status) = one.last_move()?;
        let (Some(began), Some(ended)) = (status.start_time, status.completion_time) else {
            continue;
        };
        let open = |time: &&Timestamp| began.0 < **time && **time < ended.0;
        under_way += changes.iter().filter(open).count();
    }
    ensure!(
        under_way > 0,
        "no move was open when the leader changed, at {changes:?}"
    );
    Ok(format!(
        "{} leaders followed each other, {under_way} times within a move",
        changes.len()
    ))
}

/// When the Lease went to somebody else.
fn leaders(world: &World, over: &AtomicBool) -> Vec<Timestamp> {
    let (mut last, mut changes) = (None, Vec::new());
    while !over.load(Ordering::Relaxed) {
        if let Ok(Some(holder)) = world.testbed.lease_holder() {
            if last.as_ref().is_some_and(|last| *last != holder) {
                changes.push(Timestamp::now());
            }
            last = Some(holder);
        }
        sleep(Duration::from_millis(100));
    }
    changes
}

/// Two applications at rest, whose moves take as long as a rollout.
fn two<'a>(stage: &'a Stage<'a>) -> Result<Vec<Played<'a>>> {
    let applications = [Application::Website, Application::Volunteers];
    let played = applications.map(|application| {
        let mut asked = stage.asked_as(application, Sensitivity::Public, &["alibaba"]);
        asked.pace.stages = vec![25, 50, 75, 100];
        asked.pace.stage_seconds = 3;
        asked.pace.drain_seconds = 5;
        stage.play(asked, |_| {})
    });
    played.into_iter().collect()
}

/// The namespace enforces the restricted Pod Security Standard: what asks for more is not taken.
fn refuses_careless_pods(world: &World) -> Result<()> {
    let careless = ["run", "careless", "--image=careless", "--dry-run=server"];
    let asked = world
        .testbed
        .hub()
        .kubectl(&[&careless[..], &["--namespace", NAMESPACE]].concat());
    let refused = format!("{:#}", asked.err().context("a careless pod is refused")?);
    ensure!(refused.contains("violates PodSecurity"), "{refused}");
    Ok(())
}

/// `helm test`, in a pod.
fn proves_itself(world: &World) -> Result<()> {
    let arguments = ["test", RELEASE, "--namespace", NAMESPACE, "--logs"];
    let said = world.testbed.helm(&arguments)?;
    ensure!(said.contains("Flambeau works."), "{said}");
    Ok(())
}

/// The version of the chart that the pods are of.
fn runs_version(world: &World, version: &str) -> Result<()> {
    let shown = r"jsonpath={.items[*].metadata.labels.app\.kubernetes\.io/version}";
    let selector = "--selector=app.kubernetes.io/component=operator";
    let arguments = ["get", "pods", "-n", NAMESPACE, selector, "-o", shown];
    let found = world.testbed.hub().kubectl(&arguments)?;
    ensure!(
        found == format!("{version} {version}"),
        "two pods are of version {version}: {found}"
    );
    Ok(())
}

/// The version of everything that belongs to the applications of a stage, on the hub and in the members.
fn everything(world: &World, stage: &Stage<'_>) -> Result<Vec<String>> {
    let shown = r#"jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{"\n"}{end}"#;
    let get = |cluster: &Cluster, kinds: &str| {
        cluster.kubectl(&["-n", &stage.namespace, "get", kinds, "--output", shown])
    };
    let hub = "gamesapplications,migrations,httproutes,services,endpointslices";
    let mut all = vec![get(world.testbed.hub(), hub)?];
    for member in world.testbed.members() {
        all.push(get(member, "deployments,services,configmaps,secrets")?);
    }
    ensure!(
        all.concat().contains("GamesApplication/") && all.concat().contains("Deployment/"),
        "applications are on the hub and in members: {all:?}"
    );
    Ok(all)
}

fn unchanged(before: &[String], now: &[String], when: &str) -> Result<()> {
    ensure!(
        before == now,
        "something changed {when}:\n{}\nnow:\n{}",
        before.join("\n"),
        now.join("\n")
    );
    Ok(())
}

/// No move of the application recorded a step twice.
fn each_step_once(played: &Played<'_>) -> Result<()> {
    let name = |migration: &Migration| migration.metadata.name.clone().unwrap_or_default();
    for migration in played.moves()? {
        let status = migration.status.clone().unwrap_or_default();
        let steps: Vec<MigrationStep> = status.steps.iter().map(|step| step.name).collect();
        ensure!(
            steps.windows(2).all(|pair| pair[0] < pair[1]),
            "a step of {} was done twice: {steps:?}",
            name(&migration)
        );
    }
    Ok(())
}

fn names(pods: &[OperatorPod]) -> Vec<String> {
    let mut names: Vec<String> = pods.iter().map(|pod| pod.name.clone()).collect();
    names.sort();
    names
}
