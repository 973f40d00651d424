//! The two API servers of a membership, and what is done there: each object by
//! server-side apply, so that doing it again changes nothing.

use crate::{
    failure::Failure,
    hub::FIELD_MANAGER,
    text::{Line, Table, Tone},
};
use anyhow::{Context, anyhow};
use futures::{StreamExt, TryStreamExt, stream};
use kube::{
    Api, Client, Config,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, Preconditions},
    core::{ApiResource, GroupVersionKind},
    discovery::{Discovery, Scope, verbs},
};
use serde_json::Value;
use std::{fmt, time::Duration};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Kinds that are listed at the same time.
const CONCURRENT: usize = 8;
/// The most objects of one kind that are asked for where any but a few matter.
const FEW: u32 = 20;
/// What Kubernetes itself puts into every namespace.
const IN_EVERY_NAMESPACE: [(&str, &str); 2] = [
    ("ServiceAccount", "default"),
    ("ConfigMap", "kube-root-ca.crt"),
];

/// Which API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where Flambeau runs.
    Hub,
    /// Where applications run.
    Member,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Place::Hub => "hub",
            Place::Member => "member",
        })
    }
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was not there.
    Created,
    /// It was there and is different now.
    Changed,
    /// It was there as it should be.
    Unchanged,
    /// It is not there any more.
    Deleted,
    /// It is still there.
    Left,
}

impl Done {
    fn word(self, dry_run: bool) -> Line {
        let (tone, done, would) = match self {
            Done::Created => (Tone::Good, "created", "would be created"),
            Done::Changed => (Tone::Busy, "changed", "would be changed"),
            Done::Unchanged => (Tone::Faint, "unchanged", "unchanged"),
            Done::Deleted => (Tone::Busy, "deleted", "would be deleted"),
            Done::Left => (Tone::Faint, "left", "would be left"),
        };
        Line::new(tone, if dry_run { would } else { done })
    }
}

/// What was done, in order.
pub struct Log {
    table: Table,
    /// Nothing is done, and it is said what would be.
    pub dry_run: bool,
}

impl Log {
    /// Nothing yet.
    pub fn new(dry_run: bool) -> Self {
        Self {
            table: Table::new(&["WHERE", "OBJECT", "DONE"]),
            dry_run,
        }
    }

    /// Notes what became of an object.
    pub fn note(&mut self, place: Place, object: &str, done: Done) {
        let done = done.word(self.dry_run);
        self.table
            .row(vec![place.to_string().into(), object.into(), done]);
    }

    /// As it is printed.
    pub fn lines(&self) -> Vec<Line> {
        self.table.lines()
    }
}

/// One API server.
#[derive(Clone)]
pub struct Side {
    /// Which.
    pub place: Place,
    /// Its client.
    pub client: Client,
}

impl Side {
    /// A member, as somebody.
    ///
    /// # Errors
    /// When the certificates or credentials cannot be used.
    pub fn member(config: Config) -> anyhow::Result<Self> {
        let client =
            Client::try_from(config).context("the kubeconfig of the member cannot be used")?;
        Ok(Self {
            place: Place::Member,
            client,
        })
    }

    /// Brings an object to what a manifest says, in its fields and no others.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn apply(&self, manifest: &Value, log: &mut Log) -> anyhow::Result<()> {
        let (api, name) = self.api(manifest)?;
        let what = title(manifest);
        let before = self.ask("get", &what, api.get_opt(&name)).await?;
        // One that is there belongs to somebody already.
        if before.is_some() && manifest["kind"] == "Namespace" {
            log.note(self.place, &what, Done::Unchanged);
            return Ok(());
        }
        let parameters = PatchParams {
            dry_run: log.dry_run,
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        let patch = Patch::Apply(manifest);
        let patched = api.patch(&name, &parameters, &patch);
        let after = self.ask("patch", &what, patched).await?;
        let done = match before {
            None => Done::Created,
            Some(before) if same(&before, &after) => Done::Unchanged,
            Some(_) => Done::Changed,
        };
        log.note(self.place, &what, done);
        Ok(())
    }

