//! Manifests from files.

use crate::convert;
use anyhow::{Context, bail};
use flambeau_crds::{
    CloudProvider, GROUP, GamesApplication, MemberCluster, Migration, SovereigntyPolicy,
};
use flambeau_planner::model::{
    Application, ApplicationKey, CopyObservation, EdgeObservation, Migration as Move, Name, Reach,
    Role, Snapshot,
};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What was read.
#[derive(Debug, Default)]
pub struct Read {
    /// The fleet as declared.
    pub snapshot: Snapshot,
    moves: BTreeMap<ApplicationKey, Vec<Move>>,
}

/// Reads every manifest of Flambeau's own kinds; others are passed over.
///
/// # Errors
/// When a file cannot be read, or an object is not what its kind asks for.
pub fn manifests(paths: &[PathBuf]) -> anyhow::Result<Read> {
    let mut read = Read::default();
    for path in paths {
        for file in files(path)? {
            let text = fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
            for (index, document) in serde_yaml::Deserializer::from_str(&text).enumerate() {
                let context = || format!("{}, document {}", file.display(), index + 1);
                let value = Value::deserialize(document).with_context(context)?;
                read.take(value).with_context(context)?;
            }
        }
    }
    let clusters = &read.snapshot.clusters;
    for application in &mut read.snapshot.applications {
        application.migrations = read.moves.remove(&application.spec.key).unwrap_or_default();
        application.copies = as_recorded(application, clusters.keys());
    }
    read.snapshot
        .applications
        .sort_by(|one, other| one.spec.key.cmp(&other.spec.key));
    Ok(read)
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let metadata = fs::metadata(path).with_context(|| format!("{}", path.display()))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .with_context(|| format!("{}", path.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    for entry in entries {
        let manifest = entry
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|known| ending == *known));
        if entry.is_dir() {
            found.extend(files(&entry)?);
        } else if manifest {
            found.push(entry);
        }
    }
    Ok(found)
}

/// Every recorded copy is taken to be there and ready.
fn as_recorded<'a>(
    application: &Application,
    clusters: impl Iterator<Item = &'a Name>,
) -> BTreeMap<Name, CopyObservation> {
    let observed = CopyObservation {
        observed: true,
        ..CopyObservation::default()
    };
    let ready = CopyObservation {
        current: 1,
        declared: 1,
        present: 1,
        workloads: 1,
        workloads_ready: 1,
        endpoints: 1,
        endpoints_at_edge: 1,
        ..observed.clone()
    };
    clusters
        .map(|cluster| {
            let there = application
                .record
                .on(cluster)
                .is_some_and(|copy| copy.role != Role::Retiring);
            (
                cluster.clone(),
                if there {
                    ready.clone()
                } else {
                    observed.clone()
                },
            )
        })
        .collect()
}

impl Read {
    fn take(&mut self, value: Value) -> anyhow::Result<()> {
        let text = |field: &str| {
            value
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if let Some(items) = value
            .get("items")
            .and_then(Value::as_array)
            .filter(|_| kind.ends_with("List"))
        {
            return items.iter().try_for_each(|item| self.take(item.clone()));
        }
        if api_version.split('/').next() != Some(GROUP) {
            return Ok(());
        }
        match kind.as_str() {
            "CloudProvider" => {
                let object: CloudProvider = parse(value, &kind)?;
                let facts = convert::provider(&object);
                unique(
                    self.snapshot
                        .providers
                        .insert(facts.name.clone(), Arc::new(facts)),
                    &kind,
                    &object.name_any(),
                )
            }
            "MemberCluster" => {
                let object: MemberCluster = parse(value, &kind)?;
                let cluster = convert::cluster(&object, Reach::Reachable, None);
                unique(
                    self.snapshot
                        .clusters
                        .insert(cluster.name.clone(), Arc::new(cluster)),
                    &kind,
                    &object.name_any(),
                )
            }
            "SovereigntyPolicy" => {
                let object: SovereigntyPolicy = parse(value, &kind)?;
                let policy = convert::policy(&object);
                unique(
                    self.snapshot
                        .policies
                        .insert(policy.name.clone(), Arc::new(policy)),
                    &kind,
                    &object.name_any(),
                )
            }
            "GamesApplication" => self.take_application(parse(value, &kind)?),
            "Migration" => {
                self.take_migration(&parse(value, &kind)?);
                Ok(())
            }
            other => bail!("kind {other} does not exist in group {GROUP}"),
        }
    }

    fn take_application(&mut self, mut object: GamesApplication) -> anyhow::Result<()> {
        object
            .metadata
            .namespace
            .get_or_insert_with(|| "default".to_owned());
        let kinds = convert::kinds(&object);
        let declared = convert::declared(&mut object);
        let spec = convert::application_spec(&object, kinds, declared.as_ref().err());
        if self
            .snapshot
            .applications
            .iter()
            .any(|known| known.spec.key == spec.key)
        {
            bail!("GamesApplication {} is declared twice", spec.key);
        }
        let record = convert::application_record(&object.status.unwrap_or_default());
        self.snapshot.applications.push(Application {
            spec: Arc::new(spec),
            deleting: object.metadata.deletion_timestamp.is_some(),
            record: Arc::new(record),
            copies: BTreeMap::new(),
            edge: EdgeObservation::default(),
            migrations: Vec::new(),
        });
        Ok(())
    }

    fn take_migration(&mut self, object: &Migration) {
        let record = convert::migration_record(&object.status.clone().unwrap_or_default());
        if record.done() {
            return;
        }
        let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
        let key = ApplicationKey {
            namespace: namespace.into(),
            name: object.spec.application.as_str().into(),
        };
        self.moves.entry(key).or_default().push(Move {
            name: object.name_any().into(),
            from: object.spec.from.as_str().into(),
            to: object.spec.to.as_str().into(),
            trigger: convert::trigger(object.spec.trigger),
            pause: object.spec.pause,
            abort: object.spec.abort,
            record: Arc::new(record),
        });
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value, kind: &str) -> anyhow::Result<T> {
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or("(no name)")
        .to_owned();
    serde_json::from_value(value).with_context(|| format!("{kind} {name}"))
}

fn unique<T>(before: Option<T>, kind: &str, name: &str) -> anyhow::Result<()> {
    if before.is_some() {
        bail!("{kind} {name} is declared twice");
    }
    Ok(())
}
