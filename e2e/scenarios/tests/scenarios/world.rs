//! The testbed with its fleet, and what scenarios do and await.

use std::{
    fmt, fs,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use flambeau_crds::{
    Criticality, GamesApplication, GamesApplicationStatus, Migration, Sensitivity,
    application::MigrationStrategy,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_games::{Application, application::STREAM_PATH};
use flambeau_scenarios::{
    application::Asked,
    demo::{block_on, judge::present},
    fleet,
    hub::{Edge, Hub, condition, outcome, status, unrest},
    load::{ApplicationLoad, LoadConfig, LoadGenerator, StreamLoad},
};
use flambeau_testbed::{
    cluster::Cluster,
    progress::Progress,
    testbed::{Options, Testbed},
};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);

/// Requests per second of a scenario.
const RATE: f64 = 100.0;

/// Event streams, of an application that has some.
const STREAMS: usize = 3;

/// Whether there is time for more.
pub fn soak() -> bool {
    std::env::var("SOAK").is_ok_and(|soak| !["", "0"].contains(&soak.as_str()))
}

/// What a scenario counted.
#[derive(Default)]
pub struct Counted {
    requests: u64,
    note: String,
}

impl Counted {
    /// Adds what else is worth telling.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:>6} requests, 0 failed", self.requests)?;
        if !self.note.is_empty() {
            write!(formatter, "; {}", self.note)?;
        }
        Ok(())
    }
}

/// The testbed with providers and clusters.
pub struct World {
    pub testbed: Testbed,
    pub hub: Hub,
    edge: Edge,
}

impl World {
    /// Brings a testbed up and declares the fleet.
    pub fn up() -> Result<Self> {
        let testbed = Testbed::up(Options::default(), Progress::start())?;
        let world = Self {
            hub: Hub::new(testbed.hub())?,
            edge: Edge::new(&testbed.edge_url()),
            testbed,
        };
        world.declare_fleet()?;
        Ok(world)
    }

    fn declare_fleet(&self) -> Result<()> {
        let hub = self.testbed.hub();
        hub.apply(&fleet::secrets(&self.testbed)?)?;
        hub.apply(&fleet::providers()?)?;
        hub.apply(&fleet::clusters()?)?;
        let arguments = [
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "member",
            "--all",
        ];
        hub.kubectl(&arguments).map(drop)
    }

    /// Undoes what a scenario left: policies, applications, cut links, a dead operator.
    pub fn tidy(&self) -> Result<()> {
        if self.testbed.operator().is_none() {
            self.testbed.start_operator()?;
        }
        for member in self.testbed.members() {
            member.restore_link()?;
            member.resume()?;
            let node = format!("{}-1", member.name());
            until("the member answers", || {
                Ok(member
                    .kubectl(&["uncordon", &node])
                    .err()
                    .map(|error| format!("{error:#}")))
            })?;
        }
        self.declare_fleet()?;
        let hub = self.testbed.hub();
        hub.kubectl(&["delete", "sovpol", "--all", "--timeout=30s"])?;
        hub.kubectl(&[
            "delete",
            "gapp",
            "--all",
            "--all-namespaces",
            "--timeout=90s",
        ])?;
        hub.kubectl(&[
            "delete",
            "migrations",
            "--all",
            "--all-namespaces",
            "--timeout=30s",
        ])?;
        Ok(())
    }

    /// Where to look when something failed.
    pub fn hints(&self) -> String {
        format!("logs: {}", self.testbed.folder().display())
    }

    /// A member.
    pub fn member(&self, name: &str) -> &Cluster {
        self.testbed
            .cluster(name)
            .expect("a cluster of the testbed")
    }

    /// Opens a namespace for a scenario.
    pub fn stage(&self, namespace: &str) -> Result<Stage<'_>> {
        self.testbed.hub().apply(&fleet::namespace(namespace)?)?;
        Ok(Stage {
            world: self,
            namespace: namespace.to_owned(),
        })
    }

    /// Applies a policy that governs a sensitivity, with its rule.
    pub fn sign(&self, name: &str, sensitivity: &str, rule: &Value) -> Result<()> {
        let mut policy = json!({
            "apiVersion": "flambeau.dev/v1alpha1",
            "kind": "SovereigntyPolicy",
            "metadata": { "name": name },
            "spec": { "sensitivities": [sensitivity], "enforcement": "Enforce" },
        });
        for (key, value) in rule.as_object().context("a rule is an object")? {
            policy["spec"][key] = value.clone();
        }
        self.testbed.hub().apply(&policy.to_string())
    }

    /// Takes a policy back.
    pub fn withdraw(&self, name: &str) -> Result<()> {
        self.testbed
            .hub()
            .kubectl(&["delete", "sovpol", name])
            .map(drop)
    }
}

