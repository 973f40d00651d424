//! What is stored on the hub of the edge, as last seen: digests and counts,
//! not objects.

mod application;

use super::{
    backend::StoredBackend,
    confirmation::Owed,
    seen::{RouteDetail, RoutedBackend, Seen},
};
use application::Application;
use flambeau_planner::model::{ApplicationKey, Name};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The kinds of the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EdgeKind {
    /// HTTPRoute.
    Route,
    /// Service.
    Service,
    /// EndpointSlice.
    Slice,
}

impl EdgeKind {
    /// All of them.
    pub const ALL: [EdgeKind; 3] = [EdgeKind::Route, EdgeKind::Service, EdgeKind::Slice];

    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            EdgeKind::Route => "HTTPRoute",
            EdgeKind::Service => "Service",
            EdgeKind::Slice => "EndpointSlice",
        }
    }
}

/// What is known about a kind as a whole.
#[derive(Default)]
struct Kindred {
    /// The list was read once.
    synced: bool,
    /// The hub does not have the kind, so there are no objects of it.
    missing: bool,
    /// Newest version that the watch delivered.
    version: u64,
    /// Objects of the list that is being read; none outside of a list.
    listed: Option<BTreeSet<(Name, Name)>>,
    /// Why the kind cannot be read.
    unavailable: Option<String>,
}

#[derive(Default)]
struct Inner {
    applications: BTreeMap<ApplicationKey, Application>,
    kinds: BTreeMap<EdgeKind, Kindred>,
}

/// Everything of the edge on the hub, as last seen.
#[derive(Default)]
pub struct Store(Mutex<Inner>);

impl Store {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A list begins.
    pub fn list_begins(&self, kind: EdgeKind) {
        self.lock().kinds.entry(kind).or_default().listed = Some(BTreeSet::new());
    }

    /// A list is complete: what it did not name is gone. Returns whether
    /// anything changed.
    pub fn list_ends(&self, kind: EdgeKind) -> bool {
        let mut inner = self.lock();
        let kindred = inner.kinds.entry(kind).or_default();
        let changed = !kindred.synced || kindred.unavailable.is_some();
        kindred.synced = true;
        kindred.missing = false;
        kindred.unavailable = None;
        let Some(listed) = kindred.listed.take() else {
            return changed;
        };
        let mut gone = Vec::new();
        for (key, application) in &inner.applications {
            let names = application.all(kind).map(|seen| seen.name.clone());
            let unlisted =
                names.filter(|name| !listed.contains(&(key.namespace.clone(), name.clone())));
            gone.extend(unlisted.map(|name| (key.clone(), name)));
        }
        for (key, name) in &gone {
            inner.forget(kind, key, name);
        }
        changed || !gone.is_empty()
    }

    /// Whether the list of a kind was read once.
    pub fn kind_synced(&self, kind: EdgeKind) -> bool {
        let inner = self.lock();
        inner.kinds.get(&kind).is_some_and(|kindred| kindred.synced)
    }

    /// A kind was read apart from its watch, as of a version: what is older and
    /// not among it is gone.
    pub fn reread(&self, kind: EdgeKind, listed: Vec<Seen>, version: u64) {
        let mut inner = self.lock();
        let there: BTreeSet<(ApplicationKey, Name)> = listed
            .iter()
            .map(|seen| (seen.key.clone(), seen.name.clone()))
            .collect();
        let known = inner.applications.iter().flat_map(|(key, application)| {
            let objects = application.all(kind);
            objects.map(move |seen| (key.clone(), seen.name.clone(), seen.version))
        });
        let gone: Vec<(ApplicationKey, Name)> = known
            .filter(|(_, _, written)| *written <= version)
            .map(|(key, name, _)| (key, name))
            .filter(|object| !there.contains(object))
            .collect();
        for (key, name) in gone {
            inner.forget(kind, &key, &name);
        }
        for seen in listed {
            inner.put(kind, seen);
        }
    }

