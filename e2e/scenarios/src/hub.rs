//! Typed looks at the hub, and questions to applications through the edge.

use std::time::Duration;

use anyhow::{Context, Result};
use flambeau_crds::{
    GamesApplication, MemberCluster, Migration,
    application::{GamesApplicationStatus, Placement, PlacementRole},
    migration::{MigrationOutcome, MigrationStatus},
};
use flambeau_testbed::{api::ApiClient, cluster::Cluster};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use ureq::Agent;

/// Reads Flambeau's objects from the hub.
pub struct Hub {
    client: ApiClient,
}

#[derive(Deserialize)]
struct List<T> {
    items: Vec<T>,
}

impl Hub {
    /// Connects to the hub.
    ///
    /// # Errors
    /// When its kubeconfig cannot be read.
    pub fn new(hub: &Cluster) -> Result<Self> {
        Ok(Self {
            client: hub.client()?,
        })
    }

    /// All objects of a kind of Flambeau.
    ///
    /// # Errors
    /// When the hub does not answer, or with something else.
    pub fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>> {
        let body = self
            .client
            .get(&format!("/apis/flambeau.dev/v1alpha1/{path}"))?;
        let list: List<T> =
            serde_json::from_str(&body).with_context(|| format!("the hub's list of {path}"))?;
        Ok(list.items)
    }

    /// Changes the spec of an object of Flambeau's, at once: no other program has to start for it.
    ///
    /// # Errors
    /// When the hub does not answer, or refuses.
    pub fn change_spec(&self, path: &str, spec: &Value) -> Result<()> {
        let change = json!({ "spec": spec }).to_string();
        self.client
            .merge(&format!("/apis/flambeau.dev/v1alpha1/{path}"), &change)
    }

    /// The applications of a namespace.
    ///
    /// # Errors
    /// As [`Hub::list`].
    pub fn applications(&self, namespace: &str) -> Result<Vec<GamesApplication>> {
        self.list(&format!("namespaces/{namespace}/gamesapplications"))
    }

    /// One application; none when there is none.
    ///
    /// # Errors
    /// As [`Hub::list`].
    pub fn application(&self, namespace: &str, name: &str) -> Result<Option<GamesApplication>> {
        let applications = self.applications(namespace)?;
        Ok(applications
            .into_iter()
            .find(|application| application.metadata.name.as_deref() == Some(name)))
    }

    /// The moves of a namespace, in the order in which they began.
    ///
    /// # Errors
    /// As [`Hub::list`].
    pub fn migrations(&self, namespace: &str) -> Result<Vec<Migration>> {
        let mut migrations: Vec<Migration> =
            self.list(&format!("namespaces/{namespace}/migrations"))?;
        migrations.sort_by_key(|migration| {
            let status = migration.status.as_ref();
            let began = status.and_then(|status| status.start_time.as_ref());
            (
                began.is_none(),
                began.map(|time| time.0),
                migration.metadata.name.clone(),
            )
        });
        Ok(migrations)
    }
}

/// The status of a condition, `True`, `False` or `Unknown`; the last also when it is not there.
pub fn truth<'a>(conditions: &'a [Condition], kind: &str) -> &'a str {
    condition(conditions, kind).map_or("Unknown", |condition| &condition.status)
}

/// A condition of that type.
pub fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// What an application's status says; empty before the first.
pub fn status(application: &GamesApplication) -> GamesApplicationStatus {
    application.status.clone().unwrap_or_default()
}

/// Why an application is not at rest at `cluster`; none when it is: one active copy, there, serving, lawful, and
/// nothing under way.
pub fn unrest(application: &GamesApplication, cluster: &str) -> Option<String> {
    unrest_but_for(application, cluster, None)
}

/// The same, but for a copy that waits to be erased on a cluster that is `dead`.
pub fn unrest_but_for(
    application: &GamesApplication,
    cluster: &str,
    dead: Option<&str>,
) -> Option<String> {
    let status = status(application);
    let conditions = &status.conditions;
    if status.observed_generation != application.metadata.generation {
        return Some("its spec was not observed yet".to_owned());
    }
    let copies: Vec<_> = status
        .placements
        .iter()
        .map(|placement| (placement.cluster.as_str(), placement.role))
        .filter(|(place, role)| Some(*place) != dead || *role != PlacementRole::Retiring)
        .collect();
    if copies != [(cluster, PlacementRole::Active)] {
        let next = status.next.as_deref().unwrap_or("nothing is next");
        return Some(format!(
            "it has copies at {copies:?} instead of one at {cluster}: {next}"
        ));
    }
    let expected = [
        ("Ready", "True"),
        ("Lawful", "True"),
        ("Reconciling", "False"),
        ("Stalled", "False"),
    ];
    // As long as a copy waits, something is under way.
    let waits = dead.is_some_and(|dead| {
        let there = |placement: &Placement| placement.cluster == dead;
        status.placements.iter().any(there)
    });
    let (kind, _) = expected
        .iter()
        .filter(|(kind, _)| !waits || *kind != "Reconciling")
        .find(|(kind, expected)| truth(conditions, kind) != *expected)?;
    let message = condition(conditions, kind).map_or("no such condition", |found| &found.message);
    Some(format!("{kind} is {}: {message}", truth(conditions, kind)))
}

/// What Flambeau thinks of a cluster, such as `Healthy`; empty before it was judged.
///
/// # Errors
/// When the hub does not answer, or there is no such cluster.
pub fn health(hub: &Hub, cluster: &str) -> Result<String> {
    let clusters: Vec<MemberCluster> = hub.list("memberclusters")?;
    let found = clusters
        .into_iter()
        .find(|found| found.metadata.name.as_deref() == Some(cluster))
        .with_context(|| format!("there is no MemberCluster {cluster}"))?;
    Ok(found
        .status
        .and_then(|status| status.health)
        .unwrap_or_default())
}

/// How a move ended, if it did.
pub fn outcome(migration: &Migration) -> Option<MigrationOutcome> {
    migration
        .status
        .as_ref()
        .and_then(|status: &MigrationStatus| status.outcome)
}

/// Asks applications for their first page, as a person would.
pub struct Edge {
    agent: Agent,
    url: String,
}

impl Edge {
    /// The edge at an address.
    pub fn new(url: &str) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(5)))
            .proxy(None)
            .build()
            .new_agent();
        Self {
            agent,
            url: url.to_owned(),
        }
    }

    /// What stands in the way of an answer of status 200 from a host; none when it answers.
    pub fn silence(&self, host: &str) -> Option<String> {
        let answer = self.agent.get(&self.url).header("Host", host).call();
        answer.err().map(|error| format!("{host}: {error}"))
    }
}
