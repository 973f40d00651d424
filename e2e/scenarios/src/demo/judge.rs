//! Whether the story went as it should.

use anyhow::Result;
use flambeau_crds::{GamesApplication, application::PlacementRole};
use flambeau_testbed::{cluster::Cluster, testbed::Testbed};
use jiff::Timestamp;
use serde_json::Value;

use super::cast::{ACTS, CAST, Expected, NAMESPACE, Role};
use crate::{
    hub::{condition, status, truth},
    load::ApplicationResult,
    report::{MigrationReport, Placement, Report},
};

/// Where each application ended, as the report tells it.
pub fn placements(applications: &[GamesApplication]) -> Vec<Placement> {
    CAST.iter()
        .map(|role| {
            let application = applications
                .iter()
                .find(|application| application.metadata.name.as_deref() == Some(role.name()));
            let status = application.map(status).unwrap_or_default();
            let lawful = condition(&status.conditions, "Lawful");
            let asked = role.asked();
            Placement {
                application: role.name().to_owned(),
                namespace: NAMESPACE.to_owned(),
                sensitivity: format!("{:?}", asked.sensitivity),
                criticality: format!("{:?}", asked.criticality),
                before: Some(role.place(0).to_owned()),
                cluster: status.cluster.clone(),
                lawful: truth(&status.conditions, "Lawful") == "True",
                explanation: lawful.map(|condition| condition.message.clone()),
            }
        })
        .collect()
}

/// Adds everything that is not as the cast demands to the report's problems.
///
/// # Errors
/// When a cluster cannot be asked.
pub fn judge(
    report: &mut Report,
    applications: &[GamesApplication],
    testbed: &Testbed,
) -> Result<()> {
    let mut problems = Vec::new();
    for role in &CAST {
        let application = applications
            .iter()
            .find(|application| application.metadata.name.as_deref() == Some(role.name()));
        match application {
            Some(application) => problems.extend(misplaced(role, application)),
            None => problems.push(format!("{} is gone from the hub.", role.name())),
        }
        problems.extend(wrong_moves(role, &report.migrations));
        problems.extend(wrong_answers(role, report));
        for cluster in testbed.members() {
            problems.extend(wrong_objects(role, cluster)?);
        }
    }
    report.problems.extend(problems);
    Ok(())
}

fn misplaced(role: &Role, application: &GamesApplication) -> Vec<String> {
    let (name, place) = (role.name(), role.place(ACTS.len()));
    let status = status(application);
    let mut problems = Vec::new();
    let active: Vec<&str> = status
        .placements
        .iter()
        .filter(|placement| placement.role == PlacementRole::Active)
        .map(|placement| placement.cluster.as_str())
        .collect();
    if active != [place] {
        problems.push(format!(
            "{name} is active at {active:?} instead of {place} alone."
        ));
    }
    for kind in ["Lawful", "Ready"] {
        let conditions = &status.conditions;
        if truth(conditions, kind) != "True" {
            let why = condition(conditions, kind).map_or("", |condition| &condition.message);
            problems.push(format!("{name} is not {kind} in the end: {why}"));
        }
    }
    problems
}

fn wrong_moves(role: &Role, migrations: &[MigrationReport]) -> Vec<String> {
    let name = role.name();
    let own = || {
        migrations
            .iter()
            .filter(|migration| migration.application == name)
    };
    let words = |from: &str, to: &str, kind: &str| format!("{kind} from {from} to {to}");
    let made: Vec<String> = own()
        .map(|migration| words(&migration.from, &migration.to, &migration.kind))
        .collect();
    let expected = role.moves().into_iter();
    let expected: Vec<String> = expected
        .map(|Expected { from, to, kind }| words(from, to, kind))
        .collect();
    let mut problems = Vec::new();
    if made != expected {
        problems.push(format!(
            "{name} made the moves {made:?} instead of {expected:?}."
        ));
    }
    for migration in own() {
        match migration.outcome.as_deref() {
            Some("Completed") => {}
            outcome => problems.push(format!(
                "The move of {name} from {} to {} ended as {outcome:?}.",
                migration.from, migration.to
            )),
        }
        if migration.downtime_ms > 0 && migration.kind != "Failover" {
            problems.push(format!(
                "Flambeau saw {name} without a ready endpoint for {} ms.",
                migration.downtime_ms
            ));
        }
    }
    problems
}

