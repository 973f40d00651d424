//! A real Prometheus scrapes the real operator, with the chart's own rules.

use crate::{
    fleet::{Fleet, application, free_port, get_over_http, refuse},
    page::page,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Child, Command},
};
use tempfile::TempDir;

/// A Prometheus that is stopped when dropped.
struct Prometheus {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Prometheus {
    /// Scrapes an operator and evaluates the chart's alerts, both twice a second.
    fn of(operator: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("alerts.yaml"), impatient_alerts()).unwrap();
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}}\n\
             rule_files: [alerts.yaml]\n\
             scrape_configs:\n\
             - job_name: flambeau\n  \
               static_configs: [{{targets: ['127.0.0.1:{operator}']}}]\n"
        );
        let file = folder.path().join("prometheus.yaml");
        fs::write(&file, config).unwrap();
        let port = free_port();
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--log.level=warn")
            .spawn();
        let process = match process {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("prometheus is missing; `make prerequisites` installs it")
            }
            process => process.unwrap(),
        };
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    /// What its API answers; null while it does not.
    fn ask(&self, path: &str) -> Value {
        let answer = get_over_http(self.port, path);
        let answer = answer.and_then(|(_, body)| serde_json::from_str::<Value>(&body).ok());
        answer.map_or(Value::Null, |answer| answer["data"].clone())
    }

    fn query(&self, expression: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let result = self.ask(&path)["result"].clone();
        result.as_array().cloned().unwrap_or_default()
    }

    /// Alerts that fire now; none while it does not answer.
    fn firing(&self) -> Option<BTreeSet<String>> {
        let alerts = self.ask("/api/v1/alerts")["alerts"].clone();
        let alerts = alerts.as_array()?.iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        Some(firing.map(|alert| name(&alert["labels"])).collect())
    }

    /// Alerts that fired at any time of the last minutes.
    fn ever_fired(&self) -> BTreeSet<String> {
        let all = self.query("count_over_time(ALERTS{alertstate=\"firing\"}[10m])");
        all.iter().map(|one| name(&one["metric"])).collect()
    }
}

fn name(labels: &Value) -> String {
    let alert = labels["alertname"].as_str().unwrap();
    let alert = alert.strip_prefix("Flambeau").unwrap_or(alert).to_owned();
    match labels["cluster"].as_str() {
        Some(cluster) => format!("{alert} {cluster}"),
        None => alert,
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() {
            all.push(char::from(byte));
        } else {
            write!(all, "%{byte:02X}").unwrap();
        }
        all
    })
}

fn chart(file: &str) -> String {
    let chart: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts/flambeau");
    fs::read_to_string(chart.join(file)).unwrap()
}

/// What the panels of the dashboard ask.
fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&chart("dashboards/flambeau.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let asked = panels.flat_map(|panel| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let targets = panel["targets"].as_array().unwrap().iter();
        targets.map(move |target| (text(&panel["title"]), text(&target["expr"])))
    });
    asked.collect()
}

/// What the page for people asks.
fn documented() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/observe.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    let code = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let queries = code.filter(|code| code.contains("flambeau_"));
    queries
        .map(|query| ("docs/observe.md".to_owned(), query.to_owned()))
        .collect()
}

/// The alerts of the chart, which wait for a moment where they wait.
fn impatient_alerts() -> String {
    let mut rules: Value = serde_yaml::from_str(&chart("files/alerts.yaml")).unwrap();
    for rule in rules["groups"][0]["rules"].as_array_mut().unwrap() {
        if let Some(patience) = rule.get_mut("for") {
            *patience = "500ms".into();
        }
    }
    rules.to_string()
}

/// Every name of a metric in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let starts = text.match_indices("flambeau_");
    let names = starts.map(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        &rest[..end.unwrap_or(rest.len())]
    });
    names.collect()
}

