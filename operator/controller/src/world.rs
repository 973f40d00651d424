//! Observe: the caches of the hub, the members and the edge, put together
//! into one snapshot.

use crate::{
    convert::{self, ClusterObservation},
    edge::Edge,
    hub::{ApplicationEntry, Entry, Hub, Meta, MigrationEntry, Table},
    lanes::{Lane, Lanes},
    members::Members,
    service::Services,
};
use flambeau_planner::{
    migration,
    model::{
        Application, ApplicationKey, ApplicationRecord, Cluster, CopyObservation, EdgeObservation,
        Migration, Name, Role, Service, Settings, Snapshot,
    },
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Moves of one application that are not over, and the numbers of names that
/// are taken.
#[derive(Default)]
struct Moves {
    open: Vec<(Option<Timestamp>, Migration)>,
    taken: Vec<i64>,
}

/// Which versions of applications, their moves and evacuations a snapshot was
/// taken of. What is stored while a plan is made asks for a plan of its own,
/// and is not overwritten by this one.
#[derive(Debug, Default)]
pub struct Versions {
    applications: Numbers,
    migrations: Numbers,
    evacuations: Numbers,
}

type Numbers = HashMap<ApplicationKey, u64>;

impl Versions {
    /// Whether an application is still what the plan for it was made from.
    pub fn application(&self, key: &ApplicationKey, stored: &Meta) -> bool {
        self.applications.get(key) == Some(&stored.version)
    }

    /// Whether a Migration is still what the plan for it was made from.
    pub fn migration(&self, key: &ApplicationKey, stored: &Meta) -> bool {
        self.migrations.get(key) == Some(&stored.version)
    }

    /// Whether an Evacuation is still what the plan for it was made from.
    pub fn evacuation(&self, key: &ApplicationKey, stored: &Meta) -> bool {
        self.evacuations.get(key) == Some(&stored.version)
    }

    /// Whether something was stored since, so that there is work which this
    /// plan does not know.
    pub fn overtaken(&self, hub: &Hub) -> bool {
        fn changed<T: Entry>(table: &Table<T>, numbers: &Numbers) -> bool {
            let same = |(key, entry): (&ApplicationKey, &T)| {
                numbers.get(key) == Some(&entry.meta().version)
            };
            table.read(|entries| !entries.iter().all(same))
        }
        changed(&hub.applications, &self.applications)
            || changed(&hub.migrations, &self.migrations)
            || changed(&hub.evacuations, &self.evacuations)
    }
}

/// The whole fleet, as last observed.
pub fn snapshot<E: Edge>(
    hub: &Hub,
    members: &Members,
    edge: &E,
    services: &Services,
    lanes: &Lanes,
    settings: &Settings,
    clock_since: Timestamp,
) -> (Snapshot, Versions) {
    let mut versions = Versions::default();
    let mut moves = moves(hub, &mut versions);
    let view = View {
        members,
        edge,
        services,
        lanes,
        written: members.written_on(),
    };
    let applications: Vec<Application> = hub.applications.read(|entries| {
        entries
            .iter()
            .map(|(key, entry)| {
                versions
                    .applications
                    .insert(key.clone(), entry.meta.version);
                application(key, entry, moves.remove(key).unwrap_or_default(), &view)
            })
            .collect()
    });
    let clusters = clusters(hub, members, services, &applications);
    let snapshot = Snapshot {
        providers: hub.providers.read(|entries| {
            entries
                .iter()
                .map(|(key, entry)| (key.name.clone(), Arc::clone(&entry.facts)))
                .collect()
        }),
        policies: hub.policies.read(|entries| {
            let binding = entries.iter().filter(|(_, entry)| !entry.meta.deleting);
            binding
                .map(|(key, entry)| (key.name.clone(), Arc::clone(&entry.policy)))
                .collect()
        }),
        clusters,
        services_since: services.since(),
        clock_since: Some(clock_since),
        applications,
        evacuations: hub.evacuations.read(|entries| {
            let numbers = entries.iter();
            versions
                .evacuations
                .extend(numbers.map(|(key, entry)| (key.clone(), entry.meta.version)));
            let open = entries.iter().filter(|(_, entry)| !entry.meta.deleting);
            open.map(|(key, entry)| (key.name.clone(), Arc::clone(&entry.evacuation)))
                .collect()
        }),
        freezes: hub.freezes.read(|entries| {
            let binding = entries.iter().filter(|(_, entry)| !entry.meta.deleting);
            binding
                .map(|(key, entry)| (key.name.clone(), Arc::clone(&entry.freeze)))
                .collect()
        }),
        settings: settings.clone(),
    };
    (snapshot, versions)
}

fn clusters(
    hub: &Hub,
    members: &Members,
    services: &Services,
    applications: &[Application],
) -> BTreeMap<Name, Arc<Cluster>> {
    let unknown = if services.just_begun() {
        unknown(applications)
    } else {
        BTreeSet::new()
    };
    hub.clusters.read(|entries| {
        entries
            .iter()
            .map(|(key, entry)| {
                let name = &key.name;
                let observed = ClusterObservation {
                    reach: members.reach(name),
                    kinds: members.kinds(name),
                    refused_kinds: members.refused_kinds(name),
                    services_answer: services.answer_from(name) || unknown.contains(name),
                    answers_since: members.answers_since(name),
                    returned: members.returned(name),
                    in_doubt: members.in_doubt(name),
                    nodes: members.nodes(name),
                    allocatable: members.allocatable(name),
                };
                let cluster = convert::cluster(&entry.object, observed);
                (name.clone(), Arc::new(cluster))
            })
            .collect()
    })
}

/// Clusters with copies that requests go to and of whose services nothing is
/// known: unknown is not silent.
fn unknown(applications: &[Application]) -> BTreeSet<Name> {
    let copies = applications
        .iter()
        .flat_map(|application| &application.copies);
    copies
        .filter(|(_, copy)| copy.service == Service::Unknown && copy.known_at_edge())
        .map(|(cluster, _)| cluster.clone())
        .collect()
}

/// What copies are looked at through.
struct View<'a, E> {
    members: &'a Members,
    edge: &'a E,
    services: &'a Services,
    lanes: &'a Lanes,
    /// Members with a copy of an application, and the UID for which it was
    /// written.
    written: HashMap<ApplicationKey, Vec<(Name, Box<str>)>>,
}

