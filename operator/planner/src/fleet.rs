//! The plan: one pass over the whole fleet.

use crate::{
    Reason, budget, clock, compliance,
    desired::{self, Desired},
    edge::Edge,
    evacuation, failover, freeze,
    gates::{self, Context},
    health,
    law::{Judgement, LawBook},
    migration,
    model::{
        Application, ApplicationKey, ApplicationRecord, MigrationRecord, MoveType, Name, Resources,
        Snapshot, Trigger,
    },
    need::{Need, needs},
    placement::{Candidate, Ledger, Load},
    refuge,
    status::{self, Conditions},
};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc};

pub use crate::{
    compliance::PolicyPlan, evacuation::EvacuationPlan, failover::Loss, freeze::FreezePlan,
};

/// What sets a move off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Motive {
    /// A policy refuses the place.
    Policy,
    /// The copy is lost where it is.
    Loss(Loss),
    /// An Evacuation empties the place.
    Evacuation(Name),
    /// The application asks to go back by itself.
    Failback,
}

impl Motive {
    /// Kind of the move that follows.
    pub const fn move_type(&self) -> MoveType {
        match self {
            Motive::Policy | Motive::Evacuation(_) => MoveType::Relocate,
            Motive::Loss(_) => MoveType::Failover,
            Motive::Failback => MoveType::Failback,
        }
    }

    /// The same word for the record.
    pub const fn trigger(&self) -> Trigger {
        match self {
            Motive::Policy => Trigger::Policy,
            Motive::Evacuation(_) => Trigger::Evacuation,
            Motive::Loss(_) => Trigger::Loss,
            Motive::Failback => Trigger::Failback,
        }
    }

    /// Planned moves wait for each other and for the end of a freeze.
    pub const fn planned(&self) -> bool {
        !matches!(self, Motive::Loss(_))
    }

    /// The Evacuation that it is part of.
    pub const fn evacuation(&self) -> Option<&Name> {
        match self {
            Motive::Evacuation(name) => Some(name),
            _ => None,
        }
    }
}

/// What to do about an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays where it is, or goes on with what is under way.
    Stay,
    /// Too little is observed to decide; the last decision stands.
    NotYet,
    /// It gets its first place.
    Place {
        /// Where.
        cluster: Name,
    },
    /// A move begins.
    Move {
        /// Where from.
        from: Name,
        /// Where to.
        to: Name,
        /// Name of the Migration to create.
        migration: Name,
        /// What sets it off.
        motive: Motive,
        /// Why, for people.
        reason: String,
    },
    /// It moves as soon as another move is over.
    WaitForBudget {
        /// Where to.
        to: Name,
        /// What sets it off.
        motive: Motive,
    },
    /// It moves as soon as an application that it depends on has moved.
    WaitForDependency {
        /// Where to.
        to: Name,
        /// The application that it waits for.
        dependency: ApplicationKey,
    },
    /// It moves as soon as a freeze is over.
    WaitForThaw {
        /// Where to.
        to: Name,
        /// The freeze, in a sentence.
        message: String,
    },
    /// It cannot be placed, or cannot leave, for a reason outside.
    Stalled {
        /// Why.
        reason: Reason,
        /// The clusters and what each has against it.
        message: String,
    },
}

impl Decision {
    /// What stands in the way, if something does.
    pub fn obstacle(&self) -> Option<(Reason, String)> {
        match self {
            Decision::Stalled { reason, message } => Some((*reason, message.clone())),
            _ => None,
        }
    }
}

/// What the plan says about one application.
#[derive(Clone, Debug)]
pub struct ApplicationPlan {
    /// Namespace and name.
    pub key: ApplicationKey,
    /// What to do.
    pub decision: Decision,
    /// What the law says about where it is; none when it is nowhere.
    pub judgement: Option<Arc<Judgement>>,
    /// Every cluster considered; empty when there was nothing to decide.
    pub candidates: Vec<Candidate>,
    /// What to record about it.
    pub record: ApplicationRecord,
    /// What to record about each of its moves.
    pub migrations: Vec<(Name, MigrationRecord)>,
    /// What members and the edge should look like, from what was recorded.
    pub desired: Desired,
    /// Its conditions.
    pub conditions: Conditions,
    /// What happens next, in one line; empty when nothing does.
    pub next: String,
    /// False while the last report should stand, because too little was
    /// observed.
    pub report: bool,
}

