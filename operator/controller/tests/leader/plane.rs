//! An API server that tests share, with a record of who wrote what.

use flambeau_testbed::control_plane::{ControlPlane, Options};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tempfile::TempDir;

/// Every request when it arrives, without its body.
const AUDIT_POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete, Panic]
rules: [{level: Metadata}]
";

pub struct Plane {
    pub control_plane: ControlPlane,
    folder: TempDir,
    counted: Mutex<Counted>,
}

/// How much of the audit log was read, and what it told.
#[derive(Default)]
struct Counted {
    read: u64,
    writes: usize,
}

/// The API server that tests share; it ends with the last test that holds it.
pub fn plane() -> Arc<Plane> {
    static SHARED: Mutex<Weak<Plane>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let plane = Arc::new(Plane::start());
        *shared = Arc::downgrade(&plane);
        plane
    })
}

impl Plane {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("audit-policy.yaml");
        fs::write(&policy, AUDIT_POLICY).unwrap();
        let log = folder.path().join("audit.log");
        let options = Options {
            apiserver_arguments: vec![
                format!("--audit-policy-file={}", policy.display()),
                format!("--audit-log-path={}", log.display()),
            ],
            ..Options::default()
        };
        let data = folder.path().join("control-plane");
        Self {
            control_plane: ControlPlane::start(&data, &options).unwrap(),
            folder,
            counted: Mutex::default(),
        }
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        self.control_plane.kubectl(arguments).unwrap()
    }

    pub fn apply(&self, object: &Value) {
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        fs::write(file.path(), object.to_string()).unwrap();
        self.run(&["apply", "-f", &file.path().display().to_string()]);
    }

    pub fn get(&self, what: &str) -> Value {
        serde_json::from_str(&self.run(&["get", what, "-o", "json"])).unwrap()
    }

    /// A file that vanishes with the API server.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How many requests of operators arrived so far that change anything,
    /// but for Leases.
    pub fn writes(&self) -> usize {
        let mut counted = self.counted.lock().unwrap();
        let mut log = File::open(self.folder.path().join("audit.log")).unwrap();
        log.seek(SeekFrom::Start(counted.read)).unwrap();
        let mut news = String::new();
        log.read_to_string(&mut news).unwrap();
        // The last line may be half written.
        let whole = news.rfind('\n').map_or(0, |end| end + 1);
        counted.read += u64::try_from(whole).unwrap();
        counted.writes += news[..whole].lines().filter(|line| is_write(line)).count();
        counted.writes
    }

    /// Stops the API server's process without ending it: connections stay
    /// open and nothing answers.
    pub fn stop_api_server(&self) -> Stopped {
        let marker = self.folder.path().display().to_string();
        let id = fs::read_dir("/proc")
            .unwrap()
            .filter_map(Result::ok)
            .find_map(|entry| {
                let id: i32 = entry.file_name().to_str()?.parse().ok()?;
                let line = fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).into_owned();
                (line.contains(&marker) && line.contains("\0kube-apiserver\0")).then_some(id)
            })
            .unwrap();
        Stopped::new(Pid::from_raw(id))
    }
}

/// Whether a line of the audit log tells of a write of an operator. Everything
/// else of that kind names itself: kubectl, and the API server to itself.
fn is_write(line: &str) -> bool {
    let event: Value = serde_json::from_str(line).unwrap();
    let agent = event["userAgent"].as_str().unwrap_or_default();
    let changes = ["create", "update", "patch", "delete", "deletecollection"];
    changes.iter().any(|verb| event["verb"] == *verb)
        && !agent.starts_with("kubectl/")
        && !agent.starts_with("kube-apiserver/")
        && event["objectRef"]["resource"] != "leases"
}

/// A process that does not run for as long as this value lives.
pub struct Stopped(Pid);

impl Stopped {
    pub fn new(process: Pid) -> Self {
        kill(process, Signal::SIGSTOP).unwrap();
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}
