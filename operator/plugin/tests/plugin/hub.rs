//! A hub with a small fleet, and the plugin.

use anyhow::{Context, Result, bail, ensure};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    wait::{self, Probe},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// When everything in the fleet was last seen to be as it is.
pub const THEN: &str = "2020-02-02T10:00:00Z";

/// The hub of all tests, started by the first that needs it, and for one of
/// them at a time.
#[derive(Default)]
pub struct SharedHub {
    hub: OnceLock<Result<Hub, String>>,
    turn: Mutex<()>,
}

impl SharedHub {
    /// Gives a test the hub with nothing in it but the usual fleet.
    pub fn lend(&self, test: fn(&Hub) -> Result<()>) -> Result<(), String> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |error: anyhow::Error| format!("{error:#}");
        let hub = self.hub.get_or_init(|| Hub::start().map_err(told));
        let hub = hub.as_ref().map_err(Clone::clone)?;
        hub.reset().map_err(told)?;
        test(hub).map_err(told)
    }
}

/// A control plane with the kinds of Flambeau.
pub struct Hub {
    plane: ControlPlane,
    folder: TempDir,
    written: AtomicUsize,
}

/// How a run of the plugin ended.
#[derive(Debug)]
pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Hub {
    fn start() -> Result<Self> {
        let hub = Self {
            plane: ControlPlane::start_temporary(&Options::default())?,
            folder: TempDir::with_prefix("flambeau-plugin-")?,
            written: AtomicUsize::new(0),
        };
        let definitions = flambeau_crds::all_crds();
        let definitions: Vec<Value> = definitions
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?;
        hub.apply(&definitions)?;
        hub.kubectl(&[
            "wait",
            "crd",
            "--all",
            "--for=condition=Established",
            "--timeout=60s",
        ])?;
        hub.kubectl(&["create", "namespace", "games"])?;
        Ok(hub)
    }

    /// Three clusters that are well, each of a provider of its own, and two
    /// applications that serve.
    fn reset(&self) -> Result<()> {
        self.kubectl(&[
            "delete",
            "gapp,migrations,member,cprov,sovpol,evacuations,freezes",
            "--all",
            "--all-namespaces",
        ])?;
        let clusters = ["alibaba", "atos", "ovh"];
        let mut objects: Vec<Value> = clusters.iter().map(|name| provider(name)).collect();
        objects.extend(clusters.iter().map(|name| cluster(name)));
        objects.extend(["badges", "results"].iter().map(|name| application(name)));
        self.apply(&objects)?;
        let mut statuses: Vec<Value> = clusters.iter().map(|name| healthy(name)).collect();
        statuses.extend(
            ["badges", "results"]
                .iter()
                .map(|name| serving(name, "alibaba")),
        );
        self.report(&statuses)
    }

    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(arguments)
    }

    /// The object as it is stored.
    pub fn get(&self, what: &str) -> Result<Value> {
        let text = self.kubectl(&["get", "-n", "games", what, "-o", "json"])?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Every Migration.
    pub fn migrations(&self) -> Result<Vec<Value>> {
        let list = self.get("migrations")?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        let file = self.file(objects)?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &file])?;
        Ok(())
    }

    /// Writes status as the operator would.
    pub fn report(&self, objects: &[Value]) -> Result<()> {
        let file = self.file(objects)?;
        self.kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--subresource=status",
            "--field-manager=flambeau",
            "--validate=false",
            "-f",
            &file,
        ])?;
        Ok(())
    }

    /// A file with these objects.
    pub fn file(&self, objects: &[Value]) -> Result<String> {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{number}.json"));
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        fs::write(&path, list.to_string())?;
        Ok(path.display().to_string())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-flambeau"));
        command
            .args(line.split_whitespace().map(|word| word.replace('_', " ")))
            .args(["--namespace", "games"])
            .arg("--kubeconfig")
            .arg(self.plane.kubeconfig())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null());
        command
    }

    /// Runs the plugin in namespace `games`; an underscore in a word is a blank.
    pub fn run(&self, line: &str) -> Result<Answer> {
        let output = self.command(line).output()?;
        Ok(Answer {
            code: output.status.code().context("ended by a signal")?,
            out: String::from_utf8(output.stdout)?,
            err: String::from_utf8(output.stderr)?,
        })
    }

    /// Runs the plugin, which has to end with this code.
    pub fn expect(&self, code: i32, line: &str) -> Result<Answer> {
        let answer = self.run(line)?;
        ensure!(
            answer.code == code,
            "kubectl flambeau {line}: expected exit code {code}, got {answer:#?}"
        );
        Ok(answer)
    }

    /// Starts the plugin, to read what it says meanwhile.
    pub fn begin(&self, line: &str) -> Result<Running> {
        let mut child = self
            .command(line)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Running {
            child,
            lines,
            said: Vec::new(),
        })
    }

    /// Waits for a Migration to be made, and says its name.
    pub fn made(&self) -> Result<String> {
        wait::until("a Migration", PATIENCE, || {
            let made = self.migrations()?;
            Ok(match made.first() {
                Some(made) => Probe::Done(name(made)),
                None => Probe::Pending("none yet".to_owned()),
            })
        })
    }

    /// The kubeconfig of the administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.plane.kubeconfig().to_owned()
    }
}

