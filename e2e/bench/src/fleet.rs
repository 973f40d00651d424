//! A hub and its members: control planes without nodes, on loopback.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use flambeau_testbed::control_plane::{ControlPlane, Options, refused_too_early};
use flambeau_testbed::helm::chart;
use flambeau_testbed::paths;
use flambeau_testbed::upstream::Tools;
use flambeau_testbed::wait::{self, Probe};
use futures::future::try_join_all;

use crate::api::Plain;
use crate::objects::{self, MEMBERS, NAMESPACE, PLAIN};
use crate::writes::Writes;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running fleet; it ends with this value.
pub struct Fleet {
    hub_plane: Arc<ControlPlane>,
    member_planes: Vec<Option<ControlPlane>>,
    /// Folder of the operator's log.
    pub folder: PathBuf,
    /// A plain client of the hub.
    pub hub: Plain,
    /// A plain client of each member, in the order of [`MEMBERS`].
    pub members: Vec<Plain>,
}

impl Fleet {
    /// Starts control planes in a folder and declares the fleet on the hub.
    pub async fn start(name: &str) -> Result<Self> {
        let folder = paths::repository().join("target/bench").join(name);
        let begin = |cluster: &str| {
            let folder = folder.join(cluster);
            tokio::task::spawn_blocking(move || ControlPlane::start(&folder, &Options::default()))
        };
        let mut planes = try_join_all(["hub"].iter().chain(&MEMBERS).map(|name| begin(name)))
            .await
            .context("start control planes")?
            .into_iter();
        let hub_plane = Arc::new(planes.next().ok_or_else(|| anyhow!("no hub"))??);
        let member_planes: Vec<ControlPlane> = planes.collect::<Result<_>>()?;
        let hub = Plain::new(hub_plane.kubeconfig()).await?;
        let members = try_join_all(
            member_planes
                .iter()
                .map(|plane| Plain::new(plane.kubeconfig())),
        )
        .await?;
        let fleet = Self {
            hub_plane,
            member_planes: member_planes.into_iter().map(Some).collect(),
            folder,
            hub,
            members,
        };
        fleet.declare().await?;
        Ok(fleet)
    }

    /// The hub's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.hub_plane.kubeconfig().to_path_buf()
    }

    async fn declare(&self) -> Result<()> {
        let hub = Arc::clone(&self.hub_plane);
        tokio::task::spawn_blocking(move || install(&hub)).await??;
        for namespace in [NAMESPACE, PLAIN, "flambeau-system"] {
            self.hub.create(&objects::namespace(namespace)).await?;
        }
        let (hub, folder) = (Arc::clone(&self.hub_plane), self.folder.clone());
        tokio::task::spawn_blocking(move || protect(&hub, &folder)).await??;
        for (name, member) in MEMBERS.iter().zip(&self.members) {
            for namespace in [NAMESPACE, PLAIN] {
                member.create(&objects::namespace(namespace)).await?;
            }
            let file = self.folder.join(name).join("kubeconfig");
            let kubeconfig = std::fs::read_to_string(&file)
                .with_context(|| format!("read {}", file.display()))?;
            self.hub.create(&objects::secret(name, &kubeconfig)).await?;
            self.hub.create(&objects::provider(name)).await?;
            self.hub.create(&objects::member(name)).await?;
        }
        self.hub.create(&objects::policy()).await
    }

    /// Kills every process of a member.
    pub fn kill(&mut self, member: usize) {
        if let Some(plane) = self.member_planes.get_mut(member) {
            drop(plane.take());
        }
    }

    /// Counters of writes on the hub.
    pub async fn hub_writes(&self) -> Result<Writes> {
        Writes::read(&self.hub).await
    }

    /// Counters of writes on all members together.
    pub async fn member_writes(&self) -> Result<Writes> {
        let read = try_join_all(self.members.iter().map(Writes::read)).await?;
        Ok(read
            .iter()
            .fold(Writes::default(), |sum, writes| sum.and(writes)))
    }
}

/// Installs the policy of the chart under which an application is created with
/// its finalizer, and waits until it is in force.
fn protect(hub: &ControlPlane, folder: &Path) -> Result<()> {
    let policy = chart().join("files/protection.yaml");
    hub.kubectl(&["apply", "-f", &policy.display().to_string()])?;
    let tried = folder.join("protected.json");
    let application = objects::application(PLAIN, "protected", MEMBERS[0]);
    std::fs::write(&tried, application.to_string())
        .with_context(|| format!("write {}", tried.display()))?;
    let tried = tried.display().to_string();
    let create = ["create", "--dry-run=server", "-f", &tried, "-o=json"];
    wait::until("applications are protected", PATIENCE, || {
        let made = match hub.kubectl(&create) {
            Err(error) if refused_too_early(&error) => {
                return Ok(Probe::Pending(format!("{error:#}")));
            }
            made => serde_json::from_str::<serde_json::Value>(&made?)?,
        };
        Ok(if made["metadata"]["finalizers"].is_null() {
            Probe::Pending("no finalizer yet".to_owned())
        } else {
            Probe::Done(())
        })
    })
}

fn install(hub: &ControlPlane) -> Result<()> {
    let gateway = Tools::built()?.contour_crds;
    for folder in [paths::repository().join("crds/generated"), gateway] {
        let shown = folder.display().to_string();
        hub.kubectl(&["apply", "--server-side", "-f", &shown])?;
        hub.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            &shown,
        ])?;
    }
    Ok(())
}
