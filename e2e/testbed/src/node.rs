//! One real node of a cluster: containerd, kubelet and kube-proxy.
//!
//! A node has a mount namespace of its own in which `/run`, `/var/lib` and `/var/log` are folders of the node: the
//! kubelet and containerd keep sockets and state at fixed places there, so two nodes on one machine need it; and
//! every mount they make vanishes with their last process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::cgroup::{self, Hierarchies};
use crate::cluster::Cluster;
use crate::command::run;
use crate::images::{Image, PAUSE};
use crate::pki::Authority;
use crate::process::Component;
use crate::process::recorded::{self, Mounts, ProcessId};
use crate::wait::{self, Probe};

const SOCKET: &str = "/run/containerd/containerd.sock";
const CONTAINERD_WITHIN: Duration = Duration::from_secs(60);
const READY_WITHIN: Duration = Duration::from_secs(120);
/// Where Debian's package containernetworking-plugins puts them.
pub const CNI_PLUGINS: &str = "/usr/lib/cni";

/// A node of a cluster; named after its cluster, so that an application can tell where it runs.
pub struct Node<'a> {
    cluster: &'a Cluster,
    folder: PathBuf,
}

impl<'a> Node<'a> {
    /// The node of a cluster, running or not.
    #[must_use]
    pub fn of(cluster: &'a Cluster) -> Self {
        Self {
            folder: cluster.folder().join("node"),
            cluster,
        }
    }