/// The plugin while it runs.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Running {
    /// Waits for a line that holds this text.
    pub fn says(&mut self, text: &str) -> Result<String> {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return Ok(line);
                    }
                }
                Err(_) => bail!("does not say `{text}`, but:\n{}", self.said.join("\n")),
            }
        }
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn interrupt(&self) -> Result<()> {
        let id = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-INT", &id]).status()?.success());
        Ok(())
    }

    /// Waits until it ended.
    pub fn ends(self) -> Result<Answer> {
        let output = self.child.wait_with_output()?;
        Ok(Answer {
            code: output.status.code().context("ended by a signal")?,
            out: self
                .said
                .into_iter()
                .chain(self.lines)
                .collect::<Vec<_>>()
                .join("\n"),
            err: String::from_utf8(output.stderr)?,
        })
    }
}

/// The name of an object.
pub fn name(object: &Value) -> String {
    object["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn object(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": kind, "metadata": {"name": name},
    });
    for (field, value) in rest.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

/// An object of a namespaced kind.
pub fn namespaced(kind: &str, name: &str, rest: Value) -> Value {
    let mut object = object(kind, name, rest);
    object["metadata"]["namespace"] = json!("games");
    object
}

fn provider(name: &str) -> Value {
    object(
        "CloudProvider",
        name,
        json!({"spec": {
            "legalEntity": name, "registeredOffice": "FR", "headquarters": "FR",
            "ownership": {"chain": "Complete"},
        }}),
    )
}

/// A cluster of the provider of the same name.
pub fn cluster(name: &str) -> Value {
    object(
        "MemberCluster",
        name,
        json!({"spec": {
            "provider": name, "residency": "FR",
            "kubeconfigSecret": {"namespace": "flambeau-system", "name": name},
        }}),
    )
}

fn healthy(name: &str) -> Value {
    object(
        "MemberCluster",
        name,
        json!({"status": {
            "health": "Healthy", "applications": 0, "nodes": 2, "nodesReady": 2,
            "conditions": [condition("Ready", "True", "ClusterReachable", "")],
        }}),
    )
}

/// A cluster that is lost since long ago.
pub fn lost(name: &str) -> Value {
    object(
        "MemberCluster",
        name,
        json!({"status": {
            "health": "Lost", "applications": 0, "unreachableSince": THEN,
            "conditions": [condition("Ready", "False", "ClusterLost", "no answer comes")],
        }}),
    )
}

/// An application whose one Deployment requests one processor.
pub fn application(name: &str) -> Value {
    namespaced(
        "GamesApplication",
        name,
        json!({"spec": {
            "sensitivity": "Personal", "criticality": "Important",
            "objectives": {"recoveryTimeSeconds": 15},
            "resources": [{
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                "spec": {
                    "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {"containers": [{
                            "name": "main", "image": "none",
                            "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                        }]},
                    },
                },
            }],
        }}),
    )
}

/// A condition since long ago.
pub fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": THEN,
    })
}

/// An application that serves where the law allows.
pub fn serving(name: &str, cluster: &str) -> Value {
    namespaced(
        "GamesApplication",
        name,
        json!({"status": {
            "epoch": 1, "migrations": 0, "cluster": cluster,
            "placements": [{"cluster": cluster, "role": "Active", "epoch": 1, "since": THEN_MICRO}],
            "conditions": [
                condition("Ready", "True", "Serving", &format!("every workload on {cluster} is ready")),
                condition("Lawful", "True", "NotGoverned", ""),
                condition("Stalled", "False", "Settled", ""),
            ],
        }}),
    )
}

/// [`THEN`] with microseconds.
pub const THEN_MICRO: &str = "2020-02-02T10:00:00.000000Z";

/// A policy that refuses a provider.
pub fn refusing(provider: &str) -> Value {
    object(
        "SovereigntyPolicy",
        "no-way",
        json!({"spec": {
            "sensitivities": ["Personal"], "refusedProviders": [provider],
        }}),
    )
}

/// A window that is open.
pub fn freeze() -> Value {
    object(
        "Freeze",
        "ceremony",
        json!({"spec": {
            "from": "2020-01-01T00:00:00Z", "until": "2099-01-01T00:00:00Z", "reason": "opening ceremony",
        }}),
    )
}

/// How far a Migration is.
pub fn progress(name: &str, status: Value) -> Value {
    namespaced("Migration", name, json!({ "status": status }))
}

/// A step that is over, or under way.
pub fn step(name: &str, over: bool) -> Value {
    let mut step = json!({"name": name, "startTime": THEN_MICRO});
    if over {
        step["endTime"] = json!("2020-02-02T10:00:02.500000Z");
    }
    step
}
