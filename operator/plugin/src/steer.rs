//! Pause, resume, abort, cordon, uncordon.

use crate::{
    cli,
    failure::Failure,
    hub::{Hub, Kind},
    live::{self, Interruption, Subject, Wanted},
    moves, print, status,
};
use anyhow::bail;
use flambeau_crds::{Evacuation, MemberCluster, Migration, migration::MigrationStep};
use flambeau_operator::offline::objects::Objects;
use flambeau_planner::{Reason, model::ApplicationKey};
use kube::Api;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Why an object was changed by hand, as an annotation.
const REASON_ANNOTATION: &str = "flambeau.dev/reason";

/// What is done to a move or an Evacuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hold it.
    Pause,
    /// Let it go on.
    Resume,
    /// Walk it back.
    Abort,
}

impl Action {
    fn change(self) -> Value {
        match self {
            Action::Pause => json!({"pause": true}),
            Action::Resume => json!({"pause": false}),
            Action::Abort => json!({"abort": true}),
        }
    }

    const fn done(self) -> &'static str {
        match self {
            Action::Pause => "paused",
            Action::Resume => "resumed",
            Action::Abort => "abort requested",
        }
    }
}

/// `pause`, `resume` and `abort`.
///
/// # Errors
/// When there is nothing to steer, a rule or the hub refuses, or it does not
/// end as asked.
pub async fn run(hub: &Hub, action: Action, options: cli::Steer) -> anyhow::Result<ExitCode> {
    let objects = hub.scope().await?;
    let subject = resolve(&objects, hub, &options.target).await?;
    let (label, already) = match &subject {
        Subject::Migration(key) => {
            let object = &objects.migrations[key];
            may_steer(object, action)?;
            let spec = &object.spec;
            (
                format!("migration.flambeau.dev/{}", key.name),
                already(action, spec.pause, spec.abort),
            )
        }
        Subject::Evacuation(name) => {
            let object = &objects.evacuations[name.as_str()];
            evacuation_goes_on(name, object)?;
            let spec = &object.spec;
            (
                format!("evacuation.flambeau.dev/{name}"),
                already(action, spec.pause, spec.abort),
            )
        }
        Subject::Fleet | Subject::Application(_) => bail!("nothing to steer"),
    };
    if !already {
        let change = change(action.change(), options.reason.as_deref());
        match &subject {
            Subject::Migration(key) => {
                let api: Api<Migration> = Api::namespaced(hub.client.clone(), &key.namespace);
                patch(hub, &api, &key.name, &change, options.dry_run).await?;
            }
            Subject::Evacuation(name) => {
                let api: Api<Evacuation> = Api::all(hub.client.clone());
                patch(hub, &api, name, &change, options.dry_run).await?;
            }
            Subject::Fleet | Subject::Application(_) => {}
        }
    }
    let interruption = options.wait.then(Interruption::expected).transpose()?;
    let done = action.done();
    print::raw(&if already {
        format!("{label} is {done} already\n")
    } else {
        format!("{label} {done}{}\n", dry(options.dry_run))
    })?;
    if let Some(interruption) = interruption {
        let wanted = match action {
            Action::Abort => Wanted::Aborted,
            Action::Pause | Action::Resume => Wanted::Completed,
        };
        live::follow(hub, &subject, wanted, options.timeout, interruption).await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn patch<K: Kind>(
    hub: &Hub,
    api: &Api<K>,
    name: &str,
    change: &Value,
    dry_run: bool,
) -> anyhow::Result<()> {
    hub.patch(api, name, change, dry_run).await.map(drop)
}

fn already(action: Action, paused: bool, aborted: bool) -> bool {
    match action {
        Action::Pause => paused,
        Action::Resume => !paused,
        Action::Abort => aborted,
    }
}

fn change(spec: Value, reason: Option<&str>) -> Value {
    let mut change = json!({ "spec": spec });
    if let Some(reason) = reason {
        change["metadata"] = json!({"annotations": {REASON_ANNOTATION: reason}});
    }
    change
}

fn dry(dry_run: bool) -> &'static str {
    if dry_run {
        " (--dry-run: the hub would take it, nothing was changed)"
    } else {
        ""
    }
}

/// What a person means: an Evacuation, a Migration, or the move of an
/// application that is under way.
async fn resolve(objects: &Objects, hub: &Hub, target: &str) -> anyhow::Result<Subject> {
    match target.split_once('/') {
        Some(("evacuation" | "evacuations" | "evac", name)) => {
            if objects.evacuations.contains_key(name) {
                return Ok(Subject::Evacuation(name.to_owned()));
            }
            bail!("no Evacuation {name}: kubectl get evacuations lists all")
        }
        Some(("migration" | "migrations" | "mig", name)) => named(objects, hub, name, false).await,
        Some(("gamesapplication" | "gapp" | "application", name)) => {
            moving(objects, hub, name).await
        }
        Some((other, _)) => {
            bail!("{target}: {other} is neither migration, application nor evacuation")
        }
        None => named(objects, hub, target, true).await,
    }
}

async fn named(
    objects: &Objects,
    hub: &Hub,
    name: &str,
    or_moving: bool,
) -> anyhow::Result<Subject> {
    let key = hub.key(name);
    if objects.migrations.contains_key(&key) {
        return Ok(Subject::Migration(key));
    }
    if or_moving && objects.applications.contains_key(&key) {
        return moving(objects, hub, name).await;
    }
    if objects.evacuations.contains_key(name) {
        bail!("no Migration {name}, but an Evacuation: say evacuation/{name}");
    }
    bail!(
        "no Migration and no application {name} in namespace {}: kubectl flambeau status -A lists \
         what moves",
        hub.namespace
    )
}

async fn moving(objects: &Objects, hub: &Hub, name: &str) -> anyhow::Result<Subject> {
    let key = hub.key(name);
    status::find(hub, objects, &key).await?;
    match moves::open(objects, &key) {
        Some(open) => Ok(Subject::Migration(ApplicationKey {
            namespace: key.namespace,
            name: moves::name(open).into(),
        })),
        None => Err(Failure::Refused {
            reason: Reason::Settled,
            message: format!("no move of {name} is under way"),
            remedy: format!(
                "What was: kubectl flambeau history {name} -n {}",
                key.namespace
            ),
        }
        .into()),
    }
}

/// Whether a move can still be steered so.
fn may_steer(object: &Migration, action: Action) -> Result<(), Failure> {
    let name = moves::name(object);
    let spec = &object.spec;
    let back = format!(
        "To go back, move it again: kubectl flambeau relocate {} --to {}",
        spec.application, spec.from
    );
    let (reason, message) = match moves::step(object) {
        Some(MigrationStep::Done) => {
            let outcome = object.status.as_ref().and_then(|status| status.outcome);
            let outcome = outcome.map_or_else(String::new, |outcome| format!("{outcome:?}"));
            (
                Reason::Settled,
                format!("Migration {name} is over: {outcome}"),
            )
        }
        Some(MigrationStep::Retire) if action != Action::Resume => (
            Reason::Erasing,
            format!("Migration {name} is erasing the source, which cannot be held or walked back"),
        ),
        Some(MigrationStep::Abort) if action == Action::Pause => {
            let message = format!("Migration {name} is being walked back, which cannot be held");
            (Reason::AbortRequested, message)
        }
        _ => return Ok(()),
    };
    Err(Failure::Refused {
        reason,
        message,
        remedy: back,
    })
}

fn evacuation_goes_on(name: &str, object: &Evacuation) -> Result<(), Failure> {
    let outcome = object.status.as_ref().and_then(|status| status.outcome);
    match outcome {
        None => Ok(()),
        Some(outcome) => Err(Failure::Refused {
            reason: Reason::Settled,
            message: format!("Evacuation {name} is over: {outcome:?}"),
            remedy: format!(
                "To use {} again: kubectl delete evacuation {name}",
                moves::place(&object.spec)
            ),
        }),
    }
}

/// `cordon` and `uncordon`.
///
/// # Errors
/// When the cluster does not exist, or the hub refuses.
pub async fn cordon(hub: &Hub, cordoned: bool, options: cli::Cordon) -> anyhow::Result<ExitCode> {
    let clusters: Vec<MemberCluster> = hub.list().await?;
    let name = &options.cluster;
    let names = || {
        clusters
            .iter()
            .filter_map(|one| one.metadata.name.as_deref())
    };
    let Some(cluster) = clusters
        .iter()
        .find(|cluster| cluster.metadata.name.as_ref() == Some(name))
    else {
        let known: Vec<&str> = names().collect();
        bail!("no MemberCluster {name}: the fleet is {}", known.join(", "));
    };
    let done = if cordoned { "cordoned" } else { "uncordoned" };
    let label = format!("membercluster.flambeau.dev/{name}");
    if cluster.spec.cordoned == cordoned {
        print::raw(&format!("{label} is {done} already\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let api: Api<MemberCluster> = Api::all(hub.client.clone());
    let change = change(json!({"cordoned": cordoned}), options.reason.as_deref());
    hub.patch(&api, name, &change, options.dry_run).await?;
    print::raw(&format!("{label} {done}{}\n", dry(options.dry_run)))?;
    let there = cluster
        .status
        .as_ref()
        .map_or(0, |status| status.applications);
    if cordoned && there > 0 {
        eprintln!(
            "{there} applications run there and stay; to move them: kubectl flambeau evacuate \
             cluster/{name} --reason WHY"
        );
    }
    Ok(ExitCode::SUCCESS)
}
