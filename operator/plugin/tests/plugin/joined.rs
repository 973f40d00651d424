//! Join and unjoin, between two real API servers.

use crate::{
    hub::{Hub, SharedHub},
    objects::{application, serving},
    trial,
};
use anyhow::{Context, Result, ensure};
use flambeau_testbed::{
    control_plane::{ControlPlane, Options},
    shared::Shared,
    wait::{self, Probe},
};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{
    fs,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tempfile::TempDir;

const FLAMBEAU: &str = "system:serviceaccount:flambeau-system:flambeau";
const APPLICATIONS: &str = "system:serviceaccount:games:flambeau-applications";
const EVERYTHING: &str = "clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts";
const PATIENCE: Duration = Duration::from_secs(60);

pub fn trials(hub: &Arc<SharedHub>) -> Vec<Trial> {
    vec![
        trial(hub, "joined::once_and_again", once_and_again),
        trial(hub, "joined::no_right_too_many", no_right_too_many),
        trial(hub, "joined::wider_and_narrower", wider_and_narrower),
        trial(hub, "joined::after_a_revocation", after_a_revocation),
        trial(hub, "joined::as_manifests", as_manifests),
        trial(hub, "joined::refused", refused),
        trial(
            hub,
            "joined::left_with_applications",
            left_with_applications,
        ),
        trial(hub, "joined::left", left),
        trial(
            hub,
            "joined::left_by_one_hub_of_two",
            left_by_one_hub_of_two,
        ),
        trial(
            hub,
            "joined::left_where_somebody_else_lives_too",
            left_where_somebody_else_lives_too,
        ),
        trial(hub, "joined::left_while_gone", left_while_gone),
    ]
}

/// The member of all tests, which come one after the other.
fn member() -> Result<&'static ControlPlane> {
    static MEMBER: LazyLock<Arc<Shared<ControlPlane>>> = LazyLock::new(|| {
        Shared::new(|| {
            ControlPlane::start_temporary(&Options {
                controller_manager: true,
                ..Options::default()
            })
        })
    });
    MEMBER.get()
}

fn at(verb: &str) -> Result<String> {
    let file = member()?.kubeconfig().display();
    Ok(format!("{verb} --kubeconfig-of-member {file}"))
}

/// The command that joins it.
fn joining(more: &str) -> Result<String> {
    let join = at("join france")?;
    Ok(format!("{join} --provider atos --residency FR {more}"))
}

/// Takes the member out, whatever the test before left.
fn clean(hub: &Hub) -> Result<()> {
    hub.expect_anywhere(0, &at("unjoin france")?)?;
    settled("flambeau-system")
}

/// Waits until a namespace that was deleted is gone.
fn settled(namespace: &str) -> Result<()> {
    let member = member()?;
    wait::until("the namespace is gone", PATIENCE, || {
        let left = member.kubectl(&["get", "namespace", namespace, "--ignore-not-found"])?;
        Ok(if left.is_empty() {
            Probe::Done(())
        } else {
            Probe::Pending(left)
        })
    })
}

fn may(user: &str, question: &str) -> Result<bool> {
    let mut arguments = vec!["auth", "can-i", "--as", user];
    arguments.extend(question.split(' '));
    match member()?.kubectl(&arguments) {
        Ok(answer) => Ok(answer.trim() == "yes"),
        // kubectl says no with an exit code, and nothing on standard error.
        Err(error) if format!("{error:#}").trim_end().ends_with(':') => Ok(false),
        Err(error) => Err(error),
    }
}

/// The Secret on the hub.
fn stored(hub: &Hub) -> Result<Value> {
    let what = ["get", "secret", "member-france", "-n", "flambeau-system"];
    let secret = hub.kubectl(&[&what[..], &["-o", "json"]].concat())?;
    Ok(serde_json::from_str(&secret)?)
}

fn rows(out: &str, done: &str) -> usize {
    let end = format!(" {done}");
    out.lines().filter(|line| line.ends_with(&end)).count()
}

