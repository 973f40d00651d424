//! Objects of Flambeau's kinds, by name: as manifests declare them, or as the
//! hub holds them.

use anyhow::{Context, bail};
use flambeau_crds::{
    CloudProvider, Evacuation, Freeze, GROUP, GamesApplication, MemberCluster, Migration,
    SovereigntyPolicy,
};
use flambeau_planner::model::{ApplicationKey, Name};
use kube::ResourceExt;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Every object of the fleet. Namespaced ones are known by namespace and name,
/// and stand in namespace `default` unless they say otherwise.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// CloudProviders.
    pub providers: BTreeMap<Name, CloudProvider>,
    /// MemberClusters.
    pub clusters: BTreeMap<Name, MemberCluster>,
    /// SovereigntyPolicies.
    pub policies: BTreeMap<Name, SovereigntyPolicy>,
    /// GamesApplications.
    pub applications: BTreeMap<ApplicationKey, GamesApplication>,
    /// Migrations.
    pub migrations: BTreeMap<ApplicationKey, Migration>,
    /// Evacuations.
    pub evacuations: BTreeMap<Name, Evacuation>,
    /// Freezes.
    pub freezes: BTreeMap<Name, Freeze>,
}

impl Objects {
    /// Reads every manifest of Flambeau's own kinds from files, or from folders
    /// with all folders below; other kinds are passed over.
    ///
    /// # Errors
    /// When a file cannot be read, an object is not what its kind asks for, or
    /// one is declared twice.
    pub fn from_files(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut objects = Self::default();
        for path in paths {
            for file in files(path)? {
                let text =
                    fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?;
                for (index, document) in serde_yaml::Deserializer::from_str(&text).enumerate() {
                    let context = || format!("{}, document {}", file.display(), index + 1);
                    let value = Value::deserialize(document).with_context(context)?;
                    objects.take(value).with_context(context)?;
                }
            }
        }
        Ok(objects)
    }

    /// Puts the objects of another collection in the place of those of the same
    /// name here. A status stays as it was where the other has none: manifests
    /// have none.
    pub fn overlay(&mut self, other: Self) {
        replace(&mut self.providers, other.providers, |new, old| {
            new.status = new.status.take().or(old.status);
        });
        replace(&mut self.clusters, other.clusters, |new, old| {
            new.status = new.status.take().or(old.status);
        });
        replace(&mut self.policies, other.policies, |new, old| {
            new.status = new.status.take().or(old.status);
        });
        replace(&mut self.applications, other.applications, |new, old| {
            new.status = new.status.take().or(old.status);
        });
        replace(&mut self.migrations, other.migrations, |new, old| {
            new.status = new.status.take().or(old.status);
        });
        replace(&mut self.evacuations, other.evacuations, |new, old| {
            new.status = new.status.take().or(old.status);
        });
        replace(&mut self.freezes, other.freezes, |new, old| {
            new.status = new.status.take().or(old.status);
        });
    }

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
            "CloudProvider" => add(&mut self.providers, value, &kind, name),
            "MemberCluster" => add(&mut self.clusters, value, &kind, name),
            "SovereigntyPolicy" => add(&mut self.policies, value, &kind, name),
            "GamesApplication" => add(&mut self.applications, value, &kind, key),
            "Migration" => add(&mut self.migrations, value, &kind, key),
            "Evacuation" => add(&mut self.evacuations, value, &kind, name),
            "Freeze" => add(&mut self.freezes, value, &kind, name),
            other => bail!("kind {other} does not exist in group {GROUP}"),
        }
    }
}

/// The name of an object that has no namespace.
pub fn name<K: ResourceExt>(object: &mut K) -> Name {
    object.name_any().into()
}

/// Namespace and name of an object; one without a namespace gets `default`.
pub fn key<K: ResourceExt>(object: &mut K) -> ApplicationKey {
    let namespace = object
        .meta_mut()
        .namespace
        .get_or_insert_with(|| "default".to_owned());
    ApplicationKey {
        namespace: namespace.as_str().into(),
        name: object.name_any().into(),
    }
}

fn add<I: Ord, K: DeserializeOwned>(
    objects: &mut BTreeMap<I, K>,
    value: Value,
    kind: &str,
    identify: impl Fn(&mut K) -> I,
) -> anyhow::Result<()> {
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or("(no name)")
        .to_owned();
    let mut object: K = serde_json::from_value(value).with_context(|| format!("{kind} {name}"))?;
    if objects.insert(identify(&mut object), object).is_some() {
        bail!("{kind} {name} is declared twice");
    }
    Ok(())
}

fn replace<I: Ord, K>(
    objects: &mut BTreeMap<I, K>,
    others: BTreeMap<I, K>,
    keep_status: impl Fn(&mut K, K),
) {
    for (id, mut object) in others {
        if let Some(old) = objects.remove(&id) {
            keep_status(&mut object, old);
        }
        objects.insert(id, object);
    }
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
