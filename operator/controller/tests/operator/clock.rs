//! An operator whose clock is an hour wrong, ahead or behind.

use crate::{
    active,
    fleet::{Fleet, Replica, application},
    moves::{outcome, request},
};
use serde_json::json;
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Where Debian keeps it, of which the testbed's prerequisites take care.
const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A time of day that can be set while a process runs; its monotonic clocks
/// stay as they are, as when NTP or a person sets a clock.
/// See <https://github.com/wolfcw/libfaketime>.
pub struct Clock(TempDir);

impl Clock {
    fn right() -> Self {
        assert!(
            Path::new(LIBRARY).exists(),
            "{LIBRARY} is missing, so that clocks cannot be set wrong: run `make prerequisites`, which installs the package faketime"
        );
        let clock = Self(tempfile::tempdir().unwrap());
        clock.set("+0");
        clock
    }

    /// Lets a process live by it. The program must be linked dynamically.
    pub fn keep(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME_TIMESTAMP_FILE", self.0.path().join("offset"))
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_NO_CACHE", "1");
    }

    /// Sets it off by so much, at once.
    pub fn set(&self, offset: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, format!("{offset}\n")).unwrap();
        fs::rename(new, self.0.path().join("offset")).unwrap();
    }
}

/// Hours that the time of a renewal is off.
fn hours_off(lease: &serde_json::Value) -> f64 {
    let renewed: jiff::Timestamp = lease["spec"]["renewTime"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    renewed.duration_since(jiff::Timestamp::now()).as_secs_f64() / 3600.0
}

/// The Lease by which the operator leads.
fn lease(fleet: &Fleet) -> serde_json::Value {
    fleet.get("lease/flambeau-operator")
}

/// Resource versions, without that of the move that soaks: its step cannot
/// have begun in time to come, and that is written down.
fn everything(fleet: &Fleet) -> String {
    let versions = fleet.versions();
    let others = versions
        .split_whitespace()
        .filter(|one| !one.starts_with("Migration/away="));
    others.collect::<Vec<_>>().join(" ")
}

/// The operator's clock is wrong by so many hours, as others see it, and still
/// it leads, sees every member, and changes nothing.
fn nothing_changes(fleet: &Fleet, replica: &Replica, hours: f64, before: &str) {
    let renewed = |what: &str| {
        let last = lease(fleet)["spec"]["renewTime"].clone();
        fleet.until(what, |fleet| lease(fleet)["spec"]["renewTime"] != last);
    };
    fleet.until("the Lease is renewed by the wrong clock", |fleet| {
        (hours_off(&lease(fleet)) - hours).abs() < 0.1
    });
    // Time enough for a member to be taken for silent.
    renewed("the Lease is renewed once more");
    renewed("the Lease is renewed twice more");
    fleet.thought();
    assert_eq!(everything(fleet), before, "{}", fleet.log());
    // It waits for ten minutes more, whatever the time is.
    let moving = fleet.get("migration/away")["status"].take();
    assert_eq!(
        (&moving["step"], &moving["outcome"]),
        (&json!("Soak"), &json!(null))
    );
    let held = lease(fleet)["spec"].take();
    assert_eq!(held["holderIdentity"], "only", "{held}");
    assert!(!replica.leads());
    let metrics = fleet.metrics();
    assert!(metrics.contains("flambeau_hub_suspect 0"), "{metrics}");
    for cluster in ["one", "two"] {
        let health = fleet.get(&format!("membercluster/{cluster}"))["status"]["health"].take();
        assert_eq!(health, "Healthy", "{cluster}, {hours} hours off");
    }
}

#[test]
fn a_clock_an_hour_wrong_moves_nothing_and_a_failover_still_works() {
    let mut fleet = Fleet::start_by(Clock::right());
    let replica = fleet.start_replica();
    fleet.place(&application("badges"));
    // A planned move that has to wait for ten minutes, whatever its clock says.
    let mut gates = application("gates");
    gates["spec"]["migration"]["soakSeconds"] = json!(600);
    fleet.place(&gates);
    fleet.apply(&request("away", "gates", "one", "two"));
    fleet.until("the move soaks", |fleet| {
        fleet.get("migration/away")["status"]["step"] == "Soak"
    });
    fleet.thought();

    let before = everything(&fleet);
    for (offset, hours) in [("-1h", -1.0), ("+1h", 1.0)] {
        fleet.set_clock(offset);
        nothing_changes(&fleet, &replica, hours, &before);
    }
    // Wrong from the beginning.
    fleet.kill_operator();
    fleet.start_operator();
    nothing_changes(&fleet, &replica, 1.0, &before);

    let lost = Instant::now();
    fleet.cut("one");
    fleet.active_on("gapp/badges", "two");
    assert_eq!(outcome(&fleet, "badges-1").0, "Completed");
    let took = lost.elapsed();
    assert!(took < Duration::from_secs(45), "{took:?}");
    let recovery = fleet.get("migration/badges-1")["status"]["recoveryMilliseconds"].take();
    let recovery = recovery.as_i64().unwrap();
    assert!((1..60_000).contains(&recovery), "{recovery} ms");
    // Its source is lost, so that nothing is left to wait for.
    assert_eq!(outcome(&fleet, "away").0, "Completed");
    fleet.mend("one");
    fleet.until("stale copies are erased", |fleet| {
        fleet.configmaps("one").is_empty()
    });
    fleet.condition("gapp/badges", "Reconciling", "False");
    fleet.condition("gapp/gates", "Reconciling", "False");

    // A leader with the right time reads what is still to come.
    assert_eq!(fleet.stop_operator(), Some(0));
    fleet.until("the replica leads", |_| replica.leads());
    fleet.apply(&request("back", "badges", "two", "one"));
    assert_eq!(outcome(&fleet, "back").0, "Completed");
    fleet.condition("gapp/badges", "Reconciling", "False");
    assert_eq!(active(&fleet.get("gapp/badges")), Some("one"));
    assert_eq!(active(&fleet.get("gapp/gates")), Some("two"));
    let moves = fleet.get("migrations")["items"].take();
    assert_eq!(moves.as_array().map(Vec::len), Some(3), "{moves}");
}
