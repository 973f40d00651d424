//! Requests that move something: what the planner says first, then the object.

mod evacuate;
mod made;
mod opinion;

pub use evacuate::run as evacuate;

use crate::{
    cli::{self, Request},
    failure::Failure,
    hub::Hub,
    live::Subject,
    moves, print, status,
};
use flambeau_crds::{
    Migration, MigrationSpec,
    migration::{MigrationTrigger, MigrationType},
};
use flambeau_operator::offline::{objects::Objects, read};
use flambeau_planner::{
    Reason, failover,
    model::{ApplicationKey, Reach, Snapshot},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use made::{Asked, draft};
use opinion::{Opinion, of_move};
use std::process::ExitCode;

/// One move that a person asks for.
struct Wish<'a> {
    application: &'a str,
    type_: MigrationType,
    to: Option<&'a str>,
    reason: &'a str,
    request: &'a Request,
}

/// `relocate`.
///
/// # Errors
/// When a rule or the hub refuses, or the move does not end as asked.
pub async fn relocate(hub: &Hub, options: cli::Relocate) -> anyhow::Result<ExitCode> {
    let wish = Wish {
        application: &options.application,
        type_: MigrationType::Relocate,
        to: Some(&options.to),
        reason: &options.reason,
        request: &options.request,
    };
    ask(hub, &wish).await
}

/// `failover`.
///
/// # Errors
/// When a rule or the hub refuses, or the move does not end as asked.
pub async fn failover(hub: &Hub, options: cli::Failover) -> anyhow::Result<ExitCode> {
    let wish = Wish {
        application: &options.application,
        type_: MigrationType::Failover,
        to: Some(&options.to),
        reason: &options.reason,
        request: &options.request,
    };
    ask(hub, &wish).await
}

/// `failback`.
///
/// # Errors
/// When a rule or the hub refuses, or the move does not end as asked.
pub async fn failback(hub: &Hub, options: cli::Failback) -> anyhow::Result<ExitCode> {
    let wish = Wish {
        application: &options.application,
        type_: MigrationType::Failback,
        to: None,
        reason: &options.reason,
        request: &options.request,
    };
    ask(hub, &wish).await
}

async fn ask(hub: &Hub, wish: &Wish<'_>) -> anyhow::Result<ExitCode> {
    let (objects, user) = tokio::try_join!(hub.fleet(), hub.user())?;
    let key = hub.key(wish.application);
    status::find(hub, &objects, &key).await?;
    let now = Timestamp::now();
    let spec = specification(&objects, &key, wish, user);
    let snapshot = read::snapshot(objects, &Reach::NotObserved);
    let (spec, opinion) = match spec {
        Ok(spec) => {
            let opinion = of_move(&snapshot, &key, &spec, now);
            (Some(spec), opinion)
        }
        Err(refusal) => (None, refusal),
    };
    let remedy = remedy(&opinion, &snapshot, &key, wish);
    let object = spec.map(|spec| migration(spec, &key));
    if let (Some(object), true) = (&object, wish.request.dry_run) {
        print::raw(&draft(object, &opinion.sentence())?)?;
    }
    if let Opinion::Refused { reason, message } = opinion {
        return Err(Failure::Refused {
            reason,
            message,
            remedy,
        }
        .into());
    }
    let Some(object) = object else {
        return Ok(ExitCode::SUCCESS);
    };
    if wish.type_ == MigrationType::Failover {
        warn_of_needless_failover(&snapshot, &key, &object.spec.from, now);
    }
    let asked = Asked {
        api: Api::namespaced(hub.client.clone(), &key.namespace),
        about: format!("{}{}", words(&object.spec), opinion.aside()),
        object,
        follow: format!("{} -n {}", key.name, key.namespace),
        request: wish.request,
    };
    let subject = |name: &str| {
        Subject::Migration(ApplicationKey {
            namespace: key.namespace.clone(),
            name: name.into(),
        })
    };
    asked.create(hub, subject).await
}

fn migration(spec: MigrationSpec, key: &ApplicationKey) -> Migration {
    Migration {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.to_string()),
            generate_name: Some(prefix(key, spec.type_)),
            ..ObjectMeta::default()
        },
        spec,
        status: None,
    }
}

