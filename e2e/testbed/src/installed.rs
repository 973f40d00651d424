//! The operator as people install it: by the chart, with Helm, as pods on the hub's node.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::api::ApiClient;
use crate::cgroup::{Hierarchies, ROOT};
use crate::helm::{self, Helm, NAMESPACE, RELEASE};
use crate::images;
use crate::process::Component;
use crate::process::recorded::{self, Mounts, Placement, ProcessId};
use crate::state::{Entry, Journal};
use crate::testbed::Testbed;
use crate::wait::{self, Probe};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/flambeau-system/deployments/flambeau";
const PODS: &str = "/api/v1/namespaces/flambeau-system/pods?labelSelector=app.kubernetes.io%2Fcomponent%3Doperator";
const LEASE: &str =
    "/apis/coordination.k8s.io/v1/namespaces/flambeau-system/leases/flambeau-operator";
/// Helm keeps each revision of a release in a Secret.
const REVISIONS: &str =
    "/api/v1/namespaces/flambeau-system/secrets?labelSelector=owner%3Dhelm%2Cname%3Dflambeau";
const ROLLED_OUT_WITHIN: Duration = Duration::from_secs(120);

/// Follows the log of every pod of the operator, each line with the name of its pod, and appends it to the file `$1`. A log
/// that the kubelet removes is read to its end.
const FOLLOW: &str = r#"exec >>"$1"; seen=' '
while :; do
  for log in "$2"/*/operator/*.log; do
    case $seen in *" $log "*) continue ;; esac
    [ -e "$log" ] || continue
    seen="$seen$log "
    pod=${log%_*}; pod=${pod##*_}
    tail --lines=+1 --follow=descriptor "$log" 2>/dev/null | sed --unbuffered "s/^[^ ]* [^ ]* [FP] /$pod  /" &
  done
  sleep 0.3
done"#;
const FOLLOWER: &str = "operator-log";

/// A pod of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorPod {
    /// Its name.
    pub name: String,
    /// Where it serves health and metrics, as soon as it has an address.
    pub url: Option<String>,
    /// Whether it is ready, and nobody has deleted it.
    pub ready: bool,
    /// The container that runs, or ran last.
    container: Option<String>,
}

impl OperatorPod {
    fn of(pod: &Value) -> Self {
        let text = |path: &str| pod.pointer(path)?.as_str().map(str::to_owned);
        let conditions = pod
            .pointer("/status/conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten();
        let ready =
            |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        Self {
            name: text("/metadata/name").unwrap_or_default(),
            url: text("/status/podIP").map(|address| format!("http://{address}:8080")),
            ready: pod.pointer("/metadata/deletionTimestamp").is_none()
                && conditions.into_iter().any(ready),
            container: text("/status/containerStatuses/0/containerID")
                .and_then(|id| id.strip_prefix("containerd://").map(str::to_owned)),
        }
    }
}

impl Testbed {
    /// Installs the chart of this repository, or upgrades to it, and waits until its pods are ready and one of them leads.
    ///
    /// # Errors
    /// As [`Testbed::install_chart`], or when the pods do not get ready in time.
    pub fn install_operator(&self) -> Result<()> {
        self.install_chart(&helm::chart(), &[])?;
        self.await_rollout()
    }

    /// Gives the hub's node the image that is built now, and installs a chart or upgrades to it, with more arguments of
    /// `helm upgrade`. Waits for nothing.
    ///
    /// # Errors
    /// When a program is not built, or Helm fails.
    pub fn install_chart(&self, chart: &Path, arguments: &[&str]) -> Result<()> {
        let node = self.hub().node();
        let image = images::operator()?;
        if !node.has(&image)? {
            node.import(&image)?;
        }
        self.follow_logs(&node.pod_logs())?;
        let chart = chart.display().to_string();
        let tag = format!("--set-string=image.tag={}", image.tag());
        let statistics = format!("--set=gateway.statsUrl={}", self.edge_stats_url());
        let command = [
            "upgrade",
            "--install",
            RELEASE,
            &chart,
            "--namespace",
            NAMESPACE,
            // Kinds that were applied without Helm become the chart's.
            "--take-ownership",
            "--force-conflicts",
            &tag,
            &statistics,
            // The log is for people here.
            "--set=log.json=false",
        ];
        self.helm(&[&command[..], arguments].concat()).map(drop)
    }

    /// Runs Helm against the hub and returns what it printed.
    ///
    /// # Errors
    /// When Helm is not built, or fails; the message is Helm's.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        Helm::of(&self.hub().kubeconfig())?.run(arguments)
    }

    /// Uninstalls the release, if there is one, and waits until its pods are gone. Flambeau's kinds and objects stay.
    ///
    /// # Errors
    /// When Helm fails, or a pod does not go.
    pub fn uninstall_operator(&self) -> Result<()> {
        let revisions = read(&self.hub().client()?, REVISIONS)?;
        if revisions["items"].as_array().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        Helm::of(&self.hub().kubeconfig())?.uninstall()?;
        wait::until("no pod of the operator", ROLLED_OUT_WITHIN, || {
            let left = self.operator_pods()?;
            Ok(match left.first() {
                None => Probe::Done(()),
                Some(pod) => Probe::Pending(format!("{} is there", pod.name)),
            })
        })
    }

    /// The pods of the operator, those that are about to go included.
    ///
    /// # Errors
    /// When the hub does not answer.
    pub fn operator_pods(&self) -> Result<Vec<OperatorPod>> {
        let list = read(&self.hub().client()?, PODS)?;
        let items = list["items"].as_array().into_iter().flatten();
        Ok(items.map(OperatorPod::of).collect())
    }

    /// Who holds the Lease: the name of a pod, and a random number that a process has for itself. None while nobody does,
    /// and before there was an operator.
    ///
    /// # Errors
    /// When the credentials of the hub cannot be read.
    pub fn lease_holder(&self) -> Result<Option<String>> {
        let lease = read(&self.hub().client()?, LEASE).unwrap_or_default();
        let holder = lease.pointer("/spec/holderIdentity");
        let holder = holder.and_then(Value::as_str).unwrap_or_default();
        Ok((!holder.is_empty()).then(|| holder.to_owned()))
    }

    /// The pod of the operator that holds the Lease; none while nobody does.
    ///
    /// # Errors
    /// As [`Testbed::lease_holder`].
    pub fn leader(&self) -> Result<Option<String>> {
        let holder = self.lease_holder()?.unwrap_or_default();
        Ok(holder.rsplit_once('-').map(|(pod, _)| pod.to_owned()))
    }

    /// The process of a pod of the operator.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process_in(&self, pod: &OperatorPod) -> Result<ProcessId> {
        let container = pod.container.as_deref();
        let container = container.with_context(|| format!("{} does not run", pod.name))?;
        self.hub().node().process_of(container)
    }

    /// Waits until every pod of the release is of its newest revision and ready, and one of them leads.
    ///
    /// # Errors
    /// When the time is over.
    pub fn await_rollout(&self) -> Result<()> {
        let client = self.hub().client()?;
        wait::until("the operator's pods ready", ROLLED_OUT_WITHIN, || {
            Ok(match read(&client, DEPLOYMENT) {
                Ok(deployment) => rolled_out(&deployment),
                Err(error) => Probe::Pending(format!("{error:#}")),
            })
        })
        .with_context(|| self.what_pods_say())?;
        wait::until("a leader", ROLLED_OUT_WITHIN, || {
            let (leader, pods) = (self.leader()?, self.operator_pods()?);
            let leads = |pod: &OperatorPod| Some(&pod.name) == leader.as_ref();
            Ok(if pods.iter().any(|pod| pod.ready && leads(pod)) {
                Probe::Done(())
            } else {
                Probe::Pending(format!("{leader:?} holds the Lease, of {pods:?}"))
            })
        })
        .with_context(|| self.what_pods_say())
    }

    fn what_pods_say(&self) -> String {
        crate::process::last_lines(&self.operator_log())
    }

    /// Lets the logs of all pods of the operator, now and later, come together in [`Testbed::operator_log`].
    fn follow_logs(&self, pods: &Path) -> Result<()> {
        if recorded::running(self.folder(), FOLLOWER).is_some() {
            return Ok(());
        }
        let follower = Component::new(FOLLOWER, Path::new("/bin/sh"))
            .argument("-c")
            .argument(FOLLOW)
            .argument("sh")
            .argument(self.operator_log().display().to_string())
            .argument(pods.display().to_string());
        let group = Hierarchies::mounted()?.group(&format!("{ROOT}/{FOLLOWER}"))?;
        group.create()?;
        let placement = Placement {
            group,
            network: None,
            mounts: Mounts::Shared,
        };
        let id = recorded::start(&follower, &placement, self.folder())?;
        Journal::of_this_machine().add(&Entry::Process {
            name: FOLLOWER.to_owned(),
            id,
        })
    }

    /// Kills the process of a pod of the operator with SIGKILL, as the kernel would when memory is short. The kubelet starts
    /// another in the same pod.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_in(&self, pod: &OperatorPod) -> Result<()> {
        self.process_in(pod)?.signal(Signal::SIGKILL)
    }
}

fn read(client: &ApiClient, path: &str) -> Result<Value> {
    serde_json::from_str(&client.get(path)?).with_context(|| format!("the hub's answer to {path}"))
}

/// Whether a Deployment has nothing but ready pods of its newest revision.
fn rolled_out(deployment: &Value) -> Probe<()> {
    let number = |path: &str| {
        deployment
            .pointer(path)
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let wanted = number("/spec/replicas");
    let observed = number("/status/observedGeneration") >= number("/metadata/generation");
    let counts = ["replicas", "updatedReplicas", "readyReplicas"];
    let seen = counts.map(|count| number(&format!("/status/{count}")));
    if observed && seen.iter().all(|count| *count == wanted) {
        return Probe::Done(());
    }
    let [replicas, updated, ready] = seen;
    Probe::Pending(format!(
        "of {wanted} pods, {updated} are new and {ready} ready, {replicas} in all"
    ))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_rollout_ends_when_the_last_old_pod_is_gone() {
        let status = |generation, replicas, updated, ready| {
            let deployment = json!({
                "metadata": { "generation": 2 }, "spec": { "replicas": 2 },
                "status": {
                    "observedGeneration": generation, "replicas": replicas, "updatedReplicas": updated,
                    "readyReplicas": ready,
                },
            });
            matches!(rolled_out(&deployment), Probe::Done(()))
        };
        assert!(status(2, 2, 2, 2));
        assert!(!status(1, 2, 2, 2), "the old revision was ready");
        assert!(!status(2, 3, 2, 2), "an old one is left");
        assert!(!status(2, 2, 2, 1));
    }

    #[test]
    fn logs_of_all_pods_come_together_in_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let (pods, log) = (
            folder.path().join("pods of a node"),
            folder.path().join("log"),
        );
        let write = |pod: &str, container: &str, line: &str| {
            let folder = pods.join(pod).join(container);
            fs::create_dir_all(&folder).unwrap();
            fs::write(
                folder.join("0.log"),
                format!("2026-07-01T20:00:00.1+02:00 stderr F {line}\n"),
            )
            .unwrap();
        };
        write("flambeau-system_flambeau-a-b_0000-11", "operator", "one");
        write(
            "flambeau-system_flambeau-check_0000-33",
            "check",
            "somebody else's",
        );
        let mut follower = Command::new("setsid")
            .args(["sh", "-c", FOLLOW, "sh"])
            .args([&log, &pods])
            .spawn()
            .unwrap();
        let has = |wanted: &str| {
            wait::until("the lines", Duration::from_secs(10), || {
                let text = fs::read_to_string(&log).unwrap_or_default();
                Ok(if text == wanted {
                    Probe::Done(())
                } else {
                    Probe::Pending(text)
                })
            })
        };
        let first = has("flambeau-a-b  one\n");
        write("flambeau-system_flambeau-a-c_0000-22", "operator", "two");
        let both = has("flambeau-a-b  one\nflambeau-a-c  two\n");
        let group = nix::unistd::Pid::from_raw(i32::try_from(follower.id()).unwrap());
        nix::sys::signal::killpg(group, Signal::SIGKILL).unwrap();
        follower.wait().unwrap();
        first.unwrap();
        both.unwrap();
    }
}
