//! The page about metrics: it explains what is exported, and nothing else.

use crate::{
    active,
    fleet::{Fleet, application, refuse},
    moves::request,
    page::{Values, base, page},
};
use flambeau_operator::{
    act::HubWrites,
    dirty::Dirty,
    edge::{EdgeSettings, GatewayEdge},
    leader::Leadership,
    members::{MemberSettings, Members},
    metrics::{self, Metrics},
    requests::HubRequests,
};
use flambeau_planner::health::Health;
use flambeau_testbed::upstream::Tools;
use kube::Config;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Names, without what the format appends by type, and help of everything that
/// is registered, whether it has a value yet or not: the registry shows that
/// to debuggers only.
async fn registered() -> BTreeMap<String, String> {
    let leadership = Leadership::always();
    let members = Members::new(
        Dirty::default(),
        MemberSettings::default(),
        leadership.clone(),
    );
    let nowhere = Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = flambeau_operator::transport::client(&nowhere, &leadership).unwrap();
    let settings = EdgeSettings {
        gateway_namespace: "edge".to_owned(),
        gateway_name: "edge".to_owned(),
        stats_url: None,
    };
    let edge = GatewayEdge::new(client, Dirty::default(), settings);
    let (metrics, requests) = (Metrics::default(), HubRequests::default());
    let writes = HubWrites::default();
    let registry = metrics::registry(leadership, &metrics, &requests, &writes, &members, &edge);
    let debug = format!("{registry:?}");
    let mut found: BTreeMap<String, String> = debug
        .split("Descriptor { name: \"")
        .skip(1)
        .map(|descriptor| {
            let (name, rest) = descriptor.split_once("\", help: \"").unwrap();
            let (help, rest) = rest.split_once("\", unit: ").unwrap();
            let unit = if rest.starts_with("Some(Seconds)") {
                "_seconds"
            } else {
                ""
            };
            (format!("flambeau_{name}{unit}"), help.to_owned())
        })
        .collect();
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in text.lines() {
        if let Some((name, help)) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
        {
            found
                .entry(name.to_owned())
                .or_insert_with(|| help.to_owned());
        }
    }
    found
}

#[tokio::test]
async fn the_page_explains_every_metric_in_the_words_that_the_operator_exports() {
    let registered = registered().await;
    let page = page();
    let bases: BTreeSet<&str> = page.keys().map(|name| base(name)).collect();
    let names: BTreeSet<&str> = registered.keys().map(String::as_str).collect();
    assert_eq!(
        bases, names,
        "left: docs/reference/metrics.md; right: what is registered"
    );
    for (name, row) in &page {
        let help = &registered[base(name)];
        assert!(
            row.meaning.starts_with(help.trim_end_matches('.')),
            "the page says of {name}: {}; the operator: {help}",
            row.meaning
        );
    }
    let Values::Words(health) = &page["flambeau_member_health"].labels["health"] else {
        panic!("the words for health are not listed");
    };
    assert_eq!(*health, Health::WORDS.map(str::to_owned).into());
}

/// Types and sets of labels of everything that was exported while somebody
/// looked.
#[derive(Default)]
struct Seen {
    types: BTreeMap<String, String>,
    labels: BTreeMap<String, BTreeSet<BTreeMap<String, String>>>,
}

impl Seen {
    fn look(&mut self, text: &str) {
        let mut current = String::new();
        for line in text.lines() {
            if let Some((name, type_)) = line
                .strip_prefix("# TYPE ")
                .and_then(|rest| rest.split_once(' '))
            {
                let suffix = match type_ {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                current = format!("{name}{suffix}");
                self.types.insert(current.clone(), type_.to_owned());
            } else if !line.starts_with('#') && !line.is_empty() {
                let labels = line.split_once('{').map_or(BTreeMap::new(), |(_, rest)| {
                    labels_of(rest.rsplit_once('}').unwrap().0)
                });
                self.labels
                    .entry(current.clone())
                    .or_default()
                    .insert(labels);
            }
        }
    }
}

/// No value here has a comma or a quotation mark in it.
fn labels_of(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|label| label.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()))
        .filter(|(name, _)| name != "le")
        .collect()
}

#[test]
fn a_running_operator_exports_what_the_page_says_with_these_types_and_labels() {
    let fleet = Fleet::start();
    let seen = std::cell::RefCell::new(Seen::default());
    let watch = |what: &str, done: &dyn Fn(&Fleet, &str) -> bool| {
        fleet.until(what, |fleet| {
            let text = fleet.metrics();
            seen.borrow_mut().look(&text);
            done(fleet, &text)
        });
    };
    live_a_little(&fleet, &watch);
    moves_are_refused_and_held(&fleet, &watch);
    is_fenced(&fleet, &watch);

    let page = page();
    let seen = seen.into_inner();
    for (name, row) in &page {
        let labels = seen
            .labels
            .get(name)
            .unwrap_or_else(|| panic!("{name} was not exported: bring it about here"));
        assert_eq!(row.type_, seen.types[name], "type of {name}");
        for set in labels {
            let (told, exported): (BTreeSet<_>, BTreeSet<_>) =
                (row.labels.keys().collect(), set.keys().collect());
            assert_eq!(
                told, exported,
                "labels of {name}: left: the page; right: exported"
            );
            for (label, value) in set {
                assert!(
                    row.labels[label].allow(value),
                    "{name}: {label}=\"{value}\" is not on the page"
                );
            }
        }
    }
    let more: Vec<_> = seen
        .types
        .keys()
        .filter(|name| !page.contains_key(*name))
        .collect();
    assert!(more.is_empty(), "not on the page: {more:?}");
}

