//! One request: sent when it is due, and judged.

use std::{
    borrow::Cow,
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::{
    config::Target,
    recorder::{Clock, Recorder, milliseconds},
    result::{Failure, FailureCause},
};

/// More than any example application answers.
const LONGEST_BODY: usize = 64 * 1024;

pub(crate) type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// The counts, shared by everything that goes on in the generator.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Recorder>>);

impl Shared {
    pub(crate) fn new(recorder: Recorder) -> Self {
        Self(Arc::new(Mutex::new(recorder)))
    }

    /// A panic elsewhere does not make the counts wrong: each is one addition.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Recorder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a request failed, with what exactly happened.
pub(crate) type Fault = (FailureCause, String);

/// What every answer and every event of an example application says.
#[derive(Deserialize)]
pub(crate) struct Speaker<'a> {
    #[serde(borrow)]
    pub(crate) application: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) cloud: Cow<'a, str>,
}

/// Asks for a target with the host that the edge knows it by.
pub(crate) fn request(uri: &Uri, host: &HeaderValue) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.clone();
    request.headers_mut().insert(HOST, host.clone());
    request
}

/// Sends a request of application number `index` that was due at `due`, and counts what comes of it.
pub(crate) async fn send(
    client: HttpClient,
    shared: Shared,
    clock: Clock,
    index: usize,
    target: Arc<Target>,
    due: Duration,
    timeout: Duration,
) {
    let deadline = Instant::from_std(clock.start + due + timeout);
    let outcome = match timeout_at(deadline, exchange(&client, &target)).await {
        Ok(outcome) => outcome,
        Err(_) => Err((
            FailureCause::Timeout,
            format!("no whole answer within {timeout:?}"),
        )),
    };
    let after = clock.elapsed().saturating_sub(due);
    let recorder = &mut *shared.lock();
    let application = &mut recorder.applications[index];
    let outcome = outcome.and_then(|body| {
        let speaker = judge(&body, &application.name)?;
        recorder
            .clouds
            .number(&speaker.cloud)
            .ok_or_else(|| unknown_cloud(&speaker.cloud))
    });
    match outcome {
        Ok(cloud) => application.answered(due, after, cloud),
        Err((cause, detail)) => {
            let path = target.path.clone();
            let failure = Failure {
                time: clock.time(due),
                after_ms: milliseconds(after),
                path,
                cause,
                detail,
            };
            application.failure(due, due + after, failure);
        }
    }
}

async fn exchange(client: &HttpClient, target: &Target) -> Result<Bytes, Fault> {
    let response = client
        .request(request(&target.uri, &target.host))
        .await
        .map_err(|error| {
            let cause = if error.is_connect() {
                FailureCause::Connect
            } else {
                FailureCause::Broken
            };
            (cause, chain(&error))
        })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_BODY)
        .collect()
        .await
        .map_err(|error| {
            let too_long = error
                .downcast_ref::<http_body_util::LengthLimitError>()
                .is_some();
            let cause = if too_long {
                FailureCause::Body
            } else {
                FailureCause::Broken
            };
            (cause, chain(error.as_ref()))
        })?;
    let body = body.to_bytes();
    if status != StatusCode::OK {
        return Err((
            FailureCause::Status,
            format!("{status}: {}", excerpt(&body)),
        ));
    }
    Ok(body)
}

/// Whether the expected application answers.
pub(crate) fn judge<'a>(body: &'a [u8], application: &str) -> Result<Speaker<'a>, Fault> {
    let Ok(speaker) = serde_json::from_slice::<Speaker<'_>>(body) else {
        return Err((
            FailureCause::Body,
            format!("names no application and cloud: {}", excerpt(body)),
        ));
    };
    if speaker.application != application {
        return Err((
            FailureCause::WrongApplication,
            format!("{} answered", speaker.application),
        ));
    }
    Ok(speaker)
}

pub(crate) fn unknown_cloud(cloud: &str) -> Fault {
    (FailureCause::UnknownCloud, format!("{cloud:?} answered"))
}

/// The start of a body, as a piece of one line.
pub(crate) fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(120)]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An error with what caused it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
