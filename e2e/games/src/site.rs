//! What an application answers: its documents, rendered once, and the state of its process.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::json;
use tokio::sync::watch;

use crate::{
    application::STREAM_PATH,
    settings::Settings,
    stream::{self, Greeting},
};

/// Names of the headers that repeat what each body says.
const APPLICATION_HEADER: HeaderName = HeaderName::from_static("x-games-application");
const CLOUD_HEADER: HeaderName = HeaderName::from_static("x-games-cloud");
const POD_HEADER: HeaderName = HeaderName::from_static("x-games-pod");

/// A body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Ready for requests.
    Serving,
    /// Told to stop: not ready, still serves, asks clients to come back on another connection.
    Leaving,
    /// Event streams that were open say goodbye now; their clients find another pod, since proxies know by now.
    EndingStreams,
    /// No new connection is accepted; what is in flight is finished.
    Closing,
}

/// An application with everything it can answer.
pub(crate) struct Site {
    settings: Settings,
    documents: HashMap<&'static str, Bytes>,
    identity: [(HeaderName, HeaderValue); 3],
    phase: watch::Receiver<Phase>,
    requests: AtomicU64,
}

impl Site {
    /// Renders the documents of the application.
    pub(crate) fn new(settings: Settings, phase: watch::Receiver<Phase>) -> Arc<Self> {
        let documents = settings.application.documents().iter().map(|document| {
            let content: serde_json::Value =
                serde_json::from_str(document.content).unwrap_or_default();
            let body = json!({
                "application": settings.application,
                "cloud": settings.cloud(),
                "node": settings.node,
                "pod": settings.pod,
                "title": settings.title,
                "path": document.path,
                "content": content,
            });
            (document.path, Bytes::from(body.to_string()))
        });
        let documents = documents.collect();
        let value =
            |text: &str| HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
        let identity = [
            (APPLICATION_HEADER, value(settings.application.name())),
            (CLOUD_HEADER, value(settings.cloud())),
            (POD_HEADER, value(&settings.pod)),
        ];
        Arc::new(Self {
            settings,
            documents,
            identity,
            phase,
            requests: AtomicU64::new(0),
        })
    }

    /// Answers a request.
    pub(crate) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let mut response = match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/healthz") => text(StatusCode::OK, "alive\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => match self.not_ready() {
                None => text(StatusCode::OK, "ready\n"),
                Some(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason),
            },
            (&Method::GET | &Method::HEAD, path) => self.serve(path),
            _ => {
                let mut response = text(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "only GET and HEAD are served here\n",
                );
                response
                    .headers_mut()
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
        };
        let headers = response.headers_mut();
        for (name, value) in &self.identity {
            headers.insert(name, value.clone());
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if *self.phase.borrow() >= Phase::Leaving {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn serve(&self, path: &str) -> Response<Body> {
        if self.settings.application.streams() && path == STREAM_PATH {
            return stream::response(
                Greeting {
                    application: self.settings.application,
                    cloud: self.settings.cloud().to_owned(),
                    pod: self.settings.pod.clone(),
                },
                self.phase.clone(),
            );
        }
        let Some(document) = self.documents.get(path) else {
            return text(StatusCode::NOT_FOUND, "no such page\n");
        };
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        if is_faulty(number, self.settings.faults.error_fraction) {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "a fault that was asked for\n",
            );
        }
        let mut response = Response::new(Full::new(document.clone()).boxed_unsync());
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// Why the process is not ready, if it is not.
    fn not_ready(&self) -> Option<&'static str> {
        if *self.phase.borrow() >= Phase::Leaving {
            return Some("leaving\n");
        }
        if self.settings.faults.never_ready {
            return Some("never ready, as asked by FAULT_NEVER_READY\n");
        }
        let secret = self.settings.secret_file.as_ref()?;
        let present = std::fs::metadata(secret).is_ok_and(|file| file.len() > 0);
        (!present).then_some("SECRET_FILE is missing or empty\n")
    }
}

fn text(status: StatusCode, message: &'static str) -> Response<Body> {
    let mut response =
        Response::new(Full::new(Bytes::from_static(message.as_bytes())).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Whether request `number` (from 0) is one of those that fail: evenly spread, and exact over any long run.
#[allow(clippy::cast_precision_loss, clippy::float_cmp)]
fn is_faulty(number: u64, fraction: f64) -> bool {
    (number as f64 * fraction).floor() != ((number + 1) as f64 * fraction).floor()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_at_the_fraction_that_was_asked_for() {
        for (fraction, expected) in [(0.0, 0), (0.1, 100), (0.25, 250), (1.0, 1000)] {
            assert_eq!(
                (0..1000)
                    .filter(|number| is_faulty(*number, fraction))
                    .count(),
                expected
            );
        }
    }
}
