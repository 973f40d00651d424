//! The testbed with its fleet, and what scenarios do and await.

use std::fs;

use anyhow::{Context, Result};
use flambeau_scenarios::{
    fleet,
    hub::{Edge, Hub, health},
};
use flambeau_testbed::{
    cluster::{API_SERVER, Cluster},
    images::{self, Image},
    operator::{Operator, Replica},
    process::recorded,
    progress::Progress,
    testbed::{Options, Testbed},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::{stage::Stage, wait::until};

/// The policy by which no other state may compel who operates personal data.
pub const EUROPEAN: &str = "european";

/// Whether there is time for more.
pub fn soak() -> bool {
    std::env::var("SOAK").is_ok_and(|soak| !["", "0"].contains(&soak.as_str()))
}

/// The testbed with providers and clusters.
pub struct World {
    pub testbed: Testbed,
    pub hub: Hub,
    pub edge: Edge,
    images: Vec<Image>,
}

impl World {
    /// Brings a testbed up and declares the fleet. The operator is a process, which scenarios stop and cut off; those that
    /// have it as pods put them in its place.
    pub fn up() -> Result<Self> {
        let options = Options {
            operator: Operator::Process,
            ..Options::default()
        };
        let testbed = Testbed::up(options, Progress::start())?;
        let world = Self {
            hub: Hub::new(testbed.hub())?,
            edge: Edge::new(&testbed.edge_url()),
            images: images::for_nodes()?,
            testbed,
        };
        world.declare_fleet()?;
        Ok(world)
    }

    fn declare_fleet(&self) -> Result<()> {
        let hub = self.testbed.hub();
        hub.apply(&fleet::providers()?)?;
        fleet::join(&self.testbed, &[])?;
        hub.apply(&fleet::clusters()?)?;
        let arguments = [
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "member",
            "--all",
        ];
        hub.kubectl(&arguments).map(drop)
    }

    /// Undoes what a scenario left: policies, applications, broken links, dead and hung parts.
    pub fn tidy(&self) -> Result<()> {
        self.testbed.rejoin_operator()?;
        self.testbed.hub().restore_link()?;
        self.testbed.hub().resume_component(API_SERVER)?;
        self.testbed.hub().restart_api_server()?;
        self.testbed.uninstall_operator()?;
        for standby in [Replica::Second, Replica::Third] {
            self.testbed.end_replica(standby, Signal::SIGKILL)?;
        }
        self.one_operator()?;
        for member in self.testbed.members() {
            self.mend(member)?;
            let node = format!("{}-1", member.name());
            until("the member answers", || {
                Ok(member
                    .kubectl(&["uncordon", &node])
                    .err()
                    .map(|error| format!("{error:#}")))
            })?;
        }
        self.declare_fleet()?;
        let hub = self.testbed.hub();
        for kinds in ["evacuations,freezes,sovpol", "gapp", "migrations"] {
            let arguments = [
                "delete",
                kinds,
                "--all",
                "--all-namespaces",
                "--timeout=90s",
            ];
            hub.kubectl(&arguments)?;
        }
        for member in self.testbed.members() {
            self.trusted(member.name())?;
        }
        Ok(())
    }

    /// Lets the operator run, as a process.
    fn one_operator(&self) -> Result<()> {
        if self.testbed.operator().is_none()
            && let Err(error) = self.testbed.start_operator()
        {
            // It is about to be started again by its supervisor.
            until("the operator runs", || {
                let runs = self.testbed.operator().is_some();
                Ok((!runs).then(|| format!("{error:#}")))
            })?;
        }
        match self.testbed.operator() {
            Some(operator) => operator.signal(Signal::SIGCONT),
            None => Ok(()),
        }
    }

    /// Brings back what is dead, hung or cut off of a member.
    fn mend(&self, member: &Cluster) -> Result<()> {
        member.restore_link()?;
        if !member.runs() {
            return member.restart(&self.images);
        }
        member.resume()?;
        member.resume_component(API_SERVER)?;
        member.restart_api_server()?;
        if recorded::running(member.folder(), "kubelet").is_none() {
            member.restart_node(&self.images)?;
        }
        Ok(())
    }

    /// Brings a killed member back, with what it had.
    pub fn bring_back(&self, member: &str) -> Result<()> {
        self.member(member).restart(&self.images)
    }

    /// Brings a killed node back.
    pub fn bring_node_back(&self, member: &str) -> Result<()> {
        self.member(member).restart_node(&self.images)
    }

    /// Waits until Flambeau thinks that of a member.
    pub fn thinks(&self, member: &str, word: &str) -> Result<()> {
        until(&format!("{member} is {word}"), || {
            let health = health(&self.hub, member)?;
            Ok((health != word).then_some(health))
        })
    }

    /// Waits until things may be moved to a member.
    pub fn trusted(&self, member: &str) -> Result<()> {
        self.thinks(member, "Healthy")
    }

    /// Where to look when something failed, and what the operator complained of last: who reads this may not have the logs.
    pub fn hints(&self) -> String {
        const SHOWN: usize = 12;
        let log = fs::read_to_string(self.testbed.operator_log()).unwrap_or_default();
        let complaints = log
            .lines()
            .rev()
            .filter(|line| line.contains(" WARN ") || line.contains("ERROR "))
            .take(SHOWN);
        let mut complaints: Vec<&str> = complaints.collect();
        complaints.reverse();
        format!(
            "logs: {}; the operator's last complaints:\n{}",
            self.testbed.folder().display(),
            complaints.join("\n")
        )
    }

    /// A member.
    pub fn member(&self, name: &str) -> &Cluster {
        self.testbed
            .cluster(name)
            .expect("a cluster of the testbed")
    }

    /// Opens a namespace for a scenario.
    pub fn stage(&self, namespace: &str) -> Result<Stage<'_>> {
        self.testbed.hub().apply(&fleet::namespace(namespace)?)?;
        Ok(Stage {
            world: self,
            namespace: namespace.to_owned(),
        })
    }

    /// Applies a policy that governs a sensitivity, with its rule.
    pub fn sign(&self, name: &str, sensitivity: &str, rule: &Value) -> Result<()> {
        let mut policy = json!({
            "apiVersion": "flambeau.dev/v1alpha1",
            "kind": "SovereigntyPolicy",
            "metadata": { "name": name },
            "spec": { "sensitivities": [sensitivity], "enforcement": "Enforce" },
        });
        for (key, value) in rule.as_object().context("a rule is an object")? {
            policy["spec"][key] = value.clone();
        }
        self.testbed.hub().apply(&policy.to_string())
    }

    /// Signs the policy [`EUROPEAN`]: personal data leaves `alibaba`.
    pub fn sign_european(&self) -> Result<()> {
        let rule = json!({ "jurisdiction": { "allowed": ["EU"] } });
        self.sign(EUROPEAN, "Personal", &rule)
    }

    /// Takes a policy back.
    pub fn withdraw(&self, name: &str) -> Result<()> {
        self.testbed
            .hub()
            .kubectl(&["delete", "sovpol", name])
            .map(drop)
    }
}
