//! A cache of one kind, in which newer always wins.

use super::entries::{Entry, ObjectKey};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::watch;

/// Deletions that are remembered, so that a late answer to a write does not
/// bring an object back.
const REMEMBERED_DELETIONS: usize = 10_000;

/// Objects of one kind by namespace and name.
#[derive(Debug)]
pub struct Table<E> {
    inner: RwLock<Inner<E>>,
    synced: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner<E> {
    entries: BTreeMap<ObjectKey, E>,
    deleted: HashMap<ObjectKey, u64>,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        let inner = Inner {
            entries: BTreeMap::new(),
            deleted: HashMap::new(),
        };
        Self {
            inner: RwLock::new(inner),
            synced: watch::Sender::new(false),
        }
    }
}

impl<E: Entry> Table<E> {
    /// Whether the kind was listed once.
    pub fn synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until the kind was listed once.
    pub async fn listed_once(&self) {
        // The sender lives as long as this table, so waiting cannot fail.
        let _ = self.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Reads all entries in one view.
    pub fn read<R>(&self, read: impl FnOnce(&BTreeMap<ObjectKey, E>) -> R) -> R {
        read(&self.lock().entries)
    }

    /// One entry.
    pub fn get(&self, key: &ObjectKey) -> Option<E> {
        self.lock().entries.get(key).cloned()
    }

    /// Takes an object in unless a newer version, or its deletion, is known.
    /// Resource versions of one kind are ordered numbers (KEP-5504). Returns
    /// whether it was news.
    pub fn upsert(&self, object: E::Object) -> bool {
        let (key, version) = (E::key(&object), E::version_of(&object));
        let mut inner = self.lock_mut();
        let before = inner.entries.get(&key);
        let known = before
            .map(|entry| entry.meta().version)
            .max(inner.deleted.get(&key).copied());
        if known.is_some_and(|known| known >= version) {
            return false;
        }
        let entry = E::from_object(object, before);
        inner.entries.insert(key, entry);
        true
    }

    /// Takes a deletion in.
    pub fn remove(&self, key: &ObjectKey, version: u64) -> bool {
        let mut inner = self.lock_mut();
        if inner.deleted.len() >= REMEMBERED_DELETIONS {
            inner.deleted.clear();
        }
        inner.deleted.insert(key.clone(), version);
        inner.entries.remove(key).is_some()
    }

    /// After a complete list: forgets what was not in it. Returns what was
    /// forgotten.
    pub fn listed(&self, seen: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        let mut inner = self.lock_mut();
        let gone: Vec<ObjectKey> = inner
            .entries
            .keys()
            .filter(|key| !seen.contains(*key))
            .cloned()
            .collect();
        for key in &gone {
            inner.entries.remove(key);
        }
        drop(inner);
        self.synced.send_replace(true);
        gone
    }

    // A panic while the lock was held cannot leave a half-made map behind:
    // every change is a single insert or remove.
    fn lock(&self) -> RwLockReadGuard<'_, Inner<E>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_mut(&self) -> RwLockWriteGuard<'_, Inner<E>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}
