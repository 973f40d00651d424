//! What an application declares, in the form in which it is written.

use flambeau_planner::model::{ApplicationKey, Kind, Name};
use jiff::Timestamp;
use serde_json::Value;
use std::{fmt, sync::Arc};

/// The objects of one application, made once per change of its specification.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Namespace and name of the application.
    pub key: ApplicationKey,
    /// UID of the GamesApplication, for owner references on the hub.
    pub uid: String,
    /// When the GamesApplication was created: tells it from an earlier one of
    /// the same name.
    pub created: Option<Timestamp>,
    /// Its objects, in the order in which they are written.
    pub objects: Vec<DeclaredObject>,
    /// How requests reach it; none without traffic.
    pub traffic: Option<DeclaredTraffic>,
}

/// One object of an application.
#[derive(Clone, PartialEq, Eq)]
pub struct DeclaredObject {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Digest of the manifest, the value of the digest annotation.
    pub digest: Arc<str>,
    /// The ports of a Service, which are asked for all the time.
    ports: Arc<[Port]>,
    /// As JSON. It is needed when the object is written or changes, and takes
    /// many times as much memory as a tree.
    manifest: Arc<str>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Port {
    number: u64,
    name: Option<Name>,
}

/// How requests reach an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredTraffic {
    /// Host names.
    pub hostnames: Vec<String>,
    /// Name of the Service on the member.
    pub service: Name,
    /// Port of the Service.
    pub port: u16,
}

/// Without the manifest, which may be a Secret: nobody has to think of that
/// before an object is printed, nor does a panic.
impl fmt::Debug for DeclaredObject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeclaredObject")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// Replicas of a workload that says nothing of them
/// (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/#DeploymentSpec>).
const DEFAULT_REPLICAS: u64 = 1;

impl Declared {
    /// The form in which it stands by: every workload has these replicas at
    /// most, and nothing runs by the clock. What would scale a workload up
    /// again (HorizontalPodAutoscaler), or run once and for all (Job), is left
    /// out until the copy is made whole.
    pub fn standby(&self, replicas: u32) -> Self {
        let objects = self.objects.iter();
        Self {
            objects: objects
                .filter_map(|object| object.standby(replicas))
                .collect(),
            ..self.clone()
        }
    }
}

impl DeclaredObject {
    /// An object with a manifest as declared: no namespace, none of Flambeau's
    /// labels or annotations.
    pub fn new(kind: Kind, name: Name, manifest: &Value, digest: Arc<str>) -> Self {
        let service = *kind.kind == *"Service" && *kind.api_version == *"v1";
        let ports = manifest.pointer("/spec/ports").filter(|_| service);
        let ports = ports.and_then(Value::as_array).into_iter().flatten();
        Self {
            ports: ports.filter_map(Port::of).collect(),
            manifest: manifest.to_string().into(),
            kind,
            name,
            digest,
        }
    }

    /// The manifest as declared.
    pub fn manifest(&self) -> Value {
        // It was written from a value.
        serde_json::from_str(&self.manifest).unwrap_or_default()
    }

    /// The name of a Service's port, if it has one; none when it has no such
    /// port.
    pub fn port_name(&self, number: u16) -> Option<Option<&str>> {
        let mut ports = self.ports.iter();
        let port = ports.find(|port| port.number == u64::from(number))?;
        Some(port.name.as_deref())
    }

    /// None when a standby goes without it.
    fn standby(&self, replicas: u32) -> Option<Self> {
        let group = self.kind.api_version.split('/').next().unwrap_or_default();
        let manifest = self.manifest();
        let scales = match (group, &*self.kind.kind) {
            ("autoscaling", "HorizontalPodAutoscaler") | ("batch", "Job") => return None,
            ("batch", "CronJob") => {
                let suspended = manifest.pointer("/spec/suspend") == Some(&Value::Bool(true));
                return Some(if suspended {
                    self.clone()
                } else {
                    self.with(manifest, "suspend", Value::Bool(true), "suspended")
                });
            }
            ("apps", "Deployment" | "StatefulSet" | "ReplicaSet") => true,
            _ => false,
        };
        let declared = manifest.pointer("/spec/replicas");
        let declared = declared
            .and_then(Value::as_u64)
            .or_else(|| scales.then_some(DEFAULT_REPLICAS));
        let fewer = declared.is_some_and(|declared| declared > u64::from(replicas));
        if !fewer {
            return Some(self.clone());
        }
        let mark = format!("standby-{replicas}");
        Some(self.with(manifest, "replicas", replicas.into(), &mark))
    }

    /// The object with one field of its specification as given, and a digest
    /// that says so.
    fn with(&self, mut manifest: Value, field: &str, value: Value, mark: &str) -> Self {
        if let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
            spec.insert(field.to_owned(), value);
        }
        let digest = format!("{}.{mark}", self.digest).into();
        Self::new(self.kind.clone(), self.name.clone(), &manifest, digest)
    }
}

impl Port {
    fn of(declared: &Value) -> Option<Self> {
        let name = declared.get("name").and_then(Value::as_str);
        Some(Self {
            number: declared.get("port")?.as_u64()?,
            name: name.filter(|name| !name.is_empty()).map(Name::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn declared(objects: &[Value]) -> Declared {
        let objects = objects.iter().enumerate().map(|(index, manifest)| {
            let kind = Kind {
                api_version: manifest["apiVersion"].as_str().unwrap().into(),
                kind: manifest["kind"].as_str().unwrap().into(),
            };
            DeclaredObject::new(kind, "x".into(), manifest, format!("d{index}").into())
        });
        Declared {
            key: ApplicationKey {
                namespace: "games".into(),
                name: "a".into(),
            },
            uid: "u".into(),
            created: None,
            objects: objects.collect(),
            traffic: None,
        }
    }

    #[test]
    fn what_is_printed_of_a_secret_is_not_its_value() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"key": "sesame"}});
        let printed = format!("{:?}", declared(&[secret]));
        assert!(
            printed.contains("Secret") && !printed.contains("sesame"),
            "{printed}"
        );
    }

    #[test]
    fn a_standby_keeps_everything_and_runs_little_of_it() {
        let whole = declared(&[
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 5}}),
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"replicas": 2}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {}}),
            json!({"apiVersion": "example.org/v1", "kind": "Database", "spec": {"replicas": 3}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"schedule": "* * * * *"}}),
            json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {}}),
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {"minReplicas": 3}}),
        ]);
        let replicas = |declared: &Declared| -> Vec<Option<u64>> {
            let objects = declared.objects.iter();
            objects
                .map(|object| object.manifest().pointer("/spec/replicas")?.as_u64())
                .collect()
        };
        let two = whole.standby(2);
        assert_eq!(
            replicas(&two),
            [None, Some(2), Some(2), None, Some(2), None]
        );
        assert_eq!(two.objects[5].manifest()["spec"]["suspend"], true);
        let same = |index: usize| two.objects[index].digest == whole.objects[index].digest;
        assert_eq!(
            (0..6).map(same).collect::<Vec<_>>(),
            [true, false, true, true, false, false],
            "what is as before is not written again"
        );
        let none = whole.standby(0);
        assert_eq!(
            replicas(&none),
            [None, Some(0), Some(0), Some(0), Some(0), None]
        );
        assert_ne!(none.objects[1].digest, two.objects[1].digest);
        assert_eq!(two.standby(2), two);
    }
}
