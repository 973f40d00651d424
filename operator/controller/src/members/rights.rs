//! What Flambeau needs on a member, as manifests: the rights of its own
//! identity and of those of applications, and the policy of fencing.
//!
//! Its own identity reads the kinds that applications consist of, and may
//! impersonate the ServiceAccount of applications; it writes nothing of an
//! application by itself. What else it writes is limited by name: the epochs
//! of applications, and its own token. Names limit creations too, as these are
//! server-side applies, which name their object (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources>).

use super::fencing::policy;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Kinds that applications may consist of unless others are named: those that
/// neither grant permissions nor reach beyond their namespace.
pub const DEFAULT_KINDS: [&str; 13] = [
    "configmaps",
    "persistentvolumeclaims",
    "secrets",
    "serviceaccounts",
    "services",
    "cronjobs.batch",
    "deployments.apps",
    "horizontalpodautoscalers.autoscaling",
    "ingresses.networking.k8s.io",
    "jobs.batch",
    "networkpolicies.networking.k8s.io",
    "poddisruptionbudgets.policy",
    "statefulsets.apps",
];
/// What takes an application's traffic is read everywhere.
const ENDPOINT_SLICES: &str = "endpointslices.discovery.k8s.io";
/// Where nodes renew their leases.
const LEASES_NAMESPACE: &str = "kube-node-lease";

/// Label on the ServiceAccount that stands for a hub on a member.
pub const MEMBER_LABEL: &str = "flambeau.dev/member";
/// Annotation on that ServiceAccount: which hub it stands for.
pub const HUB_ANNOTATION: &str = "flambeau.dev/hub";
/// Label on everything that a membership consists of.
pub const MANAGED_BY_LABEL: &str = policy::MANAGED_BY_LABEL;
/// Its value.
pub const MANAGED_BY: &str = "kubectl-flambeau";
/// Label on a Secret of the hub whose token Flambeau may renew.
pub const RENEWED_LABEL: &str = "flambeau.dev/renewed-token";

/// A membership, as seen by the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Name of the MemberCluster on the hub.
    pub name: String,
    /// Which hub: a name that no other hub has.
    pub hub: String,
    /// Namespace of Flambeau's ServiceAccount.
    pub namespace: String,
    /// Flambeau's ServiceAccount.
    pub service_account: String,
    /// ServiceAccount of applications, in each of their namespaces.
    pub application_service_account: String,
    /// The only namespaces for applications; any but those of the system when
    /// empty.
    pub namespaces: Vec<String>,
    /// The only kinds for applications, in the plural and with their group.
    pub kinds: Vec<String>,
}

impl Membership {
    /// Name of what Flambeau's identity is granted, in all scopes.
    pub fn role_name(&self) -> String {
        format!("flambeau:{}:{}", self.namespace, self.service_account)
    }

    /// Everything that has to be there, in an order in which each object finds
    /// what it needs.
    pub fn manifests(&self) -> Vec<Value> {
        let mut all = vec![namespace(&self.namespace), self.own_account()];
        all.extend(self.own_rights());
        if self.namespaces.is_empty() {
            let name = &self.application_service_account;
            all.push(role(None, name, &self.application_rules()));
        }
        for name in &self.namespaces {
            all.extend(self.within(name));
        }
        all.extend(fencing());
        all
    }

    fn own_account(&self) -> Value {
        let mut account = account(&self.namespace, &self.service_account);
        account["metadata"]["labels"][MEMBER_LABEL] = self.name.as_str().into();
        account["metadata"]["annotations"] = json!({HUB_ANNOTATION: self.hub});
        account
    }

