//! A hub with the Gateway API and Contour, and what tests ask of it.

use flambeau_crds::{APPLICATION_LABEL, CLUSTER_LABEL};
use flambeau_operator::{
    declared::{Declared, DeclaredTraffic},
    dirty::Dirty,
    edge::{Edge, EdgeSettings, EndpointAddress, GatewayEdge},
};
use flambeau_planner::model::{ApplicationKey, Name};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    process::{Component, bound::BoundProcess},
    upstream::Tools,
    wait::{self, Probe},
};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use prometheus_client::registry::Registry;
use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

/// Generous: the machine may compile at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

const GATEWAY: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: edge}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: contour}
spec: {controllerName: projectcontour.io/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: edge}
spec:
  gatewayClassName: contour
  listeners:
    - {name: http, protocol: HTTP, port: 80, allowedRoutes: {namespaces: {from: All}}}
";

/// A hub; everything ends with it.
pub struct Hub {
    processes: Vec<BoundProcess>,
    pub plane: ControlPlane,
    folder: PathBuf,
    /// Port of the proxy's statistics, once the edge runs.
    pub stats_port: u16,
    xds_port: u16,
    contour: u32,
}

impl Hub {
    /// An API server alone.
    pub fn bare(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("edge")
            .join(name);
        let plane = ControlPlane::start(&folder, &Options::default()).unwrap();
        Self {
            processes: Vec::new(),
            plane,
            folder,
            stats_port: 0,
            xds_port: 0,
            contour: 0,
        }
    }

    /// An API server with the Gateway API and Contour.
    pub fn with_contour(name: &str) -> Self {
        let mut hub = Self::bare(name);
        hub.install_gateway_api();
        hub.start_contour();
        hub
    }

    pub fn install_gateway_api(&self) {
        let crds = Tools::built().unwrap().contour_crds.display().to_string();
        let kubectl = |arguments: &[&str]| self.plane.kubectl(arguments).unwrap();
        kubectl(&["apply", "--server-side", "-f", &crds]);
        kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "crd",
            "--all",
        ]);
        self.create(GATEWAY);
    }

    fn start_contour(&mut self) {
        let [xds, health, http, stats, debug] = free_ports();
        let configuration = self.folder.join("contour.yaml");
        let settings = serde_json::json!({
            "gateway": {"gatewayRef": {"namespace": "edge", "name": "edge"}},
        });
        fs::write(&configuration, settings.to_string()).unwrap();
        let contour = Component::new("contour", &Tools::built().unwrap().contour)
            .argument("serve")
            .path("config-path", &configuration)
            .path("kubeconfig", self.plane.kubeconfig())
            .argument("--insecure")
            .argument("--disable-leader-election")
            .flag("xds-address", Ipv4Addr::LOCALHOST)
            .flag("xds-port", xds)
            .flag("health-address", Ipv4Addr::LOCALHOST)
            .flag("health-port", health)
            .flag("http-address", Ipv4Addr::LOCALHOST)
            .flag("http-port", http)
            .flag("stats-address", Ipv4Addr::LOCALHOST)
            .flag("stats-port", stats)
            // Several may run at the same time.
            .flag("debug-http-port", debug)
            .flag("ingress-status-address", Ipv4Addr::LOCALHOST);
        self.start(&contour);
        self.contour = self.processes[0].id();
        (self.stats_port, self.xds_port) = (stats, xds);
        let gateway = "/apis/gateway.networking.k8s.io/v1/namespaces/edge/gateways/edge";
        self.until("Contour programs the gateway", |hub| {
            hub.plane.client().condition(gateway, "Programmed")
        });
    }

    /// Starts Envoy, which serves the gateway's port 80 at 8080.
    pub fn start_envoy(&mut self) {
        let bootstrap = self.folder.join("envoy.json");
        let tools = Tools::built().unwrap();
        let written = std::process::Command::new(&tools.contour)
            .arg("bootstrap")
            .arg(&bootstrap)
            .args([
                "--admin-address=envoy-admin.sock",
                "--xds-address=127.0.0.1",
            ])
            .arg(format!("--xds-port={}", self.xds_port))
            .status();
        assert!(
            written.unwrap().success(),
            "contour writes Envoy's bootstrap"
        );
        let mut envoy = Component::new("envoy", &tools.envoy).argument("--disable-hot-restart");
        let flags = ["--config-path", "envoy.json", "--service-cluster", "edge"];
        let more = ["--service-node", "edge", "--log-level", "warn"];
        envoy
            .arguments
            .extend(flags.iter().chain(&more).map(|flag| (*flag).to_owned()));
        self.start(&envoy);
        let stats = self.stats_url();
        self.until("Envoy answers", |_| flambeau_testbed::api::answers(&stats));
    }

    /// Contour does nothing while something else is done.
    pub async fn while_contour_sleeps<T>(&self, doing: impl Future<Output = T>) -> T {
        let signal = |signal: &str| {
            let arguments = [signal.to_owned(), self.contour.to_string()];
            let status = std::process::Command::new("kill").args(arguments).status();
            assert!(status.unwrap().success());
        };
        signal("-STOP");
        let done = doing.await;
        signal("-CONT");
        done
    }

    pub fn stats_url(&self) -> String {
        format!("http://127.0.0.1:{}/stats/prometheus", self.stats_port)
    }

    fn start(&mut self, component: &Component) {
        // Clients before servers when dropped.
        self.processes
            .insert(0, BoundProcess::start(component, &self.folder).unwrap());
    }

    fn until(&mut self, what: &str, probe: impl Fn(&Self) -> Probe<()>) {
        let checked = |hub: &mut Self| hub.processes.iter_mut().try_for_each(BoundProcess::check);
        wait::until(what, PATIENCE, || {
            checked(self)?;
            Ok(probe(self))
        })
        .unwrap();
    }

    /// Creates what a manifest says.
    pub fn create(&self, manifest: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), manifest).unwrap();
        self.plane
            .kubectl(&["create", "-f", &file.path().display().to_string()])
            .unwrap();
    }

    /// One field of an object, by JSONPath.
    pub fn field(&self, namespace: &str, object: &str, path: &str) -> String {
        let output = format!("jsonpath={path}");
        let arguments = [
            "get",
            "-n",
            namespace,
            object,
            "--ignore-not-found",
            "-o",
            &output,
        ];
        self.plane.kubectl(&arguments).unwrap()
    }

    /// The one object of a kind that stands for an application on a cluster, as
    /// kubectl names it; empty when there is none.
    pub fn backend(&self, kind: &str, application: &str, cluster: &str) -> String {
        let labels = format!("{APPLICATION_LABEL}={application},{CLUSTER_LABEL}={cluster}");
        let arguments = ["get", kind, "-n", "games", "-o", "name", "-l", &labels];
        let names = self.plane.kubectl(&arguments).unwrap();
        let name = names.trim();
        assert!(!name.contains('\n'), "one {kind} at the most: {name}");
        name.to_owned()
    }

    pub async fn client(&self) -> Client {
        let kubeconfig = Kubeconfig::read_from(self.plane.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .unwrap();
        Client::try_from(config).unwrap()
    }

    /// The edge as the operator would start it.
    pub async fn edge(&self, stats_url: Option<String>) -> Watched {
        let dirty = Dirty::default();
        let settings = EdgeSettings {
            gateway_namespace: "edge".to_owned(),
            gateway_name: "edge".to_owned(),
            stats_url,
        };
        let edge = GatewayEdge::new(self.client().await, dirty.clone(), settings);
        Watched { edge, dirty }
    }
}

