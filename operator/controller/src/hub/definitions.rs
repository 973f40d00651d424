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
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Client, Error, ResourceExt, client::Body, core::Status};
use serde_json::Value;
use std::{
    collections::BTreeMap,
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
                // Not served before there is a definition; or the hub does not answer.
                Err(error) => tracing::debug!(%error, "the definitions were not compared"),
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
        };
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
    let served: Value = serde_json::from_slice(&text).map_err(Error::SerdeError)?;
    Ok((compare_all(&flambeau_crds::all_crds(), &served), tag))
}

fn compare_all(
    definitions: &[CustomResourceDefinition],
    served: &Value,
) -> BTreeMap<String, Vec<String>> {
    let schemas = served.pointer("/components/schemas");
    let schemas = schemas.and_then(Value::as_object);
    let served = |kind: &str| {
        schemas?.values().find(|schema| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|all| all.iter().any(|one| one["kind"] == kind))
        })
    };
    let mut all = BTreeMap::new();
    for definition in definitions {
        let Some(served) = served(&definition.spec.names.kind) else {
            continue;
        };
        let mut lacking = Vec::new();
        for version in &definition.spec.versions {
            let schema = version.schema.as_ref();
            let schema = schema.and_then(|schema| serde_json::to_value(schema).ok());
            let schema = schema.unwrap_or_default();
            for part in ["spec", "status"] {
                let own = &schema["openAPIV3Schema"]["properties"][part];
                compare(own, &served["properties"][part], part, &mut lacking);
            }
        }
        if !lacking.is_empty() {
            all.insert(definition.name_any(), lacking);
        }
    }
    all
}

/// Notes what a schema has and the served one has not.
fn compare(own: &Value, served: &Value, path: &str, lacking: &mut Vec<String>) {
    if served["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    let properties = own["properties"].as_object();
    for (name, own) in properties.into_iter().flatten() {
        let path = format!("{path}.{name}");
        match served["properties"].get(name) {
            Some(served) => compare(own, served, &path, lacking),
            None => lacking.push(path),
        }
    }
    for (field, mark) in [("items", "[]"), ("additionalProperties", ".*")] {
        if own[field].is_object() && served[field].is_object() {
            compare(
                &own[field],
                &served[field],
                &format!("{path}{mark}"),
                lacking,
            );
        }
    }
    let values = |schema: &Value| schema["enum"].as_array().cloned();
    if let (Some(own), Some(served)) = (values(own), values(served)) {
        let new = own.iter().filter(|value| !served.contains(value));
        lacking.extend(new.map(|value| format!("{path}={}", value.as_str().unwrap_or_default())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As a hub would serve them.
    fn served() -> Value {
        let schemas = flambeau_crds::all_crds().into_iter().map(|definition| {
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
        told(&compare_all(&flambeau_crds::all_crds(), served))
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
}
