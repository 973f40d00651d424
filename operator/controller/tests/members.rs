//! Members against a real API server: what is written, what is not, what is
//! seen, and what is said when something is wrong.

#![allow(clippy::unwrap_used, reason = "a test ends with what went wrong")]

#[path = "members/between.rs"]
mod between;
#[path = "members/deputy.rs"]
mod deputy;
#[path = "members/fencing.rs"]
mod fencing;
#[path = "members/hostile.rs"]
mod hostile;
#[path = "members/joined.rs"]
mod joined;
#[path = "members/outdated.rs"]
mod outdated;
#[path = "members/policy.rs"]
mod policy;
#[path = "members/renewal.rs"]
mod renewal;
#[path = "members/services.rs"]
mod services;
#[path = "members/signals.rs"]
mod signals;
#[path = "members/speed.rs"]
mod speed;
#[path = "members/support.rs"]
mod support;
#[path = "members/trouble.rs"]
mod trouble;

use flambeau_operator::members::MemberError;
use serde_json::json;
use std::collections::BTreeSet;
use support::{Fleet, application, kind, kinds, plane, shop};

#[tokio::test(flavor = "multi_thread")]
async fn writes_what_is_declared_and_nothing_twice() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let declared = application("once", "shop", &shop());
    fleet.place(&declared, 3).await;
    fleet
        .until("settled", || fleet.observe(&declared, 3).settled())
        .await;
    assert_eq!(fleet.created(), 4, "one write per object");
    let applies = fleet.applies();

    let labels = plane.get("namespace/once -o jsonpath={.metadata.labels}");
    assert!(
        !labels.contains("flambeau"),
        "the namespace is not ours: {labels}"
    );
    let secret = plane.get("secret/password -n once -o jsonpath={.data.password}");
    assert_eq!(secret, "c2VzYW1l");
    let written = plane.versions("once");
    fleet.apply(&declared, 3).await.unwrap();
    assert_eq!(fleet.applies(), applies);

    // A restart: the member is seen before the application is declared.
    let again = Fleet::new(&plane);
    again.watch(&declared);
    again
        .until("seen", || again.observe(&declared, 3).present > 0)
        .await;
    again
        .until("all seen", || again.observe(&declared, 3).present == 4)
        .await;
    again.declare(&declared);
    again
        .until("settled", || again.observe(&declared, 3).settled())
        .await;
    again.apply(&declared, 3).await.unwrap();
    assert_eq!(again.applies(), 0);
    assert_eq!(plane.versions("once"), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_right_what_somebody_changed() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let declared = application("drift", "shop", &shop());
    fleet.place(&declared, 1).await;
    let current = || fleet.observe(&declared, 1).current;
    fleet.until("current", || current() == 4).await;

    plane.run("patch configmap/settings -n drift --type=merge -p {\"data\":{\"TITLE\":\"Stolen\",\"extra\":\"1\"}}");
    fleet.until("drift seen", || current() == 3).await;
    fleet.apply(&declared, 1).await.unwrap();
    assert_eq!(current(), 4, "the answer to the write counts at once");
    assert_eq!(
        plane.get("configmap/settings -n drift -o jsonpath={.data}"),
        r#"{"TITLE":"Shop","extra":"1"}"#
    );

    plane.run("delete service/shop -n drift");
    fleet.until("deletion seen", || current() == 3).await;
    fleet.apply(&declared, 1).await.unwrap();
    plane.get("service/shop -n drift");

    plane.run("label configmap/settings -n drift flambeau.dev/application-");
    fleet.until("the lost label seen", || current() == 3).await;
    fleet.apply(&declared, 1).await.unwrap();
    fleet.until("current again", || current() == 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_what_is_no_longer_declared() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let two = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "1", "gone": "1"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}),
    ];
    let declared = application("surplus", "shop", &two);
    fleet.place(&declared, 1).await;
    let one = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "2"}}),
    ];
    let declared = application("surplus", "shop", &one);
    fleet.declare(&declared);
    assert!(!fleet.observe(&declared, 1).settled());
    fleet.apply(&declared, 1).await.unwrap();
    fleet
        .until("settled", || fleet.observe(&declared, 1).settled())
        .await;
    assert_eq!(
        plane.get("configmap/a -n surplus -o jsonpath={.data}"),
        r#"{"k":"2"}"#
    );
    assert!(
        !plane
            .get("configmap -n surplus -o name")
            .contains("configmap/b")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn takes_nothing_over() {
    let plane = plane();
    plane.run("create namespace foreign");
    plane.run("create configmap settings -n foreign --from-literal=theirs=1");
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let settings = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"ours": "1"}}),
    ];
    let declared = application("foreign", "shop", &settings);
    fleet.declare(&declared);
    let error = fleet.apply(&declared, 1).await.unwrap_err();
    assert!(matches!(error, MemberError::Foreign { .. }), "{error}");
    let refused = fleet.observe(&declared, 1).refused.unwrap();
    assert!(
        refused.contains("ConfigMap/settings") && refused.contains("not managed by Flambeau"),
        "{refused}"
    );
    assert_eq!(
        plane.get("configmap/settings -n foreign -o jsonpath={.data}"),
        r#"{"theirs":"1"}"#
    );
    let at_once = fleet.apply_once(&declared, 1).await.unwrap_err();
    assert!(
        matches!(at_once, MemberError::BackingOff { failures: 1, .. }),
        "{at_once}"
    );

    plane.run("delete configmap settings -n foreign");
    fleet.until_applied(&declared, 1).await;
    assert_eq!(fleet.observe(&declared, 1).refused, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_application_keeps_its_object() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let settings =
        [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}})];
    let (first, second) = (
        application("shared", "first", &settings),
        application("shared", "second", &settings),
    );
    fleet.declare(&first);
    fleet.declare(&second);
    fleet.apply(&first, 1).await.unwrap();
    let error = fleet.apply(&second, 9).await.unwrap_err();
    assert!(matches!(error, MemberError::Foreign { .. }), "{error}");
    assert!(fleet.observe(&first, 1).settled());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typo_is_refused_by_its_name_and_mended_at_once() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let typo = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "dta": {"k": "v"}}),
    ];
    let declared = application("typo", "shop", &typo);
    fleet.declare(&declared);
    let error = fleet.apply(&declared, 1).await.unwrap_err();
    assert!(
        error.is_refusal() && error.to_string().contains(".dta"),
        "{error}"
    );
    assert!(
        fleet
            .observe(&declared, 1)
            .refused
            .unwrap()
            .contains(".dta")
    );

    let mended = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"k": "v"}}),
    ];
    let declared = application("typo", "shop", &mended);
    fleet.declare(&declared);
    fleet.apply_once(&declared, 1).await.unwrap();
    assert_eq!(fleet.observe(&declared, 1).refused, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_object_stops_what_depends_on_it_and_no_secret_is_told() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let mut objects = shop();
    let declared = application("invalid", "shop", &objects);
    fleet.declare(&declared);
    fleet.until_applied(&declared, 1).await;
    objects[1] = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "data": {"password": "not base64: sesame"}});
    let workload = objects
        .iter_mut()
        .find(|object| object["kind"] == "Deployment")
        .unwrap();
    workload["spec"]["replicas"] = json!(7);
    let declared = application("invalid", "shop", &objects);
    fleet.declare(&declared);
    let error = fleet.apply(&declared, 1).await.unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert!(
        error.to_string().contains("Secret/password") && !error.to_string().contains("sesame"),
        "{error}"
    );
    let replicas = plane.get("deployments -n invalid -o jsonpath={.items[*].spec.replicas}");
    assert_ne!(replicas, "7", "it would go on with its old Secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_object_of_a_new_copy_is_told_although_the_rest_is_written() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let mut objects = shop();
    objects[1] = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password"}, "data": {"password": "not base64: sesame"}});
    let declared = application("half", "shop", &objects);
    fleet.declare(&declared);
    let error = fleet.apply(&declared, 1).await.unwrap_err();
    assert!(
        error.is_refusal() && error.to_string().contains("Secret/password"),
        "{error}"
    );
    // Written beside it, because new pods wait for what they read.
    assert!(plane.get("all -n half -o name").contains("deployment"));
    let copy = fleet.observe(&declared, 1);
    assert!(
        copy.refused.is_some() && copy.hidden.is_none() && !copy.ready(),
        "{copy:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_served_is_refused_until_it_is() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let database = [
        json!({"apiVersion": "members.example.org/v1", "kind": "Database", "metadata": {"name": "main"}, "spec": {"size": 3}}),
    ];
    let declared = application("custom", "shop", &database);
    fleet.declare(&declared);
    fleet
        .until("known", || fleet.observe(&declared, 1).observed)
        .await;
    let error = fleet.apply(&declared, 1).await.unwrap_err();
    assert!(matches!(error, MemberError::NotServed { .. }), "{error}");
    assert!(fleet.observe(&declared, 1).absent());

    plane.apply(&json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "databases.members.example.org"}, "spec": {"group": "members.example.org", "scope": "Namespaced",
        "names": {"plural": "databases", "kind": "Database"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}}));
    fleet.until_applied(&declared, 1).await;
    assert!(
        fleet
            .members
            .kinds("member")
            .unwrap()
            .contains(&kind("members.example.org/v1", "Database"))
    );
    let status = |ready: &str| {
        let patch = format!(
            "{{\"status\":{{\"conditions\":[{{\"type\":\"Ready\",\"status\":\"{ready}\"}}]}}}}"
        );
        plane.run(&format!(
            "patch database/main -n custom --subresource=status --type=merge -p {patch}"
        ));
    };
    status("False");
    fleet
        .until("not ready", || fleet.observe(&declared, 1).workloads == 1)
        .await;
    assert!(!fleet.observe(&declared, 1).ready());
    status("True");
    fleet
        .until("ready", || fleet.observe(&declared, 1).ready())
        .await;

    // Another kind goes on while this one is taken away.
    let settings =
        [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}})];
    let other = application("custom", "other", &settings);
    fleet.declare(&other);
    plane.run("delete crd databases.members.example.org");
    fleet
        .until("its objects went with it", || {
            fleet.observe(&declared, 1).absent()
        })
        .await;
    fleet.apply(&other, 1).await.unwrap();
    // Discovery may still name the kind: then nothing is sure.
    let key = &declared.key;
    let kinds = kinds(&declared);
    while let Err(error) = fleet.members.verify_absent("member", key, &kinds).await {
        assert!(matches!(error, MemberError::NotYet { .. }), "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(
        fleet.members.verify_absent("member", key, &kinds).await,
        Ok(true)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn erases_everything_and_makes_sure() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let declared = application("erase", "shop", &shop());
    let other = application(
        "erase",
        "other",
        &[json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}})],
    );
    fleet.declare(&declared);
    fleet.declare(&other);
    fleet.apply(&declared, 1).await.unwrap();
    fleet.apply(&other, 1).await.unwrap();
    plane.until("pods", || {
        plane.get("pods -n erase -o name").contains("pod/")
    });
    let kinds = kinds(&declared);
    assert!(
        !fleet
            .members
            .verify_absent("member", &declared.key, &kinds)
            .await
            .unwrap()
    );

    // The application is gone from the hub: what was seen has to be enough.
    fleet.members.undeclare(&declared.key);
    fleet
        .members
        .erase("member", &declared.key, &BTreeSet::new(), None)
        .await
        .unwrap();
    fleet
        .until("gone", || {
            fleet.members.observe("member", &declared.key, 1).absent()
        })
        .await;
    assert!(
        fleet
            .members
            .verify_absent("member", &declared.key, &kinds)
            .await
            .unwrap()
    );
    let left =
        plane.get("secrets,configmaps,services,deployments,replicasets,pods -n erase -o name");
    assert!(
        !left.contains("shop") && !left.contains("password") && !left.contains("settings"),
        "{left}"
    );
    assert!(left.contains("configmap/other"), "{left}");
    fleet
        .members
        .erase("member", &declared.key, &kinds, None)
        .await
        .unwrap();
    assert_eq!(fleet.observe(&declared, 1).present, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn erases_kinds_that_were_never_watched() {
    let plane = plane();
    let writer = Fleet::new(&plane);
    writer.reachable().await;
    let objects =
        [json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}})];
    let declared = application("leftover", "shop", &objects);
    writer.place(&declared, 1).await;
    drop(writer);

    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let kinds = kinds(&declared);
    assert!(
        !fleet
            .members
            .verify_absent("member", &declared.key, &kinds)
            .await
            .unwrap()
    );
    fleet
        .members
        .erase("member", &declared.key, &kinds, None)
        .await
        .unwrap();
    assert!(
        fleet
            .members
            .verify_absent("member", &declared.key, &kinds)
            .await
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_epoch_writes_nothing() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let declared = application("epoch", "shop", &shop()[..1]);
    fleet.place(&declared, 7).await;
    let changed = application(
        "epoch",
        "shop",
        &[
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"TITLE": "Old"}}),
        ],
    );
    fleet.declare(&changed);
    let error = fleet.apply(&changed, 6).await.unwrap_err();
    assert!(
        matches!(
            error,
            MemberError::EpochTooLow {
                live: 7,
                epoch: 6,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        plane.get("configmap/settings -n epoch -o jsonpath={.data.TITLE}"),
        "Shop"
    );
    fleet.apply(&changed, 8).await.unwrap();
    assert_eq!(
        plane.get("configmap/settings -n epoch -o jsonpath={.data.TITLE}"),
        "Old"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_are_those_of_the_traffic() {
    let plane = plane();
    let fleet = Fleet::new(&plane);
    fleet.reachable().await;
    let mut declared = application("endpoints", "shop", &shop()[2..3]);
    declared.traffic = Some(flambeau_operator::declared::DeclaredTraffic {
        hostnames: vec!["shop.example.org".into()],
        service: "shop".into(),
        port: 80,
    });
    fleet.place(&declared, 1).await;
    assert!(!fleet.members.serves("member", &declared.key).await.unwrap());
    plane.apply(&json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "shop-by-hand", "namespace": "endpoints", "ownerReferences": [{"apiVersion": "v1", "kind": "Service",
            "name": "shop", "uid": plane.get("service/shop -n endpoints -o jsonpath={.metadata.uid}")}],
            "labels": {"kubernetes.io/service-name": "shop", "flambeau.dev/application": "shop"}},
        "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}],
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": true}},
            {"addresses": ["192.0.2.2"], "conditions": {"ready": false, "serving": true, "terminating": true}}]}));
    fleet
        .until("endpoints", || fleet.observe(&declared, 1).endpoints == 1)
        .await;
    let shown: Vec<String> = fleet
        .members
        .endpoints("member", &declared.key)
        .iter()
        .map(|one| {
            format!(
                "{}:{} {} {} {}",
                one.ip, one.port, one.ready, one.serving, one.terminating
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "192.0.2.1:8080 true true false",
            "192.0.2.2:8080 false true true"
        ]
    );
    assert!(
        fleet.observe(&declared, 1).settled(),
        "slices are not objects of the application"
    );
    assert!(fleet.members.serves("member", &declared.key).await.unwrap());
}
