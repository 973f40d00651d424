//! Applications: the specification for the planner, the objects for members.

use super::demand;
use crate::declared::{Declared, DeclaredObject, DeclaredTraffic};
use flambeau_crds::{
    GamesApplication,
    application::{FailbackMode, FailoverMode, FailoverPolicy, MigrationStrategy, StandbyMode},
};
use flambeau_planner::model::{
    ApplicationKey, ApplicationSpec, Failover, Kind, Name, Resources, Strategy,
};
use jiff::SignedDuration;
use kube::ResourceExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeSet, HashSet},
    fmt::Write,
};

/// What an application is for the planner, and its objects, which are taken
/// out of its specification; or what of them cannot be used, with the field and
/// the remedy.
pub fn application(object: &mut GamesApplication) -> (ApplicationSpec, Result<Declared, String>) {
    // Also what cannot be used may have been written before.
    let kinds = kinds(object);
    let demand = demand(&object.spec.resources);
    let declared = declared(object);
    let spec = application_spec(object, kinds, demand, declared.as_ref().err());
    (spec, declared)
}

fn declared(object: &mut GamesApplication) -> Result<Declared, String> {
    let key = key(object);
    let uid = object.uid().unwrap_or_default();
    let created = object.creation_timestamp().map(|time| time.0);
    let resources = std::mem::take(&mut object.spec.resources);
    let mut seen = HashSet::new();
    let mut objects = Vec::with_capacity(resources.len());
    for (index, manifest) in resources.into_iter().enumerate() {
        let declared = declared_object(index, manifest, &key.namespace)?;
        if !seen.insert((declared.kind.clone(), declared.name.clone())) {
            return Err(format!(
                "spec.resources[{index}]: {} {} is declared twice: remove one of them",
                declared.kind, declared.name
            ));
        }
        objects.push(declared);
    }
    let traffic = object
        .spec
        .traffic
        .as_ref()
        .map(|traffic| {
            let service = traffic.service.name.as_str();
            let exists = objects.iter().any(|object| &*object.kind.kind == "Service" && &*object.name == service);
            let port = u16::try_from(traffic.service.port).ok();
            match (exists, port) {
                (true, Some(port)) => Ok(DeclaredTraffic {
                    hostnames: traffic.hostnames.iter().map(|hostname| hostname.0.clone()).collect(),
                    service: service.into(),
                    port,
                }),
                (false, _) => Err(format!(
                    "spec.traffic.service.name: no Service {service} is among spec.resources: add it, or name another"
                )),
                (true, None) => Err("spec.traffic.service.port: must be a port number up to 65535".to_owned()),
            }
        })
        .transpose()?;
    Ok(Declared {
        key,
        uid,
        created,
        objects,
        traffic,
    })
}

fn declared_object(
    index: usize,
    mut manifest: Value,
    namespace: &str,
) -> Result<DeclaredObject, String> {
    let text = |pointer: &str| {
        manifest
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let missing = |field: &str| format!("spec.resources[{index}].{field}: must be set");
    let api_version = text("/apiVersion").ok_or_else(|| missing("apiVersion"))?;
    let kind = text("/kind").ok_or_else(|| missing("kind"))?;
    let name = text("/metadata/name").ok_or_else(|| missing("metadata.name"))?;
    // Another place on the member: API servers take an encoded slash in a path for a slash.
    if name.contains(['/', '%']) || matches!(name.as_str(), "" | "." | "..") {
        return Err(format!(
            "spec.resources[{index}].metadata.name: is no name of an object: give one without '/' and '%'"
        ));
    }
    if let Some(other) = text("/metadata/namespace").filter(|other| other != namespace) {
        return Err(format!(
            "spec.resources[{index}].metadata.namespace: is {other}, but an application lives in its own namespace {namespace}: remove the field"
        ));
    }
    let owners = manifest.pointer("/metadata/ownerReferences");
    if owners.is_some_and(|owners| {
        !owners.is_null() && owners.as_array().is_none_or(|all| !all.is_empty())
    }) {
        return Err(format!(
            "spec.resources[{index}].metadata.ownerReferences: an owner is named by a UID, which means nothing on another cluster: remove the field"
        ));
    }
    if let Some(object) = manifest.as_object_mut() {
        object.remove("status");
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for field in [
                "namespace",
                "creationTimestamp",
                "resourceVersion",
                "uid",
                "generation",
                "managedFields",
                "ownerReferences",
                "selfLink",
            ] {
                metadata.remove(field);
            }
        }
    }
    let digest = digest(&manifest);
    let kind = Kind {
        api_version: api_version.into(),
        kind: kind.into(),
    };
    Ok(DeclaredObject::new(
        kind,
        name.into(),
        &manifest,
        digest.into(),
    ))
}

