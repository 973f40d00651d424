//! A plan for people, and for machines.

use flambeau_planner::{
    ApplicationPlan, Plan,
    fleet::{Decision, EvacuationPlan, Motive},
    freeze,
    health::{self, Health},
    law::Contradiction,
    model::{Application, MoveType, Name, Snapshot},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;

/// One line an application, then why, then policies.
pub fn table(snapshot: &Snapshot, plan: &Plan, now: Timestamp) -> String {
    let mut text = format!(
        "{} applications, {} clusters, {} policies, planned for {now:.0}\n\n",
        plan.applications.len(),
        snapshot.clusters.len(),
        plan.policies.len()
    );
    let mut rows =
        vec![["APPLICATION", "SENSITIVITY", "RUNS ON", "LAWFUL", "PLAN"].map(str::to_owned)];
    for (application, planned) in snapshot.applications.iter().zip(&plan.applications) {
        rows.push([
            planned.key.to_string(),
            format!("{:?}", application.spec.sensitivity),
            runs_on(application).unwrap_or("-").to_owned(),
            lawful(application, planned).to_owned(),
            summary(application, planned),
        ]);
    }
    align(&mut text, &rows);
    for (application, planned) in snapshot.applications.iter().zip(&plan.applications) {
        details(&mut text, application, planned);
    }
    clusters(&mut text, snapshot, now);
    for evacuation in &plan.evacuations {
        describe(&mut text, evacuation);
    }
    freezes(&mut text, snapshot, now);
    policies(&mut text, snapshot, plan);
    text
}

/// Clusters that are not as they should be.
fn clusters(text: &mut String, snapshot: &Snapshot, now: Timestamp) {
    let unwell = |cluster: &Name| match health::of(&snapshot.clusters[cluster], now) {
        Health::Healthy => None,
        Health::Lost { since } | Health::ControlPlaneUnreachable { since } => {
            Some(format!(" since {since:.0}"))
        }
        Health::Recovering { until } => Some(format!(" until {until:.0}")),
        Health::NotObserved | Health::Misconfigured => Some(String::new()),
    };
    let found: Vec<(&Name, String)> = snapshot
        .clusters
        .keys()
        .filter_map(|name| Some((name, unwell(name)?)))
        .collect();
    if !found.is_empty() {
        text.push('\n');
    }
    for (name, time) in found {
        let word = health::of(&snapshot.clusters[name], now).as_str();
        let _ = writeln!(text, "cluster {name}: {word}{time}");
    }
    if snapshot.hub_suspect(now) {
        text.push_str(
            "most clusters stopped answering together: the hub is suspected, nothing moves by itself\n",
        );
    }
}

/// How far an evacuation is, and what stays behind.
pub fn describe(text: &mut String, evacuation: &EvacuationPlan) {
    let _ = write!(
        text,
        "\nevacuation {}: {}, {} of {} have left, {} are moving",
        evacuation.name, evacuation.state, evacuation.moved, evacuation.total, evacuation.moving
    );
    let detail = Some(evacuation.message.as_str()).filter(|message| !message.is_empty());
    let _ = writeln!(
        text,
        "{}",
        detail.map_or(String::new(), |it| format!(": {it}"))
    );
    if let Some(shortfall) = &evacuation.shortfall {
        let _ = writeln!(text, "  shortfall: {shortfall}");
    }
    for one in evacuation.remaining.iter().filter(|one| one.stuck) {
        let _ = writeln!(
            text,
            "  {} is stuck: {}: {}",
            one.key, one.reason, one.message
        );
    }
}

fn freezes(text: &mut String, snapshot: &Snapshot, now: Timestamp) {
    let open = snapshot.freezes.values();
    for open in open.filter(|one| freeze::in_force(one, now)) {
        let _ = writeln!(
            text,
            "\nfreeze {} until {:.0}: {}",
            open.name, open.until, open.reason
        );
    }
}

fn runs_on(application: &Application) -> Option<&str> {
    application.record.active().map(|active| &*active.cluster)
}

fn lawful(application: &Application, planned: &ApplicationPlan) -> &'static str {
    match (application.record.active(), &planned.judgement) {
        (Some(_), Some(judgement)) if judgement.lawful() => "yes",
        (Some(_), Some(_)) => "NO",
        _ => "-",
    }
}