/// What would be asked for, or what makes it impossible to ask.
fn specification(
    objects: &Objects,
    key: &ApplicationKey,
    wish: &Wish<'_>,
    user: String,
) -> Result<MigrationSpec, Opinion> {
    let object = objects.applications.get(key);
    let status = object.and_then(|object| object.status.as_ref());
    let from = object.and_then(moves::active).ok_or_else(|| {
        Opinion::refused(Reason::SourceMismatch, "the application runs nowhere yet")
    })?;
    let home = status.and_then(|status| status.failed_over_from.clone());
    let to = match (wish.to, home) {
        (Some(to), _) => to.to_owned(),
        (None, Some(home)) => home,
        (None, None) => {
            let message = format!(
                "{} runs on {from} and was not failed over from anywhere, so there is nothing to \
                 go back to",
                key.name
            );
            return Err(Opinion::refused(Reason::NotFailedOver, message));
        }
    };
    if to == from {
        let message = format!("{} runs on {from} already", key.name);
        return Err(Opinion::refused(Reason::AlreadyThere, message));
    }
    Ok(MigrationSpec {
        application: key.name.to_string(),
        type_: wish.type_,
        from: from.to_owned(),
        to,
        trigger: MigrationTrigger::Request,
        reason: wish.reason.to_owned(),
        requested_by: Some(user),
        evacuation: None,
        ignore_freeze: wish.request.ignore_freeze,
        pause: false,
        abort: false,
    })
}

/// What to do about a refusal.
fn remedy(opinion: &Opinion, snapshot: &Snapshot, key: &ApplicationKey, wish: &Wish<'_>) -> String {
    let Opinion::Refused { reason, .. } = opinion else {
        return String::new();
    };
    let at = format!("{} -n {}", key.name, key.namespace);
    match reason {
        Reason::AnotherMove => format!(
            "Wait for it (kubectl flambeau status {at} -w), or end it first: kubectl flambeau \
             abort {at}"
        ),
        Reason::Frozen => {
            "Ask again after the freeze, or cross it, which is recorded: --ignore-freeze".to_owned()
        }
        Reason::ClusterCordoned => format!(
            "Another cluster may do; or: kubectl flambeau uncordon {}",
            wish.to.unwrap_or_default()
        ),
        Reason::ClusterUnknown => {
            let known: Vec<&str> = snapshot.clusters.keys().map(|name| &**name).collect();
            format!("Clusters of the fleet: {}", known.join(", "))
        }
        Reason::ClusterUnreachable | Reason::ClusterLost | Reason::ControlPlaneUnreachable
            if wish.type_ != MigrationType::Failover =>
        {
            format!(
                "If the source is gone, fail over instead: kubectl flambeau failover {at} --to \
                 CLUSTER --reason WHY"
            )
        }
        Reason::HubSuspect => format!(
            "Ask again when clusters answer; if they are gone for good: kubectl flambeau failover \
             {at} --to CLUSTER --reason WHY"
        ),
        _ => format!(
            "Which clusters may take it, and why others may not: kubectl flambeau status {at}"
        ),
    }
}

/// A failover gives the former copy up at once: worth a word when it serves.
fn warn_of_needless_failover(
    snapshot: &Snapshot,
    key: &ApplicationKey,
    from: &str,
    now: Timestamp,
) {
    let application = snapshot
        .applications
        .iter()
        .find(|application| application.spec.key == *key);
    let serves = application.is_some_and(|application| {
        snapshot.serves(application, from)
            && failover::loss(application, snapshot, from, now).is_none()
    });
    if serves {
        eprintln!(
            "warning: {} still serves on {from}: relocate moves it without a failed request, a \
             failover does not promise that",
            key.name
        );
    }
}

/// The name of a Migration begins so; the API server adds five characters.
fn prefix(key: &ApplicationKey, type_: MigrationType) -> String {
    format!("{}-{}-", key.name, format!("{type_:?}").to_lowercase())
}

fn words(spec: &MigrationSpec) -> String {
    format!(
        "{:?} of {} from {} to {}",
        spec.type_, spec.application, spec.from, spec.to
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_a_manifest_below_what_the_planner_says() {
        let key = ApplicationKey {
            namespace: "games".into(),
            name: "badges".into(),
        };
        let spec = MigrationSpec {
            application: "badges".to_owned(),
            type_: MigrationType::Relocate,
            from: "alibaba".to_owned(),
            to: "atos".to_owned(),
            trigger: MigrationTrigger::Request,
            reason: "maintenance".to_owned(),
            requested_by: Some("anna".to_owned()),
            evacuation: None,
            ignore_freeze: true,
            pause: false,
            abort: false,
        };
        assert_eq!(
            draft(&migration(spec, &key), &Opinion::Passed.sentence()).unwrap(),
            "# the planner lets it begin\n\
             apiVersion: flambeau.dev/v1alpha1\n\
             kind: Migration\n\
             metadata:\n  \
               generateName: badges-relocate-\n  \
               namespace: games\n\
             spec:\n  \
               application: badges\n  \
               from: alibaba\n  \
               ignoreFreeze: true\n  \
               reason: maintenance\n  \
               requestedBy: anna\n  \
               to: atos\n  \
               trigger: Request\n  \
               type: Relocate\n"
        );
    }
}
