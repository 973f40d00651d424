//! A control plane that tests share, and a fleet with it as the one member.

use flambeau_crds::MemberClusterSpec;
use flambeau_operator::{
    declared::{Declared, DeclaredObject},
    dirty::Dirty,
    leader::Leadership,
    members::{MemberError, MemberSettings, Members, Verb},
};
use flambeau_planner::model::{ApplicationKey, CopyObservation, Kind, Name, Reach};
use flambeau_testbed::{
    audit::Audit,
    control_plane::{ControlPlane, Options},
    pki::Authority,
    wait::{self, Probe},
};
use jiff::Timestamp;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// A control plane with what tests ask of it.
pub struct Plane {
    control_plane: ControlPlane,
    folder: TempDir,
}

/// The control plane that tests share; it ends with the last test that holds
/// it.
pub fn plane() -> Arc<Plane> {
    static SHARED: Mutex<Weak<Plane>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let plane = Arc::new(Plane::start(true, None));
        *shared = Arc::downgrade(&plane);
        plane
    })
}

/// A control plane for one test, which may hurt it.
pub fn own_plane() -> Plane {
    Plane::start(false, None)
}

/// The same, with what one user asks for.
pub fn audited_plane(user: &str) -> (Plane, Audit, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let audit = Audit::of(user, folder.path()).unwrap();
    (Plane::start(false, Some(&audit)), audit, folder)
}

/// An API server that does not run for as long as this value lives.
pub struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

impl Plane {
    fn start(controller_manager: bool, audit: Option<&Audit>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            controller_manager,
            apiserver_arguments: audit.map(Audit::arguments).unwrap_or_default(),
            ..Options::default()
        };
        Self {
            control_plane: ControlPlane::start(folder.path(), &options).unwrap(),
            folder,
        }
    }

    /// Runs kubectl with arguments that hold no spaces.
    pub fn run(&self, arguments: &str) -> String {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.control_plane.kubectl(&arguments).unwrap()
    }

    /// Runs kubectl, which may fail.
    pub fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let answer = self.control_plane.kubectl(arguments);
        answer.map_err(|error| format!("{error:#}"))
    }

    /// A kubeconfig of nobody, for whoever brings a token.
    pub fn kubeconfig_without_user(&self) -> String {
        let file = self.folder.path().join("nobody.kubeconfig");
        let nobody = self.control_plane.kubeconfig_of(json!({})).unwrap();
        std::fs::write(&file, nobody).unwrap();
        file.display().to_string()
    }

    /// Runs `kubectl get`.
    pub fn get(&self, arguments: &str) -> String {
        self.run(&format!("get {arguments}"))
    }

    /// Applies an object with kubectl.
    pub fn apply(&self, object: &Value) {
        let file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        self.run(&format!("apply -f {}", file.path().display()));
    }

    /// Waits for something that only kubectl sees.
    pub fn until(&self, what: &str, condition: impl Fn() -> bool) {
        wait::until(what, PATIENCE, || {
            Ok(if condition() {
                Probe::Done(())
            } else {
                Probe::Pending("not yet".into())
            })
        })
        .unwrap();
    }

    /// Resource versions of what applications consist of in a namespace,
    /// but for status, which controllers write.
    pub fn versions(&self, namespace: &str) -> String {
        self.get(&format!(
            "configmaps,secrets,services -n {namespace} -o jsonpath={{.items[*].metadata.resourceVersion}}"
        ))
    }

    pub fn kubeconfig(&self) -> Vec<u8> {
        std::fs::read(self.control_plane.kubeconfig()).unwrap()
    }

    fn edited(&self, edit: impl FnOnce(&mut serde_yaml::Value)) -> Vec<u8> {
        let mut kubeconfig = serde_yaml::from_slice(&self.kubeconfig()).unwrap();
        edit(&mut kubeconfig);
        serde_yaml::to_string(&kubeconfig).unwrap().into_bytes()
    }

    pub fn kubeconfig_with_server(&self, server: &str) -> Vec<u8> {
        self.edited(|kubeconfig| kubeconfig["clusters"][0]["cluster"]["server"] = server.into())
    }

    pub fn kubeconfig_with_user(&self, user: &str) -> Vec<u8> {
        let user: serde_yaml::Value = serde_yaml::from_str(user).unwrap();
        self.edited(|kubeconfig| kubeconfig["users"][0]["user"] = user)
    }

    pub fn kubeconfig_with_another_authority(&self) -> Vec<u8> {
        use base64::Engine;
        let folder = self.folder.path().join("another-authority");
        Authority::create("another", &folder).unwrap();
        let certificate = std::fs::read(folder.join("ca.crt")).unwrap();
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        self.edited(|kubeconfig| {
            kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"] = encoded.into()
        })
    }

    /// Stops the API server's process without ending it: connections stay
    /// open and nothing answers.
    pub fn stop_api_server(&self) -> Stopped {
        let marker = self.folder.path().display().to_string();
        let process = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(Result::ok)
            .find_map(|entry| {
                let id: i32 = entry.file_name().to_str()?.parse().ok()?;
                let line = std::fs::read(entry.path().join("cmdline")).ok()?;
                let line = String::from_utf8_lossy(&line).into_owned();
                let ours = line.contains(&marker) && line.contains("\0kube-apiserver\0");
                ours.then(|| Pid::from_raw(id))
            })
            .unwrap();
        kill(process, Signal::SIGSTOP).unwrap();
        Stopped(process)
    }
}

