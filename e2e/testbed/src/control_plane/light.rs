//! The light control plane: etcd and an API server on loopback, for tests of the API alone.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{ControlPlaneSpec, Ports};
use crate::api::ApiClient;
use crate::process::bound::BoundProcess;
use crate::process::{Component, last_lines};
use crate::upstream::Tools;
use crate::wait::{self, Probe};

/// Generous, for a machine that compiles at the same time; a start takes some four seconds.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// What a light control plane consists of.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Run a controller manager too: garbage collection, ServiceAccounts, namespaces that vanish when deleted,
    /// Deployments that make ReplicaSets (and pods that stay Pending, as there are no nodes).
    pub controller_manager: bool,
    /// Let etcd wait for the disk at every write, as in production; for measurements.
    pub fsync: bool,
    /// More arguments of the API server, such as `--max-requests-inflight=1000`.
    pub apiserver_arguments: Vec<String>,
}

/// A running light control plane. Its processes end when it is dropped, and by the kernel's hand when this process
/// dies. Needs no root and no network beyond loopback.
pub struct ControlPlane {
    // Declared in the order of dropping: clients before servers, the folder last.
    processes: Vec<BoundProcess>,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    client: ApiClient,
    folder: PathBuf,
    manifests: TempDir,
    written: AtomicUsize,
    _temporary: Option<TempDir>,
}

/// Whether an object was refused only because the policy that protects applications from their creation on does not know
/// their definition yet: it does a moment after the API server serves a new one.
#[must_use]
pub fn refused_too_early(error: &anyhow::Error) -> bool {
    format!("{error:#}")
        .contains("There can be a delay between when CustomResourceDefinitions are created")
}

impl ControlPlane {
    /// Starts one whose data, logs and kubeconfig live in `folder`, and waits until it is ready.
    ///
    /// # Errors
    /// When the upstream programs are not built, or a component ends or is not ready in time; the message shows its
    /// log.
    pub fn start(folder: &Path, options: &Options) -> Result<Self> {
        Self::start_with_retries(folder, options, None)
    }

