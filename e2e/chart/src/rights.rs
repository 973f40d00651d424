//! Rights: what the rules of roles allow, verb by verb.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

/// One verb on one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// In the whole cluster, or in one namespace only.
    pub everywhere: bool,
    /// API group; empty for the core.
    pub group: String,
    /// Plural, with the subresource after a slash.
    pub resource: String,
    /// Verb.
    pub verb: String,
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            group,
            resource,
            verb,
            ..
        } = self;
        let scope = if self.everywhere {
            "everywhere"
        } else {
            "in its namespace"
        };
        let dot = if group.is_empty() { "" } else { "." };
        write!(formatter, "{verb} {resource}{dot}{group} {scope}")
    }
}

/// What a rendered Role or ClusterRole allows.
#[must_use]
pub fn of(role: &Value) -> BTreeSet<Right> {
    let everywhere = role["kind"] == "ClusterRole";
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                rights.extend(words(&rule["verbs"]).map(|verb| Right {
                    everywhere,
                    group: group.to_owned(),
                    resource: resource.to_owned(),
                    verb: verb.to_owned(),
                }));
            }
        }
    }
    rights
}

fn words(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}
