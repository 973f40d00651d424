//! Operators as processes: what a standby, a stopped and an ended one do.

use crate::plane::{Plane, Stopped};
use flambeau_operator::leader::EXIT_CODE_LOST;
use flambeau_testbed::wait::{self, Probe};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// One hub at a time: operators of another test would work on it too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An operator that is killed when dropped.
struct Operator {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Operator {
    fn start(plane: &Plane, identity: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = plane.file(&format!("{identity}.log"));
        let child = Command::new(env!("CARGO_BIN_EXE_flambeau-operator"))
            .arg("run")
            .arg("--kubeconfig")
            .arg(plane.control_plane.kubeconfig())
            .args(["--listen", &format!("127.0.0.1:{port}")])
            // Not a shorter Lease: API servers and operators of a test are slow
            // at times, and a leader that is not answered ends itself.
            .arg("--leader-election-namespace=default")
            .args(["--identity", identity])
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let operator = Self { child, port, log };
        operator.until("ready", |operator| operator.ask("/readyz").is_some());
        operator
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// One GET; nothing unless the answer is a success.
    fn ask(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains(" 200 ").then(|| body.to_owned())
    }

    fn metrics(&self) -> String {
        self.ask("/metrics").unwrap_or_default()
    }

    fn leads(&self) -> bool {
        self.metrics().contains("\nflambeau_leader 1\n")
    }

    fn until(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let probe = || {
            Ok(if done(self) {
                Probe::Done(())
            } else {
                Probe::Pending("not yet".to_owned())
            })
        };
        if let Err(error) = wait::until(what, PATIENCE, probe) {
            panic!("{error:#}\n{}", self.said());
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Its exit code, and how long it took to end.
    fn end(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), begun.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end\n{}", self.said());
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hub that is its own member.
fn hub() -> Plane {
    let plane = Plane::start();
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/generated");
    plane.run(&["apply", "-f", &crds.display().to_string()]);
    plane.run(&[
        "wait",
        "crd",
        "--all",
        "--for=condition=Established",
        "--timeout=60s",
    ]);
    let kubeconfig = plane.control_plane.kubeconfig().display().to_string();
    let from = format!("--from-file=kubeconfig={kubeconfig}");
    plane.run(&["create", "secret", "generic", "member-one", &from]);
    plane.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "CloudProvider", "metadata": {"name": "east"},
        "spec": {"legalEntity": "east", "registeredOffice": "FR", "headquarters": "FR", "ownership": {"chain": "Complete"}},
    }));
    plane.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": "one"},
        "spec": {
            "provider": "east", "residency": "FR",
            "kubeconfigSecret": {"namespace": "default", "name": "member-one"},
        },
    }));
    plane
}

fn application(name: &str, objects: usize) -> Value {
    let resources: Vec<Value> = (0..objects)
        .map(|number| {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{name}-{number}")},
                "data": {"key": "value"}})
        })
        .collect();
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "GamesApplication",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"sensitivity": "Personal", "resources": resources},
    })
}

fn settled(plane: &Plane, application: &str) -> bool {
    let application = plane.get(&format!("gapp/{application}"));
    let truth = |kind: &str, status: &str| {
        application["status"]["conditions"]
            .as_array()
            .is_some_and(|all| {
                all.iter()
                    .any(|one| one["type"] == *kind && one["status"] == *status)
            })
    };
    truth("Ready", "True") && truth("Reconciling", "False")
}

#[test]
fn a_standby_sees_everything_writes_nothing_and_takes_over_when_asked() {
    let _alone = alone();
    let plane = hub();
    let mut one = Operator::start(&plane, "one");
    one.until("one leads", Operator::leads);
    let two = Operator::start(&plane, "two");
    plane.apply(&application("first", 3));
    one.until("the application is settled", |_| settled(&plane, "first"));

    let metrics = two.metrics();
    assert!(metrics.contains("\nflambeau_leader 0\n"), "{metrics}");
    assert!(!two.leads());
    for written in ["flambeau_hub_writes_total{", "flambeau_edge_writes_total{"] {
        assert!(!metrics.contains(written), "{metrics}");
    }
    assert!(!metrics.contains("verb=\"apply\""), "{metrics}");
    assert!(
        metrics.contains("verb=\"watch\"") || metrics.contains("verb=\"list\""),
        "it looks at the member: {metrics}"
    );

    kill(one.pid(), Signal::SIGTERM).unwrap();
    let asked = Instant::now();
    assert_eq!(one.end().0, Some(0), "{}", one.said());
    two.until("two leads", Operator::leads);
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    plane.apply(&application("second", 3));
    two.until("two works", |_| settled(&plane, "second"));

    // Nobody to take it over: the one that loses it ends all the same.
    let mut two = two;
    let patch = r#"{"spec":{"holderIdentity":"thief"}}"#;
    let lease = [
        "patch",
        "lease",
        "flambeau-operator",
        "--type=merge",
        "-p",
        patch,
    ];
    plane.run(&lease);
    let (code, took) = two.end();
    assert_eq!(code, Some(EXIT_CODE_LOST), "{}", two.said());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(two.said().contains("held by thief now"), "{}", two.said());
}

/// How many objects of a trial there are.
fn written(plane: &Plane, trial: usize) -> usize {
    let names = plane.run(&["get", "configmaps", "-o", "name"]);
    let ours = format!("configmap/shop-{trial}-");
    names.lines().filter(|name| name.starts_with(&ours)).count()
}

#[test]
fn a_leader_that_was_stopped_sends_nothing_when_it_wakes() {
    const APPLICATIONS: usize = 3;
    const OBJECTS: usize = 100;
    let _alone = alone();
    let plane = hub();
    let trials = if std::env::var_os("SOAK").is_some() {
        20
    } else {
        2
    };
    for trial in 0..trials {
        let mut old = Operator::start(&plane, &format!("old-{trial}"));
        old.until("the first leads", Operator::leads);
        let mut new = Operator::start(&plane, &format!("new-{trial}"));
        let before = plane.writes();
        let items: Vec<Value> = (0..APPLICATIONS)
            .map(|number| application(&format!("shop-{trial}-{number}"), OBJECTS))
            .collect();
        plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}));
        while plane.writes() < before + 50 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let stopped = Stopped::new(old.pid());
        old.until("the other leads", |_| new.leads());
        let left = APPLICATIONS * OBJECTS - written(&plane, trial);
        assert!(left > 0, "it was stopped in the middle of its work");
        for condition in ["Ready", "Reconciling=False"] {
            let condition = format!("--for=condition={condition}");
            let wait = ["wait", "gapp", "--all", &condition, "--timeout=60s"];
            if let Err(error) = plane.control_plane.kubectl(&wait) {
                panic!("{error:#}\n{}\n{}", new.said(), new.metrics());
            }
        }
        assert_eq!(written(&plane, trial), APPLICATIONS * OBJECTS);
        kill(new.pid(), Signal::SIGTERM).unwrap();
        assert_eq!(new.end().0, Some(0), "{}", new.said());

        let sent = plane.writes();
        drop(stopped);
        let (code, took) = old.end();
        assert_eq!(code, Some(EXIT_CODE_LOST), "{}", old.said());
        assert!(took < Duration::from_secs(1), "{took:?}");
        let late = plane.writes() - sent;
        assert_eq!(late, 0, "trial {trial}: writes after it woke");
        println!(
            "trial {trial}: stopped with {left} objects to write, {late} written when it woke, ended in {took:.0?}"
        );
    }
}