/// The namespace of a scenario, with one application in it.
pub struct Stage<'a> {
    pub world: &'a World,
    pub namespace: String,
}

/// An application that serves.
pub struct Played<'a> {
    stage: &'a Stage<'a>,
    asked: Asked,
    resources: Vec<Value>,
}

impl<'a> Stage<'a> {
    /// What a team would ask for, to be changed by the scenario.
    pub fn asked(&self, sensitivity: Sensitivity, preferred: &[&str]) -> Asked {
        Asked {
            application: Application::Website,
            namespace: self.namespace.clone(),
            host: format!("{}.example", self.namespace),
            sensitivity,
            criticality: Criticality::Standard,
            preferred: preferred.iter().map(ToString::to_string).collect(),
            pace: MigrationStrategy {
                stages: vec![50, 100],
                stage_seconds: 1,
                soak_seconds: 1,
                drain_seconds: 2,
                ready_timeout_seconds: 60,
            },
        }
    }

    /// Applies an application without awaiting anything.
    pub fn ask(
        &self,
        asked: Asked,
        change: impl FnOnce(&mut GamesApplication),
    ) -> Result<Played<'_>> {
        let mut object = asked.object()?;
        change(&mut object);
        self.world
            .testbed
            .hub()
            .apply(&serde_json::to_string(&object)?)?;
        Ok(Played {
            stage: self,
            asked,
            resources: object.spec.resources,
        })
    }

    /// Applies an application and waits until it serves where it prefers to be.
    pub fn play(
        &self,
        asked: Asked,
        change: impl FnOnce(&mut GamesApplication),
    ) -> Result<Played<'_>> {
        let home = asked.preferred[0].clone();
        let played = self.ask(asked, change)?;
        played.rests_at(&home)?;
        played.serves()?;
        Ok(played)
    }
}

