//! The operator: how it runs, and as a process of the root namespace, which tests kill and restart as they like.
//! [`crate::installed`] has it as pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::api::answers;
use crate::cgroup::{Group, Hierarchies, ROOT};
use crate::edge;
use crate::network;
use crate::paths;
use crate::process::Component;
use crate::process::recorded::{self, Mounts, Placement, ProcessId};
use crate::state::{Entry, Journal};
use crate::testbed::Testbed;
use crate::wait::{self, Probe};

const NAME: &str = "flambeau-operator";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Starts the operator again when it has lost leadership (exit code 3), as a kubelet would. Everything else that ends
/// it stays visible to tests.
const SUPERVISE: &str =
    r#"while :; do "$@"; code=$?; [ $code -eq 3 ] || exit $code; sleep 1; done"#;

/// How the operator runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// As pods on the hub's node, installed by the chart.
    #[default]
    Pods,
    /// As a process beside the clusters, with an administrator's rights.
    Process,
    /// Not at all.
    Absent,
}

/// One of the processes that may be the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replica {
    /// The one that `up` starts.
    First,
    /// One that stands by while the first leads.
    Second,
    /// One more.
    Third,
}

impl Replica {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    /// Names its log and its record, and is its identity in the Lease: a replica that was killed takes leadership over
    /// from itself at once.
    fn name(self) -> &'static str {
        match self {
            Self::First => NAME,
            Self::Second => "flambeau-operator-2",
            Self::Third => "flambeau-operator-3",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::First => 8088,
            Self::Second => 8089,
            Self::Third => 8090,
        }
    }

    fn group(self) -> Result<Group> {
        let group = match self {
            Self::First => "operator",
            Self::Second => "operator-2",
            Self::Third => "operator-3",
        };
        Hierarchies::mounted()?.group(&format!("{ROOT}/{group}"))
    }
}

/// The operator's program, built or not: the one that ships.
#[must_use]
pub fn program() -> PathBuf {
    programs().join(NAME)
}

/// The plugin of kubectl, built or not: the one that ships.
#[must_use]
pub fn plugin() -> PathBuf {
    programs().join("kubectl-flambeau")
}

fn programs() -> PathBuf {
    paths::repository().join("target/x86_64-unknown-linux-gnu/release")
}

impl Testbed {
    /// The operator's log, of all pods together when it runs as pods.
    #[must_use]
    pub fn operator_log(&self) -> PathBuf {
        self.log_of(Replica::First)
    }

    /// A replica's log.
    #[must_use]
    pub fn log_of(&self, replica: Replica) -> PathBuf {
        self.folder().join(format!("{}.log", replica.name()))
    }

    /// The operator's own address for health and metrics.
    #[must_use]
    pub fn operator_url(&self) -> String {
        self.url_of(Replica::First)
    }

    /// A replica's own address for health and metrics.
    #[must_use]
    pub fn url_of(&self, replica: Replica) -> String {
        format!("http://{}:{}", self.addresses().root(), replica.port())
    }

    /// The operator's process, if it runs.
    #[must_use]
    pub fn operator(&self) -> Option<ProcessId> {
        self.process_of(Replica::First)
    }

    /// A replica's process, if it runs: none for the moment between its end by a lost leadership and its next start.
    #[must_use]
    pub fn process_of(&self, replica: Replica) -> Option<ProcessId> {
        let group = replica.group().ok()?;
        let processes = fs::read_to_string(group.entrance()).ok()?;
        processes
            .lines()
            .filter_map(|pid| ProcessId::of(pid.parse().ok()?))
            .find(|process| runs_operator(*process))
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
        self.start_replica(Replica::First, arguments)
    }

    /// Starts a replica and waits until it says that it is ready, which one that stands by is too.
    ///
    /// # Errors
    /// When it runs already, is not built, or ends.
    pub fn start_replica(&self, replica: Replica, arguments: &[&str]) -> Result<ProcessId> {
        let name = replica.name();
        if recorded::running(self.folder(), name).is_some() || self.process_of(replica).is_some() {
            bail!("{name} runs already");
        }
        let program = program();
        if !program.exists() {
            bail!(
                "{} is not built yet; run `make operator`",
                program.display()
            );
        }
        let hub = network::number("hub")?;
        let mut operator = Component::new(name, Path::new("/bin/sh"))
            .argument("-c")
            .argument(SUPERVISE)
            .argument("sh")
            .argument(program.display().to_string())
            .argument("run")
            .path("kubeconfig", &self.hub().kubeconfig())
            .flag("gateway", edge::GATEWAY_NAME)
            .flag(
                "envoy-stats-url",
                edge::stats_url(self.addresses().cluster(hub)),
            )
            .flag("identity", name)
            .flag(
                "listen",
                format!("{}:{}", self.addresses().root(), replica.port()),
            );
        operator
            .arguments
            .extend(arguments.iter().map(ToString::to_string));
        let group = replica.group()?;
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
            name: name.to_owned(),
            id,
        })?;
        let ready = format!("{}/readyz", self.url_of(replica));
        wait::until("operator ready", READY_WITHIN, || {
            recorded::check(self.folder(), name)?;
            Ok(answers(&ready))
        })?;
        self.process_of(replica)
            .with_context(|| crate::process::last_lines(&self.log_of(replica)))
    }

    /// Kills the operator with SIGKILL and waits until it is gone. Not running is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill_operator(&self) -> Result<()> {
        self.end_replica(Replica::First, Signal::SIGKILL)
    }

    /// Asks the operator to stop with SIGTERM and waits until it is gone.
    ///
    /// # Errors
    /// When it does not stop within half a minute.
    pub fn stop_operator(&self) -> Result<()> {
        self.end_replica(Replica::First, Signal::SIGTERM)
    }

    /// Sends a replica a signal that ends it, and waits until it is gone. Not running is no error.
    ///
    /// # Errors
    /// When it does not end within half a minute.
    pub fn end_replica(&self, replica: Replica, signal: Signal) -> Result<()> {
        // Nobody starts it again.
        if let Some(supervisor) = recorded::running(self.folder(), replica.name()) {
            supervisor.signal(Signal::SIGKILL)?;
        }
        let mut sent = None;
        wait::until("end of the operator", Duration::from_secs(30), || {
            let Some(process) = self.process_of(replica) else {
                let supervised = recorded::running(self.folder(), replica.name());
                return Ok(match supervised {
                    Some(_) => Probe::Pending("its supervisor runs".to_owned()),
                    None => Probe::Done(()),
                });
            };
            if sent.replace(process) != Some(process) {
                process.signal(signal)?;
            }
            Ok(Probe::Pending("it runs".to_owned()))
        })
        .with_context(|| crate::process::last_lines(&self.log_of(replica)))
    }
}

/// Whether a process runs the operator's program, also when that was built anew meanwhile.
fn runs_operator(process: ProcessId) -> bool {
    let Ok(program) = fs::read_link(format!("/proc/{}/exe", process.pid)) else {
        return false;
    };
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    name.trim_end_matches(" (deleted)") == NAME
}