    /// A kind cannot be read, because it is `missing` or for another reason.
    /// Returns whether that is news.
    pub fn unavailable(&self, kind: EdgeKind, missing: bool, message: &str) -> bool {
        let mut inner = self.lock();
        let kindred = inner.kinds.entry(kind).or_default();
        kindred.missing = missing;
        let news = kindred.unavailable.as_deref() != Some(message);
        kindred.unavailable = Some(message.to_owned());
        news
    }

    /// Why the edge cannot be used, if it cannot.
    pub fn why_unavailable(&self) -> Option<String> {
        let inner = self.lock();
        inner
            .kinds
            .values()
            .find_map(|kindred| kindred.unavailable.clone())
    }

    /// Every kind was read once.
    pub fn synced(&self) -> bool {
        let inner = self.lock();
        EdgeKind::ALL
            .iter()
            .all(|kind| inner.kinds.get(kind).is_some_and(|kindred| kindred.synced))
    }

    /// For every kind it is known which objects there are: what is to be
    /// removed can be found.
    pub fn known(&self) -> bool {
        let inner = self.lock();
        let known = |kind| {
            let kindred: Option<&Kindred> = inner.kinds.get(kind);
            kindred.is_some_and(|kindred| kindred.synced || kindred.missing)
        };
        EdgeKind::ALL.iter().all(known)
    }

    /// Whether the hub has anything of an application.
    pub fn present(&self, key: &ApplicationKey) -> bool {
        self.lock().applications.contains_key(key)
    }

    /// Remembers that the objects of an application are now as they should be.
    pub fn written(&self, key: &ApplicationKey) {
        if let Some(application) = self.lock().applications.get_mut(key) {
            application.written = Some(application.fingerprint());
        }
    }

    /// Whether the objects of an application are as they were when last
    /// written, and the gateway does not have to be asked again.
    pub fn intact(&self, key: &ApplicationKey) -> bool {
        let inner = self.lock();
        inner.applications.get(key).is_some_and(|application| {
            application.written == Some(application.fingerprint())
                && !application.overdue(Instant::now())
        })
    }

    /// Whether the gateway has to be asked again for its word on a route.
    pub fn overdue(&self, key: &ApplicationKey, now: Instant) -> bool {
        let inner = self.lock();
        let application = inner.applications.get(key);
        application.is_some_and(|application| application.overdue(now))
    }

    /// The same of any route.
    pub fn any_overdue(&self, now: Instant) -> bool {
        let inner = self.lock();
        let mut applications = inner.applications.values();
        applications.any(|application| application.overdue(now))
    }

    /// The gateway was asked again.
    pub fn asked(&self, key: &ApplicationKey, now: Instant) {
        let mut inner = self.lock();
        let application = inner.applications.get_mut(key);
        if let Some(owed) = application.and_then(|application| application.owed.as_mut()) {
            owed.asked(now);
        }
    }

    /// The watch or a list delivered an object. Returns whether anything but
    /// its version changed.
    pub fn delivered(&self, kind: EdgeKind, seen: Seen) -> bool {
        let mut inner = self.lock();
        let kindred = inner.kinds.entry(kind).or_default();
        kindred.version = kindred.version.max(seen.version);
        if let Some(listed) = &mut kindred.listed {
            listed.insert((seen.key.namespace.clone(), seen.name.clone()));
        }
        inner.put(kind, seen)
    }

    /// The hub answered a write with the object as stored. What the watch
    /// has already passed is left to the watch: the object may be gone since.
    /// Returns whether anything but its version changed.
    pub fn answered(&self, kind: EdgeKind, seen: Seen) -> bool {
        let mut inner = self.lock();
        let passed = inner.kinds.entry(kind).or_default().version >= seen.version;
        let known = inner.applications.get(&seen.key);
        let known = known.is_some_and(|known| known.get(kind, &seen.name).is_some());
        if passed && !known {
            return false;
        }
        inner.put(kind, seen)
    }

