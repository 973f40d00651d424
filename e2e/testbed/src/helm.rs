//! Helm, and the chart that installs Flambeau.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
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
