//! What API servers say that was written, from their own metrics.

use std::collections::BTreeMap;

use anyhow::Result;
use http::Method;
use serde::Serialize;

use crate::api::Plain;

const VERBS: [&str; 6] = [
    "POST",
    "PUT",
    "PATCH",
    "APPLY",
    "DELETE",
    "DELETECOLLECTION",
];

/// What API servers write by themselves every few seconds: their Lease, and the endpoints of the service `kubernetes`.
const OWN: [&str; 2] = ["leases", "endpoints"];

/// Kinds that speak of the fleet, not of one application: three of the hub, and what every connection to a member puts there.
const FLEET: [&str; 5] = [
    "cloudproviders",
    "memberclusters",
    "sovereigntypolicies",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];

/// Requests that wrote, by verb, resource, subresource and the first digit of the answer's status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Writes(BTreeMap<(String, String, char), u64>);

/// Writes in words, for the report.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// What was written, such as `PATCH gamesapplications/status`.
    pub what: String,
    /// First digit of the status of the answers.
    pub answers: char,
    /// How often.
    pub count: u64,
}

impl Writes {
    /// Reads the counters of one API server.
    pub async fn read(plain: &Plain) -> Result<Self> {
        let text = plain
            .send(Method::GET, "/metrics", "text/plain", Vec::new())
            .await?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut writes = Self::default();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("apiserver_request_total{") else {
                continue;
            };
            let Some((labels, count)) = rest.rsplit_once("} ") else {
                continue;
            };
            let label = |name: &str| {
                let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
                labels[start..].split('"').next()
            };
            let verb = label("verb").unwrap_or_default();
            let resource = label("resource").unwrap_or_default();
            // What was only tried wrote nothing.
            let tried = label("dry_run").is_some_and(|value| !value.is_empty());
            if tried || !VERBS.contains(&verb) || OWN.contains(&resource) {
                continue;
            }
            let what = match label("subresource").unwrap_or_default() {
                "" => resource.to_owned(),
                subresource => format!("{resource}/{subresource}"),
            };
            let answer = label("code")
                .and_then(|code| code.chars().next())
                .unwrap_or('?');
            let count = count.trim().parse::<f64>().unwrap_or(0.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counters are whole and small"
            )]
            let count = count as u64;
            *writes.0.entry((verb.to_owned(), what, answer)).or_default() += count;
        }
        writes
    }

    /// What came since an earlier reading.
    pub fn since(&self, before: &Self) -> Self {
        let grown = self.0.iter().filter_map(|(key, count)| {
            let count = count - before.0.get(key).copied().unwrap_or(0).min(*count);
            (count > 0).then(|| (key.clone(), count))
        });
        Self(grown.collect())
    }

    /// Without what the bench itself wrote.
    pub fn without(mut self, verb: &str, what: &str, count: usize) -> Self {
        let key = (verb.to_owned(), what.to_owned(), '2');
        if let Some(known) = self.0.get_mut(&key) {
            *known = known.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
        }
        self.0.retain(|_, count| *count > 0);
        self
    }

    /// Together with those of another API server.
    pub fn and(mut self, other: &Self) -> Self {
        for (key, count) in &other.0 {
            *self.0.entry(key.clone()).or_default() += count;
        }
        self
    }

    /// Writes that were done.
    pub fn done(&self) -> u64 {
        self.sum(|_, answer| answer == '2')
    }

    /// Writes that were done to what speaks of the fleet.
    pub fn of_the_fleet(&self) -> u64 {
        self.sum(|what, answer| {
            let resource = what.split('/').next().unwrap_or_default();
            answer == '2' && FLEET.contains(&resource)
        })
    }

    /// Events among the writes that were done.
    pub fn events(&self) -> u64 {
        self.sum(|what, answer| answer == '2' && what == "events")
    }

    /// Writes that were refused.
    pub fn refused(&self) -> u64 {
        self.sum(|_, answer| answer != '2')
    }

    fn sum(&self, choose: impl Fn(&str, char) -> bool) -> u64 {
        self.0
            .iter()
            .filter(|((_, what, answer), _)| choose(what, *answer))
            .map(|(_, count)| count)
            .sum()
    }

    /// In words.
    pub fn list(&self) -> Vec<Counted> {
        let entries = self.0.iter();
        entries
            .map(|((verb, what, answers), count)| Counted {
                what: format!("{verb} {what}"),
                answers: *answers,
                count: *count,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
# TYPE apiserver_request_total counter
apiserver_request_total{code="201",component="apiserver",dry_run="",group="flambeau.dev",resource="gamesapplications",scope="resource",subresource="",verb="POST",version="v1alpha1"} 2
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 9
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="configmaps",scope="cluster",subresource="",verb="LIST",version="v1"} 7
"#;

    #[test]
    fn counts_writes_and_nothing_else() {
        let before = Writes::parse(BEFORE);
        assert_eq!(before.done(), 2);
        let more = BEFORE.replace("\"v1alpha1\"} 2", "\"v1alpha1\"} 5")
            + r#"apiserver_request_total{code="200",group="flambeau.dev",resource="gamesapplications",subresource="status",verb="PATCH"} 4
apiserver_request_total{code="404",group="",resource="configmaps",subresource="",verb="APPLY"} 1
apiserver_request_total{code="201",group="events.k8s.io",resource="events",subresource="",verb="POST"} 1
"#;
        let more = more
            + r#"apiserver_request_total{code="200",dry_run="All",group="apps",resource="deployments",subresource="",verb="APPLY"} 5
"#;
        let since = Writes::parse(&more).since(&before);
        assert_eq!((since.done(), since.events(), since.refused()), (8, 1, 1));
        assert_eq!(since.without("POST", "gamesapplications", 3).done(), 5);
    }
}
