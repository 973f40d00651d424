//! One cluster of the testbed: how it is started, cut off, killed and brought back.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::api::ApiClient;
use crate::cgroup::{Group, Hierarchies, ROOT};
use crate::command;
use crate::control_plane::{ControlPlaneSpec, Ports};
use crate::images::Image;
use crate::network::{self, Addresses};
use crate::node::Node;
use crate::partition::{self, Direction};
use crate::process::recorded::{self, Mounts, Placement, ProcessId};
use crate::process::{Component, last_lines};
use crate::progress::Progress;
use crate::state::{Entry, Journal};
use crate::upstream::Tools;
use crate::wait::{self, Probe};

const READY_WITHIN: Duration = Duration::from_secs(120);

/// The component that clients speak to.
pub const API_SERVER: &str = "kube-apiserver";

/// The ports inside a cluster's own namespace, where nobody else is.
const PORTS: Ports = Ports {
    etcd: 2379,
    etcd_peer: 2380,
    apiserver: 6443,
    controller_manager: 10257,
    scheduler: 10259,
};

/// One cluster of the testbed.
pub struct Cluster {
    name: String,
    number: u8,
    addresses: Addresses,
    folder: PathBuf,
    spec: ControlPlaneSpec,
    tools: Tools,
    group: Group,
}

impl Cluster {
    /// The cluster called `name` in the testbed of `folder`, running or not.
    pub(crate) fn new(
        name: &str,
        folder: &Path,
        addresses: Addresses,
        fsync: bool,
    ) -> Result<Self> {
        let (number, folder) = (network::number(name)?, folder.join(name));
        let spec = ControlPlaneSpec {
            cluster: name.to_owned(),
            folder: folder.clone(),
            address: addresses.cluster(number),
            ports: PORTS,
            service_network: addresses.services(number),
            service_address: addresses.kubernetes_service(number),
            fsync,
            service_accounts: true,
        };
        Ok(Self {
            name: name.to_owned(),
            number,
            addresses,
            folder,
            spec,
            tools: Tools::built()?,
            group: Hierarchies::mounted()?.group(&format!("{ROOT}/{name}"))?,
        })
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder with the cluster's kubeconfig, logs and data.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The administrator's kubeconfig; valid in the root namespace and in every other cluster.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.spec.kubeconfig()
    }