    fn own_rights(&self) -> Vec<Value> {
        let name = self.role_name();
        let grant = |scope: Option<&str>, rules: Vec<Value>| {
            let role = role(scope, &name, &rules);
            let binding = binding(scope, &name, &name, scope.is_none(), self.own_subject());
            [role, binding]
        };
        let leases = rule("coordination.k8s.io", &["leases"], &["list"], &[]);
        let token = rule(
            "",
            &["serviceaccounts/token"],
            &["create"],
            &[&self.service_account],
        );
        let mut all = Vec::new();
        all.extend(grant(None, self.cluster_rules()));
        all.extend(grant(Some(LEASES_NAMESPACE), vec![leases]));
        all.extend(grant(Some(&self.namespace), vec![token]));
        all
    }

    fn own_subject(&self) -> Value {
        json!({"kind": "ServiceAccount", "name": self.service_account, "namespace": self.namespace})
    }

    fn cluster_rules(&self) -> Vec<Value> {
        let mut rules = vec![
            json!({"nonResourceURLs": ["/readyz", "/version", "/api", "/apis"], "verbs": ["get"]}),
            rule("", &["nodes"], &["list"], &[]),
            rule(
                "",
                &["configmaps"],
                &["get", "list", "create", "patch"],
                &policy::CONFIG_MAPS,
            ),
            rule(
                "admissionregistration.k8s.io",
                &[
                    "validatingadmissionpolicies",
                    "validatingadmissionpolicybindings",
                ],
                &["get"],
                &policy::NAMES,
            ),
        ];
        if self.namespaces.is_empty() {
            let account = self.application_service_account.as_str();
            let group = "rbac.authorization.k8s.io";
            rules.extend([
                rule("", &["namespaces"], &["get", "create"], &[]),
                rule(group, &["rolebindings"], &["create", "patch"], &[account]),
                rule(group, &["clusterroles"], &["bind"], &[account]),
            ]);
            rules.extend(self.reading_rules());
        }
        rules
    }

    /// Reading what applications consist of, and acting as they.
    fn reading_rules(&self) -> Vec<Value> {
        let mut rules = by_group(&self.kinds, &["get", "list", "watch"]);
        if !self.kinds.iter().any(|kind| kind == ENDPOINT_SLICES) {
            rules.extend(by_group(&[ENDPOINT_SLICES.to_owned()], &["list", "watch"]));
        }
        let account = self.application_service_account.as_str();
        rules.push(rule("", &["serviceaccounts"], &["impersonate"], &[account]));
        rules
    }

    /// What an application needs to write itself.
    fn application_rules(&self) -> Vec<Value> {
        by_group(&self.kinds, &["create", "patch", "delete"])
    }

    /// What a namespace of applications needs.
    fn within(&self, scope: &str) -> Vec<Value> {
        let (own, applications) = (self.role_name(), &self.application_service_account);
        vec![
            namespace(scope),
            account(scope, applications),
            role(Some(scope), applications, &self.application_rules()),
            application_binding_to(applications, scope, "Role"),
            role(Some(scope), &own, &self.reading_rules()),
            binding(Some(scope), &own, &own, false, self.own_subject()),
        ]
    }
}

/// The policy of fencing with its bindings.
pub fn fencing() -> Vec<Value> {
    policy::parts()
        .iter()
        .map(|part| part.manifest(None))
        .collect()
}

/// What lets the applications of a namespace write there what the ClusterRole
/// of the same name grants.
pub(super) fn application_binding(account: &str, namespace: &str) -> Value {
    application_binding_to(account, namespace, "ClusterRole")
}

fn application_binding_to(account: &str, namespace: &str, kind: &str) -> Value {
    let subject = json!({"kind": "ServiceAccount", "name": account, "namespace": namespace});
    let cluster = kind == "ClusterRole";
    binding(Some(namespace), account, account, cluster, subject)
}

fn metadata(scope: Option<&str>, name: &str) -> Value {
    let mut metadata = json!({"name": name, "labels": {MANAGED_BY_LABEL: MANAGED_BY}});
    if let Some(namespace) = scope {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata(None, name)})
}

fn account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(Some(namespace), name),
        "automountServiceAccountToken": false})
}

