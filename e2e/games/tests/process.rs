//! The program as the kubelet sees it: a process that is probed, signalled and waited for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Response, StatusCode, header::CONNECTION};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::timeout,
};

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

fn client() -> HttpClient {
    // A request that has to be sent twice is a failed one here.
    Client::builder(TokioExecutor::new())
        .retry_canceled_requests(false)
        .build_http()
}

struct Games {
    child: Child,
    address: String,
}

impl Games {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_games"))
            .arg("serve")
            .env_clear()
            .envs([
                ("LISTEN", "127.0.0.1:0"),
                ("NODE_NAME", "atos-0"),
                ("POD_NAME", "pod-a"),
            ])
            .envs(variables.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines
            .next_line()
            .await
            .unwrap()
            .expect("the process says where it listens");
        let (_, address) = first.rsplit_once(' ').unwrap();
        let address = address.to_owned();
        // Reads on, so that the process can always write.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, address }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id().expect("still running")).unwrap();
        kill(Pid::from_raw(id), signal).unwrap();
    }

    async fn get(&self, client: &HttpClient, path: &str) -> Response<Incoming> {
        get(client, &self.address, path).await.unwrap()
    }

    async fn status(&self, path: &str) -> StatusCode {
        self.get(&client(), path).await.status()
    }
}

async fn get(
    client: &HttpClient,
    address: &str,
    path: &str,
) -> Result<Response<Incoming>, hyper_util::client::legacy::Error> {
    client
        .get(format!("http://{address}{path}").parse().unwrap())
        .await
}

async fn body(response: Response<Incoming>) -> Result<String, hyper::Error> {
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

#[tokio::test]
async fn answers_name_application_cloud_and_pod() {
    let games = Games::start(&[("APPLICATION", "ticketing")]).await;
    let client = client();
    for path in ["/", "/sessions/SWM-14"] {
        let response = games.get(&client, path).await;
        assert_eq!(response.headers()["x-games-application"], "ticketing");
        assert_eq!(response.headers()["x-games-cloud"], "atos");
        assert_eq!(response.headers()["x-games-pod"], "pod-a");
        let answer: serde_json::Value =
            serde_json::from_str(&body(response).await.unwrap()).unwrap();
        assert_eq!(
            (&answer["application"], &answer["cloud"], &answer["pod"]),
            (&"ticketing".into(), &"atos".into(), &"pod-a".into())
        );
    }
    assert_eq!(
        games.status("/stream").await,
        StatusCode::NOT_FOUND,
        "only results has a stream"
    );
    assert_eq!(games.status("/readyz").await, StatusCode::OK);
    assert_eq!(games.status("/healthz").await, StatusCode::OK);
}

/// Clients that keep connections, clients that connect anew for each request and a stream listener go on while the
/// process is told to stop; they leave when the edge would have told them to, before the drain time is over.
#[tokio::test]
async fn no_request_fails_while_the_process_drains() {
    let mut games = Games::start(&[("APPLICATION", "results"), ("DRAIN_SECONDS", "2")]).await;
    let stream = games.get(&client(), "/stream").await;
    let stream = tokio::spawn(body(stream));

    let begin = Instant::now();
    let signal_at = Duration::from_millis(500);
    let until = signal_at + Duration::from_millis(1600);
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let address = games.address.clone();
        clients.spawn(async move {
            let kept = client();
            let (mut answered, mut told_to_move) = (0_u32, 0_u32);
            while begin.elapsed() < until {
                let fresh = (number % 2 == 0).then(client);
                let response = get(fresh.as_ref().unwrap_or(&kept), &address, "/medals")
                    .await
                    .unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                told_to_move += u32::from(
                    response
                        .headers()
                        .get(CONNECTION)
                        .is_some_and(|value| value == "close"),
                );
                body(response).await.unwrap();
                answered += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (answered, told_to_move)
        });
    }

    tokio::time::sleep(signal_at).await;
    assert_eq!(games.status("/readyz").await, StatusCode::OK);
    games.signal(Signal::SIGTERM);
    let signalled = Instant::now();
    while games.status("/readyz").await == StatusCode::OK {
        assert!(
            signalled.elapsed() < Duration::from_millis(500),
            "still ready after the signal"
        );
    }
    assert_eq!(
        games.status("/healthz").await,
        StatusCode::OK,
        "leaving is not being ill"
    );

    while let Some(counts) = clients.join_next().await {
        let (answered, told_to_move) = counts.expect("no request fails");
        assert!(answered > 50, "only {answered} requests were made");
        assert!(
            told_to_move > 0 && told_to_move < answered,
            "{told_to_move} of {answered} said to move"
        );
    }
    let events = timeout(Duration::from_secs(5), stream)
        .await
        .unwrap()
        .unwrap()
        .expect("the stream ends cleanly");
    let last = events.trim_end().rsplit("\n\n").next().unwrap();
    assert!(
        events.starts_with("id: 1\nevent: result\ndata: {"),
        "{events}"
    );
    assert!(
        last.contains("event: bye") && last.contains(r#""cloud":"atos""#),
        "{last}"
    );

    let status = timeout(Duration::from_secs(5), games.child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(
        signalled.elapsed() >= Duration::from_secs(2),
        "left before the drain time was over"
    );
}

#[tokio::test]
async fn not_ready_before_its_secret_is_there() {
    let folder = std::env::temp_dir().join(format!("games-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("key");
    let games = Games::start(&[
        ("APPLICATION", "accreditation"),
        ("SECRET_FILE", file.to_str().unwrap()),
    ])
    .await;
    assert_eq!(
        games.status("/readyz").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    std::fs::write(&file, "key").unwrap();
    assert_eq!(games.status("/readyz").await, StatusCode::OK);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn faults_show_as_asked() {
    let games = Games::start(&[
        ("APPLICATION", "website"),
        ("FAULT_NEVER_READY", "true"),
        ("FAULT_ERROR_FRACTION", "0.25"),
        ("FAULT_CLOUDS", "atos"),
    ])
    .await;
    assert_eq!(
        games.status("/readyz").await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let mut errors = 0;
    for _ in 0..40 {
        errors += u32::from(games.status("/").await == StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(errors, 10);
}

#[tokio::test]
async fn wrong_settings_end_the_process_with_a_remedy() {
    let output = Command::new(env!("CARGO_BIN_EXE_games"))
        .arg("serve")
        .env_clear()
        .env("APPLICATION", "volunteer")
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("volunteers"));
}

#[tokio::test]
async fn pause_sleeps_until_it_is_told_to_stop() {
    let mut pause = Command::new(env!("CARGO_BIN_EXE_games"))
        .arg("pause")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let id = pause.id().unwrap();
    // Before it waits for the signal, the signal would end it like any other process.
    let place = format!("/proc/{id}/wchan");
    let waits = || {
        std::fs::read_to_string(&place)
            .unwrap()
            .contains("sigtimedwait")
    };
    timeout(Duration::from_secs(5), async {
        while !waits() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(pause.try_wait().unwrap().is_none());
    kill(Pid::from_raw(i32::try_from(id).unwrap()), Signal::SIGTERM).unwrap();
    let status = timeout(Duration::from_secs(5), pause.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
