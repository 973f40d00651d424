//! The load generator against a service that misbehaves in every way that counts as a failure: the counts are exact.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::{
    collections::HashMap,
    future::Future,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use flambeau_scenarios::load::{
    ApplicationLoad, ApplicationResult, FailureCause, LoadConfig, LoadGenerator, StreamLoad,
};
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A service on loopback that answers with `answer`, which gets each host's requests numbered from 0.
async fn service<A, F>(answer: A) -> String
where
    A: Fn(String, usize) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    let numbers = Arc::new(Mutex::new(HashMap::<String, usize>::new()));
    tokio::spawn(async move {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let (answer, numbers) = (Arc::clone(&answer), Arc::clone(&numbers));
            let service = service_fn(move |request: Request<Incoming>| {
                let host = request.headers()["host"].to_str().unwrap().to_owned();
                let number = {
                    let mut numbers = numbers.lock().unwrap();
                    let next = numbers.entry(host.clone()).or_default();
                    *next += 1;
                    *next - 1
                };
                let answer = Arc::clone(&answer);
                async move { Ok::<_, io::Error>(answer(host, number).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
        }
    });
    format!("http://{address}")
}

fn whole(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(
        Full::new(text.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = whole("no");
    *response.status_mut() = status;
    response
}

fn named(application: &str, cloud: &str) -> String {
    format!(r#"{{"application":"{application}","cloud":"{cloud}","content":{{}}}}"#)
}

/// Sends `pieces` and then ends the body, cuts it or leaves it open.
fn pieces(pieces: Vec<String>, end: End) -> Response<Body> {
    let frames = stream::iter(pieces).map(|piece| Ok(Frame::data(Bytes::from(piece))));
    // Later than the pieces: they would not leave otherwise.
    let cut = stream::once(async {
        sleep(Duration::from_millis(300)).await;
        Err(io::Error::other("cut"))
    });
    let body = match end {
        End::Whole => StreamBody::new(frames).boxed_unsync(),
        End::Cut => StreamBody::new(frames.chain(cut)).boxed_unsync(),
        End::Open => StreamBody::new(frames.chain(stream::pending())).boxed_unsync(),
    };
    Response::new(body)
}

enum End {
    Whole,
    Cut,
    Open,
}

fn config(edge: &str, names: &[&str]) -> LoadConfig {
    let application = |name: &&str| ApplicationLoad {
        name: (*name).to_owned(),
        host: format!("{name}.games.example"),
        rate: 40.0,
        paths: vec!["/".to_owned()],
    };
    LoadConfig {
        edge: edge.to_owned(),
        applications: names.iter().map(application).collect(),
        streams: Vec::new(),
        clouds: vec!["alibaba".to_owned(), "atos".to_owned()],
        timeout: Duration::from_secs(3),
    }
}

const CASES: [(&str, FailureCause); 7] = [
    ("error", FailureCause::Status),
    ("hang", FailureCause::Timeout),
    ("stuck", FailureCause::Timeout),
    ("cut", FailureCause::Broken),
    ("garbage", FailureCause::Body),
    ("other", FailureCause::WrongApplication),
    ("elsewhere", FailureCause::UnknownCloud),
];

/// Answers one of three requests wrongly, in the way that the host's name says.
async fn misbehave(host: String, number: usize) -> Response<Body> {
    let name = host.split('.').next().unwrap();
    let cloud = if number < 20 { "atos" } else { "alibaba" };
    if !number.is_multiple_of(3) {
        return whole(named(name, cloud));
    }
    match name {
        "error" => status(StatusCode::INTERNAL_SERVER_ERROR),
        "hang" => std::future::pending().await,
        "stuck" => pieces(vec!["{".to_owned()], End::Open),
        "cut" => pieces(vec!["{".to_owned()], End::Cut),
        "garbage" => whole("<html>Not what was asked for</html>"),
        "other" => whole(named("good", cloud)),
        "elsewhere" => whole(named(name, "nowhere")),
        _ => whole(named(name, cloud)),
    }
}

async fn wait_until(condition: impl Fn() -> bool) {
    let waiting = timeout(Duration::from_secs(30), async {
        while !condition() {
            sleep(Duration::from_millis(10)).await;
        }
    });
    waiting
        .await
        .expect("the condition is met within 30 seconds");
}

/// One of three requests failed, and all of those by that cause.
fn assert_fails_by(cause: FailureCause, application: &ApplicationResult) {
    let name = &application.name;
    let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
    let expected = application.sent.div_ceil(3);
    assert_eq!(
        application.failures.iter().collect::<Vec<_>>(),
        [(&cause, &expected)],
        "{name}"
    );
    assert_eq!(
        (application.failed, application.ok),
        (expected, application.sent - expected),
        "{name}"
    );
    assert_eq!(
        application.examples.len() as u64,
        expected.min(20),
        "{name}"
    );
    assert!(
        application
            .examples
            .iter()
            .all(|example| example.cause == cause && !example.detail.is_empty())
    );
    let seconds = &application.seconds;
    assert_eq!(sum(&seconds.failed), application.failed);
    assert_eq!(
        seconds
            .answered
            .values()
            .map(|counts| sum(counts))
            .sum::<u64>(),
        application.ok
    );
}

#[tokio::test]
async fn every_kind_of_failure_is_counted_as_what_it_is() {
    let edge = service(misbehave).await;
    let mut names: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
    names.push("good");
    let generator = LoadGenerator::start(config(&edge, &names)).unwrap();
    wait_until(|| generator.snapshot().sent >= 500).await;
    let result = generator.stop().await.unwrap();

    let good = result.application("good").unwrap();
    assert_eq!(
        (good.ok, good.failed),
        (good.sent, 0),
        "{:?}",
        good.examples
    );
    assert!(good.failures.is_empty() && good.examples.is_empty());
    let order: Vec<(&str, u64)> = good
        .clouds
        .iter()
        .map(|cloud| (cloud.cloud.as_str(), cloud.answered))
        .collect();
    assert_eq!(order, [("atos", 20), ("alibaba", good.sent - 20)]);

    for (name, cause) in CASES {
        assert_fails_by(cause, result.application(name).unwrap());
    }
    assert_eq!(
        result.requests,
        result
            .applications
            .iter()
            .map(|application| application.sent)
            .sum::<u64>()
    );
    assert_eq!(
        result.failed,
        result
            .applications
            .iter()
            .map(|application| application.failed)
            .sum::<u64>()
    );
    assert!(!result.is_clean());
    assert_eq!(
        result.clouds,
        ["alibaba", "atos"],
        "in the order of the configuration"
    );
}

#[tokio::test]
async fn an_edge_that_is_not_there_fails_every_request() {
    // Bound and dropped: nothing listens there.
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let generator =
        LoadGenerator::start(config(&format!("http://{address}"), &["website"])).unwrap();
    wait_until(|| generator.snapshot().sent >= 45).await;
    let result = generator.stop().await.unwrap();
    let website = result.application("website").unwrap();
    assert!(website.sent >= 45);
    assert_eq!(
        website.failures.get(&FailureCause::Connect),
        Some(&website.sent)
    );
}

/// While the service stalls, requests go on leaving at their rate, and each waits as long as a user would.
#[tokio::test]
async fn a_stall_is_felt_by_every_request_that_was_due_in_it() {
    let (open, opened) = watch::channel(false);
    let edge = service(move |_, _| {
        let mut opened = opened.clone();
        async move {
            opened.wait_for(|opened| *opened).await.unwrap();
            whole(named("website", "atos"))
        }
    })
    .await;
    let generator = LoadGenerator::start(config(&edge, &["website"])).unwrap();
    wait_until(|| generator.snapshot().sent >= 40).await;
    let snapshot = generator.snapshot();
    assert_eq!(snapshot.in_flight(), snapshot.sent, "nobody was answered");
    open.send_replace(true);
    let result = generator.stop().await.unwrap();
    let website = result.application("website").unwrap();
    assert_eq!(website.failed, 0);
    assert!(website.latency.p50_ms >= 400.0, "{:?}", website.latency);
    assert!(website.latency.max_ms >= 900.0, "{:?}", website.latency);
}

#[tokio::test]
async fn streams_come_back_and_their_ends_are_told_apart() {
    let event =
        |name: &str, cloud: &str| format!("event: {name}\ndata: {}\n\n", named("results", cloud));
    let edge = service(move |host, number| async move {
        if host.starts_with("website") {
            return whole(named("website", "atos"));
        }
        match number {
            0 => pieces(
                vec![event("result", "alibaba"), event("bye", "alibaba")],
                End::Whole,
            ),
            1 => pieces(vec![event("result", "atos")], End::Cut),
            2 => status(StatusCode::SERVICE_UNAVAILABLE),
            3 => pieces(vec![event("result", "atos")], End::Whole),
            4 => pieces(vec![event("result", "nowhere")], End::Open),
            // In two pieces: an event need not come in one.
            _ => pieces(
                vec![
                    "event: result\nda".to_owned(),
                    event("x", "alibaba")[11..].to_owned(),
                ],
                End::Open,
            ),
        }
    })
    .await;
    let mut config = config(&edge, &["website"]);
    config.streams = vec![StreamLoad {
        name: "results".to_owned(),
        host: "results.games.example".to_owned(),
        path: "/stream".to_owned(),
        count: 1,
    }];
    let generator = LoadGenerator::start(config).unwrap();
    wait_until(|| generator.snapshot().streams[0].events >= 5).await;
    let open = generator.snapshot().streams[0].open.clone();
    assert_eq!(open, [("alibaba".to_owned(), 1)]);
    let result = generator.stop().await.unwrap();

    assert_eq!(result.failed, 0);
    assert!(!result.is_clean(), "broken streams count");
    let streams = &result.streams[0];
    assert_eq!(
        (streams.opened, streams.events, streams.open_at_end),
        (5, 5, 1)
    );
    assert_eq!(
        (streams.clean_ends, streams.broken_ends, streams.refused),
        (1, 3, 1),
        "{:?}",
        streams.examples
    );
    let reconnects: Vec<(&str, &str, bool)> = streams
        .reconnects
        .iter()
        .map(|reconnect| {
            (
                reconnect.from.as_str(),
                reconnect.to.as_str(),
                reconnect.clean,
            )
        })
        .collect();
    assert_eq!(
        reconnects,
        [
            ("alibaba", "atos", true),
            ("atos", "atos", false),
            ("atos", "alibaba", false)
        ]
    );
    assert_eq!(streams.examples.len(), 4);
    assert!(
        streams.longest_gap_ms >= 100.0,
        "the refusal took a pause at least"
    );
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_refused() {
    let refusal =
        |config: LoadConfig| format!("{:#}", LoadGenerator::start(config).err().expect("refused"));
    let edge = "http://127.0.0.1:1";
    assert!(refusal(config("https://127.0.0.1:1", &["website"])).contains("http://"));
    assert!(refusal(config(edge, &[])).contains("no application"));
    assert!(refusal(config(edge, &["website", "website"])).contains("twice"));
    let mut still = config(edge, &["website"]);
    still.applications[0].rate = 0.0;
    assert!(refusal(still).contains("above 0"));
    let mut nowhere = config(edge, &["website"]);
    nowhere.applications[0].host = "two\nlines".to_owned();
    assert!(refusal(nowhere).contains("name of a host"));
}
