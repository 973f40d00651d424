//! The namespace of a scenario, and the applications in it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flambeau_crds::{
    Criticality, GamesApplication, GamesApplicationStatus, Migration, MigrationStatus, Sensitivity,
    application::MigrationStrategy,
    migration::{MigrationOutcome, MigrationStep},
};
use flambeau_games::Application;
use flambeau_scenarios::{
    application::Asked,
    demo::judge::present,
    hub::{condition, outcome, status, unrest, unrest_but_for},
};
use flambeau_testbed::cluster::Cluster;
use serde_json::{Value, json};

use crate::{
    load::Load,
    wait::{PATIENCE, until, until_within},
    world::World,
};

/// Requests per second to an application, unless said otherwise.
const RATE: f64 = 100.0;

/// The namespace of a scenario.
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
    /// The same, of another of the example applications, so that several are in one scenario.
    pub fn asked_as(
        &self,
        application: Application,
        sensitivity: Sensitivity,
        preferred: &[&str],
    ) -> Asked {
        Asked {
            application,
            host: format!("{application}.{}.example", self.namespace),
            ..self.asked(sensitivity, preferred)
        }
    }

    /// What a team would ask for, to be changed by the scenario.
    pub fn asked(&self, sensitivity: Sensitivity, preferred: &[&str]) -> Asked {
        Asked {
            application: Application::Website,
            namespace: self.namespace.clone(),
            host: format!("website.{}.example", self.namespace),
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
    pub fn world(&self) -> &World {
        self.stage.world
    }

    pub fn name(&self) -> &str {
        self.asked.application.name()
    }

    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// Begins to send requests.
    pub fn load(&self) -> Result<Load> {
        Load::start(self.world(), &[self], RATE)
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

    /// Waits until the active copy is there and serves, whatever waits to be erased on a cluster that is dead.
    pub fn serves_at(&self, cluster: &str, dead: &str) -> Result<()> {
        until(&format!("{} serves at {cluster}", self.name()), || {
            Ok(match self.object()? {
                Some(object) => unrest_but_for(&object, cluster, Some(dead)),
                None => Some("it does not exist".to_owned()),
            })
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
        let mut moves = self.world().hub.migrations(&self.stage.namespace)?;
        moves.retain(|migration| migration.spec.application == self.name());
        Ok(moves)
    }

    /// Writes a Migration as a person would.
    pub fn request(&self, name: &str, from: &str, to: &str, pause: bool) -> Result<()> {
        self.request_a("Relocate", name, (from, to), pause)
    }

    /// The same, of another type.
    pub fn request_a(
        &self,
        kind: &str,
        name: &str,
        (from, to): (&str, &str),
        pause: bool,
    ) -> Result<()> {
        let migration = json!({
            "apiVersion": "flambeau.dev/v1alpha1",
            "kind": "Migration",
            "metadata": { "name": name, "namespace": self.stage.namespace },
            "spec": {
                "application": self.name(), "type": kind, "from": from, "to": to,
                "trigger": "Request", "reason": "a scenario", "pause": pause,
            },
        });
        self.world().testbed.hub().apply(&migration.to_string())
    }

    /// Changes a Migration's switches.
    pub fn switch(&self, name: &str, switches: &Value) -> Result<()> {
        let namespace = &self.stage.namespace;
        let path = format!("namespaces/{namespace}/migrations/{name}");
        self.world().hub.change_spec(&path, switches)
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

    /// The last move, with its status.
    pub fn last_move(&self) -> Result<(Migration, MigrationStatus)> {
        let last = self.moves()?.pop().context("there is no Migration")?;
        let status = last.status.clone().unwrap_or_default();
        Ok((last, status))
    }

    /// Waits until a move is over and checks how it ended.
    pub fn ends(&self, migration: &str, expected: MigrationOutcome) -> Result<()> {
        self.ends_within(migration, expected, PATIENCE)
    }

    /// The same, with another patience.
    pub fn ends_within(
        &self,
        migration: &str,
        expected: MigrationOutcome,
        patience: Duration,
    ) -> Result<()> {
        let (mut ended, mut steps) = (None, String::new());
        until_within(&format!("{migration} ends"), patience, || {
            let found = self
                .moves()?
                .into_iter()
                .find(|found| found.metadata.name.as_deref() == Some(migration));
            let found = found.context("the Migration is gone")?;
            ended = outcome(&found);
            let status = found.status.unwrap_or_default();
            steps = status
                .steps
                .iter()
                .map(|step| format!("{:?} {}", step.name, step.start_time.0))
                .collect::<Vec<_>>()
                .join(", ");
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
            "{migration} ended as {ended:?} instead of {expected:?}: {steps}"
        );
        Ok(())
    }

    /// Waits until a move is walked back for a reason, and returns what it says of it.
    pub fn walks_back(&self, migration: &str, reason: &str) -> Result<String> {
        self.ends(migration, MigrationOutcome::Aborted)?;
        let moves = self.moves()?;
        let found = moves
            .into_iter()
            .find(|found| found.metadata.name.as_deref() == Some(migration));
        let said = found
            .and_then(|found| found.status?.abort_reason)
            .unwrap_or_default();
        ensure!(
            said.contains(reason),
            "{migration} was walked back for another reason than {reason}: {said}"
        );
        Ok(said)
    }

    /// Waits until it rests there, whole, and no other member has anything of it.
    pub fn rests_alone_at(&self, cluster: &str) -> Result<()> {
        self.rests_at(cluster)?;
        self.whole_at(cluster)?;
        let members = self.world().testbed.members().iter();
        members
            .map(Cluster::name)
            .filter(|member| *member != cluster)
            .try_for_each(|member| self.nothing_at(member))
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
