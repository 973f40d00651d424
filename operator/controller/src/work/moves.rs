//! What is due for moves: their beginning, their record, their end.

use super::Due;
use crate::{
    act::{Finalizer, Happening, Work, tell_migration, tell_recovery},
    convert,
    edge::Edge,
    hub::{ApplicationEntry, MigrationEntry},
    progress::Progress,
};
use flambeau_crds::{APPLICATION_LABEL, FINALIZER, Migration, MigrationStatus};
use flambeau_planner::{
    ApplicationPlan,
    fleet::Decision,
    migration,
    model::{ApplicationKey, MigrationRecord, Step},
};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, api::ObjectMeta};

impl<E: Edge> Due<'_, E> {
    /// The move that a plan wants to begin, if it is not there yet.
    pub(super) fn begin(
        &self,
        entry: &ApplicationEntry,
        planned: &ApplicationPlan,
    ) -> Option<Box<Migration>> {
        let Decision::Move {
            from,
            to,
            migration,
            motive,
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
        let evacuation = motive.evacuation();
        let evacuation = evacuation.and_then(|name| self.snapshot.evacuations.get(name));
        let mut spec = convert::migration_spec(&planned.key.name, (from, to), motive, reason);
        if let Some(evacuation) = evacuation {
            spec.ignore_freeze = evacuation.ignore_freeze;
            spec.requested_by.clone_from(&evacuation.requested_by);
        }
        let label = (APPLICATION_LABEL.to_owned(), planned.key.name.to_string());
        Some(Box::new(Migration {
            metadata: ObjectMeta {
                name: Some(migration.to_string()),
                namespace: Some(planned.key.namespace.to_string()),
                labels: Some([label].into()),
                owner_references: Some(vec![owner]),
                // From the beginning: one write less than later.
                finalizers: Some(vec![FINALIZER.to_owned()]),
                ..ObjectMeta::default()
            },
            spec,
            status: None,
        }))
    }

    /// What is due for every move that is not over, or not let go.
    pub(super) fn migrations(&self) -> Vec<Work> {
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
                .filter_map(|(key, record)| {
                    let entry = entries.get(&key)?;
                    let current = self.versions.migration(&key, &entry.meta);
                    current.then(|| self.migration(&key, entry, record))?
                })
                .collect();
            for (key, entry) in entries {
                if entry.record.done() {
                    // The end is stored first, and what was stored before the
                    // finalizer could be taken off is let go now.
                    work.extend(entry.meta.protected().then(|| release(key, entry)));
                } else if self
                    .hub
                    .applications
                    .get(&application_of(key, entry))
                    .is_none()
                {
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
        let finalizer = finalizer(entry, record);
        let status = convert::migration_status(
            record,
            &entry.status,
            entry.meta.generation,
            entry.spec.pause,
            self.now,
        );
        // A move that touches something is not to go before that is walked back.
        let unguarded = finalizer == Finalizer::Protect && record.reached(Step::Prepare);
        let changed = status != *entry.status && !unguarded;
        if !changed && finalizer == Finalizer::Leave {
            return None;
        }
        let happenings = if changed {
            let mut told = tell_migration(key, &entry.meta.uid, &entry.status, &status);
            told.extend(self.recovered(key, entry, &status));
            told
        } else {
            Vec::new()
        };
        let progress = changed.then(|| Progress::of(key, entry, record));
        Some(Work::Migration {
            key: key.clone(),
            meta: entry.meta.clone(),
            finalizer,
            status: changed.then(|| Box::new(status)),
            happenings,
            progress: progress.flatten(),
        })
    }

    /// What is told of an application as soon as its recovery was measured.
    fn recovered(
        &self,
        key: &ApplicationKey,
        entry: &MigrationEntry,
        status: &MigrationStatus,
    ) -> Option<Happening> {
        let measured = status.recovery_milliseconds;
        let recovery = measured.filter(|_| entry.status.recovery_milliseconds.is_none())?;
        let application = application_of(key, entry);
        let about = self.hub.applications.get(&application)?;
        Some(tell_recovery(
            &application,
            &about.meta.uid,
            &entry.spec,
            SignedDuration::from_millis(recovery),
            about.spec.recovery_time,
        ))
    }
}

/// A finalizer guards a move until it is over, so that one that is deleted is
/// walked back first. It cannot be put on what is being deleted.
fn finalizer(entry: &MigrationEntry, record: &MigrationRecord) -> Finalizer {
    match (record.done(), entry.meta.protected()) {
        (true, true) => Finalizer::Release,
        (false, false) if !entry.meta.deleting => Finalizer::Protect,
        _ => Finalizer::Leave,
    }
}

fn release(key: &ApplicationKey, entry: &MigrationEntry) -> Work {
    Work::Migration {
        key: key.clone(),
        meta: entry.meta.clone(),
        finalizer: Finalizer::Release,
        status: None,
        happenings: Vec::new(),
        progress: None,
    }
}

fn application_of(key: &ApplicationKey, entry: &MigrationEntry) -> ApplicationKey {
    ApplicationKey {
        namespace: key.namespace.clone(),
        name: entry.spec.application.as_str().into(),
    }
}
