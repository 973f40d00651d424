//! A hub, two members and the operator as a process of its own.

use crate::{active, clock::Clock, link::Link};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    wait::{self, Probe},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::File,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(90);

/// API servers, without controllers: what is in them, Flambeau or a test
/// wrote.
pub struct Fleet {
    pub hub: ControlPlane,
    pub members: BTreeMap<&'static str, ControlPlane>,
    links: BTreeMap<&'static str, Link>,
    folder: TempDir,
    operator: Option<Child>,
    arguments: Vec<String>,
    pub port: u16,
    level: &'static str,
    clock: Option<Clock>,
}

impl Fleet {
    /// Members `one` of provider `east` and `two` of provider `west`, both in
    /// France; the operator runs.
    pub fn start() -> Self {
        Self::start_as(&[], "info", None)
    }

    /// The same, and the operator is told more.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_as(arguments, "info", None)
    }

    /// The same, with an operator that logs at this level.
    pub fn start_saying(level: &'static str) -> Self {
        Self::start_as(&[], level, None)
    }

    /// The same, with an operator whose time of day can be set.
    pub fn start_by(clock: Clock) -> Self {
        Self::start_as(&[], "info", Some(clock))
    }

    fn start_as(arguments: &[&str], level: &'static str, clock: Option<Clock>) -> Self {
        let start = || ControlPlane::start_temporary(&Options::default()).unwrap();
        let [hub, one, two] = thread::scope(|scope| {
            let starting = [(); 3].map(|()| scope.spawn(start));
            starting.map(|plane| plane.join().unwrap())
        });
        let members = BTreeMap::from([("one", one), ("two", two)]);
        let links = members
            .iter()
            .map(|(name, member)| (*name, Link::to(server(member))))
            .collect();
        let mut fleet = Self {
            hub,
            members,
            links,
            folder: tempfile::tempdir().unwrap(),
            operator: None,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            port: free_port(),
            level,
            clock,
        };
        fleet.define();
        let mut facts = Vec::new();
        for (cluster, provider) in [("one", "east"), ("two", "west")] {
            let member = &fleet.members[cluster];
            let direct = std::fs::read_to_string(member.kubeconfig()).unwrap();
            let link = fleet.links[cluster].address;
            let linked = direct.replace(&server(member).to_string(), &link.to_string());
            assert_ne!(linked, direct);
            facts.extend([
                provider_facts(provider),
                json!({
                    "apiVersion": "v1", "kind": "Secret",
                    "metadata": {"name": format!("member-{cluster}"), "namespace": "default"},
                    "stringData": {"kubeconfig": linked},
                }),
                member_cluster(cluster, provider),
            ]);
        }
        fleet.hub.apply(&facts).unwrap();
        fleet.start_operator();
        fleet.condition("membercluster/one", "Ready", "True");
        fleet.condition("membercluster/two", "Ready", "True");
        fleet
    }

    /// Tells the hub of Flambeau's kinds.
    pub fn define(&self) {
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/generated");
        self.hub(&["apply", "-f", &crds.display().to_string()]);
        self.hub.await_definitions().unwrap();
    }

    /// Cuts the link between the operator and a member.
    pub fn cut(&self, member: &str) {
        self.links[member].cut();
    }

    /// Mends the link to a member.
    pub fn mend(&self, member: &str) {
        self.links[member].mend();
    }

    pub fn start_operator(&mut self) {
        self.launch_operator();
        self.until("the operator is ready", |fleet| {
            fleet.readyz() == Some((200, "ok\n".to_owned()))
        });
    }

    /// Status and text of what the operator says of its readiness.
    pub fn readyz(&self) -> Option<(u16, String)> {
        get_over_http(self.port, "/readyz")
    }

    /// Starts the operator and does not wait.
    pub fn launch_operator(&mut self) {
        let mut command = self.command("only", self.port);
        if let Some(clock) = &self.clock {
            clock.keep(&mut command);
        }
        self.operator = Some(command.spawn().unwrap());
    }

    /// Starts one more operator on the same hub, which has the time of day of
    /// the machine.
    pub fn start_replica(&self) -> Replica {
        let port = free_port();
        let child = self.command("replica", port).spawn().unwrap();
        let replica = Replica { child, port };
        self.until("the replica is ready", |_| {
            get_over_http(port, "/readyz").is_some_and(|(status, _)| status == 200)
        });
        replica
    }

    fn command(&self, identity: &str, port: u16) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("operator.log"))
            .unwrap();
        let kubeconfig = self.hub.kubeconfig().display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_flambeau-operator"));
        command
            .args(["run", "--kubeconfig", &kubeconfig])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--retry-backoff-seconds", "1"])
            .args(["--leader-election-namespace", "default"])
            // A process of the same name takes over at once: the one before is dead.
            .args(["--identity", identity])
            .args(&self.arguments)
            .env("RUST_LOG", self.level)
            .env("RUST_BACKTRACE", "full")
            .stderr(log);
        command
    }

    /// As a crash would.
    pub fn kill_operator(&mut self) {
        if let Some(mut operator) = self.operator.take() {
            operator.kill().unwrap();
            operator.wait().unwrap();
        }
    }

    /// Asks the operator to stop, waits until it has, and returns its exit code.
    pub fn stop_operator(&mut self) -> Option<i32> {
        let mut operator = self.operator.take().unwrap();
        let id = nix::unistd::Pid::from_raw(i32::try_from(operator.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        operator.wait().unwrap().code()
    }

    /// Sets the operator's clock off by so much, such as `+1h`.
    pub fn set_clock(&self, offset: &str) {
        self.clock.as_ref().unwrap().set(offset);
    }

    /// Everything that the operator logged so far.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.folder.path().join("operator.log")).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// What the operator counts.
    pub fn metrics(&self) -> String {
        get_over_http(self.port, "/metrics").map_or_else(String::new, |(_, body)| body)
    }

    /// Waits until a running operator has seen every member and thought about
    /// it.
    pub fn thought(&self) {
        self.until("every member is reachable", |fleet| {
            let text = fleet.metrics();
            ["one", "two"]
                .iter()
                .all(|name| text.contains(&format!("member_reachable{{cluster=\"{name}\"}} 1")))
        });
        self.thought_once_more();
    }

    /// Waits until a running operator has seen a member and thought about it.
    pub fn thought_on(&self, member: &str) {
        let reachable = format!("member_reachable{{cluster=\"{member}\"}} 1");
        self.until(&format!("{member} is reachable"), |fleet| {
            fleet.metrics().contains(&reachable)
        });
        self.thought_once_more();
    }

    /// Waits until a running operator has made one more pass.
    pub fn thought_once_more(&self) {
        let metrics = || self.metrics();
        let passes = |text: &str| -> u64 {
            let line = text
                .lines()
                .find(|line| line.starts_with("flambeau_planning_seconds_count"));
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
                .unwrap_or(0)
        };
        let before = passes(&metrics());
        // Any change of the hub asks for one more pass.
        self.hub(&[
            "annotate",
            "--overwrite",
            "membercluster",
            "two",
            &format!("test/passes={before}"),
        ]);
        self.until("another pass was made", |_| passes(&metrics()) > before);
    }

    pub fn hub(&self, arguments: &[&str]) -> String {
        self.hub.kubectl(arguments).unwrap()
    }

    pub fn member(&self, name: &str, arguments: &[&str]) -> String {
        self.members[name].kubectl(arguments).unwrap()
    }

    pub fn apply(&self, object: &Value) {
        self.hub.apply(std::slice::from_ref(object)).unwrap();
    }

    /// An object of the hub, by its kind and name.
    pub fn get(&self, what: &str) -> Value {
        // Asked again and again, kubectl takes the processors from what is
        // waited for.
        let text = path(what).map_or_else(
            || self.hub(&["get", what, "-o", "json"]),
            |path| self.hub.client().get(&path).unwrap(),
        );
        serde_json::from_str(&text).unwrap()
    }

    pub fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let probe = || {
            Ok(if done(self) {
                Probe::Done(())
            } else {
                Probe::Pending("not yet".to_owned())
            })
        };
        if let Err(error) = wait::until(what, PATIENCE, probe) {
            let log = match self.level {
                "trace" => "too much is logged".to_owned(),
                _ => self.log(),
            };
            let all = self.hub(&["get", "flambeau", "-A", "-o", "yaml"]);
            panic!("{error:#}\n{all}\n{log}");
        }
    }

    /// Waits for a condition, and returns its reason and message.
    pub fn condition(&self, what: &str, type_: &str, status: &str) -> (String, String) {
        self.until(&format!("{type_}={status} of {what}"), |fleet| {
            condition(&fleet.get(what), type_)
                .is_some_and(|condition| condition["status"] == *status)
        });
        let condition = condition(&self.get(what), type_).unwrap();
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    /// Applies an application, and waits until it serves.
    pub fn place(&self, application: &Value) {
        self.apply(application);
        let name = application["metadata"]["name"].as_str().unwrap();
        self.condition(&format!("gapp/{name}"), "Ready", "True");
    }

    /// Waits until an application is recorded as active on a cluster.
    pub fn active_on(&self, application: &str, cluster: &str) {
        self.until(&format!("{application} is active on {cluster}"), |fleet| {
            active(&fleet.get(application)) == Some(cluster)
        });
    }

    /// Names of ConfigMaps of the test on a member.
    pub fn configmaps(&self, member: &str) -> String {
        let path = "/api/v1/namespaces/default/configmaps?labelSelector=flambeau.dev%2Fapplication";
        let list = self.members[member].client().get(path).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        let names = list["items"].as_array().unwrap().iter();
        let names = names.map(|object| object["metadata"]["name"].as_str().unwrap());
        let names: Vec<String> = names.map(|name| format!("configmap/{name}")).collect();
        names.join("\n")
    }

    /// Resource versions of everything that Flambeau could have written.
    pub fn versions(&self) -> String {
        let only = "-o=jsonpath={range .items[*]}{.kind}/{.metadata.name}={.metadata.resourceVersion} {end}";
        let hub = self.hub(&[
            "get",
            "cloudproviders,sovereigntypolicies,gamesapplications,migrations,events",
            "-A",
            only,
        ]);
        let members = ["one", "two"]
            .map(|name| self.member(name, &["get", "configmaps,secrets,namespaces", "-A", only]));
        format!("{hub}\n{}", members.join("\n"))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.kill_operator();
    }
}

/// One more operator, that is killed when dropped.
pub struct Replica {
    child: Child,
    port: u16,
}

impl Replica {
    /// Whether it leads now.
    pub fn leads(&self) -> bool {
        let metrics = get_over_http(self.port, "/metrics");
        metrics.is_some_and(|(_, text)| text.contains("\nflambeau_leader 1\n"))
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn condition(object: &Value, type_: &str) -> Option<Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == *type_)
        .cloned()
}

/// Where the hub has an object of Flambeau's that tests wait for.
fn path(what: &str) -> Option<String> {
    let (kind, name) = what.split_once('/')?;
    let within = match kind {
        "gapp" => "namespaces/default/gamesapplications",
        "migration" => "namespaces/default/migrations",
        "membercluster" => "memberclusters",
        "evacuation" => "evacuations",
        "freeze" => "freezes",
        _ => return None,
    };
    Some(format!("/apis/flambeau.dev/v1alpha1/{within}/{name}"))
}

/// A cluster of the fleet, as the tests begin with it.
pub fn member_cluster(name: &str, provider: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": name},
        "spec": {
            "provider": provider, "residency": "FR", "health": {"unreachableAfterSeconds": 2},
            "kubeconfigSecret": {"namespace": "default", "name": format!("member-{name}")},
        },
    })
}

