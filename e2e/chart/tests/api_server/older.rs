//! Definitions of two versions of the chart: what a rollback takes away, and how it does not.

use anyhow::{Context, Result, ensure};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    helm::{Helm, NAMESPACE, OtherVersion, RELEASE, chart},
    wait::{self, Probe},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::cluster::PATIENCE;

const NEWER: &str = "0.2.0";
const OLDER: &str = env!("CARGO_PKG_VERSION");

pub fn trial() -> Trial {
    Trial::test("release::a_rollback_takes_no_more_than_it_must", || {
        rolled_back().map_err(|error| format!("{error:#}").into())
    })
}

fn rolled_back() -> Result<()> {
    let newer = newer()?;
    let newer = newer.file().display().to_string();
    let older = chart().display().to_string();
    // A cluster of its own: definitions are everybody's.
    let hub = Hub(ControlPlane::start_temporary(&Options::default())?);
    hub.helm(&[
        "install",
        RELEASE,
        &older,
        "--create-namespace",
        "--set=replicas=3",
    ])?;
    hub.serves(OLDER)?;
    let made = hub.definitions("{.metadata.uid}")?;
    hub.upgrade(&newer, &[])?;
    hub.serves(NEWER)?;
    for name in ["rested", "written"] {
        hub.0.apply(&[freeze(name)])?;
        ensure!(
            hub.later(name)? == "kept",
            "the new field of {name} is stored"
        );
    }

    // The older operator with the newer definitions, which leave the release.
    hub.upgrade(&older, &["--set=crds.install=false"])?;
    ensure!(
        hub.operator()? == format!("{OLDER} 3"),
        "{}",
        hub.operator()?
    );
    ensure!(
        hub.definitions("{.metadata.uid}")? == made,
        "definitions stay"
    );
    hub.serves(NEWER)?;
    hub.write("written", "while-older")?;
    for name in ["rested", "written"] {
        ensure!(hub.later(name)? == "kept", "{name} has the new field");
    }
    // Forward again: definitions come back into the release.
    hub.upgrade(&newer, &["--set=crds.install=true"])?;
    ensure!(
        hub.operator()? == format!("{NEWER} 3"),
        "{}",
        hub.operator()?
    );

    hub.helm(&["rollback", RELEASE, "1"])?;
    hub.serves(OLDER)?;
    ensure!(
        hub.definitions("{.metadata.uid}")? == made,
        "definitions are changed, not made anew"
    );
    ensure!(hub.later("rested")?.is_empty(), "the field is not served");
    hub.write("written", "after-rollback")?;
    hub.upgrade(&newer, &[])?;
    hub.serves(NEWER)?;
    ensure!(
        hub.later("rested")? == "kept",
        "what was not written has the field again"
    );
    ensure!(
        hub.later("written")?.is_empty(),
        "what was written has lost it"
    );

    // What a rollback must not do, even if definitions left the release before it.
    hub.upgrade(&older, &["--set=crds.install=false"])?;
    hub.helm(&["uninstall", RELEASE])?;
    ensure!(
        hub.definitions("{.metadata.uid}")? == made,
        "definitions outlive the release"
    );
    ensure!(hub.later("rested")? == "kept", "and so do objects");
    Ok(())
}

/// The chart after this repository's: a Freeze knows one field more, and shows it.
fn newer() -> Result<OtherVersion> {
    let level = ("level: info,", "level: info,flambeau_operator=debug,");
    OtherVersion::package(NEWER, level, |name, definition| {
        let version = &mut definition["spec"]["versions"][0];
        let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let is_freeze = name == "freezes.flambeau.dev";
        if is_freeze {
            spec["later"] = json!({"type": "string", "description": "Comes with this version."});
        }
        is_freeze
    })
}

fn freeze(name: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Freeze", "metadata": {"name": name},
        "spec": {"from": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z", "reason": "ceremony", "later": "kept"},
    })
}

struct Hub(ControlPlane);

impl Hub {
    fn helm(&self, arguments: &[&str]) -> Result<String> {
        let helm = Helm::of(self.0.kubeconfig())?;
        helm.run(&[arguments, &["--namespace", NAMESPACE]].concat())
            .with_context(|| arguments.join(" "))
    }

    /// As docs/install.md has it.
    fn upgrade(&self, chart: &str, more: &[&str]) -> Result<()> {
        let command = ["upgrade", RELEASE, chart, "--reset-then-reuse-values"];
        self.helm(&[&command, more].concat()).map(drop)
    }

    /// Waits until the API server takes definitions for those of a version: they are served a moment after they changed.
    fn serves(&self, version: &str) -> Result<()> {
        self.0.await_definitions()?;
        let of = self.definitions(r"{.metadata.labels.helm\.sh/chart}")?;
        let all = of
            .split_whitespace()
            .all(|chart| chart == format!("flambeau-{version}"));
        ensure!(
            all && of.split_whitespace().count() == 7,
            "definitions are of {version}: {of}"
        );
        wait::until(
            &format!("the definitions of {version} are served"),
            PATIENCE,
            || {
                let known = self.0.kubectl(&["explain", "freezes.spec.later"]);
                let refused = self.0.kubectl(&[
                    "create",
                    "--dry-run=server",
                    "--validate=strict",
                    "-f",
                    &self.0.manifests(&[freeze("asked")])?,
                ]);
                Ok(match (known.is_ok(), refused.is_ok()) {
                    (true, true) if version == NEWER => Probe::Done(()),
                    (false, false) if version == OLDER => Probe::Done(()),
                    (known, taken) => Probe::Pending(format!("known: {known}, taken: {taken}")),
                })
            },
        )
    }

    /// Something of each definition, in order of their names.
    fn definitions(&self, shown: &str) -> Result<String> {
        let shown = format!("jsonpath={{range .items[*]}}{shown} {{end}}");
        let selector = "--selector=app.kubernetes.io/part-of=flambeau";
        self.0.kubectl(&["get", "crd", selector, "-o", &shown])
    }

    /// The version of the operator, and how many it is.
    fn operator(&self) -> Result<String> {
        let shown = r"jsonpath={.metadata.labels.app\.kubernetes\.io/version} {.spec.replicas}";
        self.0
            .kubectl(&["get", "deployment", RELEASE, "-n", NAMESPACE, "-o", shown])
    }

    /// The field that the newer version brings.
    fn later(&self, name: &str) -> Result<String> {
        self.0
            .kubectl(&["get", "freeze", name, "-o", "jsonpath={.spec.later}"])
    }

    /// Writes an object as it is served.
    fn write(&self, name: &str, when: &str) -> Result<()> {
        self.0.kubectl(&[
            "annotate",
            "freeze",
            name,
            &format!("example.org/written={when}"),
            "--overwrite",
        ])?;
        self.0
            .kubectl(&[
                "label",
                "freeze",
                name,
                &format!("written={when}"),
                "--overwrite",
            ])
            .map(drop)
    }
}
