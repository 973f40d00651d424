//! What the planner says of a move that is not asked for yet: the same gates
//! that the operator asks, on what the hub knows.

use flambeau_crds::MigrationSpec;
use flambeau_operator::convert;
use flambeau_planner::{
    Reason,
    migration::waiting_for,
    model::{ApplicationKey, MigrationRecord, Name, Snapshot, Step},
    plan,
};
use jiff::Timestamp;
use std::sync::Arc;

/// What the planner says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opinion {
    /// It may begin.
    Passed,
    /// It may, but waits for something that comes by itself.
    Waits {
        /// Stable reason.
        reason: Reason,
        /// The fact behind it.
        message: String,
    },
    /// It may not.
    Refused {
        /// Stable reason.
        reason: Reason,
        /// The fact behind it.
        message: String,
    },
}

impl Opinion {
    /// A refusal by a rule.
    pub fn refused(reason: Reason, message: impl Into<String>) -> Self {
        Self::Refused {
            reason,
            message: message.into(),
        }
    }

    /// The opinion in a sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Passed => "the planner lets it begin".to_owned(),
            Self::Waits { reason, message } => {
                format!("the planner lets it begin as soon as this is over: {reason}: {message}")
            }
            Self::Refused { reason, message } => {
                format!("the planner refuses it: {reason}: {message}")
            }
        }
    }

    /// What to add for somebody who was told that it was made.
    pub fn aside(&self) -> String {
        match self {
            Self::Waits { reason, message } => format!("; it waits: {reason}: {message}"),
            _ => String::new(),
        }
    }
}

/// Asks the planner what it would do with a move, up to the first gate that
/// does not let it pass.
pub fn of_move(
    snapshot: &Snapshot,
    key: &ApplicationKey,
    spec: &MigrationSpec,
    now: Timestamp,
) -> Opinion {
    const NAME: &str = "not-asked-for-yet";
    let mut snapshot = snapshot.clone();
    let Some(index) = snapshot
        .applications
        .iter()
        .position(|application| application.spec.key == *key)
    else {
        return Opinion::refused(Reason::ApplicationGone, format!("no application {key}"));
    };
    let name = Name::from(NAME);
    let mut record = MigrationRecord::default();
    let open = convert::open_move(&name, spec, Arc::new(record.clone()));
    snapshot.applications[index].migrations.push(open);
    // The first pass enters Preflight, the second asks its gates.
    for _ in 0..2 {
        let planned = plan(&snapshot, now);
        let next = planned.applications[index]
            .migrations
            .iter()
            .find(|(other, _)| *other == name);
        if let Some((_, next)) = next {
            record = next.clone();
        }
        if let Some(open) = snapshot.applications[index].migrations.last_mut() {
            open.record = Arc::new(record.clone());
        }
    }
    if let Some((reason, message)) = &record.abort_reason {
        return Opinion::refused(*reason, message.as_str());
    }
    if record.reached(Step::Prepare) {
        return Opinion::Passed;
    }
    match waiting_for(&record, false) {
        // These would begin long after they were asked for, when nobody thinks
        // of them any more.
        Some((reason @ (Reason::Frozen | Reason::HubSuspect), message)) => {
            Opinion::refused(reason, message)
        }
        Some((reason, message)) => Opinion::Waits { reason, message },
        None => Opinion::Passed,
    }
}
