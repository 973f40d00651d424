//! Which namespaced kinds a member serves, by aggregated discovery: two
//! requests, and none of their bodies when nothing changed.

use super::{
    connection::{Connection, REQUEST_TIMEOUT, RequestError, get},
    member::Member,
    metrics::Verb,
};
use crate::text::cut;
use flambeau_planner::model::{Kind, Name};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep, sleep_until};

/// How often discovery is repeated.
const INTERVAL: Duration = Duration::from_secs(30);
/// How often while a kind that some application needs is not served.
const INTERVAL_WHILE_MISSING: Duration = Duration::from_secs(3);
/// How soon after a failure.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The longest version that is passed on.
const VERSION_LIMIT: usize = 64;

/// Kubernetes 1.30 and newer answer this (<https://kubernetes.io/docs/concepts/overview/kubernetes-api/#aggregated-discovery>).
const ACCEPT: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// What a member serves.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Discovery {
    /// Namespaced kinds that can be listed, watched, applied and deleted.
    pub kinds: Arc<BTreeSet<Kind>>,
    /// Those of them that applications must not have there.
    pub refused: Arc<BTreeSet<Kind>>,
    /// Where they are found.
    pub resources: HashMap<Kind, Resource>,
}

impl Discovery {
    /// Where the objects of a kind are read and deleted: in the version of the
    /// kind, or else in another one of its group that the member serves.
    pub fn any_version(&self, kind: &Kind) -> Option<&Resource> {
        let group = |kind: &Kind| {
            let version = &kind.api_version;
            version.rsplit_once('/').map(|(group, _)| group.to_owned())
        };
        self.resources.get(kind).or_else(|| {
            let same = |other: &&Kind| other.kind == kind.kind && group(other) == group(kind);
            self.resources.get(self.kinds.iter().find(same)?)
        })
    }
}

/// Where a kind is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resource {
    root: Arc<str>,
    plural: Arc<str>,
}

impl Resource {
    /// A resource under a path such as `/apis/apps/v1`, in the plural.
    #[cfg(test)]
    pub fn new(root: &str, plural: &str) -> Self {
        Self {
            root: root.into(),
            plural: plural.into(),
        }
    }

    /// Its group; empty for the first of all.
    pub fn group(&self) -> &str {
        let mut path = self.root.trim_start_matches("/apis/").split('/');
        match path.next() {
            Some("") | None => "",
            Some(group) => group,
        }
    }

