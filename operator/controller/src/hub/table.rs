//! A cache of one kind, in which newer always wins.

use super::entries::{Entry, ObjectKey};
use kube::Resource;
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
    deleted: HashMap<ObjectKey, Deleted>,
    /// What came since the list under way began; none while there is none.
    listing: Option<BTreeSet<ObjectKey>>,
}

/// An object that is gone: nothing brings back what has its UID.
#[derive(Debug)]
struct Deleted {
    uid: String,
    version: u64,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        let inner = Inner {
            entries: BTreeMap::new(),
            deleted: HashMap::new(),
            listing: None,
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
        let known = before.is_some_and(|entry| entry.meta().version >= version);
        let gone = inner.deleted.get(&key).is_some_and(|gone| {
            gone.version >= version || Some(gone.uid.as_str()) == object.meta().uid.as_deref()
        });
        if known || gone {
            return false;
        }
        let entry = E::from_object(object, before);
        if let Some(listing) = &mut inner.listing {
            listing.insert(key.clone());
        }
        inner.entries.insert(key, entry);
        true
    }

    /// Takes a deletion in, unless a newer object of the same name is known.
    pub fn remove(&self, key: &ObjectKey, uid: &str, version: u64) {
        let mut inner = self.lock_mut();
        inner.bury(key, uid, version);
        if inner
            .entries
            .get(key)
            .is_some_and(|entry| entry.meta().version <= version)
        {
            inner.entries.remove(key);
        }
    }

    /// Drops an object of which the API server said that it is not there, unless
    /// another of the same name took its place.
    pub fn gone(&self, key: &ObjectKey, uid: &str) {
        let mut inner = self.lock_mut();
        let entry = inner
            .entries
            .get(key)
            .filter(|entry| entry.meta().uid == uid);
        if let Some(version) = entry.map(|entry| entry.meta().version) {
            inner.bury(key, uid, version);
            inner.entries.remove(key);
        }
    }

    /// Before a complete list: what comes from now on is not judged by it.
    pub fn list_begins(&self) {
        self.lock_mut().listing = Some(BTreeSet::new());
    }

    /// After a complete list: forgets what was not in it. Returns what was
    /// forgotten.
    pub fn listed(&self, seen: &BTreeSet<ObjectKey>) -> Vec<ObjectKey> {
        let mut inner = self.lock_mut();
        let came = inner.listing.take().unwrap_or_default();
        let gone: Vec<(ObjectKey, String, u64)> = inner
            .entries
            .iter()
            .filter(|(key, _)| !seen.contains(*key) && !came.contains(*key))
            .map(|(key, entry)| {
                let meta = entry.meta();
                (key.clone(), meta.uid.clone(), meta.version)
            })
            .collect();
        for (key, uid, version) in &gone {
            inner.bury(key, uid, *version);
            inner.entries.remove(key);
        }
        drop(inner);
        self.synced.send_replace(true);
        gone.into_iter().map(|(key, ..)| key).collect()
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

impl<E> Inner<E> {
    fn bury(&mut self, key: &ObjectKey, uid: &str, version: u64) {
        if self.deleted.len() >= REMEMBERED_DELETIONS {
            self.deleted.clear();
        }
        let deleted = Deleted {
            uid: uid.to_owned(),
            version,
        };
        self.deleted.insert(key.clone(), deleted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::PolicyEntry;
    use flambeau_crds::SovereigntyPolicy;
    use serde_json::json;

    fn law(uid: &str, version: u64) -> SovereigntyPolicy {
        serde_json::from_value(json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "SovereigntyPolicy",
            "metadata": {"name": "law", "uid": uid, "resourceVersion": version.to_string()},
            "spec": {"sensitivities": ["Personal"]},
        }))
        .unwrap()
    }

    fn key() -> ObjectKey {
        PolicyEntry::key(&law("", 0))
    }

    #[test]
    fn what_a_list_did_not_have_is_not_brought_back_by_a_late_answer() {
        let table = Table::<PolicyEntry>::default();
        assert!(table.upsert(law("first", 5)));
        table.list_begins();
        assert_eq!(table.listed(&BTreeSet::new()), [key()]);
        // The answer to a write that was stored before the deletion.
        assert!(!table.upsert(law("first", 10)));
        assert!(table.upsert(law("second", 12)), "another of the same name");
    }

    #[test]
    fn what_came_while_a_list_was_under_way_is_not_judged_by_it() {
        let table = Table::<PolicyEntry>::default();
        table.list_begins();
        assert!(table.upsert(law("first", 5)));
        assert_eq!(table.listed(&BTreeSet::new()), []);
        assert!(table.get(&key()).is_some());
        table.list_begins();
        assert_eq!(
            table.listed(&BTreeSet::new()),
            [key()],
            "the next one judges it"
        );
    }

    #[test]
    fn a_deletion_does_not_concern_what_took_the_name_later() {
        let table = Table::<PolicyEntry>::default();
        assert!(table.upsert(law("second", 20)));
        table.remove(&key(), "first", 15);
        assert!(table.get(&key()).is_some());
        table.gone(&key(), "first");
        assert!(table.get(&key()).is_some());
        table.gone(&key(), "second");
        assert!(table.get(&key()).is_none());
        assert!(!table.upsert(law("second", 21)));
    }
}
