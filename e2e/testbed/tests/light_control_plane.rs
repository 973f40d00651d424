//! The light control plane starts, serves, and leaves nothing behind.

use std::fs;
use std::path::Path;

use flambeau_testbed::control_plane::{ControlPlane, Options};

#[test]
fn serves_with_a_controller_manager_and_ends_with_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let plane = ControlPlane::start(
        folder.path(),
        &Options {
            controller_manager: true,
            ..Options::default()
        },
    )
    .unwrap();
    plane.kubectl(&["create", "namespace", "games"]).unwrap();
    plane
        .kubectl(&["create", "deployment", "web", "--image=none", "-n", "games"])
        .unwrap();
    plane
        .kubectl(&["rollout", "history", "deployment/web", "-n", "games"])
        .unwrap();
    // Only the controller manager empties and removes a namespace.
    plane
        .kubectl(&["delete", "namespace", "games", "--timeout=60s"])
        .unwrap();

    let marker = folder.path().display().to_string();
    assert!(
        processes_with(&marker) >= 3,
        "etcd, the API server and the controller manager run"
    );
    drop(plane);
    assert_eq!(processes_with(&marker), 0, "nothing runs after the drop");
}

#[test]
fn outlives_the_thread_that_started_it() {
    let plane = std::thread::spawn(|| ControlPlane::start_temporary(&Options::default()).unwrap())
        .join()
        .unwrap();
    plane.kubectl(&["get", "namespaces"]).unwrap();
}

/// Counts the processes that were given a path that starts with `marker`.
fn processes_with(marker: &str) -> usize {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| mentions(&entry.path(), marker))
        .count()
}

fn mentions(process: &Path, marker: &str) -> bool {
    fs::read(process.join("cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains(marker))
}