    /// As kubectl names it: in the plural and with its group.
    pub fn name(&self) -> String {
        match self.group() {
            "" => self.plural.to_string(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether it is where a kind is found, judging by path.
    pub fn is_endpoint_slices(&self) -> bool {
        self.name() == "endpointslices.discovery.k8s.io"
    }

    /// Path of the objects of all namespaces.
    pub fn everywhere(&self) -> String {
        format!("{}/{}", self.root, self.plural)
    }

    /// Path of the objects of a namespace.
    pub fn within(&self, namespace: &str) -> String {
        format!(
            "{}/namespaces/{}/{}",
            self.root,
            encoded(namespace),
            self.plural
        )
    }

    /// Path of one object.
    pub fn object(&self, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.within(namespace), encoded(name))
    }
}

/// A name as one segment of a path: names of some kinds hold more than
/// letters.
pub(super) fn encoded(name: &str) -> String {
    use std::fmt::Write;
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            path.push(byte.into());
        } else {
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[derive(Default)]
struct Document {
    etag: Option<HeaderValue>,
    found: Vec<(Kind, Resource)>,
}

/// Keeps what a member serves up to date, until it is stopped.
pub(super) async fn run(member: Arc<Member>, connection: Arc<Connection>) {
    let mut documents = [
        ("/api", Document::default()),
        ("/apis", Document::default()),
    ];
    let mut generation = member.health.generation();
    let mut wanted = member.shared.wanted.subscribe();
    loop {
        let asked = Instant::now();
        let pause = match refresh(&member, &connection, &mut documents).await {
            Ok(()) => {
                member.health.complain(&member, None);
                if member.lacks_wanted_kind() {
                    INTERVAL_WHILE_MISSING
                } else {
                    INTERVAL
                }
            }
            Err(error) => {
                tracing::debug!(cluster = %member.name, %error, "discovery failed");
                if error.code() == Some(403) {
                    let message = format!(
                        "the credentials of the kubeconfig may not ask {} which kinds it serves: grant them ClusterRole system:discovery",
                        connection.server
                    );
                    member.health.complain(&member, Some(message));
                }
                INTERVAL_AFTER_FAILURE
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            // At once, but not again and again.
            () = member.rediscover.notified() => sleep_until(asked + INTERVAL_AFTER_FAILURE).await,
            changed = generation.changed() => if changed.is_err() { return },
            changed = wanted.changed() => if changed.is_err() || !member.lacks_wanted_kind() {
                if changed.is_err() { return }
                sleep(INTERVAL_AFTER_FAILURE).await;
            },
        }
    }
}

async fn refresh(
    member: &Member,
    connection: &Connection,
    documents: &mut [(&'static str, Document); 2],
) -> Result<(), RequestError> {
    if member.version().is_none() {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            git_version: String,
        }
        let answer = connection
            .call(Verb::Get, get("/version")?, REQUEST_TIMEOUT)
            .await?;
        let version = answer.json::<Version>()?.git_version;
        member.set_version(cut(version, VERSION_LIMIT));
    }
    for (path, document) in &mut *documents {
        fetch(connection, path, document).await?;
    }
    let resources: HashMap<Kind, Resource> = documents
        .iter()
        .flat_map(|(_, document)| document.found.iter().cloned())
        .collect();
    let kinds = Arc::new(resources.keys().cloned().collect());
    let limits = member.limits();
    let refused = resources
        .iter()
        .filter(|(_, resource)| !limits.allow(resource));
    let refused = Arc::new(refused.map(|(kind, _)| kind.clone()).collect());
    member.set_discovery(Discovery {
        kinds,
        refused,
        resources,
    });
    Ok(())
}

async fn fetch(
    connection: &Connection,
    path: &'static str,
    document: &mut Document,
) -> Result<(), RequestError> {
    let mut request = get(path)?;
    request
        .headers_mut()
        .insert(header::ACCEPT, HeaderValue::from_static(ACCEPT));
    if let Some(etag) = &document.etag {
        request
            .headers_mut()
            .insert(header::IF_NONE_MATCH, etag.clone());
    }
    let answer = connection.call(Verb::Get, request, REQUEST_TIMEOUT).await?;
    if answer.status == StatusCode::NOT_MODIFIED {
        return Ok(());
    }
    let groups: Groups = answer.json()?;
    document.found = groups.resources(path, &document.found);
    document.etag = answer.etag;
    Ok(())
}

#[derive(Deserialize)]
struct Groups {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: GroupMeta,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct GroupMeta {
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<RawResource>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawResource {
    resource: String,
    #[serde(default)]
    response_kind: Option<ResponseKind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: HashSet<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    #[serde(default)]
    kind: String,
}

impl Groups {
    /// The namespaced kinds; a group whose server does not answer keeps what
    /// it had before: unknown is not absent.
    fn resources(self, root: &str, before: &[(Kind, Resource)]) -> Vec<(Kind, Resource)> {
        let mut found = Vec::new();
        for group in self.items {
            for version in group.versions {
                let api_version: Name = match group.metadata.name.as_str() {
                    "" => version.version.as_str().into(),
                    name => format!("{name}/{}", version.version).into(),
                };
                if version.freshness == "Stale" {
                    found.extend(
                        before
                            .iter()
                            .filter(|(kind, _)| kind.api_version == api_version)
                            .cloned(),
                    );
                    continue;
                }
                let root: Arc<str> = format!("{root}/{api_version}").into();
                for resource in version.resources {
                    let usable = ["list", "watch", "get", "patch", "delete"]
                        .iter()
                        .all(|verb| resource.verbs.contains(*verb));
                    let Some(kind) = resource.response_kind.filter(|kind| !kind.kind.is_empty())
                    else {
                        continue;
                    };
                    if usable && resource.scope == "Namespaced" {
                        let kind = Kind {
                            api_version: api_version.clone(),
                            kind: kind.kind.into(),
                        };
                        let resource = Resource {
                            root: root.clone(),
                            plural: resource.resource.into(),
                        };
                        found.push((kind, resource));
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn groups(freshness: &str, resources: serde_json::Value) -> Groups {
        serde_json::from_value(
            json!({"items": [{"metadata": {"name": "apps"}, "versions": [
            {"version": "v1", "freshness": freshness, "resources": resources}]}]}),
        )
        .unwrap()
    }

    fn deployments() -> serde_json::Value {
        json!([
            {"resource": "deployments", "responseKind": {"group": "", "version": "", "kind": "Deployment"}, "scope": "Namespaced",
                "verbs": ["get", "list", "watch", "patch", "delete", "create"], "subresources": []},
            {"resource": "reviews", "responseKind": {"kind": "Review"}, "scope": "Namespaced", "verbs": ["create"]},
            {"resource": "nodes", "responseKind": {"kind": "Node"}, "scope": "Cluster",
                "verbs": ["get", "list", "watch", "patch", "delete"]}
        ])
    }

    #[test]
    fn finds_namespaced_kinds_that_can_be_kept() {
        let found = groups("Current", deployments()).resources("/apis", &[]);
        assert_eq!(found.len(), 1);
        let (kind, resource) = &found[0];
        assert_eq!(kind.to_string(), "apps/v1/Deployment");
        assert_eq!(
            resource.object("games", "web"),
            "/apis/apps/v1/namespaces/games/deployments/web"
        );
        assert_eq!(resource.everywhere(), "/apis/apps/v1/deployments");
    }

    #[test]
    fn a_group_that_does_not_answer_keeps_its_kinds() {
        let before = groups("Current", deployments()).resources("/apis", &[]);
        assert_eq!(
            groups("Stale", json!([])).resources("/apis", &before),
            before
        );
    }

    #[test]
    fn a_kind_is_found_in_another_version_of_its_group() {
        let found = groups("Current", deployments()).resources("/apis", &[]);
        let discovery = Discovery {
            kinds: Arc::new(found.iter().map(|(kind, _)| kind.clone()).collect()),
            resources: found.into_iter().collect(),
            ..Discovery::default()
        };
        let path = |api_version: &str, kind: &str| {
            let kind = Kind {
                api_version: api_version.into(),
                kind: kind.into(),
            };
            discovery.any_version(&kind).map(Resource::everywhere)
        };
        let here = Some("/apis/apps/v1/deployments".to_owned());
        assert_eq!(path("apps/v1", "Deployment"), here);
        assert_eq!(path("apps/v1beta2", "Deployment"), here);
        assert_eq!(path("apps/v1", "StatefulSet"), None);
        assert_eq!(path("extensions/v1", "Deployment"), None);
        assert_eq!(path("v1", "Deployment"), None);
    }

    #[test]
    fn names_stay_within_their_segment_of_the_path() {
        assert_eq!(encoded("system:admin"), "system%3Aadmin");
        assert_eq!(encoded("a/../b?c"), "a%2F..%2Fb%3Fc");
    }
}
