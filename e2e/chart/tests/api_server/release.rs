//! Installation, a second one, upgrade, uninstallation.

use anyhow::{Context, Result, ensure};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    documentation::{self, Class},
    helm::{Helm, NAMESPACE, RELEASE, chart},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub fn trial() -> Trial {
    Trial::test("release::what_people_declared_outlives_it", || {
        outlived().map_err(|error| format!("{error:#}").into())
    })
}

const PROVIDER: &str = r#"{"apiVersion": "flambeau.dev/v1alpha1", "kind": "CloudProvider", "metadata": {"name": "east"},
    "spec": {"legalEntity": "east", "registeredOffice": "FR", "headquarters": "FR", "ownership": {"chain": "Complete"}}}"#;

/// What the chart installs beside definitions.
const OTHERS: &str = "deployment,service,serviceaccount,role,rolebinding,networkpolicy,poddisruptionbudget,\
    clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding,\
    mutatingadmissionpolicy,mutatingadmissionpolicybinding";

fn outlived() -> Result<()> {
    // A cluster of its own: nobody else likes to be uninstalled.
    let hub = Hub {
        plane: ControlPlane::start_temporary(&Options::default())?,
        chart: chart().display().to_string(),
    };
    hub.installed_once()?;
    hub.upgraded()?;
    hub.uninstalled()?;
    hub.helm()?
        .install(&[])
        .context("it can be installed again")?;
    hub.kubectl(&["get", "cloudprovider", "east"])
        .context("objects are kept")?;
    Ok(())
}

/// Every command of Helm in the documentation, for real, in a cluster of its own.
pub fn documented() -> Trial {
    Trial::test("release::as_the_documentation_says", || {
        as_documented().map_err(|error| format!("{error:#}").into())
    })
}

fn as_documented() -> Result<()> {
    let plane = ControlPlane::start_temporary(&Options::default())?;
    let chart = chart().display().to_string();
    let helm = Helm::of(plane.kubeconfig())?;
    plane.apply(&["ServiceMonitor", "PrometheusRule"].map(of_prometheus))?;
    plane.await_definitions()?;
    let digest = format!("sha256:{}", "0".repeat(64));
    let (mut asked, mut installed) = (0, false);
    for command in documentation::commands()? {
        if command.class() != Some(Class::Helm) {
            continue;
        }
        asked += 1;
        let words = command.words().split_off(1);
        let words: Vec<String> = words
            .iter()
            .map(|word| {
                word.replace("charts/flambeau", &chart)
                    .replace("sha256:...", &digest)
            })
            .collect();
        let arguments: Vec<&str> = words.iter().map(String::as_str).collect();
        match (arguments[0] == "install", installed) {
            (true, true) => drop(helm.uninstall()?),
            (false, false) => drop(helm.install(&[])?),
            _ => {}
        }
        helm.run(&arguments)
            .with_context(|| format!("{}: {}", command.place, command.text))?;
        installed = arguments[0] != "uninstall";
    }
    ensure!(asked >= 4, "only {asked} commands were found");
    Ok(())
}

/// A kind of the Prometheus operator, which takes any object: enough for Helm to bring one there.
fn of_prometheus(kind: &str) -> Value {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
        "spec": {
            "group": "monitoring.coreos.com", "scope": "Namespaced",
            "names": {"kind": kind, "singular": singular, "plural": plural},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    })
}

struct Hub {
    plane: ControlPlane,
    chart: String,
}

impl Hub {
    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(arguments)
    }

    fn helm(&self) -> Result<Helm> {
        Helm::of(self.plane.kubeconfig())
    }

    fn release(&self, verb: &str, name: &str, namespace: &str, more: &[&str]) -> Result<String> {
        let command = [verb, name, &self.chart, "--namespace", namespace];
        self.helm()?.run(&[&command[..], more].concat())
    }

    fn installed_once(&self) -> Result<()> {
        let said = self.helm()?.install(&[])?;
        for command in [
            "kubectl --namespace flambeau-system rollout status deployment/flambeau",
            "helm test flambeau --namespace flambeau-system",
            "kubectl flambeau join",
        ] {
            ensure!(said.contains(command), "the next commands: {said}");
        }
        for more in [
            &["--create-namespace"][..],
            &["--create-namespace", "--set=crds.install=false"],
        ] {
            let second = self.release("install", "second", "other", more);
            let refused = format!("{:#}", second.err().context("a second release is refused")?);
            ensure!(
                refused.contains("installed in this cluster already: release flambeau in namespace flambeau-system"),
                "{refused}"
            );
        }
        Ok(())
    }

    fn upgraded(&self) -> Result<()> {
        // As if the release before had not known the kind.
        self.kubectl(&["delete", "crd", "freezes.flambeau.dev"])?;
        self.release("upgrade", RELEASE, NAMESPACE, &["--set=replicas=3"])?;
        let replicas = "jsonpath={.spec.replicas}";
        let replicas = self.kubectl(&[
            "get",
            "deployment",
            "flambeau",
            "-n",
            NAMESPACE,
            "-o",
            replicas,
        ])?;
        ensure!(replicas == "3", "the upgrade reached the Deployment");
        self.plane.await_definitions()?;
        self.kubectl(&["get", "freezes"])
            .context("the upgrade brought the kind")?;
        Ok(())
    }

    fn uninstalled(&self) -> Result<()> {
        self.plane.apply(&[serde_json::from_str(PROVIDER)?])?;
        let said = self.helm()?.uninstall()?;
        ensure!(
            said.contains("cloudproviders.flambeau.dev"),
            "Helm says what it keeps: {said}"
        );
        self.kubectl(&["get", "cloudprovider", "east"])
            .context("objects are kept")?;
        let left = self.kubectl(&[
            "get",
            OTHERS,
            "--namespace",
            NAMESPACE,
            "--selector=app.kubernetes.io/part-of=flambeau",
            "-o",
            "name",
        ])?;
        ensure!(left.is_empty(), "everything else is gone: {left}");
        Ok(())
    }
}
