//! What is asked of the hub's API server, counted where it leaves the process.

use crate::members::Verb;
use http::{Method, Request, Response};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tower::Service;

/// Counters of requests to the hub; clones count together.
#[derive(Clone, Debug, Default)]
pub struct HubRequests {
    counts: Family<Label, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    verb: &'static str,
    code: u16,
}

impl HubRequests {
    /// Registers `hub_requests_total`, by verb and HTTP status (0 without an
    /// answer).
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "hub_requests",
            "Requests to the API server of the hub; code 0 without an answer",
            self.counts.clone(),
        );
    }

    /// How many requests of a verb were answered like this.
    pub fn answered(&self, verb: Verb, code: u16) -> u64 {
        let verb = verb.as_str();
        let count = self.counts.get(&Label { verb, code });
        count.map_or(0, |count| count.get())
    }
}

/// A client that counts what it sends.
#[derive(Clone, Debug)]
pub(crate) struct Counted<S> {
    client: S,
    /// None where somebody else counts.
    requests: Option<HubRequests>,
}

impl<S> Counted<S> {
    pub fn new(client: S, requests: Option<HubRequests>) -> Self {
        Self { client, requests }
    }
}

impl<S, Sent, Answer> Service<Request<Sent>> for Counted<S>
where
    S: Service<Request<Sent>, Response = Response<Answer>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.client.poll_ready(context)
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let open = self.requests.clone().map(|requests| Open {
            requests,
            verb: verb(&request),
            code: 0,
        });
        let answer = self.client.call(request);
        Box::pin(async move {
            let mut open = open;
            let answer = answer.await;
            if let (Some(open), Ok(answer)) = (&mut open, &answer) {
                open.code = answer.status().as_u16();
            }
            answer
        })
    }
}

/// A request under way. It counts when it is over, also when nobody waits for
/// the answer any more.
struct Open {
    requests: HubRequests,
    verb: Verb,
    code: u16,
}

impl Drop for Open {
    fn drop(&mut self) {
        let label = Label {
            verb: self.verb.as_str(),
            code: self.code,
        };
        self.requests.counts.get_or_create(&label).inc();
    }
}

/// The verb as Kubernetes has it
/// (<https://kubernetes.io/docs/reference/access-authn-authz/authorization/#determine-the-request-verb>).
pub(crate) fn verb<B>(request: &Request<B>) -> Verb {
    let query = request.uri().query().unwrap_or_default();
    let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
    match *request.method() {
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::DELETE => Verb::Delete,
        Method::PATCH => {
            let type_ = request.headers().get(http::header::CONTENT_TYPE);
            let apply =
                type_.is_some_and(|type_| type_.as_bytes().starts_with(b"application/apply-patch"));
            if apply { Verb::Apply } else { Verb::Patch }
        }
        _ if has("watch=true") || has("watch=1") => Verb::Watch,
        _ if is_collection(request.uri().path()) => Verb::List,
        _ => Verb::Get,
    }
}

/// Whether a path is that of all objects of a kind, in a namespace or in all.
fn is_collection(path: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let versioned = match parts.next() {
        Some("api") => parts.next().is_some(),
        Some("apis") => parts.next().and(parts.next()).is_some(),
        _ => false,
    };
    let rest: Vec<&str> = parts.collect();
    versioned && matches!(rest[..], [_] | ["namespaces", _, _])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: Method, uri: &str, content_type: &str) -> &'static str {
        let request = Request::builder().method(method).uri(uri);
        let request = request.header(http::header::CONTENT_TYPE, content_type);
        verb(&request.body(()).unwrap()).as_str()
    }

    #[test]
    fn verbs_are_those_of_kubernetes() {
        let migrations = "/apis/flambeau.dev/v1alpha1/namespaces/games/migrations";
        let one = format!("{migrations}/badges-1");
        let json = "application/json-patch+json";
        for (method, uri, content_type, expected) in [
            (Method::GET, "/readyz", "", "get"),
            (Method::GET, "/apis", "", "get"),
            (Method::GET, "/apis/flambeau.dev/v1alpha1", "", "get"),
            (Method::GET, migrations, "", "list"),
            (Method::GET, "/api/v1/secrets?limit=500", "", "list"),
            (Method::GET, "/api/v1/namespaces", "", "list"),
            (Method::GET, "/api/v1/namespaces/games", "", "get"),
            (
                Method::GET,
                "/api/v1/secrets?watch=true&timeoutSeconds=290",
                "",
                "watch",
            ),
            (Method::GET, &one, "", "get"),
            (Method::GET, &format!("{one}/status"), "", "get"),
            (Method::POST, migrations, "application/json", "create"),
            (Method::PUT, &one, "application/json", "update"),
            (Method::PATCH, &format!("{one}/status"), json, "patch"),
            (Method::PATCH, &one, "application/apply-patch+yaml", "apply"),
            (Method::DELETE, &one, "", "delete"),
        ] {
            assert_eq!(
                asked(method.clone(), uri, content_type),
                expected,
                "{method} {uri}"
            );
        }
    }
}
