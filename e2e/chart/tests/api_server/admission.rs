//! What the hub refuses because of who asks, or because of another object.

use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use flambeau_testbed::{
    helm::NAMESPACE,
    wait::{self, Probe},
};
use libtest_mimic::Trial;
use serde_json::{Value, json};

use crate::cluster::{Cluster, GAMES, PATIENCE, SharedCluster};

/// Whose kubeconfig the tests have.
const ADMINISTRATOR: &str = "admin";

const OPERATOR: &str = "system:serviceaccount:flambeau-system:flambeau";

pub fn trials(cluster: &Arc<SharedCluster>) -> Vec<Trial> {
    vec![
        cluster.trial("admission::evidence_names_the_one_who_asked", requests),
        cluster.trial(
            "admission::the_record_of_a_move_is_not_deleted_by_a_detour",
            evidence,
        ),
        cluster.trial("admission::an_owner_does_not_evade_the_law", sensitivity),
        cluster.trial(
            "admission::the_operator_changes_tokens_and_no_other_secret",
            credentials,
        ),
        cluster.trial(
            "admission::facts_of_clusters_are_not_for_everybody",
            clusters,
        ),
        cluster.trial(
            "admission::an_application_is_created_with_its_finalizer",
            protection,
        ),
    ]
}

/// Waits until a policy is in force: until it refuses what it must.
fn refuses(what: &str, said: &str, attempt: impl Fn() -> Result<()>) -> Result<()> {
    let mut last = String::new();
    let refused = wait::until(what, PATIENCE, || {
        last = attempt().map_or_else(|error| format!("{error:#}"), |()| "it was taken".to_owned());
        Ok(if last.contains(said) {
            Probe::Done(())
        } else {
            Probe::Pending(last.clone())
        })
    });
    refused.map_err(|error| error.context(format!("{what} should be refused with: {said}")))
}

fn taken(what: &str, attempt: Result<()>) -> Result<()> {
    match attempt {
        Ok(()) => Ok(()),
        Err(error) => bail!("{what} should be taken: {error:#}"),
    }
}

/// Asks whether a user could patch an object, and changes nothing.
fn tried(cluster: &Cluster, user: &str, object: &[&str], patch: &str) -> Result<()> {
    let other = format!("--as={user}");
    let other = [other.as_str()];
    let by = if user == ADMINISTRATOR {
        &[]
    } else {
        &other[..]
    };
    let asked = ["--type=merge", "--dry-run=server", "-p", patch];
    cluster
        .kubectl(&[&["patch"], object, &asked, by].concat())
        .map(drop)
}

fn migration(more: &Value) -> Value {
    let mut migration = json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Migration",
        "metadata": {"name": "badges-by-hand", "namespace": GAMES},
        "spec": {"application": "badges", "type": "Relocate", "from": "ovh", "to": "atos",
            "trigger": "Request", "reason": "maintenance"},
    });
    merge(&mut migration["spec"], more);
    migration
}

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

fn requests(cluster: &Cluster) -> Result<()> {
    let ask = |user: &str, more: Value| cluster.admit(Some(user), &migration(&more));
    refuses(
        "another's name",
        "spec.requestedBy: is evidence of who asked: leave it out, or say sre",
        || ask("sre", json!({"requestedBy": "anna"})),
    )?;
    refuses(
        "the work of a policy",
        "spec.trigger: a Migration that a person creates",
        || ask("sre", json!({"trigger": "Policy"})),
    )?;
    refuses(
        "a part of an Evacuation",
        "create an Evacuation instead",
        || ask("sre", json!({"evacuation": "atos"})),
    )?;
    taken("one's own name", ask("sre", json!({"requestedBy": "sre"})))?;
    taken("no name", ask("sre", json!({})))?;
    let own = json!({"trigger": "Evacuation", "evacuation": "atos", "requestedBy": "anna"});
    taken("what the operator writes", ask(OPERATOR, own))?;

    let evacuation = |name: &str| {
        json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "Evacuation", "metadata": {"name": "atos"},
            "spec": {"cluster": "atos", "reason": "disks", "requestedBy": name},
        })
    };
    refuses("another's name", "leave it out, or say sre", || {
        cluster.admit(Some("sre"), &evacuation("anna"))
    })?;
    // Whoever goes on with what another asked for does not take the name away.
    cluster.apply(&[evacuation("admin")])?;
    let patch = |user: &str, patch: &str| tried(cluster, user, &["evacuation", "atos"], patch);
    taken(
        "a pause by another",
        patch("sre", r#"{"spec": {"pause": true}}"#),
    )?;
    refuses("a new name", "leave it out, or say sre", || {
        patch("sre", r#"{"spec": {"requestedBy": "otto"}}"#)
    })
}

/// Makes the garbage collector delete the object, because it takes its owner for gone.
fn orphaned(owner: &str) -> String {
    json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "Namespace", "name": owner, "uid": "0b1d5a72-0000-4000-8000-000000000000"},
    ]}})
    .to_string()
}