/// A provider about which everything is known: French through and through.
pub fn provider_facts(name: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "CloudProvider", "metadata": {"name": name},
        "spec": {"legalEntity": name, "registeredOffice": "FR", "headquarters": "FR", "ownership": {"chain": "Complete"}},
    })
}

/// An application of one ConfigMap and one Secret: ready as soon as written.
pub fn application(name: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "GamesApplication",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "sensitivity": "Personal", "criticality": "Critical",
            "placement": {"preferredClusters": ["one"]},
            "migration": {"stages": [100], "stageSeconds": 1, "soakSeconds": 1, "drainSeconds": 1},
            "resources": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}},
                {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"key": "secret"}},
            ],
        },
    })
}

/// A policy that refuses providers by name.
pub fn refuse(name: &str, providers: &[&str]) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "SovereigntyPolicy", "metadata": {"name": name},
        "spec": {"sensitivities": ["Personal"], "refusedProviders": providers},
    })
}

/// A port of this machine that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Where a control plane listens.
fn server(member: &ControlPlane) -> SocketAddr {
    let kubeconfig = std::fs::read_to_string(member.kubeconfig()).unwrap();
    let (_, rest) = kubeconfig.split_once("https://").unwrap();
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.' && letter != ':');
    rest[..end.unwrap_or(rest.len())].parse().unwrap()
}

/// One GET over loopback: status and body; nothing when nobody answers.
pub fn get_over_http(port: u16, path: &str) -> Option<(u16, String)> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
