//! Counters of what is asked of members, and how old the answers are.

use super::{Fencing, Inner};
use flambeau_planner::model::Name;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Counters of requests to members; clones count together.
///
/// Only those of members of the fleet: a cluster that left is not exported any
/// more, also when an answer of it comes late.
#[derive(Clone, Debug, Default)]
pub struct MemberMetrics(Arc<Mutex<BTreeMap<Name, Counts>>>);

/// What was asked of one member.
#[derive(Debug, Default)]
struct Counts {
    requests: BTreeMap<(&'static str, u16), u64>,
    fenced: u64,
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
        registry.register_collector(Box::new(self.clone()));
    }

    /// How many writes a member refused under an old epoch.
    pub fn fenced_writes(&self, cluster: &str) -> u64 {
        self.lock().get(cluster).map_or(0, |counts| counts.fenced)
    }

    pub(super) fn fenced(&self, cluster: &Name) {
        if let Some(counts) = self.lock().get_mut(cluster) {
            counts.fenced += 1;
        }
    }

    /// How many requests of a verb were sent to a member, whatever came back.
    pub fn requests(&self, cluster: &str, verb: Verb, codes: &[u16]) -> u64 {
        let clusters = self.lock();
        let requests = clusters.get(cluster).map(|counts| &counts.requests);
        let count = |code: &u16| requests?.get(&(verb.as_str(), *code)).copied();
        codes.iter().filter_map(count).sum()
    }

    pub(super) fn count(&self, cluster: &Name, verb: Verb, code: u16) {
        // What is no status of HTTP is no answer, and no label of its own.
        let code = if (100..600).contains(&code) { code } else { 0 };
        if let Some(counts) = self.lock().get_mut(cluster) {
            *counts.requests.entry((verb.as_str(), code)).or_default() += 1;
        }
    }

    /// Counts for a cluster from here on; goes on where it counts already.
    pub(super) fn join(&self, cluster: &Name) {
        self.lock().entry(cluster.clone()).or_default();
    }

    /// Counts for a cluster no more, and forgets what was counted.
    pub(super) fn leave(&self, cluster: &str) {
        self.lock().remove(cluster);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Name, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for MemberMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let clusters = self.lock();
        let mut metric = encoder.encode_descriptor(
            "member_requests",
            "Requests to the API servers of members; code 0 without an answer",
            None,
            MetricType::Counter,
        )?;
        for (cluster, counts) in clusters.iter() {
            for (&(verb, code), &count) in &counts.requests {
                let labels = RequestLabels {
                    cluster: cluster.to_string(),
                    verb,
                    code,
                };
                ConstCounter::new(count).encode(metric.encode_family(&labels)?)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "member_fenced_writes",
            "Writes that a member refused because it knows a higher epoch: a newer leader has taken over",
            None,
            MetricType::Counter,
        )?;
        for (cluster, counts) in clusters.iter().filter(|(_, counts)| counts.fenced > 0) {
            let labels = ClusterLabels {
                cluster: cluster.to_string(),
            };
            ConstCounter::new(counts.fenced).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dirty::Dirty,
        leader::Leadership,
        members::{MemberSettings, Members},
    };
    use flambeau_crds::MemberClusterSpec;
    use prometheus_client::encoding::text::encode;
    use serde_json::json;

    #[tokio::test]
    async fn a_cluster_that_left_is_not_exported_any_more() {
        let settings = MemberSettings::default();
        let members = Members::new(Dirty::default(), settings, Leadership::always());
        let mut registry = Registry::with_prefix("flambeau");
        members.register(&mut registry);
        let scraped = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let spec = json!({"provider": "east", "residency": "FR",
            "kubeconfigSecret": {"namespace": "system", "name": "member"}});
        let spec: MemberClusterSpec = serde_json::from_value(spec).unwrap();
        for name in ["leaves", "stays"] {
            let name = name.into();
            members.configure(&name, &spec, Err("not now".to_owned()));
            members.metrics().count(&name, Verb::List, 200);
            members.metrics().count(&name, Verb::List, 999);
            members.metrics().fenced(&name);
        }
        for line in [
            r#"flambeau_member_requests_total{cluster="leaves",verb="list",code="200"} 1"#,
            r#"flambeau_member_requests_total{cluster="leaves",verb="list",code="0"} 1"#,
            r#"flambeau_member_fenced_writes_total{cluster="leaves"} 1"#,
            r#"flambeau_member_observation_age_seconds{cluster="leaves"}"#,
        ] {
            assert!(scraped().contains(line), "{line}: {}", scraped());
        }

        members.forget("leaves");
        // An answer that was under way.
        members.metrics().count(&"leaves".into(), Verb::Watch, 0);
        members.metrics().fenced(&"leaves".into());
        let left = scraped();
        assert!(!left.contains("leaves"), "{left}");
        assert!(left.contains(r#"{cluster="stays",verb="list",code="200"} 1"#));
    }
}
