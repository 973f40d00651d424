//! The operator as pods, installed by the chart.

use std::{
    fs,
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
    helm::{NAMESPACE, OtherVersion, RELEASE, chart},
    installed::OperatorPod,
};
use jiff::Timestamp;
use serde_json::json;

use crate::{
    load::{Counted, Load},
    stage::{Played, Stage},
    wait::{PATIENCE, until, until_within},
    watched::Watched,
    world::{World, soak},
};

/// How long nobody leads when the leader is asked to stop.
const HANDED_OVER: Duration = Duration::from_secs(5);

/// The same when it cannot say goodbye: its Lease, by the chart's `operator.leaseSeconds`, and how often another looks at it.
const LEASE_OVER: Duration = Duration::from_millis(10_000 + 1_500);

/// The version of the chart before this repository's.
const BEFORE: &str = "0.0.1";

/// What lists of applications show since then, and not before.
const NEW_COLUMN: &str = "Next";

/// The chart before this repository's: it logs more, its definitions lack a column of GamesApplications, and take a Freeze
/// that ends before it begins.
///
/// All fields are there: the operator before this one is the same program, which does nothing while a field is missing.
/// What becomes of those, tests of the chart show.
fn previous_chart() -> Result<OtherVersion> {
    let level = ("level: info,", "level: info,flambeau_operator=debug,");
    OtherVersion::package(BEFORE, level, |name, definition| {
        let version = &mut definition["spec"]["versions"][0];
        match name {
            "gamesapplications.flambeau.dev" => {
                let columns = version["additionalPrinterColumns"].as_array_mut();
                columns.is_some_and(|columns| {
                    let all = columns.len();
                    columns.retain(|column| column["name"] != NEW_COLUMN);
                    columns.len() < all
                })
            }
            "freezes.flambeau.dev" => {
                let schema = &mut version["schema"]["openAPIV3Schema"];
                let spec = schema["properties"]["spec"].as_object_mut();
                spec.is_some_and(|spec| spec.remove("x-kubernetes-validations").is_some())
            }
            _ => false,
        }
    })
}

