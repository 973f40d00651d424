//! Reading everything once more, before the first plan of a process that
//! stood by: its watches may lag behind what the leader before it stored.

use super::{Hub, entries::Entry, table::Table, watch::PAGE, watch::guarded_key};
use kube::{Api, Client, Error, Resource, api::ListParams, core::DeserializeGuard};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::sleep;

/// How long a failed read, or a watch that has not heard of a deletion yet, is
/// left alone.
const PAUSE: Duration = Duration::from_millis(250);

impl Hub {
    /// Returns when the caches show at least what the hub stored when this
    /// was called. Kinds that were not listed yet are left to their watches,
    /// which list them now.
    pub async fn reread(&self) {
        futures::join!(
            reread(&self.client, &self.providers),
            reread(&self.client, &self.clusters),
            reread(&self.client, &self.policies),
            reread(&self.client, &self.applications),
            reread(&self.client, &self.migrations),
            reread(&self.client, &self.evacuations),
            reread(&self.client, &self.freezes),
        );
    }
}

async fn reread<E: Entry>(client: &Client, table: &Table<E>) {
    if !table.synced() {
        return;
    }
    let (seen, version) = loop {
        match list(client, table).await {
            Ok(listed) => break listed,
            // The hub does not know the kind.
            Err(Error::Api(status)) if status.code == 404 => return,
            Err(error) => {
                let kind = E::Object::kind(&());
                tracing::warn!(%kind, %error, "the hub cannot be read, it is tried again");
                sleep(PAUSE).await;
            }
        }
    };
    // What was deleted leaves the cache through the watch, which tells others.
    let lags = || {
        table.read(|entries| {
            entries
                .iter()
                .any(|(key, entry)| entry.meta().version <= version && !seen.contains(key))
        })
    };
    while lags() {
        sleep(PAUSE).await;
    }
}

/// Takes in what is stored now; returns which objects there are, and at which
/// version.
async fn list<E: Entry>(
    client: &Client,
    table: &Table<E>,
) -> Result<(BTreeSet<super::entries::ObjectKey>, u64), Error> {
    let api: Api<DeserializeGuard<E::Object>> = Api::all(client.clone());
    let mut seen = BTreeSet::new();
    // Without a resource version: the newest, not a cache's.
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await?;
        for object in list.items {
            seen.insert(guarded_key(&object));
            if let Ok(object) = object.0 {
                table.upsert(object);
            }
        }
        let version = list.metadata.resource_version;
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => {
                let version = version.and_then(|version| version.parse().ok());
                return Ok((seen, version.unwrap_or(0)));
            }
        }
    }
}