fn moves(hub: &Hub, versions: &mut Versions) -> HashMap<ApplicationKey, Moves> {
    let mut moves: HashMap<ApplicationKey, Moves> = HashMap::new();
    hub.migrations.read(|entries| {
        for (key, entry) in entries {
            versions.migrations.insert(key.clone(), entry.meta.version);
            let application = ApplicationKey {
                namespace: key.namespace.clone(),
                name: entry.spec.application.as_str().into(),
            };
            // A name is taken whatever application the Migration is about.
            if let Some((namesake, _)) = key.name.rsplit_once('-')
                && let Some(number) = migration::number(namesake, &key.name)
            {
                let namesake = ApplicationKey {
                    namespace: key.namespace.clone(),
                    name: namesake.into(),
                };
                moves.entry(namesake).or_default().taken.push(number);
            }
            let moves = moves.entry(application).or_default();
            if !entry.record.done() {
                moves
                    .open
                    .push((entry.meta.created, open_move(&key.name, entry)));
            }
        }
    });
    for moves in moves.values_mut() {
        moves.open.sort_by(|(one, first), (other, second)| {
            (one, &first.name).cmp(&(other, &second.name))
        });
    }
    moves
}

/// A move that is being deleted is walked back like one that a person aborts,
/// as far as it still may: what it brought about does not go by itself.
fn open_move(name: &Name, entry: &MigrationEntry) -> Migration {
    let open = convert::open_move(name, &entry.spec, Arc::clone(&entry.record));
    Migration {
        abort: open.abort || entry.meta.deleting,
        ..open
    }
}

fn application<E: Edge>(
    key: &ApplicationKey,
    entry: &ApplicationEntry,
    moves: Moves,
    view: &View<'_, E>,
) -> Application {
    let migrations: Vec<Migration> = moves
        .open
        .into_iter()
        .map(|(_, migration)| migration)
        .collect();
    let last_taken = migration::last_taken(entry.record.migrations, moves.taken);
    let record = if last_taken > entry.record.migrations {
        Arc::new(ApplicationRecord {
            migrations: last_taken,
            ..(*entry.record).clone()
        })
    } else {
        Arc::clone(&entry.record)
    };
    let traffic = entry.spec.traffic;
    Application {
        copies: copies((key, &entry.meta.uid), &record, &migrations, traffic, view),
        edge: if traffic {
            view.edge.observe(key)
        } else {
            EdgeObservation::default()
        },
        spec: Arc::clone(&entry.spec),
        deleting: entry.meta.deleting,
        record,
        migrations,
    }
}

fn copies<E: Edge>(
    (key, uid): (&ApplicationKey, &str),
    record: &ApplicationRecord,
    migrations: &[Migration],
    traffic: bool,
    view: &View<'_, E>,
) -> BTreeMap<Name, CopyObservation> {
    let mut epochs: BTreeMap<&Name, i64> = BTreeMap::new();
    for placement in &record.placements {
        epochs.insert(&placement.cluster, placement.epoch);
    }
    for migration in migrations {
        let epoch = migration.record.epoch;
        epochs.entry(&migration.from).or_insert(epoch - 1);
        // The move is ahead of the record: what is there of a lower epoch, such
        // as a standby, is not yet what the move wants there.
        let target = epochs.entry(&migration.to).or_insert(epoch);
        *target = epoch.max(*target);
    }
    // A write that came late, from a process that is gone, to where nobody
    // looks any more.
    for (cluster, written_for) in view.written.get(key).into_iter().flatten() {
        if **written_for == *uid {
            epochs.entry(cluster).or_insert(record.epoch);
        }
    }
    epochs
        .into_iter()
        .map(|(cluster, epoch)| {
            let mut copy = view.members.observe(cluster, key, epoch);
            if traffic {
                let observed = copy.observed;
                let now = || observed.then(|| view.members.endpoints(cluster, key));
                copy.endpoints_at_edge = view.edge.endpoints_at_edge(key, cluster, now);
                let found = view.services.of(key, cluster);
                copy.service = found.service;
                copy.reached = found.reached;
            }
            let retiring = record
                .on(cluster)
                .is_some_and(|placement| placement.role == Role::Retiring);
            if retiring && copy.absent() {
                // A write that began before may still bring something there.
                let lane = Lane::Copy(key.clone(), cluster.clone());
                copy.observed = !view.lanes.busy(&lane);
            }
            (cluster.clone(), copy)
        })
        .collect()
}

/// Applications whose requests are worth counting: those that move.
pub fn moving(snapshot: &Snapshot) -> BTreeSet<ApplicationKey> {
    snapshot
        .applications
        .iter()
        .filter(|application| !application.migrations.is_empty() && application.spec.traffic)
        .map(|application| application.spec.key.clone())
        .collect()
}