impl Played<'_> {
    fn world(&self) -> &World {
        self.stage.world
    }

    pub fn name(&self) -> &str {
        self.asked.application.name()
    }

    /// Begins to send requests.
    pub fn load(&self) -> Result<Load> {
        let config = LoadConfig {
            edge: self.world().testbed.edge_url(),
            applications: vec![ApplicationLoad {
                host: self.asked.host.clone(),
                ..ApplicationLoad::games(self.asked.application, "example", RATE)
            }],
            streams: if self.asked.application.streams() {
                vec![StreamLoad {
                    name: self.name().to_owned(),
                    host: self.asked.host.clone(),
                    path: STREAM_PATH.to_owned(),
                    count: STREAMS,
                }]
            } else {
                Vec::new()
            },
            clouds: ["alibaba", "atos", "ovh"].map(str::to_owned).to_vec(),
            timeout: LoadConfig::TIMEOUT,
        };
        Ok(Load(LoadGenerator::start(config)?))
    }

    /// Applies the application again, changed.
    pub fn change(&mut self, change: impl FnOnce(&mut GamesApplication)) -> Result<()> {
        let mut object = self.asked.object()?;
        change(&mut object);
        self.resources.clone_from(&object.spec.resources);
        self.world()
            .testbed
            .hub()
            .apply(&serde_json::to_string(&object)?)
    }

    pub fn delete(&self) -> Result<()> {
        let arguments = [
            "--namespace",
            &self.stage.namespace,
            "delete",
            "gapp",
            self.name(),
            "--wait=false",
        ];
        self.world().testbed.hub().kubectl(&arguments).map(drop)
    }

    pub fn object(&self) -> Result<Option<GamesApplication>> {
        self.world()
            .hub
            .application(&self.stage.namespace, self.name())
    }

    pub fn status(&self) -> Result<GamesApplicationStatus> {
        Ok(self.object()?.as_ref().map(status).unwrap_or_default())
    }

    /// Waits until the application answers through the edge.
    pub fn serves(&self) -> Result<()> {
        until("the application answers", || {
            Ok(self.world().edge.silence(&self.asked.host))
        })
    }

    /// Waits until there is one active copy, there, that serves, and nothing is under way.
    pub fn rests_at(&self, cluster: &str) -> Result<()> {
        until(&format!("{} rests at {cluster}", self.name()), || {
            Ok(match self.object()? {
                Some(object) => unrest(&object, cluster),
                None => Some("it does not exist".to_owned()),
            })
        })
    }

    /// Waits until a condition has the status and the reason.
    pub fn says(&self, kind: &str, truth: &str, reason: &str) -> Result<()> {
        until(&format!("{kind} is {truth} with {reason}"), || {
            let status = self.status()?;
            Ok(match condition(&status.conditions, kind) {
                Some(condition) if condition.status == truth && condition.reason == reason => None,
                Some(condition) => Some(format!(
                    "{kind} is {} with {}: {}",
                    condition.status, condition.reason, condition.message
                )),
                None => Some(format!("there is no condition {kind}")),
            })
        })
    }

    /// Moves of the application, the first first.
    pub fn moves(&self) -> Result<Vec<Migration>> {
        self.world().hub.migrations(&self.stage.namespace)
    }

    /// Writes a Migration as a person would.
    pub fn request(&self, name: &str, from: &str, to: &str, pause: bool) -> Result<()> {
        let migration = json!({
            "apiVersion": "flambeau.dev/v1alpha1",
            "kind": "Migration",
            "metadata": { "name": name, "namespace": self.stage.namespace },
            "spec": {
                "application": self.name(), "type": "Relocate", "from": from, "to": to,
                "trigger": "Request", "reason": "a scenario", "pause": pause,
            },
        });
        self.world().testbed.hub().apply(&migration.to_string())
    }

    /// Changes a Migration's switches.
    pub fn switch(&self, name: &str, switches: &Value) -> Result<()> {
        let patch = json!({ "spec": switches }).to_string();
        let arguments = [
            "--namespace",
            &self.stage.namespace,
            "patch",
            "migration",
            name,
            "--type=merge",
            "-p",
            &patch,
        ];
        self.world().testbed.hub().kubectl(&arguments).map(drop)
    }

    /// The step that is recorded; none before the first.
    pub fn step(&self, migration: &str) -> Result<Option<MigrationStep>> {
        let found = self
            .moves()?
            .into_iter()
            .find(|found| found.metadata.name.as_deref() == Some(migration));
        Ok(found
            .and_then(|found| found.status)
            .and_then(|status| status.step))
    }

    /// Waits until a move is at the step or beyond, as closely as can be.
    pub fn reaches(&self, migration: &str, wanted: MigrationStep) -> Result<()> {
        let started = Instant::now();
        loop {
            let step = self.step(migration)?;
            if step.is_some_and(|step| step >= wanted) {
                return Ok(());
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "{migration} does not reach {wanted:?}; it is at {step:?}: {}",
                self.status()?.next.unwrap_or_default()
            );
        }
    }

    /// Waits until the application has a move that is at the step or beyond, and returns its name.
    pub fn moves_to_step(&self, wanted: MigrationStep) -> Result<String> {
        let mut name = None;
        until("a move begins", || {
            let moves = self.moves()?;
            let open = moves.iter().find(|migration| outcome(migration).is_none());
            name = open.and_then(|migration| migration.metadata.name.clone());
            Ok(name
                .is_none()
                .then(|| format!("{} moves, none open", moves.len())))
        })?;
        let name = name.context("a Migration has a name")?;
        self.reaches(&name, wanted)?;
        Ok(name)
    }

    /// Waits until a move is over and checks how it ended.
    pub fn ends(&self, migration: &str, expected: MigrationOutcome) -> Result<()> {
        let mut ended = None;
        until(&format!("{migration} ends"), || {
            let found = self
                .moves()?
                .into_iter()
                .find(|found| found.metadata.name.as_deref() == Some(migration));
            let found = found.context("the Migration is gone")?;
            ended = outcome(&found);
            let status = found.status.unwrap_or_default();
            Ok(ended.is_none().then(|| {
                format!(
                    "{:?}: {}",
                    status.step,
                    status.waiting_for.unwrap_or_default()
                )
            }))
        })?;
        ensure!(
            ended == Some(expected),
            "{migration} ended as {ended:?} instead of {expected:?}"
        );
        Ok(())
    }

    /// The application's objects that a cluster has.
    pub fn objects_at(&self, cluster: &str) -> Result<Vec<String>> {
        present(
            self.world().member(cluster),
            &self.stage.namespace,
            &self.resources,
        )
    }

    /// Waits until a cluster has no object of the application.
    pub fn nothing_at(&self, cluster: &str) -> Result<()> {
        until(&format!("nothing is left at {cluster}"), || {
            Ok(match self.objects_at(cluster) {
                Ok(left) if left.is_empty() => None,
                Ok(left) => Some(left.join(", ")),
                Err(error) => Some(format!("{error:#}")),
            })
        })
    }

    /// Checks that a cluster has every object of the application.
    pub fn whole_at(&self, cluster: &str) -> Result<()> {
        let there = self.objects_at(cluster)?;
        ensure!(
            there.len() == self.resources.len(),
            "{cluster} has only {} of {} objects: {}",
            there.len(),
            self.resources.len(),
            there.join(", ")
        );
        Ok(())
    }

    /// Waits until there is an event about the application with that reason.
    pub fn event(&self, reason: &str) -> Result<()> {
        let selector = format!(
            "--field-selector=reason={reason},involvedObject.name={}",
            self.name()
        );
        let arguments = [
            "--namespace",
            &self.stage.namespace,
            "get",
            "events",
            &selector,
            "--output=name",
        ];
        until(&format!("an event {reason}"), || {
            let events = self.world().testbed.hub().kubectl(&arguments)?;
            Ok(events.trim().is_empty().then(|| "there is none".to_owned()))
        })
    }
}

