//! The edge through the Gateway API: one HTTPRoute for each application, with
//! one weighted backend for each cluster; behind every backend a Service
//! whose EndpointSlices mirror the application's endpoints on that cluster.

use super::{
    Edge, EdgeError, EndpointAddress, Reading,
    backend::{Backend, StoredBackend},
    confirmation,
    objects::{self, GatewayName},
    poller::{Healthy, Poller},
    route::{self, HttpRoute},
    seen::{self, RoutedBackend, Seen},
    store::{EdgeKind, Store},
    watches::{self, follow},
};
use crate::{
    declared::{Declared, DeclaredTraffic},
    dirty::Dirty,
};
use flambeau_crds::FIELD_MANAGER;
use flambeau_planner::model::{ApplicationKey, EdgeObservation, Name};
use futures::future::join_all;
use k8s_openapi::{
    NamespaceResourceScope, api::core::v1::Service, api::discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Patch, PatchParams},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::Instant,
};
use tokio::task::JoinSet;

/// How the edge is reached.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Namespace of the Gateway.
    pub gateway_namespace: String,
    /// Name of the Gateway.
    pub gateway_name: String,
    /// Address of the proxy's statistics in Prometheus' text format, such as
    /// `http://envoy.edge:8002/stats/prometheus`; without it requests are not
    /// counted. One proxy instance: counters of several cannot be told apart.
    pub stats_url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WriteLabels {
    kind: &'static str,
    verb: &'static str,
}

/// The edge through the Gateway API. Clones share everything; the watches end
/// with the last of them.
#[derive(Clone)]
pub struct GatewayEdge(Arc<Shared>);

struct Shared {
    hub: Client,
    dirty: Dirty,
    gateway: GatewayName,
    store: Arc<Store>,
    poller: Poller,
    writes: Family<WriteLabels, Counter>,
    // Aborted when dropped.
    _watches: JoinSet<()>,
}

impl GatewayEdge {
    /// Starts to watch the edge's objects on the hub, and to read its
    /// statistics. Must be called within a tokio runtime.
    pub fn new(hub: Client, dirty: Dirty, settings: EdgeSettings) -> Self {
        let gateway = GatewayName {
            namespace: settings.gateway_namespace,
            name: settings.gateway_name,
        };
        let store = Arc::new(Store::default());
        let mut tasks = JoinSet::new();
        let told = || (store.clone(), dirty.clone());
        tasks.spawn(follow(watches::routes(&hub, &gateway), told()));
        tasks.spawn(follow(watches::services(&hub), told()));
        tasks.spawn(follow(watches::slices(&hub), told()));
        tasks.spawn(confirmation::watch(store.clone(), dirty.clone()));
        let poller = Poller::start(
            settings.stats_url.as_deref(),
            store.clone(),
            dirty.clone(),
            &mut tasks,
        );
        Self(Arc::new(Shared {
            hub,
            dirty,
            gateway,
            store,
            poller,
            writes: Family::default(),
            _watches: tasks,
        }))
    }

