//! What is stored on the hub of the edge, as last seen: digests and counts,
//! not objects.

use super::{
    objects::{self, GatewayName},
    route::{HttpRoute, ParentStatus},
};
use flambeau_crds::CLUSTER_LABEL;
use flambeau_planner::model::{ApplicationKey, Name};
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
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

/// An object of the edge, reduced to what matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Application.
    pub key: ApplicationKey,
    /// Cluster; none for the route.
    pub cluster: Option<Name>,
    /// Name of the object.
    pub name: Name,
    /// `metadata.resourceVersion`; grows with every write (Kubernetes API
    /// concepts, since 1.35 officially comparable).
    pub version: u64,
    /// Digest of everything that Flambeau writes.
    pub digest: u64,
    /// What else is asked for.
    pub detail: Detail,
}

/// What else is asked for of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Service,
    /// Ready endpoints.
    Slice {
        /// How many.
        ready: usize,
    },
    /// Weights and what the gateway says.
    Route(RouteDetail),
}

/// Weights and what the gateway says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteDetail {
    /// Services with their ports and weights.
    pub backends: Vec<RoutedBackend>,
    /// The gateway took the route as stored.
    pub acknowledged: bool,
    /// Why it did not, in its own words.
    pub problem: Option<String>,
}

/// One weighted Service of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedBackend {
    /// Name of the Service.
    pub name: Name,
    /// Port of the Service.
    pub port: i32,
    /// Weight.
    pub weight: i32,
}

impl RouteDetail {
    /// The backend of a cluster.
    pub fn backend(&self, application: &str, cluster: &str) -> Option<&RoutedBackend> {
        let name = objects::backend_name(application, cluster);
        self.backends.iter().find(|backend| *backend.name == *name)
    }
}

fn hashed(metadata: &ObjectMeta, rest: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    let ours = [
        flambeau_crds::APPLICATION_LABEL,
        CLUSTER_LABEL,
        objects::MANAGED_BY_LABEL,
        objects::SERVICE_NAME_LABEL,
        objects::SLICE_MANAGED_BY_LABEL,
    ];
    ours.map(|name| objects::label(metadata, name)).hash(&mut hasher);
    let owners = metadata.owner_references.iter().flatten();
    let owners: Vec<&str> = owners.map(|owner| owner.uid.as_str()).collect();
    owners.hash(&mut hasher);
    rest.hash(&mut hasher);
    hasher.finish()
}

fn seen(metadata: &ObjectMeta, digest: u64, detail: Detail) -> Option<Seen> {
    Some(Seen {
        key: objects::application(metadata)?,
        cluster: objects::label(metadata, CLUSTER_LABEL).map(Name::from),
        name: metadata.name.as_deref()?.into(),
        version: metadata
            .resource_version
            .as_deref()
            .and_then(|version| version.parse().ok())
            .unwrap_or_default(),
        digest,
        detail,
    })
}

/// A Service; none when its labels do not say whose it is.
pub fn service(object: &Service) -> Option<Seen> {
    let spec = object.spec.clone().unwrap_or_default();
    let ports: Vec<String> = spec
        .ports
        .iter()
        .flatten()
        .map(|port| {
            let (name, protocol, target) = (&port.name, &port.protocol, &port.target_port);
            format!("{name:?} {} {protocol:?} {target:?}", port.port)
        })
        .collect();
    // Whatever annotation Flambeau does not write is somebody else's.
    let annotations = object.metadata.annotations.iter().flatten();
    let limits: Vec<_> = annotations.filter(|(name, _)| objects::is_limit(name)).collect();
    let selector: Vec<_> = spec.selector.iter().flatten().collect();
    let rest = (spec.type_, spec.cluster_ip, ports, limits, selector);
    seen(&object.metadata, hashed(&object.metadata, rest), Detail::Service)
}

/// An EndpointSlice; none when its labels do not say whose it is.
pub fn slice(object: &EndpointSlice) -> Option<Seen> {
    let ports: Vec<_> = object
        .ports
        .iter()
        .flatten()
        .map(|port| (&port.name, port.port, &port.protocol))
        .collect();
    let endpoints: Vec<_> = object
        .endpoints
        .iter()
        .flatten()
        .map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let conditions = conditions
                .map(|conditions| (conditions.ready, conditions.serving, conditions.terminating));
            (&endpoint.addresses, conditions)
        })
        .collect();
    let digest = hashed(&object.metadata, (&object.address_type, ports, endpoints));
    let ready = objects::ready(object);
    seen(&object.metadata, digest, Detail::Slice { ready })
}

/// A route; none when its labels do not say whose it is.
pub fn route(object: &HttpRoute, gateway: &GatewayName) -> Option<Seen> {
    // Maps of serde_json are ordered, so that equal specs read the same.
    let spec = serde_json::to_string(&object.spec).unwrap_or_default();
    let rules = object.spec.rules.iter();
    let backends = rules.flat_map(|rule| &rule.backend_refs).map(|backend| RoutedBackend {
        name: backend.name.as_str().into(),
        port: backend.port,
        weight: backend.weight,
    });
    let generation = object.metadata.generation.unwrap_or_default();
    let parents = object.status.iter().flat_map(|status| &status.parents);
    let parent = parents.into_iter().find(|parent| {
        parent.parent_ref.name == gateway.name
            && parent.parent_ref.namespace.as_deref() == Some(&*gateway.namespace)
    });
    let detail = RouteDetail {
        backends: backends.collect(),
        acknowledged: parent.is_some_and(|parent| {
            condition(parent, "Accepted", generation) == Some(true)
                && condition(parent, "ResolvedRefs", generation) == Some(true)
        }),
        problem: parent.and_then(|parent| problem(parent, generation)),
    };
    let digest = hashed(&object.metadata, spec);
    seen(&object.metadata, digest, Detail::Route(detail))
}

