//! A Lease that is deleted, seen from a hub that answers as one does while
//! another process makes it anew: too short a moment for a real one.

use crate::candidate::PATIENCE;
use flambeau_operator::leader::{Election, End, LeaseSettings, Timing};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};

/// What becomes of the next Lease that is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Another process makes it a moment earlier.
    Overtaken,
    /// It is made, and nobody hears of it.
    AnswerLost,
    /// It is made.
    Made,
}

/// A hub that holds one Lease.
struct Fake {
    stored: Option<Value>,
    version: u64,
    next: Next,
}

impl Fake {
    fn store(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.stored = Some(lease.clone());
        lease
    }

    /// By the rules for Leases: none is replaced without saying which version.
    fn answer(&mut self, method: &Method, watch: bool, sent: Value) -> (u16, Value) {
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (method, &self.stored) {
            // Watches are only a hint.
            (&Method::GET, _) if watch => (403, Value::Null),
            (&Method::GET, None) | (&Method::PUT, None) => (404, Value::Null),
            (&Method::GET, Some(stored)) => (200, stored.clone()),
            (&Method::PUT, Some(_)) if version(&sent).is_null() => (422, Value::Null),
            (&Method::PUT, Some(stored)) if version(&sent) != version(stored) => (409, Value::Null),
            (&Method::PUT, Some(_)) => (200, self.store(sent)),
            (&Method::POST, Some(_)) => (409, Value::Null),
            (&Method::POST, None) => match std::mem::replace(&mut self.next, Next::Made) {
                Next::Made => (201, self.store(sent)),
                Next::AnswerLost => {
                    self.store(sent);
                    (504, Value::Null)
                }
                Next::Overtaken => {
                    let mut lease = sent;
                    lease["spec"]["holderIdentity"] = "other".into();
                    self.store(lease);
                    (409, Value::Null)
                }
            },
            _ => (405, Value::Null),
        }
    }
}

/// A client of it.
fn client(hub: &Arc<Mutex<Fake>>) -> Client {
    let hub = Arc::clone(hub);
    let service = tower::service_fn(move |request: Request<Body>| {
        let hub = Arc::clone(&hub);
        async move {
            let (head, body) = request.into_parts();
            let sent = body.collect().await.unwrap().to_bytes();
            let sent = serde_json::from_slice(&sent).unwrap_or_default();
            let watch = !head.uri.path().ends_with("/lease") && head.method == Method::GET;
            let (code, body) = hub.lock().unwrap().answer(&head.method, watch, sent);
            let body = if body.is_null() {
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                    "message": "refused", "reason": if code == 404 { "NotFound" } else { "" }})
            } else {
                body
            };
            let code = StatusCode::from_u16(code).unwrap();
            let answer = Response::builder().status(code);
            Ok::<_, Infallible>(
                answer
                    .body(Body::from(body.to_string().into_bytes()))
                    .unwrap(),
            )
        }
    });
    Client::new(service, "default")
}

/// A process that leads by a Lease of 10 s; the Lease is deleted, and what
/// becomes of it then is told.
async fn deleted(next: Next) -> (Arc<Mutex<Fake>>, Running) {
    let hub = Arc::new(Mutex::new(Fake {
        stored: None,
        version: 0,
        next: Next::Made,
    }));
    let settings = LeaseSettings {
        namespace: "default".to_owned(),
        name: "lease".to_owned(),
        identity: "one".to_owned(),
        timing: Timing::of_seconds(10),
    };
    let election = Election::new(client(&hub), settings);
    let mut leading = election.leading();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(election.run(stopped));
    let led = leading.wait_for(|leading| *leading);
    timeout(PATIENCE, led).await.unwrap().unwrap();
    let mut fake = hub.lock().unwrap();
    (fake.stored, fake.next) = (None, next);
    drop(fake);
    (hub, Running { task, stop })
}

struct Running {
    task: tokio::task::JoinHandle<End>,
    stop: watch::Sender<bool>,
}

#[tokio::test]
async fn a_lease_that_another_made_a_moment_earlier_ends_leadership_at_once() {
    let (_hub, running) = deleted(Next::Overtaken).await;
    let begun = Instant::now();
    let end = timeout(PATIENCE, running.task).await.unwrap().unwrap();
    assert!(
        matches!(&end, End::Taken { now, .. } if now == "held by other now"),
        "{end}"
    );
    // The next renewal is 1.5 s after the last; without it, it were 6 s.
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_lease_that_was_made_anew_without_an_answer_stays_with_its_holder() {
    let (hub, running) = deleted(Next::AnswerLost).await;
    let renewed = async {
        // Made, and replaced once by its holder.
        while hub.lock().unwrap().version < 3 {
            assert!(!running.task.is_finished());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, renewed).await.unwrap();
    running.stop.send(true).unwrap();
    assert_eq!(
        timeout(PATIENCE, running.task).await.unwrap().unwrap(),
        End::Released
    );
}