    /// The cluster's address on the wide-area network.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.spec.address
    }

    /// The network of the cluster's pods.
    #[must_use]
    pub fn pods(&self) -> String {
        self.addresses.pods(self.number)
    }

    /// The cluster's node.
    #[must_use]
    pub fn node(&self) -> Node<'_> {
        Node::of(self)
    }

    /// A small client for reads and waits.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub fn client(&self) -> Result<ApiClient> {
        ApiClient::from_kubeconfig(&self.kubeconfig())
    }

    /// Runs kubectl against this cluster and returns what it printed.
    ///
    /// # Errors
    /// When kubectl fails; the message is kubectl's.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with_input(arguments, None)
    }

    /// Applies manifests by server-side apply.
    ///
    /// # Errors
    /// When kubectl fails; the message is kubectl's.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let arguments = [
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager=testbed",
            "-f",
            "-",
        ];
        self.kubectl_with_input(&arguments, Some(manifests))
            .map(drop)
    }

    fn kubectl_with_input(&self, arguments: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        command::finish(&mut command, input)
    }

    /// kubectl against this cluster, without arguments yet, for what goes on for a while.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(&self.tools.kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig());
        command
    }

    /// Cuts the link to the wide-area network: a partition. The cluster goes on inside.
    ///
    /// # Errors
    /// When the link is not there.
    pub fn cut_link(&self) -> Result<()> {
        self.cut(Direction::Both)
    }

    /// Cuts the link to the wide-area network in one direction, or both.
    ///
    /// # Errors
    /// When the link is not there.
    pub fn cut(&self, direction: Direction) -> Result<()> {
        partition::cut(&self.name, direction)
    }

    /// Restores the link to the wide-area network, however it was cut.
    ///
    /// # Errors
    /// When the link is not there.
    pub fn restore_link(&self) -> Result<()> {
        partition::restore(&self.name)
    }

    /// Kills every process of the cluster at once with SIGKILL, pods included, as a fire would.
    ///
    /// # Errors
    /// When a process does not vanish.
    pub fn kill(&self) -> Result<()> {
        self.group.kill()
    }

    /// Kills the process of one component, such as `kube-apiserver`, with SIGKILL.
    ///
    /// # Errors
    /// When the kernel refuses. A component that does not run is no error.
    pub fn kill_component(&self, name: &str) -> Result<()> {
        let Some(process) = recorded::running(&self.folder, name) else {
            return Ok(());
        };
        process.signal(Signal::SIGKILL)?;
        wait::until(&format!("end of {name}"), Duration::from_secs(10), || {
            Ok(if process.alive() {
                Probe::Pending("it runs".to_owned())
            } else {
                Probe::Done(())
            })
        })
    }

    /// Kills everything of the node at once with SIGKILL, pods included; the control plane goes on.
    ///
    /// # Errors
    /// When a process does not vanish.
    pub fn kill_node(&self) -> Result<()> {
        self.node_group().kill()?;
        // Where the kubelet's groups are in the unified hierarchy, containers leave the one that they inherit.
        self.group.below("kubepods").kill()
    }

    /// Brings a killed node back and waits until the API server calls it ready.
    ///
    /// # Errors
    /// When a process of it ends.
    pub fn restart_node(&self, images: &[Image]) -> Result<()> {
        let node = self.node();
        self.kill_node()?;
        node.start_runtime(images)?;
        node.start_kubelet()?;
        node.await_ready()
    }

    /// Stops the process of one component where it is: its connections stay open and silent.
    ///
    /// # Errors
    /// When it does not run, or the kernel refuses.
    pub fn hang_component(&self, name: &str) -> Result<()> {
        recorded::check(&self.folder, name)?.signal(Signal::SIGSTOP)
    }

    /// Lets the process of a component go on that hangs.
    ///
    /// # Errors
    /// When the kernel refuses. A component that does not run, or does not hang, is no error.
    pub fn resume_component(&self, name: &str) -> Result<()> {
        recorded::running(&self.folder, name)
            .map_or(Ok(()), |process| process.signal(Signal::SIGCONT))
    }

    /// Starts the API server again when it was killed, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn restart_api_server(&self) -> Result<()> {
        if recorded::running(&self.folder, API_SERVER).is_none() {
            self.run(&self.spec.apiserver(self.kubernetes()), Mounts::Shared)?;
        }
        self.await_api()
    }

    /// Stops every process of the cluster where it is, pods included; connections stay open and silent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pause(&self) -> Result<()> {
        self.group.freeze(true)
    }

    /// Lets a paused cluster go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn resume(&self) -> Result<()> {
        self.group.freeze(false)
    }

    /// Brings a killed cluster back with the data it had.
    ///
    /// # Errors
    /// When a component ends or is not ready in time.
    pub fn restart(&self, images: &[Image]) -> Result<()> {
        self.kill()?;
        self.start(images, Progress::quiet())
    }

    /// Whether any process of the cluster runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.group.populated().unwrap_or(false)
    }

    /// Makes certificates and configurations; starts nothing.
    pub(crate) fn prepare(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("create {}", self.folder.display()))?;
        let authority = self.spec.prepare()?;
        self.node().prepare(&authority)
    }

    /// Starts all components of a prepared cluster and waits until its API and its node are ready.
    pub(crate) fn start(&self, images: &[Image], progress: Progress) -> Result<()> {
        self.start_control_plane(images, progress)?;
        self.start_node(progress)
    }

    /// Starts the control plane, and the node's container runtime beside it, and waits until the API is ready.
    pub(crate) fn start_control_plane(&self, images: &[Image], progress: Progress) -> Result<()> {
        let (kubernetes, context) = (self.kubernetes(), || format!("cluster {}", self.name));
        for component in [self.spec.etcd(kubernetes), self.spec.apiserver(kubernetes)] {
            self.run(&component, Mounts::Shared).with_context(context)?;
        }
        self.node().start_runtime(images).with_context(context)?;
        self.await_api().with_context(context)?;
        progress.say(&self.name, "API server ready");
        for component in [
            self.spec.controller_manager(kubernetes),
            self.spec.scheduler(kubernetes),
        ] {
            self.run(&component, Mounts::Shared).with_context(context)?;
        }
        Ok(())
    }

    /// Starts the rest of the node, and waits until it is ready.
    pub(crate) fn start_node(&self, progress: Progress) -> Result<()> {
        let (node, context) = (self.node(), || format!("cluster {}", self.name));
        node.start_kubelet().with_context(context)?;
        node.await_ready().with_context(context)?;
        progress.say(&self.name, &format!("node {} ready", node.name()));
        Ok(())
    }

    fn await_api(&self) -> Result<()> {
        let client = self.client()?;
        wait::until("API server ready", READY_WITHIN, || {
            for process in ["etcd", API_SERVER] {
                recorded::check(&self.folder, process)?;
            }
            Ok(client.ready())
        })
        .with_context(|| last_lines(&self.folder.join("kube-apiserver.log")))
    }

    pub(crate) fn control_plane(&self) -> &ControlPlaneSpec {
        &self.spec
    }

    pub(crate) fn kubernetes(&self) -> &Path {
        &self.tools.kubernetes
    }

    pub(crate) fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Runs a component of the control plane in the cluster's namespace and control group.
    pub(crate) fn run(&self, component: &Component, mounts: Mounts) -> Result<ProcessId> {
        self.run_in(self.group.below("system"), component, mounts)
    }

    /// Runs a component of the node, in a group of its own that containers inherit.
    pub(crate) fn run_on_node(&self, component: &Component, mounts: Mounts) -> Result<ProcessId> {
        self.run_in(self.node_group(), component, mounts)
    }

    fn node_group(&self) -> Group {
        self.group.below("node")
    }

    fn run_in(&self, group: Group, component: &Component, mounts: Mounts) -> Result<ProcessId> {
        group.create()?;
        let placement = Placement {
            group,
            network: Some(network::namespace(&self.name)),
            mounts,
        };
        let id = recorded::start(component, &placement, &self.folder)?;
        let name = format!("{}/{}", self.name, component.name);
        Journal::of_this_machine().add(&Entry::Process { name, id })?;
        Ok(id)
    }
}
