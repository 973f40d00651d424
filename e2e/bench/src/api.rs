//! The plain client that the operator is compared with: one request a write, nothing else.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, WatchEvent};
use kube::{Api, Client, Config};
use serde_json::Value;
use tokio::sync::mpsc;

/// Writes to one cluster at the same time, as the operator does by default.
pub const CONCURRENCY: usize = 16;

const FIELD_MANAGER: &str = "bench";

/// A plain client of one cluster.
#[derive(Clone)]
pub struct Plain(pub Client);

/// An object that a watch reported.
pub struct Arrival {
    /// Number of the cluster, as the watch was told.
    pub cluster: usize,
    /// Its kind.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// When it was seen.
    pub at: Instant,
}

/// What is watched.
#[derive(Clone, Copy)]
pub struct Watched {
    /// Group, version and kind.
    pub kind: (&'static str, &'static str, &'static str),
    /// Its plural.
    pub plural: &'static str,
    /// Namespace.
    pub namespace: &'static str,
    /// Whether changes are reported too.
    pub changes: bool,
}

impl Plain {
    /// A client with the credentials of a kubeconfig.
    pub async fn new(kubeconfig: &Path) -> Result<Self> {
        let shown = kubeconfig.display();
        let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {shown}"))?;
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
            .await
            .with_context(|| format!("use {shown}"))?;
        Ok(Self(Client::try_from(config)?))
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<String> {
        let request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header("content-type", content_type)
            .body(body)?;
        self.0
            .request_text(request)
            .await
            .with_context(|| format!("{method} {path}"))
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self
            .send(Method::GET, path, "application/json", Vec::new())
            .await?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Creates an object.
    pub async fn create(&self, object: &Value) -> Result<()> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", collection(object)?);
        self.send(
            Method::POST,
            &path,
            "application/json",
            serde_json::to_vec(object)?,
        )
        .await
        .map(drop)
    }

    /// Writes an object with server-side apply.
    pub async fn apply(&self, object: &Value) -> Result<()> {
        let name = object["metadata"]["name"]
            .as_str()
            .context("an object without a name")?;
        let path = format!(
            "{}/{name}?fieldManager={FIELD_MANAGER}&force=true",
            collection(object)?
        );
        self.send(
            Method::PATCH,
            &path,
            "application/apply-patch+yaml",
            serde_json::to_vec(object)?,
        )
        .await
        .map(drop)
    }

    /// Sets the status of an object.
    pub async fn set_status(&self, path: &str, status: &Value) -> Result<()> {
        let path = format!("{path}/status?fieldManager={FIELD_MANAGER}");
        self.send(
            Method::PATCH,
            &path,
            "application/merge-patch+json",
            serde_json::to_vec(status)?,
        )
        .await
        .map(drop)
    }

    /// Deletes an object.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, "application/json", Vec::new())
            .await
            .map(drop)
    }

    /// Writes many objects, [`CONCURRENCY`] at a time.
    pub async fn apply_all(&self, objects: &[Value]) -> Result<()> {
        stream::iter(objects)
            .map(|object| self.apply(object))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Creates many objects, [`CONCURRENCY`] at a time.
    pub async fn create_all(&self, objects: &[Value]) -> Result<()> {
        stream::iter(objects)
            .map(|object| self.create(object))
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// Tells of every object of a kind that comes, from now on until the receiver is dropped.
    pub async fn watch(
        &self,
        cluster: usize,
        watched: Watched,
        tell: mpsc::UnboundedSender<Arrival>,
    ) -> Result<()> {
        let (group, version, kind) = watched.kind;
        let resource = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(group, version, kind),
            watched.plural,
        );
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.0.clone(), watched.namespace, &resource);
        let listed = api.list_metadata(&Default::default()).await?;
        let mut from = listed.metadata.resource_version.unwrap_or_default();
        let begin = async move |from: &str| api.watch_metadata(&Default::default(), from).await;
        let mut events = begin(&from).await?.boxed();
        tokio::spawn(async move {
            loop {
                while let Some(Ok(event)) = events.next().await {
                    let at = Instant::now();
                    let object = match event {
                        WatchEvent::Added(object) => object,
                        WatchEvent::Modified(object) if watched.changes => object,
                        WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                            from = object.metadata.resource_version.unwrap_or(from);
                            continue;
                        }
                        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => continue,
                    };
                    from = object.metadata.resource_version.unwrap_or(from);
                    let arrival = Arrival {
                        cluster,
                        kind,
                        name: object.metadata.name.unwrap_or_default(),
                        at,
                    };
                    if tell.send(arrival).is_err() {
                        return;
                    }
                }
                // The API server ends a watch every few minutes; it goes on where it ended.
                match begin(&from).await {
                    Ok(next) => events = next.boxed(),
                    Err(_) => return,
                }
            }
        });
        Ok(())
    }
}

/// The path of the collection that an object belongs to.
fn collection(object: &Value) -> Result<String> {
    let plural = match object["kind"].as_str().unwrap_or_default() {
        "GamesApplication" => "gamesapplications",
        "CloudProvider" => "cloudproviders",
        "MemberCluster" => "memberclusters",
        "SovereigntyPolicy" => "sovereigntypolicies",
        "Namespace" => "namespaces",
        "Secret" => "secrets",
        "ConfigMap" => "configmaps",
        "Deployment" => "deployments",
        other => bail!("no path is known for kind {other:?}"),
    };
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let root = if version.contains('/') { "apis" } else { "api" };
    Ok(match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        None => format!("/{root}/{version}/{plural}"),
    })
}

/// Waits for arrivals until `done` says so.
pub async fn until(
    arrivals: &mut mpsc::UnboundedReceiver<Arrival>,
    what: &str,
    patience: Duration,
    mut done: impl FnMut(&Arrival) -> bool,
) -> Result<Instant> {
    let waiting = async {
        while let Some(arrival) = arrivals.recv().await {
            if done(&arrival) {
                return Ok(arrival.at);
            }
        }
        bail!("{what}: a watch ended")
    };
    match tokio::time::timeout(patience, waiting).await {
        Ok(result) => result,
        Err(_) => bail!("{what}: not within {} s", patience.as_secs()),
    }
}

/// Waits until nothing arrived for a while; returns when each thing did.
pub async fn quiet(
    arrivals: &mut mpsc::UnboundedReceiver<Arrival>,
    pause: Duration,
) -> Vec<Instant> {
    let mut seen = Vec::new();
    while let Ok(Some(arrival)) = tokio::time::timeout(pause, arrivals.recv()).await {
        seen.push(arrival.at);
    }
    seen
}