/// The first half of SHA-256 over the manifest with sorted keys, in
/// hexadecimal: enough to tell one version of a manifest from the next.
fn digest(manifest: &Value) -> String {
    let hash = Sha256::digest(manifest.to_string());
    hash.iter()
        .take(16)
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Namespace and name of an application.
pub fn key(object: &GamesApplication) -> ApplicationKey {
    ApplicationKey {
        namespace: object.namespace().unwrap_or_default().into(),
        name: object.name_any().into(),
    }
}

fn application_spec(
    object: &GamesApplication,
    kinds: BTreeSet<Kind>,
    demand: Resources,
    invalid: Option<&String>,
) -> ApplicationSpec {
    let spec = &object.spec;
    ApplicationSpec {
        key: key(object),
        sensitivity: super::sensitivity(spec.sensitivity),
        criticality: super::criticality(spec.criticality),
        kinds,
        traffic: spec.traffic.is_some(),
        preferred: spec
            .placement
            .iter()
            .flat_map(|placement| &placement.preferred_clusters)
            .map(|name| Name::from(name.as_str()))
            .collect(),
        strategy: strategy(spec.migration.clone().unwrap_or_default()),
        failover: failover(&spec.failover.clone().unwrap_or_default()),
        demand,
        recovery_time: spec
            .objectives
            .as_ref()
            .and_then(|objectives| objectives.recovery_time_seconds)
            .map(seconds),
        depends_on: spec
            .depends_on
            .iter()
            .map(|name| Name::from(name.as_str()))
            .collect(),
        invalid: invalid.cloned(),
    }
}

fn failover(policy: &FailoverPolicy) -> Failover {
    Failover {
        automatic: policy.mode == FailoverMode::Automatic,
        standby: (policy.standby == StandbyMode::Warm)
            .then(|| u32::try_from(policy.standby_replicas).unwrap_or(0)),
        unhealthy_after: seconds(policy.unhealthy_after_seconds),
        cooldown: seconds(policy.cooldown_seconds),
        failback_after: (policy.failback == FailbackMode::Automatic)
            .then(|| seconds(policy.failback_after_seconds)),
    }
}

fn seconds(value: i32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(value))
}

/// Kinds that an application names.
fn kinds(object: &GamesApplication) -> BTreeSet<Kind> {
    let resources = object.spec.resources.iter();
    resources
        .filter_map(|manifest| {
            Some(Kind {
                api_version: manifest.get("apiVersion")?.as_str()?.into(),
                kind: manifest.get("kind")?.as_str()?.into(),
            })
        })
        .collect()
}

fn strategy(strategy: MigrationStrategy) -> Strategy {
    Strategy {
        stages: strategy
            .stages
            .iter()
            .map(|stage| u8::try_from(*stage).unwrap_or(100).min(100))
            .collect(),
        stage: seconds(strategy.stage_seconds),
        soak: seconds(strategy.soak_seconds),
        drain: seconds(strategy.drain_seconds),
        ready_timeout: seconds(strategy.ready_timeout_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(manifest: &Value) -> Option<String> {
        let object = json!({"apiVersion": "flambeau.dev/v1alpha1", "kind": "GamesApplication",
            "metadata": {"name": "shop", "namespace": "games"},
            "spec": {"sensitivity": "Public", "resources": [manifest]}});
        let mut object = serde_json::from_value(object).unwrap();
        application(&mut object).1.err()
    }

    /// The definition refuses them before; an older one may not.
    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in [
            "../../kube-system/secrets/x",
            "web/status",
            "web/token",
            "web%2Fstatus",
            "..",
            "",
        ] {
            let manifest =
                json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}});
            let refused = refusal(&manifest).unwrap_or_default();
            assert!(
                refused.starts_with("spec.resources[0].metadata.name: "),
                "{name}: {refused}"
            );
        }
        let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "kube-system"}});
        let refused = refusal(&manifest).unwrap_or_default();
        assert!(
            refused.starts_with("spec.resources[0].metadata.namespace: "),
            "{refused}"
        );
        let manifest = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "system:web?"}});
        assert_eq!(refusal(&manifest), None);
    }

    /// An object with an owner counts as made by a controller on the member,
    /// and would be left there.
    #[test]
    fn an_object_of_another_is_refused() {
        let manifest = |owners| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "ownerReferences": owners}});
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"});
        let refused = refusal(&manifest(json!([owner]))).unwrap_or_default();
        assert!(
            refused.starts_with("spec.resources[0].metadata.ownerReferences: "),
            "{refused}"
        );
        assert_eq!(refusal(&manifest(json!([]))), None);
        assert_eq!(refusal(&manifest(json!(null))), None);
    }
}
