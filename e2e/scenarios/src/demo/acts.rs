//! What happens in each act, and what is awaited.

use std::time::Duration;

use anyhow::{Context, Result};
use flambeau_testbed::images;
use jiff::Timestamp;
use serde_json::json;

use super::{
    CAST, NAMESPACE, PATIENCE, Stage, Story,
    cast::{ACTS, Act, Role},
    manifests,
};
use crate::{application::RECOVERY_SECONDS, hub::health, report::Loss};

/// How long a dead cluster stays dead, once everything serves elsewhere.
const DEAD_FOR: Duration = Duration::from_secs(15);

impl Act {
    /// What has happened when it is over, for people.
    pub(super) const fn answered(&self) -> &'static str {
        match self {
            Act::Paper { .. } => "Obeyed",
            Act::Loss { .. } => "Everything serves without it",
            Act::Return { .. } => "Its old copies are erased",
            Act::Failback { .. } => "Home again",
        }
    }
}

impl Story<'_> {
    /// Plays an act, the one of that number from 1, and waits until Flambeau has answered it.
    pub(super) fn play(
        &mut self,
        act: &Act,
        number: usize,
        stage: &Stage<'_>,
        losses: &mut Vec<Loss>,
    ) -> Result<()> {
        match act {
            Act::Paper { file, .. } | Act::Failback { file, .. } => {
                let path = manifests().join(file).display().to_string();
                stage
                    .testbed
                    .hub()
                    .kubectl(&["apply", "--filename", &path])?;
                self.narrator
                    .say("hub", &format!("kubectl apply --filename {file}"));
                self.settled(number, None, stage)
            }
            Act::Loss { cluster } => {
                let lost = stage.testbed.cluster(cluster)?;
                losses.push(Loss {
                    time: Timestamp::now(),
                    cluster: (*cluster).to_owned(),
                    limit: Duration::from_secs(u64::try_from(RECOVERY_SECONDS)?),
                });
                lost.kill()?;
                self.narrator.say(cluster, "every process is killed");
                self.settled(number, Some(cluster), stage)?;
                self.narrator
                    .say(cluster, "what it served serves elsewhere");
                self.let_run(DEAD_FOR, stage.hub, stage.load)
            }
            Act::Return { cluster } => self.bring_back(cluster, number, stage),
        }
    }

    /// Brings a cluster back, while the story goes on.
    fn bring_back(&mut self, cluster: &str, number: usize, stage: &Stage<'_>) -> Result<()> {
        let images = images::for_nodes()?;
        let dead = stage.testbed.cluster(cluster)?;
        std::thread::scope(|scope| -> Result<()> {
            let back = scope.spawn(|| dead.restart(&images));
            while !back.is_finished() {
                self.look(stage.hub, stage.load)?;
                std::thread::sleep(super::LOOK_EVERY);
            }
            back.join()
                .map_err(|_| anyhow::anyhow!("the starting thread panicked"))?
                .with_context(|| format!("bring {cluster} back"))
        })?;
        self.narrator
            .say(cluster, "its control plane and its node are back");
        self.settled(number, None, stage)?;
        self.narrator.say(cluster, "the old copies are erased");
        self.until(&format!("{cluster} is trusted again"), || {
            let health = health(stage.hub, cluster)?;
            Ok((health != "Healthy").then_some(health))
        })
        .with_context(|| format!("within {} s", PATIENCE.as_secs()))
    }
}

/// The file that a user finds what an act applies in, with its text.
pub(super) fn manifest(act: &Act) -> Result<Option<(&'static str, String)>> {
    match act {
        Act::Paper { file, policy, .. } => Ok(Some((file, (*policy).to_owned()))),
        Act::Failback { file, cluster } => Ok(Some((file, failbacks(cluster)?))),
        Act::Loss { .. } | Act::Return { .. } => Ok(None),
    }
}

/// What an SRE writes to send home what had to leave a cluster.
fn failbacks(cluster: &str) -> Result<String> {
    let home = |role: &&Role| {
        role.moves()
            .iter()
            .any(|expected| expected.kind == "Failback" && expected.to == cluster)
    };
    let written: Result<Vec<String>> = CAST
        .iter()
        .filter(home)
        .map(|role| {
            let migration = json!({
                "apiVersion": "flambeau.dev/v1alpha1",
                "kind": "Migration",
                "metadata": { "name": format!("{}-failback", role.name()), "namespace": NAMESPACE },
                "spec": {
                    "application": role.name(), "type": "Failback", "trigger": "Request",
                    "from": role.place(ACTS.len() - 1), "to": cluster,
                    "reason": format!("{cluster} is back and trusted again"),
                },
            });
            serde_yaml::to_string(&migration).context("write a Migration as YAML")
        })
        .collect();
    Ok(written?.join("---\n"))
}