type Watch<'a> = &'a dyn Fn(&str, &dyn Fn(&Fleet, &str) -> bool);

/// A placement with traffic, a move, a place that becomes unlawful without
/// another one, an Evacuation of nothing.
fn live_a_little(fleet: &Fleet, watch: Watch<'_>) {
    let gateway_api = Tools::places()
        .unwrap()
        .contour_crds
        .join("gateway-api.yaml");
    let file = gateway_api.display().to_string();
    fleet.hub(&["apply", "--server-side", "-f", &file]);
    let mut badges = application("badges");
    badges["spec"]["traffic"] = json!({
        "hostnames": ["badges.games.example"], "service": {"name": "badges", "port": 80},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "badges"}, "spec": {"ports": [{"port": 80}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "badges", "labels": {"kubernetes.io/service-name": "badges"}},
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": true}}],
    });
    let resources = badges["spec"]["resources"].as_array_mut().unwrap();
    resources.extend([service, slice]);
    fleet.apply(&badges);
    fleet.apply(&application("plain"));
    watch(
        "applications are placed, and the edge is written",
        &|fleet, text| {
            text.contains("flambeau_edge_writes_total")
                && active(&fleet.get("gapp/plain")) == Some("one")
        },
    );
    fleet.apply(&refuse("law", &["east"]));
    watch("a move is over", &|_, text| {
        text.contains("flambeau_moves_total{type=\"Relocate\",result=\"Completed\"}")
    });
    fleet.apply(&refuse("law", &["east", "west"]));
    fleet.apply(&json!({
        "apiVersion": "flambeau.dev/v1alpha1", "kind": "Evacuation", "metadata": {"name": "nowhere"},
        "spec": {"cluster": "nowhere", "reason": "to be told that there is none"},
    }));
    watch(
        "nowhere is lawful, and an Evacuation has nothing to empty",
        &|_, text| {
            text.contains("reason=\"NoLawfulCluster\"") && text.contains("state=\"ClusterUnknown\"")
        },
    );
}

/// A move to where a policy refuses, and one that a person holds.
fn moves_are_refused_and_held(fleet: &Fleet, watch: Watch<'_>) {
    let away = active(&fleet.get("gapp/plain")).unwrap().to_owned();
    let to = if away == "one" { "two" } else { "one" };
    fleet.apply(&request("unlawful", "plain", &away, to));
    watch("a gate fails", &|_, text| {
        text.contains("flambeau_gates_failed_total{step=\"Preflight\",reason=\"ProviderRefused\"}")
    });
    fleet.hub(&["delete", "sovereigntypolicy", "law"]);
    let mut held = request("held", "plain", &away, to);
    held["spec"]["pause"] = json!(true);
    fleet.apply(&held);
    watch("a person holds a move", &|_, text| {
        text.contains("flambeau_migrations_waiting{reason=\"Paused\"} 1")
    });
    fleet.hub(&["delete", "migration", "held", "--timeout=60s"]);
}

/// The member remembers a higher epoch than the hub: so it is after the hub
/// was restored from an old backup.
fn is_fenced(fleet: &Fleet, watch: Watch<'_>) {
    let entry = "-o=jsonpath={.data.plain}";
    let read = ["get", "configmap", "flambeau-epochs", entry];
    let remembered = |cluster: &str| fleet.members[cluster].kubectl(&read).unwrap_or_default();
    let cluster = active(&fleet.get("gapp/plain")).unwrap().to_owned();
    watch("the member remembers the epoch", &|_, _| {
        !remembered(&cluster).is_empty()
    });
    let entry = remembered(&cluster);
    let (created, _) = entry.split_once('/').unwrap();
    let patch = json!({"data": {"plain": format!("{created}/0000000099")}}).to_string();
    let raise = [
        "patch",
        "configmap",
        "flambeau-epochs",
        "--type=merge",
        "-p",
    ];
    fleet.member(&cluster, &[&raise[..], &[&patch]].concat());
    let mut changed = application("plain");
    changed["spec"]["resources"][0]["data"]["key"] = json!("changed");
    fleet.apply(&changed);
    watch("the member refuses a write", &|_, text| {
        text.contains("flambeau_member_fenced_writes_total")
    });
}
