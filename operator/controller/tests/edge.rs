//! The edge against a real API server and Contour.
#![allow(clippy::unwrap_used, reason = "a test ends with what went wrong")]

#[path = "edge/proxy.rs"]
mod proxy;
#[path = "edge/support.rs"]
mod support;

use flambeau_operator::{
    declared::Declared,
    edge::{Edge, EdgeError, EndpointAddress, GatewayEdge},
};
use std::collections::BTreeMap;
use support::{Endpoints, Hub, Watched, application, endpoints, ready, run, weights};

/// A pod that ends, but still answers.
fn terminating(ip: [u8; 4], port: u16) -> EndpointAddress {
    EndpointAddress {
        ready: false,
        terminating: true,
        ..ready(ip, port)
    }
}

fn both_clusters() -> Endpoints {
    endpoints([
        (
            "alibaba",
            vec![ready([10, 1, 0, 1], 8080), terminating([10, 1, 0, 2], 8080)],
        ),
        (
            "ovh",
            vec![ready([10, 2, 0, 1], 8080), ready([10, 2, 0, 2], 8080)],
        ),
    ])
}

#[test]
fn an_application_moves_from_one_cluster_to_another() {
    let hub = Hub::with_contour("moves");
    let shop = application(&hub, "games", "shop", "shop.example");
    run(async {
        is_placed(&hub, &shop).await;
        let restarted = hub.edge(None).await.synced().await;
        let before = weights([("alibaba", 100), ("ovh", 0)]);
        restarted
            .edge
            .apply(&shop, &before, &both_clusters())
            .await
            .unwrap();
        assert_eq!(
            restarted.writes(),
            0,
            "a restart with nothing changed writes nothing"
        );
        leaves_its_cluster(&hub, &restarted, &shop).await;

        restarted.edge.remove(&shop.key).await.unwrap();
        restarted
            .until("nothing is left", |edge| !edge.present(&shop.key))
            .await;
        let left = "get httproutes,services,endpointslices -n games -o name";
        let left: Vec<&str> = left.split(' ').collect();
        assert_eq!(hub.plane.kubectl(&left).unwrap(), "");
    });
}

/// Contour tries once to store what it says of a route, and does not look at what became of it.
#[test]
fn a_gateway_whose_word_was_lost_is_asked_again() {
    let hub = Hub::with_contour("lost-word");
    let shop = application(&hub, "games", "shop", "shop.example");
    run(async {
        let watched = hub.edge(None).await.synced().await;
        let (edge, key) = (&watched.edge, &shop.key);
        let shares = weights([("alibaba", 100), ("ovh", 0)]);
        edge.apply(&shop, &shares, &both_clusters()).await.unwrap();
        let confirmed = |edge: &GatewayEdge| edge.observe(key).acknowledged;
        watched.until("Contour takes the route", confirmed).await;
        let lost = (0..2).map(|condition| {
            format!(
                r#"{{"op":"replace","path":"/status/parents/0/conditions/{condition}/observedGeneration","value":0}}"#
            )
        });
        let lost = format!("--patch=[{}]", lost.collect::<Vec<_>>().join(","));
        let command = [
            "patch",
            "httproute",
            "shop",
            "-n",
            "games",
            "--subresource=status",
        ];
        let command = [&command[..], &["--type=json", &lost]].concat();
        hub.plane.kubectl(&command).unwrap();
        watched
            .until("it is not confirmed any more", |edge| !confirmed(edge))
            .await;
        watched
            .until("there is something to do", |edge| !edge.intact(key))
            .await;
        edge.apply(&shop, &shares, &both_clusters()).await.unwrap();
        assert!(edge.intact(key), "it is given time to answer");
        watched.until("Contour says it again", confirmed).await;
        assert_eq!(watched.writes(), 6, "one that means nothing");
    });
}

