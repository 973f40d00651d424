//! Feeds a cache from a watch, for ever.

use super::{
    entries::{Entry, ObjectKey},
    table::Table,
};
use crate::dirty::Dirty;
use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{WatchStreamExt, watcher},
};
use std::{collections::BTreeSet, sync::Arc};

/// Watches a kind. An object that cannot be understood is passed over with a
/// warning, and its last known version stands: it must not starve the rest.
/// `follow` hears of every entry that changed, and of every one that went.
pub async fn watch<E: Entry>(
    client: Client,
    table: Arc<Table<E>>,
    dirty: Dirty,
    mut follow: impl FnMut(&ObjectKey, Option<&E>) + Send,
) {
    let kind = E::Object::kind(&());
    let api: Api<DeserializeGuard<E::Object>> = Api::all(client);
    let stream = watcher(api, watcher::Config::default()).default_backoff();
    pin_mut!(stream);
    let mut seen = BTreeSet::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => seen.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                seen.insert(guarded_key(&object));
                take::<E>(&table, object, &mut follow);
            }
            Ok(watcher::Event::InitDone) => {
                for key in table.listed(&std::mem::take(&mut seen)) {
                    follow(&key, None);
                }
                dirty.mark();
            }
            Ok(watcher::Event::Apply(object)) => {
                if take::<E>(&table, object, &mut follow) {
                    dirty.mark();
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                let key = guarded_key(&object);
                let version = object
                    .resource_version()
                    .and_then(|version| version.parse().ok())
                    .unwrap_or(0);
                if table.remove(&key, version) {
                    follow(&key, None);
                }
                dirty.mark();
            }
            Err(error) => {
                tracing::warn!(%kind, %error, "watch on the hub failed, it is tried again");
            }
        }
    }
}

fn guarded_key<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> ObjectKey {
    ObjectKey {
        namespace: object.namespace().unwrap_or_default().into(),
        name: object.name_any().into(),
    }
}

fn take<E: Entry>(
    table: &Table<E>,
    object: DeserializeGuard<E::Object>,
    follow: &mut impl FnMut(&ObjectKey, Option<&E>),
) -> bool {
    let key = guarded_key(&object);
    match object.0 {
        Ok(object) => {
            let news = table.upsert(object);
            if news {
                follow(&key, table.get(&key).as_ref());
            }
            news
        }
        Err(error) => {
            let kind = E::Object::kind(&());
            tracing::warn!(%kind, object = %key, error = %error.error, "object cannot be understood, its last known version stands");
            false
        }
    }
}
