//! Counters of what is asked of members.

use flambeau_planner::model::Name;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Counters of requests to members; clones count together.
#[derive(Clone, Debug, Default)]
pub struct MemberMetrics {
    requests: Family<RequestLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    cluster: String,
    verb: &'static str,
    code: u16,
}

impl MemberMetrics {
    /// Registers the counters: `member_requests_total`, by cluster, verb and
    /// HTTP status (0 without an answer).
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "member_requests",
            "Requests to the API servers of members; code 0 without an answer",
            self.requests.clone(),
        );
    }

    /// How many requests of a verb were sent to a member, whatever came back.
    pub fn requests(&self, cluster: &str, verb: Verb, codes: &[u16]) -> u64 {
        let count = |code: &u16| {
            let labels = RequestLabels {
                cluster: cluster.to_owned(),
                verb: verb.as_str(),
                code: *code,
            };
            self.requests
                .get(&labels)
                .map_or(0, |counter| counter.get())
        };
        codes.iter().map(count).sum()
    }

    pub(super) fn count(&self, cluster: &Name, verb: Verb, code: u16) {
        let labels = RequestLabels {
            cluster: cluster.to_string(),
            verb: verb.as_str(),
            code,
        };
        self.requests.get_or_create(&labels).inc();
    }
}

/// What a request does, in the words of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// One object, or a path that is no object.
    Get,
    /// Objects of a kind.
    List,
    /// Changes of a kind.
    Watch,
    /// Server-side apply.
    Apply,
    /// A Namespace.
    Create,
    /// One object.
    Delete,
}

impl Verb {
    /// The word in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Watch => "watch",
            Verb::Apply => "apply",
            Verb::Create => "create",
            Verb::Delete => "delete",
        }
    }
}
