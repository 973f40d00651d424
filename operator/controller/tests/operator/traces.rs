//! One move is one trace, whoever tells of it, and nobody waits for a
//! collector.

use crate::{
    fleet::{Fleet, application, refuse},
    moves::{outcome, request},
};
use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as AnyValue},
    trace::v1::{Span, status::StatusCode},
};
use prost::Message;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A collector that takes OTLP over HTTP, or takes it and never answers.
struct Receiver {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Receiver {
    fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&requests);
        // The threads end with the process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let taken = Arc::clone(&taken);
                thread::spawn(move || serve(&stream, answers, &taken));
            }
        });
        Self { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every span so far.
    fn spans(&self) -> Vec<Span> {
        let requests = self.requests.lock();
        let requests = requests.unwrap_or_else(PoisonError::into_inner);
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// What every request says of its sender.
    fn senders(&self) -> BTreeSet<BTreeMap<String, String>> {
        let requests = self.requests.lock();
        let requests = requests.unwrap_or_else(PoisonError::into_inner);
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let resources = resources.filter_map(|spans| spans.resource.as_ref());
        resources
            .map(|resource| told(&resource.attributes))
            .collect()
    }
}

fn serve(
    stream: &TcpStream,
    answers: bool,
    taken: &Mutex<Vec<ExportTraceServiceRequest>>,
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(": ") else {
                break;
            };
            match name.to_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "content-type" => assert_eq!(value, "application/x-protobuf"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        if answers {
            (&*stream)
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .ok()?;
        }
    }
}

fn told(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        AnyValue::StringValue(text) => Some(text.clone()),
        AnyValue::IntValue(number) => Some(number.to_string()),
        AnyValue::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    };
    let all = attributes.iter();
    all.filter_map(|attribute| Some((attribute.key.clone(), text(attribute)?)))
        .collect()
}

fn nanoseconds(time: &Value) -> u64 {
    let time: Timestamp = time.as_str().unwrap().parse().unwrap();
    u64::try_from(time.as_nanosecond()).unwrap()
}

#[test]
fn a_move_is_one_trace_and_another_operator_goes_on_with_it() {
    let collector = Receiver::start(true);
    let mut fleet = Fleet::start_with(&["--otlp-endpoint", &collector.url()]);
    let mut badges = application("badges");
    badges["spec"]["migration"]["soakSeconds"] = json!(4);
    fleet.place(&badges);
    fleet.apply(&refuse("law", &["east"]));
    let has = |name: &str| collector.spans().iter().any(|span| span.name == name);
    fleet.until("the first steps were told", |_| has("Shift"));
    fleet.kill_operator();
    assert!(
        !has("Soak"),
        "the move was over before the operator was killed"
    );
    fleet.start_operator();
    fleet.until("the whole move was told", |_| has("Relocate"));

    let migration = fleet.get("migration/badges-1");
    let uid = migration["metadata"]["uid"]
        .as_str()
        .unwrap()
        .replace('-', "");
    let spans = collector.spans();
    let (whole, steps): (Vec<_>, Vec<_>) = spans
        .into_iter()
        .partition(|span| span.parent_span_id.is_empty());
    let [whole] = &whole[..] else {
        panic!("a move has one span without a parent: {whole:#?}");
    };
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let recorded = migration["status"]["steps"].as_array().unwrap();
    let (done, recorded) = recorded.split_last().unwrap();
    assert_eq!(steps.len(), recorded.len());
    for (span, step) in steps.iter().zip(recorded) {
        assert_eq!(span.name, step["name"].as_str().unwrap());
        assert_eq!(hex(&span.trace_id), uid);
        assert_eq!(span.parent_span_id, whole.span_id);
        let told = (span.start_time_unix_nano, span.end_time_unix_nano);
        let stored = (
            nanoseconds(&step["startTime"]),
            nanoseconds(&step["endTime"]),
        );
        assert_eq!(told, stored, "{}: {recorded:#?}", span.name);
    }
    assert_eq!(hex(&whole.trace_id), uid);
    assert_eq!(whole.name, "Relocate");
    assert_eq!(
        whole.start_time_unix_nano,
        nanoseconds(&recorded[0]["startTime"])
    );
    assert_eq!(whole.end_time_unix_nano, nanoseconds(&done["startTime"]));
    assert_eq!(whole.status.as_ref().unwrap().code(), StatusCode::Ok);
    for span in steps.iter().chain([whole]) {
        let told = told(&span.attributes);
        for (attribute, value) in [
            ("k8s.namespace.name", "default"),
            ("flambeau.application", "badges"),
            ("flambeau.migration", "badges-1"),
            ("flambeau.type", "Relocate"),
            ("flambeau.trigger", "Policy"),
            ("flambeau.from", "one"),
            ("flambeau.to", "two"),
        ] {
            assert_eq!(told[attribute], value, "{attribute} of {}", span.name);
        }
    }
    assert_eq!(told(&whole.attributes)["flambeau.result"], "Completed");
    assert_eq!(told(&whole.attributes)["flambeau.epoch"], "2");
    let senders = collector.senders();
    assert!(
        senders
            .iter()
            .all(|told| told["service.name"] == "flambeau-operator"
                && told["service.version"] == env!("CARGO_PKG_VERSION")),
        "{senders:?}"
    );

    a_move_that_is_refused_says_why(&fleet, &collector);
}

fn a_move_that_is_refused_says_why(fleet: &Fleet, collector: &Receiver) {
    fleet.apply(&request("unlawful", "badges", "two", "one"));
    assert_eq!(outcome(fleet, "unlawful").0, "Aborted");
    let of_it = |span: &Span| told(&span.attributes)["flambeau.migration"] == "unlawful";
    fleet.until("the refusal was told", |_| {
        collector.spans().iter().filter(|span| of_it(span)).count() == 2
    });
    let mut spans = collector.spans();
    spans.retain(of_it);
    for span in &spans {
        let status = span.status.as_ref().unwrap();
        assert_eq!(status.code(), StatusCode::Error);
        assert!(status.message.starts_with("ProviderRefused"), "{status:?}");
    }
    let preflight = spans.iter().find(|span| span.name == "Preflight").unwrap();
    let events = preflight.events.iter().map(|event| told(&event.attributes));
    let reasons: Vec<String> = events.map(|told| told["flambeau.reason"].clone()).collect();
    assert!(
        reasons.contains(&"ProviderRefused".to_owned()),
        "{reasons:?}"
    );
}

/// Each export is given up after five seconds: a step that waited for one
/// would take longer than all of these.
const WHOLE_MOVE: Duration = Duration::from_secs(15);

#[test]
fn a_collector_that_hangs_or_is_not_there_delays_no_move_and_no_stop() {
    let hung = Receiver::start(false);
    let mut fleet = Fleet::start_with(&["--otlp-endpoint", &hung.url()]);
    fleet.place(&application("badges"));
    fleet.apply(&request("away", "badges", "one", "two"));
    assert_eq!(outcome(&fleet, "away").0, "Completed");
    let status = &fleet.get("migration/away")["status"];
    let took = nanoseconds(&status["completionTime"]) - nanoseconds(&status["startTime"]);
    assert!(Duration::from_nanos(took) < WHOLE_MOVE, "{took} ns");
    assert!(hung.asked() > 0, "nothing was sent to the collector");
    let warning = "the collector does not take traces";
    fleet.until("the log says so", |fleet| fleet.log().contains(warning));

    let asked = Instant::now();
    assert_eq!(fleet.stop_operator(), Some(0));
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10), "to stop took {took:?}");
    assert_eq!(fleet.log().matches(warning).count(), 1, "it is said once");
}