/// An edge with the signal that says when it changed.
pub struct Watched {
    pub edge: GatewayEdge,
    pub dirty: Dirty,
}

impl Watched {
    /// Waits until something holds, looking again whenever the edge says
    /// that something changed.
    pub async fn until(&self, what: &str, holds: impl Fn(&GatewayEdge) -> bool) {
        let waiting = async {
            while !holds(&self.edge) {
                self.dirty.wait().await;
            }
        };
        let over = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(over.is_ok(), "{what}: not within {} s", PATIENCE.as_secs());
    }

    pub async fn synced(self) -> Self {
        self.until("the edge is read", Edge::synced).await;
        self
    }

    /// Requests that wrote something so far.
    pub fn writes(&self) -> u64 {
        let mut registry = Registry::default();
        self.edge.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let counts = text
            .lines()
            .filter(|line| line.starts_with("edge_writes_total"));
        counts
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// An application in a namespace of its own.
pub fn application(hub: &Hub, namespace: &str, name: &str, hostname: &str) -> Declared {
    // Two applications may share one.
    let _ = hub.plane.kubectl(&["create", "namespace", namespace]);
    Declared {
        key: ApplicationKey {
            namespace: namespace.into(),
            name: name.into(),
        },
        uid: format!("uid-of-{name}"),
        created: None,
        objects: Vec::new(),
        traffic: Some(DeclaredTraffic {
            hostnames: vec![hostname.to_owned()],
            service: name.into(),
            port: 80,
        }),
    }
}

pub fn weights<const N: usize>(weights: [(&str, u8); N]) -> BTreeMap<Name, u8> {
    weights
        .map(|(cluster, weight)| (cluster.into(), weight))
        .into()
}

/// Endpoints by cluster.
pub type Endpoints = BTreeMap<Name, Vec<EndpointAddress>>;

pub fn endpoints<const N: usize>(endpoints: [(&str, Vec<EndpointAddress>); N]) -> Endpoints {
    endpoints
        .map(|(cluster, endpoints)| (cluster.into(), endpoints))
        .into()
}

pub fn ready(ip: [u8; 4], port: u16) -> EndpointAddress {
    let ip = IpAddr::from(ip);
    EndpointAddress {
        ip,
        port,
        ready: true,
        serving: true,
        terminating: false,
    }
}

/// Runs a test's async part.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All are held while the next is chosen, so that they differ.
    let held: Vec<_> = (0..N)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)).unwrap())
        .collect();
    std::array::from_fn(|index| held[index].local_addr().unwrap().port())
}
