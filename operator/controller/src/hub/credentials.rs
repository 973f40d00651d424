//! Credentials of members: the one Secret that each MemberCluster names.

use super::{
    entries::ClusterEntry,
    renewal::{self, Renewing},
};
use crate::{again, dirty::Dirty, members::Members};
use flambeau_crds::{MemberClusterSpec, cluster::SecretKeyReference};
use flambeau_planner::model::Name;
use futures::{StreamExt, pin_mut};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use std::collections::HashMap;
use tokio::{task::AbortHandle, time::Instant};

/// One watch for each member, on its Secret alone: the operator need not see
/// any other.
pub struct Credentials {
    client: Client,
    members: Members,
    dirty: Dirty,
    /// What time it is, for tokens that expire.
    now: fn() -> Timestamp,
    watches: HashMap<Name, (MemberClusterSpec, AbortHandle)>,
}

impl Credentials {
    /// Nothing is watched yet.
    pub fn new(client: Client, members: Members, dirty: Dirty, now: fn() -> Timestamp) -> Self {
        Self {
            client,
            members,
            dirty,
            now,
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
        let status = entry.object.status.as_ref();
        let unreachable = status.and_then(|status| status.unreachable_since.as_ref());
        let member = Followed {
            name: name.clone(),
            spec: spec.clone(),
            unreachable_since: unreachable.map(|since| since.0),
            answered: status
                .and_then(|status| status.health.as_deref())
                .is_some_and(|health| !matches!(health, "NotObserved" | "Misconfigured")),
            now: self.now,
        };
        let task = tokio::spawn(watch(client, members, dirty, member));
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

/// A member whose Secret is watched.
struct Followed {
    name: Name,
    spec: MemberClusterSpec,
    /// As it was stored before; told once.
    unreachable_since: Option<Timestamp>,
    /// It answered an operator before, by its stored health.
    answered: bool,
    now: fn() -> Timestamp,
}

/// The task that renews a token; it ends with this.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Followed {
    fn configure(&mut self, members: &Members, kubeconfig: Result<&[u8], String>) {
        members.configure(&self.name, &self.spec, kubeconfig);
        if std::mem::take(&mut self.answered) {
            members.vouch_for(&self.name);
        }
        if let Some(since) = self.unreachable_since.take() {
            members.restore_unreachable(&self.name, since);
        }
    }
}

async fn watch(client: Client, members: Members, dirty: Dirty, mut member: Followed) {
    let name = member.name.clone();
    let reference = &member.spec.kubeconfig_secret.clone();
    let api: Api<Secret> = Api::namespaced(client.clone(), &reference.namespace);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", reference.name));
    let stream = watcher(api, only).backoff(again::soon());
    pin_mut!(stream);
    let mut listed = None;
    // Once the Secret was read, its last known contents stand.
    let mut configured = false;
    let mut task: Option<Task> = None;
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
                    member.configure(&members, Err(unreadable(reference)));
                    dirty.mark();
                }
                continue;
            }
        };
        let kubeconfig = kubeconfig(secret.as_ref(), reference);
        member.configure(&members, kubeconfig);
        members.set_renewal(
            &name,
            secret
                .as_ref()
                .and_then(|secret| renewal::lasting(secret, &reference.key)),
        );
        dirty.mark();
        let renewing = Renewing {
            client: client.clone(),
            members: members.clone(),
            dirty: dirty.clone(),
            name: name.clone(),
            reference: reference.clone(),
            now: member.now,
        };
        let earliest = configured.then(|| Instant::now() + renewal::LEAST);
        configured = true;
        let renewing = tokio::spawn(renewing.run(secret.unwrap_or_default(), earliest));
        // The one before it ends.
        drop(task.replace(Task(renewing.abort_handle())));
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
