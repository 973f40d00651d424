//! What is stored on the hub of the edge, as last seen: digests and counts,
//! not objects.

use super::{
    EndpointAddress,
    backend::{self, Backend, StoredBackend},
    confirmation::Owed,
    seen::{Detail, RouteDetail, RoutedBackend, Seen},
};
use flambeau_planner::model::{ApplicationKey, Name};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
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

/// One application's objects.
#[derive(Default)]
struct Application {
    route: Option<Seen>,
    services: BTreeMap<Name, Seen>,
    slices: BTreeMap<Name, Seen>,
    /// Fingerprint right after everything was last written.
    written: Option<u64>,
    /// What the gateway has not said yet of the route.
    owed: Option<Owed>,
}

impl Application {
    fn objects(&mut self, kind: EdgeKind) -> Option<&mut BTreeMap<Name, Seen>> {
        match kind {
            EdgeKind::Route => None,
            EdgeKind::Service => Some(&mut self.services),
            EdgeKind::Slice => Some(&mut self.slices),
        }
    }

    fn get(&self, kind: EdgeKind, name: &str) -> Option<&Seen> {
        match kind {
            EdgeKind::Route => self.route.as_ref().filter(|seen| &*seen.name == name),
            EdgeKind::Service => self.services.get(name),
            EdgeKind::Slice => self.slices.get(name),
        }
    }

    /// Changes when any object does, but for versions and what gateways say.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let objects = self.route.iter().chain(self.services.values());
        for seen in objects.chain(self.slices.values()) {
            (&seen.name, seen.digest).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// What Services and EndpointSlices stand for, by name of the Service.
    fn backends(&self) -> BTreeMap<Name, Backend> {
        let services = self.services.values().map(|seen| (&seen.name, seen));
        let slices = self.slices.values().filter_map(|seen| match &seen.detail {
            Detail::Slice { service, .. } => Some((service, seen)),
            Detail::Service | Detail::Route(_) => None,
        });
        let backends = services.chain(slices).filter_map(|(name, seen)| {
            let backend = Backend {
                cluster: seen.cluster.clone()?,
                name: name.clone(),
            };
            Some((name.clone(), backend))
        });
        backends.collect()
    }

    /// When a Service was last written, in the hub's count.
    fn version(&self, backend: &Backend) -> u64 {
        let service = self.services.get(&backend.name);
        service.map_or(0, |service| service.version)
    }

    fn endpoints(&self, backend: &Backend) -> Vec<EndpointAddress> {
        let slices = self.slices.values().filter_map(|seen| match &seen.detail {
            Detail::Slice { service, endpoints } if *service == backend.name => Some(endpoints),
            _ => None,
        });
        slices.flatten().copied().collect()
    }

    fn overdue(&self, now: Instant) -> bool {
        self.owed.as_ref().is_some_and(|owed| owed.overdue(now))
    }

    fn is_empty(&self) -> bool {
        self.route.is_none() && self.services.is_empty() && self.slices.is_empty()
    }
}

fn of_service(seen: &Seen, name: &str) -> bool {
    matches!(&seen.detail, Detail::Slice { service, .. } if **service == *name)
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
            let names = match kind {
                EdgeKind::Route => application.route.iter().map(|seen| &seen.name).collect(),
                EdgeKind::Service => application.services.keys().collect(),
                EdgeKind::Slice => application.slices.keys().collect::<Vec<_>>(),
            };
            let names = names
                .into_iter()
                .filter(|name| !listed.contains(&(key.namespace.clone(), Name::clone(name))));
            gone.extend(names.map(|name| (key.clone(), name.clone())));
        }
        for (key, name) in &gone {
            inner.forget(kind, key, name);
        }
        changed || !gone.is_empty()
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
        match &inner.applications.get(key)?.route.as_ref()?.detail {
            Detail::Route(detail) => Some(detail.clone()),
            Detail::Service | Detail::Slice { .. } => None,
        }
    }

    /// The backends of a route with the clusters that they stand for.
    pub fn routed<'a>(
        &self,
        key: &ApplicationKey,
        route: &'a RouteDetail,
    ) -> Vec<(&'a RoutedBackend, Name)> {
        let inner = self.lock();
        let application = inner.applications.get(key);
        let stored = application.map_or_else(BTreeMap::new, Application::backends);
        let routed = route.backends.iter().filter_map(|routed| {
            let known = stored.get(&routed.name);
            // Where the Service is missing, the name tells.
            let cluster = known
                .map(|backend| backend.cluster.clone())
                .or_else(|| backend::cluster_of(key, &routed.name));
            Some((routed, cluster?))
        });
        routed.collect()
    }

    /// The weights of a route by cluster.
    pub fn weights(&self, key: &ApplicationKey, route: &RouteDetail) -> BTreeMap<Name, u8> {
        let routed = self.routed(key, route).into_iter();
        routed
            .map(|(backend, cluster)| {
                let weight = backend.weight.clamp(0, i32::from(u8::MAX));
                (cluster, u8::try_from(weight).unwrap_or(u8::MAX))
            })
            .collect()
    }

    /// Whether an application has an object.
    pub fn has(&self, kind: EdgeKind, key: &ApplicationKey, name: &str) -> bool {
        self.digest(kind, key, name).is_some()
    }

    /// Names of the EndpointSlices of a Service.
    pub fn slices(&self, key: &ApplicationKey, backend: &Backend) -> Vec<Name> {
        let inner = self.lock();
        let slices = inner
            .applications
            .get(key)
            .map(|known| known.slices.values());
        let slices = slices.into_iter().flatten();
        slices
            .filter(|seen| of_service(seen, &backend.name))
            .map(|seen| seen.name.clone())
            .collect()
    }

    /// What stands for an application on a cluster: what the route names first,
    /// then what was written last.
    pub fn backends(&self, key: &ApplicationKey, cluster: &str) -> Vec<StoredBackend> {
        let route = self.route(key).unwrap_or_default();
        let mut weights: BTreeMap<Name, i32> = BTreeMap::new();
        for (routed, of) in self.routed(key, &route) {
            if &*of == cluster {
                weights.insert(routed.name.clone(), routed.weight);
            }
        }
        let inner = self.lock();
        let application = inner.applications.get(key);
        let mut stored = application.map_or_else(BTreeMap::new, Application::backends);
        // An EndpointSlice may have lost the name of its Service.
        stored.retain(|name, backend| &*backend.cluster == cluster && !name.is_empty());
        for name in weights.keys() {
            let cluster = || Backend {
                cluster: cluster.into(),
                name: name.clone(),
            };
            stored.entry(name.clone()).or_insert_with(cluster);
        }
        let mut backends: Vec<_> = stored
            .into_values()
            .map(|backend| {
                let weight = weights.get(&backend.name).copied();
                let version = application.map_or(0, |application| application.version(&backend));
                let endpoints =
                    application.map_or_else(Vec::new, |stored| stored.endpoints(&backend));
                let stored = StoredBackend {
                    backend,
                    weight,
                    endpoints,
                };
                (weight.is_some(), version, stored)
            })
            .collect();
        backends.sort_by_key(|(routed, version, _)| std::cmp::Reverse((*routed, *version)));
        backends.into_iter().map(|(_, _, stored)| stored).collect()
    }

    /// Everything that stands for an application on any cluster.
    pub fn all_backends(&self, key: &ApplicationKey) -> Vec<Backend> {
        let inner = self.lock();
        let application = inner.applications.get(key);
        let backends = application.map_or_else(BTreeMap::new, Application::backends);
        backends.into_values().collect()
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
            None => (application.route, application.owed) = (None, None),
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
            detail: Detail::Service,
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
