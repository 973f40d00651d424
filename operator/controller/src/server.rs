//! Health and metrics over HTTP.

use crate::hub::Hub;
use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

/// Content type of the OpenMetrics text format
/// (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What others may take of the process. The port has no authentication, and
/// whoever reaches it must not drive out of memory what moves the fleet, nor
/// keep kubelet's probes and Prometheus from their answers.
const LIMITS: Limits = Limits {
    connections: 128,
    of_one_address: 16,
    header: Duration::from_secs(2),
    answer: Duration::from_secs(30),
};

/// See [`LIMITS`].
#[derive(Clone, Copy)]
struct Limits {
    /// Connections at the same time.
    connections: usize,
    /// Those from one address: another's are closed at once.
    of_one_address: usize,
    /// How long the head of a request may take.
    header: Duration,
    /// How long a connection may last, which takes one request.
    answer: Duration,
}

/// How long is waited after no connection could be accepted: mostly because
/// there are too many open files, which only time mends.
const PAUSE: Duration = Duration::from_secs(1);

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
    stop: watch::Receiver<bool>,
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
    accept(listener, router, LIMITS, stop).await;
    Ok(())
}

/// Answers connections until asked to stop, and then those that are open.
async fn accept(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::default();
    let mut answers = JoinSet::new();
    loop {
        tokio::select! {
            () = asked(&mut stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(place) = places.take(peer.ip(), limits) {
                        answers.spawn(answer(stream, router.clone(), limits, place));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection to health and metrics failed");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = answers.join_next() => {}
        }
    }
    drop(listener);
    while answers.join_next().await.is_some() {}
}

/// Returns when asked to stop. The sender never goes before the server; if it
/// did, that too would mean to stop.
async fn asked(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One connection, with one request: whoever asks seldom needs no more, and
/// one that is kept would be held against its address.
async fn answer(stream: TcpStream, router: Router, limits: Limits, _place: Place) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(limits.answer, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request for health or metrics failed"),
        Err(_) => tracing::debug!("a request for health or metrics took too long"),
    }
}

/// Connections that are open, by where they come from.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; it ends with this.
struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    /// A place for one more, unless there are too many.
    fn take(&self, address: IpAddr, limits: Limits) -> Option<Place> {
        let mut open = self.lock();
        let all: usize = open.values().sum();
        let of_one = open.get(&address).copied().unwrap_or_default();
        if all >= limits.connections || of_one >= limits.of_one_address {
            return None;
        }
        open.insert(address, of_one + 1);
        Some(Place {
            places: self.clone(),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        if let Some(of_one) = open.get_mut(&self.address) {
            *of_one -= 1;
            if *of_one == 0 {
                open.remove(&self.address);
            }
        }
    }
}

async fn ready(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.hub.synced() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    let missing = shared.hub.missing.names();
    let why = match (missing.as_slice(), shared.hub.definitions.lacking()) {
        ([], None) => match shared.hub.definitions.trouble() {
            None => "the hub was not listed yet\n".to_owned(),
            Some(trouble) => {
                format!("what the hub serves cannot be seen, it is asked again: {trouble}\n")
            }
        },
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    const TIGHT: Limits = Limits {
        connections: 3,
        of_one_address: 2,
        header: Duration::from_millis(300),
        answer: Duration::from_millis(600),
    };
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Where it is served, and what ends it.
    async fn served(limits: Limits) -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            // More than connections hold back by themselves.
            .route("/large", get(|| async { "x".repeat(64 << 20) }));
        let (stopper, stop) = watch::channel(false);
        tokio::spawn(accept(listener, router, limits, stop));
        (address, stopper)
    }

    async fn connected(server: SocketAddr, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(server).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        // One that is closed already says so when it is read.
        let _ = stream.write_all(request.as_bytes()).await;
    }

    /// Everything until the server closes the connection.
    async fn end(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        // A connection that is reset has ended too.
        let _ = timeout(PATIENCE, stream.read_to_end(&mut text))
            .await
            .unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn answered(server: SocketAddr, from: &str) -> bool {
        let mut stream = connected(server, from).await;
        ask(&mut stream, "/healthz").await;
        end(stream).await.ends_with("ok\n")
    }

    #[tokio::test]
    async fn a_connection_that_never_asks_is_closed() {
        let (server, _stopper) = served(TIGHT).await;
        let silent = connected(server, "127.0.0.1").await;
        let mut half = connected(server, "127.0.0.1").await;
        half.write_all(b"GET /healthz HTTP/1.1\r\nx-a: ")
            .await
            .unwrap();
        for stream in [silent, half] {
            assert!(!end(stream).await.contains("ok\n"));
        }
        assert!(answered(server, "127.0.0.1").await);
    }

    #[tokio::test]
    async fn one_address_cannot_take_all_connections_and_all_together_no_more_than_there_are() {
        let patient = Limits {
            header: PATIENCE,
            answer: PATIENCE,
            ..TIGHT
        };
        let (server, _stopper) = served(patient).await;
        let one = connected(server, "127.0.0.1").await;
        let _two = connected(server, "127.0.0.1").await;
        assert!(!answered(server, "127.0.0.1").await);
        assert!(answered(server, "127.0.0.2").await);
        let third = connected(server, "127.0.0.2").await;
        assert!(!answered(server, "127.0.0.3").await);
        drop((one, third));
        // The server hears of it a little later.
        let again = async {
            while !answered(server, "127.0.0.1").await {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, again).await.unwrap();
    }

    #[tokio::test]
    async fn whoever_does_not_read_is_not_waited_for() {
        let (server, stopper) = served(TIGHT).await;
        let mut lazy = connected(server, "127.0.0.1").await;
        ask(&mut lazy, "/large").await;
        let text = async {
            lazy.readable().await.unwrap();
            sleep(TIGHT.answer * 2).await;
            end(lazy).await
        };
        assert!(text.await.len() < 64 << 20);
        stopper.send(true).unwrap();
    }
}
