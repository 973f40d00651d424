//! The body of a server-side apply: the manifest as declared, with what
//! Flambeau adds, written in one go without a copy of the manifest.

use super::covers::secret_data;
use crate::declared::DeclaredObject;
use flambeau_crds::{
    APPLICATION_LABEL, APPLICATION_UID_ANNOTATION, DIGEST_ANNOTATION, EPOCH_ANNOTATION,
};
use flambeau_planner::model::ApplicationKey;
use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use serde_json::{Map, Value};

const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// What must hold on the member for the write to happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expect<'a> {
    /// No object of this name is there.
    Absent,
    /// The object of this UID is there.
    Uid(&'a str),
}

/// The body of one write.
pub(super) struct Body<'a> {
    pub object: &'a DeclaredObject,
    pub key: &'a ApplicationKey,
    /// UID of the application on the hub.
    pub uid: &'a str,
    pub epoch: i64,
    pub expect: Expect<'a>,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let manifest = self.object.manifest();
        let manifest = manifest
            .as_object()
            .ok_or_else(|| S::Error::custom("the manifest is not an object"))?;
        let secret = *self.object.kind.kind == *"Secret" && *self.object.kind.api_version == *"v1";
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("apiVersion", &*self.object.kind.api_version)?;
        map.serialize_entry("kind", &*self.object.kind.kind)?;
        map.serialize_entry(
            "metadata",
            &Metadata {
                body: self,
                declared: manifest.get("metadata").and_then(Value::as_object),
            },
        )?;
        for (key, value) in manifest {
            match key.as_str() {
                "apiVersion" | "kind" | "metadata" | "status" => {}
                // As data, so that a key that is no longer declared is removed.
                "data" | "stringData" if secret => {}
                _ => map.serialize_entry(key, value)?,
            }
        }
        if secret {
            map.serialize_entry("data", &secret_data(manifest))?;
        }
        map.end()
    }
}

struct Metadata<'a> {
    body: &'a Body<'a>,
    declared: Option<&'a Map<String, Value>>,
}

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = self.body;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &*body.object.name)?;
        map.serialize_entry("namespace", &*body.key.namespace)?;
        match body.expect {
            // No object ever has this version: the API server reports a conflict with any that is there.
            Expect::Absent => map.serialize_entry("resourceVersion", "1")?,
            Expect::Uid(uid) => map.serialize_entry("uid", uid)?,
        }
        map.serialize_entry(
            "labels",
            &Merged {
                declared: self.nested("labels"),
                added: &[
                    (APPLICATION_LABEL, &body.key.name),
                    (MANAGED_BY_LABEL, "flambeau"),
                ],
            },
        )?;
        map.serialize_entry(
            "annotations",
            &Merged {
                declared: self.nested("annotations"),
                added: &[
                    (APPLICATION_UID_ANNOTATION, body.uid),
                    (EPOCH_ANNOTATION, &body.epoch.to_string()),
                    (DIGEST_ANNOTATION, &body.object.digest),
                ],
            },
        )?;
        for (key, value) in self.declared.into_iter().flatten() {
            // No owner: a UID means nothing on another cluster.
            if key == "finalizers" {
                map.serialize_entry(key, value)?;
            }
        }
        map.end()
    }
}

impl<'a> Metadata<'a> {
    fn nested(&self, field: &str) -> Option<&'a Map<String, Value>> {
        self.declared?.get(field)?.as_object()
    }
}

struct Merged<'a> {
    declared: Option<&'a Map<String, Value>>,
    added: &'a [(&'a str, &'a str)],
}

impl Serialize for Merged<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let declared = self
            .declared
            .into_iter()
            .flatten()
            .filter(|(key, _)| self.added.iter().all(|(added, _)| added != key));
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in declared {
            map.serialize_entry(key, value)?;
        }
        for (key, value) in self.added {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flambeau_planner::model::Kind;
    use serde_json::json;

    fn body(manifest: Value, expect: Expect<'_>) -> Value {
        let kind = Kind {
            api_version: manifest["apiVersion"].as_str().unwrap().into(),
            kind: manifest["kind"].as_str().unwrap().into(),
        };
        let object = DeclaredObject::new(kind, "x".into(), &manifest, "d1".into());
        let key = ApplicationKey {
            namespace: "games".into(),
            name: "ticketing".into(),
        };
        serde_json::to_value(Body {
            object: &object,
            key: &key,
            uid: "a-1",
            epoch: 7,
            expect,
        })
        .unwrap()
    }

    #[test]
    fn adds_what_marks_the_object_and_keeps_what_is_declared() {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}, "status": {"s": 1},
            "metadata": {"name": "x", "labels": {"l": "1", "flambeau.dev/application": "stolen"}, "annotations": {"a": "b"},
                "creationTimestamp": null, "finalizers": ["f/f"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}});
        assert_eq!(
            body(manifest, Expect::Absent),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"k": "v"}, "metadata": {
                "name": "x", "namespace": "games", "resourceVersion": "1", "finalizers": ["f/f"],
                "labels": {"l": "1", "flambeau.dev/application": "ticketing", "app.kubernetes.io/managed-by": "flambeau"},
                "annotations": {"a": "b", "flambeau.dev/application-uid": "a-1", "flambeau.dev/epoch": "7", "flambeau.dev/digest": "d1"}}})
        );
    }

    #[test]
    fn an_update_names_the_object_that_it_means() {
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
        let metadata = &body(manifest, Expect::Uid("u-1"))["metadata"];
        assert_eq!(metadata["uid"], "u-1");
        assert!(metadata.get("resourceVersion").is_none());
    }

    #[test]
    fn string_data_of_a_secret_is_written_as_data() {
        let manifest = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}, "type": "Opaque",
            "data": {"a": "Zmlyc3Q="}, "stringData": {"b": "second"}});
        let body = body(manifest, Expect::Absent);
        assert_eq!(body["data"], json!({"a": "Zmlyc3Q=", "b": "c2Vjb25k"}));
        assert!(body.get("stringData").is_none());
    }
}
