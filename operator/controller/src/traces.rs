//! Traces: one move is one trace, its steps are the spans.
//!
//! A span is made when the end of a step was stored, from the times that were
//! stored with it, and every number in it comes from the UID of the Migration:
//! so an operator that goes on with a move goes on with its trace, without
//! having heard of the one before it. Nobody waits for a collector: spans go
//! through a bounded queue to a thread of their own, and are dropped when it
//! is full.

use crate::progress::{self, Progress};
use flambeau_planner::model::{GateOutcome, StepRecord};
use http::Uri;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use jiff::Timestamp;
use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{Event, SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
    },
};
use sha2::{Digest, Sha256};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{runtime::Handle, time::timeout};

/// How long spans are collected before they are sent together.
const DELAY: Duration = Duration::from_secs(1);
/// How long a collector may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long what is left may take when the operator ends.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of an answer; a collector says nothing or little.
const ANSWER_LIMIT: usize = 64 * 1024;
/// Spans that wait at most: those of 200 moves.
const QUEUE: usize = 2048;

/// Where traces go; nowhere by default. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<BatchSpanProcessor>>);

/// Why no traces can be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The URL cannot be used.
    #[error(
        "{url}: must be the URL of a collector without a path, such as http://collector:4318; for one behind TLS run a collector in between"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// The exporter refuses a setting, such as one from the environment.
    #[error("traces cannot be exported: {0}")]
    Exporter(#[from] ExporterBuildError),
}

