//! How far Flambeau goes on a member, and as whom: what its MemberCluster says
//! under `spec.access`.
//!
//! Whoever may declare an application on the hub must not get further on a
//! member than the application's own namespace does there. So its objects are
//! written as a ServiceAccount of that namespace, which the member's API
//! server checks like any other user; Flambeau's own identity may impersonate
//! that account, and hardly more. Reads are Flambeau's own: nothing that is
//! read of an object but digests and counts reaches the hub.

use super::{
    connection::RequestError, discovery::Resource, error::MemberError, order, store::Scope,
};
use crate::declared::Declared;
use flambeau_crds::cluster::MemberAccess;
use flambeau_planner::model::{Kind, Name};
use http::{HeaderValue, Request};
use serde_json::Value;
use std::collections::BTreeSet;

/// Namespaces in which no application may be: those of Kubernetes itself.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// Kinds of this group grant permissions.
const PERMISSIONS: &str = "rbac.authorization.k8s.io";
/// Such a pod could make others, as this account may, which carry no mark of
/// the application: nobody would find them, and they would run on after it
/// has moved.
const OWN_ACCOUNT: &str = "runs pods as the ServiceAccount as which Flambeau writes applications: name another one under serviceAccountName, or none";

/// How far Flambeau goes on one member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// ServiceAccount as which applications are written; Flambeau itself when
    /// none.
    pub application: Option<String>,
    /// The only namespaces; any when empty.
    namespaces: BTreeSet<Name>,
    /// The only kinds, in the plural and with their group; any when empty.
    kinds: BTreeSet<String>,
    /// The namespace of Flambeau's own ServiceAccount there: whoever may run
    /// a pod in it could take its place.
    own: Option<Name>,
}

impl Limits {
    /// What a MemberCluster says; `own` is the namespace of the ServiceAccount
    /// whose token the kubeconfig holds, if it holds one.
    pub fn new(access: Option<&MemberAccess>, own: Option<Name>) -> Self {
        let Some(access) = access else {
            return Self {
                own,
                ..Self::default()
            };
        };
        Self {
            application: access.application_service_account.clone(),
            namespaces: access
                .namespaces
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            kinds: access.kinds.iter().cloned().collect(),
            own,
        }
    }

    /// What is listed and watched of every kind.
    pub fn scopes(&self) -> BTreeSet<Scope> {
        if self.namespaces.is_empty() {
            return BTreeSet::from([None]);
        }
        self.namespaces.iter().cloned().map(Some).collect()
    }

    /// The scope to which a namespace belongs.
    pub fn scope(&self, namespace: &Name) -> Scope {
        (!self.namespaces.is_empty()).then(|| namespace.clone())
    }

    /// Whether Flambeau gives applications their rights in a namespace by
    /// itself, as it does where no namespaces are named.
    pub fn admits(&self) -> bool {
        self.application.is_some() && self.namespaces.is_empty()
    }

    /// Why objects of a kind are not read.
    pub fn hide_kind(&self, resource: &Resource) -> Option<&'static str> {
        self.refuse_kind(resource)
            .filter(|_| !resource.is_endpoint_slices())
    }

    /// Whether objects of a kind are written.
    pub fn allow(&self, resource: &Resource) -> bool {
        if self.application.is_none() && resource.group() == PERMISSIONS {
            return false;
        }
        self.kinds.is_empty() || self.kinds.contains(&resource.name())
    }

    /// Whether, and why not, an application may be in a namespace.
    pub fn refuse_namespace(&self, namespace: &str) -> Option<&'static str> {
        let own = self.own.as_deref() == Some(namespace);
        if SYSTEM_NAMESPACES.contains(&namespace) || own {
            return Some("belongs to the system: declare the application in another namespace");
        }
        let listed = self.namespaces.is_empty() || self.namespaces.contains(namespace);
        (!listed).then_some(
            "is not among spec.access.namespaces of the MemberCluster: name it there with `kubectl flambeau join`, or declare the application in another namespace",
        )
    }

    /// Why nothing is read in a namespace: objects may be there from a time
    /// when it was.
    pub fn hide_namespace(&self, namespace: &str) -> Option<&'static str> {
        self.refuse_namespace(namespace)
            .filter(|_| !self.namespaces.is_empty() && !self.namespaces.contains(namespace))
    }

    /// Why a kind is not written.
    pub fn refuse_kind(&self, resource: &Resource) -> Option<&'static str> {
        if self.allow(resource) {
            return None;
        }
        Some(
            if self.application.is_none() && resource.group() == PERMISSIONS {
                "grants permissions, which Flambeau does not do under its own identity: set spec.access.applicationServiceAccount of the MemberCluster"
            } else {
                "is not among spec.access.kinds of the MemberCluster: name it there with `kubectl flambeau join`, or remove the resource"
            },
        )
    }

    /// Refuses what a member does not take from an application.
    ///
    /// # Errors
    /// For a namespace or a kind that is not allowed.
    pub fn check(
        &self,
        cluster: &Name,
        declared: &Declared,
        resource: impl Fn(&Kind) -> Option<Resource>,
    ) -> Result<(), MemberError> {
        let refuse = |what: String, why: &str| MemberError::NotAllowed {
            cluster: cluster.clone(),
            what,
            why: why.to_owned(),
        };
        let namespace = &declared.key.namespace;
        if let Some(why) = self.refuse_namespace(namespace) {
            return Err(refuse(format!("namespace {namespace}"), why));
        }
        for object in &declared.objects {
            let refused = resource(&object.kind).and_then(|found| self.refuse_kind(&found));
            if let Some(why) = refused {
                let title = order::title(&object.kind, &object.name);
                return Err(refuse(format!("{title}: kind {}", object.kind), why));
            }
            let runs = |account| runs_as(&object.manifest(), account);
            if self.application.as_deref().is_some_and(runs) {
                let title = order::title(&object.kind, &object.name);
                return Err(refuse(title, OWN_ACCOUNT));
            }
        }
        Ok(())
    }

    /// Makes a request that of the application of a namespace.
    pub fn impersonate<B>(
        &self,
        namespace: &str,
        request: &mut Request<B>,
    ) -> Result<(), RequestError> {
        let Some(account) = &self.application else {
            return Ok(());
        };
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let user = HeaderValue::from_str(&user).map_err(|_| {
            RequestError::Unreadable(format!("{user} is no user that can be impersonated"))
        })?;
        request.headers_mut().insert("impersonate-user", user);
        Ok(())
    }

    /// Whether a refusal means that the application's ServiceAccount lacks a
    /// permission.
    pub fn lacks_permission(&self, message: &str) -> bool {
        self.application.as_ref().is_some_and(|account| {
            message.contains("User \"system:serviceaccount:")
                && message.contains(&format!(":{account}\" cannot "))
        })
    }
}