/// What happens with an application, in a few words.
pub fn summary(application: &Application, planned: &ApplicationPlan) -> String {
    if let Some(invalid) = &application.spec.invalid {
        return format!("refused: {invalid}");
    }
    if let Some(migration) = application.migrations.first() {
        let step = migration
            .record
            .step
            .map_or("pending", |step| step.as_str());
        return format!("is moving to {} ({step})", migration.to);
    }
    match &planned.decision {
        Decision::Stay | Decision::NotYet => "stays".to_owned(),
        Decision::Place { cluster } => format!("is placed on {cluster}"),
        Decision::Move { to, motive, .. } => format!("{} {to} now", goes(motive)),
        Decision::WaitForBudget { to, motive } => {
            format!("{} {to} when another move is over", goes(motive))
        }
        Decision::WaitForDependency { to, dependency } => {
            format!("moves to {to} after {dependency}")
        }
        Decision::WaitForThaw { to, message } => format!("moves to {to} later: {message}"),
        Decision::Stalled { reason, .. } => format!("STALLED: {reason}, stays where it is"),
    }
}

fn goes(motive: &Motive) -> &'static str {
    match motive.move_type() {
        MoveType::Relocate => "moves to",
        MoveType::Failover => "fails over to",
        MoveType::Failback => "goes back to",
    }
}

fn align(text: &mut String, rows: &[[String; 5]]) {
    let mut widths = [0; 5];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}   ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

fn details(text: &mut String, application: &Application, planned: &ApplicationPlan) {
    let judged = planned
        .judgement
        .as_ref()
        .filter(|judgement| !judgement.findings.is_empty());
    if judged.is_none() && planned.candidates.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{}", planned.key);
    if let (Some(judgement), Some(cluster)) = (judged, runs_on(application)) {
        let _ = writeln!(
            text,
            "  on {cluster}: {}: {}",
            judgement.reason(),
            judgement.message()
        );
    }
    for candidate in &planned.candidates {
        let detail = if candidate.message.is_empty() {
            String::new()
        } else {
            format!(": {}", candidate.message)
        };
        let _ = writeln!(
            text,
            "  {}: {}{detail}",
            candidate.cluster, candidate.reason
        );
    }
}

fn policies(text: &mut String, snapshot: &Snapshot, plan: &Plan) {
    if plan.policies.is_empty() {
        return;
    }
    text.push('\n');
    for policy in &plan.policies {
        let state = if policy.in_force {
            "in force"
        } else {
            "not in force"
        };
        let _ = writeln!(
            text,
            "policy {}: {state}, governs {}, violated by {}",
            policy.name,
            policy.governed,
            policy.violations.len()
        );
        if let Some(invalid) = snapshot
            .policies
            .get(&policy.name)
            .and_then(|policy| policy.invalid.as_ref())
        {
            let _ = writeln!(text, "  refused: {invalid}");
        }
        for found in &policy.contradicts {
            let (with, field) = (&found.with, found.field);
            let when = found
                .from
                .map_or_else(String::new, |from| format!("from {from} on "));
            let _ = writeln!(
                text,
                "  {when}contradicts policy {with} in spec.{field}: no country is left for what both govern"
            );
        }
        if policy.deadline_missed {
            text.push_str("  its deadline spec.completeBy has passed\n");
        }
    }
}