/// The record of a move is evidence: whoever may not delete it does not have it deleted by others.
fn evidence(cluster: &Cluster) -> Result<()> {
    let mut kept = migration(&json!({}));
    kept["metadata"]["name"] = json!("kept");
    cluster.apply(&[kept])?;
    let patch =
        |user: &str, patch: &str| tried(cluster, user, &["migration", "kept", "-n", GAMES], patch);
    for fate in [
        orphaned("nobody"),
        r#"{"metadata": {"finalizers": ["example.org/for-ever"]}}"#.to_owned(),
    ] {
        refuses(
            &fate,
            "metadata.ownerReferences, metadata.finalizers: only those who may delete the object",
            || patch("sre", &fate),
        )?;
        taken("the same by an administrator", patch(ADMINISTRATOR, &fate))?;
    }
    // Nor has it deleted with an owner that they may delete.
    let mut owned = migration(&json!({}));
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Evacuation", "name": "atos",
        "uid": "0b1d5a72-0000-4000-8000-000000000000",
    }]);
    refuses(
        "an owner from the beginning",
        "metadata.ownerReferences, metadata.finalizers: only those who may delete the object",
        || cluster.admit(Some("sre"), &owned),
    )?;
    taken("a pause", patch("sre", r#"{"spec": {"pause": true}}"#))
}

fn application(name: &str, sensitivity: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "GamesApplication",
        "metadata": {"name": name, "namespace": GAMES},
        "spec": {"sensitivity": sensitivity, "resources": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}]},
    })
}

fn sensitivity(cluster: &Cluster) -> Result<()> {
    // The floor is a label of the namespace.
    refuses(
        "less than the floor",
        "spec.sensitivity: Internal is less than Personal",
        || cluster.admit(Some("owner"), &application("badges", "Internal")),
    )?;
    cluster.apply(&[application("badges", "Sensitive")])?;
    let becomes = |user: &str, sensitivity: &str| {
        let patch = format!(r#"{{"spec": {{"sensitivity": "{sensitivity}"}}}}"#);
        tried(cluster, user, &["gapp", "badges", "-n", GAMES], &patch)
    };
    refuses(
        "less sensitive",
        "Sensitive becomes Personal: only those with the verb declassify",
        || becomes("owner", "Personal"),
    )?;
    taken("more sensitive", becomes("owner", "Restricted"))?;
    taken("the same", becomes("owner", "Sensitive"))?;
    // Whoever answers for the law, and may edit here as well.
    cluster.apply(&[json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "compliance-edits", "namespace": GAMES},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "compliance"}],
    })])?;
    let late = wait::until("compliance may edit", PATIENCE, || {
        Ok(match becomes("compliance", "Public") {
            Ok(()) => Probe::Done(()),
            Err(error) => Probe::Pending(format!("{error:#}")),
        })
    });
    cluster.kubectl(&["delete", "rolebinding", "compliance-edits", "-n", GAMES])?;
    late
}

fn credentials(cluster: &Cluster) -> Result<()> {
    let secret = |name: &str, renewed: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"flambeau.dev/renewed-token": renewed}},
            "stringData": {"kubeconfig": "before"},
        })
    };
    // kubectl reads what it patches, which the operator need not.
    let group = "rbac.authorization.k8s.io";
    let role = json!({
        "apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": "reads", "namespace": NAMESPACE},
        "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}],
    });
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": "reads", "namespace": NAMESPACE},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "reads"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": OPERATOR}],
    });
    let secrets = [secret("member-joined", "true"), secret("another", "false")];
    cluster.apply(&[&[role, binding], &secrets[..]].concat())?;
    let patch = |name: &str, patch: &str| {
        tried(cluster, OPERATOR, &["secret", name, "-n", NAMESPACE], patch)
    };
    let data = r#"{"stringData": {"kubeconfig": "after"}}"#;
    refuses(
        "another Secret",
        "Secrets with label flambeau.dev/renewed-token=true only",
        || patch("another", data),
    )?;
    refuses(
        "a label",
        "the operator changes the data of a Secret only",
        || patch("member-joined", r#"{"metadata": {"labels": {"app": "x"}}}"#),
    )?;
    taken("a renewed token", patch("member-joined", data))
}

