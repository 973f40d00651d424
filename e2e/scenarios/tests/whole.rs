//! Moves on real clusters, under counted load, with the operator killed, the target cut off and the law without an
//! answer. Needs root, as the testbed does.

use std::{
    env,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use flambeau_crds::{
    Criticality, Migration, Sensitivity,
    application::MigrationStrategy,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_games::Application;
use flambeau_scenarios::{
    application::Asked,
    fleet,
    hub::{Edge, Hub, condition, outcome, status, unrest},
    load::{ApplicationLoad, LoadConfig, LoadGenerator},
};
use flambeau_testbed::{
    progress::Progress,
    testbed::{Options, Testbed},
};
use serde_json::json;

const NAMESPACE: &str = "whole";
const DOMAIN: &str = "whole.example";
const NAME: &str = "volunteers";
const RATE: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The steps at which the operator is killed.
const STEPS: [MigrationStep; 8] = [
    MigrationStep::Preflight,
    MigrationStep::Prepare,
    MigrationStep::Ready,
    MigrationStep::Sync,
    MigrationStep::Shift,
    MigrationStep::Soak,
    MigrationStep::Drain,
    MigrationStep::Retire,
];

/// The testbed, taken down however the test ends.
struct World {
    testbed: Testbed,
    hub: Hub,
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = Testbed::down(Progress::start()) {
            eprintln!("the testbed is still up: {error:#}; run `make down`");
        }
    }
}

#[test]
fn no_request_fails_whatever_happens_to_a_move() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: the testbed needs root");
        return Ok(());
    }
    let world = World::up()?;
    let rounds = if env::var_os("SOAK").is_some() { 5 } else { 1 };
    for round in 1..=rounds {
        for step in STEPS {
            world.scenario(
                &format!("round {round}: operator killed at {step:?}"),
                || world.killed_at(step),
            )?;
        }
        world.scenario(
            &format!("round {round}: operator killed while walking back"),
            || world.killed_while_walking_back(),
        )?;
        world.scenario(
            &format!("round {round}: no lawful cluster, then one"),
            || world.no_lawful_cluster(),
        )?;
        world.scenario(
            &format!("round {round}: target cut off before it serves"),
            || world.target_cut_off(),
        )?;
    }
    Ok(())
}

impl World {
    fn up() -> Result<Self> {
        let testbed = Testbed::up(Options::default(), Progress::start())?;
        let hub = Hub::new(testbed.hub())?;
        let world = Self { testbed, hub };
        let secrets = fleet::secrets(&world.testbed)?;
        for manifests in [
            fleet::providers()?,
            secrets,
            fleet::clusters()?,
            fleet::namespace(NAMESPACE)?,
        ] {
            world.testbed.hub().apply(&manifests)?;
        }
        let asked = Asked {
            application: Application::Volunteers,
            namespace: NAMESPACE.to_owned(),
            host: format!("{NAME}.{DOMAIN}"),
            sensitivity: Sensitivity::Personal,
            criticality: Criticality::Critical,
            preferred: ["alibaba", "atos", "ovh"].map(str::to_owned).to_vec(),
            pace: MigrationStrategy {
                stages: vec![50, 100],
                stage_seconds: 1,
                soak_seconds: 1,
                drain_seconds: 2,
                ready_timeout_seconds: 60,
            },
        };
        world
            .testbed
            .hub()
            .apply(&serde_yaml::to_string(&asked.object()?)?)?;
        world.at_rest("alibaba")?;
        let edge = Edge::new(&world.testbed.edge_url());
        until("the application answers", || Ok(edge.silence(&asked.host)))?;
        Ok(world)
    }

    /// Runs a scenario under load, and judges the load.
    fn scenario(&self, name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let load = self.load()?;
        let ran = run();
        let result = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(load.stop())?;
        println!(
            "{name}: {:.1} s, {} requests, {} failed",
            began.elapsed().as_secs_f64(),
            result.requests,
            result.failed
        );
        ran.with_context(|| name.to_owned())?;
        ensure!(result.is_clean(), "{name}: requests failed: {result:#?}");
        Ok(())
    }

