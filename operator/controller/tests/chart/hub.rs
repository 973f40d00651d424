//! A hub with the chart installed, and the operator as a process with the token of the chart's ServiceAccount.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use flambeau_operator::members::rights::RENEWED_LABEL;
use flambeau_testbed::{
    audit::{Audit, Use},
    control_plane::{ControlPlane, Options, refused_too_early},
    helm::{Helm, NAMESPACE, RELEASE},
    upstream::Tools,
    wait::{self, Probe},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// Where applications are.
pub const GAMES: &str = "games";
const PROGRAM: &str = env!("CARGO_BIN_EXE_flambeau-operator");

/// A hub, member `one` of provider `east`, and member `two` of provider `west`.
pub struct Hub {
    plane: ControlPlane,
    members: [ControlPlane; 2],
    audit: Audit,
    folder: TempDir,
    operator: Option<Child>,
}

impl Hub {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = format!("system:serviceaccount:{NAMESPACE}:{RELEASE}");
        let audit = Audit::of(&user, folder.path()).unwrap();
        let options = Options {
            apiserver_arguments: audit.arguments(),
            ..Options::default()
        };
        // Whoever deletes in the foreground waits for the garbage collector.
        let member = || {
            let options = Options {
                controller_manager: true,
                ..Options::default()
            };
            std::thread::spawn(move || ControlPlane::start_temporary(&options))
        };
        let members = [member(), member()];
        let plane = ControlPlane::start(&folder.path().join("hub"), &options).unwrap();
        let members = members.map(|member| member.join().unwrap().unwrap());
        let hub = Self {
            plane,
            members,
            audit,
            folder,
            operator: None,
        };
        hub.install();
        let names = [("one", "east"), ("two", "west")];
        for ((cluster, provider), member) in names.into_iter().zip(&hub.members) {
            hub.join(cluster, provider, member.kubeconfig());
        }
        hub
    }

    fn install(&self) {
        let gateway_api = Tools::places()
            .unwrap()
            .contour_crds
            .join("gateway-api.yaml");
        self.kubectl(&[
            "apply",
            "--server-side",
            "-f",
            &gateway_api.display().to_string(),
        ]);
        let helm = Helm::of(self.plane.kubeconfig()).unwrap();
        helm.install(&[]).unwrap();
        self.plane.await_definitions().unwrap();
        self.kubectl(&["create", "namespace", GAMES]);
        let token = self.kubectl(&["create", "token", RELEASE, "--namespace", NAMESPACE]);
        let kubeconfig = self.plane.kubeconfig_of(json!({"token": token.trim()}));
        fs::write(self.kubeconfig(), kubeconfig.unwrap()).unwrap();
    }

    fn join(&self, cluster: &str, provider: &str, kubeconfig: &Path) {
        let secret = format!("member-{cluster}");
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": secret, "namespace": NAMESPACE, "labels": {RENEWED_LABEL: "true"}},
            "stringData": {"kubeconfig": with_token_that_is_due(kubeconfig)},
        }));
        self.apply(&json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "CloudProvider", "metadata": {"name": provider},
            "spec": {"legalEntity": provider, "registeredOffice": "FR", "headquarters": "FR",
                "ownership": {"chain": "Complete"}},
        }));
        self.apply(&json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": cluster},
            "spec": {"provider": provider, "residency": "FR",
                "kubeconfigSecret": {"namespace": NAMESPACE, "name": secret}},
        }));
    }

    /// Everything that the operator logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("operator.log")).unwrap()
    }

    /// The token of a member as it is stored now.
    pub fn token(&self, cluster: &str) -> String {
        let secret = format!("secret/member-{cluster}");
        let data = "jsonpath={.data.kubeconfig}";
        let kubeconfig = self.kubectl(&["get", &secret, "--namespace", NAMESPACE, "-o", data]);
        let kubeconfig = STANDARD.decode(kubeconfig).unwrap();
        let kubeconfig: Value = serde_yaml::from_slice(&kubeconfig).unwrap();
        let token = kubeconfig["users"][0]["user"]["token"].as_str();
        token.unwrap().to_owned()
    }

    /// The operator's own kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("operator.kubeconfig")
    }

    pub fn start_operator(&mut self) {
        let log = File::create(self.folder.path().join("operator.log")).unwrap();
        let child = Command::new(PROGRAM)
            .arg("run")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--listen=127.0.0.1:0")
            .arg(format!("--leader-election-namespace={NAMESPACE}"))
            .env("RUST_LOG", "debug,flambeau_operator=trace")
            .stderr(log)
            .spawn()
            .unwrap();
        self.operator = Some(child);
        self.await_condition("member/one", "Ready", "True");
        self.await_condition("member/two", "Ready", "True");
    }

    /// Asks it to stop, as a kubelet does.
    pub fn stop_operator(&mut self) {
        let mut child = self.operator.take().unwrap();
        kill(
            Pid::from_raw(i32::try_from(child.id()).unwrap()),
            Signal::SIGTERM,
        )
        .unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// What `flambeau-operator check` says with the operator's rights, and its exit code.
    pub fn check(&self) -> (Option<i32>, String) {
        let output = Command::new(PROGRAM)
            .arg("check")
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg(format!("--leader-election-namespace={NAMESPACE}"))
            .arg("--within-seconds=1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    }

    /// Where applications are, unless something else is said.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let elsewhere = ["--namespace", "--all-namespaces", "-f"];
        let within: &[&str] = if arguments.iter().any(|one| elsewhere.contains(one)) {
            &[]
        } else {
            &["--namespace", GAMES]
        };
        let answer = self.plane.kubectl(&[arguments, within].concat());
        answer.map_err(|error| format!("{error:#}"))
    }

    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).unwrap()
    }

    pub fn apply(&self, object: &Value) {
        let objects = std::slice::from_ref(object);
        wait::until("an object is taken", PATIENCE, || {
            match self.plane.apply(objects) {
                Ok(()) => Ok(Probe::Done(())),
                Err(error) if refused_too_early(&error) => Ok(Probe::Pending(format!("{error:#}"))),
                Err(error) => Err(error),
            }
        })
        .unwrap();
    }

    /// Everything that the operator asked for so far.
    pub fn uses(&self) -> Vec<Use> {
        self.audit.uses().unwrap()
    }

    pub fn await_condition(&self, what: &str, type_: &str, status: &str) {
        self.until(&format!("{type_}={status} of {what}"), |hub| {
            let condition = format!("jsonpath={{.status.conditions[?(@.type==\"{type_}\")]}}");
            let found = hub.try_kubectl(&["get", what, "-o", &condition])?;
            if found.contains(&format!("\"status\":\"{status}\"")) {
                Ok(())
            } else {
                Err(found)
            }
        });
    }

    pub fn await_cluster(&self, application: &str, cluster: &str) {
        self.until(&format!("{application} runs on {cluster}"), |hub| {
            let found = hub.try_kubectl(&[
                "get",
                "gapp",
                application,
                "-o",
                "jsonpath={.status.cluster}",
            ])?;
            if found == cluster { Ok(()) } else { Err(found) }
        });
    }

    /// Deletes all objects of these kinds, and waits until they are gone.
    pub fn delete(&self, kinds: &str) {
        self.kubectl(&["delete", kinds, "--all", "--wait=false"]);
        self.until(&format!("the end of {kinds}"), |hub| {
            let left = hub.try_kubectl(&["get", kinds, "-o", "name"])?;
            if left.is_empty() { Ok(()) } else { Err(left) }
        });
    }

    pub fn until(&self, what: &str, done: impl Fn(&Self) -> Result<(), String>) {
        let probe = || {
            Ok(match done(self) {
                Ok(()) => Probe::Done(()),
                Err(why) => Probe::Pending(why),
            })
        };
        if let Err(error) = wait::until(what, PATIENCE, probe) {
            let log = fs::read_to_string(self.folder.path().join("operator.log"));
            let all = "flambeau,httproutes,services,endpointslices,leases";
            let all = self.kubectl(&["get", all, "--all-namespaces", "-o", "yaml"]);
            panic!("{error:#}\n{all}\n{}", log.unwrap_or_default());
        }
    }
}

/// The kubeconfig of an administrator, who is known by a certificate, with the
/// token of an account beside it: half of its life is over.
fn with_token_that_is_due(kubeconfig: &Path) -> String {
    let mut kubeconfig: Value =
        serde_yaml::from_str(&fs::read_to_string(kubeconfig).unwrap()).unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let account = "system:serviceaccount:default:default";
    let claims = json!({"sub": account, "iat": now - 600, "exp": now + 600}).to_string();
    let token = format!("e30.{}.unsigned", URL_SAFE_NO_PAD.encode(claims));
    kubeconfig["users"][0]["user"]["token"] = token.into();
    kubeconfig.to_string()
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(operator) = &mut self.operator {
            let _ = operator.kill();
            let _ = operator.wait();
        }
    }
}
