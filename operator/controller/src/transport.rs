//! Clients of API servers that send nothing that changes anything unless this
//! process leads.
//!
//! Two checks, because a request waits on its way: for a free connection, for
//! a handshake. One looks at each request whose method can change something;
//! a standby passes it with reads alone. The other looks at each write to a connection, right before the
//! bytes leave, and lets nothing pass once leadership has ended.

use crate::{
    leader::{Leadership, NotLeader},
    requests::{Counted, HubRequests},
    time_limit::TimeLimited,
};
use http::{Request, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::{
        Client as HttpClient,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config, Error,
    client::{Body, Client, ClientBuilder, ConfigExt},
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tower::{BoxError, Service, ServiceExt, filter::FilterLayer};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for this long is tried, as a watch
/// would wait on a dead one for ever; it is given up after 11 seconds in all.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEPALIVE_RETRIES: u32 = 3;
/// How long the hub may say nothing to a request.
const HUB_LIMIT: Duration = Duration::from_secs(15);

/// Makes a client; without a request. It tries nothing again by itself: those
/// who ask it know when that is worth while.
///
/// # Errors
/// When the certificates or credentials cannot be used.
pub fn client(config: &Config, leadership: &Leadership) -> Result<Client, Error> {
    make(config, leadership, None, None)
}

/// Makes a client of the hub: as [`client`] does, but its requests are counted,
/// and none waits for ever.
///
/// # Errors
/// When the certificates or credentials cannot be used.
pub fn counted_client(
    config: &Config,
    leadership: &Leadership,
    requests: &HubRequests,
) -> Result<Client, Error> {
    make(config, leadership, Some(requests.clone()), Some(HUB_LIMIT))
}

fn make(
    config: &Config,
    leadership: &Leadership,
    requests: Option<HubRequests>,
    limit: Option<Duration>,
) -> Result<Client, Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    let tls = config.rustls_https_connector_with_connector(gated(tcp, leadership))?;
    // Connections are given back soon after a burst: each costs tens of
    // kilobytes.
    let http = HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .pool_max_idle_per_host(16)
        .build::<_, Body>(tls);
    let leadership = leadership.clone();
    let gate = FilterLayer::new(move |request: Request<Body>| {
        if !request.method().is_safe() {
            leadership.check()?;
        }
        Ok::<_, NotLeader>(request)
    });
    let http = Counted::new(http.map_err(BoxError::from), requests);
    let http = TimeLimited::new(http, limit);
    let builder = ClientBuilder::new(http, &*config.default_namespace)
        .with_layer(&gate)
        .with_layer(&config.extra_headers_layer()?);
    let address = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).with_layer(&address).build(),
        None => builder.with_layer(&address).build(),
    })
}

/// A connector whose connections take nothing more once leadership has ended.
fn gated(
    tcp: HttpConnector,
    leadership: &Leadership,
) -> impl Service<
    Uri,
    Response = Gated<<HttpConnector as Service<Uri>>::Response>,
    Error = <HttpConnector as Service<Uri>>::Error,
    Future: Send,
> + Clone
+ Send
+ Sync
+ 'static {
    let leadership = leadership.clone();
    tcp.map_response(move |connection| Gated {
        connection,
        leadership: leadership.clone(),
    })
}

/// A connection that takes nothing more once leadership has ended.
struct Gated<C> {
    connection: C,
    leadership: Leadership,
}

impl<C> Gated<C> {
    fn check(&self) -> io::Result<()> {
        if self.leadership.ended() {
            return Err(io::Error::other(NotLeader::Ended));
        }
        Ok(())
    }
}

impl<C: Connection> Connection for Gated<C> {
    fn connected(&self) -> Connected {
        self.connection.connected()
    }
}

impl<C: Read + Unpin> Read for Gated<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(context, buffer)
    }
}

