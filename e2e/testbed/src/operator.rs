//! The operator as a process of the root namespace, which tests kill and restart as they like.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::api::answers;
use crate::cgroup::{Hierarchies, ROOT};
use crate::edge;
use crate::network;
use crate::paths;
use crate::process::Component;
use crate::process::recorded::{self, Mounts, Placement, ProcessId};
use crate::state::{Entry, Journal};
use crate::testbed::Testbed;
use crate::wait::{self, Probe};

const NAME: &str = "flambeau-operator";
const PORT: u16 = 8088;
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The operator's program, built or not.
#[must_use]
pub fn program() -> PathBuf {
    paths::repository().join("target/release").join(NAME)
}

impl Testbed {
    /// The operator's log.
    #[must_use]
    pub fn operator_log(&self) -> PathBuf {
        self.folder().join(format!("{NAME}.log"))
    }

    /// The operator's own address for health and metrics.
    #[must_use]
    pub fn operator_url(&self) -> String {
        format!("http://{}:{PORT}", self.addresses().root())
    }

    /// The operator's process, if it runs.
    #[must_use]
    pub fn operator(&self) -> Option<ProcessId> {
        recorded::running(self.folder(), NAME)
    }

    /// Installs Flambeau's kinds on the hub.
    ///
    /// # Errors
    /// When they are refused.
    pub fn install_crds(&self) -> Result<()> {
        let (hub, folder) = (self.hub(), paths::repository().join("crds/generated"));
        let shown = folder.display().to_string();
        hub.kubectl(&[
            "apply",
            "--server-side",
            "--field-manager=testbed",
            "-f",
            &shown,
        ])?;
        hub.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "-f",
            &shown,
        ])?;
        Ok(())
    }

    /// Starts the operator and waits until it says that it is ready. Flambeau's kinds must be installed.
    ///
    /// # Errors
    /// When it runs already, is not built, or ends.
    pub fn start_operator(&self) -> Result<ProcessId> {
        self.start_operator_with(&[])
    }

    /// As [`Testbed::start_operator`], with more arguments, such as `--concurrent-moves=6`.
    ///
    /// # Errors
    /// As [`Testbed::start_operator`].
    pub fn start_operator_with(&self, arguments: &[&str]) -> Result<ProcessId> {
        if self.operator().is_some() {
            bail!("the operator runs already");
        }
        let program = program();
        if !program.exists() {
            bail!(
                "{} is not built yet; run `make operator`",
                program.display()
            );
        }
        let hub = network::number("hub")?;
        let mut operator = Component::new(NAME, &program)
            .argument("run")
            .path("kubeconfig", &self.hub().kubeconfig())
            .flag("gateway", edge::GATEWAY_NAME)
            .flag(
                "envoy-stats-url",
                edge::stats_url(self.addresses().cluster(hub)),
            )
            .flag("listen", format!("{}:{PORT}", self.addresses().root()));
        operator
            .arguments
            .extend(arguments.iter().map(ToString::to_string));
        let group = Hierarchies::mounted()?.group(&format!("{ROOT}/operator"))?;
        group.create()?;
        let id = recorded::start(
            &operator,
            &Placement {
                group,
                network: None,
                mounts: Mounts::Shared,
            },
            self.folder(),
        )?;
        Journal::of_this_machine().add(&Entry::Process {
            name: NAME.to_owned(),
            id,
        })?;
        let ready = format!("{}/readyz", self.operator_url());
        wait::until("operator ready", READY_WITHIN, || {
            recorded::check(self.folder(), NAME)?;
            Ok(answers(&ready))
        })?;
        Ok(id)
    }

    /// Kills the operator with SIGKILL and waits until it is gone. Not running is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill_operator(&self) -> Result<()> {
        self.end_operator(nix::sys::signal::Signal::SIGKILL)
    }

    /// Asks the operator to stop with SIGTERM and waits until it is gone.
    ///
    /// # Errors
    /// When it does not stop within half a minute.
    pub fn stop_operator(&self) -> Result<()> {
        self.end_operator(nix::sys::signal::Signal::SIGTERM)
    }

    fn end_operator(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        let Some(process) = self.operator() else {
            return Ok(());
        };
        process.signal(signal)?;
        wait::until("end of the operator", Duration::from_secs(30), || {
            Ok(if process.alive() {
                Probe::Pending("it runs".to_owned())
            } else {
                Probe::Done(())
            })
        })
        .with_context(|| crate::process::last_lines(&self.operator_log()))
    }
}
