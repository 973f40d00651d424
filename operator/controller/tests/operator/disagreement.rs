//! Policies that contradict each other: told, and nothing moves.

use crate::{active, fleet::application, shared::shared};
use serde_json::{Value, json};

/// A policy under which data stays in one country.
fn residency(name: &str, country: &str) -> Value {
    json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "SovereigntyPolicy", "metadata": {"name": name},
        "spec": {"sensitivities": ["Personal"], "residency": {"allowed": [country]}},
    })
}

#[test]
fn policies_that_contradict_each_other_say_so_and_move_nothing() {
    let fleet = shared();
    fleet.place(&application("badges"));
    fleet.apply(&residency("french", "FR"));
    let policy = |name: &str, type_: &str, status: &str, expected: &str| {
        let what = format!("sovereigntypolicy/{name}");
        fleet.until(&format!("{expected} of {what}"), |fleet| {
            let conditions = fleet.get(&what)["status"]["conditions"].take();
            let mut conditions = conditions.as_array().into_iter().flatten();
            conditions.any(|one| one["type"] == *type_ && one["reason"] == *expected)
        });
        let (reason, message) = fleet.condition(&what, type_, status);
        assert_eq!(reason, expected, "{message}");
        message
    };
    let stays = || {
        let badges = fleet.get("gapp/badges");
        assert_eq!(active(&badges), Some("one"), "{badges}");
        assert_eq!(badges["status"]["epoch"], 1);
        assert_eq!(fleet.get("migrations")["items"], json!([]));
        assert_eq!(fleet.configmaps("one"), "configmap/badges");
        assert_eq!(fleet.configmaps("two"), "");
    };
    policy("french", "Ready", "True", "Settled");

    // Announced: told in time, and not as if it were so already.
    let mut german = residency("german", "DE");
    german["spec"]["effectiveFrom"] = json!("2120-01-01T00:00:00Z");
    fleet.apply(&german);
    for (name, other) in [("french", "german"), ("german", "french")] {
        let message = policy(name, "Ready", "True", "PoliciesWillContradict");
        let date = message.starts_with("from 2120-01-01T00:00:00Z on");
        assert!(
            date && message.contains(&format!("policy {other}")),
            "{message}"
        );
        policy(name, "Stalled", "False", "PoliciesWillContradict");
    }
    fleet.condition("gapp/badges", "Lawful", "True");
    stays();

    // In force.
    fleet.apply(&residency("german", "DE"));
    for (name, other) in [("french", "german"), ("german", "french")] {
        let message = policy(name, "Stalled", "True", "PoliciesContradict");
        for part in [
            format!("together with policy {other}, spec.residency.allowed"),
            "until one of them is changed or withdrawn".to_owned(),
        ] {
            assert!(message.contains(&part), "{message}");
        }
        policy(name, "Ready", "False", "PoliciesContradict");
    }
    let (reason, message) = fleet.condition("gapp/badges", "Stalled", "True");
    assert_eq!(reason, "NoLawfulCluster", "{message}");
    let (reason, message) = fleet.condition("gapp/badges", "Lawful", "False");
    assert_eq!(reason, "ResidencyNotAllowed");
    assert!(message.contains("policy german"), "{message}");
    fleet.condition("gapp/badges", "Ready", "True");
    stays();

    fleet.hub(&["delete", "sovereigntypolicy", "german"]);
    policy("french", "Ready", "True", "Settled");
    policy("french", "Stalled", "False", "Settled");
    fleet.condition("gapp/badges", "Stalled", "False");
    fleet.condition("gapp/badges", "Lawful", "True");
    stays();
}