impl Traces {
    /// Traces to a collector that takes OTLP over HTTP. Needs a Tokio runtime.
    ///
    /// # Errors
    /// When the URL or a setting cannot be used; nothing is sent yet.
    pub fn to(url: &str) -> Result<Self, TracesError> {
        let bad = || TracesError::Url {
            url: url.to_owned(),
        };
        let base: Uri = url.parse().map_err(|_| bad())?;
        let usable = base.scheme_str() == Some("http")
            && base.authority().is_some()
            && matches!(base.path(), "" | "/")
            && base.query().is_none();
        if !usable {
            return Err(bad());
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new(base.to_string()))
            .with_endpoint(format!("{}/v1/traces", url.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build()?;
        let settings = BatchConfigBuilder::default()
            .with_scheduled_delay(DELAY)
            .with_max_queue_size(QUEUE);
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(settings.build())
            .build();
        let resource = Resource::builder()
            .with_service_name("flambeau-operator")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        processor.set_resource(&resource.build());
        Ok(Self(Some(Arc::new(processor))))
    }

    /// Tells of steps that ended, and of a move that did. Returns at once.
    pub fn tell(&self, progress: &Progress) {
        if let Some(processor) = &self.0 {
            for span in spans(progress) {
                processor.on_end(span);
            }
        }
    }

    /// Sends what is left, for as long as that takes a moment only.
    pub async fn end(self) {
        let Some(processor) = self.0 else { return };
        let end = move || processor.shutdown_with_timeout(FAREWELL);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(end).await {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// Spans of the steps that ended, and of the whole move if it did.
fn spans(progress: &Progress) -> Vec<SpanData> {
    let whole = span_id(&progress.uid, "move", 0);
    let mut spans: Vec<SpanData> = progress
        .steps
        .iter()
        .map(|(place, end, step)| {
            let word = step.step.as_str();
            let mut span = span(progress, word, (step.start, *end));
            span.span_context = context(&progress.uid, span_id(&progress.uid, word, *place));
            span.parent_span_id = whole;
            span.attributes.push(KeyValue::new("flambeau.step", word));
            span.events = refusals(step, *end);
            if let Some(reason) = progress::failures(step).next() {
                span.status = Status::error(reason.as_str());
            }
            span
        })
        .collect();
    let Some(record) = &progress.end else {
        return spans;
    };
    let (Some(first), Some(last)) = (record.steps.first(), record.steps.last()) else {
        return spans;
    };
    let mut span = span(progress, progress.type_word(), (first.start, last.start));
    span.span_context = context(&progress.uid, whole);
    let mut tell = |name: &'static str, value: opentelemetry::Value| {
        span.attributes.push(KeyValue::new(name, value));
    };
    if let Some(outcome) = record.outcome {
        tell("flambeau.result", progress::outcome_word(outcome).into());
    }
    tell("flambeau.epoch", record.epoch.into());
    tell(
        "flambeau.downtime_seconds",
        record.downtime.as_secs_f64().into(),
    );
    if let Some(recovery) = record.recovery {
        tell("flambeau.recovery_seconds", recovery.as_secs_f64().into());
    }
    span.status = match &record.abort_reason {
        Some((reason, message)) => Status::error(format!("{reason}: {message}")),
        None => Status::Ok,
    };
    spans.push(span);
    spans
}

/// A span with what all spans of a move have.
fn span(progress: &Progress, name: &'static str, (start, end): (Timestamp, Timestamp)) -> SpanData {
    let spec = &progress.spec;
    let start = stored(start);
    SpanData {
        span_context: SpanContext::empty_context(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: start,
        // A clock may have been set back meanwhile.
        end_time: start.max(stored(end)),
        attributes: vec![
            KeyValue::new("k8s.namespace.name", progress.key.namespace.to_string()),
            KeyValue::new("flambeau.application", spec.application.clone()),
            KeyValue::new("flambeau.migration", progress.key.name.to_string()),
            KeyValue::new("flambeau.type", progress.type_word()),
            KeyValue::new("flambeau.trigger", format!("{:?}", spec.trigger)),
            KeyValue::new("flambeau.from", spec.from.clone()),
            KeyValue::new("flambeau.to", spec.to.clone()),
        ],
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder("flambeau.dev/migration").build(),
    }
}

/// A moment as the API stores it: in microseconds. The operator that comes
/// next knows no more than that.
fn stored(time: Timestamp) -> SystemTime {
    Timestamp::from_microsecond(time.as_microsecond()).map_or(UNIX_EPOCH, SystemTime::from)
}

/// An event for every gate that did not pass when its step ended.
fn refusals(step: &StepRecord, end: Timestamp) -> SpanEvents {
    let mut events = SpanEvents::default();
    let refused = step
        .verdicts
        .iter()
        .filter(|verdict| verdict.outcome != GateOutcome::Pass);
    events.events.extend(refused.map(|verdict| {
        let attributes = vec![
            KeyValue::new("flambeau.gate", verdict.gate.to_string()),
            KeyValue::new("flambeau.reason", verdict.reason.as_str()),
            KeyValue::new("flambeau.message", verdict.message.clone()),
        ];
        Event::new("gate did not pass", stored(end), attributes, 0)
    }));
    events
}

fn context(uid: &str, span: SpanId) -> SpanContext {
    SpanContext::new(
        trace_id(uid),
        span,
        TraceFlags::SAMPLED,
        false,
        TraceState::NONE,
    )
}

/// The UID of the Migration without its dashes, so that one leads to the other.
fn trace_id(uid: &str) -> TraceId {
    let digits: String = uid.chars().filter(|letter| *letter != '-').collect();
    match TraceId::from_hex(&digits) {
        Ok(id) if id != TraceId::INVALID && digits.len() == 32 => id,
        // An API server may have other UIDs.
        _ => {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&Sha256::digest(uid)[..16]);
            TraceId::from_bytes(bytes)
        }
    }
}

/// The same for whoever tells of the step.
fn span_id(uid: &str, word: &str, place: usize) -> SpanId {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Sha256::digest(format!("{uid}/{word}/{place}"))[..8]);
    SpanId::from_bytes(bytes)
}

/// The collector, asked from the runtime that the rest of the operator uses.
#[derive(Debug)]
struct Collector {
    url: String,
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
    /// Told once for each time that it does not answer.
    silent: Arc<AtomicBool>,
}

impl Collector {
    fn new(url: String) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(tcp);
        Self {
            url,
            client,
            runtime: Handle::current(),
            silent: Arc::default(),
        }
    }

    fn note(&self, trouble: Option<&str>) {
        let before = self.silent.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(trouble) if !before => {
                tracing::warn!(
                    collector = self.url,
                    trouble,
                    "the collector does not take traces; moves go on, their spans are lost"
                );
            }
            None if before => {
                tracing::info!(collector = self.url, "the collector takes traces again")
            }
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let answered = async move {
            let asked = client.request(request.map(Full::new)).await?;
            let (parts, body) = asked.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await?;
            Ok::<_, HttpError>(Response::from_parts(parts, body.to_bytes()))
        };
        // Whoever exports is a thread without a runtime, so that nothing that
        // needs one, not even a timer, may be made there.
        let limited = self
            .runtime
            .spawn(async { timeout(TIMEOUT, answered).await });
        let answer = match limited.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(format!("no answer within {} s", TIMEOUT.as_secs()).into()),
            Err(ended) => Err(ended.into()),
        };
        match &answer {
            Ok(answer) if answer.status().is_success() => self.note(None),
            Ok(answer) => self.note(Some(&format!("it answers {}", answer.status()))),
            Err(error) => self.note(Some(&error.to_string())),
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_found_by_the_uid_of_the_migration() {
        let id = trace_id("0a5c3b1e-9d67-4f0e-8b1a-6f2f7d3c9e11");
        assert_eq!(id.to_string(), "0a5c3b1e9d674f0e8b1a6f2f7d3c9e11");
        for uid in ["", "not-a-uuid", "00000000-0000-0000-0000-000000000000"] {
            assert_ne!(trace_id(uid), TraceId::INVALID, "{uid}");
            assert_eq!(trace_id(uid), trace_id(uid), "{uid}");
        }
    }

    #[test]
    fn a_step_that_is_taken_twice_is_two_spans() {
        assert_ne!(span_id("uid", "Abort", 3), span_id("uid", "Abort", 4));
        assert_eq!(span_id("uid", "Abort", 3), span_id("uid", "Abort", 3));
    }

    #[tokio::test]
    async fn a_collector_that_cannot_be_meant_is_refused_by_name() {
        for url in [
            "collector:4318",
            "https://collector:4318",
            "http://collector:4318/v1/traces",
            "http://",
            "grpc://collector:4317",
            "nonsense",
        ] {
            let error = Traces::to(url).unwrap_err().to_string();
            assert!(
                error.starts_with(url) && error.contains("http://"),
                "{error}"
            );
        }
        for url in ["http://collector:4318", "http://[::1]:4318/"] {
            Traces::to(url).unwrap().end().await;
        }
    }
}