/// Whether pods of an object run as a ServiceAccount, wherever it says so:
/// `serviceAccount` is the older name of the field.
fn runs_as(manifest: &Value, account: &str) -> bool {
    match manifest {
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let names = matches!(name.as_str(), "serviceAccountName" | "serviceAccount");
            names && value == account || runs_as(value, account)
        }),
        Value::Array(items) => items.iter().any(|item| runs_as(item, account)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(access: serde_json::Value) -> Limits {
        let access: MemberAccess = serde_json::from_value(access).unwrap();
        Limits::new(Some(&access), Some("flambeau-system".into()))
    }

    #[test]
    fn the_namespaces_of_the_system_and_of_flambeau_are_nobodys() {
        for limits in [
            limits(serde_json::json!({})),
            Limits::new(None, Some("flambeau-system".into())),
        ] {
            for namespace in ["kube-system", "kube-node-lease", "flambeau-system"] {
                assert!(limits.refuse_namespace(namespace).is_some(), "{namespace}");
            }
            assert_eq!(limits.refuse_namespace("games"), None);
        }
    }

    #[test]
    fn only_listed_namespaces_and_kinds_are_allowed() {
        let limits = limits(
            serde_json::json!({"namespaces": ["games"], "kinds": ["deployments.apps", "services"],
            "applicationServiceAccount": "flambeau-applications"}),
        );
        assert!(limits.refuse_namespace("other").is_some());
        assert_eq!(limits.refuse_namespace("games"), None);
        assert!(limits.allow(&Resource::new("/apis/apps/v1", "deployments")));
        assert!(limits.allow(&Resource::new("/api/v1", "services")));
        assert!(!limits.allow(&Resource::new("/api/v1", "deployments")));
        assert!(!limits.allow(&Resource::new("/apis/apps/v1", "statefulsets")));
        assert_eq!(limits.scopes(), BTreeSet::from([Some("games".into())]));
    }

    #[test]
    fn permissions_are_not_granted_under_the_identity_of_flambeau() {
        let roles = Resource::new("/apis/rbac.authorization.k8s.io/v1", "roles");
        assert!(!Limits::default().allow(&roles));
        assert!(limits(serde_json::json!({"applicationServiceAccount": "a"})).allow(&roles));
    }

    #[test]
    fn pods_do_not_run_as_the_account_that_writes_applications() {
        let pods = |spec: Value| serde_json::json!({"spec": {"template": {"spec": spec}}});
        for field in ["serviceAccountName", "serviceAccount"] {
            let deployment = pods(serde_json::json!({field: "flambeau-applications"}));
            assert!(runs_as(&deployment, "flambeau-applications"), "{field}");
            assert!(!runs_as(&deployment, "another"));
            let list = serde_json::json!({"templates": [deployment]});
            assert!(runs_as(&list, "flambeau-applications"));
        }
        let labelled = pods(serde_json::json!({"hostname": "flambeau-applications"}));
        assert!(!runs_as(&labelled, "flambeau-applications"));
    }
}
