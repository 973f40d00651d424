//! The edge: Contour and Envoy in the hub's namespace, under the Gateway API.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::api::answers;
use crate::cluster::Cluster;
use crate::process::Component;
use crate::process::recorded::{self, Mounts};
use crate::progress::Progress;
use crate::wait;

/// The Gateway's listener has port 80, and Contour adds 8000 so that Envoy needs no privileges.
const PORT: u16 = 8080;
const STATS_PORT: u16 = 8002;
const XDS_PORT: u16 = 8001;
const HEALTH_PORT: u16 = 8000;
const METRICS_PORT: u16 = 8003;
const READY_WITHIN: Duration = Duration::from_secs(60);
const GATEWAY: &str = "/apis/gateway.networking.k8s.io/v1/namespaces/flambeau-system/gateways/edge";

/// The Gateway as `namespace/name`.
pub const GATEWAY_NAME: &str = "flambeau-system/edge";

/// Where applications are reached; they are told apart by the Host header.
#[must_use]
pub fn url(hub: Ipv4Addr) -> String {
    format!("http://{hub}:{PORT}")
}

/// Where Envoy shows its statistics in Prometheus' format.
#[must_use]
pub fn stats_url(hub: Ipv4Addr) -> String {
    format!("http://{hub}:{STATS_PORT}/stats/prometheus")
}

/// Installs the edge's kinds and its Gateway on a hub whose API is ready.
///
/// # Errors
/// When an object is refused.
pub fn install(hub: &Cluster, progress: Progress) -> Result<()> {
    let crds = hub.tools().contour_crds.display().to_string();
    hub.kubectl(&[
        "apply",
        "--server-side",
        "--field-manager=testbed",
        "-f",
        &crds,
    ])?;
    hub.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd",
        "--all",
    ])?;
    hub.apply(include_str!("../manifests/edge.yaml"))?;
    progress.say("edge", "kinds and Gateway installed");
    Ok(())
}

/// Waits until the Gateway is programmed and Envoy answers.
///
/// # Errors
/// When a process ends, or the time is over.
pub fn await_ready(hub: &Cluster, progress: Progress) -> Result<()> {
    let (client, address) = (hub.client()?, hub.control_plane().address);
    let healthy = || {
        ["contour", "envoy"]
            .iter()
            .try_for_each(|name| recorded::check(hub.folder(), name).map(drop))
    };
    wait::until("Gateway programmed", READY_WITHIN, || {
        healthy()?;
        Ok(client.condition(GATEWAY, "Programmed"))
    })?;
    wait::until("Envoy answers", READY_WITHIN, || {
        healthy()?;
        Ok(answers(&stats_url(address)))
    })?;
    progress.say(
        "edge",
        &format!("Contour and Envoy ready at {}", url(address)),
    );
    Ok(())
}

/// Starts Contour and Envoy on a hub that knows their kinds.
///
/// # Errors
/// When a file cannot be written or a process cannot be started.
pub fn start_processes(hub: &Cluster) -> Result<()> {
    let tools = hub.tools();
    let configuration = hub.folder().join("contour.yaml");
    let settings = json!({
        "gateway": { "gatewayRef": { "namespace": "flambeau-system", "name": "edge" } },
        // A line per request costs more than the request; errors of servers are worth one.
        "accesslog-level": "critical",
    });
    fs::write(&configuration, settings.to_string())
        .with_context(|| format!("write {}", configuration.display()))?;
    let contour = Component::new("contour", &tools.contour)
        .argument("serve")
        .path("config-path", &configuration)
        .path("kubeconfig", &hub.kubeconfig())
        .argument("--insecure")
        .argument("--disable-leader-election")
        .flag("xds-address", Ipv4Addr::LOCALHOST)
        .flag("xds-port", XDS_PORT)
        .flag("health-address", Ipv4Addr::LOCALHOST)
        .flag("health-port", HEALTH_PORT)
        .flag("http-address", Ipv4Addr::LOCALHOST)
        .flag("http-port", METRICS_PORT)
        .flag("stats-address", Ipv4Addr::UNSPECIFIED)
        .flag("stats-port", STATS_PORT)
        .flag("ingress-status-address", hub.control_plane().address);
    hub.run(&contour, Mounts::Shared)?;

    let bootstrap = hub.folder().join("envoy.json");
    // The socket's path is relative to Envoy's folder: absolute ones soon exceed the 107 bytes a socket may have.
    crate::command::run(
        &tools.contour.display().to_string(),
        &[
            "bootstrap",
            &bootstrap.display().to_string(),
            "--admin-address=envoy-admin.sock",
            &format!("--xds-address={}", Ipv4Addr::LOCALHOST),
            &format!("--xds-port={XDS_PORT}"),
        ],
    )?;
    // Requests of all clusters go through one process here that would have machines of its own; it must not wait for
    // whatever else this machine is busy with.
    let mut envoy = Component::new("envoy", Path::new("nice"))
        .argument("--adjustment=-10")
        .argument(tools.envoy.display().to_string())
        .argument("--disable-hot-restart");
    // Envoy wants a flag and its value apart.
    let flags = [
        "--config-path",
        "envoy.json",
        "--service-cluster",
        "edge",
        "--service-node",
        "edge",
        "--log-level",
        "warn",
    ];
    envoy.arguments.extend(flags.map(str::to_owned));
    hub.run(&envoy, Mounts::Shared)?;
    Ok(())
}
