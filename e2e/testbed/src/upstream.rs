//! The upstream programs: which versions, where they are.

use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::paths;

/// Versions of everything that is built or fetched, kept in `e2e/upstream/versions.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Versions {
    /// Kubernetes with etcd and kubectl, the same as in `e2e/upstream/go.mod`.
    pub kubernetes: String,
    /// Contour, the Gateway API implementation of the edge.
    pub contour: String,
    /// Envoy, the proxy of the edge.
    pub envoy: String,
}

impl Versions {
    /// The versions this program was built for.
    ///
    /// # Errors
    /// When `versions.yaml` is not valid.
    pub fn pinned() -> Result<Self> {
        Ok(serde_yaml::from_str(include_str!(
            "../../upstream/versions.yaml"
        ))?)
    }
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
}

impl Tools {
    /// Where the programs are, built or not.
    ///
    /// # Errors
    /// When `versions.yaml` is not valid.
    pub fn places() -> Result<Self> {
        let (versions, cache) = (Versions::pinned()?, paths::cache());
        let kubernetes = cache.join(format!("kubernetes-{}", versions.kubernetes));
        let contour = cache.join(format!("contour-{}", versions.contour));
        Ok(Self {
            kubectl: kubernetes.join("kubectl"),
            kubernetes: kubernetes.join("kubernetes"),
            contour_crds: contour.join("crds"),
            contour: contour.join("contour"),
            envoy: cache
                .join(format!("envoy-{}", versions.envoy))
                .join("envoy"),
        })
    }

    /// Where the programs are, after a look that those which an API server needs are there.
    ///
    /// # Errors
    /// When they are not built yet; the message says how to build them.
    pub fn built() -> Result<Self> {
        let tools = Self::places()?;
        if !tools.kubernetes.exists() {
            bail!(
                "{} is not built yet; run `make upstream`",
                tools.kubernetes.display()
            );
        }
        Ok(tools)
    }
}