    /// An object as it is, if it is there.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn get(&self, manifest: &Value) -> anyhow::Result<Option<DynamicObject>> {
        let (api, name) = self.api(manifest)?;
        self.ask("get", &title(manifest), api.get_opt(&name)).await
    }

    /// Every object of a kind, in all namespaces, that carries a label.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn list(
        &self,
        (api_version, kind): (&str, &str),
        label: &str,
    ) -> anyhow::Result<Vec<Value>> {
        let resource = resource(api_version, kind)?;
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let selected = ListParams::default().labels(label);
        let list = self.ask("list", kind, api.list(&selected)).await?;
        let objects = list.items.into_iter().map(|mut object| {
            object.types = Some(kube::core::TypeMeta {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
            });
            serde_json::to_value(object)
        });
        Ok(objects.collect::<Result<_, _>>()?)
    }

    /// What is in a namespace, of every kind that the API server knows, but for
    /// events and what is in every namespace; of a kind of which there is
    /// much, some. A kind that cannot be listed counts as something.
    ///
    /// # Errors
    /// When the API server does not say which kinds there are.
    pub async fn inhabitants(&self, namespace: &str) -> anyhow::Result<Vec<String>> {
        let kinds = Discovery::new(self.client.clone()).run_aggregated();
        let kinds = self.ask("get", "its kinds", kinds).await?;
        let kinds = kinds
            .groups()
            .flat_map(|group| group.recommended_resources())
            .filter(|(kind, can)| {
                can.scope == Scope::Namespaced
                    && can.supports_operation(verbs::LIST)
                    && kind.kind != "Event"
            });
        let listed = kinds.map(|(kind, _)| async move {
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), namespace, &kind);
            let some = ListParams::default().limit(FEW);
            let what = format!("{} in namespace {namespace}", kind.kind);
            let names: Vec<String> = match self.ask("list", &what, api.list_metadata(&some)).await {
                Ok(list) => {
                    let names = list.items.into_iter().filter_map(|one| one.metadata.name);
                    names
                        .filter(|name| !IN_EVERY_NAMESPACE.contains(&(&kind.kind, name)))
                        .map(|name| format!("{} {namespace}/{name}", kind.kind))
                        .collect()
                }
                Err(_) => vec![format!("{what}, which cannot be listed")],
            };
            anyhow::Ok(names)
        });
        let listed: Vec<Vec<String>> = stream::iter(listed)
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        Ok(listed.concat())
    }

    /// Deletes an object as it was read; one that is gone is no error.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn delete(&self, object: &Value, log: &mut Log) -> anyhow::Result<()> {
        let (api, name) = self.api(object)?;
        let what = title(object);
        let parameters = DeleteParams {
            dry_run: log.dry_run,
            preconditions: object["metadata"]["uid"].as_str().map(|uid| Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let deleted = async {
            match api.delete(&name, &parameters).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            }
        };
        self.ask("delete", &what, deleted).await?;
        log.note(self.place, &what, Done::Deleted);
        Ok(())
    }

    fn api(&self, manifest: &Value) -> anyhow::Result<(Api<DynamicObject>, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = resource(&text(&manifest["apiVersion"]), &text(&manifest["kind"]))?;
        let api = match manifest["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        Ok((api, text(&manifest["metadata"]["name"])))
    }

    /// Waits for an answer, and explains an error.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn ask<T>(
        &self,
        verb: &'static str,
        what: &str,
        asked: impl Future<Output = kube::Result<T>>,
    ) -> anyhow::Result<T> {
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.explain(verb, what, error)),
            Err(_) => Err(anyhow!(
                "the API server of the {} does not answer within {} s",
                self.place,
                PATIENCE.as_secs()
            )),
        }
    }

    fn explain(&self, verb: &'static str, what: &str, error: kube::Error) -> anyhow::Error {
        let place = self.place;
        let kube::Error::Api(status) = &error else {
            return anyhow::Error::new(error)
                .context(format!("the API server of the {place} cannot be asked"));
        };
        match (status.code, place) {
            (403, Place::Hub) if status.message.contains(" cannot ") => {
                let user = status.message.split('"').nth(3).unwrap_or("your user");
                Failure::Forbidden {
                    user: user.to_owned(),
                    verb,
                    resource: what.to_owned(),
                    place: String::new(),
                }
                .into()
            }
            (403, Place::Member) => anyhow!(
                "{what}: the member refuses: {}: the user of --kubeconfig-of-member must be \
                 permitted to grant what Flambeau needs, as an administrator is",
                status.message
            ),
            (401, Place::Member) => anyhow!(
                "the member does not know the user of --kubeconfig-of-member: {}: renew its \
                 credentials",
                status.message
            ),
            (404, Place::Member) if what.starts_with("ValidatingAdmissionPolicy") => anyhow!(
                "{what}: the member does not serve this kind, which refuses what an old leader \
                 writes: bring it to Kubernetes 1.30 or newer"
            ),
            (404, Place::Hub) if what.starts_with("MemberCluster") => anyhow!(
                "the hub does not serve MemberCluster: it is not a hub of Flambeau (choose another \
                 with --context), or Flambeau is not installed there"
            ),
            _ => anyhow!("{what}: the {place} refuses: {}", status.message),
        }
    }
}

/// Kind, namespace and name.
pub fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}

fn resource(api_version: &str, kind: &str) -> anyhow::Result<ApiResource> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    anyhow::ensure!(!version.is_empty(), "{kind} without an apiVersion");
    let kind = GroupVersionKind::gvk(group, version, kind);
    Ok(ApiResource::from_gvk(&kind))
}

/// Whether a write changed nothing; of one that was only tried, by what would
/// be there.
fn same(before: &DynamicObject, after: &DynamicObject) -> bool {
    let plain = |object: &DynamicObject| {
        let mut object = object.clone();
        object.metadata.managed_fields = None;
        object.metadata.resource_version = None;
        object.metadata.generation = None;
        object
    };
    before.metadata.resource_version == after.metadata.resource_version
        || plain(before) == plain(after)
}
