//! What people declare that cannot work, or only in some places.

use anyhow::{Result, ensure};
use flambeau_crds::Sensitivity;
use flambeau_scenarios::fleet;
use serde_json::{Value, json};

use crate::{load::Counted, wait::until, world::World};

/// A kind of custom resources.
const MEDALS: &str = "medals.games.example";

fn medal_kind() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": MEDALS },
        "spec": {
            "group": "games.example", "scope": "Namespaced",
            "names": { "plural": "medals", "singular": "medal", "kind": "Medal" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            } } }],
        },
    })
}

/// A custom resource moves along to a member that serves its kind; one that does not is no target.
pub fn kinds(world: &World) -> Result<Counted> {
    let stage = world.stage("kinds")?;
    for member in ["alibaba", "ovh"] {
        world.member(member).apply(&medal_kind().to_string())?;
    }
    // Every member is joined for the kind, also the one that does not serve it.
    let kinds = format!("--kind=configmaps,deployments.apps,services,{MEDALS}");
    fleet::join(&world.testbed, &[&kinds])?;
    let medal = json!({ "apiVersion": "games.example/v1", "kind": "Medal", "metadata": { "name": "gold" } });
    let asked = stage.asked(Sensitivity::Personal, &["alibaba", "atos"]);
    let played = stage.play(asked, |object| object.spec.resources.push(medal))?;
    played.whole_at("alibaba")?;
    let load = played.load()?;
    // atos is preferred and lawful, and does not serve the kind.
    world.sign_european()?;
    played.rests_at("ovh")?;
    played.whole_at("ovh")?;
    played.nothing_at("alibaba")?;
    let counted = load.ends_clean()?;
    // As long as the rights for the kind are there.
    played.delete()?;
    played.nothing_at("ovh")?;
    Ok(counted)
}

/// Kubeconfigs that are garbage, lead nowhere or trust the wrong authority: the member says so, and the others do not
/// mind.
pub fn kubeconfigs(world: &World) -> Result<Counted> {
    let stage = world.stage("kubeconfigs")?;
    let played = stage.play(stage.asked(Sensitivity::Public, &["alibaba"]), |_| {})?;
    let load = played.load()?;
    let good = fleet::kubeconfig(&world.testbed, "ovh")?;
    let address = world.testbed.addresses();
    let nowhere = good.replace(
        &address.cluster(4).to_string(),
        &address.cluster(9).to_string(),
    );
    ensure!(
        nowhere != good,
        "the kubeconfig names the address of its API server"
    );
    let server = format!("https://{}:6443", address.cluster(3));
    let wrong = good.replace(&format!("https://{}:6443", address.cluster(4)), &server);
    ensure!(wrong != good, "the kubeconfig names its API server");
    for (what, text) in [
        ("garbage", "medals: ["),
        ("nowhere", nowhere.as_str()),
        ("wrong authority", wrong.as_str()),
    ] {
        world
            .testbed
            .hub()
            .apply(&fleet::secret_with("ovh", text.as_bytes())?)?;
        ready_is_not_true(world, what)?;
        world
            .testbed
            .hub()
            .apply(&fleet::secret_with("ovh", good.as_bytes())?)?;
        world.testbed.hub().kubectl(&[
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            "member/ovh",
        ])?;
    }
    played.rests_at("alibaba")?;
    load.ends_clean()
}

fn ready_is_not_true(world: &World, what: &str) -> Result<()> {
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} \
                 {.status.conditions[?(@.type==\"Ready\")].message}";
    until(
        &format!("ovh says that its kubeconfig is of no use ({what})"),
        || {
            let seen = world
                .testbed
                .hub()
                .kubectl(&["get", "member", "ovh", "--output", ready])?;
            let message = seen.split_once(' ').map_or("", |(_, message)| message);
            Ok((seen.starts_with("True") || message.is_empty()).then_some(seen))
        },
    )
}