    /// The watch says that an object is gone, as of a version. Returns
    /// whether that is news.
    pub fn deleted(&self, kind: EdgeKind, gone: &Seen) -> bool {
        let mut inner = self.lock();
        let kindred = inner.kinds.entry(kind).or_default();
        kindred.version = kindred.version.max(gone.version);
        let known = inner.applications.get(&gone.key);
        let known = known.and_then(|known| known.get(kind, &gone.name));
        // Written anew since: the watch tells about that next.
        if known.is_none_or(|known| known.version > gone.version) {
            return false;
        }
        inner.forget(kind, &gone.key, &gone.name);
        true
    }

    /// The hub answered that an object is gone. Returns whether that is news.
    pub fn forget(&self, kind: EdgeKind, key: &ApplicationKey, name: &str) -> bool {
        let mut inner = self.lock();
        let known = inner.applications.get(key);
        let known = known.is_some_and(|known| known.get(kind, name).is_some());
        inner.forget(kind, key, name);
        known
    }

    /// The digest of an object as stored.
    pub fn digest(&self, kind: EdgeKind, key: &ApplicationKey, name: &str) -> Option<u64> {
        let inner = self.lock();
        Some(inner.applications.get(key)?.get(kind, name)?.digest)
    }

    /// The route of an application.
    pub fn route(&self, key: &ApplicationKey) -> Option<RouteDetail> {
        let inner = self.lock();
        inner.applications.get(key)?.route_detail().cloned()
    }

    /// Whether an application has an object.
    pub fn has(&self, kind: EdgeKind, key: &ApplicationKey, name: &str) -> bool {
        self.digest(kind, key, name).is_some()
    }

    /// Names of the EndpointSlices of a Service.
    pub fn slices(&self, key: &ApplicationKey, service: &str) -> Vec<Name> {
        let inner = self.lock();
        let application = inner.applications.get(key).into_iter();
        let slices = application.flat_map(|application| application.slices_of(service));
        slices.map(|seen| seen.name.clone()).collect()
    }

    /// The backends of an application's route, with the clusters that they
    /// stand for.
    pub fn routed(&self, key: &ApplicationKey) -> Vec<(RoutedBackend, Name)> {
        let inner = self.lock();
        let application = inner.applications.get(key).into_iter();
        let routed = application.flat_map(|application| application.routed(key));
        routed
            .map(|(backend, cluster)| (backend.clone(), cluster))
            .collect()
    }

    /// What stands for an application on a cluster: what the route names, else
    /// what was written last.
    pub fn backend(&self, key: &ApplicationKey, cluster: &str) -> Option<StoredBackend> {
        let inner = self.lock();
        let application = inner.applications.get(key)?;
        let routed = application.routed_to(key, cluster);
        routed.or_else(|| application.unrouted(cluster).into_iter().next())
    }

    /// What could stand for an application on a cluster: what the route names,
    /// then what was written last.
    pub fn backends(&self, key: &ApplicationKey, cluster: &str) -> Vec<StoredBackend> {
        let inner = self.lock();
        let Some(application) = inner.applications.get(key) else {
            return Vec::new();
        };
        let routed = application.routed_to(key, cluster).into_iter();
        routed.chain(application.unrouted(cluster)).collect()
    }

    /// Names of what stands for an application, and no request can reach.
    pub fn unused(&self, key: &ApplicationKey) -> BTreeSet<Name> {
        let inner = self.lock();
        let application = inner.applications.get(key);
        application.map_or_else(BTreeSet::new, Application::unused)
    }
}

impl Inner {
    fn put(&mut self, kind: EdgeKind, seen: Seen) -> bool {
        let application = self.applications.entry(seen.key.clone()).or_default();
        let old = application.get(kind, &seen.name);
        if old.is_some_and(|old| old.version > seen.version) {
            return false;
        }
        let changed =
            old.is_none_or(|old| (old.digest, &old.detail) != (seen.digest, &seen.detail));
        match application.objects(kind) {
            Some(objects) => {
                objects.insert(seen.name.clone(), seen);
            }
            // A route of another name was not written by Flambeau.
            None if seen.name == seen.key.name => {
                application.owed = Owed::of(&seen, application.owed.take(), Instant::now());
                application.confirm(&seen);
                application.route = Some(seen);
            }
            None => return false,
        }
        changed
    }