    fn load(&self) -> Result<LoadGenerator> {
        LoadGenerator::start(LoadConfig {
            edge: self.testbed.edge_url(),
            applications: vec![ApplicationLoad::games(
                Application::Volunteers,
                DOMAIN,
                RATE,
            )],
            streams: Vec::new(),
            clouds: ["alibaba", "atos", "ovh"].map(str::to_owned).to_vec(),
            timeout: LoadConfig::TIMEOUT,
        })
    }

    fn active(&self) -> Result<String> {
        let application = self
            .hub
            .application(NAMESPACE, NAME)?
            .context("the application is gone")?;
        status(&application)
            .cluster
            .context("the application runs nowhere")
    }

    fn refuse(&self, providers: &[&str]) -> Result<()> {
        let policy = json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "SovereigntyPolicy", "metadata": {"name": "whole"},
            "spec": {"sensitivities": ["Personal"], "refusedProviders": providers},
        });
        self.testbed.hub().apply(&serde_yaml::to_string(&policy)?)
    }

    fn withdraw(&self) -> Result<()> {
        self.testbed.hub().kubectl(&[
            "delete",
            "sovereigntypolicy",
            "whole",
            "--ignore-not-found",
        ])?;
        Ok(())
    }

    /// The newest move, once there are more than before.
    fn newest(&self, before: usize) -> Result<Migration> {
        let mut found = None;
        until("a move begins", || {
            let migrations = self.hub.migrations(NAMESPACE)?;
            if migrations.len() <= before {
                return Ok(Some("no Migration yet".to_owned()));
            }
            found = migrations.into_iter().next_back();
            Ok(None)
        })?;
        found.context("no Migration")
    }

    /// Waits until a move is at a step, or past it: some last only as long as one write.
    fn reaches(&self, before: usize, step: MigrationStep) -> Result<MigrationStep> {
        let mut at = None;
        until(&format!("the move is at {step:?}"), || {
            let migration = self.newest(before)?;
            at = migration.status.and_then(|status| status.step);
            Ok(at.is_none_or(|at| at < step).then(|| format!("at {at:?}")))
        })?;
        at.context("the move is nowhere")
    }

    fn at_rest(&self, cluster: &str) -> Result<()> {
        until(&format!("the application is at rest on {cluster}"), || {
            let application = self
                .hub
                .application(NAMESPACE, NAME)?
                .context("the application is gone")?;
            Ok(unrest(&application, cluster))
        })
    }

    /// Nothing of the application is on a member.
    fn nothing_left(&self, cluster: &str) -> Result<()> {
        let kinds = "deployments,services,configmaps,secrets,endpointslices,pods";
        let selector = "flambeau.dev/application";
        let left = self.testbed.cluster(cluster)?.kubectl(&[
            "get",
            kinds,
            "--namespace",
            NAMESPACE,
            "--selector",
            selector,
            "--output",
            "name",
        ])?;
        ensure!(left.trim().is_empty(), "left over on {cluster}: {left}");
        Ok(())
    }

    fn restart_operator(&self) -> Result<()> {
        self.testbed.kill_operator()?;
        self.testbed.start_operator()?;
        Ok(())
    }

    fn killed_at(&self, step: MigrationStep) -> Result<()> {
        let from = self.active()?;
        let before = self.hub.migrations(NAMESPACE)?.len();
        self.refuse(&[&from])?;
        let at = self.reaches(before, step)?;
        self.restart_operator()?;
        println!("  killed at {at:?}");
        let to = self.newest(before)?.spec.to;
        self.at_rest(&to)?;
        let done = self.newest(before)?;
        ensure!(
            outcome(&done) == Some(MigrationOutcome::Completed),
            "the move ended as {done:#?}"
        );
        self.nothing_left(&from)?;
        self.withdraw()
    }

    fn killed_while_walking_back(&self) -> Result<()> {
        let from = self.active()?;
        let to = if from == "ovh" { "atos" } else { "ovh" };
        let before = self.hub.migrations(NAMESPACE)?.len();
        let migration = json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "Migration",
            "metadata": {"name": format!("by-hand-{before}"), "namespace": NAMESPACE},
            "spec": {
                "application": NAME, "type": "Relocate", "from": from, "to": to, "trigger": "Request",
                "reason": "a person tries",
            },
        });
        self.testbed
            .hub()
            .apply(&serde_yaml::to_string(&migration)?)?;
        self.reaches(before, MigrationStep::Shift)?;
        let name = format!("by-hand-{before}");
        let abort = r#"{"spec":{"abort":true}}"#;
        self.testbed.hub().kubectl(&[
            "patch",
            "migration",
            &name,
            "--namespace",
            NAMESPACE,
            "--type=merge",
            "--patch",
            abort,
        ])?;
        self.reaches(before, MigrationStep::Abort)?;
        self.restart_operator()?;
        self.at_rest(&from)?;
        let done = self.newest(before)?;
        ensure!(
            outcome(&done) == Some(MigrationOutcome::Aborted),
            "the move ended as {done:#?}"
        );
        self.nothing_left(to)
    }

    fn no_lawful_cluster(&self) -> Result<()> {
        let from = self.active()?;
        self.refuse(&["alibaba", "atos", "ovh"])?;
        until("the application says that it cannot leave", || {
            let application = self
                .hub
                .application(NAMESPACE, NAME)?
                .context("the application is gone")?;
            let conditions = status(&application).conditions;
            let stalled = condition(&conditions, "Stalled").context("no condition Stalled")?;
            let said = stalled.status == "True" && stalled.reason == "NoLawfulCluster";
            Ok((!said).then(|| format!("Stalled is {}: {}", stalled.status, stalled.reason)))
        })?;
        let events = self
            .testbed
            .hub()
            .kubectl(&["get", "events", "--namespace", NAMESPACE])?;
        ensure!(
            events.contains("NoLawfulCluster"),
            "no event tells: {events}"
        );
        let kept = self.testbed.cluster(&from)?.kubectl(&[
            "get",
            "deployment",
            NAME,
            "--namespace",
            NAMESPACE,
        ])?;
        ensure!(kept.contains(NAME), "the copy on {from} is gone");
        let refused: Vec<&str> = ["alibaba", "atos", "ovh"]
            .into_iter()
            .filter(|name| *name != other(&from))
            .collect();
        self.refuse(&refused)?;
        self.at_rest(other(&from))?;
        self.nothing_left(&from)?;
        self.withdraw()
    }

    fn target_cut_off(&self) -> Result<()> {
        let from = self.active()?;
        let before = self.hub.migrations(NAMESPACE)?.len();
        self.refuse(&[&from])?;
        let first = self.newest(before)?.spec.to;
        self.testbed.cluster(&first)?.cut_link()?;
        until("the first move is walked back", || {
            let migration = self
                .hub
                .migrations(NAMESPACE)?
                .into_iter()
                .nth(before)
                .context("the move is gone")?;
            Ok((outcome(&migration) != Some(MigrationOutcome::Aborted))
                .then(|| format!("{:?}", migration.status)))
        })?;
        let second = self.newest(before + 1)?.spec.to;
        ensure!(
            second != first,
            "it was tried again at {first}, which is cut off"
        );
        until("the second move is completed", || {
            let migration = self.newest(before + 1)?;
            Ok(outcome(&migration)
                .is_none()
                .then(|| format!("{:?}", migration.status)))
        })?;
        self.testbed.cluster(&first)?.restore_link()?;
        self.at_rest(&second)?;
        until("what was written to the cut-off target is erased", || {
            Ok(self
                .nothing_left(&first)
                .err()
                .map(|error| error.to_string()))
        })?;
        self.nothing_left(&from)?;
        self.withdraw()
    }
}

fn other(cluster: &str) -> &'static str {
    if cluster == "atos" { "ovh" } else { "atos" }
}

/// Waits until nothing stands in the way any more.
fn until(what: &str, mut obstacle: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    let began = Instant::now();
    loop {
        let last = match obstacle() {
            Ok(None) => return Ok(()),
            Ok(Some(last)) => last,
            Err(error) => format!("{error:#}"),
        };
        if began.elapsed() > PATIENCE {
            bail!("waited {} s until {what}: {last}", PATIENCE.as_secs());
        }
        sleep(LOOK_EVERY);
    }
}
