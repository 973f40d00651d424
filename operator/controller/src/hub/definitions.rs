//! Whether the definitions on the hub know every field of this version.
//!
//! An API server drops, without a word, what a definition does not know. An
//! operator that is newer than the definitions would store records with holes,
//! and act on them. So it does nothing before they are those of its version,
//! as when one is missing; a replica of the older version goes on meanwhile,
//! because the newer one does not get ready.

use crate::dirty::Dirty;
use http::{
    HeaderValue, StatusCode,
    header::{ETAG, IF_NONE_MATCH},
};
use http_body_util::BodyExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::{Client, Error, ResourceExt, client::Body, core::Status};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::sleep;

/// How often is looked while they are not as they should be.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often is looked whether they are still: a chart that is rolled back
/// brings the older ones while this process runs.
const INTERVAL_WHEN_WELL: Duration = Duration::from_secs(10);
/// What every API server tells everybody who is logged in: what it serves
/// (<https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3>).
const SERVED: &str = "/openapi/v3/apis/flambeau.dev/v1alpha1";
/// The most fields of one definition that are named.
const NAMED: usize = 5;

/// What the definitions on the hub lack; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Definitions(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    compared: bool,
    lacking: BTreeMap<String, Vec<String>>,
    /// Why they could not be compared the last time.
    trouble: Option<String>,
}

impl Definitions {
    /// Whether they are known to lack nothing.
    pub fn suffice(&self) -> bool {
        let state = self.lock();
        state.compared && state.lacking.is_empty()
    }

    /// For people: which definition lacks what; none when nothing is known to
    /// be lacking.
    pub fn lacking(&self) -> Option<String> {
        let state = self.lock();
        (!state.lacking.is_empty()).then(|| told(&state.lacking))
    }

    /// For people: why they could not be compared; none once they were.
    pub fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Compares again and again.
    pub async fn watch(self, client: Client, dirty: Dirty) {
        let mut tag: Option<HeaderValue> = None;
        loop {
            if unchanged(&client, tag.as_ref()).await {
                sleep(self.interval()).await;
                continue;
            }
            let sufficed = self.suffice();
            match compared(&client).await {
                Ok((lacking, tagged)) => {
                    tag = tagged;
                    self.set(lacking);
                }
                Err(Error::Api(status)) if status.code == 403 => {
                    if !sufficed {
                        tracing::warn!(error = %status.message, "whether the definitions on the hub are those of this version cannot be seen, it is taken for granted: grant the operator get on {SERVED}");
                    }
                    self.set(BTreeMap::new());
                }
                Err(error) => self.failed(&error),
            }
            if self.suffice() != sufficed {
                dirty.mark();
            }
            sleep(self.interval()).await;
        }
    }

    fn interval(&self) -> Duration {
        if self.suffice() {
            INTERVAL_WHEN_WELL
        } else {
            INTERVAL
        }
    }

    fn set(&self, lacking: BTreeMap<String, Vec<String>>) {
        let mut state = self.lock();
        if !lacking.is_empty() && state.lacking != lacking {
            tracing::error!(definitions = %told(&lacking), "CustomResourceDefinitions on the hub are older than this version: apply those of this version; nothing is done before");
        }
        if lacking.is_empty() && !state.lacking.is_empty() {
            tracing::info!(
                "the CustomResourceDefinitions on the hub are those of this version now"
            );
        }
        *state = State {
            compared: true,
            lacking,
            trouble: None,
        };
    }