fn role(scope: Option<&str>, name: &str, rules: &[Value]) -> Value {
    let kind = if scope.is_some() {
        "Role"
    } else {
        "ClusterRole"
    };
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata(scope, name), "rules": rules})
}

fn binding(scope: Option<&str>, name: &str, role: &str, cluster: bool, subject: Value) -> Value {
    let kind = if scope.is_some() {
        "RoleBinding"
    } else {
        "ClusterRoleBinding"
    };
    let role_kind = if cluster { "ClusterRole" } else { "Role" };
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata(scope, name),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        "subjects": [subject]})
}

fn rule(group: &str, resources: &[&str], verbs: &[&str], names: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = names.into();
    }
    rule
}

/// One rule for each group of kinds.
fn by_group(kinds: &[String], verbs: &[&str]) -> Vec<Value> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for kind in kinds {
        let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
        groups.entry(group).or_default().push(plural);
    }
    groups
        .into_iter()
        .map(|(group, mut plurals)| {
            plurals.sort_unstable();
            plurals.dedup();
            rule(group, &plurals, verbs, &[])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(namespaces: &[&str]) -> Membership {
        Membership {
            name: "atos".to_owned(),
            hub: "hub".to_owned(),
            namespace: "flambeau-system".to_owned(),
            service_account: "flambeau".to_owned(),
            application_service_account: "flambeau-applications".to_owned(),
            namespaces: namespaces.iter().map(|name| (*name).to_owned()).collect(),
            kinds: vec!["services".to_owned(), "deployments.apps".to_owned()],
        }
    }

    /// What a verb is granted on, with the scope of the role.
    fn granted(manifests: &[Value], verb: &str) -> Vec<String> {
        let mut all = Vec::new();
        for role in manifests {
            let scope = role["metadata"]["namespace"].as_str().unwrap_or("*");
            for rule in role["rules"].as_array().into_iter().flatten() {
                let verbs = rule["verbs"].as_array().unwrap();
                if verbs.iter().any(|granted| granted == verb) {
                    all.push(format!(
                        "{scope} {} {}",
                        rule["resources"], rule["resourceNames"]
                    ));
                }
            }
        }
        all
    }

    #[test]
    fn nothing_is_granted_by_wildcard() {
        for namespaces in [&[][..], &["games"]] {
            let manifests = membership(namespaces).manifests();
            let rules: Vec<&Value> = manifests
                .iter()
                .filter_map(|manifest| manifest.get("rules"))
                .collect();
            assert!(rules.len() > 3);
            assert!(rules.iter().all(|rules| !rules.to_string().contains('*')));
        }
    }

    #[test]
    fn within_namespaces_nothing_of_an_application_is_read_elsewhere() {
        let manifests = membership(&["games"]).manifests();
        let everywhere = |verb: &str| -> Vec<String> {
            let all = granted(&manifests, verb).into_iter();
            all.filter(|line| line.starts_with('*')).collect()
        };
        assert_eq!(everywhere("watch"), [""; 0]);
        assert_eq!(everywhere("delete"), [""; 0]);
        assert_eq!(everywhere("impersonate"), [""; 0]);
        assert_eq!(
            everywhere("list"),
            [
                r#"* ["nodes"] null"#,
                r#"* ["configmaps"] ["flambeau-epochs","flambeau-fencing-probe","flambeau-fencing-stale-probe"]"#
            ]
        );
        assert_eq!(
            granted(&manifests, "impersonate"),
            [r#"games ["serviceaccounts"] ["flambeau-applications"]"#]
        );
    }

    #[test]
    fn flambeau_itself_deletes_nothing() {
        let own = membership(&[]);
        let bound: Vec<Value> = own
            .manifests()
            .into_iter()
            .filter(|manifest| manifest["metadata"]["name"] == own.role_name().as_str())
            .collect();
        assert!(granted(&bound, "list").len() > 2);
        assert_eq!(granted(&bound, "delete"), [""; 0]);
    }
}
