//! What every application needs, before the fleet's budget is spent.

use crate::{
    Reason,
    edge::Edge,
    evacuation, failover,
    fleet::{Decision, Motive},
    freeze,
    law::LawBook,
    model::{Application, Name, Placement, Snapshot},
    placement::{self, Bounds, Candidate, Choice, Ledger, MissingKinds},
    standby::{self, Standby},
};
use jiff::Timestamp;
use std::cmp::Reverse;

/// What an application needs.
pub struct Need {
    pub decision: Decision,
    pub candidates: Vec<Candidate>,
    pub standby: Standby,
}

impl Need {
    fn just(decision: Decision) -> Self {
        Self {
            decision,
            candidates: Vec::new(),
            standby: Standby::Leave,
        }
    }
}

/// What every application needs, in the order of the snapshot. Each choice
/// adds to the ledger that the next one sees, so critical applications choose
/// first, then the order of the keys decides, whatever that of the snapshot.
pub fn needs(snapshot: &Snapshot, law: &LawBook, ledger: &mut Ledger, now: Timestamp) -> Vec<Need> {
    let applications = &snapshot.applications;
    let mut order: Vec<usize> = (0..applications.len()).collect();
    order.sort_by_key(|&index| {
        let spec = &applications[index].spec;
        (Reverse(spec.criticality), &spec.key)
    });
    let mut chooser = Chooser {
        snapshot,
        law,
        ledger,
        kinds: MissingKinds::default(),
        edge: Edge::of(snapshot),
        now,
    };
    let mut needs: Vec<(usize, Need)> = order
        .into_iter()
        .map(|index| (index, chooser.need(&applications[index])))
        .collect();
    needs.sort_by_key(|(index, _)| *index);
    needs.into_iter().map(|(_, need)| need).collect()
}

/// Makes one choice after the other.
pub struct Chooser<'a, 'b> {
    pub snapshot: &'a Snapshot,
    pub law: &'b LawBook,
    pub ledger: &'b mut Ledger,
    pub kinds: MissingKinds<'a>,
    pub edge: Edge<'a>,
    pub now: Timestamp,
}

/// Whether an application leaves its place.
enum Leaving<'a> {
    No,
    Held(Decision),
    Yes(Motive, Bounds<'a>),
}

