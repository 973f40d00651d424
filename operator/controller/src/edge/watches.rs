//! The watches that keep the store true to the hub.

use super::{
    objects::{GatewayName, MANAGED_BY_LABEL},
    route::{self, HttpRoute},
    seen::{self, Seen},
    store::{EdgeKind, Store},
};
use crate::{again, dirty::Dirty};
use flambeau_crds::{APPLICATION_LABEL, CLUSTER_LABEL, FIELD_MANAGER};
use futures::StreamExt;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource,
    api::ListParams,
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, pin::pin, sync::Arc, time::Duration};
use tokio::time::sleep;

/// How long a failed read is left alone.
const PAUSE: Duration = Duration::from_millis(250);

/// Where objects of one kind come from, and what matters of them.
pub struct Source<K, R> {
    kind: EdgeKind,
    api: Api<K>,
    selector: String,
    reduce: R,
}

fn managed() -> String {
    format!("{MANAGED_BY_LABEL}={FIELD_MANAGER},{APPLICATION_LABEL}")
}

/// Every route of Flambeau.
pub fn routes(
    hub: &Client,
    gateway: &GatewayName,
) -> Source<HttpRoute, impl Fn(&HttpRoute) -> Option<Seen> + Send + 'static> {
    let ours = gateway.clone();
    Source {
        kind: EdgeKind::Route,
        api: Api::all_with(hub.clone(), &route::resource()),
        selector: managed(),
        reduce: move |route: &HttpRoute| seen::route(route, &ours),
    }
}

/// Every Service that stands for a copy.
pub fn services(
    hub: &Client,
) -> Source<Service, impl Fn(&Service) -> Option<Seen> + Send + 'static> {
    of_copies(hub, EdgeKind::Service, seen::service)
}

/// The EndpointSlices of these Services.
pub fn slices(
    hub: &Client,
) -> Source<EndpointSlice, impl Fn(&EndpointSlice) -> Option<Seen> + Send + 'static> {
    of_copies(hub, EdgeKind::Slice, seen::slice)
}

fn of_copies<K, R>(hub: &Client, kind: EdgeKind, reduce: R) -> Source<K, R>
where
    K: Resource<DynamicType = ()>,
{
    Source {
        kind,
        api: Api::all(hub.clone()),
        selector: format!("{},{CLUSTER_LABEL}", managed()),
        reduce,
    }
}

/// Returns when the store shows at least what the hub stored when this was
/// called. A kind that was not listed yet is left to its watch, which lists it
/// now, and so is one that cannot be read at all.
pub async fn reread<K>(source: Source<K, impl Fn(&K) -> Option<Seen>>, store: &Store)
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let Source {
        kind,
        api,
        selector,
        reduce,
    } = source;
    while store.kind_synced(kind) {
        // Without a resource version: the newest, not a cache's.
        match api.list(&ListParams::default().labels(&selector)).await {
            Ok(list) => {
                let version = list.metadata.resource_version;
                let version = version.and_then(|version| version.parse().ok());
                let seen = list.items.iter().filter_map(&reduce).collect();
                store.reread(kind, seen, version.unwrap_or_default());
                return;
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => return,
            Err(error) => {
                tracing::warn!(kind = kind.as_str(), %error, "the hub cannot be read, it is tried again");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Keeps the store true to the hub for one kind, for ever.
pub async fn follow<K>(
    source: Source<K, impl Fn(&K) -> Option<Seen>>,
    (store, dirty): (Arc<Store>, Dirty),
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let Source {
        kind,
        api,
        selector,
        reduce,
    } = source;
    let config = again::watched().labels(&selector);
    let mut events = pin!(watcher(api, config).backoff(again::soon()));
    while let Some(event) = events.next().await {
        let changed = match event {
            Ok(watcher::Event::Init) => {
                store.list_begins(kind);
                false
            }
            Ok(watcher::Event::InitDone) => store.list_ends(kind),
            // A list is told as a whole, at its end.
            Ok(watcher::Event::InitApply(object)) => {
                reduce(&object).is_some_and(|seen| store.delivered(kind, seen))
            }
            Ok(watcher::Event::Apply(object)) => {
                reduce(&object).is_some_and(|seen| store.delivered(kind, seen))
            }
            Ok(watcher::Event::Delete(object)) => {
                reduce(&object).is_some_and(|seen| store.deleted(kind, &seen))
            }
            Err(error) => failed(kind, &error, &store),
        };
        if changed {
            dirty.mark();
        }
    }
}

/// Remembers why a kind cannot be read. Only a kind that does not exist or
/// may not be read makes the edge unusable; anything else passes.
fn failed(kind: EdgeKind, error: &watcher::Error, store: &Store) -> bool {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        _ => 0,
    };
    let message = match (code, kind) {
        (404, EdgeKind::Route) => format!(
            "the hub does not serve HTTPRoute ({}/v1): install the Gateway API and a gateway",
            route::GROUP
        ),
        (403, _) => format!(
            "the operator may not read {} on the hub: give its role list and watch",
            kind.as_str()
        ),
        _ => {
            tracing::warn!(kind = kind.as_str(), %error, "the watch of the edge broke off and is begun anew");
            return false;
        }
    };
    let news = store.unavailable(kind, code == 404, &message);
    if news {
        tracing::error!("{message}");
    }
    news
}
