//! GamesApplications made from the manifests of the example applications.

use anyhow::{Context, Result};
use flambeau_crds::{
    Criticality, GamesApplication, GamesApplicationSpec, Sensitivity,
    application::{
        Hostname, MigrationStrategy, Objectives, PlacementPreference, ServicePort, Traffic,
    },
};
use flambeau_games::{Application, manifests};
use serde::Deserialize;
use serde_json::Value;

/// Port of the Service in each example application's manifests.
const PORT: i32 = 80;

/// What is asked of every failover, in seconds from the loss.
pub const RECOVERY_SECONDS: i32 = 15;

/// One example application as somebody asks Flambeau for it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which of the example applications.
    pub application: Application,
    /// Its namespace.
    pub namespace: String,
    /// The host name that it answers to.
    pub host: String,
    /// What the law cares about.
    pub sensitivity: Sensitivity,
    /// What availability cares about.
    pub criticality: Criticality,
    /// Clusters in order of preference.
    pub preferred: Vec<String>,
    /// Pace of its moves.
    pub pace: MigrationStrategy,
}

impl Asked {
    /// The objects of the application, without a namespace.
    ///
    /// # Errors
    /// When a manifest is no YAML.
    pub fn resources(&self) -> Result<Vec<Value>> {
        serde_yaml::Deserializer::from_str(manifests::yaml(self.application))
            .map(|document| {
                Value::deserialize(document)
                    .with_context(|| format!("the manifests of {}", self.application))
            })
            .collect()
    }

    /// The GamesApplication.
    ///
    /// # Errors
    /// When a manifest is no YAML.
    pub fn object(&self) -> Result<GamesApplication> {
        let name = self.application.name();
        let spec = GamesApplicationSpec {
            sensitivity: self.sensitivity,
            criticality: self.criticality,
            resources: self.resources()?,
            traffic: Some(Traffic {
                hostnames: vec![Hostname(self.host.clone())],
                service: ServicePort {
                    name: name.to_owned(),
                    port: PORT,
                },
            }),
            placement: Some(PlacementPreference {
                preferred_clusters: self.preferred.clone(),
            }),
            migration: Some(self.pace.clone()),
            failover: None,
            objectives: Some(Objectives {
                recovery_time_seconds: Some(RECOVERY_SECONDS),
            }),
            depends_on: Vec::new(),
        };
        let mut object = GamesApplication::new(name, spec);
        object.metadata.namespace = Some(self.namespace.clone());
        Ok(object)
    }
}
