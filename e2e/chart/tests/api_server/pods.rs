//! Pods under restricted Pod Security.

use std::sync::Arc;

use anyhow::{Result, ensure};
use flambeau_chart::rendered::{self, of_kind};
use flambeau_testbed::helm::NAMESPACE;
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::cluster::{Cluster, SharedCluster};

pub fn trials(cluster: &Arc<SharedCluster>) -> Vec<Trial> {
    vec![cluster.trial(
        "pods::a_namespace_that_enforces_restricted_pod_security_takes_them",
        taken,
    )]
}

fn taken(cluster: &Cluster) -> Result<()> {
    let careless = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "careless", "namespace": NAMESPACE},
        "spec": {"containers": [{"name": "careless", "image": "careless"}]},
    });
    let refused = cluster.admit(None, &careless);
    let refused = refused.map_or_else(|error| format!("{error:#}"), |()| "nothing".to_owned());
    ensure!(
        refused.contains("violates PodSecurity \"restricted"),
        "the namespace enforces: {refused}"
    );
    let options = concat!(
        "--values=",
        env!("CARGO_MANIFEST_DIR"),
        "/tests/all-options.yaml"
    );
    cluster.apply(&[json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator", "namespace": NAMESPACE},
    })])?;
    for settings in [&[][..], &[options]] {
        let objects = rendered::objects(settings)?;
        let deployment = of_kind(&objects, "Deployment")?;
        cluster.admit(None, &pod_of(deployment))?;
        cluster.admit(None, of_kind(&objects, "Pod")?)?;
    }
    Ok(())
}

/// The pod that a Deployment would make.
fn pod_of(deployment: &Value) -> Value {
    let template = &deployment["spec"]["template"];
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "one", "namespace": NAMESPACE,
            "labels": template["metadata"]["labels"], "annotations": template["metadata"]["annotations"],
        },
        "spec": template["spec"],
    })
}
