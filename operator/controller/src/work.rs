//! What is due: the plan held against what is stored and observed. Pure but
//! for reads of the caches.

use crate::{
    act::{Actor, Finalizer, Work, tell_application, tell_migration},
    convert,
    edge::Edge,
    hub::{ApplicationEntry, Hub, MigrationEntry},
    members::Members,
    report,
};
use flambeau_crds::{
    APPLICATION_LABEL, Migration, MigrationSpec,
    migration::{MigrationTrigger, MigrationType},
};
use flambeau_planner::{
    ApplicationPlan, Plan,
    desired::Copy,
    fleet::Decision,
    migration,
    model::{Application, ApplicationKey, Kind, MigrationRecord, Name, Role, Snapshot},
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, api::ObjectMeta};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

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
    /// The plan.
    pub plan: &'a Plan,
    /// When.
    pub now: Timestamp,
    /// The same moment, by the clock that nobody sets.
    pub at: Instant,
}

impl<E: Edge> Due<'_, E> {
    /// Everything that is due for applications and their moves.
    pub fn applications(&self) -> Vec<Work> {
        let mut work = Vec::new();
        self.hub.applications.read(|entries| {
            for (application, planned) in self
                .snapshot
                .applications
                .iter()
                .zip(&self.plan.applications)
            {
                if let Some(entry) = entries.get(&planned.key) {
                    work.extend(self.record(entry, application, planned));
                    // Nothing is acted on before the finalizer guards it.
                    if entry.meta.protected {
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
        let finalizer = match (application.deleting, entry.meta.protected) {
            (false, false) => Finalizer::Protect,
            (true, true) if self.may_go(application, planned) => Finalizer::Release,
            _ => Finalizer::Leave,
        };
        let moving_to = application
            .current_move()
            .map(|migration| migration.to.to_string());
        let status = planned.report.then(|| {
            convert::application_status(
                planned,
                &entry.status,
                entry.meta.generation,
                moving_to,
                self.now,
            )
        });
        let status = status.filter(|status| {
            let reports = &self.actor.reports;
            reports.due(&planned.key, &entry.status, status, self.at)
        });
        let begin = self.begin(entry, planned);
        if status.is_none() && begin.is_none() && finalizer == Finalizer::Leave {
            return None;
        }
        let happenings = status
            .as_ref()
            .map(|status| tell_application(&planned.key, &entry.meta.uid, &entry.status, status))
            .unwrap_or_default();
        Some(Work::Application {
            key: planned.key.clone(),
            meta: entry.meta.clone(),
            finalizer,
            status: status.map(Box::new),
            begin,
            happenings,
        })
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
                        .any(|erasure| report::erasure_key(erasure) == planned.key)
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

    fn begin(&self, entry: &ApplicationEntry, planned: &ApplicationPlan) -> Option<Box<Migration>> {
        let Decision::Move {
            from,
            to,
            migration,
            reason,
        } = &planned.decision
        else {
            return None;
        };
        let key = ApplicationKey {
            namespace: planned.key.namespace.clone(),
            name: migration.clone(),
        };
        if self.hub.migrations.get(&key).is_some() {
            return None;
        }
        let owner = OwnerReference {
            api_version: flambeau_crds::GamesApplication::api_version(&()).into_owned(),
            kind: flambeau_crds::GamesApplication::kind(&()).into_owned(),
            name: planned.key.name.to_string(),
            uid: entry.meta.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        };
        let label = (APPLICATION_LABEL.to_owned(), planned.key.name.to_string());
        Some(Box::new(Migration {
            metadata: ObjectMeta {
                name: Some(migration.to_string()),
                namespace: Some(planned.key.namespace.to_string()),
                labels: Some([label].into()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: MigrationSpec {
                application: planned.key.name.to_string(),
                type_: MigrationType::Relocate,
                from: from.to_string(),
                to: to.to_string(),
                trigger: MigrationTrigger::Policy,
                reason: shorten(reason, 1024),
                pause: false,
                abort: false,
            },
            status: None,
        }))
    }

    fn copies(
        &self,
        entry: &ApplicationEntry,
        application: &Application,
        planned: &ApplicationPlan,
        work: &mut Vec<Work>,
    ) {
        for (cluster, copy) in &planned.desired.copies {
            let observed = application.copies.get(cluster);
            let Some(observed) = observed.filter(|observed| observed.observed) else {
                continue;
            };
            match (copy, &entry.declared) {
                (Copy::Present { epoch }, Ok(declared))
                    if !observed.settled()
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
                            .erase_is_due(cluster, &planned.key, &entry.spec.kinds) =>
                {
                    work.push(Work::Erase {
                        key: planned.key.clone(),
                        cluster: cluster.clone(),
                        kinds: entry.spec.kinds.clone(),
                        replaced: !application.deleting && was_serving(application, cluster),
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

    fn migrations(&self) -> Vec<Work> {
        let planned = self.plan.applications.iter().flat_map(|application| {
            let namespace = &application.key.namespace;
            application.migrations.iter().map(move |(name, record)| {
                let key = ApplicationKey {
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                (key, record)
            })
        });
        self.hub.migrations.read(|entries| {
            let mut work: Vec<Work> = planned
                .filter_map(|(key, record)| self.migration(&key, entries.get(&key)?, record))
                .collect();
            for (key, entry) in entries.iter().filter(|(_, entry)| !entry.record.done()) {
                let application = ApplicationKey {
                    namespace: key.namespace.clone(),
                    name: entry.spec.application.as_str().into(),
                };
                if self.hub.applications.get(&application).is_none() {
                    let over = migration::without_application(&entry.record, self.now);
                    work.extend(self.migration(key, entry, &over));
                }
            }
            work
        })
    }

    fn migration(
        &self,
        key: &ApplicationKey,
        entry: &MigrationEntry,
        record: &MigrationRecord,
    ) -> Option<Work> {
        let status = convert::migration_status(
            record,
            &entry.status,
            entry.meta.generation,
            entry.spec.pause,
            self.now,
        );
        (status != *entry.status).then(|| Work::Migration {
            happenings: tell_migration(key, &entry.meta.uid, &entry.status, &status),
            key: key.clone(),
            meta: entry.meta.clone(),
            status: Box::new(status),
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
                    let key = report::erasure_key(erasure);
                    let kinds: BTreeSet<Kind> = erasure
                        .kinds
                        .iter()
                        .map(|kind| Kind {
                            api_version: kind.api_version.as_str().into(),
                            kind: kind.kind.as_str().into(),
                        })
                        .collect();
                    let erased = self.actor.saw_erased(&cluster.name, &key);
                    if !erased && !self.placed_again(&key, &cluster.name) {
                        work.push(Work::Erase {
                            key,
                            cluster: cluster.name.clone(),
                            kinds,
                            replaced: false,
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

fn shorten(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
