//! The edge with Envoy and two clusters' worth of pods, in a network
//! namespace of its own: the API server takes no loopback addresses as
//! endpoints.

use crate::support::{Endpoints, Hub, Watched, application, endpoints, ready, run, weights};
use axum::{Router, body::Body, extract::State, routing::get};
use flambeau_operator::{
    declared::Declared,
    edge::{Edge, GatewayEdge},
};
use flambeau_planner::model::ApplicationKey;
use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinHandle};

/// Where the pods of the first cluster are (TEST-NET-2, RFC 5737).
const HERE: [u8; 4] = [198, 51, 100, 1];
/// Where the pods of the second cluster are.
const THERE: [u8; 4] = [198, 51, 100, 2];
/// Where nothing listens.
const NOWHERE: [u8; 4] = [198, 51, 100, 3];
/// Where a pod of the second cluster is that dies.
const DOOMED: [u8; 4] = [198, 51, 100, 4];
const PORT: u16 = 9000;
const PROXY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Envoy ends requests after this time unless the route says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

#[test]
fn requests_follow_the_weights_and_none_fails() {
    let program = std::env::current_exe().unwrap();
    let script = "ip link set lo up && for host in 1 2 3 4; do \
                  ip address add 198.51.100.$host/32 dev lo || exit 1; done && \
                  exec \"$0\" --ignored --exact proxy::inside_its_own_network --nocapture";
    let output = Command::new("unshare")
        // A user namespace lends the rights over the network namespace.
        .args(["--map-root-user", "--net", "sh", "-c", script])
        .arg(program)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
#[ignore = "run by requests_follow_the_weights_and_none_fails, which makes the network"]
fn inside_its_own_network() {
    let mut hub = Hub::with_contour("proxy");
    hub.start_envoy();
    run(story(&hub));
}

async fn story(hub: &Hub) {
    let shop = application(hub, "games", "shop", "shop.example");
    let key = shop.key.clone();
    let watched = hub.edge(Some(hub.stats_url())).await.synced().await;
    let edge = &watched.edge;
    let here = Pod::start(HERE, "alibaba");
    let _there = Pod::start(THERE, "ovh");
    let both = endpoints([
        ("alibaba", vec![ready(HERE, PORT)]),
        ("ovh", vec![ready(THERE, PORT)]),
    ]);
    an_earlier_copy_is_not_taken_for_this_one(hub, &watched, &shop, &both).await;
    edge.apply(&shop, &weights([("alibaba", 100), ("ovh", 0)]), &both)
        .await
        .unwrap();
    edge.watch_requests([key.clone()].into());
    watched
        .until("Envoy itself has the endpoints of both clusters", |edge| {
            edge.observe(&key).open_requests.len() == 2
                && edge.endpoints_at_edge(&key, "alibaba", || None) == Some(1)
                && edge.endpoints_at_edge(&key, "ovh", || None) == Some(1)
        })
        .await;

    let visitor = Visitor::new();
    visitor.until_ok().await;
    let opened = Instant::now();
    let mut events = visitor.stream().await;
    watched
        .until("the stream counts as an open request", |edge| {
            edge.observe(&key).open_requests.get("alibaba") == Some(&1)
        })
        .await;
    let load = visitor.clone().load();

    for (source, target) in [(75, 25), (50, 50), (0, 100)] {
        let stage = weights([("alibaba", source), ("ovh", target)]);
        edge.apply(&shop, &stage, &both).await.unwrap();
        watched
            .until("the target answers requests of the stage", |edge| {
                let observed = edge.observe(&key);
                observed.acknowledged
                    && observed.weights == stage
                    && observed
                        .stage_requests
                        .get("ovh")
                        .is_some_and(|stage| stage.total >= 100)
            })
            .await;
        let stage = edge.observe(&key).stage_requests["ovh"];
        assert_eq!(stage.failed, 0, "{stage:?}");
    }

    // The stream goes on at the source, beyond the time after which Envoy
    // ends requests by itself.
    while opened.elapsed() < DEFAULT_TIMEOUT + Duration::from_secs(1) {
        assert_eq!(events.next().await.as_deref(), Some("alibaba"));
    }
    assert_eq!(edge.observe(&key).open_requests["alibaba"], 1);
    drop(events);
    watched
        .until("the source is idle", |edge| {
            edge.observe(&key).open_requests["alibaba"] == 0
        })
        .await;
    let only_there = endpoints([("ovh", both["ovh"].clone())]);
    edge.apply(&shop, &weights([("ovh", 100)]), &only_there)
        .await
        .unwrap();
    drop(here);
    let counted = load.stop().await;
    println!("{counted:?}");
    assert_eq!(counted.failed, BTreeMap::new(), "{counted:?}");
    assert!(
        counted.answered["alibaba"] > 0 && counted.answered["ovh"] > 0,
        "{counted:?}"
    );

    a_pod_that_dies_under_load_takes_nothing_along(&watched, &shop, &visitor).await;
    a_pod_that_died_is_passed_over(&watched, &shop, &visitor).await;
    failures_are_counted(&watched, &shop, &visitor).await;
}

/// A gateway that is behind has as many endpoints of a cluster as there should
/// be, of a copy that is long gone.
async fn an_earlier_copy_is_not_taken_for_this_one(
    hub: &Hub,
    watched: &Watched,
    shop: &Declared,
    both: &Endpoints,
) {
    let (edge, key) = (&watched.edge, &shop.key);
    let shares = weights([("alibaba", 100), ("ovh", 0)]);
    let mut earlier = both.clone();
    earlier.insert("ovh".into(), vec![ready(NOWHERE, PORT)]);
    edge.apply(shop, &shares, &earlier).await.unwrap();
    let known = |edge: &GatewayEdge, endpoints: &Endpoints| {
        edge.endpoints_at_edge(key, "ovh", || Some(endpoints["ovh"].clone()))
    };
    assert_eq!(known(edge, &earlier), None, "Envoy was not asked");
    edge.watch_requests([key.clone()].into());
    assert_eq!(known(edge, &earlier), None, "it did not answer yet");
    watched
        .until("Envoy has the earlier copy", |edge| {
            edge.observe(key).acknowledged
                && edge.observe(key).open_requests.len() == 2
                && known(edge, &earlier) == Some(1)
        })
        .await;
    assert_eq!(known(edge, both), Some(0), "it is not this copy");

    let former = hub.backend("services", "shop", "ovh");
    let asleep = async {
        edge.apply(shop, &shares, both).await.unwrap();
        assert_eq!(known(edge, both), Some(0), "nobody told Envoy");
        // One reading may have been under way.
        for _ in 0..2 {
            read_again(edge, key).await;
            assert_eq!(
                known(edge, both),
                Some(0),
                "Envoy has the earlier copy only"
            );
        }
    };
    hub.while_contour_sleeps(asleep).await;
    watched
        .until("Envoy has this copy", |edge| known(edge, both) == Some(1))
        .await;
    let service = hub.backend("services", "shop", "ovh");
    assert!(!service.is_empty() && service != former, "{service}");

    // What comes and goes at a copy that was there changes no name.
    let mut replaced = both.clone();
    replaced.insert("ovh".into(), vec![ready(THERE, PORT), ready(DOOMED, PORT)]);
    edge.apply(shop, &shares, &replaced).await.unwrap();
    replaced.insert("ovh".into(), Vec::new());
    edge.apply(shop, &shares, &replaced).await.unwrap();
    assert_eq!(known(edge, both), Some(0));
    edge.apply(shop, &shares, both).await.unwrap();
    assert_eq!(hub.backend("services", "shop", "ovh"), service);
}

/// Waits until Envoy's statistics were read once more.
async fn read_again(edge: &GatewayEdge, key: &ApplicationKey) {
    edge.watch_services([key.clone()].into(), true);
    let read = || edge.reading(key, "alibaba").map(|reading| reading.at);
    let before = read();
    let deadline = Instant::now() + Duration::from_secs(30);
    while read() == before {
        assert!(Instant::now() < deadline, "the statistics are not read");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A pod ends without a word while requests are on their way to it.
async fn a_pod_that_dies_under_load_takes_nothing_along(
    watched: &Watched,
    shop: &Declared,
    visitor: &Visitor,
) {
    let doomed = Pod::start(DOOMED, "doomed");
    let two = endpoints([("ovh", vec![ready(THERE, PORT), ready(DOOMED, PORT)])]);
    let all = weights([("ovh", 100)]);
    watched.edge.apply(shop, &all, &two).await.unwrap();
    let load = visitor.clone().load();
    let answered = |edge: &GatewayEdge| {
        let stage = edge.observe(&shop.key).stage_requests;
        stage.get("ovh").map_or(0, |stage| stage.total)
    };
    watched
        .until("Envoy has both pods", |edge| {
            edge.endpoints_at_edge(&shop.key, "ovh", || None) == Some(2)
        })
        .await;
    let before = answered(&watched.edge);
    watched
        .until("both work", |edge| answered(edge) > before + 200)
        .await;
    drop(doomed);
    let before = answered(&watched.edge);
    watched
        .until("one works", |edge| answered(edge) > before + 200)
        .await;
    let counted = load.stop().await;
    println!("{counted:?}");
    assert_eq!(counted.failed, BTreeMap::new(), "{counted:?}");
    assert!(counted.answered["doomed"] > 0, "{counted:?}");
}

/// A pod is gone, but its endpoint is still there.
async fn a_pod_that_died_is_passed_over(watched: &Watched, shop: &Declared, visitor: &Visitor) {
    let stale = endpoints([("ovh", vec![ready(THERE, PORT), ready(NOWHERE, PORT)])]);
    watched
        .edge
        .apply(shop, &weights([("ovh", 100)]), &stale)
        .await
        .unwrap();
    watched
        .until("Envoy has the endpoint of the dead pod", |edge| {
            edge.endpoints_at_edge(&shop.key, "ovh", || None) == Some(2)
        })
        .await;
    for _ in 0..20 {
        assert_eq!(visitor.get().await, Ok("ovh".to_owned()));
    }
}

/// The last endpoint goes while requests go there.
async fn failures_are_counted(watched: &Watched, shop: &Declared, visitor: &Visitor) {
    let none = endpoints([("ovh", Vec::new())]);
    watched
        .edge
        .apply(shop, &weights([("ovh", 100)]), &none)
        .await
        .unwrap();
    assert_eq!(
        watched.edge.endpoints_at_edge(&shop.key, "ovh", || None),
        Some(0),
        "known at once"
    );
    let load = visitor.clone().load();
    watched
        .until("failures are seen", |edge| {
            let observed = edge.observe(&shop.key);
            observed
                .stage_requests
                .get("ovh")
                .is_some_and(|stage| stage.failed > 0)
        })
        .await;
    let counted = load.stop().await;
    assert!(
        counted.failed.contains_key("503 Service Unavailable"),
        "{counted:?}"
    );
}

/// A pod that says which cluster it is in, at once or for ever.
struct Pod(Option<Runtime>);

impl Pod {
    fn start(ip: [u8; 4], cluster: &'static str) -> Self {
        let listener = std::net::TcpListener::bind(SocketAddr::from((ip, PORT))).unwrap();
        listener.set_nonblocking(true).unwrap();
        // A runtime of its own, so that it can die with all its connections.
        let runtime = Runtime::new().unwrap();
        runtime.spawn(async move {
            let router = Router::new()
                .route("/", get(name))
                .route("/events", get(events))
                .with_state(cluster);
            let listener = TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router).await.unwrap();
        });
        Self(Some(runtime))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn name(State(cluster): State<&'static str>) -> &'static str {
    // Long enough that a pod that dies leaves requests behind.
    tokio::time::sleep(Duration::from_millis(2)).await;
    cluster
}

async fn events(State(cluster): State<&'static str>) -> Body {
    Body::from_stream(stream::unfold((), move |()| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Ok::<_, Infallible>(cluster), ()))
    }))
}

/// Somebody who visits the application through the edge.
#[derive(Clone)]
struct Visitor(Client<HttpConnector, Empty<Bytes>>);

impl Visitor {
    fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    async fn send(&self, path: &str) -> Result<hyper::Response<hyper::body::Incoming>, String> {
        let request = Request::get(format!("http://{PROXY}{path}"))
            .header("Host", "shop.example")
            .body(Empty::new())
            .unwrap();
        self.0
            .request(request)
            .await
            .map_err(|error| format!("{error:?}"))
    }

    /// The cluster that answers, or what went wrong.
    async fn get(&self) -> Result<String, String> {
        let response = self.send("/").await?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        match status {
            StatusCode::OK => Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned()),
            status => Err(status.to_string()),
        }
    }

    async fn until_ok(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.get().await {
            assert!(Instant::now() < deadline, "no answer yet: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Pieces of the endless answer.
    async fn stream(&self) -> std::pin::Pin<Box<dyn futures::Stream<Item = String> + Send>> {
        let body = self.send("/events").await.unwrap().into_body();
        let pieces = body.into_data_stream().map(|piece| {
            let piece = piece.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            piece.unwrap_or_else(|error| format!("broken: {error}"))
        });
        Box::pin(pieces)
    }

    /// Visits again and again, four at a time.
    fn load(self) -> Load {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let visitors = (0..4).map(|_| {
            let (visitor, stopped) = (self.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut counted = Counted::default();
                while !*stopped.borrow() {
                    match visitor.get().await {
                        Ok(cluster) => *counted.answered.entry(cluster).or_default() += 1,
                        Err(error) => *counted.failed.entry(error).or_default() += 1,
                    }
                }
                counted
            })
        });
        Load {
            visitors: visitors.collect(),
            stop,
        }
    }
}

/// Visits under way.
struct Load {
    visitors: Vec<JoinHandle<Counted>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Load {
    async fn stop(self) -> Counted {
        self.stop.send_replace(true);
        let mut all = Counted::default();
        for visitor in self.visitors {
            let counted = visitor.await.unwrap();
            for (cluster, count) in counted.answered {
                *all.answered.entry(cluster).or_default() += count;
            }
            for (error, count) in counted.failed {
                *all.failed.entry(error).or_default() += count;
            }
        }
        all
    }
}

/// Answers by cluster, failures by their text.
#[derive(Debug, Default)]
struct Counted {
    answered: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
}