fn clusters(cluster: &Cluster) -> Result<()> {
    let provider = json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "CloudProvider", "metadata": {"name": "ovh"},
        "spec": {"legalEntity": "ovh", "registeredOffice": "FR", "headquarters": "FR", "ownership": {"chain": "Complete"}},
    });
    let mut unused = provider.clone();
    unused["metadata"]["name"] = json!("unused");
    let member = |namespace: &str| {
        json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster", "metadata": {"name": "ovh"},
            "spec": {"provider": "ovh", "residency": "FR",
                "kubeconfigSecret": {"namespace": namespace, "name": "member-ovh"},
                "access": {"applicationServiceAccount": "deployer", "namespaces": ["games"]}},
        })
    };
    refuses(
        "a Secret elsewhere",
        "spec.kubeconfigSecret.namespace: Flambeau reads Secrets in namespace flambeau-system only",
        || cluster.admit(None, &member("kube-system")),
    )?;
    cluster.apply(&[provider, unused, member(NAMESPACE)])?;
    let patch = |user: &str, patch: &str| tried(cluster, user, &["member", "ovh"], patch);
    taken(
        "a cordon by an SRE",
        patch("sre", r#"{"spec": {"cordoned": true}}"#),
    )?;
    for fact in [
        r#"{"spec": {"residency": "DE"}}"#,
        r#"{"spec": {"provider": "unused"}}"#,
        r#"{"spec": {"kubeconfigSecret": {"name": "another"}}}"#,
        // Whoever may not go further on the cluster does not let Flambeau go there for them.
        r#"{"spec": {"access": null}}"#,
        r#"{"spec": {"access": {"applicationServiceAccount": null}}}"#,
        r#"{"spec": {"access": {"namespaces": ["games", "payments"]}}}"#,
        // Nor is a cluster made to look lost, or full.
        r#"{"spec": {"health": {"unreachableAfterSeconds": 600}}}"#,
        r#"{"spec": {"capacity": {"cpu": "0"}}}"#,
        r#"{"spec": {"cordoned": true, "residency": "DE"}}"#,
    ] {
        refuses(
            fact,
            "only those who may create a MemberCluster may change more of it than spec.cordoned",
            || patch("sre", fact),
        )?;
        taken("the same by an administrator", patch(ADMINISTRATOR, fact))?;
    }
    let orphan = orphaned("member-cluster");
    refuses(
        "an owner that is not there",
        "metadata.ownerReferences, metadata.finalizers: only those",
        || patch("sre", &orphan),
    )?;
    taken(
        "what the garbage collector does to end a deletion in the foreground",
        patch(
            "system:serviceaccount:kube-system:generic-garbage-collector",
            r#"{"metadata": {"finalizers": ["foregroundDeletion"]}}"#,
        ),
    )?;
    let delete =
        |name: &str| cluster.kubectl(&["delete", "cloudprovider", name, "--dry-run=server"]);
    refuses(
        "a provider in use",
        "MemberCluster ovh is of this provider",
        || delete("ovh").map(|_| ()),
    )?;
    ensure!(
        delete("unused").is_ok(),
        "a provider that nobody uses may go"
    );
    Ok(())
}

/// Protected from its creation on, whoever applies it again, until the finalizer is taken off.
fn protection(cluster: &Cluster) -> Result<()> {
    const FINALIZER: &str = "flambeau.dev/cleanup";
    let file = cluster.file(&[application("protected", "Personal")])?;
    let shown = "-o=jsonpath={.metadata.finalizers}";
    wait::until("the finalizer", PATIENCE, || {
        let made = cluster.kubectl(&["create", "--dry-run=server", "-f", &file, shown])?;
        Ok(if made.contains(FINALIZER) {
            Probe::Done(())
        } else {
            Probe::Pending(format!("finalizers: {made}"))
        })
    })?;
    for manner in [
        "--server-side=true",
        "--server-side=true",
        "--server-side=false",
    ] {
        let applied = cluster.kubectl(&["apply", manner, "-f", &file, shown])?;
        ensure!(applied.contains(FINALIZER), "{manner}: {applied}");
    }
    let off = [
        "patch",
        "-f",
        &file,
        "--type=merge",
        "-p",
        r#"{"metadata": {"finalizers": null}}"#,
        shown,
    ];
    let left = cluster.kubectl(&off)?;
    ensure!(left.is_empty(), "taken off, and put on again: {left}");
    cluster.kubectl(&["delete", "-f", &file]).map(drop)
}
