//! The edge against a real API server and Contour.
#![allow(clippy::unwrap_used, reason = "a test ends with what went wrong")]

#[path = "edge/proxy.rs"]
mod proxy;
#[path = "edge/support.rs"]
mod support;

use flambeau_operator::edge::{Edge, EdgeError, EndpointAddress};
use std::collections::BTreeMap;
use support::{Hub, application, endpoints, ready, run, weights};

/// A pod that ends, but still answers.
fn terminating(ip: [u8; 4], port: u16) -> EndpointAddress {
    EndpointAddress {
        ready: false,
        terminating: true,
        ..ready(ip, port)
    }
}

#[test]
fn an_application_moves_from_one_cluster_to_another() {
    let hub = Hub::with_contour("moves");
    let shop = application(&hub, "games", "shop", "shop.example");
    run(async {
        let first = hub.edge(None).await.synced().await;
        let key = shop.key.clone();
        let both = endpoints([
            (
                "alibaba",
                vec![ready([10, 1, 0, 1], 8080), terminating([10, 1, 0, 2], 8080)],
            ),
            (
                "ovh",
                vec![ready([10, 2, 0, 1], 8080), ready([10, 2, 0, 2], 8080)],
            ),
        ]);
        first
            .edge
            .apply(&shop, &weights([("alibaba", 100), ("ovh", 0)]), &both)
            .await
            .unwrap();
        first
            .until("Contour takes the route", |edge| {
                edge.observe(&key).acknowledged
            })
            .await;
        assert_eq!(
            first.edge.observe(&key).weights,
            weights([("alibaba", 100), ("ovh", 0)]),
            "a backend of weight 0 stays, so that its requests end by themselves"
        );
        assert_eq!(
            first.edge.endpoints_at_edge(&key, "alibaba"),
            1,
            "terminating is not ready"
        );
        assert_eq!(first.edge.endpoints_at_edge(&key, "ovh"), 2);
        assert_eq!(first.edge.endpoints_at_edge(&key, "atos"), 0);
        assert_eq!(
            first.writes(),
            5,
            "two Services, two EndpointSlices, one HTTPRoute"
        );
        let slice = "endpointslice/shop--alibaba-8080";
        let conditions = "{.endpoints[1].conditions}";
        assert_eq!(
            hub.field("games", slice, conditions),
            r#"{"ready":false,"serving":true,"terminating":true}"#
        );
        for object in ["httproute/shop", "service/shop--ovh", slice] {
            let owner = "{.metadata.ownerReferences[0].kind} {.metadata.ownerReferences[0].uid}";
            assert_eq!(
                hub.field("games", object, owner),
                "GamesApplication uid-of-shop"
            );
        }

        let second = hub.edge(None).await.synced().await;
        let same = weights([("alibaba", 100), ("ovh", 0)]);
        second.edge.apply(&shop, &same, &both).await.unwrap();
        assert_eq!(
            second.writes(),
            0,
            "a restart with nothing changed writes nothing"
        );

        second
            .edge
            .apply(&shop, &weights([("alibaba", 0), ("ovh", 100)]), &both)
            .await
            .unwrap();
        assert_eq!(second.writes(), 1, "only the route changes");
        second
            .until("Contour takes the new weights", |edge| {
                edge.observe(&key).acknowledged
            })
            .await;
        let error = second
            .edge
            .remove_cluster(&key, "alibaba")
            .await
            .unwrap_err();
        assert!(matches!(error, EdgeError::StillRouted { .. }), "{error}");

        let moved = endpoints([("ovh", both["ovh"].clone())]);
        second
            .edge
            .apply(&shop, &weights([("ovh", 100)]), &moved)
            .await
            .unwrap();
        assert_eq!(second.edge.observe(&key).weights, weights([("ovh", 100)]));
        assert_eq!(
            hub.field("games", "service/shop--alibaba", "{.metadata.name}"),
            ""
        );
        assert_eq!(hub.field("games", slice, "{.metadata.name}"), "");

        second.edge.remove(&key).await.unwrap();
        second
            .until("nothing is left", |edge| {
                edge.observe(&key).weights.is_empty()
            })
            .await;
        let left = [
            "get",
            "httproutes,services,endpointslices",
            "-n",
            "games",
            "-o",
            "name",
        ];
        assert_eq!(hub.plane.kubectl(&left).unwrap(), "");
    });
}

#[test]
fn what_others_do_at_the_edge_is_seen_and_mended() {
    let hub = Hub::with_contour("others");
    let shop = application(&hub, "games", "shop", "shop.example");
    let twin = application(&hub, "games", "twin", "shop.example");
    let key = shop.key.clone();
    let serving = endpoints([("ovh", vec![ready([10, 2, 0, 1], 80)])]);
    run(async {
        let watched = hub.edge(None).await.synced().await;
        let edge = &watched.edge;
        edge.apply(&shop, &weights([("ovh", 100)]), &serving)
            .await
            .unwrap();

        // Somebody edits the weights.
        assert!(edge.intact(&key));
        let patch =
            r#"[{"op": "replace", "path": "/spec/rules/0/backendRefs/0/weight", "value": 7}]"#;
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
            .until("the foreign change is seen", |edge| !edge.intact(&key))
            .await;
        edge.apply(&shop, &weights([("ovh", 100)]), &serving)
            .await
            .unwrap();
        assert_eq!(edge.observe(&key).weights, weights([("ovh", 100)]));
        let weight = "{.spec.rules[*].backendRefs[*].weight}";
        assert_eq!(hub.field("games", "httproute/shop", weight), "100 100");

        // Somebody deletes the endpoints.
        hub.plane
            .kubectl(&["delete", "endpointslice/shop--ovh-80", "-n", "games"])
            .unwrap();
        watched
            .until("the loss is seen", |edge| {
                edge.endpoints_at_edge(&key, "ovh") == 0
            })
            .await;
        edge.apply(&shop, &weights([("ovh", 100)]), &serving)
            .await
            .unwrap();
        assert_eq!(edge.endpoints_at_edge(&key, "ovh"), 1);

        // Somebody's own Service has the name of a backend.
        hub.plane
            .kubectl(&[
                "create",
                "service",
                "clusterip",
                "shop--atos",
                "--tcp=80:9",
                "-n",
                "games",
            ])
            .unwrap();
        let two = weights([("ovh", 100), ("atos", 0)]);
        let error = edge.apply(&shop, &two, &serving).await.unwrap_err();
        assert!(matches!(error, EdgeError::Taken { .. }), "{error}");
        let target = hub.field("games", "service/shop--atos", "{.spec.ports[0].targetPort}");
        assert_eq!(target, "9", "it was left alone");
        assert_eq!(
            edge.observe(&key).weights,
            weights([("ovh", 100)]),
            "requests go on"
        );

        // Nobody gets requests: refused, and requests go on.
        let error = edge
            .apply(&shop, &weights([("ovh", 0)]), &serving)
            .await
            .unwrap_err();
        assert!(matches!(error, EdgeError::NoWeight(_)), "{error}");
        edge.apply(&shop, &BTreeMap::new(), &serving).await.unwrap();
        assert_eq!(edge.observe(&key).weights, weights([("ovh", 100)]));

        // Another application already has the host name.
        edge.apply(&twin, &weights([("ovh", 100)]), &serving)
            .await
            .unwrap();
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