/// Installed in an older version, upgraded and rolled back while applications move, uninstalled and installed again: no
/// request fails, no object is made twice, and nothing that runs notices the uninstallation.
pub fn chart_lifecycle(world: &World) -> Result<Counted> {
    let (testbed, previous) = (&world.testbed, previous_chart()?);
    testbed.stop_operator()?;
    refuses_careless_pods(world)?;
    testbed.install_chart(previous.file(), &[])?;
    testbed.await_rollout()?;
    proves_itself(world)?;
    let made = definitions_are_of(world, BEFORE)?;
    let stage = world.stage("chart")?;
    let played = two(&stage)?;
    let all: Vec<&Played<'_>> = played.iter().collect();
    let load = Load::start(world, &all, 100.0)?;
    let watched = Watched::begin(world, &stage.namespace)?;
    let declared = declared(world, &stage)?;

    let upgraded = roll(world, &all, "upgrade", ("alibaba", "atos"), || {
        testbed.install_chart(&chart(), &["--reset-then-reuse-values"])
    })?;
    runs_version(world, env!("CARGO_PKG_VERSION"))?;
    ensure!(
        made == definitions_are_of(world, env!("CARGO_PKG_VERSION"))?,
        "an upgrade changes definitions, and does not make them anew"
    );
    let back = roll(world, &all, "rollback", ("atos", "alibaba"), || {
        let arguments = ["rollback", RELEASE, "1", "--namespace", NAMESPACE];
        testbed.helm(&arguments).map(drop)
    })?;
    runs_version(world, BEFORE)?;
    ensure!(
        made == definitions_are_of(world, BEFORE)?,
        "a rollback changes definitions, and does not make them anew"
    );
    proves_itself(world)?;

    ensure!(
        declared == self::declared(world, &stage)?,
        "what people declared is as before"
    );

    let before = everything(world, &stage)?;
    testbed.uninstall_operator()?;
    // Nothing can be awaited: that nothing happens is the point.
    sleep(Duration::from_secs(5));
    unchanged(&before, &everything(world, &stage)?, "without an operator")?;
    // Helm may take the rights of the pods away before they end.
    let lease = match testbed.lease_holder()? {
        Some(_) => "left to run out",
        None => "given back",
    };
    testbed.install_operator()?;
    for one in &all {
        one.rests_at("alibaba")?;
        one.serves()?;
    }
    unchanged(&before, &everything(world, &stage)?, "installed again")?;
    gives_back_the_lease(world)?;
    unchanged(&before, &everything(world, &stage)?, "started again")?;
    let seen = watched.end()?;
    seen.nothing_fell()?;
    seen.made(&[("alibaba", 2), ("atos", 1)])?;
    let counted = load.ends_clean()?;
    Ok(counted.note(format!(
        "upgrade: {upgraded}; rollback: {back}; uninstalled (Lease {lease}) and installed again: 0 changes"
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

/// For how long Contour may not look, after an API server was away for minutes: the watches of Kubernetes' client library
/// pause for up to 30 s and as long again by chance (`NewExponentialBackoffManager` in client-go's reflector). A move in
/// Shift waits for its word meanwhile.
const GATEWAY_BACK: Duration = Duration::from_secs(60);

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
        played.ends_within(name, MigrationOutcome::Completed, GATEWAY_BACK + PATIENCE)?;
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

/// Two applications at rest, whose moves take longer than Helm and a rollout, also on a machine that has more to do.
fn two<'a>(stage: &'a Stage<'a>) -> Result<Vec<Played<'a>>> {
    let applications = [Application::Website, Application::Volunteers];
    let played = applications.map(|application| {
        let mut asked = stage.asked_as(application, Sensitivity::Public, &["alibaba"]);
        asked.pace.stages = vec![25, 50, 75, 100];
        asked.pace.stage_seconds = 6;
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

/// Pods that end while their rights are there give the Lease back: whoever comes next leads at once.
fn gives_back_the_lease(world: &World) -> Result<()> {
    let testbed = &world.testbed;
    ensure!(testbed.lease_holder()?.is_some(), "somebody leads");
    for arguments in [
        &["scale", "deployment", RELEASE, "--replicas=0"][..],
        &[
            "wait",
            "pod",
            "--for=delete",
            "--selector=app.kubernetes.io/component=operator",
            "--timeout=60s",
        ],
    ] {
        let within = ["--namespace", NAMESPACE];
        testbed.hub().kubectl(&[arguments, &within].concat())?;
    }
    let left = testbed.lease_holder()?;
    ensure!(left.is_none(), "{left:?} holds the Lease still");
    testbed.install_operator()
}

/// Waits until the API server serves the definitions of a version of the chart; returns which objects they are.
fn definitions_are_of(world: &World, version: &str) -> Result<String> {
    let hub = world.testbed.hub();
    let older = version == BEFORE;
    let backwards = json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Freeze", "metadata": {"name": "backwards"},
        "spec": {"from": "2020-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z", "reason": "never"},
    });
    let file = tempfile::NamedTempFile::new().context("make a file")?;
    fs::write(file.path(), backwards.to_string()).context("write a Freeze")?;
    let file = file.path().display().to_string();
    // A definition that was changed is served a moment later.
    until(&format!("the definitions of {version} are served"), || {
        let table = hub.kubectl(&["get", "gamesapplications", "--all-namespaces"])?;
        let shown = table.contains(&NEW_COLUMN.to_uppercase());
        let taken = hub.kubectl(&["create", "--dry-run=server", "-f", &file]);
        Ok(match (shown, &taken) {
            (false, Ok(_)) if older => None,
            (true, Err(error))
                if !older && format!("{error:#}").contains("until must be later") =>
            {
                None
            }
            _ => Some(format!(
                "the column is shown: {shown}; a Freeze backwards: {taken:?}"
            )),
        })
    })?;
    let selector = "--selector=app.kubernetes.io/part-of=flambeau";
    let get = |shown: &str| hub.kubectl(&["get", "crd", selector, "-o", shown]);
    let of = get(r"jsonpath={.items[*].metadata.labels.helm\.sh/chart}")?;
    ensure!(
        of.split(' ').count() == 7
            && of
                .split(' ')
                .all(|chart| chart == format!("flambeau-{version}")),
        "all definitions are of {version}: {of}"
    );
    get("jsonpath={.items[*].metadata.uid}")
}

/// What people declared in a stage.
fn declared(world: &World, stage: &Stage<'_>) -> Result<String> {
    let shown = "jsonpath={.items[*].spec}";
    world.testbed.hub().kubectl(&[
        "-n",
        &stage.namespace,
        "get",
        "gamesapplications",
        "-o",
        shown,
    ])
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
