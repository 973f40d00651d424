//! The whole testbed on this machine: crash half-way, recovery, a cluster lost and brought back, and an end that
//! leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flambeau_testbed::cgroup::{Hierarchies, ROOT};
use flambeau_testbed::cluster::{API_SERVER, Cluster};
use flambeau_testbed::images;
use flambeau_testbed::operator::Operator;
use flambeau_testbed::partition::Direction;
use flambeau_testbed::progress::Progress;
use flambeau_testbed::state::{Entry, Journal, Standing};
use flambeau_testbed::testbed::{Options, Testbed};
use flambeau_testbed::wait::{self, Probe};

const PATIENCE: Duration = Duration::from_secs(120);

const PODS: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: website }
spec:
  replicas: 2
  selector: { matchLabels: { app: website } }
  template:
    metadata: { labels: { app: website } }
    spec:
      containers:
        - name: games
          image: games.flambeau.dev/games:dev
          env:
            - { name: APPLICATION, value: website }
            - { name: NODE_NAME, valueFrom: { fieldRef: { fieldPath: spec.nodeName } } }
            - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
          readinessProbe: { httpGet: { path: /readyz, port: 8080 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: website }
spec:
  type: NodePort
  selector: { app: website }
  ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }]
"#;

#[test]
#[ignore = "takes the machine's one testbed away from whoever uses it; `make test-testbed` runs it"]
fn survives_crashes_and_leaves_nothing() {
    Testbed::down(Progress::quiet()).unwrap();
    let before = Traces::of_this_machine().unwrap();

    let mut interrupted = testbed(&["up", "--without-operator"]).unwrap();
    await_processes_started(9).unwrap();
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    assert_eq!(
        Journal::of_this_machine().standing().unwrap().0,
        Standing::Unclean
    );
    assert!(
        Testbed::attach().is_err(),
        "half a testbed is not taken for a whole one"
    );

    let started = std::time::Instant::now();
    let whole = Testbed::up(Options::default(), Progress::start()).unwrap();
    eprintln!("up after a crash: {:.1} s", started.elapsed().as_secs_f64());
    kill_and_restart_operator(&whole).unwrap();
    lose_and_regain(whole.cluster("atos").unwrap()).unwrap();
    pods_of_the_others_are_untouched(whole.cluster("ovh").unwrap()).unwrap();

    let mut interrupted = testbed(&["down"]).unwrap();
    let hub = Hierarchies::mounted()
        .unwrap()
        .group(&format!("{ROOT}/hub"))
        .unwrap();
    let gone = || {
        Ok(if hub.populated().unwrap_or(false) {
            pending()
        } else {
            Probe::Done(())
        })
    };
    wait::until("the hub's processes dead", PATIENCE, gone).unwrap();
    interrupted.kill().unwrap();
    interrupted.wait().unwrap();
    Testbed::down(Progress::quiet()).unwrap();
    assert_eq!(Traces::of_this_machine().unwrap(), before);
}

fn kill_and_restart_operator(whole: &Testbed) -> Result<()> {
    let pods = whole.operator_pods()?;
    ensure!(
        pods.len() == 2 && pods.iter().all(|pod| pod.ready),
        "two replicas are ready: {pods:?}"
    );
    let log = fs::read_to_string(whole.operator_log())?;
    ensure!(
        pods.iter().all(|pod| log.contains(&pod.name)),
        "every pod's log is in one file: {log}"
    );
    whole.renew_operator(Operator::Process, Progress::start())?;
    ensure!(
        whole.operator_pods()?.is_empty(),
        "one way of running it takes the place of the other"
    );
    let first = whole.operator().context("the operator runs")?;
    whole.kill_operator()?;
    ensure!(
        whole.operator().is_none() && !first.alive(),
        "the operator is dead"
    );
    let second = whole.start_operator()?;
    ensure!(
        second != first && whole.operator() == Some(second),
        "another process is the operator now"
    );
    whole.stop_operator()
}

