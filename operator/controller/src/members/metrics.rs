//! Counters of what is asked of members, and how old the answers are.

use super::{Fencing, Inner};
use flambeau_planner::model::Name;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::Counter, family::Family, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::{PoisonError, Weak},
};

/// Counters of requests to members; clones count together.
#[derive(Clone, Debug, Default)]
pub struct MemberMetrics {
    requests: Family<RequestLabels, Counter>,
    fenced: Family<ClusterLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClusterLabels {
    cluster: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    cluster: String,
    verb: &'static str,
    code: u16,
}

impl MemberMetrics {
    /// Registers the counters: `member_requests_total`, by cluster, verb and
    /// HTTP status (0 without an answer), and `member_fenced_writes_total`, by
    /// cluster.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "member_requests",
            "Requests to the API servers of members; code 0 without an answer",
            self.requests.clone(),
        );
        registry.register(
            "member_fenced_writes",
            "Writes that a member refused because it knows a higher epoch: a newer leader has taken over",
            self.fenced.clone(),
        );
    }

    /// How many writes a member refused under an old epoch.
    pub fn fenced_writes(&self, cluster: &str) -> u64 {
        let cluster = cluster.to_owned();
        self.fenced
            .get(&ClusterLabels { cluster })
            .map_or(0, |counter| counter.get())
    }

    pub(super) fn fenced(&self, cluster: &Name) {
        let cluster = cluster.to_string();
        self.fenced.get_or_create(&ClusterLabels { cluster }).inc();
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

/// `flambeau_member_observation_age_seconds`, at the moment of the question and
/// by the clock that nobody sets, and `flambeau_member_fenced`. It does not keep
/// members alive.
#[derive(Debug)]
pub(super) struct States(pub Weak<Inner>);

impl Collector for States {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut metric = encoder.encode_descriptor(
            "member_observation_age",
            "Time since the member last answered with what was asked for, or else since it is asked",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        let Some(inner) = self.0.upgrade() else {
            return Ok(());
        };
        let members = inner.members.read().unwrap_or_else(PoisonError::into_inner);
        for (name, member) in members.iter() {
            let labels = ClusterLabels {
                cluster: name.to_string(),
            };
            let age = member.unobserved().as_secs_f64();
            ConstGauge::new(age).encode(metric.encode_family(&labels)?)?;
        }
        let mut metric = encoder.encode_descriptor(
            "member_fenced",
            "1 when the member refuses writes under an old epoch by itself, 0 when it does not; nothing while unknown",
            None,
            MetricType::Gauge,
        )?;
        for (name, member) in members.iter() {
            let fenced: i64 = match member.fence.state() {
                Fencing::Unknown => continue,
                Fencing::Installed => 1,
                Fencing::Unavailable { .. } => 0,
            };
            let labels = ClusterLabels {
                cluster: name.to_string(),
            };
            ConstGauge::new(fenced).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
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
    /// An object that must not be there yet.
    Create,
    /// A part of the fencing policy.
    Update,
    /// Entries of the ConfigMap that remembers epochs.
    Patch,
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
            Verb::Update => "update",
            Verb::Patch => "patch",
            Verb::Delete => "delete",
        }
    }
}
