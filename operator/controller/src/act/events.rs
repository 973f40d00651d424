//! Events: what people see in `kubectl describe` and `kubectl events`.

use flambeau_crds::{GamesApplicationStatus, MigrationStatus};
use flambeau_planner::model::ApplicationKey;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// Something worth telling about an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Happening {
    about: ObjectReference,
    warning: bool,
    reason: String,
    note: String,
}

/// Tells what happens.
#[derive(Clone)]
pub struct Events(Recorder);

impl Events {
    /// Events of this controller.
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: "flambeau.dev/operator".into(),
            instance: None,
        };
        Self(Recorder::new(client, reporter))
    }

    /// Tells; an event that cannot be told changes nothing else.
    pub async fn tell(&self, happenings: Vec<Happening>) {
        for happening in happenings {
            let event = Event {
                type_: if happening.warning {
                    EventType::Warning
                } else {
                    EventType::Normal
                },
                action: happening.reason.clone(),
                reason: happening.reason,
                note: Some(happening.note),
                secondary: None,
            };
            if let Err(error) = self.0.publish(&event, &happening.about).await {
                tracing::debug!(%error, reason = event.reason, "event was not taken");
            }
        }
    }
}

fn about(kind: &str, key: &ApplicationKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("flambeau.dev/v1alpha1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// What is worth telling when the status of an application changes: that it
/// stalls, that it becomes unlawful, and that it no longer is.
pub fn tell_application(
    key: &ApplicationKey,
    uid: &str,
    before: &GamesApplicationStatus,
    after: &GamesApplicationStatus,
) -> Vec<Happening> {
    let changed = |type_: &str| {
        let (old, new) = (
            find(&before.conditions, type_),
            find(&after.conditions, type_)?,
        );
        let same = old.is_some_and(|old| old.status == new.status && old.reason == new.reason);
        (!same).then_some((old, new))
    };
    let tell = |warning: bool, condition: &Condition| Happening {
        about: about("GamesApplication", key, uid),
        warning,
        reason: condition.reason.clone(),
        note: condition.message.clone(),
    };
    let mut happenings = Vec::new();
    match changed("Stalled") {
        Some((_, stalled)) if stalled.status == "True" => happenings.push(tell(true, stalled)),
        _ => {}
    }
    match changed("Lawful") {
        Some((_, lawful)) if lawful.status == "False" => happenings.push(tell(true, lawful)),
        Some((Some(before), lawful)) if before.status == "False" && lawful.status == "True" => {
            happenings.push(tell(false, lawful));
        }
        _ => {}
    }
    happenings
}

/// What is worth telling when a move takes a step: the step, on the
/// Migration, and how it ended.
pub fn tell_migration(
    key: &ApplicationKey,
    uid: &str,
    before: &MigrationStatus,
    after: &MigrationStatus,
) -> Vec<Happening> {
    if before.step == after.step {
        return Vec::new();
    }
    let Some(step) = after.step else {
        return Vec::new();
    };
    let (warning, reason, note) = match (after.outcome, &after.abort_reason) {
        (Some(outcome), Some(why)) => (true, format!("{outcome:?}"), why.clone()),
        (Some(outcome), None) => (
            false,
            format!("{outcome:?}"),
            "the application runs on the target".to_owned(),
        ),
        (None, Some(why)) => (
            true,
            format!("{step:?}"),
            format!("the move is walked back: {why}"),
        ),
        (None, None) => (
            false,
            format!("{step:?}"),
            format!("the move is at step {step:?}"),
        ),
    };
    vec![Happening {
        about: about("Migration", key, uid),
        warning,
        reason,
        note,
    }]
}
