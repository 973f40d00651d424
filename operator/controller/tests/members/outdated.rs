//! What is due, when the hub changed after the snapshot: between the two lies
//! the time that a plan takes.

use crate::services::Counts;
use flambeau_crds::{GamesApplication, Migration};
use flambeau_operator::{
    act::{Actor, HubWrites, Work},
    dirty::Dirty,
    hub::Hub,
    lanes::Lanes,
    leader::Leadership,
    members::{MemberSettings, Members},
    progress::Signals,
    service::Services,
    work::Due,
    world,
};
use flambeau_planner::{model::Settings, plan};
use jiff::Timestamp;
use kube::{Client, Config};
use serde_json::json;
use std::time::Instant;

fn shop(version: u32) -> GamesApplication {
    serde_json::from_value(json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "GamesApplication",
        "metadata": {"name": "shop", "namespace": "games", "uid": "shop", "resourceVersion": version.to_string()},
        "spec": {"sensitivity": "Public", "resources": []},
    }))
    .unwrap()
}

fn relocation(version: u32) -> Migration {
    serde_json::from_value(json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Migration",
        "metadata": {"name": "shop-1", "namespace": "games", "uid": "shop-1", "resourceVersion": version.to_string()},
        "spec": {"application": "shop", "type": "Relocate", "from": "west", "to": "east", "trigger": "Request", "reason": "asked"},
    }))
    .unwrap()
}

#[tokio::test]
async fn a_plan_overwrites_nothing_that_was_stored_while_it_was_made() {
    // Nobody answers there, and nobody is asked.
    let client = Client::try_from(Config::new("http://192.0.2.1".parse().unwrap())).unwrap();
    let (hub, edge, dirty) = (Hub::new(client), Counts::default(), Dirty::default());
    let members = Members::new(
        dirty.clone(),
        MemberSettings::default(),
        Leadership::always(),
    );
    let services = Services::start(members.clone(), edge.clone(), dirty);
    let actor = Actor::new(
        hub.clone(),
        members.clone(),
        edge.clone(),
        HubWrites::default(),
        Signals::default(),
    );
    hub.applications.upsert(shop(5));
    hub.migrations.upsert(relocation(7));

    let now = Timestamp::now();
    let (snapshot, versions) = world::snapshot(
        &hub,
        &members,
        &edge,
        &services,
        &Lanes::default(),
        &Settings::default(),
        now,
    );
    let plan = plan(&snapshot, now);
    let due = Due {
        hub: &hub,
        members: &members,
        edge: &edge,
        actor: &actor,
        snapshot: &snapshot,
        versions: &versions,
        plan: &plan,
        now,
        at: Instant::now(),
    };
    let stored = || {
        let work = due.applications();
        let concerns = |concerned: fn(&Work) -> bool| work.iter().any(concerned);
        (
            concerns(|work| matches!(work, Work::Application { .. })),
            concerns(|work| matches!(work, Work::Migration { .. })),
        )
    };
    assert_eq!(stored(), (true, true), "as it was");
    hub.migrations.upsert(relocation(8));
    assert_eq!(stored(), (true, false), "another record of the move");
    hub.applications.upsert(shop(6));
    assert_eq!(stored(), (false, false), "and another application");
}