/// The same as one JSON object.
///
/// # Errors
/// Never in practice: every value is a string, a number or a list of them.
pub fn json(snapshot: &Snapshot, plan: &Plan, now: Timestamp) -> Result<String, serde_json::Error> {
    let applications: Vec<Value> = snapshot
        .applications
        .iter()
        .zip(&plan.applications)
        .map(|(application, planned)| json_application(application, planned))
        .collect();
    let policies: Vec<Value> = plan
        .policies
        .iter()
        .map(|policy| {
            json!({
                "name": &*policy.name,
                "inForce": policy.in_force,
                "governed": policy.governed,
                "violations": policy.violations.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "contradicts": policy.contradicts.iter().map(contradiction).collect::<Vec<_>>(),
                "deadlineMissed": policy.deadline_missed,
                "invalid": snapshot.policies.get(&policy.name).and_then(|policy| policy.invalid.clone()),
            })
        })
        .collect();
    let clusters = snapshot.clusters.values().map(|cluster| {
        let health = health::of(cluster, now).as_str();
        json!({"name": &*cluster.name, "health": health, "cordoned": cluster.cordoned})
    });
    let plan = json!({
        "plannedFor": now.to_string(),
        "hubSuspect": snapshot.hub_suspect(now),
        "applications": applications,
        "clusters": clusters.collect::<Vec<_>>(),
        "evacuations": plan.evacuations.iter().map(json_evacuation).collect::<Vec<_>>(),
        "policies": policies,
    });
    serde_json::to_string_pretty(&plan).map(|text| text + "\n")
}

fn contradiction(found: &Contradiction) -> Value {
    let from = found.from.map(|from| from.to_string());
    json!({"policy": &*found.with, "field": found.field, "from": from})
}

fn json_evacuation(evacuation: &EvacuationPlan) -> Value {
    json!({
        "name": &*evacuation.name,
        "state": evacuation.state.as_str(),
        "message": evacuation.message,
        "total": evacuation.total,
        "moved": evacuation.moved,
        "moving": evacuation.moving,
        "shortfall": evacuation.shortfall,
        "remaining": evacuation.remaining.iter().map(|one| json!({
            "application": one.key.to_string(),
            "stuck": one.stuck,
            "reason": one.reason.as_str(),
            "message": one.message,
        })).collect::<Vec<_>>(),
    })
}

fn json_application(application: &Application, planned: &ApplicationPlan) -> Value {
    let (decision, to) = match &planned.decision {
        Decision::Stay => ("Stay", None),
        Decision::NotYet => ("NotYet", None),
        Decision::Place { cluster } => ("Place", Some(cluster)),
        Decision::Move { to, .. } => ("Move", Some(to)),
        Decision::WaitForBudget { to, .. } => ("WaitForBudget", Some(to)),
        Decision::WaitForDependency { to, .. } => ("WaitForDependency", Some(to)),
        Decision::WaitForThaw { to, .. } => ("WaitForThaw", Some(to)),
        Decision::Stalled { reason, .. } => (reason.as_str(), None),
    };
    let motive = match &planned.decision {
        Decision::Move { motive, .. } | Decision::WaitForBudget { motive, .. } => Some(motive),
        _ => None,
    };
    let judgement = planned
        .judgement
        .as_ref()
        .filter(|_| application.record.active().is_some());
    json!({
        "namespace": &*planned.key.namespace,
        "name": &*planned.key.name,
        "cluster": runs_on(application),
        "lawful": judgement.map(|judgement| judgement.lawful()),
        "lawReason": judgement.map(|judgement| judgement.reason().as_str()),
        "lawMessage": judgement.map(|judgement| judgement.message()),
        "decision": decision,
        "to": to.map(|cluster| &**cluster),
        "type": motive.map(|motive| format!("{:?}", motive.move_type())),
        "trigger": motive.map(|motive| format!("{:?}", motive.trigger())),
        "summary": summary(application, planned),
        "invalid": application.spec.invalid,
        "candidates": planned.candidates.iter().map(|candidate| json!({
            "cluster": &*candidate.cluster,
            "eligible": candidate.eligible,
            "reason": candidate.reason.as_str(),
            "message": candidate.message,
        })).collect::<Vec<_>>(),
    })
}