async fn is_placed(hub: &Hub, shop: &Declared) {
    let watched = hub.edge(None).await.synced().await;
    let key = &shop.key;
    let shares = weights([("alibaba", 100), ("ovh", 0)]);
    watched
        .edge
        .apply(shop, &shares, &both_clusters())
        .await
        .unwrap();
    watched
        .until("Contour takes the route", |edge| {
            edge.observe(key).acknowledged
        })
        .await;
    let observed = watched.edge.observe(key).weights;
    assert_eq!(
        observed, shares,
        "weight 0 stays, so that requests end by themselves"
    );
    let at_edge = |cluster| watched.edge.endpoints_at_edge(key, cluster, || None);
    assert_eq!(at_edge("alibaba"), Some(1), "terminating is not ready");
    assert_eq!(at_edge("ovh"), Some(2));
    assert_eq!(at_edge("atos"), Some(0));
    assert_eq!(
        watched.writes(),
        5,
        "two Services, two EndpointSlices, one HTTPRoute"
    );
    let slice = hub.backend("endpointslices", "shop", "alibaba");
    assert_eq!(
        hub.field("games", &slice, "{.endpoints[1].conditions}"),
        r#"{"ready":false,"serving":true,"terminating":true}"#
    );
    let owner = "{.metadata.ownerReferences[0].kind} {.metadata.ownerReferences[0].uid}";
    let service = hub.backend("services", "shop", "ovh");
    for object in ["httproute/shop", &service, &slice] {
        assert_eq!(
            hub.field("games", object, owner),
            "GamesApplication uid-of-shop"
        );
    }
}

async fn leaves_its_cluster(hub: &Hub, watched: &Watched, shop: &Declared) {
    let (edge, key) = (&watched.edge, &shop.key);
    let shares = weights([("alibaba", 0), ("ovh", 100)]);
    edge.apply(shop, &shares, &both_clusters()).await.unwrap();
    assert_eq!(watched.writes(), 1, "only the route changes");
    watched
        .until("Contour takes the new weights", |edge| {
            edge.observe(key).acknowledged
        })
        .await;
    let mut moved = both_clusters();
    moved.remove("alibaba");
    edge.apply(shop, &weights([("ovh", 100)]), &moved)
        .await
        .unwrap();
    assert_eq!(edge.observe(key).weights, weights([("ovh", 100)]));
    for kind in ["services", "endpointslices"] {
        let left = hub.backend(kind, "shop", "alibaba");
        assert_eq!(left, "", "{kind} are gone");
    }
}

fn one_endpoint() -> Endpoints {
    endpoints([("ovh", vec![ready([10, 2, 0, 1], 80)])])
}

#[test]
fn what_others_do_at_the_edge_is_seen_and_mended() {
    let hub = Hub::with_contour("others");
    let shop = application(&hub, "games", "shop", "shop.example");
    let twin = application(&hub, "games", "twin", "shop.example");
    run(async {
        let watched = hub.edge(None).await.synced().await;
        let edge = &watched.edge;
        let all = weights([("ovh", 100)]);
        edge.apply(&shop, &all, &one_endpoint()).await.unwrap();
        changes_are_taken_back(&hub, &watched, &shop).await;
        a_service_comes_back_under_its_name(&hub, &watched, &shop).await;
        objects_of_others_are_left_alone(&hub, &watched).await;

        // Nobody would get requests: refused, and requests go on.
        let nobody = weights([("ovh", 0)]);
        let error = edge
            .apply(&shop, &nobody, &one_endpoint())
            .await
            .unwrap_err();
        assert!(matches!(error, EdgeError::NoWeight(_)), "{error}");
        edge.apply(&shop, &BTreeMap::new(), &one_endpoint())
            .await
            .unwrap();
        assert_eq!(edge.observe(&shop.key).weights, all);

        // Another application already has the host name.
        edge.apply(&twin, &all, &one_endpoint()).await.unwrap();
        watched
            .until("Contour refuses the twin", |edge| {
                edge.problem(&twin.key).is_some()
            })
            .await;
        let problem = edge.problem(&twin.key).unwrap();
        assert!(problem.contains("Accepted is False"), "{problem}");
        assert!(!edge.observe(&twin.key).acknowledged);
    });
}

