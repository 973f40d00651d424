//! What is due: the plan held against what is stored and observed. Pure but
//! for reads of the caches.

mod moves;

use crate::{
    act::{Actor, Finalizer, Happening, Work, tell_application, tell_begin, tell_left_behind},
    convert,
    edge::Edge,
    hub::{ApplicationEntry, Hub},
    members::{Erasure, Members},
    report,
    world::Versions,
};
use flambeau_crds::GamesApplicationStatus;
use flambeau_planner::{
    ApplicationPlan, Plan,
    desired::Copy,
    model::{Application, ApplicationKey, Kind, Name, Role, Snapshot},
};
use jiff::Timestamp;
use std::{cmp::Reverse, collections::BTreeSet, sync::Arc, time::Instant};

/// What work is derived from.
pub struct Due<'a, E> {
    /// Caches of the hub.
    pub hub: &'a Hub,
    /// Members.
    pub members: &'a Members,
    /// The edge.
    pub edge: &'a E,
    /// What was done before.
    pub actor: &'a Actor<E>,
    /// What the plan was made from.
    pub snapshot: &'a Snapshot,
    /// Which versions it was taken of.
    pub versions: &'a Versions,
    /// The plan.
    pub plan: &'a Plan,
    /// When.
    pub now: Timestamp,
    /// The same moment, by the clock that nobody sets.
    pub at: Instant,
}