    /// Starts one in a new temporary folder, which vanishes with it.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn start_temporary(options: &Options) -> Result<Self> {
        let temporary =
            TempDir::with_prefix("flambeau-control-plane-").context("make a temporary folder")?;
        let folder = temporary.path().to_path_buf();
        Self::start_with_retries(&folder, options, Some(temporary))
    }

    fn start_with_retries(
        folder: &Path,
        options: &Options,
        temporary: Option<TempDir>,
    ) -> Result<Self> {
        const ATTEMPTS: u32 = 3;
        let mut attempt = 1;
        loop {
            match Self::start_once(folder, options) {
                Ok(started) => {
                    return Ok(Self {
                        _temporary: temporary,
                        ..started
                    });
                }
                // A port that was free a moment ago can be taken by somebody else before the component binds it.
                Err(error)
                    if attempt < ATTEMPTS
                        && format!("{error:#}").contains("address already in use") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn start_once(folder: &Path, options: &Options) -> Result<Self> {
        let tools = Tools::built()?;
        // Data of an earlier run belongs to another authority and other ports.
        let data = folder.join("etcd");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("remove {}", data.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let spec = ControlPlaneSpec {
            cluster: "light".to_owned(),
            folder: folder.to_path_buf(),
            address: Ipv4Addr::LOCALHOST,
            ports: free_ports()?,
            service_network: "10.96.0.0/16".to_owned(),
            service_address: Ipv4Addr::new(10, 96, 0, 1),
            fsync: options.fsync,
            service_accounts: options.controller_manager,
        };
        spec.prepare()?;
        let mut apiserver = spec.apiserver(&tools.kubernetes);
        apiserver
            .arguments
            .extend(options.apiserver_arguments.iter().cloned());
        let mut plane = Self {
            processes: Vec::new(),
            client: ApiClient::from_kubeconfig(&spec.kubeconfig())?,
            kubeconfig: spec.kubeconfig(),
            kubectl: tools.kubectl.clone(),
            folder: folder.to_path_buf(),
            manifests: TempDir::with_prefix("flambeau-manifests-")
                .context("make a folder for manifests")?,
            written: AtomicUsize::new(0),
            _temporary: None,
        };
        // The API server retries until etcd answers, so both start at once.
        plane.run(&spec.etcd(&tools.kubernetes))?;
        plane.run(&apiserver)?;
        plane.await_ready("the API server", |client| client.ready())?;
        if options.controller_manager {
            plane.run(&spec.controller_manager(&tools.kubernetes))?;
            // Until this exists, pods that name no ServiceAccount are refused.
            let account = "/api/v1/namespaces/default/serviceaccounts/default";
            plane.await_ready("the controller manager's first ServiceAccount", |client| {
                match client.get(account) {
                    Ok(_) => Probe::Done(()),
                    Err(error) => Probe::Pending(format!("{error:#}")),
                }
            })?;
        }
        Ok(plane)
    }

    fn run(&mut self, component: &Component) -> Result<()> {
        self.processes
            .insert(0, BoundProcess::start(component, &self.folder)?);
        Ok(())
    }

    fn await_ready(&mut self, what: &str, probe: impl Fn(&ApiClient) -> Probe<()>) -> Result<()> {
        let log = self.folder.join("kube-apiserver.log");
        let (processes, client) = (&mut self.processes, &self.client);
        wait::until(what, READY_WITHIN, || {
            processes.iter_mut().try_for_each(BoundProcess::check)?;
            Ok(probe(client))
        })
        .with_context(|| last_lines(&log))
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A small client for reads and waits.
    #[must_use]
    pub fn client(&self) -> &ApiClient {
        &self.client
    }

    /// Runs kubectl against this control plane and returns what it printed.
    ///
    /// # Errors
    /// When kubectl fails; the message is kubectl's.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .output()
            .with_context(|| format!("run {}", self.kubectl.display()))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr);
            bail!("kubectl {}: {}", arguments.join(" "), message.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes objects into a file for kubectl, which lives as long as this control plane, and returns its path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn manifests(&self, objects: &[Value]) -> Result<String> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let file = self.manifests.path().join(format!("{number}.json"));
        let content = match objects {
            [object] => object.to_string(),
            items => json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
        };
        fs::write(&file, content).with_context(|| format!("write {}", file.display()))?;
        Ok(file.display().to_string())
    }

    /// Applies objects on the server's side, as the administrator; takes over fields that somebody else wrote.
    ///
    /// # Errors
    /// When the API server refuses one.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let file = self.manifests(objects)?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file])?;
        Ok(())
    }

    /// Waits until all definitions that were applied are served.
    ///
    /// # Errors
    /// When they are not within a minute.
    pub fn await_definitions(&self) -> Result<()> {
        let established = "--for=condition=Established";
        self.kubectl(&["wait", "crd", "--all", established, "--timeout=60s"])?;
        Ok(())
    }

    /// A kubeconfig for this control plane, in JSON, with another user, such as `{"token": "..."}`.
    ///
    /// # Errors
    /// When the administrator's cannot be read.
    pub fn kubeconfig_of(&self, user: Value) -> Result<String> {
        let file = self.kubeconfig.display();
        let text = fs::read_to_string(&self.kubeconfig).with_context(|| format!("read {file}"))?;
        let mut kubeconfig: Value =
            serde_yaml::from_str(&text).with_context(|| format!("parse {file}"))?;
        kubeconfig["users"][0]["user"] = user;
        Ok(kubeconfig.to_string())
    }
}

/// Ports that are free now; all are held while the next is chosen, so that they differ.
fn free_ports() -> Result<Ports> {
    let mut held = Vec::new();
    let mut next = || -> Result<u16> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port on loopback")?;
        let port = listener.local_addr().context("read a port")?.port();
        held.push(listener);
        Ok(port)
    };
    Ok(Ports {
        etcd: next()?,
        etcd_peer: next()?,
        apiserver: next()?,
        controller_manager: next()?,
        scheduler: next()?,
    })
}