fn once_and_again(hub: &Hub) -> Result<()> {
    clean(hub)?;
    let line = joining("--namespace games")?;
    let first = hub.expect_anywhere(0, &line)?;
    for made in [
        "member   ServiceAccount flambeau-system/flambeau",
        "member   ValidatingAdmissionPolicy flambeau-fencing",
        "hub      Secret flambeau-system/member-france",
        "hub      MemberCluster france",
    ] {
        ensure!(first.out.contains(made), "{made}: {}", first.out);
    }
    ensure!(rows(&first.out, "created") > 15, "{}", first.out);
    ensure!(
        first.out.contains(&format!("answers {FLAMBEAU}")),
        "{}",
        first.out
    );
    // What is a credential stands in the Secret and nowhere else.
    let secret = stored(hub)?["data"]["kubeconfig"].clone();
    let secret: k8s_openapi::ByteString = serde_json::from_value(secret)?;
    let kubeconfig: Value = serde_yaml::from_slice(&secret.0)?;
    let token = kubeconfig["users"][0]["user"]["token"]
        .as_str()
        .context("no token")?;
    ensure!(!first.out.contains(token) && !first.err.contains(token));
    let again = hub.expect_anywhere(0, &line)?;
    ensure!(
        rows(&again.out, "created") + rows(&again.out, "changed") == 0,
        "{}",
        again.out
    );
    ensure!(rows(&again.out, "unchanged") > 15, "{}", again.out);
    let cluster = hub.get("member/france")?;
    let spec = &cluster["spec"];
    ensure!(
        spec["provider"] == "atos" && spec["residency"] == "FR",
        "{spec}"
    );
    ensure!(spec["access"]["namespaces"][0] == "games", "{spec}");
    ensure!(
        spec["access"]["applicationServiceAccount"] == "flambeau-applications",
        "{spec}"
    );
    Ok(())
}

fn no_right_too_many(hub: &Hub) -> Result<()> {
    clean(hub)?;
    hub.expect_anywhere(
        0,
        &joining("--namespace games --kind services,deployments.apps")?,
    )?;
    for (user, question) in [
        (FLAMBEAU, "list deployments.apps -n games"),
        (FLAMBEAU, "watch endpointslices.discovery.k8s.io -n games"),
        (
            FLAMBEAU,
            "impersonate serviceaccounts/flambeau-applications -n games",
        ),
        (FLAMBEAU, "patch configmaps/flambeau-epochs -n games"),
        (
            FLAMBEAU,
            "get validatingadmissionpolicies/flambeau-fencing -A",
        ),
        (
            FLAMBEAU,
            "create serviceaccounts/flambeau --subresource=token -n flambeau-system",
        ),
        (APPLICATIONS, "create deployments.apps -n games"),
        (APPLICATIONS, "delete services -n games"),
    ] {
        ensure!(may(user, question)?, "{user} may not {question}");
    }
    for (user, question) in [
        (FLAMBEAU, "create deployments.apps -n games"),
        (FLAMBEAU, "get secrets -n games"),
        (FLAMBEAU, "list deployments.apps -n default"),
        (FLAMBEAU, "impersonate serviceaccounts/default -n games"),
        (
            FLAMBEAU,
            "impersonate serviceaccounts/flambeau-applications -n default",
        ),
        (FLAMBEAU, "impersonate users -A"),
        (FLAMBEAU, "patch configmaps/another -n games"),
        (FLAMBEAU, "create namespaces -A"),
        (FLAMBEAU, "create rolebindings -n games"),
        (
            FLAMBEAU,
            "update validatingadmissionpolicies/flambeau-fencing -A",
        ),
        (
            FLAMBEAU,
            "create serviceaccounts/default --subresource=token -n flambeau-system",
        ),
        (APPLICATIONS, "create deployments.apps -n default"),
        (APPLICATIONS, "get secrets -n games"),
        (APPLICATIONS, "create pods -n games"),
        (
            APPLICATIONS,
            "create roles.rbac.authorization.k8s.io -n games",
        ),
    ] {
        ensure!(!may(user, question)?, "{user} may {question}");
    }
    Ok(())
}