    /// The node's name: `<cluster>-1`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-1", self.cluster.name())
    }

    /// Below this the kubelet puts the groups of all pods.
    fn control_group(&self) -> String {
        format!("{}/{}", cgroup::ROOT, self.cluster.name())
    }

    /// Writes the node's configuration and makes its credentials.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn prepare(&self, authority: &Authority) -> Result<()> {
        create(&self.folder.join("cni"))?;
        write(
            &self.folder.join("containerd.toml"),
            &self.containerd_configuration(),
        )?;
        write(
            &self.folder.join("cni/10-pods.conflist"),
            &self.network_configuration().to_string(),
        )?;
        write(
            &self.folder.join("kubelet.yaml"),
            &serde_yaml::to_string(&self.kubelet_configuration())?,
        )?;
        let (spec, name) = (self.cluster.control_plane(), self.name());
        authority.server("kubelet", &[&name], &[spec.address.into()])?;
        let file = self.folder.join("kubelet.kubeconfig");
        spec.write_kubeconfig(
            authority,
            &file,
            &format!("system:node:{name}"),
            &["system:nodes"],
        )?;
        spec.write_kubeconfig(
            authority,
            &self.folder.join("kube-proxy.kubeconfig"),
            "system:kube-proxy",
            &[],
        )
    }

    /// Starts containerd and gives it the images. Needs no API server.
    ///
    /// # Errors
    /// When containerd ends or does not answer in time, or an image cannot be imported.
    pub fn start_runtime(&self, images: &[Image]) -> Result<()> {
        let hierarchies = Hierarchies::mounted()?;
        // As after a reboot: groups of dead pods are gone, or the kubelet waits for each of their containers in turn; and
        // what a dead containerd left in /run says nothing about now.
        hierarchies.remove(&format!("{}/kubepods", self.control_group()))?;
        hierarchies.create_everywhere(&self.control_group())?;
        let _ = fs::remove_dir_all(self.folder.join("run"));
        for folder in ["run/netns", "lib", "log"] {
            create(&self.folder.join(folder))?;
        }
        let configuration = self.folder.join("containerd.toml");
        let containerd =
            Component::new("containerd", Path::new("containerd")).path("config", &configuration);
        let binds = [("run", "/run"), ("lib", "/var/lib"), ("log", "/var/log")];
        let binds = binds.map(|(folder, over)| (self.folder.join(folder), PathBuf::from(over)));
        self.cluster
            .run_on_node(&containerd, Mounts::Private(binds.to_vec()))?;
        let socket = self.folder.join("run/containerd/containerd.sock");
        wait::until(
            &format!("containerd of {}", self.name()),
            CONTAINERD_WITHIN,
            || {
                self.runtime()?;
                // A socket that nobody answers yet still fails the import, so ask, but only once it is there.
                if socket.exists() && self.ctr(&["version"]).is_ok() {
                    return Ok(Probe::Done(()));
                }
                Ok(Probe::Pending("does not answer yet".to_owned()))
            },
        )?;
        images.iter().try_for_each(|image| self.import(image))
    }

    /// Gives an image to the node.
    ///
    /// # Errors
    /// When containerd refuses it.
    pub fn import(&self, image: &Image) -> Result<()> {
        self.ctr(&["images", "import", &image.archive.display().to_string()])
            .with_context(|| format!("import {} into {}", image.reference, self.name()))?;
        Ok(())
    }

    /// Where the kubelet puts the logs of pods.
    #[must_use]
    pub fn pod_logs(&self) -> PathBuf {
        self.folder.join("log/pods")
    }

    /// Whether the node has an image.
    ///
    /// # Errors
    /// When containerd does not run.
    pub fn has(&self, image: &Image) -> Result<bool> {
        let images = self.ctr(&["images", "list", "--quiet"])?;
        Ok(images.lines().any(|found| found == image.reference))
    }

    /// The process of a container that runs on the node.
    ///
    /// # Errors
    /// When there is none.
    pub fn process_of(&self, container: &str) -> Result<ProcessId> {
        let tasks = self.ctr(&["tasks", "list"])?;
        let of_it = |line: &str| -> Option<i32> {
            let mut words = line.split_whitespace();
            (words.next() == Some(container)).then(|| words.next()?.parse().ok())?
        };
        let process = tasks.lines().find_map(of_it).and_then(ProcessId::of);
        process.with_context(|| format!("container {container} does not run on {}", self.name()))
    }

    /// Runs containerd's client on the node.
    ///
    /// # Errors
    /// When containerd does not run or the client fails.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.runtime()?.pid);
        let mut words = vec![mounts.as_str(), "ctr", "--namespace", "k8s.io"];
        words.extend(arguments);
        run("nsenter", &words)
    }

    fn runtime(&self) -> Result<ProcessId> {
        recorded::check(self.cluster.folder(), "containerd")
    }

    /// Starts kubelet and kube-proxy; the API server must be ready.
    ///
    /// # Errors
    /// When a process cannot be started.
    pub fn start_kubelet(&self) -> Result<()> {
        let (kubernetes, name) = (self.cluster.kubernetes(), self.name());
        let kubelet = Component::new("kubelet", kubernetes)
            .argument("kubelet")
            .path("config", &self.folder.join("kubelet.yaml"))
            .path("kubeconfig", &self.folder.join("kubelet.kubeconfig"))
            .flag("hostname-override", &name)
            .flag("node-ip", self.cluster.control_plane().address);
        self.cluster
            .run_on_node(&kubelet, Mounts::Of(self.runtime()?))?;
        let proxy = Component::new("kube-proxy", kubernetes)
            .argument("kube-proxy")
            .path("kubeconfig", &self.folder.join("kube-proxy.kubeconfig"))
            .flag("hostname-override", &name)
            .flag("proxy-mode", "nftables")
            .flag("cluster-cidr", self.cluster.pods())
            .flag("conntrack-max-per-core", 0);
        self.cluster
            .run_on_node(&proxy, Mounts::Of(self.runtime()?))?;
        Ok(())
    }

    /// Waits until the API server calls the node Ready.
    ///
    /// # Errors
    /// When a process of the node ends, or the time is over.
    pub fn await_ready(&self) -> Result<()> {
        let (client, path) = (
            self.cluster.client()?,
            format!("/api/v1/nodes/{}", self.name()),
        );
        wait::until(&format!("node {} Ready", self.name()), READY_WITHIN, || {
            for process in ["containerd", "kubelet", "kube-proxy"] {
                recorded::check(self.cluster.folder(), process)?;
            }
            Ok(client.condition(&path, "Ready"))
        })
    }

    fn containerd_configuration(&self) -> String {
        // restrict_oom_score_adj: where root lacks CAP_SYS_RESOURCE, sandboxes cannot lower their score and die.
        format!(
            r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PLUGINS}"
conf_dir = "{}"
"#,
            self.folder.join("cni").display()
        )
    }

    fn network_configuration(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "pods",
                "isDefaultGateway": true,
                "hairpinMode": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": self.cluster.pods() }]] },
            }],
        })
    }

    fn kubelet_configuration(&self) -> Value {
        let certificates = self.cluster.control_plane().certificates();
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
            "address": self.cluster.control_plane().address.to_string(),
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": certificates.join("ca.crt") },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": certificates.join("kubelet.crt"),
            "tlsPrivateKeyFile": certificates.join("kubelet.key"),
            "clusterDomain": "cluster.local",
            "failSwapOn": false,
            // Machines with control groups of version 1, and without privileges over all of them, are welcome.
            "failCgroupV1": false,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.control_group()),
            "cgroupsPerQOS": true,
            "enforceNodeAllocatable": [],
            "localStorageCapacityIsolation": false,
            // The disk is the machine's: a full one must not make nodes evict pods in the middle of a test.
            "evictionHard": { "memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%", "nodefs.inodesFree": "0%" },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "shutdownGracePeriod": "0s",
            // A container's log is one file, for whoever follows it.
            "containerLogMaxSize": "1Gi",
        })
    }
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

fn write(file: &Path, content: &str) -> Result<()> {
    fs::write(file, content).with_context(|| format!("write {}", file.display()))
}