/// A fleet of one member.
pub struct Fleet {
    pub members: Members,
    dirty: Dirty,
    wanted: Mutex<BTreeSet<Kind>>,
}

impl Fleet {
    /// The member is a control plane.
    pub fn new(plane: &Plane) -> Self {
        let fleet = Self::unconfigured(plane);
        fleet.configure(Ok(&plane.kubeconfig()));
        fleet
    }

    /// The member has no connection details yet.
    pub fn unconfigured(_plane: &Plane) -> Self {
        Self::with(MemberSettings::default())
    }

    /// The same, talked to like this.
    pub fn with(settings: MemberSettings) -> Self {
        let dirty = Dirty::default();
        Self {
            members: Members::new(dirty.clone(), settings, Leadership::always()),
            dirty,
            wanted: Mutex::default(),
        }
    }

    pub fn configure(&self, kubeconfig: Result<&[u8], String>) {
        self.configure_with(&Value::Null, kubeconfig);
    }

    /// The same, with `spec.access` of the MemberCluster.
    pub fn configure_with(&self, access: &Value, kubeconfig: Result<&[u8], String>) {
        let spec: MemberClusterSpec = serde_json::from_value(json!({
            "provider": "example", "residency": "DE", "health": {"unreachableAfterSeconds": 1},
            "kubeconfigSecret": {"namespace": "platform", "name": "member"}, "access": access
        }))
        .unwrap();
        self.members
            .configure(&Name::from("member"), &spec, kubeconfig);
    }

    /// What asks for a plan.
    pub fn dirty(&self) -> Dirty {
        self.dirty.clone()
    }

    /// Waits for a condition; looks again whenever a plan is asked for, and
    /// only then.
    pub async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let wait = async {
            while !condition() {
                self.dirty.wait().await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!(
                "{what}: not within {PATIENCE:?}; reach {:?}",
                self.members.reach("member")
            );
        }
        // The mark was consumed here and may matter to the next wait.
        self.dirty.mark();
    }

    pub async fn reachable(&self) {
        self.until("reachable and discovered", || {
            self.members.reach("member") == Reach::Reachable
                && self.members.kinds("member").is_some()
                && self.members.observes("member")
        })
        .await;
    }

