//! The verb `run`: puts the operator together, and ends it in order.

use anyhow::Context;
use clap::{ArgAction, Args};
use flambeau_operator::{
    act::HubWrites,
    dirty::Dirty,
    edge::{EdgeSettings, GatewayEdge},
    engine::Engine,
    hub::Hub,
    leader::{
        Candidacy, EXIT_CODE_LOST, LeaseSettings, Lost, Timing, default_identity, default_namespace,
    },
    members::{MemberSettings, Members},
    metrics::{self, Metrics},
    progress::Signals,
    requests::HubRequests,
    server,
    traces::Traces,
    transport,
};
use flambeau_planner::model::Settings;
use jiff::SignedDuration;
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::{net::SocketAddr, path::PathBuf};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// What an unusable kubeconfig is called.
pub(crate) const UNUSABLE: &str = "the hub's kubeconfig cannot be used";

/// What `run` is told.
#[derive(Debug, Args)]
pub struct Run {
    /// Kubeconfig of the hub; inside a pod, the pod's own account is used
    /// without it.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Gateway that routes are attached to, as NAMESPACE/NAME.
    #[arg(long, default_value = "flambeau-system/edge")]
    gateway: String,
    /// Where Envoy serves its statistics in the Prometheus format; without
    /// it, open requests are not known and every drain takes its full time.
    #[arg(long)]
    envoy_stats_url: Option<String>,
    /// Address on which health and metrics are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// How many moves may be under way at once in the whole fleet.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_moves: u16,
    /// How many failovers may write their targets at once in the whole fleet;
    /// those that wait for workloads to get ready do not count.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    concurrent_failovers: u16,
    /// Members that stop answering within this many seconds of each other vanish
    /// together: when more than half do, nothing moves by itself.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(i64).range(1..=3600))]
    hub_window_seconds: i64,
    /// Seconds for which a target is avoided after a failed move; doubles
    /// with each further one, up to 10 minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=600))]
    retry_backoff_seconds: i64,
    #[command(flatten)]
    election: ElectionOptions,
    /// Base URL of a collector that takes OTLP over HTTP, such as
    /// http://collector.monitoring:4318: it gets a trace of each move. None
    /// gets any without it.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,
    /// Log as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Leader election")]
struct ElectionOptions {
    /// Write only while holding a Lease on the hub, so that several replicas
    /// may run. Without it, never run two.
    #[arg(
        long,
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    leader_election: bool,
    /// Namespace of the Lease; it must exist. Default: that of the pod, and
    /// flambeau-system outside of a pod.
    #[arg(long)]
    leader_election_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, default_value = "flambeau-operator")]
    leader_election_id: String,
    /// Name of this replica in the Lease. Default: the host's name and a
    /// random number, so that a replica that died must be waited for.
    ///
    /// A replica that finds its own name in the Lease takes it over at once:
    /// name it where a new process starts only after the one before it is
    /// dead, as in a StatefulSet. Never give two live replicas one name: each
    /// would end the other.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    identity: Option<String>,
    /// Seconds for which others leave the Lease alone after a renewal. The
    /// holder renews it every 0.15 of this, and ends itself when that did not
    /// succeed for 0.6 of it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=300))]
    lease_seconds: u16,
}

impl ElectionOptions {
    fn settings(self) -> Option<LeaseSettings> {
        self.leader_election.then(|| LeaseSettings {
            namespace: self
                .leader_election_namespace
                .unwrap_or_else(default_namespace),
            name: self.leader_election_id,
            identity: self.identity.unwrap_or_else(default_identity),
            timing: Timing::of_seconds(self.lease_seconds),
        })
    }
}

/// At once, without a word to anybody but the log: another process may have
/// begun.
fn end_process(lost: &Lost) -> ! {
    tracing::error!("ends: {lost}");
    std::process::exit(EXIT_CODE_LOST)
}