/// Answers from a cloud where the application never was.
fn wrong_answers(role: &Role, report: &Report) -> Vec<String> {
    let allowed = role.places();
    let application = report
        .applications
        .iter()
        .find(|application| application.name == role.name());
    let Some(application) = application else {
        return vec![format!("No request was sent to {}.", role.name())];
    };
    let mut problems = Vec::new();
    for cloud in &application.clouds {
        if !allowed.contains(&cloud.cloud.as_str()) {
            problems.push(format!(
                "{} answered {} requests for {}, which should never have been there.",
                cloud.cloud,
                cloud.answered,
                role.name()
            ));
        }
    }
    problems.extend(woken(application, report));
    let last = application.clouds.iter().max_by_key(|cloud| cloud.last);
    let place = role.place(ACTS.len());
    if last.is_none_or(|cloud| cloud.cloud != place) {
        problems.push(format!(
            "The last answer for {} did not come from {place}.",
            role.name()
        ));
    }
    problems
}

/// Answers of a copy that was left on a lost cluster, before anybody sent the application back there.
fn woken(application: &ApplicationResult, report: &Report) -> Vec<String> {
    let own = || {
        report
            .failovers
            .iter()
            .filter(|failover| failover.application == application.name)
    };
    own()
        .filter_map(|failover| {
            let back = report.migrations.iter().find(|migration| {
                migration.application == application.name
                    && migration.to == failover.from
                    && migration.start > failover.lost
            });
            let second = |time: Timestamp| {
                usize::try_from(time.duration_since(report.started).as_secs()).unwrap_or_default()
            };
            // The second of the loss itself began with right answers.
            let from = second(failover.lost) + 1;
            let until = second(back.map_or(report.ended, |migration| migration.start));
            let answered = application.seconds.answered.get(&failover.from)?;
            let wrong: u32 = answered.get(from..until.min(answered.len()))?.iter().sum();
            (wrong > 0).then(|| {
                format!(
                    "{} answered {wrong} requests for {} after it was lost, and before the application was sent back.",
                    failover.from, application.name
                )
            })
        })
        .collect()
}

/// Objects of the application that are missing where it runs, or left where it does not.
fn wrong_objects(role: &Role, cluster: &Cluster) -> Result<Vec<String>> {
    let here = role.place(ACTS.len()) == cluster.name();
    let resources = role.asked().resources()?;
    let present = present(cluster, NAMESPACE, &resources)?;
    let names = names(&resources);
    let wrong: Vec<&str> = names
        .iter()
        .filter(|name| present.contains(name) != here)
        .map(String::as_str)
        .collect();
    if wrong.is_empty() {
        return Ok(Vec::new());
    }
    let word = if here { "missing" } else { "left over" };
    Ok(vec![format!(
        "At {}, of {}: {word}: {}.",
        cluster.name(),
        role.name(),
        wrong.join(", ")
    )])
}

/// The objects as `kind/name`.
fn names(resources: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    resources
        .iter()
        .map(|object| {
            let kind = text(&object["kind"]).to_lowercase();
            format!("{kind}/{}", text(&object["metadata"]["name"]))
        })
        .collect()
}

/// Those of the objects that a cluster has, as `kind/name`.
///
/// # Errors
/// When the cluster does not answer.
pub fn present(cluster: &Cluster, namespace: &str, resources: &[Value]) -> Result<Vec<String>> {
    let names = names(resources);
    let mut arguments = vec![
        "--namespace",
        namespace,
        "get",
        "--ignore-not-found",
        "--output",
        r#"jsonpath={range .items[*]}{.kind}/{.metadata.name}{"\n"}{end}"#,
    ];
    arguments.extend(names.iter().map(String::as_str));
    let found = cluster.kubectl(&arguments)?;
    Ok(found.lines().map(str::to_lowercase).collect())
}