    /// Registers the counters of writes.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "edge_writes",
            "Requests that write an object of the edge to the hub",
            self.0.writes.clone(),
        );
    }

    fn writable(&self) -> Result<(), EdgeError> {
        match self.0.store.why_unavailable() {
            Some(message) => Err(EdgeError::Unavailable(message)),
            None if self.0.store.synced() => Ok(()),
            None => Err(EdgeError::NotSynced),
        }
    }

    fn api<K>(&self, key: &ApplicationKey) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.0.hub.clone(), &key.namespace)
    }

    fn routes(&self, key: &ApplicationKey) -> Api<HttpRoute> {
        Api::namespaced_with(self.0.hub.clone(), &key.namespace, &route::resource())
    }

    /// Writes an object unless it is stored like that.
    async fn write<K>(
        &self,
        kind: EdgeKind,
        api: &Api<K>,
        object: &K,
        reduce: impl Fn(&K) -> Option<Seen>,
    ) -> Result<(), EdgeError>
    where
        K: Resource + Clone + Debug + Serialize + DeserializeOwned,
    {
        let Some(wanted) = reduce(object) else {
            return Ok(());
        };
        let stored = self.0.store.digest(kind, &wanted.key, &wanted.name);
        if stored == Some(wanted.digest) {
            return Ok(());
        }
        let described = || format!("{} {}/{}", kind.as_str(), wanted.key.namespace, wanted.name);
        // What is Flambeau's is brought back by force; what is not there yet
        // must not be taken from somebody else.
        let parameters = PatchParams {
            force: stored.is_some(),
            ..PatchParams::apply(FIELD_MANAGER)
        };
        self.count(kind, "apply");
        let answer = api
            .patch(&wanted.name, &parameters, &Patch::Apply(object))
            .await;
        let answer = answer.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 409 => EdgeError::Taken {
                object: described(),
                message: status.message,
            },
            error => hub_error(described(), error),
        })?;
        let Some(stored) = reduce(&answer) else {
            return Err(EdgeError::Altered {
                object: described(),
            });
        };
        let digest = stored.digest;
        if self.0.store.answered(kind, stored) {
            self.0.dirty.mark();
        }
        if digest != wanted.digest {
            return Err(EdgeError::Altered {
                object: described(),
            });
        }
        Ok(())
    }

    /// Deletes an object.
    async fn delete<K>(
        &self,
        kind: EdgeKind,
        api: &Api<K>,
        key: &ApplicationKey,
        name: &str,
    ) -> Result<(), EdgeError>
    where
        K: Resource + Clone + Debug + DeserializeOwned,
    {
        self.count(kind, "delete");
        let gone = match api.delete(name, &DeleteParams::default()).await {
            Ok(answer) => answer
                .left()
                // It comes back with a time when finalizers hold it.
                .is_none_or(|object| object.meta().deletion_timestamp.is_none()),
            Err(kube::Error::Api(status)) if status.code == 404 => true,
            Err(error) => {
                let object = format!("{} {}/{name}", kind.as_str(), key.namespace);
                return Err(hub_error(object, error));
            }
        };
        if gone && self.0.store.forget(kind, key, name) {
            self.0.dirty.mark();
        }
        Ok(())
    }

    fn count(&self, kind: EdgeKind, verb: &'static str) {
        let labels = WriteLabels {
            kind: kind.as_str(),
            verb,
        };
        self.0.writes.get_or_create(&labels).inc();
    }

    /// The Service that stands for a copy with these endpoints: one that does
    /// already, or one that never was. Without `weights`, requests go on as
    /// they do.
    fn backend(
        &self,
        key: &ApplicationKey,
        cluster: &Name,
        weights: &BTreeMap<Name, u8>,
        endpoints: Option<&[EndpointAddress]>,
    ) -> StoredBackend {
        let requested =
            weights.is_empty() || weights.get(cluster).is_some_and(|weight| *weight > 0);
        let stored = self.0.store.backends(key, cluster).into_iter();
        let mut fitting = stored.filter(|stored| stored.fits(requested, endpoints));
        fitting.next().unwrap_or_else(|| StoredBackend {
            backend: Backend::new(&key.name, cluster),
            weight: None,
            requested: false,
            endpoints: Vec::new(),
        })
    }

    async fn apply_backend(
        &self,
        declared: &Declared,
        traffic: &DeclaredTraffic,
        stored: &StoredBackend,
        endpoints: Option<&Vec<EndpointAddress>>,
    ) -> Result<(), EdgeError> {
        let (key, backend) = (&declared.key, &stored.backend);
        let (api, service) = (self.api(key), objects::service(declared, traffic, backend));
        let written = self
            .write(EdgeKind::Service, &api, &service, seen::service)
            .await;
        // One that does not tell whose it is would be found by nobody.
        if matches!(written, Err(EdgeError::Altered { .. }))
            && !self.0.store.has(EdgeKind::Service, key, &backend.name)
        {
            self.delete(EdgeKind::Service, &api, key, &backend.name)
                .await?;
        }
        written?;
        // A cluster whose endpoints are not told keeps those that it has.
        let Some(endpoints) = endpoints else {
            return Ok(());
        };
        let emptied = endpoints.is_empty().then(|| stored.emptied());
        let api = self.api::<EndpointSlice>(key);
        let slices = objects::slices(declared, backend, emptied.as_ref().unwrap_or(endpoints));
        for slice in &slices {
            self.write(EdgeKind::Slice, &api, slice, seen::slice)
                .await?;
        }
        for name in self.0.store.slices(key, &backend.name) {
            let wanted = |slice: &EndpointSlice| slice.metadata.name.as_deref() == Some(&*name);
            if !slices.iter().any(wanted) {
                self.delete(EdgeKind::Slice, &api, key, &name).await?;
            }
        }
        Ok(())
    }

    /// Deletes a Service and what belongs to it: the Service first, so that no
    /// later copy takes it for one that never had endpoints.
    async fn delete_backend(&self, key: &ApplicationKey, name: &str) -> Result<(), EdgeError> {
        if self.0.store.has(EdgeKind::Service, key, name) {
            let services = self.api::<Service>(key);
            self.delete(EdgeKind::Service, &services, key, name).await?;
        }
        let slices = self.api::<EndpointSlice>(key);
        for name in self.0.store.slices(key, name) {
            self.delete(EdgeKind::Slice, &slices, key, &name).await?;
        }
        Ok(())
    }

    /// Asks the gateway for its word on a route, if that is late.
    async fn ask_again(&self, key: &ApplicationKey, backends: &[Backend]) -> Result<(), EdgeError> {
        let now = Instant::now();
        let Some(backend) = backends.first().filter(|_| self.0.store.overdue(key, now)) else {
            return Ok(());
        };
        let backend = &backend.name;
        tracing::info!(application = %key, "the gateway is asked again to confirm the route");
        self.0.store.asked(key, now);
        self.count(EdgeKind::Service, "patch");
        let asked = confirmation::ask_again(&self.api(key), backend).await;
        asked.map_err(|error| hub_error(format!("Service {}/{backend}", key.namespace), error))
    }

    /// Takes away what stands for an application and no request can reach.
    async fn delete_unused(&self, key: &ApplicationKey, used: &[Backend]) -> Result<(), EdgeError> {
        for name in self.0.store.unused(key) {
            if used.iter().all(|backend| backend.name != name) {
                self.delete_backend(key, &name).await?;
            }
        }
        Ok(())
    }
}

