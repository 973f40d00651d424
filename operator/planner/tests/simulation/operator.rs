//! An operator that does what the real one does: observe, decide, record, act.
//! It may die between any two writes, and then knows nothing but the records.

use crate::{
    act, decisions,
    observe::{self, MemberView, Probe},
    reached, rules,
    world::{HubMigration, World},
};
use flambeau_planner::{
    Plan, Reason,
    desired::{Copy, Desired},
    fleet::Decision,
    model::{ApplicationKey, ApplicationRecord, MigrationRecord, Name, Reach, Snapshot},
    plan,
};
use std::{collections::BTreeMap, sync::Arc};

/// The operator's memory.
#[derive(Default)]
pub struct Operator {
    pub views: BTreeMap<Name, MemberView>,
    /// What requests and attempts at the edge say.
    pub probes: BTreeMap<(ApplicationKey, Name), Probe>,
    /// When anything last came through the edge from each copy.
    pub reached: BTreeMap<(ApplicationKey, Name), u64>,
    /// Since when it looks.
    pub since: Option<u64>,
    /// What members and the edge should look like, as last planned.
    pub desired: BTreeMap<ApplicationKey, Desired>,
    /// Why applications were last told to be stalled.
    pub told: BTreeMap<ApplicationKey, (Reason, String)>,
    /// Dead until this second.
    pub dead_until: u64,
}

/// One write on the hub.
#[derive(Debug)]
enum Write {
    Application(ApplicationKey, Box<ApplicationRecord>),
    Migration(ApplicationKey, Name, Box<MigrationRecord>),
    /// With the reason that is told.
    Create(Box<HubMigration>, String),
    Evacuation(Name, usize, bool),
}

/// A broken rule, in words.
pub type Broken = String;

impl Operator {
    /// The first process, with a clock of its own.
    pub fn begin(world: &mut World) -> Self {
        world.another_clock();
        Self::default()
    }

    /// All memory is lost; it starts again a little later.
    pub fn die(&mut self, world: &mut World) {
        world
            .story
            .tell(world.second, || "the operator is killed".to_owned());
        reached::killed(world);
        self.write_from_the_grave(world);
        let dead_until = world.second + world.random.between(0, 8);
        world.another_clock();
        world.nobody_looks_until(dead_until);
        *self = Self {
            dead_until,
            ..Self::default()
        };
    }

    /// A write that it had sent, or sends when it wakes up once more, lands
    /// while others lead.
    fn write_from_the_grave(&self, world: &mut World) {
        let copies = self.desired.iter().flat_map(|(key, desired)| {
            desired.copies.iter().filter_map(|(cluster, copy)| {
                let Copy::Present { epoch } = copy else {
                    return None;
                };
                Some((key.clone(), cluster.clone(), *epoch))
            })
        });
        let copies: Vec<(ApplicationKey, Name, i64)> = copies.collect();
        if world.temper.crash == 0 || !world.random.percent(30) {
            return;
        }
        if let Some((key, cluster, epoch)) = world.random.pick(&copies).cloned() {
            let lands = world.second + world.random.between(5, 60);
            world.lands_late(&key, &cluster, (epoch, None), lands);
        }
    }

    /// One second of work.
    pub fn work(&mut self, world: &mut World) -> Result<(), Broken> {
        if world.second < self.dead_until {
            return Ok(());
        }
        self.since.get_or_insert(world.second);
        observe::observe(self, world);
        let snapshot = observe::snapshot(self, world);
        let plan = plan(&snapshot, world.now());
        decisions::plan(world, &snapshot, &plan)?;
        self.tell_stalled(world, &plan);
        reached::decided(world, &plan);
        if self.persist(world, &snapshot, &plan)? {
            self.die(world);
            return Ok(());
        }
        self.desired = plan
            .applications
            .into_iter()
            .map(|application| (application.key, application.desired))
            .collect();
        if act::act(self, world, &snapshot)? {
            self.die(world);
        }
        Ok(())
    }

    fn tell_stalled(&mut self, world: &mut World, plan: &Plan) {
        for application in &plan.applications {
            let key = &application.key;
            let Decision::Stalled { reason, message } = &application.decision else {
                if let Some((before, _)) = self.told.remove(key) {
                    reached::freed(world, before, application);
                }
                continue;
            };
            if self.told.get(key).map(|(_, told)| told) != Some(message) {
                world
                    .story
                    .tell(world.second, || format!("{key} is stalled: {message}"));
                let before = self.told.insert(key.clone(), (*reason, message.clone()));
                if before.is_none_or(|(before, _)| before != *reason) {
                    reached::stalled(world, *reason, application);
                }
            }
        }
    }