fn condition(parent: &ParentStatus, kind: &str, generation: i64) -> Option<bool> {
    let mut conditions = parent.conditions.iter();
    let condition = conditions.find(|condition| condition.kind == kind)?;
    (condition.observed_generation == generation).then_some(condition.status == "True")
}

fn problem(parent: &ParentStatus, generation: i64) -> Option<String> {
    let bad = parent.conditions.iter().find(|condition| {
        matches!(condition.kind.as_str(), "Accepted" | "ResolvedRefs")
            && condition.status == "False"
            && condition.observed_generation == generation
    })?;
    let gateway = &parent.parent_ref.name;
    Some(format!(
        "gateway {gateway} refuses the route: {} is False, {}: {}",
        bad.kind, bad.reason, bad.message
    ))
}

/// One application's objects.
#[derive(Default)]
struct Application {
    route: Option<Seen>,
    services: BTreeMap<Name, Seen>,
    slices: BTreeMap<Name, Seen>,
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

    fn is_empty(&self) -> bool {
        self.route.is_none() && self.services.is_empty() && self.slices.is_empty()
    }
}

#[derive(Default)]
struct Kindred {
    /// The list was read once.
    synced: bool,
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
            let names = names.into_iter().filter(|name| {
                !listed.contains(&(key.namespace.clone(), Name::clone(name)))
            });
            gone.extend(names.map(|name| (key.clone(), name.clone())));
        }
        for (key, name) in &gone {
            inner.forget(kind, key, name);
        }
        changed || !gone.is_empty()
    }

    /// A kind cannot be read. Returns whether that is news.
    pub fn unavailable(&self, kind: EdgeKind, message: &str) -> bool {
        let mut inner = self.lock();
        let kindred = inner.kinds.entry(kind).or_default();
        let news = kindred.unavailable.as_deref() != Some(message);
        kindred.unavailable = Some(message.to_owned());
        news
    }

    /// Why the edge cannot be used, if it cannot.
    pub fn why_unavailable(&self) -> Option<String> {
        let inner = self.lock();
        inner.kinds.values().find_map(|kindred| kindred.unavailable.clone())
    }

    /// Every kind was read once.
    pub fn synced(&self) -> bool {
        let inner = self.lock();
        EdgeKind::ALL
            .iter()
            .all(|kind| inner.kinds.get(kind).is_some_and(|kindred| kindred.synced))
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
        let clusters = self.clusters(key);
        let named = |backend: &RoutedBackend| {
            let of_service = clusters
                .iter()
                .find(|cluster| objects::backend_name(&key.name, cluster) == *backend.name);
            // Where the Service is missing, the name tells.
            of_service.cloned().or_else(|| {
                let (application, cluster) = backend.name.split_once("--")?;
                (application == &*key.name).then(|| cluster.into())
            })
        };
        let backends = route.backends.iter();
        backends.filter_map(|backend| Some((backend, named(backend)?))).collect()
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

    /// Clusters for which an application has a Service or an EndpointSlice.
    pub fn clusters(&self, key: &ApplicationKey) -> BTreeSet<Name> {
        let inner = self.lock();
        let Some(application) = inner.applications.get(key) else {
            return BTreeSet::new();
        };
        let objects = application.services.values().chain(application.slices.values());
        objects.filter_map(|seen| seen.cluster.clone()).collect()
    }

    /// Names of an application's objects of a kind, on one cluster or on all.
    pub fn names(&self, kind: EdgeKind, key: &ApplicationKey, cluster: Option<&str>) -> Vec<Name> {
        let inner = self.lock();
        let Some(application) = inner.applications.get(key) else {
            return Vec::new();
        };
        let objects: Vec<&Seen> = match kind {
            EdgeKind::Route => application.route.iter().collect(),
            EdgeKind::Service => application.services.values().collect(),
            EdgeKind::Slice => application.slices.values().collect(),
        };
        let wanted = objects
            .into_iter()
            .filter(|seen| cluster.is_none() || seen.cluster.as_deref() == cluster);
        wanted.map(|seen| seen.name.clone()).collect()
    }

    /// Ready endpoints of an application's slices on a cluster.
    pub fn ready(&self, key: &ApplicationKey, cluster: &str) -> usize {
        let inner = self.lock();
        let Some(application) = inner.applications.get(key) else {
            return 0;
        };
        let slices = application.slices.values();
        slices
            .filter(|seen| seen.cluster.as_deref() == Some(cluster))
            .map(|seen| match seen.detail {
                Detail::Slice { ready } => ready,
                Detail::Service | Detail::Route(_) => 0,
            })
            .sum()
    }
}

impl Inner {
    fn put(&mut self, kind: EdgeKind, seen: Seen) -> bool {
        let application = self.applications.entry(seen.key.clone()).or_default();
        let old = application.get(kind, &seen.name);
        if old.is_some_and(|old| old.version > seen.version) {
            return false;
        }
        let changed = old.is_none_or(|old| (old.digest, &old.detail) != (seen.digest, &seen.detail));
        match application.objects(kind) {
            Some(objects) => {
                objects.insert(seen.name.clone(), seen);
            }
            // A route of another name was not written by Flambeau.
            None if seen.name == seen.key.name => application.route = Some(seen),
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
            None => application.route = None,
        }
        if application.is_empty() {
            self.applications.remove(key);
        }
    }
}