/// What should happen in the whole fleet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// One entry for each application of the snapshot, in its order.
    pub applications: Vec<ApplicationPlan>,
    /// One entry for each policy, by name.
    pub policies: Vec<PolicyPlan>,
    /// One entry for each evacuation, by name.
    pub evacuations: Vec<EvacuationPlan>,
    /// One entry for each freeze, by name.
    pub freezes: Vec<FreezePlan>,
    /// Active applications by cluster, those included that are about to go
    /// there.
    pub load: Load,
    /// What copies request of each cluster, those included that are about to
    /// go there.
    pub requested: BTreeMap<Name, Resources>,
    /// Applications that run and have no other cluster to go to.
    pub unprotected: usize,
    /// The next moment at which the plan can change by itself.
    pub wake_at: Option<Timestamp>,
}

/// Decides what should happen, from what is known, at a time.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let snapshot = &*clock::corrected(snapshot, now);
    let law = LawBook::new(snapshot, now);
    let mut ledger = Ledger::current(snapshot);
    let mut needs = needs(snapshot, &law, &mut ledger, now);
    budget::grant(snapshot, &law, &mut needs);
    let evacuations = evacuation::plans(snapshot, &needs);
    let applications: Vec<ApplicationPlan> = snapshot
        .applications
        .iter()
        .zip(needs)
        .map(|(application, need)| plan_application(application, need, snapshot, &law, now))
        .collect();
    let policies = compliance::policies(snapshot, &law, &applications, now);
    let freezes = freeze::plans(snapshot, &applications, now);
    let unprotected = refuge::unprotected(snapshot, &law, now);
    let wake_at = wake_at(snapshot, &law, now);
    Plan {
        applications,
        policies,
        evacuations,
        freezes,
        load: ledger.load,
        requested: ledger.requested,
        unprotected,
        wake_at,
    }
}

fn plan_application(
    application: &Application,
    need: Need,
    snapshot: &Snapshot,
    law: &LawBook,
    now: Timestamp,
) -> ApplicationPlan {
    let Need {
        decision,
        candidates,
        standby,
    } = need;
    let record = status::record(application, &decision, standby, snapshot, now);
    let judgement = record
        .active()
        .map(|active| Arc::clone(law.judge(&active.cluster, application.spec.sensitivity)));
    let (conditions, next) = status::conditions(
        application,
        &record,
        &decision,
        judgement.as_deref(),
        snapshot,
        now,
    );
    let report = decision != Decision::NotYet && status::observed(application, snapshot);
    ApplicationPlan {
        key: application.spec.key.clone(),
        judgement,
        candidates,
        migrations: advance_moves(application, snapshot, law, now),
        desired: desired::desired(application, snapshot, law, now),
        record,
        conditions,
        next,
        report,
        decision,
    }
}

fn advance_moves(
    application: &Application,
    snapshot: &Snapshot,
    law: &LawBook,
    now: Timestamp,
) -> Vec<(Name, MigrationRecord)> {
    let Some(current) = application.current_move() else {
        return Vec::new();
    };
    application
        .migrations
        .iter()
        .map(|migration| {
            let context = Context {
                snapshot,
                law,
                application,
                migration,
                now,
            };
            (
                migration.name.clone(),
                migration::advance(&context, &current.name),
            )
        })
        .collect()
}

fn wake_at(snapshot: &Snapshot, law: &LawBook, now: Timestamp) -> Option<Timestamp> {
    let retries = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.record.failed_targets)
        .map(|failed| failed.retry_after)
        .filter(|time| *time > now);
    let edge = Edge::of(snapshot);
    let moves = snapshot.applications.iter().filter_map(|application| {
        let Some(migration) = application.current_move() else {
            return failover::next_change(application, snapshot, &edge, now);
        };
        gates::next_change(&Context {
            snapshot,
            law,
            application,
            migration,
            now,
        })
    });
    let health = snapshot
        .clusters
        .values()
        .filter_map(|cluster| health::next_change(cluster, now));
    law.next_change
        .into_iter()
        .chain(retries)
        .chain(moves)
        .chain(health)
        .chain(freeze::next_change(snapshot, now))
        .min()
}

#[cfg(test)]
mod tests;