    fn forget(&mut self, kind: EdgeKind, key: &ApplicationKey, name: &str) {
        let Some(application) = self.applications.get_mut(key) else {
            return;
        };
        match application.objects(kind) {
            Some(objects) => {
                objects.remove(name);
            }
            None => {
                (application.route, application.owed) = (None, None);
                application.confirmed = None;
            }
        }
        if application.is_empty() {
            self.applications.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApplicationKey {
        ApplicationKey {
            namespace: "games".into(),
            name: "shop".into(),
        }
    }

    fn service(version: u64, digest: u64) -> Seen {
        Seen {
            key: key(),
            cluster: Some("ovh".into()),
            name: "shop--ovh".into(),
            version,
            digest,
            detail: crate::edge::seen::Detail::Service,
        }
    }

    fn digest(store: &Store) -> Option<u64> {
        store.digest(EdgeKind::Service, &key(), "shop--ovh")
    }

    #[test]
    fn a_late_event_takes_nothing_back() {
        let store = Store::default();
        assert!(store.answered(EdgeKind::Service, service(20, 2)));
        assert!(!store.delivered(EdgeKind::Service, service(10, 1)));
        assert!(!store.deleted(EdgeKind::Service, &service(15, 1)));
        assert_eq!(digest(&store), Some(2));
        assert!(
            !store.delivered(EdgeKind::Service, service(20, 2)),
            "no news"
        );
    }

    #[test]
    fn a_late_answer_brings_nothing_back() {
        let store = Store::default();
        assert!(store.delivered(EdgeKind::Service, service(20, 2)));
        assert!(store.deleted(EdgeKind::Service, &service(30, 2)));
        assert!(!store.answered(EdgeKind::Service, service(20, 2)));
        assert_eq!(digest(&store), None);
        assert!(!store.present(&key()));
    }

    #[test]
    fn what_a_list_does_not_name_is_gone_when_it_ends() {
        let store = Store::default();
        store.delivered(EdgeKind::Service, service(20, 2));
        store.list_begins(EdgeKind::Service);
        assert_eq!(digest(&store), Some(2), "not before");
        assert!(store.list_ends(EdgeKind::Service));
        assert_eq!(digest(&store), None);
    }

    #[test]
    fn what_is_read_again_is_the_truth_but_for_what_is_newer() {
        let store = Store::default();
        let named = |name: &str, version| Seen {
            name: name.into(),
            ..service(version, version)
        };
        for (name, version) in [("gone", 10), ("older", 11), ("newer", 30)] {
            store.delivered(EdgeKind::Service, named(name, version));
        }
        let listed = vec![named("older", 15), named("new", 16)];
        store.reread(EdgeKind::Service, listed, 20);
        let digest = |name| store.digest(EdgeKind::Service, &key(), name);
        let known = ["gone", "older", "newer", "new"].map(digest);
        assert_eq!(known, [None, Some(15), Some(30), Some(16)]);
    }

    #[test]
    fn a_kind_that_the_hub_lacks_has_no_objects_one_that_may_not_be_read_may() {
        let store = Store::default();
        for kind in [EdgeKind::Service, EdgeKind::Slice] {
            store.list_begins(kind);
            store.list_ends(kind);
        }
        assert!(!store.known());
        assert!(store.unavailable(EdgeKind::Route, false, "forbidden"));
        assert!(!store.known());
        assert!(store.unavailable(EdgeKind::Route, true, "missing"));
        assert!(store.known() && !store.synced());
        assert!(
            !store.unavailable(EdgeKind::Route, true, "missing"),
            "no news"
        );
    }

    #[test]
    fn intact_is_what_is_as_it_was_written() {
        let store = Store::default();
        assert!(!store.intact(&key()));
        store.answered(EdgeKind::Service, service(20, 2));
        store.written(&key());
        store.delivered(EdgeKind::Service, service(21, 2));
        assert!(store.intact(&key()), "a change of nothing that matters");
        store.delivered(EdgeKind::Service, service(22, 3));
        assert!(!store.intact(&key()));
    }
}
