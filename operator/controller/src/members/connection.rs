//! One connection to a member's API server: requests with limits of time,
//! counted, their errors told apart.

use super::{
    kubeconfig::Access,
    metrics::{MemberMetrics, Verb},
    token::Token,
    weight,
};
use crate::{leader::Leadership, text::cut, transport};
use flambeau_planner::model::Name;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::client::{Body, Client};
use serde::{Deserialize, de::DeserializeOwned};
use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::{Instant, timeout};

/// How long a request may take, connection and answer included.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest answer, and the longest line of a watch: whatever is larger is
/// not read any further, so that no member fills the operator's memory with
/// one answer. An API server stores no object of more than 1.5 MiB
/// (<https://etcd.io/docs/latest/dev-guide/limit/>).
pub(super) const ANSWER_LIMIT: usize = 16 * 1024 * 1024;
/// The longest message that is passed on.
const MESSAGE_LIMIT: usize = 512;
/// The longest word, such as a reason or the name of a field.
const WORD_LIMIT: usize = 128;
/// How many causes of an error are passed on at most.
const CAUSES_LIMIT: usize = 8;

/// A connection; made without a request.
pub(super) struct Connection {
    cluster: Name,
    /// URL of the API server.
    pub server: String,
    /// What its token says of itself, if it has one.
    pub token: Option<Token>,
    client: Client,
    metrics: MemberMetrics,
    made: Instant,
    /// Milliseconds after `made`, and one; 0 for never.
    last_answer: AtomicU64,
}

impl Connection {
    /// Prepares a connection.
    ///
    /// # Errors
    /// When the certificates or credentials cannot be used.
    pub fn new(
        cluster: Name,
        access: &Access,
        token: Option<Token>,
        metrics: MemberMetrics,
        leadership: &Leadership,
    ) -> Result<Self, String> {
        let unusable =
            |error: kube::Error| format!("the kubeconfig cannot be used: {}", chain(&error));
        let client = transport::client(&access.config, leadership).map_err(unusable)?;
        Ok(Self {
            cluster,
            server: access.server.clone(),
            token,
            client,
            metrics,
            made: Instant::now(),
            last_answer: AtomicU64::new(0),
        })
    }

    /// When the API server last answered anything.
    pub fn last_answer(&self) -> Option<Instant> {
        let millis = self.last_answer.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.made + Duration::from_millis(millis))
    }

    /// Notes that the API server just spoke.
    pub fn answered(&self) {
        let millis = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.last_answer.fetch_max(millis + 1, Ordering::Relaxed);
    }

    /// Sends a request and reads the whole answer, within a limit of time.
    pub async fn call(
        &self,
        verb: Verb,
        request: Request<Body>,
        limit: Duration,
    ) -> Result<Answer, RequestError> {
        match timeout(limit, self.call_unlimited(verb, request)).await {
            Ok(result) => result,
            Err(_) => {
                self.metrics.count(&self.cluster, verb, 0);
                Err(RequestError::Timeout(limit))
            }
        }
    }

    async fn call_unlimited(
        &self,
        verb: Verb,
        request: Request<Body>,
    ) -> Result<Answer, RequestError> {
        let response = self.send(verb, request).await?;
        let status = response.status();
        let etag = response.headers().get(http::header::ETAG).cloned();
        let body = whole(response.into_body()).await?;
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(Answer { status, etag, body });
        }
        Err(RequestError::Api(ApiError::read(status, &body)))
    }

    /// Sends a request whose answer is a stream; limits of time are the
    /// caller's. An answer without success is an error.
    pub async fn stream(&self, verb: Verb, request: Request<Body>) -> Result<Body, RequestError> {
        let response = timeout(REQUEST_TIMEOUT, self.send(verb, request))
            .await
            .map_err(|_| RequestError::Timeout(REQUEST_TIMEOUT))??;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = timeout(REQUEST_TIMEOUT, whole(response.into_body()))
            .await
            .map_err(|_| RequestError::Timeout(REQUEST_TIMEOUT))??;
        Err(RequestError::Api(ApiError::read(status, &body)))
    }

    async fn send(
        &self,
        verb: Verb,
        request: Request<Body>,
    ) -> Result<http::Response<Body>, RequestError> {
        match self.client.send(request).await {
            Ok(response) => {
                let status = response.status();
                self.metrics.count(&self.cluster, verb, status.as_u16());
                // What redirects or knows no path may stand in front of an API server that is silent.
                let doubtful = [StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND];
                if status.is_success()
                    || status == StatusCode::NOT_MODIFIED
                    || status.is_client_error() && !doubtful.contains(&status)
                {
                    self.answered();
                }
                Ok(response)
            }
            Err(error) => {
                self.metrics.count(&self.cluster, verb, 0);
                Err(RequestError::transport(&error))
            }
        }
    }
}