    /// Stores what the plan asks to record, one write after the other, in any
    /// order. True when the operator died on the way.
    fn persist(&self, world: &mut World, snapshot: &Snapshot, plan: &Plan) -> Result<bool, Broken> {
        let mut writes = writes(world, snapshot, plan);
        world.random.shuffle(&mut writes);
        for write in writes {
            if world.random.below(1000) < world.temper.crash {
                return Ok(true);
            }
            world.hub_writes += 1;
            self.store(world, write)?;
        }
        let gone: Vec<ApplicationKey> = world
            .applications
            .iter()
            .filter(|(_, application)| application.deleting)
            .filter(|(_, application)| {
                application
                    .record
                    .placements
                    .iter()
                    .all(|placement| self.unanswering(world, &placement.cluster))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.let_go(world, &key);
        }
        Ok(false)
    }

    fn unanswering(&self, world: &World, cluster: &Name) -> bool {
        let reach = self.views.get(cluster).map(|view| &view.reach);
        let known = matches!(
            reach,
            Some(Reach::Unreachable { .. } | Reach::Misconfigured { .. })
        );
        known || !world.clusters.contains_key(cluster)
    }

    /// The application is gone from the hub; what is left of it on members
    /// that do not answer is erased when they do.
    fn let_go(&self, world: &mut World, key: &ApplicationKey) {
        let Some(application) = world.applications.remove(key) else {
            return;
        };
        world.story.tell(world.second, || format!("{key} is gone"));
        world.hub_writes += 1;
        for placement in &application.record.placements {
            world
                .pending_erasures
                .insert((placement.cluster.clone(), key.clone()));
        }
        world
            .migrations
            .retain(|migration| migration.application != *key);
        world.edge.remove(key);
    }

    fn store(&self, world: &mut World, write: Write) -> Result<(), Broken> {
        match write {
            Write::Application(key, record) => {
                let view = |cluster: &Name| self.views.get(cluster);
                rules::application_record(world, &key, &record, view)?;
                if let Some(application) = world.applications.get_mut(&key) {
                    let told = rules::placements(&record);
                    let changed = told != rules::placements(&application.record);
                    application.record = Arc::from(*record);
                    if changed {
                        world
                            .story
                            .tell(world.second, || format!("{key} is {told}"));
                    }
                }
            }
            Write::Migration(key, name, record) => {
                rules::migration_record(world, &key, &name, &record)?;
                tell_migration(world, &key, &name, &record);
                if let Some(index) = world
                    .migrations
                    .iter()
                    .position(|found| found.application == key && found.name == name)
                {
                    reached::stored(world, index, &record);
                    let second = world.second;
                    let migration = &mut world.migrations[index];
                    for step in &record.steps {
                        migration.entered.entry(step.step).or_insert(second);
                    }
                    migration.record = Arc::from(*record);
                }
            }
            Write::Create(migration, reason) => {
                reached::begun(world, &migration, &reason);
                create(world, *migration)?;
            }
            Write::Evacuation(name, total, ended) => {
                if let Some(evacuation) = world.evacuations.get_mut(&name) {
                    let evacuation = Arc::make_mut(evacuation);
                    (evacuation.total, evacuation.ended) = (total, ended);
                }
                if ended {
                    world.count("evacuations ended");
                    let told = || format!("Evacuation {name} is over, {total} in all");
                    world.story.tell(world.second, told);
                }
            }
        }
        Ok(())
    }
}

fn create(world: &mut World, migration: HubMigration) -> Result<(), Broken> {
    let taken = world
        .migrations
        .iter()
        .any(|found| found.name == migration.name);
    if taken {
        return Err(format!("a second Migration is named {}", migration.name));
    }
    world.story.tell(world.second, || {
        format!(
            "{} moves from {} to {}: {}",
            migration.application, migration.from, migration.to, migration.name
        )
    });
    world.migrations.push(migration);
    Ok(())
}

fn tell_migration(world: &mut World, key: &ApplicationKey, name: &Name, record: &MigrationRecord) {
    let before = world
        .migrations
        .iter()
        .find(|found| found.application == *key && found.name == *name)
        .map(|found| (found.record.step, found.record.percent));
    if before == Some((record.step, record.percent)) {
        return;
    }
    world.story.tell(world.second, || {
        let step = record
            .step
            .map_or("no step".to_owned(), |step| format!("{step:?}"));
        let why = record
            .abort_reason
            .as_ref()
            .map_or(String::new(), |(reason, message)| {
                format!(" ({reason}: {message})")
            });
        format!("{name} at {step}, {} % at the target{why}", record.percent)
    });
}

fn writes(world: &World, snapshot: &Snapshot, plan: &Plan) -> Vec<Write> {
    let mut writes = Vec::new();
    for (application, planned) in snapshot.applications.iter().zip(&plan.applications) {
        let key = &planned.key;
        if planned.record != *application.record {
            writes.push(Write::Application(
                key.clone(),
                Box::new(planned.record.clone()),
            ));
        }
        for (migration, (name, record)) in application.migrations.iter().zip(&planned.migrations) {
            if *migration.record != *record {
                writes.push(Write::Migration(
                    key.clone(),
                    name.clone(),
                    Box::new(record.clone()),
                ));
            }
        }
        if let Decision::Move {
            from,
            to,
            migration,
            motive,
            reason,
        } = &planned.decision
        {
            let migration = HubMigration {
                application: key.clone(),
                name: migration.clone(),
                from: from.clone(),
                to: to.clone(),
                move_type: motive.move_type(),
                trigger: motive.trigger(),
                evacuation: motive.evacuation().cloned(),
                ignore_freeze: motive
                    .evacuation()
                    .and_then(|name| world.evacuations.get(name))
                    .is_some_and(|evacuation| evacuation.ignore_freeze),
                pause: false,
                abort: false,
                created: world.second,
                entered: BTreeMap::new(),
                record: Arc::default(),
            };
            writes.push(Write::Create(Box::new(migration), reason.clone()));
        }
    }
    for planned in &plan.evacuations {
        let recorded = snapshot.evacuations.get(&planned.name);
        let (total, ended) = (planned.total, planned.outcome.is_some());
        if recorded.is_some_and(|one| (one.total, one.ended) != (total, ended)) {
            writes.push(Write::Evacuation(planned.name.clone(), total, ended));
        }
    }
    writes
}