impl<'a> Chooser<'a, '_> {
    fn need(&mut self, application: &'a Application) -> Need {
        let busy = application.deleting || !application.migrations.is_empty();
        if busy || application.spec.invalid.is_some() {
            return Need {
                standby: standby::lawful_or_nowhere(self, application),
                ..Need::just(Decision::Stay)
            };
        }
        let Some(active) = application.record.active() else {
            return Need {
                standby: standby::lawful_or_nowhere(self, application),
                ..self.place(application)
            };
        };
        let need = self.stay_or_leave(application, active);
        let stays = matches!(
            need.decision,
            Decision::Stay | Decision::Stalled { .. } | Decision::WaitForThaw { .. }
        );
        let standby = if stays {
            standby::wanted(self, application)
        } else {
            standby::lawful_or_nowhere(self, application)
        };
        Need { standby, ..need }
    }

    fn stay_or_leave(&mut self, application: &'a Application, active: &Placement) -> Need {
        if let Some(home) = failover::failback(application, self.snapshot, self.now)
            && matches!(self.leaving(application, active), Leaving::No)
            && let Some(need) = self.go_back(application, &home)
        {
            return need;
        }
        match self.leaving(application, active) {
            Leaving::Held(decision) => Need::just(decision),
            Leaving::Yes(motive, bounds) => self.leave(application, active, motive, bounds),
            Leaving::No => Need::just(Decision::Stay),
        }
    }

    /// Loss comes first, whatever the law says about the place: it says the
    /// same about the next.
    fn leaving(&self, application: &Application, active: &Placement) -> Leaving<'a> {
        let (snapshot, now) = (self.snapshot, self.now);
        let loss = failover::loss(application, snapshot, &active.cluster, now);
        let held = loss.as_ref().and_then(|loss| {
            failover::objection(application, active, loss, snapshot, &self.edge, now)
        });
        match (loss, held) {
            (Some(loss), None) => {
                let bounds = Bounds {
                    hurry: true,
                    lost_since: Some(loss.since),
                    ..Bounds::default()
                };
                Leaving::Yes(Motive::Loss(loss), bounds)
            }
            // A planned move may still leave a cluster that answers.
            (_, Some((reason, message))) if !snapshot.reaches(&active.cluster) => {
                Leaving::Held(Decision::Stalled { reason, message })
            }
            (_, held) => self.planned(application, active).unwrap_or_else(|| {
                held.map_or(Leaving::No, |(reason, message)| {
                    Leaving::Held(Decision::Stalled { reason, message })
                })
            }),
        }
    }

    fn planned(&self, application: &Application, active: &Placement) -> Option<Leaving<'a>> {
        let snapshot = self.snapshot;
        if placement::unlawful(application, &active.cluster, self.law).is_some() {
            return Some(Leaving::Yes(Motive::Policy, Bounds::default()));
        }
        let evacuation = evacuation::leaving(snapshot, &active.cluster)?;
        let bounds = Bounds {
            only: &evacuation.to,
            ..Bounds::default()
        };
        let motive = Motive::Evacuation(evacuation.name.clone());
        Some(Leaving::Yes(motive, bounds))
    }

    /// The first choice among clusters for an application.
    pub fn consider(
        &mut self,
        application: &'a Application,
        bounds: Bounds<'_>,
    ) -> (Choice, Vec<Candidate>) {
        placement::consider(
            application,
            self.snapshot,
            self.law,
            self.ledger,
            bounds,
            &mut self.kinds,
            self.now,
        )
    }

    fn place(&mut self, application: &'a Application) -> Need {
        let (choice, candidates) = self.consider(application, Bounds::default());
        let decision = match choice {
            Choice::NotYet => Decision::NotYet,
            Choice::NoneEligible => stalled(Reason::NoEligibleCluster, "", &candidates),
            Choice::NoneLawful => stalled(Reason::NoLawfulCluster, "", &candidates),
            Choice::Cluster(cluster) => {
                self.ledger.take_on(application, &cluster);
                Decision::Place { cluster }
            }
        };
        Need {
            candidates,
            ..Need::just(decision)
        }
    }

    fn leave(
        &mut self,
        application: &'a Application,
        active: &Placement,
        motive: Motive,
        bounds: Bounds<'_>,
    ) -> Need {
        let (choice, candidates) = self.consider(application, bounds);
        let why = match &motive {
            Motive::Loss(loss) => format!("{}; ", loss.message),
            _ => String::new(),
        };
        let decision = match choice {
            Choice::NotYet => Decision::NotYet,
            Choice::NoneEligible => stalled(Reason::NoEligibleCluster, &why, &candidates),
            Choice::NoneLawful => stalled(Reason::NoLawfulCluster, &why, &candidates),
            Choice::Cluster(to) => self.go(application, active, to, motive),
        };
        Need {
            candidates,
            ..Need::just(decision)
        }
    }

    /// A failback that is not possible now is no reason to complain: the
    /// application serves where it is.
    fn go_back(&mut self, application: &'a Application, home: &Name) -> Option<Need> {
        let active = application.record.active()?;
        let bounds = Bounds {
            only: std::slice::from_ref(home),
            hurry: true,
            ..Bounds::default()
        };
        let (choice, candidates) = self.consider(application, bounds);
        let Choice::Cluster(to) = choice else {
            return None;
        };
        let decision = self.go(application, active, to, Motive::Failback);
        let possible = decision.obstacle().is_none() && decision != Decision::NotYet;
        possible.then(|| Need {
            candidates,
            ..Need::just(decision)
        })
    }

    fn go(
        &mut self,
        application: &Application,
        active: &Placement,
        to: Name,
        motive: Motive,
    ) -> Decision {
        if motive.planned() {
            if let Some(obstacle) = cannot_leave(self.snapshot, &active.cluster, self.now) {
                return obstacle;
            }
            let key = &application.spec.key;
            let freeze = freeze::holding(self.snapshot, key, self.now);
            if let Some(freeze) = freeze.filter(|_| !crosses_freeze(self.snapshot, &motive)) {
                let message = freeze::message(freeze);
                return Decision::WaitForThaw { to, message };
            }
        }
        self.ledger.take_on(application, &to);
        Decision::WaitForBudget { to, motive }
    }
}

fn crosses_freeze(snapshot: &Snapshot, motive: &Motive) -> bool {
    motive
        .evacuation()
        .and_then(|name| snapshot.evacuations.get(name))
        .is_some_and(|evacuation| evacuation.ignore_freeze)
}

/// Why no planned move may begin at a cluster, if none may.
fn cannot_leave(snapshot: &Snapshot, from: &Name, now: Timestamp) -> Option<Decision> {
    if snapshot.hub_suspect(now) {
        return Some(Decision::Stalled {
            reason: Reason::HubSuspect,
            message: "most clusters stopped answering together, so nothing moves by itself: if \
                      they are gone for good, remove them from the fleet"
                .to_owned(),
        });
    }
    let (reason, message) = match snapshot.clusters.get(from) {
        None => (
            Reason::ClusterUnknown,
            format!("cluster {from} is not part of the fleet"),
        ),
        Some(cluster) => placement::unreachable(cluster)?,
    };
    if reason == Reason::ClusterNotObserved {
        return Some(Decision::NotYet);
    }
    let message = format!("a move begins where the application runs: {message}");
    Some(Decision::Stalled { reason, message })
}

fn stalled(reason: Reason, why: &str, candidates: &[Candidate]) -> Decision {
    let what = match reason {
        Reason::NoLawfulCluster => "no cluster is lawful",
        _ => "no lawful cluster can take the application now",
    };
    let objections: Vec<String> = candidates
        .iter()
        .filter(|candidate| candidate.reason != Reason::AlreadyThere)
        .map(|candidate| format!("{}: {}", candidate.cluster, candidate.reason))
        .collect();
    let message = if objections.is_empty() {
        format!("{why}{what}: there is no other cluster in the fleet")
    } else {
        format!("{why}{what} ({})", objections.join(", "))
    };
    Decision::Stalled { reason, message }
}
