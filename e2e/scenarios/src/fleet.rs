//! The fleet as a platform team declares it: providers, clusters and the Secrets that hold their kubeconfigs.

use std::fs;

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use flambeau_testbed::{cluster::Cluster, paths, testbed::Testbed};
use serde_json::json;

/// The namespace on the hub that holds the Secrets.
pub const SYSTEM_NAMESPACE: &str = "flambeau-system";

/// The legal facts about the three providers, as in the examples of the API.
///
/// # Errors
/// When the example cannot be read.
pub fn providers() -> Result<String> {
    example("cloudproviders.yaml")
}

/// The three clusters, as in the examples of the API.
///
/// # Errors
/// When the example cannot be read.
pub fn clusters() -> Result<String> {
    example("memberclusters.yaml")
}

/// The Secrets with the members' kubeconfigs, which the examples name.
///
/// # Errors
/// When a kubeconfig cannot be read.
pub fn secrets(testbed: &Testbed) -> Result<String> {
    let secrets: Result<Vec<String>> = testbed.members().iter().map(secret).collect();
    Ok(secrets?.join("---\n"))
}

fn secret(member: &Cluster) -> Result<String> {
    let file = member.kubeconfig();
    let kubeconfig = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    secret_with(member.name(), &kubeconfig)
}

/// The Secret of a member with some other kubeconfig in it.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn secret_with(member: &str, kubeconfig: &[u8]) -> Result<String> {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": format!("member-{member}"), "namespace": SYSTEM_NAMESPACE },
        "data": { "kubeconfig": STANDARD.encode(kubeconfig) },
    });
    serde_yaml::to_string(&secret).context("write a Secret as YAML")
}

/// A namespace.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn namespace(name: &str) -> Result<String> {
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    serde_yaml::to_string(&namespace).context("write a Namespace as YAML")
}

fn example(name: &str) -> Result<String> {
    let file = paths::repository().join("crds/examples").join(name);
    fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
}
