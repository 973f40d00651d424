//! A control plane with the kinds of Flambeau, and what the tests do to it.

use std::{collections::BTreeMap, fs, path::Path, sync::OnceLock};

use anyhow::{Context, Result, anyhow, bail};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    shared::Shared,
};
use serde_json::Value;
use tempfile::TempDir;

/// The cluster of all tests.
pub type SharedCluster = Shared<Cluster>;

/// A control plane with the kinds of Flambeau.
pub struct Cluster {
    plane: ControlPlane,
}

impl Cluster {
    pub fn start() -> Result<Self> {
        let cluster = Self {
            plane: ControlPlane::start_temporary(&Options::default())?,
        };
        let generated = folder("generated");
        cluster.kubectl(&["apply", "--server-side", "-f", &generated])?;
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=30s",
            "-f",
            &generated,
        ])?;
        Ok(cluster)
    }

    /// Runs kubectl, for which a warning is an error; returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane
            .kubectl(&[&["--warnings-as-errors"], arguments].concat())
    }

    /// What the API server answers to GET `path`.
    pub fn get(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.plane.client().get(path)?)
            .with_context(|| format!("parse the answer to GET {path}"))
    }

    /// Asks whether the object could be created, strictly, and creates nothing.
    pub fn admit(&self, object: &Value) -> Result<()> {
        let file = self.manifest(object)?;
        self.kubectl(&[
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &file,
        ])?;
        Ok(())
    }

    /// Applies the object, strictly, and returns it as it was stored.
    pub fn apply(&self, object: &Value) -> Result<Value> {
        let file = self.manifest(object)?;
        let stored = self.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--validate=strict",
            "-o",
            "json",
            "-f",
            &file,
        ])?;
        Ok(serde_json::from_str(&stored)?)
    }

    /// Applies the status of an object.
    pub fn apply_status(&self, object: &Value) -> Result<()> {
        let file = self.manifest(object)?;
        self.kubectl(&[
            "apply",
            "--server-side",
            "--subresource=status",
            "--field-manager=status",
            "-f",
            &file,
        ])?;
        Ok(())
    }

    /// A file with this object.
    pub fn manifest(&self, object: &Value) -> Result<String> {
        self.plane.manifests(std::slice::from_ref(object))
    }
}

/// Many objects, offered to the API server at once: a run of kubectl takes a
/// hundred times as long as a request.
pub struct Admission {
    objects: Vec<Value>,
    outcomes: OnceLock<Result<BTreeMap<usize, String>, String>>,
}

impl Admission {
    /// Of these objects, of which none is stored.
    pub fn of(objects: Vec<Value>) -> Self {
        Self {
            objects,
            outcomes: OnceLock::new(),
        }
    }

    /// Whether the object of this index is taken, or why it is refused.
    pub fn outcome(&self, cluster: &Cluster, index: usize) -> Result<()> {
        let refusals = self
            .outcomes
            .get_or_init(|| self.refusals(cluster).map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))?;
        match refusals.get(&index) {
            Some(refusal) => Err(anyhow!("{refusal}")),
            None => Ok(()),
        }
    }

    fn refusals(&self, cluster: &Cluster) -> Result<BTreeMap<usize, String>> {
        let folder = TempDir::with_prefix("flambeau-admission-").context("make a folder")?;
        for (index, object) in self.objects.iter().enumerate() {
            let file = folder.path().join(format!("{index}.json"));
            fs::write(file, serde_json::to_vec(object)?)?;
        }
        let folder = path(folder.path())?;
        let Err(error) = cluster.kubectl(&[
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            folder,
        ]) else {
            return Ok(BTreeMap::new());
        };
        // One line a refusal: Error from server (Reason): error when creating "FOLDER/7.json": ...
        let error = format!("{error:#}");
        let mut refusals = BTreeMap::new();
        for line in error.lines() {
            let (index, refusal) = line
                .split_once(&format!("error when creating \"{folder}/"))
                .and_then(|(_, rest)| rest.split_once(".json\": "))
                .with_context(|| format!("a line of kubectl names no file: {line}"))?;
            refusals.insert(index.parse()?, refusal.to_owned());
        }
        Ok(refusals)
    }
}

/// A folder of this crate.
pub fn folder(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(name)
        .display()
        .to_string()
}

fn path(file: &Path) -> Result<&str> {
    match file.to_str() {
        Some(path) => Ok(path),
        None => bail!("{} is not UTF-8", file.display()),
    }
}
