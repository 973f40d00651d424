//! Control planes: the command lines of etcd and the Kubernetes components, and the light control plane.

mod light;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

pub use light::{ControlPlane, Options, refused_too_early};

use crate::pki::{self, Authority};
use crate::process::Component;

/// The group whose members may do everything.
const ADMINISTRATORS: &str = "system:masters";

/// The ports a control plane listens on.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// etcd's client port, on loopback.
    pub etcd: u16,
    /// etcd's peer port, on loopback.
    pub etcd_peer: u16,
    /// The API server's port.
    pub apiserver: u16,
    /// The controller manager's port, on loopback.
    pub controller_manager: u16,
    /// The scheduler's port, on loopback.
    pub scheduler: u16,
}

/// One control plane before it runs: what each component is told.
pub struct ControlPlaneSpec {
    /// The cluster's name.
    pub cluster: String,
    /// The folder for data, certificates and kubeconfigs.
    pub folder: PathBuf,
    /// The address clients use and the API server listens on.
    pub address: Ipv4Addr,
    /// The ports of the components.
    pub ports: Ports,
    /// The network of Service addresses, such as `10.96.0.0/16`.
    pub service_network: String,
    /// The first address of `service_network`, which the `kubernetes` Service gets.
    pub service_address: Ipv4Addr,
    /// Whether etcd waits for the disk at every write. Tests do not need it; measurements of durability do.
    pub fsync: bool,
    /// Whether ServiceAccounts are given to pods, which needs a controller manager.
    pub service_accounts: bool,
}

impl ControlPlaneSpec {
    /// The URL of the API server.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://{}:{}", self.address, self.ports.apiserver)
    }

    /// Makes the certificates and the kubeconfigs.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn prepare(&self) -> Result<Authority> {
        let certificates = self.certificates();
        let authority = Authority::create(&format!("{}-ca", self.cluster), &certificates)?;
        let names = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ];
        let addresses = [self.address, self.service_address, Ipv4Addr::LOCALHOST].map(IpAddr::V4);
        authority.server("apiserver", &names, &addresses)?;
        authority.client(
            "apiserver-kubelet-client",
            "kube-apiserver",
            &[ADMINISTRATORS],
        )?;
        pki::service_account_keys(&certificates)?;
        self.write_kubeconfig(&authority, &self.kubeconfig(), "admin", &[ADMINISTRATORS])?;
        for name in ["controller-manager", "scheduler"] {
            let file = self.component_kubeconfig(name);
            self.write_kubeconfig(&authority, &file, &format!("system:kube-{name}"), &[])?;
        }
        Ok(authority)
    }

    /// Writes a kubeconfig for `user`, a member of `groups`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_kubeconfig(
        &self,
        authority: &Authority,
        file: &Path,
        user: &str,
        groups: &[&str],
    ) -> Result<()> {
        let identity = authority.client(&user.replace(':', "-"), user, groups)?;
        authority
            .kubeconfig(file, &self.cluster, &self.server(), &identity)
            .with_context(|| format!("kubeconfig of {user}"))
    }

    /// The file of the administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// The folder of certificates and keys.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("certificates")
    }

    fn component_kubeconfig(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.kubeconfig"))
    }

    /// How etcd is run.
    #[must_use]
    pub fn etcd(&self, kubernetes: &Path) -> Component {
        let client = format!("http://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("http://127.0.0.1:{}", self.ports.etcd_peer);
        let component = Component::new("etcd", kubernetes)
            .argument("etcd")
            .flag("name", &self.cluster)
            .path("data-dir", &self.folder.join("etcd"))
            .flag("listen-client-urls", &client)
            .flag("advertise-client-urls", &client)
            .flag("listen-peer-urls", &peer)
            .flag("initial-advertise-peer-urls", &peer)
            .flag("initial-cluster", format!("{}={peer}", self.cluster))
            // A single member elects itself at its first election timeout: a short one starts faster.
            .flag("heartbeat-interval", 50)
            .flag("election-timeout", 500)
            .flag("log-level", "warn");
        if self.fsync {
            component
        } else {
            component.argument("--unsafe-no-fsync")
        }
    }

    /// How the API server is run.
    #[must_use]
    pub fn apiserver(&self, kubernetes: &Path) -> Component {
        let certificates = self.certificates();
        let component = Component::new("kube-apiserver", kubernetes)
            .argument("kube-apiserver")
            .flag(
                "etcd-servers",
                format!("http://127.0.0.1:{}", self.ports.etcd),
            )
            .flag("bind-address", self.address)
            .flag("advertise-address", self.address)
            .flag("secure-port", self.ports.apiserver)
            .path("client-ca-file", &certificates.join("ca.crt"))
            .path("tls-cert-file", &certificates.join("apiserver.crt"))
            .path("tls-private-key-file", &certificates.join("apiserver.key"))
            .path(
                "kubelet-certificate-authority",
                &certificates.join("ca.crt"),
            )
            .path(
                "kubelet-client-certificate",
                &certificates.join("apiserver-kubelet-client.crt"),
            )
            .path(
                "kubelet-client-key",
                &certificates.join("apiserver-kubelet-client.key"),
            )
            .flag("kubelet-preferred-address-types", "InternalIP")
            .flag(
                "service-account-issuer",
                "https://kubernetes.default.svc.cluster.local",
            )
            .path(
                "service-account-signing-key-file",
                &certificates.join(pki::SERVICE_ACCOUNT_KEYS.0),
            )
            .path(
                "service-account-key-file",
                &certificates.join(pki::SERVICE_ACCOUNT_KEYS.1),
            )
            .flag("service-cluster-ip-range", &self.service_network)
            .flag("authorization-mode", "Node,RBAC")
            .flag("allow-privileged", true)
            .flag("profiling", false)
            .flag("enable-admission-plugins", "NodeRestriction");
        if self.service_accounts {
            component
        } else {
            component.flag("disable-admission-plugins", "ServiceAccount")
        }
    }

    /// How the controller manager is run.
    #[must_use]
    pub fn controller_manager(&self, kubernetes: &Path) -> Component {
        let certificates = self.certificates();
        Component::new("kube-controller-manager", kubernetes)
            .argument("kube-controller-manager")
            .path(
                "kubeconfig",
                &self.component_kubeconfig("controller-manager"),
            )
            .path("root-ca-file", &certificates.join("ca.crt"))
            .path(
                "service-account-private-key-file",
                &certificates.join(pki::SERVICE_ACCOUNT_KEYS.0),
            )
            .flag("use-service-account-credentials", true)
            .flag("bind-address", "127.0.0.1")
            .flag("secure-port", self.ports.controller_manager)
            .flag("leader-elect", false)
            .flag("profiling", false)
    }

    /// How the scheduler is run.
    #[must_use]
    pub fn scheduler(&self, kubernetes: &Path) -> Component {
        Component::new("kube-scheduler", kubernetes)
            .argument("kube-scheduler")
            .path("kubeconfig", &self.component_kubeconfig("scheduler"))
            .flag("bind-address", "127.0.0.1")
            .flag("secure-port", self.ports.scheduler)
            .flag("leader-elect", false)
            .flag("profiling", false)
    }
}
