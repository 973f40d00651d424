//! Manifests as large as an API server takes, and larger.

use crate::{
    active,
    fleet::{Fleet, application, refuse},
    shared::shared,
};
use serde_json::{Value, json};

/// An application of so many ConfigMaps with so many bytes of text each.
fn large(name: &str, count: usize, bytes: usize) -> Value {
    let mut large = application(name);
    let text = "flambeau ".repeat(bytes.div_ceil(9));
    let resources = (0..count).map(|number| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("{name}-{number}")},
            "data": {"text": text[..bytes]}})
    });
    large["spec"]["resources"] = resources.collect();
    large
}

/// How many ConfigMaps of applications are on a member.
fn count(fleet: &Fleet, member: &str) -> usize {
    fleet.configmaps(member).lines().count()
}

#[test]
fn a_megabyte_of_manifests_is_placed_moved_and_erased_and_more_is_refused() {
    let fleet = shared();
    // etcd takes requests of 1.5 MiB (https://etcd.io/docs/v3.6/dev-guide/limit/).
    fleet.place(&large("archive", 100, 10_000));
    assert_eq!((count(&fleet, "one"), count(&fleet, "two")), (100, 0));
    fleet.apply(&refuse("law", &["east"]));
    fleet.active_on("gapp/archive", "two");
    fleet.condition("gapp/archive", "Reconciling", "False");
    assert_eq!((count(&fleet, "one"), count(&fleet, "two")), (0, 100));

    // More than the hub takes: kubectl says so, and what was declared before holds.
    for bytes in [20_000, 60_000] {
        let refused = fleet
            .hub
            .apply(&[large("archive", 100, bytes)])
            .unwrap_err();
        let message = format!("{refused:#}");
        assert!(message.contains("too large"), "{bytes}: {message}");
    }
    // One object that is more than its kind allows: the member says so.
    fleet.apply(&large("poster", 1, 1_100_000));
    let (reason, message) = fleet.condition("gapp/poster", "Stalled", "True");
    assert_eq!(reason, "ObjectRefused", "{message}");
    assert!(
        message.contains("ConfigMap/poster-0") && message.contains("Too long"),
        "{message}"
    );
    assert!(
        message.len() < 1000,
        "a message, and not the object: {message}"
    );
    fleet.hub(&["delete", "gapp", "poster", "--timeout=60s"]);

    as_large_as_it_gets(&fleet);

    fleet.thought_once_more();
    let archive = fleet.get("gapp/archive");
    assert_eq!(active(&archive), Some("two"));
    assert_eq!(archive["status"]["epoch"], 2);
    assert_eq!((count(&fleet, "one"), count(&fleet, "two")), (0, 100));
}

/// So large that the hub takes the object, and nothing more beside it: no
/// finalizer and no status, so that only an event can tell.
fn as_large_as_it_gets(fleet: &Fleet) {
    let most = (1_565_000..1_572_864).rev().step_by(300);
    let taken = |bytes: &usize| fleet.hub.apply(&[large("brim", 1, *bytes)]).is_ok();
    most.into_iter().find(taken).unwrap();
    fleet.until("an event tells that it is too large", |fleet| {
        let only = ["get", "events", "--field-selector=reason=ObjectTooLarge"];
        let events = fleet.hub(&only);
        events.contains("gamesapplication/brim") && events.contains("split the application")
    });
    assert_eq!(active(&fleet.get("gapp/brim")), None);
    fleet.place(&large("brim", 1, 100));
    fleet.hub(&["delete", "gapp", "brim", "--timeout=60s"]);
}