#[test]
fn prometheus_scrapes_the_operator_and_its_alerts_fire_when_they_should_and_not_before() {
    let fleet = Fleet::start();
    fleet.place(&application("badges"));
    let prometheus = Prometheus::of(fleet.port);
    everything_is_there(&fleet, &prometheus);

    fleet.until("nothing fires while all is well", |_| {
        prometheus.firing() == Some(BTreeSet::new())
    });
    let before = prometheus.ever_fired();
    // Before the first scrape nobody was seen to lead.
    let expected = BTreeSet::from(["OperatorWithoutLease".to_owned()]);
    assert!(before.is_subset(&expected), "fired in vain: {before:?}");

    fleet.apply(&refuse("law", &["east", "west"]));
    let fires = |what: &str, expected: &[&str]| {
        let expected: BTreeSet<String> = expected.iter().map(ToString::to_string).collect();
        fleet.until(what, |_| prometheus.firing().as_ref() == Some(&expected));
    };
    let unlawful = ["NoLawfulCluster", "Unlawful", "Unprotected"];
    fires("an application has no lawful place", &unlawful);

    fleet.cut("two");
    let lost = [
        "ClusterLost two",
        "NoLawfulCluster",
        "Unlawful",
        "Unprotected",
    ];
    fires("a member is lost as well", &lost);

    fleet.mend("two");
    fires("the member is back", &unlawful);
    fleet.hub(&["delete", "sovereigntypolicy", "law"]);
    fires("all is well again", &[]);
    let mut fired = prometheus.ever_fired();
    fired.retain(|alert| !expected.contains(alert));
    let told: BTreeSet<String> = lost.map(str::to_owned).into();
    assert_eq!(fired, told, "left: what fired in all this time");
}

/// Targets are up, rules are understood, and what rules and dashboard look at
/// is there.
fn everything_is_there(fleet: &Fleet, prometheus: &Prometheus) {
    fleet.until("the operator is scraped", |_| {
        let targets = &prometheus.ask("/api/v1/targets")["activeTargets"];
        targets[0]["health"] == "up"
    });
    let alerts = chart("files/alerts.yaml").matches("- alert: ").count();
    fleet.until("every rule was evaluated", |_| {
        let group = &prometheus.ask("/api/v1/rules")["groups"][0];
        let rules = group["rules"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(
            rules.iter().all(|rule| rule["health"] != "err"),
            "{rules:#?}"
        );
        rules.len() == alerts && rules.iter().all(|rule| rule["health"] == "ok")
    });
    fleet.until("it was scraped some more times", |_| {
        !prometheus
            .query("count_over_time(flambeau_leader[1m]) > 4")
            .is_empty()
    });

    let names = prometheus.ask("/api/v1/label/__name__/values");
    let names = names.as_array().unwrap().iter();
    let scraped: BTreeSet<&str> = names.map(|name| name.as_str().unwrap()).collect();
    let page = page();
    let is_there = |metric: &str| {
        let parts = [metric.to_owned(), format!("{metric}_bucket")];
        parts.iter().any(|part| scraped.contains(part.as_str()))
    };
    for (metric, row) in &page {
        assert!(
            is_there(metric) || !row.always(),
            "docs/reference/metrics.md says that {metric} is always there, and it was not scraped"
        );
    }
    let (panels, documented) = (panels(), documented());
    assert!(panels.len() > 20 && documented.len() > 8);
    for (panel, expression) in panels.into_iter().chain(documented) {
        let path = format!("/api/v1/query?query={}", encoded(&expression));
        let (status, answer) = get_over_http(prometheus.port, &path).unwrap();
        assert_eq!(status, 200, "{panel}: {answer}");
    }
    for file in ["files/alerts.yaml", "dashboards/flambeau.json"] {
        for metric in metrics(&chart(file)) {
            let parts = ["_bucket", "_sum", "_count"];
            let whole = parts.iter().find_map(|part| metric.strip_suffix(part));
            let row = page.get(whole.unwrap_or(metric));
            let comes = row.is_some_and(|row| !row.always());
            assert!(
                is_there(metric) || comes,
                "{file} looks at {metric}, which was not scraped and comes on no event"
            );
        }
    }
}