async fn changes_are_taken_back(hub: &Hub, watched: &Watched, shop: &Declared) {
    let (edge, key, all) = (&watched.edge, &shop.key, weights([("ovh", 100)]));
    assert!(edge.intact(key));
    let patch = r#"[{"op": "replace", "path": "/spec/rules/1/backendRefs/0/weight", "value": 7}]"#;
    let edit = [
        "patch",
        "httproute/shop",
        "-n",
        "games",
        "--type=json",
        "-p",
        patch,
    ];
    hub.plane.kubectl(&edit).unwrap();
    watched
        .until("the foreign weight is seen", |edge| !edge.intact(key))
        .await;
    edge.apply(shop, &all, &one_endpoint()).await.unwrap();
    assert!(edge.intact(key));
    let stored = hub.field(
        "games",
        "httproute/shop",
        "{.spec.rules[*].backendRefs[*].weight}",
    );
    assert_eq!(stored, "100 100");

    let patch = r#"[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/name", "value": "shop--ovh-mine"}]"#;
    hub.plane.kubectl(&[&edit[..6], &[patch]].concat()).unwrap();
    watched
        .until("the foreign Service is seen", |edge| !edge.intact(key))
        .await;
    edge.apply(shop, &all, &one_endpoint()).await.unwrap();
    let service = hub.backend("services", "shop", "ovh");
    let named = hub.field(
        "games",
        "httproute/shop",
        "{.spec.rules[*].backendRefs[*].name}",
    );
    let name = service.trim_start_matches("service/");
    assert_eq!(named, format!("{name} {name}"));

    let slice = hub.backend("endpointslices", "shop", "ovh");
    hub.plane
        .kubectl(&["delete", &slice, "-n", "games"])
        .unwrap();
    watched
        .until("the loss is seen", |edge| {
            edge.endpoints_at_edge(key, "ovh", || None) == Some(0)
        })
        .await;
    edge.apply(shop, &all, &one_endpoint()).await.unwrap();
    assert_eq!(edge.endpoints_at_edge(key, "ovh", || None), Some(1));
}

/// Somebody's own route has the name of an application.
async fn objects_of_others_are_left_alone(hub: &Hub, watched: &Watched) {
    let taken = application(hub, "games", "taken", "taken.example");
    hub.create(
        r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: taken, namespace: games}
spec: {parentRefs: [{name: somebody}], hostnames: [elsewhere.example]}
",
    );
    let all = weights([("ovh", 100)]);
    let applied = watched.edge.apply(&taken, &all, &one_endpoint()).await;
    let error = applied.unwrap_err();
    assert!(matches!(error, EdgeError::Taken { .. }), "{error}");
    assert_eq!(
        hub.field("games", "httproute/taken", "{.spec.hostnames[0]}"),
        "elsewhere.example"
    );
}

/// A Service is deleted by hand, and comes back under the name to which the
/// route leads.
async fn a_service_comes_back_under_its_name(hub: &Hub, watched: &Watched, shop: &Declared) {
    let (edge, key) = (&watched.edge, &shop.key);
    let service = hub.backend("services", "shop", "ovh");
    hub.plane
        .kubectl(&["delete", &service, "-n", "games"])
        .unwrap();
    watched
        .until("the loss is seen", |edge| !edge.intact(key))
        .await;
    assert_eq!(edge.observe(key).weights, weights([("ovh", 100)]));
    edge.apply(shop, &weights([("ovh", 100)]), &one_endpoint())
        .await
        .unwrap();
    assert_eq!(hub.backend("services", "shop", "ovh"), service);
    assert_eq!(edge.endpoints_at_edge(key, "ovh", || None), Some(1));
}

#[test]
fn a_hub_without_the_gateway_api_says_so_and_recovers() {
    let hub = Hub::bare("bare");
    let shop = application(&hub, "games", "shop", "shop.example");
    run(async {
        let watched = hub.edge(None).await;
        let edge = &watched.edge;
        let all = (
            weights([("ovh", 100)]),
            endpoints([("ovh", vec![ready([10, 2, 0, 1], 80)])]),
        );
        watched
            .until("the lack is told", |edge| edge.problem(&shop.key).is_some())
            .await;
        let error = edge.apply(&shop, &all.0, &all.1).await.unwrap_err();
        assert!(
            error.to_string().contains("install the Gateway API"),
            "{error}"
        );
        assert!(!edge.synced());
        assert_eq!(watched.writes(), 0);

        hub.install_gateway_api();
        let watched = watched.synced().await;
        watched.edge.apply(&shop, &all.0, &all.1).await.unwrap();
        assert_eq!(watched.edge.problem(&shop.key), None);
        assert_eq!(watched.edge.observe(&shop.key).weights, all.0);
    });
}