impl<C: Write + Unpin> Write for Gated<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.connection).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{leader::Leadership, members::Verb};
    use http::Method;
    use http_body_util::BodyExt;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// A server that answers everything, and counts what it is asked.
    async fn server() -> (Config, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        (Config::new(url.parse().unwrap()), asked)
    }

    async fn send(client: &Client, method: Method) -> Result<(), Error> {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .body(Body::empty());
        client.send(request.unwrap()).await.map(drop)
    }

    #[tokio::test]
    async fn a_standby_reads_and_does_not_write() {
        let (config, asked) = server().await;
        let client = client(&config, &Leadership::standby()).unwrap();
        send(&client, Method::GET).await.unwrap();
        for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let refused = send(&client, method).await.unwrap_err();
            assert!(format!("{refused:?}").contains("Standby"), "{refused:?}");
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn nothing_leaves_once_leadership_has_ended_not_even_on_an_open_connection() {
        let (config, asked) = server().await;
        let leadership = Leadership::standby();
        let client = client(&config, &leadership).unwrap();
        leadership.hold_until(crate::leader::since_boot() + Duration::from_secs(60));
        send(&client, Method::PATCH).await.unwrap();
        leadership.end();
        // A read passes the first check, and not the second.
        for method in [Method::PATCH, Method::GET] {
            send(&client, method).await.unwrap_err();
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_leaves_is_counted_with_its_answer_or_without() {
        let requests = HubRequests::default();
        let (config, _) = server().await;
        let client = counted_client(&config, &Leadership::standby(), &requests).unwrap();
        send(&client, Method::GET).await.unwrap();
        send(&client, Method::PATCH).await.unwrap_err();
        assert_eq!(requests.answered(Verb::Get, 200), 1);
        assert_eq!(requests.answered(Verb::Patch, 0), 0, "it was not sent");

        // Takes connections, and says nothing.
        let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", mute.local_addr().unwrap());
        let config = Config::new(url.parse().unwrap());
        let client = counted_client(&config, &Leadership::always(), &requests).unwrap();
        let patience = Duration::from_millis(200);
        let answer = tokio::time::timeout(patience, send(&client, Method::PATCH)).await;
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(requests.answered(Verb::Patch, 0), 1);
    }

    /// A server that takes requests and answers them with this, then nothing
    /// for a while, then two more bytes.
    async fn stalls(beginning: &'static str) -> Config {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        stream.write_all(beginning.as_bytes()).await.unwrap();
                        tokio::time::sleep(LIMIT * 3).await;
                        // Whoever asked may have gone.
                        let _ = stream.write_all(b"{}").await;
                    }
                });
            }
        });
        Config::new(url.parse().unwrap())
    }

    const LIMIT: Duration = Duration::from_millis(200);
    const HALF: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n[]";

    /// The answer to a request, unless it takes far longer than it may.
    async fn whole(config: &Config, method: Method, uri: &str) -> Result<String, String> {
        let client = make(config, &Leadership::always(), None, Some(LIMIT)).unwrap();
        let request = Request::builder().method(method).uri(uri);
        let asked = async {
            let answer = client.send(request.body(Body::empty()).unwrap()).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let text = answer.into_body().collect().await;
            let text = text.map_err(|error| error.to_string())?.to_bytes();
            Ok(String::from_utf8(text.to_vec()).unwrap())
        };
        let patience = Duration::from_secs(20);
        tokio::time::timeout(patience, asked).await.unwrap()
    }

    #[tokio::test]
    async fn a_hub_that_takes_a_request_and_says_nothing_is_given_up() {
        let mute = stalls("").await;
        for (method, uri) in [
            (Method::POST, "/apis/flambeau.dev/v1alpha1/migrations"),
            (Method::PATCH, "/apis/flambeau.dev/v1alpha1/migrations/one"),
            (Method::GET, "/apis/flambeau.dev/v1alpha1/migrations"),
            (
                Method::GET,
                "/apis/flambeau.dev/v1alpha1/migrations?watch=true",
            ),
        ] {
            let told = whole(&mute, method, uri).await.unwrap_err();
            assert!(
                told.contains("did not answer within 0.2 s"),
                "{uri}: {told}"
            );
        }
    }

    #[tokio::test]
    async fn an_answer_that_stops_is_given_up_and_a_watch_may_be_quiet() {
        let half = stalls(HALF).await;
        whole(&half, Method::GET, "/api/v1/secrets")
            .await
            .unwrap_err();
        let watch = whole(&half, Method::GET, "/api/v1/secrets?watch=true").await;
        assert_eq!(watch.as_deref(), Ok("[]{}"));
    }
}