/// The body of an answer, unless it is too large.
async fn whole(body: Body) -> Result<bytes::Bytes, RequestError> {
    match Limited::new(body, ANSWER_LIMIT).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            weight::check(&body).map(|()| body)
        }
        Err(error) if error.is::<LengthLimitError>() => Err(RequestError::TooLarge(ANSWER_LIMIT)),
        Err(error) => Err(RequestError::transport(&*error)),
    }
}

/// A whole answer.
pub(super) struct Answer {
    pub status: StatusCode,
    pub etag: Option<http::HeaderValue>,
    pub body: bytes::Bytes,
}

impl Answer {
    /// Reads the body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, RequestError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| RequestError::Unreadable(unreadable(&error)))
    }
}

/// What can be said of an error of reading without repeating what was read.
pub(super) fn unreadable(error: &serde_json::Error) -> String {
    format!(
        "the answer cannot be understood at line {}, column {}",
        error.line(),
        error.column()
    )
}

/// Makes a request.
pub(super) fn request(
    method: Method,
    path: &str,
    content_type: Option<&'static str>,
    body: Vec<u8>,
) -> Result<Request<Body>, RequestError> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(content_type) = content_type {
        builder = builder.header(http::header::CONTENT_TYPE, content_type);
    }
    builder
        .header(http::header::ACCEPT, "application/json")
        .body(Body::from(body))
        .map_err(|error| RequestError::Unreadable(format!("the request cannot be made: {error}")))
}

/// Makes a GET request.
pub(super) fn get(path: &str) -> Result<Request<Body>, RequestError> {
    request(Method::GET, path, None, Vec::new())
}

/// Why a request has no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The certificate of one side is not accepted by the other.
    #[error("{0}")]
    Certificate(String),
    #[error("{0}")]
    Transport(String),
    #[error("{0}")]
    Unreadable(String),
    #[error("the answer takes more than {} MiB", .0 / 1024 / 1024)]
    TooLarge(usize),
    #[error("{0}")]
    Api(ApiError),
}

impl RequestError {
    pub fn transport(error: &(dyn std::error::Error + 'static)) -> Self {
        let message = chain(error);
        // The words of rustls, whose errors arrive wrapped in I/O errors.
        if message.contains("invalid peer certificate") || message.contains("received fatal alert")
        {
            Self::Certificate(message)
        } else {
            Self::Transport(message)
        }
    }

    /// The HTTP status, if there is one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Api(error) => Some(error.code),
            _ => None,
        }
    }
}

/// An error that the API server states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ApiError {
    pub code: u16,
    pub reason: String,
    pub message: String,
    pub details: Details,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    pub kind: String,
    pub causes: Vec<Cause>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Cause {
    pub reason: String,
    pub field: String,
}

impl ApiError {
    /// Whether the namespace of the object is being deleted.
    pub fn going(&self) -> bool {
        self.details
            .causes
            .iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    }

    fn read(status: StatusCode, body: &[u8]) -> Self {
        let mut error: ApiError = serde_json::from_slice(body).unwrap_or_else(|_| ApiError {
            message: String::from_utf8_lossy(body).trim().to_owned(),
            ..ApiError::default()
        });
        error.code = status.as_u16();
        error.message = shortened(error.message);
        error.reason = cut(error.reason, WORD_LIMIT);
        error.details.kind = cut(error.details.kind, WORD_LIMIT);
        error.details.causes.truncate(CAUSES_LIMIT);
        for cause in &mut error.details.causes {
            cause.reason = cut(std::mem::take(&mut cause.reason), WORD_LIMIT);
            cause.field = cut(std::mem::take(&mut cause.field), WORD_LIMIT);
        }
        error
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.message.is_empty() {
            write!(formatter, "the API server answers {}", self.code)
        } else {
            formatter.write_str(&self.message)
        }
    }
}

/// Cuts a message at a readable length.
pub(super) fn shortened(message: String) -> String {
    cut(message, MESSAGE_LIMIT)
}

/// The message of an error and of everything beneath it, without repetition.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.contains(&message) {
            let _ = write!(text, ": {message}");
        }
        source = error.source();
    }
    shortened(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What a member says ends up in the status of applications, which the hub
    /// refuses when it is too large.
    #[test]
    fn no_part_of_an_error_is_longer_than_people_read() {
        let long = "é".repeat(100_000);
        let cause = json!({"reason": long, "field": long, "message": long});
        let body = json!({"kind": "Status", "code": 200, "message": long, "reason": long,
            "details": {"kind": long, "causes": vec![cause; 20]}});
        let error = ApiError::read(
            StatusCode::UNPROCESSABLE_ENTITY,
            body.to_string().as_bytes(),
        );
        assert_eq!(error.code, 422);
        let told = format!("{error:?}");
        assert!(told.len() < 4096, "{}", told.len());
        let text = ApiError::read(StatusCode::BAD_GATEWAY, long.as_bytes());
        assert!(format!("{text:?}").len() < 1024);
    }
}
