//! Helm, and the chart that installs Flambeau.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::command;
use crate::paths;
use crate::upstream::Tools;

/// The name of the release, of its Deployment and of its ServiceAccount.
pub const RELEASE: &str = "flambeau";

/// The namespace of the release. It takes pods of the restricted Pod Security Standard alone.
pub const NAMESPACE: &str = "flambeau-system";

/// The folder of the chart.
#[must_use]
pub fn chart() -> PathBuf {
    paths::repository().join("charts/flambeau")
}

/// The chart of this repository as another version might have it; packaged, and gone when this is dropped.
pub struct OtherVersion {
    _folder: TempDir,
    package: PathBuf,
}

impl OtherVersion {
    /// Packages the chart under another version, with a text of `values.yaml` replaced by another one, and with its
    /// definitions changed: `change` gets each by its name, and says whether it changed it.
    ///
    /// # Errors
    /// When nothing was there to change, or Helm fails.
    pub fn package(
        version: &str,
        (now, then): (&str, &str),
        mut change: impl FnMut(&str, &mut Value) -> bool,
    ) -> Result<Self> {
        let folder = TempDir::with_prefix("flambeau-chart-").context("make a temporary folder")?;
        let copy = folder.path().join("flambeau");
        let (from, to) = (chart().display().to_string(), copy.display().to_string());
        command::run("cp", &["--recursive", &from, &to])?;
        rewrite(&copy.join("values.yaml"), |values| {
            Ok(values.replacen(now, then, 1))
        })?;
        let mut changed = 0;
        let definitions = copy.join("files/crds");
        let entries = fs::read_dir(&definitions).context("list the definitions of the chart")?;
        for entry in entries {
            let file = entry.context("list the definitions of the chart")?.path();
            let text = fs::read_to_string(&file).context("read a definition")?;
            let mut definition: Value = serde_yaml::from_str(&text).context("read a definition")?;
            let name = definition["metadata"]["name"].as_str();
            let name = name.unwrap_or_default().to_owned();
            if change(&name, &mut definition) {
                rewrite(&file, |_| Ok(serde_yaml::to_string(&definition)?))?;
                changed += 1;
            }
        }
        ensure!(changed > 0, "version {version} has the same definitions");
        let (as_version, as_app) = (
            format!("--version={version}"),
            format!("--app-version={version}"),
        );
        let destination = folder.path().display().to_string();
        Helm::offline()?.run(&[
            "package",
            &to,
            &as_version,
            &as_app,
            "--destination",
            &destination,
        ])?;
        Ok(Self {
            package: folder.path().join(format!("flambeau-{version}.tgz")),
            _folder: folder,
        })
    }

    /// The package: what Helm takes for a chart.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.package
    }
}

/// Writes a file anew, with another content.
fn rewrite(file: &Path, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
    let context = || format!("rewrite {}", file.display());
    let before = fs::read_to_string(file).with_context(context)?;
    let after = change(&before).with_context(context)?;
    ensure!(after != before, "{}: nothing to change", file.display());
    fs::write(file, after).with_context(context)
}

/// Helm, with nothing of the user's own settings, and with one cluster or none.
pub struct Helm {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
    home: TempDir,
}

impl Helm {
    /// One that knows no cluster: enough to lint and to render.
    ///
    /// # Errors
    /// When Helm is not built.
    pub fn offline() -> Result<Self> {
        let program = Tools::places()?.helm;
        if !program.exists() {
            bail!(
                "{} is not built yet; run `make upstream`",
                program.display()
            );
        }
        Ok(Self {
            program,
            kubeconfig: None,
            home: TempDir::with_prefix("flambeau-helm-").context("make a temporary folder")?,
        })
    }

    /// One that installs into the cluster of a kubeconfig.
    ///
    /// # Errors
    /// When Helm is not built.
    pub fn of(kubeconfig: &Path) -> Result<Self> {
        Ok(Self {
            kubeconfig: Some(kubeconfig.to_path_buf()),
            ..Self::offline()?
        })
    }

    /// Installs the chart of this repository as it is usually installed, with more arguments of `helm install`, and
    /// returns what Helm printed.
    ///
    /// # Errors
    /// As [`Helm::run`].
    pub fn install(&self, more: &[&str]) -> Result<String> {
        let chart = chart().display().to_string();
        let command = [
            "install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            "--create-namespace",
        ];
        self.run(&[&command[..], more].concat())
    }

    /// Uninstalls what [`Helm::install`] installed, and returns what Helm printed.
    ///
    /// # Errors
    /// As [`Helm::run`].
    pub fn uninstall(&self) -> Result<String> {
        self.run(&["uninstall", RELEASE, "--namespace", NAMESPACE])
    }

    /// Runs Helm and returns what it printed.
    ///
    /// # Errors
    /// When Helm fails; the message is Helm's.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut helm = Command::new(&self.program);
        helm.args(arguments).env_remove("KUBECONFIG");
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            helm.env(variable, self.home.path().join(folder));
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            helm.env("KUBECONFIG", kubeconfig);
        }
        command::finish(&mut helm, None)
    }
}