/// Runs the operator until it is asked to stop.
///
/// # Errors
/// When it cannot start, or a part of it ends by itself. Losing leadership
/// ends the process instead, with [`EXIT_CODE_LOST`].
#[tokio::main(worker_threads = 2)]
pub async fn run(run: Run) -> anyhow::Result<()> {
    log(run.log_json);
    let (gateway_namespace, gateway_name) = run
        .gateway
        .split_once('/')
        .context("--gateway: must be NAMESPACE/NAME")?;
    let edge_settings = EdgeSettings {
        gateway_namespace: gateway_namespace.to_owned(),
        gateway_name: gateway_name.to_owned(),
        stats_url: run.envoy_stats_url,
    };
    let settings = Settings {
        concurrent_moves: usize::from(run.concurrent_moves),
        concurrent_failovers: usize::from(run.concurrent_failovers),
        hub_window: SignedDuration::from_secs(run.hub_window_seconds),
        retry_backoff: SignedDuration::from_secs(run.retry_backoff_seconds),
        ..Settings::default()
    };
    let collector = run.otlp_endpoint.filter(|endpoint| !endpoint.is_empty());
    let traces = collector.map_or(Ok(Traces::default()), |url| Traces::to(&url));
    let traces = traces.context("--otlp-endpoint")?;
    let config = config(run.kubeconfig).await?;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let requests = HubRequests::default();
    let mut candidacy =
        Candidacy::begin(&config, run.election.settings(), &requests).context(UNUSABLE)?;
    let leadership = candidacy.leadership();
    let client = transport::counted_client(&config, &leadership, &requests).context(UNUSABLE)?;
    let (hub, dirty) = (Hub::new(client), Dirty::default());
    let members = Members::new(dirty.clone(), MemberSettings::default(), leadership.clone());
    let edge = GatewayEdge::new(hub.client.clone(), dirty.clone(), edge_settings);
    let writes = HubWrites::default();
    let signals = Signals {
        metrics: Metrics::default(),
        traces: traces.clone(),
    };
    let metrics = &signals.metrics;
    let registry = metrics::registry(leadership, metrics, &requests, &writes, &members, &edge);

    let (stopper, stop) = watch::channel(false);
    let mut watches = hub.watch(&members, &dirty);
    let serving = server::serve(run.listen, hub.clone(), registry, stop.clone());
    let mut serving = tokio::spawn(serving);
    let engine = Engine::new(hub, members, edge, settings, dirty, writes, signals);
    let mut engine = tokio::spawn(engine.run(candidacy.leading(), stop));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    tokio::select! {
        () = asked_to_stop(&mut terminate, &mut interrupt) => {}
        // None of these ends by itself: without one of them the operator
        // would be blind or mute, so it ends and is started afresh.
        lost = candidacy.lost() => end_process(&lost),
        ended = watches.join_next() => anyhow::bail!("a watch on the hub ended: {ended:?}"),
        ended = &mut serving => {
            ended.context("the health server ended")?.with_context(|| format!("cannot serve on {}", run.listen))?;
        }
        ended = &mut engine => return ended.context("the engine ended"),
    }
    stopper.send(true).ok();
    // The Lease is held until work under way has ended.
    tokio::select! {
        ended = engine => ended.context("the engine ended badly")?,
        lost = candidacy.lost() => end_process(&lost),
    }
    if let Err(lost) = candidacy.release().await {
        end_process(&lost);
    }
    watches.shutdown().await;
    traces.end().await;
    tracing::info!("stopped");
    Ok(())
}

async fn asked_to_stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The client of the hub writes out whole answers that it cannot read: Secrets
/// and applications among them. So it says nothing, whatever RUST_LOG asks for;
/// what went wrong is told by whoever asked.
const QUIET: &str = "kube_client::client=off";

/// A filter that lets nothing pass which could hold a Secret.
fn discreet(filter: EnvFilter) -> EnvFilter {
    QUIET
        .parse()
        .into_iter()
        .fold(filter, EnvFilter::add_directive)
}

fn log(json: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(discreet(filter))
        .with_writer(std::io::stderr);
    if json {
        subscriber.json().init()
    } else {
        subscriber.init()
    }
}

/// The hub's address and credentials: from a file, or those of the pod.
///
/// # Errors
/// When there are none, or they cannot be read.
pub(crate) async fn config(kubeconfig: Option<PathBuf>) -> anyhow::Result<Config> {
    match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(&path)
                .with_context(|| format!("--kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("--kubeconfig {}", path.display()))
        }
        None => Config::infer()
            .await
            .context("no kubeconfig is given and this is not a pod: use --kubeconfig"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn answers_that_cannot_be_read_are_not_logged_whatever_is_asked_for() {
        for asked in [
            "trace",
            "kube_client=trace",
            "kube_client::client=trace,info",
        ] {
            let written = Written::default();
            let writer = written.clone();
            let subscriber = tracing_subscriber::fmt()
                .with_env_filter(discreet(EnvFilter::new(asked)))
                .with_writer(move || writer.clone())
                .finish();
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(target: "kube_client::client", "sesame");
                tracing::error!("the hub cannot be asked");
            });
            let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(!written.contains("sesame"), "{asked}: {written}");
        }
    }
}