    fn failed(&self, error: &Error) {
        let trouble = format!("GET {SERVED}: {error}");
        let mut state = self.lock();
        if state.trouble.as_ref() == Some(&trouble) {
            return;
        }
        // Not served before there is a definition, and that one is missing is
        // told by itself.
        if matches!(error, Error::Api(status) if status.code == 404) {
            tracing::debug!(error = trouble, "the definitions were not compared");
        } else {
            tracing::warn!(
                error = trouble,
                "whether the definitions on the hub are those of this version cannot be seen, it is tried again; a process that has never seen it does nothing before"
            );
        }
        state.trouble = Some(trouble);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether what is served is still what it was when it had a tag: an answer of
/// a few bytes (RFC 9110, 13.1.2).
async fn unchanged(client: &Client, tag: Option<&HeaderValue>) -> bool {
    let Some(tag) = tag else {
        return false;
    };
    let request = http::Request::get(SERVED).header(IF_NONE_MATCH, tag);
    let Ok(request) = request.body(Body::empty()) else {
        return false;
    };
    let answer = client.send(request).await;
    answer.is_ok_and(|answer| answer.status() == StatusCode::NOT_MODIFIED)
}

/// For people: which definition lacks what.
pub fn told(lacking: &BTreeMap<String, Vec<String>>) -> String {
    let all = lacking.iter().map(|(name, fields)| {
        let more = match fields.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let fields = fields.iter().take(NAMED).cloned().collect::<Vec<_>>();
        format!("{name} lacks {}{more}", fields.join(", "))
    });
    all.collect::<Vec<_>>().join("; ")
}

/// Fields and values that this version uses and the hub does not know, by
/// definition. A definition that the hub does not serve at all is not named:
/// it is missing.
///
/// # Errors
/// When the hub does not say what it serves.
pub async fn lacking(client: &Client) -> Result<BTreeMap<String, Vec<String>>, Error> {
    Ok(compared(client).await?.0)
}

/// The same, with the tag of what was served.
async fn compared(
    client: &Client,
) -> Result<(BTreeMap<String, Vec<String>>, Option<HeaderValue>), Error> {
    let request = http::Request::get(SERVED)
        .body(Body::empty())
        .map_err(Error::HttpError)?;
    let answer = client.send(request).await?;
    let tag = answer.headers().get(ETAG).cloned();
    if !answer.status().is_success() {
        let why = answer.status().to_string();
        let refused = Status::failure(&why, "").with_code(answer.status().as_u16());
        return Err(Error::Api(refused.boxed()));
    }
    let text = answer.into_body().collect().await?.to_bytes();
    let served: Served = serde_json::from_slice(&text).map_err(Error::SerdeError)?;
    Ok((compare_all(flambeau_crds::all_crds(), &served), tag))
}

/// What is compared of what a hub serves. Descriptions and rules, most of it,
/// are not kept while it is read.
#[derive(Debug, Default, Deserialize)]
struct Served {
    #[serde(default)]
    components: Components,
}

#[derive(Debug, Default, Deserialize)]
struct Components {
    #[serde(default)]
    schemas: BTreeMap<String, Schema>,
}

/// The fields and values of a schema.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Schema {
    properties: BTreeMap<String, Schema>,
    #[serde(deserialize_with = "schema_or_word")]
    items: Option<Box<Schema>>,
    #[serde(deserialize_with = "schema_or_word")]
    additional_properties: Option<Box<Schema>>,
    #[serde(rename = "enum")]
    values: Vec<Value>,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    preserves: bool,
    #[serde(rename = "x-kubernetes-group-version-kind")]
    kinds: Vec<ServedKind>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServedKind {
    kind: String,
}

/// Where a schema may stand, `true` or `false` may as well
/// (<https://spec.openapis.org/oas/v3.0.4.html#schema-object>).
fn schema_or_word<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<Schema>>, D::Error> {
    struct SchemaOrWord;
    impl<'de> Visitor<'de> for SchemaOrWord {
        type Value = Option<Box<Schema>>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a schema, true or false")
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Schema::deserialize(MapAccessDeserializer::new(map))
                .map(|schema| Some(Box::new(schema)))
        }
    }
    deserializer.deserialize_any(SchemaOrWord)
}

fn compare_all(
    definitions: impl Iterator<Item = CustomResourceDefinition>,
    served: &Served,
) -> BTreeMap<String, Vec<String>> {
    let served = |kind: &str| {
        let mut schemas = served.components.schemas.values();
        schemas.find(|schema| schema.kinds.iter().any(|one| one.kind == kind))
    };
    let nothing = Schema::default();
    let mut all = BTreeMap::new();
    for definition in definitions {
        let Some(served) = served(&definition.spec.names.kind) else {
            continue;
        };
        let name = definition.name_any();
        let mut lacking = Vec::new();
        for own in definition.spec.versions.into_iter().filter_map(schema) {
            for part in ["spec", "status"] {
                let served = served.properties.get(part).unwrap_or(&nothing);
                if let Some(own) = own.properties.get(part) {
                    compare(own, served, part, &mut lacking);
                }
            }
        }
        if !lacking.is_empty() {
            all.insert(name, lacking);
        }
    }
    all
}

/// The schema of a version of this program's own definitions.
fn schema(version: CustomResourceDefinitionVersion) -> Option<Schema> {
    let schema = version.schema?.open_api_v3_schema?;
    serde_json::from_value(serde_json::to_value(schema).ok()?).ok()
}

/// Notes what a schema has and the served one has not.
fn compare(own: &Schema, served: &Schema, path: &str, lacking: &mut Vec<String>) {
    if served.preserves {
        return;
    }
    for (name, own) in &own.properties {
        let path = format!("{path}.{name}");
        match served.properties.get(name) {
            Some(served) => compare(own, served, &path, lacking),
            None => lacking.push(path),
        }
    }
    for (own, served, mark) in [
        (&own.items, &served.items, "[]"),
        (
            &own.additional_properties,
            &served.additional_properties,
            ".*",
        ),
    ] {
        if let (Some(own), Some(served)) = (own, served) {
            compare(own, served, &format!("{path}{mark}"), lacking);
        }
    }
    if !served.values.is_empty() {
        let new = own
            .values
            .iter()
            .filter(|value| !served.values.contains(value));
        lacking.extend(new.map(|value| format!("{path}={}", value.as_str().unwrap_or_default())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As a hub would serve them.
    fn served() -> Value {
        let schemas = flambeau_crds::all_crds().map(|definition| {
            let version = serde_json::to_value(&definition.spec.versions[0]).unwrap();
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            let kind = &definition.spec.names.kind;
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": "flambeau.dev", "kind": kind, "version": "v1alpha1"}]);
            (format!("dev.flambeau.v1alpha1.{kind}"), schema)
        });
        json!({"components": {"schemas": schemas.collect::<serde_json::Map<_, _>>()}})
    }

    fn lacking(served: &Value) -> String {
        let served = serde_json::from_value(served.clone()).unwrap();
        told(&compare_all(flambeau_crds::all_crds(), &served))
    }

    #[test]
    fn the_same_version_lacks_nothing_and_a_newer_one_does_not_either() {
        let mut served = served();
        assert_eq!(lacking(&served), "");
        let kind = &mut served["components"]["schemas"]["dev.flambeau.v1alpha1.Freeze"];
        kind["properties"]["spec"]["properties"]["later"] = json!({"type": "string"});
        assert_eq!(lacking(&served), "");
    }

    #[test]
    fn fields_and_values_that_an_older_version_lacks_are_named() {
        let mut served = served();
        let schemas = &mut served["components"]["schemas"];
        let member = &mut schemas["dev.flambeau.v1alpha1.MemberCluster"]["properties"];
        member["spec"]["properties"]
            .as_object_mut()
            .unwrap()
            .remove("access");
        let application = &mut schemas["dev.flambeau.v1alpha1.GamesApplication"]["properties"];
        let placement =
            &mut application["status"]["properties"]["placements"]["items"]["properties"];
        placement.as_object_mut().unwrap().remove("cluster");
        let sensitivity = application["spec"]["properties"]["sensitivity"]["enum"].as_array_mut();
        sensitivity.unwrap().retain(|value| value != "Sensitive");
        assert_eq!(
            lacking(&served),
            "gamesapplications.flambeau.dev lacks spec.sensitivity=Sensitive, status.placements[].cluster; \
             memberclusters.flambeau.dev lacks spec.access"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn why_they_cannot_be_compared_is_told_until_they_are() {
        let answers = Arc::new(Mutex::new(500));
        let code = Arc::clone(&answers);
        let service = tower::service_fn(move |_: http::Request<Body>| {
            let code = *code.lock().unwrap();
            let body = Body::from(served().to_string().into_bytes());
            let answer = http::Response::builder().status(code).body(body);
            async move { answer }
        });
        let definitions = Definitions::default();
        let watch = definitions.clone().watch(
            Client::new(service, "default"),
            crate::dirty::Dirty::default(),
        );
        let watch = tokio::spawn(watch);
        sleep(INTERVAL / 2).await;
        let told = definitions.trouble().unwrap();
        assert!(told.contains("500") && told.contains(SERVED), "{told}");
        assert!(!definitions.suffice());
        *answers.lock().unwrap() = 200;
        sleep(INTERVAL).await;
        assert_eq!(definitions.trouble(), None);
        assert!(definitions.suffice());
        watch.abort();
    }
}
