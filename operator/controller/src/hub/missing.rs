//! Kinds of Flambeau that the hub does not know.

use super::entries::Entry;
use kube::Resource;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// CustomResourceDefinitions that are missing on the hub, by name: an older
/// version of Flambeau was installed there, or none. Without one of them the
/// operator does nothing, because what it does not know of is not known to be
/// absent; it goes on as soon as they are there.
#[derive(Clone, Debug, Default)]
pub struct Missing(Arc<Mutex<BTreeSet<String>>>);

impl Missing {
    /// Their names, in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().iter().cloned().collect()
    }

    /// The hub says that it does not know the kind.
    pub fn lost<E: Entry>(&self) {
        let name = name::<E>();
        if self.lock().insert(name.clone()) {
            tracing::error!(definition = %name, "CustomResourceDefinition is missing on the hub: apply those of this version; nothing is done before");
        }
    }

    /// The kind was listed.
    pub fn found<E: Entry>(&self) {
        let name = name::<E>();
        if self.lock().remove(&name) {
            tracing::info!(definition = %name, "CustomResourceDefinition is there now");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name<E: Entry>() -> String {
    format!("{}.{}", E::Object::plural(&()), E::Object::group(&()))
}
