//! `flambeau-operator run` is the operator; `flambeau-operator plan` is its
//! planner on files.

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use flambeau_operator::{
    act::HubWrites,
    dirty::Dirty,
    edge::{EdgeSettings, GatewayEdge},
    engine::Engine,
    hub::Hub,
    members::{MemberSettings, Members},
    metrics::Metrics,
    offline, server,
};
use flambeau_planner::model::Settings;
use jiff::SignedDuration;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use prometheus_client::registry::Registry;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing_subscriber::EnvFilter;

/// Places applications where the law allows, and moves them without losing a
/// request.
#[derive(Debug, Parser)]
#[command(name = "flambeau-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator against the hub.
    Run(Run),
    /// Say what the operator would do with the manifests in a folder, without
    /// a cluster.
    ///
    /// Exit code 0: nothing to do; 2: moves or violations are pending; 1:
    /// error.
    Plan(offline::Options),
}

#[derive(Debug, Args)]
struct Run {
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
    /// Seconds for which a target is avoided after a failed move; doubles
    /// with each further one, up to 10 minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=600))]
    retry_backoff_seconds: i64,
    /// Log as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; 2 would read as "moves pending".
            let failed = error.use_stderr();
            return match error.print() {
                Ok(()) if !failed => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            };
        }
    };
    let result = match cli.command {
        Command::Run(run) => start(run).map(|()| ExitCode::SUCCESS),
        Command::Plan(options) => offline::plan(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[tokio::main(worker_threads = 2)]
async fn start(run: Run) -> anyhow::Result<()> {
    log(run.log_json);
    let hub = Hub::new(client(run.kubeconfig).await?);
    let dirty = Dirty::default();
    let members = Members::new(dirty.clone(), MemberSettings::default());
    let (gateway_namespace, gateway_name) = run
        .gateway
        .split_once('/')
        .context("--gateway: must be NAMESPACE/NAME")?;
    let edge_settings = EdgeSettings {
        gateway_namespace: gateway_namespace.to_owned(),
        gateway_name: gateway_name.to_owned(),
        stats_url: run.envoy_stats_url,
    };
    let edge = GatewayEdge::new(hub.client.clone(), dirty.clone(), edge_settings);
    let (metrics, writes) = (Metrics::default(), HubWrites::default());
    let mut registry = Registry::with_prefix("flambeau");
    metrics.register(&mut registry);
    writes.register(&mut registry);
    members.register(&mut registry);
    edge.register(&mut registry);

    let (stopper, stop) = watch::channel(false);
    let mut watches = hub.watch(&members, &dirty);
    let mut serving = tokio::spawn(server::serve(
        run.listen,
        hub.clone(),
        registry,
        stop.clone(),
    ));
    let settings = Settings {
        concurrent_moves: usize::from(run.concurrent_moves),
        retry_backoff: SignedDuration::from_secs(run.retry_backoff_seconds),
        ..Settings::default()
    };
    let engine = Engine::new(hub, members, edge, settings, dirty, writes, metrics);
    let mut engine = tokio::spawn(engine.run(stop));
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // None of these ends by itself: without one of them the operator
        // would be blind or mute, so it ends and is started afresh.
        ended = watches.join_next() => anyhow::bail!("a watch on the hub ended: {ended:?}"),
        ended = &mut serving => {
            ended.context("the health server ended")?.with_context(|| format!("cannot serve on {}", run.listen))?;
        }
        ended = &mut engine => return ended.context("the engine ended"),
    }
    stopper.send(true).ok();
    engine.await.context("the engine ended badly")?;
    watches.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

fn log(json: bool) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        subscriber.json().init()
    } else {
        subscriber.init()
    }
}

async fn client(kubeconfig: Option<PathBuf>) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(&path)
                .with_context(|| format!("--kubeconfig {}", path.display()))?;
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("--kubeconfig {}", path.display()))?
        }
        None => Config::infer()
            .await
            .context("no kubeconfig is given and this is not a pod: use --kubeconfig")?,
    };
    Client::try_from(config).context("the hub's kubeconfig cannot be used")
}