fn wider_and_narrower(hub: &Hub) -> Result<()> {
    clean(hub)?;
    hub.expect_anywhere(0, &joining("--namespace games --namespace staff")?)?;
    let narrower = hub.expect_anywhere(0, &joining("--namespace games")?)?;
    ensure!(rows(&narrower.out, "deleted") == 5, "{}", narrower.out);
    ensure!(!may(FLAMBEAU, "list services -n staff")?);
    ensure!(!narrower.out.contains("no --namespace"), "{}", narrower.out);
    let wider = hub.expect_anywhere(0, &joining("")?)?;
    ensure!(
        wider.out.contains("no --namespace: whoever steals"),
        "{}",
        wider.out
    );
    ensure!(
        wider.out.contains("ClusterRole flambeau-applications"),
        "{}",
        wider.out
    );
    ensure!(rows(&wider.out, "deleted") == 5, "{}", wider.out);
    for question in [
        "list services -n staff",
        "create namespaces -A",
        "create rolebindings/flambeau-applications -n staff",
        "bind clusterroles/flambeau-applications -A",
    ] {
        ensure!(may(FLAMBEAU, question)?, "may not {question}");
    }
    for question in [
        "bind clusterroles/cluster-admin -A",
        "create rolebindings/another -n staff",
        "create services -n staff",
    ] {
        ensure!(!may(FLAMBEAU, question)?, "may {question}");
    }
    Ok(())
}

fn after_a_revocation(hub: &Hub) -> Result<()> {
    clean(hub)?;
    let line = joining("--namespace games")?;
    hub.expect_anywhere(0, &line)?;
    let held = || -> Result<Value> { Ok(stored(hub)?["data"]["kubeconfig"].clone()) };
    let before = held()?;
    // With its ServiceAccount ends a token.
    member()?.kubectl(&[
        "delete",
        "serviceaccount",
        "flambeau",
        "-n",
        "flambeau-system",
    ])?;
    let again = hub.expect_anywhere(0, &line)?;
    ensure!(rows(&again.out, "changed") == 1, "{}", again.out);
    ensure!(held()? != before);
    Ok(())
}

fn as_manifests(hub: &Hub) -> Result<()> {
    clean(hub)?;
    let all = hub.expect_anywhere(0, &joining("--namespace games --dry-run")?)?;
    ensure!(all.out.contains("# On the member."), "{}", all.out);
    ensure!(all.out.contains("# On the hub."), "{}", all.out);
    let there = member()?.kubectl(&["get", "clusterroles", "-o", "name"])?;
    ensure!(!there.contains("flambeau"), "{there}");
    ensure!(hub.get("member/france").is_err());
    // What is printed is what join makes.
    let folder = TempDir::new()?;
    let file = folder.path().join("member.yaml");
    let only = hub.expect_anywhere(0, &joining("--namespace games --dry-run=member")?)?;
    ensure!(!only.out.contains("kind: MemberCluster"), "{}", only.out);
    fs::write(&file, only.out)?;
    let file = file.display().to_string();
    member()?.kubectl(&[
        "apply",
        "--server-side",
        "--field-manager=kubectl-flambeau",
        "-f",
        &file,
    ])?;
    let join = hub.expect_anywhere(0, &joining("--namespace games")?)?;
    ensure!(rows(&join.out, "changed") == 0, "{}", join.out);
    ensure!(rows(&join.out, "created") == 2, "{}", join.out);
    Ok(())
}