    pub fn watch(&self, declared: &Declared) {
        let mut wanted = self.wanted.lock().unwrap();
        wanted.extend(declared.objects.iter().map(|object| object.kind.clone()));
        self.members.watch_kinds(&wanted);
    }

    pub fn declare(&self, declared: &Declared) {
        self.watch(declared);
        self.members.declare(Arc::new(declared.clone()));
    }

    pub fn observe(&self, declared: &Declared, epoch: i64) -> CopyObservation {
        self.members.observe("member", &declared.key, epoch)
    }

    /// Declares and applies, as when an application comes to the member.
    pub async fn place(&self, declared: &Declared, epoch: i64) {
        self.declare(declared);
        self.apply(declared, epoch).await.unwrap();
    }

    pub async fn apply_once(&self, declared: &Declared, epoch: i64) -> Result<(), MemberError> {
        self.members.apply("member", declared, epoch).await
    }

    /// Applies as soon as the kinds are listed.
    pub async fn apply(&self, declared: &Declared, epoch: i64) -> Result<(), MemberError> {
        self.until("listed", || self.observe(declared, epoch).observed)
            .await;
        self.apply_once(declared, epoch).await
    }

    /// Applies whenever a plan is asked for, until it works.
    pub async fn until_applied(&self, declared: &Declared, epoch: i64) {
        let work = async {
            while let Err(error) = self.apply_once(declared, epoch).await {
                println!("not applied: {error}");
                self.dirty.wait().await;
            }
        };
        tokio::time::timeout(PATIENCE, work).await.unwrap();
        self.dirty.mark();
    }

    /// How many objects were made.
    pub fn created(&self) -> u64 {
        self.members
            .metrics()
            .requests("member", Verb::Apply, &[201])
    }

    /// How many writes were sent.
    pub fn applies(&self) -> u64 {
        self.members.metrics().requests(
            "member",
            Verb::Apply,
            &[0, 200, 201, 400, 404, 409, 422, 500],
        )
    }
}

/// Processor time of this process so far.
pub fn processor_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| {
            Duration::from_micros(
                u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap(),
            )
        })
        .sum()
}

pub fn key(namespace: &str, name: &str) -> ApplicationKey {
    ApplicationKey {
        namespace: namespace.into(),
        name: name.into(),
    }
}

pub fn kind(api_version: &str, kind: &str) -> Kind {
    Kind {
        api_version: api_version.into(),
        kind: kind.into(),
    }
}

/// An application of these objects.
pub fn application(namespace: &str, name: &str, objects: &[Value]) -> Declared {
    let objects = objects.iter().map(|manifest| {
        let mut hasher = DefaultHasher::new();
        manifest.hash(&mut hasher);
        DeclaredObject::new(
            kind(
                manifest["apiVersion"].as_str().unwrap(),
                manifest["kind"].as_str().unwrap(),
            ),
            manifest["metadata"]["name"].as_str().unwrap().into(),
            manifest,
            hasher.finish().to_string().into(),
        )
    });
    Declared {
        key: key(namespace, name),
        uid: "7f3d6f0e-0000-4000-8000-000000000000".into(),
        created: Timestamp::from_second(1_790_000_000).ok(),
        objects: objects.collect(),
        traffic: None,
    }
}

/// The objects of an application of every common sort.
pub fn shop() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"TITLE": "Shop"}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "stringData": {"password": "sesame"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}, "spec": {
            "selector": {"app": "shop"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "labels": {"app": "shop"}}, "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "shop"}}, "template": {"metadata": {"labels": {"app": "shop"}}, "spec": {
                "containers": [{"name": "shop", "image": "none", "tty": false, "env": [{"name": "EMPTY", "value": ""}],
                    "resources": {"requests": {"cpu": "1000m", "memory": "1Gi"}}}]}}}}),
    ]
}

/// The kinds of what is declared.
pub fn kinds(declared: &Declared) -> BTreeSet<Kind> {
    declared
        .objects
        .iter()
        .map(|object| object.kind.clone())
        .collect()
}
