//! Feeds a cache from a watch, for ever.

use super::{
    entries::{Entry, ObjectKey},
    missing::Missing,
    table::Table,
};
use crate::{again, dirty::Dirty};
use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{WatchStreamExt, watcher},
};
use std::{collections::BTreeSet, sync::Arc};

/// Objects per page of a list: a page is in memory as a whole, with everything
/// that is not kept.
pub(super) const PAGE: u32 = 100;

/// Watches a kind. An object that cannot be understood is passed over with a
/// warning, and its last known version stands: it must not starve the rest.
/// `follow` hears of every entry that changed, at least once, and of every one
/// that went.
pub async fn watch<E: Entry>(
    client: Client,
    table: Arc<Table<E>>,
    missing: Missing,
    dirty: Dirty,
    mut follow: impl FnMut(&ObjectKey, Option<&E>) + Send,
) {
    let kind = E::Object::kind(&());
    let api: Api<DeserializeGuard<E::Object>> = Api::all(client);
    let pages = again::watched().page_size(PAGE);
    let stream = watcher(api, pages).backoff(again::soon());
    pin_mut!(stream);
    let mut seen = BTreeSet::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Init) => {
                seen.clear();
                table.list_begins();
            }
            Ok(watcher::Event::InitApply(object)) => {
                seen.insert(guarded_key(&object));
                take::<E>(&table, object, &mut follow);
            }
            Ok(watcher::Event::InitDone) => {
                missing.found::<E>();
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
                table.remove(&key, &object.uid().unwrap_or_default(), version);
                // Whether it was dropped before or not: all have to hear of it.
                follow(&key, table.get(&key).as_ref());
                dirty.mark();
            }
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status)))
                if status.code == 404 =>
            {
                missing.lost::<E>();
            }
            Err(error) => {
                tracing::warn!(%kind, %error, "watch on the hub failed, it is tried again");
            }
        }
    }
}

pub(super) fn guarded_key<K: Resource<DynamicType = ()>>(
    object: &DeserializeGuard<K>,
) -> ObjectKey {
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
            // The answer to an own write may have brought the same change
            // before: whoever follows has not heard of it then.
            if let Some(entry) = table.get(&key) {
                follow(&key, Some(&entry));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::ApplicationEntry;
    use flambeau_crds::GamesApplication;
    use serde_json::json;

    fn application(version: u64, generation: i64) -> GamesApplication {
        serde_json::from_value(json!({
            "apiVersion": "flambeau.dev/v1alpha1", "kind": "GamesApplication",
            "metadata": {"name": "shop", "namespace": "games", "uid": "1",
                "resourceVersion": version.to_string(), "generation": generation},
            "spec": {"sensitivity": "Public", "resources": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shop"}}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_change_that_an_own_write_brought_first_is_followed_all_the_same() {
        let table = Table::<ApplicationEntry>::default();
        let mut followed = Vec::new();
        let mut follow = |_: &ObjectKey, entry: Option<&ApplicationEntry>| {
            followed.push(entry.and_then(|entry| entry.meta.generation));
        };
        assert!(take(
            &table,
            DeserializeGuard(Ok(application(1, 1))),
            &mut follow
        ));
        // A person changes the object; the next write's answer says so first.
        assert!(table.upsert(application(3, 2)));
        assert!(!take(
            &table,
            DeserializeGuard(Ok(application(2, 2))),
            &mut follow
        ));
        assert_eq!(followed, [Some(1), Some(2)]);
    }
}
