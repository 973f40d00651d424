//! Status of evacuations and freezes.

use crate::{
    act::{Work, tell_evacuation},
    convert,
    hub::{EvacuationEntry, Hub},
    world::Versions,
};
use flambeau_planner::{
    Plan,
    model::{ApplicationKey, Name},
};
use jiff::Timestamp;

fn key(name: &Name) -> ApplicationKey {
    ApplicationKey {
        namespace: "".into(),
        name: name.clone(),
    }
}

/// How far every evacuation is that is not over.
pub fn evacuations(hub: &Hub, versions: &Versions, plan: &Plan, now: Timestamp) -> Vec<Work> {
    hub.evacuations.read(|entries| {
        let due = plan.evacuations.iter().filter_map(|planned| {
            let key = key(&planned.name);
            let current = |entry: &&EvacuationEntry| versions.evacuation(&key, &entry.meta);
            let entry = entries.get(&key).filter(current)?;
            let before = &entry.status;
            let generation = entry.meta.generation;
            let status = convert::evacuation_status(planned, before, generation, now);
            (status != **before).then(|| Work::Evacuation {
                happenings: tell_evacuation(&key, &entry.meta.uid, before, &status),
                meta: entry.meta.clone(),
                status: Box::new(status),
                key,
            })
        });
        due.collect()
    })
}

/// Whether the window of every freeze is open.
pub fn freezes(hub: &Hub, plan: &Plan, now: Timestamp) -> Vec<Work> {
    hub.freezes.read(|entries| {
        let due = plan.freezes.iter().filter_map(|planned| {
            let key = key(&planned.name);
            let entry = entries.get(&key)?;
            let (before, generation) = (&entry.status, entry.meta.generation);
            let status = convert::freeze_status(planned, &entry.freeze, before, generation, now);
            (status != *before).then(|| Work::Freeze {
                meta: entry.meta.clone(),
                status: Box::new(status),
                key,
            })
        });
        due.collect()
    })
}
