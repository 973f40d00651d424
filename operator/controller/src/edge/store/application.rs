//! What is stored on the hub of the edge of one application.

use super::EdgeKind;
use crate::edge::{
    backend::{self, Backend, StoredBackend},
    confirmation::Owed,
    seen::{Detail, RouteDetail, RoutedBackend, Seen},
};
use flambeau_planner::model::{ApplicationKey, Name};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Instant,
};

/// One application's objects.
#[derive(Default)]
pub struct Application {
    /// Its route.
    pub route: Option<Seen>,
    /// Its Services, by name.
    pub services: BTreeMap<Name, Seen>,
    /// Its EndpointSlices, by name.
    pub slices: BTreeMap<Name, Seen>,
    /// Fingerprint right after everything was last written.
    pub written: Option<u64>,
    /// Weights that the gateway last confirmed, by Service.
    pub confirmed: Option<BTreeMap<Name, i32>>,
    /// What the gateway has not said yet of the route.
    pub owed: Option<Owed>,
}

impl Application {
    /// Its objects of a kind of which it may have several.
    pub fn objects(&mut self, kind: EdgeKind) -> Option<&mut BTreeMap<Name, Seen>> {
        match kind {
            EdgeKind::Route => None,
            EdgeKind::Service => Some(&mut self.services),
            EdgeKind::Slice => Some(&mut self.slices),
        }
    }

    /// One of its objects.
    pub fn get(&self, kind: EdgeKind, name: &str) -> Option<&Seen> {
        match kind {
            EdgeKind::Route => self.route.as_ref().filter(|seen| &*seen.name == name),
            EdgeKind::Service => self.services.get(name),
            EdgeKind::Slice => self.slices.get(name),
        }
    }

    /// Changes when any object does, but for versions and what gateways say.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let objects = self.route.iter().chain(self.services.values());
        for seen in objects.chain(self.slices.values()) {
            (&seen.name, seen.digest).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Its objects of a kind.
    pub fn all(&self, kind: EdgeKind) -> impl Iterator<Item = &Seen> {
        let (route, objects) = match kind {
            EdgeKind::Route => (self.route.as_ref(), None),
            EdgeKind::Service => (None, Some(&self.services)),
            EdgeKind::Slice => (None, Some(&self.slices)),
        };
        let objects = objects.into_iter().flat_map(BTreeMap::values);
        route.into_iter().chain(objects)
    }

    /// Remembers what the gateway says of a route, if it says something.
    pub fn confirm(&mut self, route: &Seen) {
        if let Detail::Route(route) = &route.detail
            && route.acknowledged
        {
            let backends = route.backends.iter();
            let weights = backends.map(|backend| (backend.name.clone(), backend.weight));
            self.confirmed = Some(weights.collect());
        }
    }

    /// The backends of the route, with the clusters that they stand for.
    pub fn routed<'a>(
        &'a self,
        key: &'a ApplicationKey,
    ) -> impl Iterator<Item = (&'a RoutedBackend, Name)> {
        let backends = self.route_detail().map(|route| &*route.backends);
        let backends = backends.unwrap_or_default().iter();
        backends.filter_map(|routed| Some((routed, self.cluster_of(key, &routed.name)?)))
    }

    /// The cluster that a Service stands for. Where the Service is missing, its
    /// EndpointSlices tell, or its name.
    fn cluster_of(&self, key: &ApplicationKey, service: &Name) -> Option<Name> {
        let slice = || self.slices_of(service).next();
        let seen = self.services.get(service).or_else(slice);
        seen.and_then(|seen| seen.cluster.clone())
            .or_else(|| backend::cluster_of(key, service))
    }

    /// What the route names for a cluster.
    pub fn routed_to(&self, key: &ApplicationKey, cluster: &str) -> Option<StoredBackend> {
        let (routed, cluster) = self.routed(key).find(|(_, of)| **of == *cluster)?;
        Some(self.stored(&routed.name, cluster, Some(routed.weight)))
    }

    /// Services for a cluster that the route does not name, what was written
    /// last first.
    pub fn unrouted(&self, cluster: &str) -> Vec<StoredBackend> {
        let mut services: Vec<(&Seen, &Name)> = self
            .services
            .values()
            .filter(|seen| !self.names(&seen.name))
            .filter_map(|seen| Some((seen, seen.cluster.as_ref()?)))
            .filter(|(_, of)| ***of == *cluster)
            .collect();
        services.sort_by_key(|(seen, _)| Reverse(seen.version));
        services
            .into_iter()
            .map(|(seen, of)| self.stored(&seen.name, of.clone(), None))
            .collect()
    }

    /// What the route does not name: Services, and EndpointSlices without one.
    pub fn unused(&self) -> BTreeSet<Name> {
        let slices = self.slices.values().filter_map(Seen::service);
        let names = self.services.keys().chain(slices);
        names.filter(|name| !self.names(name)).cloned().collect()
    }

    /// The EndpointSlices of a Service.
    pub fn slices_of(&self, service: &str) -> impl Iterator<Item = &Seen> {
        let slices = self.slices.values();
        slices.filter(move |seen| seen.service().is_some_and(|of| **of == *service))
    }

    fn stored(&self, name: &Name, cluster: Name, weight: Option<i32>) -> StoredBackend {
        let endpoints = self.slices_of(name).flat_map(Seen::endpoints);
        // Where nobody knows what it confirmed, it may be anything.
        let confirmed = self.confirmed.as_ref();
        let requested =
            confirmed.is_none_or(|weights| weights.get(name).is_some_and(|weight| *weight > 0));
        StoredBackend {
            endpoints: endpoints.copied().collect(),
            backend: Backend {
                cluster,
                name: name.clone(),
            },
            requested,
            weight,
        }
    }

    /// Whether the route names a Service.
    fn names(&self, service: &str) -> bool {
        let mut backends = self
            .route_detail()
            .into_iter()
            .flat_map(|route| &route.backends);
        backends.any(|backend| *backend.name == *service)
    }

    /// The route, as far as it matters.
    pub fn route_detail(&self) -> Option<&RouteDetail> {
        match &self.route.as_ref()?.detail {
            Detail::Route(detail) => Some(detail),
            Detail::Service | Detail::Slice { .. } => None,
        }
    }

    /// Whether the gateway has to be asked again for its word on the route.
    pub fn overdue(&self, now: Instant) -> bool {
        self.owed.as_ref().is_some_and(|owed| owed.overdue(now))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.route.is_none() && self.services.is_empty() && self.slices.is_empty()
    }
}
