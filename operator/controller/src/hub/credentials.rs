//! Credentials of members: the one Secret that each MemberCluster names.

use super::entries::ClusterEntry;
use crate::{dirty::Dirty, members::Members};
use flambeau_crds::{MemberClusterSpec, cluster::SecretKeyReference};
use flambeau_planner::model::Name;
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use std::collections::HashMap;
use tokio::task::AbortHandle;

/// One watch for each member, on its Secret alone: the operator need not see
/// any other.
pub struct Credentials {
    client: Client,
    members: Members,
    dirty: Dirty,
    watches: HashMap<Name, (MemberClusterSpec, AbortHandle)>,
}

impl Credentials {
    /// Nothing is watched yet.
    pub fn new(client: Client, members: Members, dirty: Dirty) -> Self {
        Self {
            client,
            members,
            dirty,
            watches: HashMap::new(),
        }
    }

    /// Follows the Secret of a MemberCluster that came, changed or went.
    pub fn follow(&mut self, name: &Name, entry: Option<&ClusterEntry>) {
        let Some(entry) = entry else {
            if let Some((_, watch)) = self.watches.remove(name) {
                watch.abort();
            }
            self.members.forget(name);
            return;
        };
        let spec = entry.object.spec.clone();
        if self
            .watches
            .get(name)
            .is_some_and(|(watched, _)| *watched == spec)
        {
            return;
        }
        let (client, members, dirty) = (
            self.client.clone(),
            self.members.clone(),
            self.dirty.clone(),
        );
        let task = tokio::spawn(watch(client, members, dirty, name.clone(), spec.clone()));
        let replaced = self
            .watches
            .insert(name.clone(), (spec, task.abort_handle()));
        if let Some((_, before)) = replaced {
            before.abort();
        }
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        for (_, watch) in self.watches.values() {
            watch.abort();
        }
    }
}

async fn watch(
    client: Client,
    members: Members,
    dirty: Dirty,
    name: Name,
    spec: MemberClusterSpec,
) {
    let reference = &spec.kubeconfig_secret;
    let api: Api<Secret> = Api::namespaced(client, &reference.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", reference.name));
    let stream = watcher(api, only).default_backoff();
    pin_mut!(stream);
    let mut listed = None;
    // Once the Secret was read, its last known contents stand.
    let mut configured = false;
    while let Some(event) = stream.next().await {
        let secret = match event {
            Ok(watcher::Event::Init) => {
                listed = None;
                continue;
            }
            Ok(watcher::Event::InitApply(secret)) => {
                listed = Some(secret);
                continue;
            }
            Ok(watcher::Event::InitDone) => listed.take(),
            Ok(watcher::Event::Apply(secret)) => Some(secret),
            Ok(watcher::Event::Delete(_)) => None,
            Err(error) => {
                tracing::warn!(cluster = %name, %error, "the kubeconfig Secret cannot be watched, it is tried again");
                if !configured && forbidden(&error) {
                    members.configure(&name, &spec, Err(unreadable(reference)));
                    dirty.mark();
                }
                continue;
            }
        };
        let kubeconfig = kubeconfig(secret.as_ref(), reference);
        members.configure(&name, &spec, kubeconfig);
        configured = true;
        dirty.mark();
    }
}

fn forbidden(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403
    )
}

fn unreadable(reference: &SecretKeyReference) -> String {
    let SecretKeyReference {
        namespace, name, ..
    } = reference;
    format!(
        "Secret {namespace}/{name} may not be read: grant the operator get, list and watch on it"
    )
}

fn kubeconfig<'a>(
    secret: Option<&'a Secret>,
    reference: &SecretKeyReference,
) -> Result<&'a [u8], String> {
    let SecretKeyReference {
        namespace,
        name,
        key,
    } = reference;
    let secret = secret.ok_or_else(|| {
        format!("Secret {namespace}/{name} does not exist: create it with the kubeconfig under key {key}")
    })?;
    secret
        .data
        .as_ref()
        .and_then(|data| data.get(key))
        .map(|bytes| bytes.0.as_slice())
        .ok_or_else(|| {
            format!("Secret {namespace}/{name} has no key {key}: put the kubeconfig there")
        })
}
