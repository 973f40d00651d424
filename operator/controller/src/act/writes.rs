//! Writes to Flambeau's own kinds on the hub. Every answer goes into the
//! cache at once, so that the next plan sees what the last one stored.

use crate::hub::{Entry, Hub, Meta, Table};
use flambeau_crds::{FIELD_MANAGER, FINALIZER};
use flambeau_planner::model::ApplicationKey;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Error, Resource,
    api::{Patch, PatchParams, PostParams},
    core::ClusterResourceScope,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Whether the hub has no room for an object: the API server says so of a
/// request (413), etcd of what it makes the API server store
/// (`ErrRequestTooLarge` in etcd's `api/v3/v3rpc/rpctypes/error.go`).
pub(super) fn too_large(error: &Error) -> bool {
    matches!(error, Error::Api(status)
        if status.code == 413 || status.message.contains("request is too large"))
}

/// What was written to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    kind: String,
    verb: &'static str,
    result: &'static str,
}

/// Writes to the hub at the same time. Each takes a connection of its own, so
/// that a thousand applications at once would take a thousand handshakes and
/// their memory, and be answered no sooner.
const CONCURRENT: usize = 16;

/// Writes, counted, a few at a time.
#[derive(Clone, Debug)]
pub struct HubWrites {
    counts: Family<Label, Counter>,
    turns: Arc<Semaphore>,
}

impl Default for HubWrites {
    fn default() -> Self {
        Self {
            counts: Family::default(),
            turns: Arc::new(Semaphore::new(CONCURRENT)),
        }
    }
}

/// The API of one kind, in the namespace of an object if it has one.
pub trait Scope<K: Resource> {
    /// An API for the object.
    fn api(client: Client, namespace: &str) -> Api<K>;
}

impl<K: Resource<Scope = ClusterResourceScope, DynamicType = ()>> Scope<K>
    for ClusterResourceScope
{
    fn api(client: Client, _: &str) -> Api<K> {
        Api::all(client)
    }
}

impl<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>> Scope<K>
    for NamespaceResourceScope
{
    fn api(client: Client, namespace: &str) -> Api<K> {
        Api::namespaced(client, namespace)
    }
}