fn refused(hub: &Hub) -> Result<()> {
    clean(hub)?;
    for (more, says) in [
        ("--namespace kube-system", "belongs to the system"),
        ("--namespace flambeau-system", "belongs to the system"),
        ("--kind Deployment", "kubectl api-resources"),
        ("--token-lifetime 5m", "at least 10m"),
        ("--server http://127.0.0.1:1", "https://"),
        ("--residency XX1", "MemberCluster"),
        ("--secret-namespace nowhere", "nowhere"),
    ] {
        let more = more.replace("--residency XX1", "");
        let answer = hub.expect_anywhere(
            1,
            &joining(&more).map(|line| {
                if says == "MemberCluster" {
                    line.replace("--residency FR", "--residency france")
                } else {
                    line
                }
            })?,
        )?;
        ensure!(answer.err.contains(says), "{more}: {}", answer.err);
    }
    // What the operator would refuse is refused here.
    let folder = TempDir::new()?;
    let file = folder.path().join("insecure");
    let kubeconfig = fs::read_to_string(member()?.kubeconfig())?;
    let mut kubeconfig: Value = serde_yaml::from_str(&kubeconfig)?;
    let cluster = kubeconfig["clusters"][0]["cluster"]
        .as_object_mut()
        .context("no cluster")?;
    cluster.remove("certificate-authority-data");
    let without = kubeconfig.to_string();
    kubeconfig["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = true.into();
    let line = format!(
        "join france --kubeconfig-of-member {} --provider atos --residency FR --dry-run",
        file.display()
    );
    fs::write(&file, without)?;
    let answer = hub.expect_anywhere(1, &line)?;
    ensure!(
        answer.err.contains("add certificate-authority-data"),
        "{}",
        answer.err
    );
    fs::write(&file, kubeconfig.to_string())?;
    let answer = hub.expect_anywhere(1, &line)?;
    ensure!(
        answer.err.contains("insecure-skip-tls-verify is refused"),
        "{}",
        answer.err
    );

    hub.expect_anywhere(0, &joining("")?)?;
    let other = joining("")?.replace("join france", "join another");
    let answer = hub.expect_anywhere(2, &other)?;
    ensure!(answer.err.contains("--service-account"), "{}", answer.err);
    Ok(())
}

fn left_with_applications(hub: &Hub) -> Result<()> {
    clean(hub)?;
    hub.expect_anywhere(0, &joining("--namespace games")?)?;
    hub.apply(&[application("tickets")])?;
    hub.report(&[serving("tickets", "france")])?;
    // Nor does it lose the namespace that they are in.
    let elsewhere = hub.expect_anywhere(2, &joining("--namespace staff")?)?;
    ensure!(elsewhere.err.contains("games/tickets"), "{}", elsewhere.err);
    // Nor a kind that they consist of: what nobody may see runs on for ever.
    let fewer = hub.expect_anywhere(2, &joining("--namespace games --kind configmaps")?)?;
    for told in ["games/tickets", "deployments.apps", "--kind"] {
        ensure!(fewer.err.contains(told), "{}", fewer.err);
    }
    hub.expect_anywhere(0, &joining("--namespace games --namespace staff")?)?;
    for line in [
        at("unjoin france")?,
        "unjoin france --without-member".to_owned(),
    ] {
        let answer = hub.expect_anywhere(2, &line)?;
        ensure!(answer.err.contains("games/tickets"), "{}", answer.err);
        ensure!(
            answer
                .err
                .contains("kubectl flambeau evacuate cluster/france"),
            "{}",
            answer.err
        );
    }
    hub.get("member/france")?;
    ensure!(may(FLAMBEAU, "list services -n games")?);
    hub.kubectl(&["delete", "gapp", "tickets", "-n", "games"])?;
    Ok(())
}

fn left(hub: &Hub) -> Result<()> {
    clean(hub)?;
    hub.expect_anywhere(0, &joining("--namespace games")?)?;
    let member = member()?;
    let epochs = [
        "create",
        "configmap",
        "flambeau-epochs",
        "-n",
        "games",
        "--from-literal=a=2026-11-22T09:00:00Z/0000000002",
    ];
    member.kubectl(&epochs)?;
    member.kubectl(&[
        "label",
        "configmap",
        "flambeau-epochs",
        "-n",
        "games",
        "app.kubernetes.io/managed-by=flambeau",
    ])?;
    let dry = hub.expect_anywhere(0, &format!("{} --dry-run", at("unjoin france")?))?;
    ensure!(rows(&dry.out, "would be deleted") > 10, "{}", dry.out);
    hub.get("member/france")?;
    let gone = hub.expect_anywhere(0, &at("unjoin france")?)?;
    ensure!(rows(&gone.out, "deleted") > 10, "{}", gone.out);
    settled("flambeau-system")?;
    for kinds in [
        EVERYTHING,
        "validatingadmissionpolicies,validatingadmissionpolicybindings,configmaps",
    ] {
        let left = member.kubectl(&["get", kinds, "-A", "-o", "name"])?;
        ensure!(!left.contains("flambeau"), "{left}");
    }
    ensure!(hub.get("member/france").is_err());
    let secrets = hub.kubectl(&["get", "secrets", "-A", "-o", "name"])?;
    ensure!(!secrets.contains("france"), "{secrets}");
    member.kubectl(&["get", "namespace", "games"])?;
    let again = hub.expect_anywhere(0, &at("unjoin france")?)?;
    ensure!(rows(&again.out, "deleted") == 0, "{}", again.out);
    Ok(())
}

fn left_by_one_hub_of_two(hub: &Hub) -> Result<()> {
    clean(hub)?;
    hub.expect_anywhere(0, &joining("--namespace games")?)?;
    let second = joining("--namespace games --service-account second")?;
    hub.expect_anywhere(0, &second.replace("join france", "join again"))?;
    let one = hub.expect_anywhere(0, &at("unjoin again")?)?;
    ensure!(one.out.contains("other memberships share"), "{}", one.out);
    let member = member()?;
    member.kubectl(&["get", "validatingadmissionpolicy", "flambeau-fencing"])?;
    ensure!(may(APPLICATIONS, "create services -n games")?);
    ensure!(may(FLAMBEAU, "list services -n games")?);
    let user = "system:serviceaccount:flambeau-system:second";
    ensure!(!may(user, "list services -n games")?);
    Ok(())
}

fn left_where_somebody_else_lives_too(hub: &Hub) -> Result<()> {
    clean(hub)?;
    hub.expect_anywhere(0, &joining("--namespace games")?)?;
    let member = member()?;
    // As a Flambeau of its own would have, that came later.
    let own = ["secret", "member-of-its-own", "-n", "flambeau-system"];
    let create = ["create", "secret", "generic"];
    member.kubectl(&[&create[..], &own[1..], &["--from-literal=kubeconfig=its"]].concat())?;
    for options in [" --dry-run", ""] {
        let answer = hub.expect_anywhere(0, &format!("{}{options}", at("unjoin france")?))?;
        ensure!(
            answer
                .out
                .contains("what is in it: Secret flambeau-system/member-of-its-own\n"),
            "{}",
            answer.out
        );
        let left = if options.is_empty() {
            "left"
        } else {
            "would be left"
        };
        ensure!(rows(&answer.out, left) == 1, "{}", answer.out);
    }
    member.kubectl(&[&["get"], &own[..]].concat())?;
    let accounts = [
        "get",
        "serviceaccounts",
        "-n",
        "flambeau-system",
        "-o",
        "name",
    ];
    let left = member.kubectl(&accounts)?;
    ensure!(!left.contains("flambeau"), "{left}");
    // Nothing is forgotten: the same command takes the rest when it is empty.
    member.kubectl(&[&["delete"], &own[..]].concat())?;
    let again = hub.expect_anywhere(0, &at("unjoin france")?)?;
    ensure!(rows(&again.out, "deleted") == 1, "{}", again.out);
    settled("flambeau-system")
}

fn left_while_gone(hub: &Hub) -> Result<()> {
    clean(hub)?;
    hub.expect_anywhere(0, &joining("--namespace games")?)?;
    let answer = hub.expect_anywhere(0, "unjoin france --without-member")?;
    for left in [
        "ServiceAccount flambeau-system/flambeau",
        "flambeau-fencing",
        "flambeau-applications",
        "namespaces games",
        "--kubeconfig-of-member",
    ] {
        ensure!(answer.out.contains(left), "{left}: {}", answer.out);
    }
    ensure!(hub.get("member/france").is_err());
    // It came back.
    clean(hub)
}