/// Load that is being sent.
pub struct Load(LoadGenerator);

impl Load {
    /// Lets some more requests through and ends; an error tells of those that failed.
    pub fn ends_clean(self) -> Result<Counted> {
        let before = self.0.snapshot().sent;
        until("more requests", || {
            let sent = self.0.snapshot().sent - before;
            Ok((sent < 100).then(|| format!("{sent}")))
        })?;
        let result = block_on(self.0.stop())??;
        let application = &result.applications[0];
        if result.failed > 0 {
            let examples: Vec<String> = application
                .examples
                .iter()
                .take(3)
                .map(|failure| {
                    format!(
                        "{} {}: {}",
                        failure.time,
                        failure.cause.words(),
                        failure.detail
                    )
                })
                .collect();
            bail!(
                "{} of {} requests failed: {}",
                result.failed,
                result.requests,
                examples.join("; ")
            );
        }
        if let Some(failure) = result
            .streams
            .iter()
            .find_map(|streams| streams.examples.first())
        {
            bail!("a stream broke: {} {}", failure.time, failure.detail);
        }
        Ok(Counted {
            requests: result.requests,
            note: String::new(),
        })
    }
}

/// Waits until `obstacle` sees none any more.
pub fn until(what: &str, obstacle: impl FnMut() -> Result<Option<String>>) -> Result<()> {
    until_within(what, PATIENCE, obstacle)
}

fn until_within(
    what: &str,
    patience: Duration,
    mut obstacle: impl FnMut() -> Result<Option<String>>,
) -> Result<()> {
    let started = Instant::now();
    while let Some(seen) = obstacle()? {
        if started.elapsed() > patience {
            bail!("{what}: not within {} s: {seen}", patience.as_secs());
        }
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Waits until the operator exports exactly this line.
pub fn metric(world: &World, line: &str) -> Result<()> {
    let url = format!("{}/metrics", world.testbed.operator_url());
    until(&format!("the metric {line}"), || {
        let text = match flambeau_testbed::command::run("curl", &["--silent", "--fail", &url]) {
            Ok(text) => text,
            Err(error) => return Ok(Some(format!("{error:#}"))),
        };
        Ok((!text.lines().any(|found| found == line)).then(|| "it is not there".to_owned()))
    })
}

/// A kubeconfig of a member as text.
pub fn kubeconfig(member: &Cluster) -> Result<String> {
    let file = member.kubeconfig();
    fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
}