/// What is counted by Service, by cluster.
fn by_cluster<T: Clone>(
    routed: &[(RoutedBackend, Name)],
    counted: &BTreeMap<Name, T>,
) -> BTreeMap<Name, T> {
    let counted = routed.iter().filter_map(|(backend, cluster)| {
        Some((cluster.clone(), counted.get(&backend.name)?.clone()))
    });
    counted.collect()
}

/// The weights of a route by cluster.
fn weights(routed: &[(RoutedBackend, Name)]) -> BTreeMap<Name, u8> {
    let weights = routed.iter().map(|(backend, cluster)| {
        let weight = backend.weight.clamp(0, i32::from(u8::MAX));
        (cluster.clone(), u8::try_from(weight).unwrap_or(u8::MAX))
    });
    weights.collect()
}

impl Edge for GatewayEdge {
    fn synced(&self) -> bool {
        self.0.store.synced()
    }

    async fn reread(&self) {
        let Shared {
            hub,
            gateway,
            store,
            ..
        } = &*self.0;
        futures::join!(
            watches::reread(watches::routes(hub, gateway), store),
            watches::reread(watches::services(hub), store),
            watches::reread(watches::slices(hub), store),
        );
    }

    fn unavailable(&self) -> Option<String> {
        self.0.store.why_unavailable()
    }

    fn present(&self, key: &ApplicationKey) -> bool {
        self.0.store.present(key)
    }

    fn intact(&self, key: &ApplicationKey) -> bool {
        self.0.store.intact(key)
    }

    fn observe(&self, key: &ApplicationKey) -> EdgeObservation {
        let Some(route) = self.0.store.route(key) else {
            // Where the hub serves no routes, there never is one.
            return EdgeObservation {
                problem: self.unavailable(),
                ..EdgeObservation::default()
            };
        };
        let routed = self.0.store.routed(key);
        let requests = self.0.poller.requests(key);
        EdgeObservation {
            problem: self.problem(key),
            weights: weights(&routed),
            acknowledged: route.acknowledged,
            open_requests: by_cluster(&routed, &requests.open),
            stage_requests: by_cluster(&routed, &requests.stage),
        }
    }

