//! Events: what people see in `kubectl describe` and `kubectl events`.

use crate::text::cut;
use flambeau_crds::{
    EvacuationStatus, GamesApplicationStatus, MigrationSpec, MigrationStatus,
    evacuation::EvacuationOutcome, migration::MigrationType,
};
use flambeau_planner::{
    health::Health,
    model::{ApplicationKey, Name},
};
use jiff::SignedDuration;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

/// The longest note of an event, in bytes
/// (`NoteLengthLimit` in Kubernetes' `pkg/apis/core/validation/events.go`).
const LONGEST_NOTE: usize = 1024;

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

    /// Tells, and lets nobody wait for it; an event that cannot be told changes
    /// nothing else.
    pub fn tell(&self, happenings: Vec<Happening>) {
        if happenings.is_empty() {
            return;
        }
        let recorder = self.0.clone();
        tokio::spawn(async move {
            for happening in happenings {
                publish(&recorder, happening).await;
            }
        });
    }
}

async fn publish(recorder: &Recorder, happening: Happening) {
    let event = Event {
        type_: if happening.warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        action: happening.reason.clone(),
        reason: happening.reason,
        note: Some(shortened(happening.note)),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &happening.about).await {
        tracing::warn!(%error, reason = event.reason, "event was not taken");
    }
}

/// As much of a note as an API server takes; conditions have it as a whole.
fn shortened(note: String) -> String {
    cut(note, LONGEST_NOTE)
}

fn about(kind: &str, key: &ApplicationKey, uid: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("flambeau.dev/v1alpha1".to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(key.name.to_string()),
        // Of objects without one, events are told in the default namespace.
        namespace: (!key.namespace.is_empty()).then(|| key.namespace.to_string()),
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

/// What is worth telling when a move of an application begins.
pub fn tell_begin(key: &ApplicationKey, uid: &str, name: &str, spec: &MigrationSpec) -> Happening {
    let (warning, reason) = match spec.type_ {
        MigrationType::Failover => (true, "FailoverBegun"),
        MigrationType::Relocate => (false, "RelocateBegun"),
        MigrationType::Failback => (false, "FailbackBegun"),
    };
    Happening {
        about: about("GamesApplication", key, uid),
        warning,
        reason: reason.to_owned(),
        note: format!(
            "Migration {name} from {} to {}: {}",
            spec.from, spec.to, spec.reason
        ),
    }
}

/// What is worth telling of an application when its failover is measured.
pub fn tell_recovery(
    key: &ApplicationKey,
    uid: &str,
    spec: &MigrationSpec,
    recovery: SignedDuration,
    objective: Option<SignedDuration>,
) -> Happening {
    let late = objective.is_some_and(|objective| recovery > objective);
    let goal = match objective {
        None => "no objective is stated".to_owned(),
        Some(objective) if late => format!("which misses the objective of {objective:#}"),
        Some(objective) => format!("which meets the objective of {objective:#}"),
    };
    Happening {
        about: about("GamesApplication", key, uid),
        warning: late,
        reason: if late {
            "RecoveryObjectiveMissed".to_owned()
        } else {
            "Recovered".to_owned()
        },
        note: format!(
            "serves on {}, {:.1} s after the last sign of life on {}: {goal}",
            spec.to,
            recovery.as_secs_f64(),
            spec.from
        ),
    }
}

/// What is worth telling of an application when a copy is left on a cluster
/// that is not part of the fleet any more.
pub fn tell_left_behind(key: &ApplicationKey, uid: &str, cluster: &Name) -> Happening {
    Happening {
        about: about("GamesApplication", key, uid),
        warning: true,
        reason: "LeftBehind".to_owned(),
        note: format!(
            "a copy that was to be erased is forgotten: cluster {cluster} was taken out of the \
             fleet before it was seen to be gone; erase it there by hand"
        ),
    }
}

/// What is worth telling of an application whose object leaves no room for
/// what is to be stored with it.
pub fn tell_too_large(key: &ApplicationKey, uid: &str) -> Happening {
    Happening {
        about: about("GamesApplication", key, uid),
        warning: true,
        reason: "ObjectTooLarge".to_owned(),
        note: "the hub has no room for status and finalizer beside spec.resources, so nothing is \
               begun or goes on: split the application, or take large data out of its resources"
            .to_owned(),
    }
}

/// What is worth telling of a cluster: that it is lost or silent, and that it
/// answers again.
pub fn tell_cluster(
    key: &ApplicationKey,
    uid: &str,
    before: Option<&str>,
    health: Health,
) -> Option<Happening> {
    let was = |health: &str| before == Some(health);
    let silent = was("Lost") || was("ControlPlaneUnreachable");
    let (warning, reason, note) = match health {
        Health::Lost { since } if !was("Lost") => (
            true,
            "ClusterLost",
            format!("neither the API server nor any application answers since {since:.0}"),
        ),
        Health::ControlPlaneUnreachable { since } if !was("ControlPlaneUnreachable") => (
            true,
            "ControlPlaneUnreachable",
            format!(
                "the API server does not answer since {since:.0}, but applications do: nothing moves"
            ),
        ),
        Health::Recovering { until } if silent => (
            false,
            "ClusterReturned",
            format!("the API server answers again; nothing is moved here before {until:.0}"),
        ),
        Health::Healthy if silent => (
            false,
            "ClusterReturned",
            "the API server answers again".to_owned(),
        ),
        _ => return None,
    };
    Some(Happening {
        about: about("MemberCluster", key, uid),
        warning,
        reason: reason.to_owned(),
        note,
    })
}

/// What is worth telling of an evacuation: that it begins, that room is
/// missing, that it cannot go on, and how it ended.
pub fn tell_evacuation(
    key: &ApplicationKey,
    uid: &str,
    before: &EvacuationStatus,
    after: &EvacuationStatus,
) -> Vec<Happening> {
    let tell = |warning: bool, reason: &str, note: String| Happening {
        about: about("Evacuation", key, uid),
        warning,
        reason: reason.to_owned(),
        note,
    };
    let mut happenings = Vec::new();
    if before.start_time.is_none() {
        let note = format!("{} applications are to leave", after.total);
        happenings.push(tell(false, "EvacuationBegun", note));
    }
    match &after.shortfall {
        Some(shortfall) if before.shortfall.is_none() => {
            happenings.push(tell(true, "ClusterFull", shortfall.clone()));
        }
        _ => {}
    }
    let stalled = |status: &EvacuationStatus| {
        find(&status.conditions, "Stalled")
            .filter(|stalled| stalled.status == "True")
            .cloned()
    };
    if let (None, Some(stalled)) = (stalled(before), stalled(after)) {
        happenings.push(tell(true, &stalled.reason, stalled.message));
    }
    if before.outcome.is_none() {
        let left = format!("{} of {} applications have left", after.moved, after.total);
        match after.outcome {
            Some(EvacuationOutcome::Completed) => {
                happenings.push(tell(false, "Evacuated", left));
            }
            Some(EvacuationOutcome::Aborted) => {
                happenings.push(tell(true, "EvacuationAborted", left));
            }
            None => {}
        }
    }
    happenings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_as_long_as_an_api_server_takes() {
        assert_eq!(shortened("short".to_owned()), "short");
        // Characters of two bytes: the limit falls between two of one.
        let note = shortened("é".repeat(1000));
        assert!(
            (1000..=LONGEST_NOTE).contains(&note.len()),
            "{}",
            note.len()
        );
        assert!(note.ends_with("é…"));
    }
}
