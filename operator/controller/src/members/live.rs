//! An object as a member's API server returns it, without what is never
//! looked at: managed fields are most of many objects and are skipped while
//! reading.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::{collections::BTreeMap, fmt};

/// An object.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// Its metadata.
    pub metadata: Meta,
    /// Its status; null without.
    pub status: Value,
    /// Everything else at the top but apiVersion and kind.
    pub fields: Map<String, Value>,
}

/// The metadata that is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub resource_version: String,
    pub generation: i64,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    pub finalizers: Vec<String>,
    pub owner_references: Vec<IgnoredAny>,
    pub deletion_timestamp: Option<IgnoredAny>,
}

impl Meta {
    /// The resource version as a number, as which versions of one kind can be
    /// compared (<https://kep.k8s.io/5504>); 0 when it is none.
    pub fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub kind: EventKind,
    pub object: Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum EventKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct List<T = Live> {
    #[serde(default)]
    pub metadata: ListMeta,
    /// Null when there are none, from some API servers.
    #[serde(
        default = "Vec::new",
        deserialize_with = "or_none",
        bound(deserialize = "T: Deserialize<'de>")
    )]
    pub items: Vec<T>,
}

fn or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMeta {
    pub resource_version: String,
    pub r#continue: String,
}

impl<'de> Deserialize<'de> for Live {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LiveVisitor)
    }
}

struct LiveVisitor;

impl<'de> Visitor<'de> for LiveVisitor {
    type Value = Live;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of the Kubernetes API")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Live, A::Error> {
        let mut live = Live::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "apiVersion" | "kind" => {
                    map.next_value::<IgnoredAny>()?;
                }
                "metadata" => live.metadata = map.next_value()?,
                "status" => live.status = map.next_value()?,
                _ => {
                    let value = map.next_value()?;
                    live.fields.insert(key, value);
                }
            }
        }
        Ok(live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_matters_and_skips_managed_fields() {
        let event: Event = serde_json::from_str(
            r#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"n",
            "uid":"u","resourceVersion":"17","managedFields":[{"manager":"x"}],"deletionTimestamp":"2026-01-01T00:00:00Z"},
            "data":{"k":"v"}}}"#,
        )
        .unwrap();
        assert_eq!(event.kind, EventKind::Added);
        assert_eq!(event.object.metadata.version(), 17);
        assert!(event.object.metadata.deletion_timestamp.is_some());
        assert_eq!(event.object.fields.len(), 1);
        assert!(event.object.status.is_null());
    }

    #[test]
    fn an_error_and_a_bookmark_are_read_too() {
        let error: Event = serde_json::from_str(
            r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old","reason":"Expired","code":410}}"#,
        )
        .unwrap();
        assert_eq!(error.object.fields["code"], 410);
        let bookmark: Event = serde_json::from_str(
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9"}}}"#,
        )
        .unwrap();
        assert_eq!(bookmark.object.metadata.version(), 9);
    }
}
