//! A control plane with the chart installed.

use std::time::Duration;

use anyhow::Result;
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    helm::{Helm, NAMESPACE},
    shared::Shared,
    wait::{self, Probe},
};
use serde_json::{Value, json};

/// Far longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where applications are.
pub const GAMES: &str = "games";

/// Who may do what in the tests: user, role, and the namespace that the role is bound in.
const BINDINGS: [(&str, &str, Option<&str>); 6] = [
    ("spectator", "view", Some(GAMES)),
    ("owner", "edit", Some(GAMES)),
    ("everybody", "flambeau-view", None),
    ("passer-by", "flambeau-view-fleet", None),
    ("sre", "flambeau-sre", None),
    ("compliance", "flambeau-compliance", None),
];

/// The cluster of all tests.
pub type SharedCluster = Shared<Cluster>;

/// A control plane with the chart installed.
pub struct Cluster {
    plane: ControlPlane,
}

impl Cluster {
    pub fn start() -> Result<Self> {
        let options = Options {
            // Who aggregates roles.
            controller_manager: true,
            ..Options::default()
        };
        let cluster = Self {
            plane: ControlPlane::start_temporary(&options)?,
        };
        cluster.apply(&[
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
            }),
            json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": GAMES, "labels": {"flambeau.dev/minimum-sensitivity": "Personal"}},
            }),
        ])?;
        Helm::of(cluster.plane.kubeconfig())?.install(&[])?;
        cluster.plane.await_definitions()?;
        cluster.apply(&BINDINGS.map(|(user, role, namespace)| binding(user, role, namespace)))?;
        // Until the roles are aggregated.
        wait::until("aggregated roles", PATIENCE, || {
            let may =
                cluster.kubectl(&["auth", "can-i", "create", "gapp", "-n", GAMES, "--as=owner"]);
            Ok(match may {
                Ok(_) => Probe::Done(()),
                Err(error) => Probe::Pending(format!("{error:#}")),
            })
        })?;
        Ok(cluster)
    }

    /// Runs kubectl; returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.plane.kubectl(arguments)
    }

    /// Applies objects as the administrator.
    pub fn apply(&self, objects: &[Value]) -> Result<()> {
        self.plane.apply(objects)
    }

    /// Asks whether an object could be created by a user, and creates nothing.
    pub fn admit(&self, user: Option<&str>, object: &Value) -> Result<()> {
        let file = self.file(std::slice::from_ref(object))?;
        let mut command = vec![
            "create",
            "--dry-run=server",
            "--validate=strict",
            "-f",
            &file,
        ];
        let user = user.map(|user| format!("--as={user}"));
        command.extend(user.as_deref());
        self.kubectl(&command)?;
        Ok(())
    }

    /// A file with these objects.
    pub fn file(&self, objects: &[Value]) -> Result<String> {
        self.plane.manifests(objects)
    }
}

fn binding(user: &str, role: &str, namespace: Option<&str>) -> Value {
    let kind = if namespace.is_some() {
        "RoleBinding"
    } else {
        "ClusterRoleBinding"
    };
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": user, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    })
}