    fn endpoints_at_edge(
        &self,
        key: &ApplicationKey,
        cluster: &str,
        now: impl FnOnce() -> Option<Vec<EndpointAddress>>,
    ) -> Option<usize> {
        let Some(stored) = self.0.store.backend(key, cluster) else {
            return Some(0);
        };
        let in_use = stored.weight.is_some_and(|weight| weight > 0);
        let ready = match (in_use, stored.ready()) {
            (true, ready) | (false, ready @ 0) => ready,
            (false, ready) => now().map_or(ready, |now| stored.ready_now(&now)),
        };
        match self.0.poller.healthy(key, &stored.backend.name) {
            Healthy::At(endpoints) => Some(ready.min(endpoints)),
            // What the proxy was not told yet, it cannot do.
            Healthy::Missing if !in_use => Some(0),
            Healthy::NotYet if !in_use && ready > 0 => None,
            Healthy::Missing | Healthy::NotYet | Healthy::Unknown => Some(ready),
        }
    }

    fn problem(&self, key: &ApplicationKey) -> Option<String> {
        self.unavailable()
            .or_else(|| self.0.store.route(key).and_then(|route| route.problem))
    }

    async fn apply(
        &self,
        declared: &Declared,
        weights: &BTreeMap<Name, u8>,
        endpoints: &BTreeMap<Name, Vec<EndpointAddress>>,
    ) -> Result<(), EdgeError> {
        let key = &declared.key;
        let Some(traffic) = &declared.traffic else {
            return self.remove(key).await;
        };
        self.writable()?;
        if !weights.is_empty() && weights.values().all(|weight| *weight == 0) {
            return Err(EdgeError::NoWeight(key.clone()));
        }
        let named: BTreeSet<&Name> = weights.keys().chain(endpoints.keys()).collect();
        let stored = named.iter().map(|cluster| {
            let told = endpoints.get(*cluster).map(Vec::as_slice);
            self.backend(key, cluster, weights, told)
        });
        let stored: Vec<StoredBackend> = stored.collect();
        // Whatever is wrong behind one cluster, the endpoints of the others
        // are brought up to date.
        let written = join_all(stored.iter().map(|stored| {
            let told = endpoints.get(&stored.backend.cluster);
            self.apply_backend(declared, traffic, stored, told)
        }));
        written
            .await
            .into_iter()
            .collect::<Result<(), EdgeError>>()?;
        let backends: Vec<Backend> = stored.into_iter().map(|stored| stored.backend).collect();
        if !weights.is_empty() {
            let weighted = backends
                .iter()
                .filter_map(|backend| Some((backend, *weights.get(&backend.cluster)?)));
            let route = objects::route(declared, traffic, weighted, &self.0.gateway);
            let reduce = |route: &HttpRoute| seen::route(route, &self.0.gateway);
            self.write(EdgeKind::Route, &self.routes(key), &route, reduce)
                .await?;
        }
        self.delete_unused(key, &backends).await?;
        self.ask_again(key, &backends).await?;
        self.0.store.written(key);
        Ok(())
    }

    async fn remove(&self, key: &ApplicationKey) -> Result<(), EdgeError> {
        if !self.0.store.known() {
            self.writable()?;
        }
        if self.0.store.has(EdgeKind::Route, key, &key.name) {
            self.delete(EdgeKind::Route, &self.routes(key), key, &key.name)
                .await?;
        }
        self.delete_unused(key, &[]).await
    }

    fn watch_requests(&self, keys: BTreeSet<ApplicationKey>) {
        self.0.poller.watch(keys);
    }

    fn watch_services(&self, keys: BTreeSet<ApplicationKey>, hurry: bool) {
        self.0.poller.watch_services(keys, hurry);
    }

    fn reading(&self, key: &ApplicationKey, cluster: &str) -> Option<Reading> {
        let stored = self.0.store.backend(key, cluster)?;
        self.0.poller.reading(key, &stored.backend.name)
    }
}

fn hub_error(object: String, error: kube::Error) -> EdgeError {
    EdgeError::Hub {
        object,
        source: Box::new(error),
    }
}
