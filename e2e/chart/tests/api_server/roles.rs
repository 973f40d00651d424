//! What each role may do, and what not: every verb on every kind, asked of the API server as that user.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context, Result, ensure};
use flambeau_testbed::helm::NAMESPACE;
use libtest_mimic::Trial;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cluster::{Cluster, GAMES, SharedCluster};

const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

const KINDS: [&str; 7] = [
    "cloudproviders",
    "evacuations",
    "freezes",
    "gamesapplications",
    "memberclusters",
    "migrations",
    "sovereigntypolicies",
];

/// Everything but to delete what was not looked at.
const OWNS: &str = "get list watch create update patch delete";
const LOOKS: &str = "get list watch";

/// A user, and the verbs that it may use on kinds; none on the others.
type Expected = (&'static str, &'static [(&'static str, &'static str)]);

const EXPECTED: [Expected; 6] = [
    // A role that is bound in a namespace says nothing of what has none; nor does `view` show Secrets.
    ("spectator", &[("migrations", LOOKS)]),
    (
        "passer-by",
        &[
            ("cloudproviders", LOOKS),
            ("evacuations", LOOKS),
            ("freezes", LOOKS),
            ("memberclusters", LOOKS),
            ("migrations", LOOKS),
            ("sovereigntypolicies", LOOKS),
        ],
    ),
    (
        "owner",
        &[("gamesapplications", OWNS), ("migrations", LOOKS)],
    ),
    (
        "everybody",
        &[
            ("cloudproviders", LOOKS),
            ("evacuations", LOOKS),
            ("freezes", LOOKS),
            ("gamesapplications", LOOKS),
            ("memberclusters", LOOKS),
            ("migrations", LOOKS),
            ("sovereigntypolicies", LOOKS),
        ],
    ),
    (
        "sre",
        &[
            ("cloudproviders", LOOKS),
            ("evacuations", OWNS),
            ("freezes", OWNS),
            ("gamesapplications", LOOKS),
            ("memberclusters", "get list watch update patch"),
            ("migrations", "get list watch create update patch"),
            ("sovereigntypolicies", LOOKS),
        ],
    ),
    (
        "compliance",
        &[
            ("cloudproviders", OWNS),
            ("evacuations", LOOKS),
            ("freezes", LOOKS),
            ("gamesapplications", "get list watch declassify"),
            ("memberclusters", LOOKS),
            ("migrations", LOOKS),
            ("sovereigntypolicies", OWNS),
        ],
    ),
];

pub fn trials(cluster: &Arc<SharedCluster>) -> Vec<Trial> {
    let mut trials: Vec<Trial> = EXPECTED
        .iter()
        .map(|(user, expected)| {
            cluster.trial(format!("roles::{user}"), move |cluster| {
                exactly(cluster, user, expected)
            })
        })
        .collect();
    trials.push(cluster.trial("roles::nobody_writes_status_or_reads_secrets", records));
    trials.push(cluster.trial("roles::an_owner_is_bound_to_its_namespace", bound));
    trials
}

fn exactly(cluster: &Cluster, user: &str, expected: &[(&str, &str)]) -> Result<()> {
    let questions: Vec<(&str, &str)> = KINDS
        .iter()
        .flat_map(|kind| {
            VERBS
                .iter()
                .chain(&["declassify"])
                .map(move |verb| (*kind, *verb))
        })
        .collect();
    let reviews: Vec<Value> = questions
        .iter()
        .map(|(kind, verb)| {
            let namespaced = matches!(*kind, "gamesapplications" | "migrations");
            let namespace = if namespaced { GAMES } else { "" };
            review(namespace, "flambeau.dev", kind, verb)
        })
        .collect();
    let allowed = ask(cluster, user, &reviews)?;
    let may: BTreeSet<(&str, &str)> = questions
        .into_iter()
        .zip(allowed)
        .filter_map(|(question, allowed)| allowed.then_some(question))
        .collect();
    let should: BTreeSet<(&str, &str)> = expected
        .iter()
        .flat_map(|(kind, verbs)| verbs.split(' ').map(move |verb| (*kind, verb)))
        .collect();
    let (more, less): (Vec<_>, Vec<_>) = (
        may.difference(&should).collect(),
        should.difference(&may).collect(),
    );
    ensure!(
        more.is_empty() && less.is_empty(),
        "{user} may do more: {more:?}; and less: {less:?}"
    );
    Ok(())
}

/// Records are the operator's; credentials are read by nobody else because of these roles.
fn records(cluster: &Cluster) -> Result<()> {
    let mut reviews: Vec<Value> = KINDS
        .iter()
        .flat_map(|kind| {
            let status = format!("{kind}/status");
            ["update", "patch"].map(|verb| review(GAMES, "flambeau.dev", &status, verb))
        })
        .collect();
    reviews.extend(["get", "list"].map(|verb| review(NAMESPACE, "", "secrets", verb)));
    for (user, _) in EXPECTED {
        let allowed = ask(cluster, user, &reviews)?;
        for (review, allowed) in reviews.iter().zip(allowed) {
            ensure!(!allowed, "{user} may {}", review["spec"]);
        }
    }
    Ok(())
}

fn bound(cluster: &Cluster) -> Result<()> {
    let reviews = [GAMES, "default"]
        .map(|namespace| review(namespace, "flambeau.dev", "gamesapplications", "create"));
    let allowed = ask(cluster, "owner", &reviews)?;
    ensure!(allowed == [true, false], "owner: {allowed:?}");
    Ok(())
}

fn review(namespace: &str, group: &str, resource: &str, verb: &str) -> Value {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {
            "namespace": namespace, "group": group, "resource": resource, "subresource": subresource, "verb": verb,
        }},
    })
}

/// What the API server answers to a user, in order.
fn ask(cluster: &Cluster, user: &str, reviews: &[Value]) -> Result<Vec<bool>> {
    let file = cluster.file(reviews)?;
    let answers =
        cluster.kubectl(&["create", "-o", "json", "-f", &file, &format!("--as={user}")])?;
    let mut allowed = Vec::new();
    // One object after the other, or a list of them.
    for answer in serde_json::Deserializer::from_str(&answers).into_iter::<Answer>() {
        match answer.context("read the reviews")? {
            Answer::One { status } => allowed.push(status.allowed),
            Answer::List { items } => {
                allowed.extend(items.into_iter().map(|item| item.status.allowed));
            }
        }
    }
    ensure!(
        allowed.len() == reviews.len(),
        "{} of {} answers",
        allowed.len(),
        reviews.len()
    );
    Ok(allowed)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    List { items: Vec<Item> },
    One { status: Status },
}

#[derive(Deserialize)]
struct Item {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    allowed: bool,
}
