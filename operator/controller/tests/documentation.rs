//! What the documentation asks of `flambeau-operator` is understood, and
//! answered with the exit codes that it speaks of.

#![allow(clippy::unwrap_used, reason = "a test ends with what goes wrong")]

use flambeau_testbed::documentation::{self, Class};
use std::{path::Path, process::Command};

#[test]
fn what_the_documentation_asks_of_the_planner_is_answered() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    // As `kubectl get flambeau -o yaml` would have printed it.
    let fleet = folder.path().join("fleet.yaml").display().to_string();
    let example = repository.join("crds/examples/gamesapplications.yaml");
    std::fs::copy(example, &fleet).unwrap();
    let mut asked = 0;
    for command in documentation::commands().unwrap() {
        if command.class() != Some(Class::Operator) {
            continue;
        }
        asked += 1;
        let arguments = command.words().split_off(1);
        let arguments = arguments
            .iter()
            .map(|word| word.replace("target/fleet.yaml", &fleet));
        let output = Command::new(env!("CARGO_BIN_EXE_flambeau-operator"))
            .args(arguments)
            .current_dir(&repository)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // Moves or violations are pending, or nothing is.
        let code = output.status.code();
        assert!(
            matches!(code, Some(0 | 2)),
            "{}: {}: {code:?}\n{said}",
            command.place,
            command.text
        );
    }
    assert!(asked >= 4, "only {asked} commands were found");
}
