//! Alerts fire when they should, and keep quiet when they should: asked of Prometheus' own engine.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test ends with what goes wrong"
)]

use flambeau_testbed::helm::chart;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

#[test]
fn alerts_fire_when_they_should_and_at_no_other_time() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("alerts.yaml");
    fs::copy(chart().join("files/alerts.yaml"), &rules).unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts.test.yaml");
    let text = fs::read_to_string(&tests).unwrap();
    fs::write(folder.path().join("alerts.test.yaml"), &text).unwrap();
    promtool(folder.path(), &["check", "rules", "alerts.yaml"]);
    promtool(folder.path(), &["test", "rules", "alerts.test.yaml"]);

    let rules = fs::read_to_string(rules).unwrap();
    let alerts = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    for alert in alerts {
        assert!(
            text.contains(&format!("alertname=\"{alert}\"")),
            "no test sees {alert} fire"
        );
    }
}

fn promtool(folder: &Path, arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("promtool is missing; `make prerequisites` installs it")
        }
        output => output.unwrap(),
    };
    assert!(
        output.status.success(),
        "promtool {}\n{}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