impl<E: Edge> Due<'_, E> {
    /// Everything that is due for applications and their moves, critical
    /// applications first.
    pub fn applications(&self) -> Vec<Work> {
        let mut work = Vec::new();
        let applications = self.snapshot.applications.iter();
        let mut planned: Vec<_> = applications.zip(&self.plan.applications).collect();
        planned.sort_by_key(|(application, _)| Reverse(application.spec.criticality));
        self.hub.applications.read(|entries| {
            for (application, planned) in planned {
                if let Some(entry) = entries.get(&planned.key) {
                    if self.versions.application(&planned.key, &entry.meta) {
                        work.extend(self.record(entry, application, planned));
                    }
                    // Nothing is acted on before the finalizer guards it.
                    if entry.meta.protected() {
                        self.copies(entry, application, planned, &mut work);
                        work.extend(self.edge(entry, application, planned));
                    }
                }
            }
        });
        work.extend(self.migrations());
        work
    }

    fn record(
        &self,
        entry: &ApplicationEntry,
        application: &Application,
        planned: &ApplicationPlan,
    ) -> Option<Work> {
        let finalizer = match (application.deleting, entry.meta.protected()) {
            (false, false) => Finalizer::Protect,
            (true, true) if self.may_go(application, planned) => Finalizer::Release,
            _ => Finalizer::Leave,
        };
        let status = self.status(entry, application, planned).filter(|status| {
            let reports = &self.actor.reports;
            reports.due(&planned.key, &entry.status, status, self.at)
        });
        let begin = self.begin(entry, planned);
        if status.is_none() && begin.is_none() && finalizer == Finalizer::Leave {
            return None;
        }
        let (key, uid) = (&planned.key, &entry.meta.uid);
        let mut happenings = status
            .as_ref()
            .map(|status| tell_application(key, uid, &entry.status, status))
            .unwrap_or_default();
        if status.is_some() {
            happenings.extend(self.left_behind(entry, application, planned));
        }
        happenings.extend(begin.iter().map(|migration| {
            let name = migration.metadata.name.as_deref().unwrap_or_default();
            tell_begin(key, uid, name, &migration.spec)
        }));
        Some(Work::Application {
            key: planned.key.clone(),
            meta: entry.meta.clone(),
            finalizer,
            status: status.map(Box::new),
            begin,
            happenings,
        })
    }

    /// What the plan asks to report. While too little is observed, the last
    /// report stands, but for the kinds of what is about to be written.
    fn status(
        &self,
        entry: &ApplicationEntry,
        application: &Application,
        planned: &ApplicationPlan,
    ) -> Option<GamesApplicationStatus> {
        if planned.report {
            let moving_to = application
                .current_move()
                .map(|migration| migration.to.to_string());
            return Some(convert::application_status(
                planned,
                &entry.status,
                &entry.kinds,
                entry.meta.generation,
                moving_to,
                self.now,
            ));
        }
        let placed = !entry.record.placements.is_empty();
        (placed && !entry.kinds_stored).then(|| GamesApplicationStatus {
            kinds: entry.kinds.iter().map(convert::kind_reference).collect(),
            ..(*entry.status).clone()
        })
    }

    /// Copies that were to be erased and are forgotten, because their cluster
    /// is not part of the fleet any more.
    fn left_behind(
        &self,
        entry: &ApplicationEntry,
        application: &Application,
        planned: &ApplicationPlan,
    ) -> Vec<Happening> {
        let placements = application.record.placements.iter();
        let forgotten = placements.filter(|placement| {
            placement.role == Role::Retiring
                && planned.record.on(&placement.cluster).is_none()
                && !self.snapshot.clusters.contains_key(&placement.cluster)
        });
        forgotten
            .map(|placement| tell_left_behind(&planned.key, &entry.meta.uid, &placement.cluster))
            .collect()
    }

    /// An application that is being deleted goes when its moves are over, lest
    /// they concern the next of its name, and every copy is known to be
    /// erased, or is remembered by a cluster that does not answer.
    fn may_go(&self, application: &Application, planned: &ApplicationPlan) -> bool {
        let remembered = |cluster: &Name| {
            let key = ApplicationKey {
                namespace: "".into(),
                name: cluster.clone(),
            };
            self.hub.clusters.get(&key).is_none_or(|entry| {
                report::unreachable(self.snapshot, cluster)
                    && entry
                        .object
                        .status
                        .iter()
                        .flat_map(|status| &status.pending_erasures)
                        .any(|erasure| convert::erasure_key(erasure) == planned.key)
            })
        };
        let gone = planned
            .record
            .placements
            .iter()
            .all(|placement| remembered(&placement.cluster));
        let routed = self.edge.present(&planned.key);
        gone && !routed && application.migrations.is_empty()
    }

    fn copies(
        &self,
        entry: &ApplicationEntry,
        application: &Application,
        planned: &ApplicationPlan,
        work: &mut Vec<Work>,
    ) {
        for (cluster, copy) in &planned.desired.copies {
            // Before it is asked what is due there.
            match copy {
                Copy::Present { .. } => self.members.set_form(cluster, &planned.key, None),
                Copy::Standby { replicas, .. } => {
                    self.members
                        .set_form(cluster, &planned.key, Some(*replicas));
                }
                Copy::Keep | Copy::Absent => {}
            }
            let observed = application.copies.get(cluster);
            let Some(observed) = observed.filter(|observed| observed.observed) else {
                continue;
            };
            match (copy, &entry.declared) {
                (Copy::Present { epoch } | Copy::Standby { epoch, .. }, Ok(declared))
                    if !observed.settled()
                        && entry.kinds_stored
                        && self.members.apply_is_due(cluster, declared, *epoch) =>
                {
                    work.push(Work::Write {
                        cluster: cluster.clone(),
                        declared: Arc::clone(declared),
                        epoch: *epoch,
                    })
                }
                (Copy::Absent, _)
                    if !observed.absent()
                        && self
                            .members
                            .erase_is_due(cluster, &planned.key, &entry.kinds) =>
                {
                    work.push(Work::Erase {
                        key: planned.key.clone(),
                        cluster: cluster.clone(),
                        kinds: (*entry.kinds).clone(),
                        replaced: !application.deleting && was_serving(application, cluster),
                        erasure: Some(erasure(entry, application, cluster)),
                    })
                }
                _ => {}
            }
        }
    }

    fn edge(
        &self,
        entry: &ApplicationEntry,
        application: &Application,
        planned: &ApplicationPlan,
    ) -> Option<Work> {
        let key = &planned.key;
        if !self.edge.synced() {
            return None;
        }
        let weights = &planned.desired.weights;
        if weights.is_empty() {
            // Without a recorded place nothing is known about where requests
            // should go: what the edge does goes on.
            let given_up = application.deleting || !application.spec.traffic;
            return (given_up && self.edge.present(key))
                .then(|| Work::RemoveEdge { key: key.clone() });
        }
        let declared = entry.declared.as_ref().ok()?;
        // What is not observed is not known to be gone, and a Service of a new
        // name has its endpoints a little later than its name: the edge keeps
        // the endpoints that it has of a cluster that is not named.
        let known = |cluster: &&Name| {
            let copy = application.copies.get(*cluster);
            copy.is_some_and(|copy| copy.observed)
        };
        let told = |cluster: &Name| {
            let endpoints = self.members.endpoints(cluster, key);
            let kept =
                endpoints.is_empty() && self.actor.mirrors_another_service(declared, cluster);
            (!kept).then(|| (cluster.clone(), endpoints))
        };
        let endpoints = weights.keys().filter(known).filter_map(told).collect();
        let settled = self.actor.edge_settled(declared, weights, &endpoints);
        (!settled).then(|| Work::Edge {
            declared: Arc::clone(declared),
            weights: weights.clone(),
            endpoints,
        })
    }

    /// Copies of applications that were deleted while a cluster did not
    /// answer, now that it does.
    pub fn pending_erasures(&self) -> Vec<Work> {
        let mut work = Vec::new();
        self.hub.clusters.read(|entries| {
            for (cluster, entry) in entries {
                let reachable = self.members.observes(&cluster.name);
                let pending = entry
                    .object
                    .status
                    .iter()
                    .flat_map(|status| &status.pending_erasures);
                for erasure in pending.filter(|_| reachable) {
                    let key = convert::erasure_key(erasure);
                    let kinds: BTreeSet<Kind> = erasure.kinds.iter().map(convert::kind).collect();
                    let erased = self.actor.saw_erased(&cluster.name, &key);
                    if !erased && !self.placed_again(&key, &cluster.name) {
                        work.push(Work::Erase {
                            key,
                            cluster: cluster.name.clone(),
                            kinds,
                            replaced: false,
                            erasure: None,
                        });
                    }
                }
            }
        });
        work
    }

    fn placed_again(&self, key: &ApplicationKey, cluster: &str) -> bool {
        self.hub
            .applications
            .get(key)
            .is_some_and(|entry| entry.record.on(cluster).is_some())
    }
}

/// How far an application is when one of its copies is erased. Nothing is
/// written there again under a lower epoch than its own; once it is deleted,
/// not under its own either.
fn erasure(entry: &ApplicationEntry, application: &Application, cluster: &Name) -> Erasure {
    let record = &application.record;
    let copy = record.on(cluster).map(|placement| placement.epoch);
    let highest = copy.map_or(record.epoch, |copy| copy.max(record.epoch));
    Erasure {
        created: entry.meta.created,
        highest,
        next: if application.deleting {
            highest + 1
        } else {
            // A standby may come there under the same epoch.
            highest
        },
    }
}

/// Whether a copy may have served before: everything but the target of a move
/// that was walked back.
fn was_serving(application: &Application, cluster: &str) -> bool {
    application
        .current_move()
        .is_none_or(|migration| *migration.from == *cluster)
        && application
            .record
            .placements
            .iter()
            .any(|placement| placement.role == Role::Active)
}
