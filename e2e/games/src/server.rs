//! Serves an application, and leaves without failing a request.
//!
//! At the signal to stop, the process fails `/readyz` at once but keeps accepting and serving for the drain time,
//! because kube-proxy and the edge hear of a leaving pod later than the pod does. Meanwhile every response says
//! `connection: close`, so that busy connections move on by themselves, and half-way through the event streams say
//! goodbye. Then it stops accepting, finishes what is in flight and returns.
//!
//! The server never closes an idle connection before that: a proxy could be sending a request on it at that moment.

use std::{convert::Infallible, future::Future, io, sync::Arc, time::Duration};

use futures::FutureExt;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    settings::Settings,
    site::{Phase, Site},
};

/// How long requests in flight may take after the drain time before the process gives up on them.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// How the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every connection ended in peace.
    Clean,
    /// Some requests were still in flight 10 seconds after the drain time and were cut.
    Cut,
}

/// Serves on `listener` until `stop` completes, then drains.
pub async fn serve(
    settings: Settings,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Ending {
    let drain = settings.drain;
    let (phase, watched) = watch::channel(Phase::Serving);
    let site = Site::new(settings, watched);
    let connections = GracefulShutdown::new();
    let leave = async {
        stop.await;
        let started = Instant::now();
        phase.send_replace(Phase::Leaving);
        sleep_until(started + drain / 2).await;
        phase.send_replace(Phase::EndingStreams);
        sleep_until(started + drain).await;
    };
    tokio::select! {
        () = accept(&listener, &site, &connections) => {}
        () = leave => {}
    }
    // Connections that the kernel has completed but nobody has accepted would be reset with the listener.
    while let Some(Ok((stream, _))) = listener.accept().now_or_never() {
        start(stream, &site, &connections);
    }
    drop(listener);
    phase.send_replace(Phase::Closing);
    match timeout(LAST_REQUESTS, connections.shutdown()).await {
        Ok(()) => Ending::Clean,
        Err(_) => Ending::Cut,
    }
}

/// Accepts connections for ever.
async fn accept(listener: &TcpListener, site: &Arc<Site>, connections: &GracefulShutdown) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => start(stream, site, connections),
            Err(error) => {
                eprintln!("cannot accept a connection: {error}");
                if !is_of_one_connection(&error) {
                    // Out of file descriptors, most likely: let some connections end first.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

fn start(stream: TcpStream, site: &Arc<Site>, connections: &GracefulShutdown) {
    // Latency counts more than packets here; when it cannot be set the answers are still right.
    let _ = stream.set_nodelay(true);
    let site = Arc::clone(site);
    let service = service_fn(move |request| {
        let response = site.answer(&request);
        async move { Ok::<_, Infallible>(response) }
    });
    // No timer on purpose: with one, hyper would close connections that are idle.
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that goes away in the middle is its own affair.
        let _ = connection.await;
    });
}
