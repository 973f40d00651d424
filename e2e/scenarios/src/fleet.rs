//! The fleet as a platform team declares it: providers, clusters, and how they become members.

use std::{fs, process::Command, thread};

use anyhow::{Context, Result, anyhow, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use flambeau_crds::MemberCluster;
use flambeau_testbed::{command, operator, paths, testbed::Testbed};
use serde::Deserialize;
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

/// Makes every cluster of the testbed that is not the hub a member of the fleet, as a platform team does: by
/// `kubectl flambeau join`, so that Flambeau has no more rights there than it uses. `limits` are more of its options, such
/// as `--namespace=games`. The same again changes nothing, and mends what is broken. Returns the commands.
///
/// # Errors
/// When the plugin is not built, or a cluster cannot be joined; the message is the plugin's.
pub fn join(testbed: &Testbed, limits: &[&str]) -> Result<Vec<String>> {
    let plugin = operator::plugin();
    ensure!(
        plugin.exists(),
        "{} is not built yet; run `make operator`",
        plugin.display()
    );
    let joins = joins(testbed, limits)?;
    let hub = testbed.hub().kubeconfig();
    let join = |arguments: &[String]| {
        let mut command = Command::new(&plugin);
        command.args(arguments).env("KUBECONFIG", &hub);
        command::finish(&mut command, None)
    };
    thread::scope(|scope| {
        let join = &join;
        let started: Vec<_> = joins
            .iter()
            .map(|arguments| scope.spawn(move || join(arguments)))
            .collect();
        started.into_iter().try_for_each(|handle| {
            let joined = handle.join();
            joined
                .unwrap_or_else(|_| Err(anyhow!("a joining thread panicked")))
                .map(drop)
        })
    })?;
    let repository = format!("{}/", paths::repository().display());
    let typed = |arguments: &Vec<String>| {
        let words = arguments.join(" ").replace(&repository, "");
        format!("kubectl flambeau {words}")
    };
    Ok(joins.iter().map(typed).collect())
}

/// What the plugin is told to join each member with the legal facts of the examples.
fn joins(testbed: &Testbed, limits: &[&str]) -> Result<Vec<Vec<String>>> {
    let declared = clusters()?;
    let declared: Result<Vec<MemberCluster>, _> = serde_yaml::Deserializer::from_str(&declared)
        .map(MemberCluster::deserialize)
        .collect();
    let declared = declared.context("the examples of MemberClusters")?;
    let join = |declared: &MemberCluster| {
        let name = declared.metadata.name.as_deref().unwrap_or_default();
        let kubeconfig = testbed.cluster(name)?.kubeconfig();
        let words = [
            "join".to_owned(),
            name.to_owned(),
            format!("--kubeconfig-of-member={}", kubeconfig.display()),
            format!("--provider={}", declared.spec.provider),
            format!("--residency={}", declared.spec.residency.0),
        ];
        let limits = limits.iter().map(ToString::to_string);
        Ok(words.into_iter().chain(limits).collect())
    };
    declared.iter().map(join).collect()
}

/// The kubeconfig that Flambeau has for a member.
///
/// # Errors
/// When the hub does not have it.
pub fn kubeconfig(testbed: &Testbed, member: &str) -> Result<String> {
    let secret = format!("member-{member}");
    let shown = "jsonpath={.data.kubeconfig}";
    let arguments = ["--namespace", SYSTEM_NAMESPACE, "get", "secret", &secret];
    let encoded = testbed
        .hub()
        .kubectl(&[&arguments[..], &["--output", shown]].concat())?;
    let kubeconfig = STANDARD.decode(encoded.trim());
    let kubeconfig = kubeconfig.with_context(|| format!("Secret {secret}"))?;
    String::from_utf8(kubeconfig).with_context(|| format!("Secret {secret}"))
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
