//! What Helm makes of the chart, without a cluster.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test ends with what goes wrong"
)]

use flambeau_chart::{
    readme,
    rendered::{self, name, of_kind},
    rights,
};
use flambeau_testbed::helm::{Helm, chart};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// Everything that can be switched on, and every list filled.
fn all_options() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.join("tests/all-options.yaml")
}

fn with_all_options() -> Vec<Value> {
    rendered::objects(&[&format!("--values={}", all_options().display())]).unwrap()
}

fn values() -> Value {
    serde_yaml::from_str(&fs::read_to_string(chart().join("values.yaml")).unwrap()).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(chart().join("values.schema.json")).unwrap()).unwrap()
}

#[test]
fn helm_finds_no_fault() {
    let helm = Helm::offline().unwrap();
    let chart = chart().display().to_string();
    let all = all_options().display().to_string();
    helm.run(&["lint", "--strict", &chart]).unwrap();
    helm.run(&["lint", "--strict", &chart, "--values", &all])
        .unwrap();
}

#[test]
fn every_object_is_rendered_once_and_says_whose_it_is() {
    for objects in [rendered::objects(&[]).unwrap(), with_all_options()] {
        let mut seen = BTreeSet::new();
        for object in &objects {
            let labels = &object["metadata"]["labels"];
            assert_eq!(
                labels["app.kubernetes.io/part-of"],
                "flambeau",
                "{}",
                name(object)
            );
            assert!(
                seen.insert((name(object), object["metadata"]["namespace"].to_string())),
                "{} twice",
                name(object)
            );
        }
    }
    let kinds: BTreeSet<String> = with_all_options()
        .iter()
        .map(|object| object["kind"].as_str().unwrap().to_owned())
        .collect();
    for kind in ["ServiceMonitor", "PrometheusRule", "ConfigMap"] {
        assert!(kinds.contains(kind), "{kind} is an option: {kinds:?}");
    }
}

