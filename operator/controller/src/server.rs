//! Health and metrics over HTTP.

use crate::hub::Hub;
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch};

/// Content type of the OpenMetrics text format
/// (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
struct Shared {
    hub: Hub,
    registry: Arc<Registry>,
}

/// Serves `/healthz` (the process answers), `/readyz` (the hub was listed, or
/// which definitions are missing or too old there) and `/metrics` until asked to stop.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(
    listen: SocketAddr,
    hub: Hub,
    registry: Registry,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    tracing::info!(address = %listener.local_addr()?, "health and metrics are served");
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Shared {
            hub,
            registry: Arc::new(registry),
        });
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            // The sender never goes before the server; if it did, that too
            // would mean to stop.
            let _ = stop.wait_for(|stop| *stop).await;
        })
        .await
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.hub.synced() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let missing = shared.hub.missing.names();
    let why = match (missing.as_slice(), shared.hub.definitions.lacking()) {
        ([], None) => "the hub was not listed yet\n".to_owned(),
        ([], Some(lacking)) => format!(
            "CustomResourceDefinitions on the hub are older than this version, apply those of this version: {lacking}\n"
        ),
        (missing, _) => format!(
            "CustomResourceDefinitions are missing on the hub, apply those of this version: {}\n",
            missing.join(", ")
        ),
    };
    (StatusCode::SERVICE_UNAVAILABLE, why)
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &shared.registry) {
        Ok(()) => (StatusCode::OK, [("content-type", OPEN_METRICS)], text),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [("content-type", "text/plain")],
            error.to_string(),
        ),
    }
}