// The semaphore lives as long as the writes and is never closed, so that a
// turn always comes. A thousand applications wait for one at the same time:
// what a request needs is allocated when it has come.
impl HubWrites {
    /// Exports the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "hub_writes",
            "Writes to Flambeau's own kinds on the hub",
            self.counts.clone(),
        );
    }

    /// Stores a whole status, unless the object was replaced by another of
    /// the same name.
    ///
    /// # Errors
    /// Whatever the API server says; an object that is gone is no error.
    pub async fn status<E: Entry>(
        &self,
        hub: &Hub,
        table: &Table<E>,
        key: &ApplicationKey,
        meta: &Meta,
        status: &impl Serialize,
    ) -> Result<(), Error>
    where
        <E::Object as Resource>::Scope: Scope<E::Object>,
    {
        let _turn = self.turns.acquire().await;
        let status = serde_json::to_value(status).map_err(Error::SerdeError)?;
        let patch = json!([
            { "op": "test", "path": "/metadata/uid", "value": meta.uid },
            { "op": "add", "path": "/status", "value": status },
        ]);
        let api = <E::Object as Resource>::Scope::api(hub.client.clone(), &key.namespace);
        let patch = json_patch(patch)?;
        let answer = Box::pin(api.patch_status(&key.name, &params(), &patch)).await;
        self.take("patch_status", table, (key, meta), answer)
    }

    /// Puts Flambeau's finalizer on an object, or takes it off.
    ///
    /// # Errors
    /// Whatever the API server says, also when somebody changed the finalizers
    /// meanwhile; an object that is gone is no error.
    pub async fn protect<E: Entry>(
        &self,
        hub: &Hub,
        table: &Table<E>,
        key: &ApplicationKey,
        meta: &Meta,
        protect: bool,
    ) -> Result<(), Error>
    where
        <E::Object as Resource>::Scope: Scope<E::Object>,
    {
        let api = <E::Object as Resource>::Scope::api(hub.client.clone(), &key.namespace);
        let _turn = self.turns.acquire().await;
        if protect {
            // Server-side apply: finalizers are a set, each manager owns its own.
            let object = json!({
                "apiVersion": E::Object::api_version(&()),
                "kind": E::Object::kind(&()),
                "metadata": { "name": &*key.name, "uid": meta.uid, "finalizers": [FINALIZER] },
            });
            let patch = Patch::Apply(object);
            let answer = Box::pin(api.patch(&key.name, &params().force(), &patch)).await;
            return self.take("protect", table, (key, meta), answer);
        }
        let Some(index) = meta.finalizer else {
            return Ok(());
        };
        // Whoever put it on: server-side apply takes off only what it put on.
        let path = format!("/metadata/finalizers/{index}");
        let patch = json_patch(json!([
            { "op": "test", "path": "/metadata/uid", "value": meta.uid },
            { "op": "test", "path": path, "value": FINALIZER },
            { "op": "remove", "path": path },
        ]))?;
        let answer = Box::pin(api.patch(&key.name, &params(), &patch)).await;
        self.take("release", table, (key, meta), answer)
    }

    /// Creates an object; one that is there already is no error.
    ///
    /// # Errors
    /// Whatever the API server says.
    pub async fn create<E: Entry>(
        &self,
        hub: &Hub,
        table: &Table<E>,
        namespace: &str,
        object: &E::Object,
    ) -> Result<(), Error>
    where
        E::Object: Serialize,
        <E::Object as Resource>::Scope: Scope<E::Object>,
    {
        let api = <E::Object as Resource>::Scope::api(hub.client.clone(), namespace);
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let _turn = self.turns.acquire().await;
        let answer = match Box::pin(api.create(&params, object)).await {
            Err(Error::Api(status)) if status.code == 409 => {
                let name = object.meta().name.as_deref().unwrap_or_default();
                Box::pin(api.get(name)).await
            }
            answer => answer,
        };
        self.count::<E>("create", answer.is_ok());
        table.upsert(answer?);
        Ok(())
    }

    /// Takes the answer to a write into the cache. An object that is not there
    /// leaves it: or else the same write would be due again for ever.
    fn take<E: Entry>(
        &self,
        verb: &'static str,
        table: &Table<E>,
        (key, meta): (&ApplicationKey, &Meta),
        answer: Result<E::Object, Error>,
    ) -> Result<(), Error> {
        self.count::<E>(verb, answer.is_ok());
        match answer {
            Ok(object) => {
                table.upsert(object);
                Ok(())
            }
            Err(Error::Api(status)) if status.code == 404 => {
                table.gone(key, &meta.uid);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn count<E: Entry>(&self, verb: &'static str, success: bool) {
        let result = if success { "success" } else { "error" };
        let kind = E::Object::kind(&()).into_owned();
        self.counts
            .get_or_create(&Label { kind, verb, result })
            .inc();
    }
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn json_patch(operations: Value) -> Result<Patch<()>, Error> {
    serde_json::from_value(operations)
        .map(Patch::Json)
        .map_err(Error::SerdeError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::PolicyEntry;
    use flambeau_crds::SovereigntyPolicy;
    use kube::core::Status;

    #[test]
    fn what_the_hub_does_not_have_is_not_written_again_and_again() {
        let table = Table::<PolicyEntry>::default();
        let law: SovereigntyPolicy = serde_json::from_value(json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "SovereigntyPolicy",
            "metadata": {"name": "law", "uid": "first", "resourceVersion": "5"},
            "spec": {"sensitivities": ["Personal"]},
        }))
        .unwrap();
        let key = PolicyEntry::key(&law);
        table.upsert(law);
        let meta = table.get(&key).unwrap().meta;
        let not_found = Status {
            code: 404,
            ..Status::default()
        };
        let answer = Err(Error::Api(Box::new(not_found)));
        let taken = HubWrites::default().take("patch_status", &table, (&key, &meta), answer);
        assert!(taken.is_ok());
        assert!(table.get(&key).is_none());
    }
}