#[test]
fn options_reach_the_pods() {
    let objects = with_all_options();
    let deployment = of_kind(&objects, "Deployment").unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(
        container["image"],
        format!(
            "registry.example/flambeau/operator@sha256:{}",
            "0".repeat(64)
        ),
        "the digest wins over the tag"
    );
    let arguments = container["args"].to_string();
    for argument in [
        "--gateway=edge-system/public",
        "--envoy-stats-url=http://envoy.edge-system:8002/stats/prometheus",
        "--concurrent-moves=7",
        "--lease-seconds=20",
        "--otlp-endpoint=http://collector.monitoring:4318",
        "--no-such-argument",
    ] {
        assert!(arguments.contains(argument), "{argument} in {arguments}");
    }
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.map(|entry| entry["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&container["env"]),
        ["RUST_LOG", "NO_COLOR", "NO_PROXY", "NODE"]
    );
    assert_eq!(names(&pod["imagePullSecrets"]), ["registry"]);
    assert_eq!(pod["priorityClassName"], "system-cluster-critical");
    assert_eq!(pod["nodeSelector"]["kubernetes.io/os"], "linux");
    assert_eq!(pod["tolerations"][0]["key"], "dedicated");
    assert!(pod["affinity"]["nodeAffinity"].is_object());
    let spread = pod["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!(spread.len(), 1);
    assert_eq!(
        spread[0]["labelSelector"]["matchLabels"],
        deployment["spec"]["selector"]["matchLabels"]
    );
    assert_eq!(
        of_kind(&objects, "Deployment").unwrap()["spec"]["replicas"],
        3
    );
}

#[test]
fn no_role_has_a_wildcard() {
    let objects = with_all_options();
    let roles: Vec<&Value> = objects
        .iter()
        .filter(|object| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole")))
        .collect();
    println!("rights by role (one verb on one resource each):");
    for role in &roles {
        assert!(
            !role["rules"].to_string().contains('*'),
            "a wildcard in {}: {}",
            name(role),
            role["rules"]
        );
        let rights = rights::of(role);
        let writes = rights
            .iter()
            .filter(|right| !matches!(right.verb.as_str(), "get" | "list" | "watch"))
            .count();
        println!(
            "  {:<40} {:>3} rights in {:>2} rules, {writes:>3} of them write",
            name(role),
            rights.len(),
            role["rules"].as_array().unwrap().len()
        );
    }
    assert_eq!(roles.len(), 7);
    // Secrets in one namespace, and nowhere else.
    for role in roles {
        let secrets = rights::of(role)
            .into_iter()
            .filter(|right| right.resource == "secrets")
            .map(|right| (right.everywhere, right.verb))
            .collect::<Vec<_>>();
        assert!(
            secrets.iter().all(|(everywhere, _)| !everywhere),
            "{}: {secrets:?}",
            name(role)
        );
    }
}

/// The numbers by which others compare it: one verb on one resource each, wherever it is granted.
#[test]
fn the_security_page_counts_the_rights_of_the_operator() {
    const ROLES: [&str; 2] = ["ClusterRole flambeau-operator", "Role flambeau"];
    let objects = rendered::objects(&[]).unwrap();
    let roles: Vec<&Value> = objects
        .iter()
        .filter(|object| ROLES.contains(&name(object).as_str()))
        .collect();
    assert_eq!(roles.len(), ROLES.len());
    let rights: BTreeSet<(String, String, String)> = roles
        .into_iter()
        .flat_map(rights::of)
        .map(|right| (right.group, right.resource, right.verb))
        .collect();
    let secrets = rights.iter().filter(|right| right.1 == "secrets").count();
    let page = fs::read_to_string(chart().join("../../SECURITY.md")).unwrap();
    let row = page.lines().find(|line| line.starts_with("| Flambeau |"));
    let row = row.expect("SECURITY.md counts the rights of Flambeau");
    let counts: Vec<usize> = row
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect();
    assert_eq!(
        counts,
        [rights.len(), secrets],
        "SECURITY.md counts other rights: {row}"
    );
}

/// Kubernetes' role `view` shows no Secret, and applications hold some.
#[test]
fn whoever_may_view_sees_applications_only_where_that_is_wanted() {
    let seen = |settings: &[&str]| -> BTreeSet<String> {
        let label = "rbac.authorization.k8s.io/aggregate-to-view";
        let objects = rendered::objects(settings).unwrap();
        let roles = objects
            .iter()
            .filter(|object| object["metadata"]["labels"][label] == "true");
        roles
            .flat_map(rights::of)
            .map(|right| right.resource)
            .collect()
    };
    assert!(!seen(&[]).contains("gamesapplications"));
    assert!(seen(&[]).contains("migrations"));
    assert!(seen(&["--set=roles.viewApplications=true"]).contains("gamesapplications"));
    let nothing = seen(&[
        "--set=roles.aggregate=false",
        "--set=roles.viewApplications=true",
    ]);
    assert!(nothing.is_empty(), "{nothing:?}");
}

#[test]
fn definitions_are_those_of_the_types_and_stay() {
    let rendered = rendered::objects(&[]).unwrap();
    let mut definitions: BTreeMap<String, Value> = rendered
        .into_iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .map(|mut object| {
            let metadata = object["metadata"].as_object_mut().unwrap();
            let annotations = metadata.remove("annotations").unwrap();
            assert_eq!(annotations, json!({"helm.sh/resource-policy": "keep"}));
            metadata.remove("labels").unwrap();
            (name(&object), object)
        })
        .collect();
    for definition in flambeau_crds::all_crds() {
        let name = name(&serde_json::to_value(&definition).unwrap());
        let found = definitions.remove(&name).unwrap_or_default();
        let found = serde_json::from_value(found).unwrap();
        assert!(
            definition == found,
            "{name} in the chart is not what the types say: run `make generate`"
        );
    }
    assert!(definitions.is_empty(), "unknown: {:?}", definitions.keys());

    let kinds = |settings: &[&str]| {
        let objects = rendered::objects(settings).unwrap();
        objects
            .iter()
            .any(|object| object["kind"] == "CustomResourceDefinition")
    };
    assert!(!kinds(&["--set=crds.install=false"]));
    let removable = rendered::objects(&["--set=crds.keep=false"]).unwrap();
    let definition = of_kind(&removable, "CustomResourceDefinition").unwrap();
    assert!(definition["metadata"]["annotations"].is_null());
}

#[test]
fn bad_values_are_refused_by_name() {
    for (setting, said) in [
        ("replicas=two", "'/replicas': got string, want integer"),
        ("replicas=0", "'/replicas': minimum: got 0, want 1"),
        ("replica=3", "additional properties 'replica' not allowed"),
        ("image.digest=latest", "'/image/digest'"),
        ("image.tags=x", "'/image': additional properties 'tags'"),
        ("image.pullPolicy=Sometimes", "'/image/pullPolicy'"),
        ("operator.leaseSeconds=1", "'/operator/leaseSeconds'"),
        ("operator.concurrentMoves=0", "'/operator/concurrentMoves'"),
        ("gateway.name=", "'/gateway/name'"),
        ("gateway.statsUrl=https://envoy", "'/gateway/statsUrl'"),
        ("listenAddress=everywhere", "'/listenAddress'"),
        (
            "traces.otlpEndpoint=https://collector",
            "'/traces/otlpEndpoint'",
        ),
        (
            "traces.otlpEndpoint=http://collector:4318/v1/traces",
            "'/traces/otlpEndpoint'",
        ),
        (
            "traces.otlpEndpoint=http://user:password@collector:4318",
            "'/traces/otlpEndpoint'",
        ),
        // The Deployment sets these itself.
        ("extraEnv[0].name=RUST_LOG", "'/extraEnv/0/name'"),
        ("extraEnv[0].name=NO_COLOR", "'/extraEnv/0/name'"),
        ("resources.limits.memory=lots", "'/resources/limits/memory'"),
        ("tolerations[0].efect=x", "'/tolerations/0'"),
        (
            "serviceMonitor.interval=often",
            "'/serviceMonitor/interval'",
        ),
        (
            "admission.mayNameOthers={it's}",
            "'/admission/mayNameOthers/0'",
        ),
    ] {
        let refused = rendered::objects(&[&format!("--set={setting}")]);
        let error = format!("{:#}", refused.expect_err(setting));
        assert!(error.contains(said), "{setting}: {error}");
    }
}

/// Every object of the schema names its properties or says what they are, and speaks of the same values as values.yaml.
#[test]
fn the_schema_knows_every_value_and_no_other() {
    let schema = schema();
    compare("", &schema, &values());
    fn compare(path: &str, schema: &Value, value: &Value) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        assert_eq!(schema["additionalProperties"], false, "at '{path}'");
        let empty = Map::new();
        let value = value.as_object().unwrap_or(&empty);
        for (key, value) in value {
            let path = format!("{path}/{key}");
            let known = properties.get(key);
            assert!(known.is_some(), "{path} is not in values.schema.json");
            compare(&path, &schema["properties"][key], value);
        }
        for key in properties.keys().filter(|key| *key != "global") {
            assert!(
                value.contains_key(key) || path.starts_with("/affinity") || path == "/resources",
                "{path}/{key} is not in values.yaml"
            );
        }
    }
}

#[test]
fn the_readme_is_what_the_values_say() {
    let stored = fs::read_to_string(chart().join("README.md")).unwrap();
    assert!(
        stored == readme::generate().unwrap(),
        "charts/flambeau/README.md is not what values.yaml says: run `make generate`"
    );
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    // What a page speaks of and no metric shows.
    const WITHOUT_A_METRIC: [&str; 2] = ["PoliciesContradict", "README"];
    let docs = chart().join("../../docs/runbooks");
    let mut pages: BTreeSet<String> = fs::read_dir(&docs)
        .unwrap()
        .map(|page| page.unwrap().path())
        .map(|page| page.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for page in WITHOUT_A_METRIC {
        assert!(pages.remove(page), "{page} is gone: take it off the list");
    }
    let objects = with_all_options();
    let rules = of_kind(&objects, "PrometheusRule").unwrap();
    let mut missing = pages.clone();
    for rule in rules["spec"]["groups"][0]["rules"].as_array().unwrap() {
        let alert = rule["alert"].as_str().unwrap();
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        let page = link.strip_prefix("https://runbooks.example/").unwrap();
        let page = page.strip_suffix(".md").unwrap();
        assert!(pages.contains(page), "{alert} links to no page: {link}");
        missing.remove(page);
        assert!(rule["labels"]["severity"].is_string(), "{alert}");
        assert!(rule["annotations"]["summary"].is_string(), "{alert}");
    }
    assert!(missing.is_empty(), "no alert speaks of {missing:?}");
}

#[test]
fn the_dashboard_arrives_whole() {
    let objects = with_all_options();
    let shown = of_kind(&objects, "ConfigMap").unwrap();
    let shown: Value =
        serde_json::from_str(shown["data"]["flambeau.json"].as_str().unwrap()).unwrap();
    let file = fs::read_to_string(chart().join("dashboards/flambeau.json")).unwrap();
    assert_eq!(shown, serde_json::from_str::<Value>(&file).unwrap());
    let panels = shown["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels
        .iter()
        .map(|panel| panel["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids.len(), panels.len());
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{} is too wide", panel["title"]);
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                let free = taken.insert((x, y));
                assert!(free, "{} lies on another panel", panel["title"]);
            }
        }
    }
}

/// What a running operator exports is on that page, and a test of the operator keeps it true.
#[test]
fn alerts_and_dashboard_look_at_metrics_that_exist() {
    let page = chart().join("../../docs/reference/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    let exported = metrics(&page);
    for file in ["files/alerts.yaml", "dashboards/flambeau.json"] {
        let text = fs::read_to_string(chart().join(file)).unwrap();
        let looked_at = metrics(&text);
        assert!(looked_at.len() > 5, "{file}: {looked_at:?}");
        for metric in looked_at {
            let parts = ["_bucket", "_sum", "_count"];
            let histogram = parts.iter().find_map(|part| metric.strip_suffix(part));
            assert!(
                exported.contains(histogram.unwrap_or(&metric)),
                "{file} looks at {metric}, which docs/reference/metrics.md does not know"
            );
        }
    }
}

/// Every name of a metric in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let starts = text.match_indices("flambeau_");
    let names = starts.map(|(start, _)| {
        let letters = text[start..].chars();
        letters
            .take_while(|letter| letter.is_ascii_lowercase() || *letter == '_')
            .collect()
    });
    names.collect()
}
