//! The operator with the rights that the chart gives it, and no other.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test ends with what goes wrong"
)]

mod hub;

use flambeau_chart::{rendered, rights};
use flambeau_crds::Migration;
use flambeau_operator::{act::HubWrites, hub as operator_hub, leader::Leadership, transport};
use flambeau_testbed::audit::{Right, Use};
use hub::{GAMES, Hub};
use kube::{
    Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[test]
fn every_right_of_the_chart_is_needed_and_none_is_missing() {
    let mut hub = Hub::start();
    hub.start_operator();
    declare(&hub);
    move_about(&hub);
    begin_twice(&hub);
    take_away(&hub);

    let granted = granted();
    hub.until("every right was used", |hub| {
        let used = used(hub);
        let idle: Vec<String> = granted
            .iter()
            .filter(|right| !used.contains(right))
            .map(|(group, resource, verb)| format!("{verb} {resource} ({group})"))
            .collect();
        if idle.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "the chart grants what the operator never asked for: {}",
                idle.join(", ")
            ))
        }
    });
    let refused: Vec<Use> = hub.uses().into_iter().filter(|one| one.refused).collect();
    assert!(refused.is_empty(), "the operator was refused: {refused:#?}");
    let more: Vec<_> = used(&hub).difference(&granted).cloned().collect();
    assert!(more.is_empty(), "allowed by something else: {more:?}");
    // Renewed tokens are secrets like others.
    let log = hub.log();
    for member in ["one", "two"] {
        let token = hub.token(member);
        assert!(token.len() > 100 && !log.contains(&token), "{member}");
    }
    let secrets = granted
        .iter()
        .filter(|(_, resource, _)| resource == "secrets");
    println!(
        "{} rights (one verb on one resource each), each of them used; {} on Secrets, of one namespace",
        granted.len(),
        secrets.count()
    );

    let (code, said) = hub.check();
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("renews the Lease flambeau-system/flambeau-operator"),
        "{said}"
    );
    hub.stop_operator();
    let (code, said) = hub.check();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("nobody holds the Lease"), "{said}");
}

/// Places two applications, one of them with traffic, and one object of every kind that people write.
fn declare(hub: &Hub) {
    hub.apply(&application("badges", &[config("badges")]));
    // What a controller would say of pods.
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "website", "labels": {"kubernetes.io/service-name": "website"}},
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": true}}],
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "website"}, "spec": {"ports": [{"port": 80}]},
    });
    let mut website = application("website", &[service, slice]);
    website["spec"]["sensitivity"] = json!("Public");
    website["spec"]["traffic"] = json!({
        "hostnames": ["website.games.example"], "service": {"name": "website", "port": 80},
    });
    hub.apply(&website);
    hub.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Freeze", "metadata": {"name": "past"},
        "spec": {"from": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z", "reason": "ceremony"},
    }));
    hub.await_condition("gapp/badges", "Ready", "True");
    hub.until("the website is known at the edge", |hub| {
        hub.try_kubectl(&["get", "httproute/website"])?;
        slice_of_port(hub, "8080")
    });
}

/// Refuses places, so that there is a move, and the same trouble twice; and empties a cluster.
fn move_about(hub: &Hub) {
    hub.apply(&refuse(&["east"]));
    hub.await_cluster("badges", "two");
    hub.await_condition("gapp/badges", "Reconciling", "False");
    for _ in 0..2 {
        hub.apply(&refuse(&["east", "west"]));
        hub.await_condition("gapp/badges", "Lawful", "False");
        hub.apply(&refuse(&["east"]));
        hub.await_condition("gapp/badges", "Lawful", "True");
    }
    hub.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Evacuation", "metadata": {"name": "nowhere"},
        "spec": {"cluster": "nowhere", "reason": "to be told that there is none"},
    }));
    hub.await_condition("evacuation/nowhere", "Stalled", "True");
    // Another port is another slice: the one before goes.
    let ports = r#"[{"op": "replace", "path": "/spec/resources/1/ports/0/port", "value": 9090}]"#;
    hub.kubectl(&["patch", "gapp/website", "--type=json", "-p", ports]);
    hub.until("the slice of another port is there", |hub| {
        slice_of_port(hub, "9090")
    });
}

/// Whether there is one slice of the website at the edge, with this port.
fn slice_of_port(hub: &Hub, port: &str) -> Result<(), String> {
    let path = "jsonpath={.items[*].ports[*].port}";
    let of_website = "flambeau.dev/application=website";
    let found = hub.try_kubectl(&["get", "endpointslices", "-l", of_website, "-o", path])?;
    if found == port { Ok(()) } else { Err(found) }
}

/// Begins a move that another operator has begun a moment before, as only a race brings about: with the operator's
/// credentials and code.
fn begin_twice(hub: &Hub) {
    let migration: Migration = serde_json::from_value(json!({
        "metadata": {"name": "race", "namespace": GAMES},
        "spec": {"application": "nobody", "type": "Relocate", "from": "one", "to": "two", "trigger": "Request",
            "reason": "to be made twice"},
    }))
    .unwrap();
    let kubeconfig = Kubeconfig::read_from(hub.kubeconfig()).unwrap();
    let run = async {
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let config = config.unwrap();
        let client = transport::client(&config, &Leadership::always()).unwrap();
        let known = operator_hub::Hub::new(client);
        let writes = HubWrites::default();
        for _ in 0..2 {
            let made = writes.create(&known, &known.migrations, GAMES, &migration);
            made.await.unwrap();
        }
    };
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(run);
}

fn take_away(hub: &Hub) {
    hub.delete("gapp");
    hub.delete("migrations,evacuations,freezes,member");
    hub.delete("cprov");
}

fn application(name: &str, resources: &[Value]) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "GamesApplication",
        "metadata": {"name": name, "namespace": GAMES},
        "spec": {
            "sensitivity": "Personal", "placement": {"preferredClusters": ["one"]},
            "migration": {"stages": [100], "stageSeconds": 1, "soakSeconds": 1, "drainSeconds": 1},
            "resources": resources,
        },
    })
}

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": "value"}})
}

fn refuse(providers: &[&str]) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "SovereigntyPolicy", "metadata": {"name": "law"},
        "spec": {"sensitivities": ["Personal"], "refusedProviders": providers},
    })
}

/// Group, resource and verb of everything that the chart allows the operator.
fn granted() -> BTreeSet<Right> {
    let objects = rendered::objects(&[]).unwrap();
    let names = ["ClusterRole flambeau-operator", "Role flambeau"];
    let roles: Vec<_> = objects
        .iter()
        .filter(|object| names.contains(&rendered::name(object).as_str()))
        .collect();
    assert_eq!(roles.len(), names.len());
    let rights = roles.into_iter().flat_map(rights::of);
    rights
        .map(|right| (right.group, right.resource, right.verb))
        .collect()
}

/// The same of everything that it asked for. Which version the hub is, anybody may ask.
fn used(hub: &Hub) -> BTreeSet<Right> {
    let uses = hub.uses().into_iter().filter(|one| !one.of_path());
    uses.flat_map(Use::rights).collect()
}