fn lose_and_regain(cluster: &Cluster) -> Result<()> {
    cluster.apply(PODS)?;
    cluster.kubectl(&["rollout", "status", "deployment/website", "--timeout=120s"])?;

    cluster.cut_link()?;
    ensure!(cluster.client()?.get("/readyz").is_err(), "a cut link cuts");
    cluster.restore_link()?;
    let client = cluster.client()?;
    wait::until("the NodePort answers", PATIENCE, || {
        Ok(if pod_answers(cluster)? {
            Probe::Done(())
        } else {
            pending()
        })
    })?;
    wait::until("the API is back after the cut", PATIENCE, || {
        Ok(client.ready())
    })?;

    for direction in [Direction::Inbound, Direction::Outbound] {
        cluster.cut(direction)?;
        let heard = cluster.client()?.get("/readyz");
        ensure!(heard.is_err(), "a link cut {direction:?} answers nothing");
        cluster.restore_link()?;
        wait::until("the API is back after the cut", PATIENCE, || {
            Ok(client.ready())
        })?;
    }

    cluster.pause()?;
    ensure!(
        cluster.client()?.get("/readyz").is_err(),
        "a paused cluster does not answer"
    );
    cluster.resume()?;
    wait::until("the API is back after the pause", PATIENCE, || {
        Ok(client.ready())
    })?;

    lose_a_part(cluster)?;
    cluster.kill()?;
    ensure!(
        !cluster.runs(),
        "nothing of a killed cluster runs, its containers included"
    );
    cluster.restart(&images::for_nodes()?)?;
    // The object came back from etcd, the pods from the node.
    wait::until("the pods serve again", PATIENCE, || {
        let ready = cluster.kubectl(&[
            "get",
            "deployment/website",
            "-o",
            "jsonpath={.status.readyReplicas}",
        ])?;
        let restarts = "jsonpath={.items[*].status.containerStatuses[*].restartCount}";
        let restarts = cluster.kubectl(&["get", "pods", "-l", "app=website", "-o", restarts])?;
        let restarted = restarts
            .split_whitespace()
            .filter(|count| *count != "0")
            .count();
        Ok(if ready == "2" && restarted == 2 {
            Probe::Done(())
        } else {
            pending()
        })
    })
}

/// API server or node alone, and both come back.
fn lose_a_part(cluster: &Cluster) -> Result<()> {
    let client = cluster.client()?;
    cluster.hang_component(API_SERVER)?;
    ensure!(client.get("/readyz").is_err(), "a hung API server is mute");
    ensure!(pod_answers(cluster)?, "its pods do not mind");
    cluster.resume_component(API_SERVER)?;
    wait::until("the API is back after it hung", PATIENCE, || {
        Ok(client.ready())
    })?;
    cluster.kill_component(API_SERVER)?;
    ensure!(pod_answers(cluster)?, "its pods do not mind");
    cluster.restart_api_server()?;

    cluster.kill_node()?;
    ensure!(
        client.get("/readyz").is_ok(),
        "the API server does not mind"
    );
    ensure!(!pod_answers(cluster)?, "no pod is left");
    cluster.restart_node(&images::for_nodes()?)?;
    wait::until("the pods serve again", PATIENCE, || {
        Ok(if pod_answers(cluster)? {
            Probe::Done(())
        } else {
            pending()
        })
    })
}

/// Whether the pods' NodePort answers, asked from where clients are.
fn pod_answers(cluster: &Cluster) -> Result<bool> {
    let url = format!("http://{}:30080/", cluster.address());
    let asked = Command::new("curl")
        .args(["--silent", "--fail", "--max-time", "4", &url])
        .stdout(Stdio::null())
        .status()?;
    Ok(asked.success())
}

fn pods_of_the_others_are_untouched(cluster: &Cluster) -> Result<()> {
    cluster.node().await_ready()
}

fn pending() -> Probe<()> {
    Probe::Pending("not yet".to_owned())
}

fn testbed(arguments: &[&str]) -> Result<Child> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_testbed"));
    Ok(command
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?)
}

fn await_processes_started(count: usize) -> Result<()> {
    wait::until("the middle of `up`", PATIENCE, || {
        let entries = Journal::of_this_machine().entries()?;
        let started = entries
            .iter()
            .filter(|entry| matches!(entry, Entry::Process { .. }))
            .count();
        Ok(if started >= count {
            Probe::Done(())
        } else {
            pending()
        })
    })
}

/// What a testbed could leave on a machine.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    links: BTreeSet<String>,
    mounts: BTreeSet<String>,
    groups: BTreeSet<String>,
    processes: BTreeSet<String>,
}

impl Traces {
    fn of_this_machine() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let points = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(str::to_owned);
        let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup"));
        let hierarchies = hierarchies.filter_map(|line| line.split(' ').nth(4));
        Ok(Self {
            links: names(Path::new("/sys/class/net"))?,
            mounts: points.collect(),
            groups: hierarchies
                .flat_map(|point| names(Path::new(point)).unwrap_or_default())
                .collect(),
            processes: testbed_processes()?,
        })
    }
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(folder)?.filter_map(Result::ok);
    Ok(entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}

/// Processes that run in a folder of the testbed, mention one, or run an image's program.
fn testbed_processes() -> Result<BTreeSet<String>> {
    let folder = flambeau_testbed::paths::testbed().display().to_string();
    let marks = [
        folder.as_str(),
        "containerd-shim",
        "/games\0",
        "/flambeau-operator\0",
    ];
    let ids = names(Path::new("/proc"))?
        .into_iter()
        .filter(|name| name.parse::<u32>().is_ok());
    let lines = ids.filter_map(|id| fs::read(format!("/proc/{id}/cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    Ok(lines
        .filter(|line| marks.iter().any(|mark| line.contains(mark)))
        .collect())
}
