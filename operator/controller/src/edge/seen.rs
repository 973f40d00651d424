//! Objects of the edge, reduced to what matters: a digest of what Flambeau
//! writes, and what else is asked for.

use super::{
    EndpointAddress,
    objects::{self, GatewayName},
    route::{HttpRoute, ParentStatus},
};
use flambeau_crds::CLUSTER_LABEL;
use flambeau_planner::model::{ApplicationKey, Name};
use k8s_openapi::{
    api::{core::v1::Service, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use std::hash::{DefaultHasher, Hash, Hasher};

/// An object of the edge, reduced to what matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Application.
    pub key: ApplicationKey,
    /// Cluster; none for the route.
    pub cluster: Option<Name>,
    /// Name of the object.
    pub name: Name,
    /// `metadata.resourceVersion`; grows with every write (Kubernetes API
    /// concepts, since 1.35 officially comparable).
    pub version: u64,
    /// Digest of everything that Flambeau writes.
    pub digest: u64,
    /// What else is asked for.
    pub detail: Detail,
}

impl Seen {
    /// The Service that an EndpointSlice belongs to.
    pub fn service(&self) -> Option<&Name> {
        match &self.detail {
            Detail::Slice { service, .. } => Some(service),
            Detail::Service | Detail::Route(_) => None,
        }
    }

    /// The endpoints of an EndpointSlice.
    pub fn endpoints(&self) -> &[EndpointAddress] {
        match &self.detail {
            Detail::Slice { endpoints, .. } => endpoints,
            Detail::Service | Detail::Route(_) => &[],
        }
    }
}

/// What else is asked for of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    Service,
    /// The endpoints of a Service.
    Slice {
        /// Name of the Service.
        service: Name,
        /// Its endpoints, or a part of them.
        endpoints: Box<[EndpointAddress]>,
    },
    /// Weights and what the gateway says.
    Route(RouteDetail),
}

/// Weights and what the gateway says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteDetail {
    /// Services with their ports and weights.
    pub backends: Vec<RoutedBackend>,
    /// The gateway took the route as stored.
    pub acknowledged: bool,
    /// The gateway speaks of an older generation of the route.
    pub outdated: bool,
    /// Why it did not, in its own words.
    pub problem: Option<String>,
}

/// One weighted Service of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedBackend {
    /// Name of the Service.
    pub name: Name,
    /// Port of the Service.
    pub port: i32,
    /// Weight.
    pub weight: i32,
}

fn hashed(metadata: &ObjectMeta, rest: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    let ours = [
        flambeau_crds::APPLICATION_LABEL,
        CLUSTER_LABEL,
        objects::MANAGED_BY_LABEL,
        objects::SERVICE_NAME_LABEL,
        objects::SLICE_MANAGED_BY_LABEL,
    ];
    ours.map(|name| objects::label(metadata, name))
        .hash(&mut hasher);
    let owners = metadata.owner_references.iter().flatten();
    let owners: Vec<&str> = owners.map(|owner| owner.uid.as_str()).collect();
    owners.hash(&mut hasher);
    rest.hash(&mut hasher);
    hasher.finish()
}

fn seen(metadata: &ObjectMeta, digest: u64, detail: Detail) -> Option<Seen> {
    Some(Seen {
        key: objects::application(metadata)?,
        cluster: objects::label(metadata, CLUSTER_LABEL).map(Name::from),
        name: metadata.name.as_deref()?.into(),
        version: metadata
            .resource_version
            .as_deref()
            .and_then(|version| version.parse().ok())
            .unwrap_or_default(),
        digest,
        detail,
    })
}

/// A Service; none when its labels do not say whose it is.
pub fn service(object: &Service) -> Option<Seen> {
    let spec = object.spec.clone().unwrap_or_default();
    let ports: Vec<String> = spec
        .ports
        .iter()
        .flatten()
        .map(|port| {
            let (name, protocol, target) = (&port.name, &port.protocol, &port.target_port);
            format!("{name:?} {} {protocol:?} {target:?}", port.port)
        })
        .collect();
    // Whatever annotation Flambeau does not write is somebody else's.
    let annotations = object.metadata.annotations.iter().flatten();
    let limits: Vec<_> = annotations
        .filter(|(name, _)| objects::is_limit(name))
        .collect();
    let selector: Vec<_> = spec.selector.iter().flatten().collect();
    let rest = (spec.type_, spec.cluster_ip, ports, limits, selector);
    seen(
        &object.metadata,
        hashed(&object.metadata, rest),
        Detail::Service,
    )
}

/// An EndpointSlice; none when its labels do not say whose it is.
pub fn slice(object: &EndpointSlice) -> Option<Seen> {
    let ports: Vec<_> = object
        .ports
        .iter()
        .flatten()
        .map(|port| (&port.name, port.port, &port.protocol))
        .collect();
    let endpoints: Vec<_> = object
        .endpoints
        .iter()
        .flatten()
        .map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let conditions = conditions
                .map(|conditions| (conditions.ready, conditions.serving, conditions.terminating));
            (&endpoint.addresses, conditions)
        })
        .collect();
    let digest = hashed(&object.metadata, (&object.address_type, ports, endpoints));
    let detail = Detail::Slice {
        service: objects::label(&object.metadata, objects::SERVICE_NAME_LABEL)
            .unwrap_or_default()
            .into(),
        endpoints: objects::endpoints(object).into(),
    };
    seen(&object.metadata, digest, detail)
}

/// A route; none when its labels do not say whose it is.
pub fn route(object: &HttpRoute, gateway: &GatewayName) -> Option<Seen> {
    // Maps of serde_json are ordered, so that equal specs read the same.
    let spec = serde_json::to_string(&object.spec).unwrap_or_default();
    let rules = object.spec.rules.iter();
    let mut backends: Vec<RoutedBackend> = rules
        .flat_map(|rule| &rule.backend_refs)
        .map(|backend| RoutedBackend {
            name: backend.name.as_str().into(),
            port: backend.port,
            weight: backend.weight,
        })
        .collect();
    // Every rule names the same backends. Where they do not, somebody else
    // wrote them: the largest weight says whether requests go there.
    backends.sort_by(|one, other| (&one.name, other.weight).cmp(&(&other.name, one.weight)));
    backends.dedup_by(|later, first| later.name == first.name);
    let generation = object.metadata.generation.unwrap_or_default();
    let parents = object.status.iter().flat_map(|status| &status.parents);
    let parent = parents.into_iter().find(|parent| {
        parent.parent_ref.name == gateway.name
            && parent.parent_ref.namespace.as_deref() == Some(&*gateway.namespace)
    });
    let detail = RouteDetail {
        backends,
        acknowledged: parent.is_some_and(|parent| {
            condition(parent, "Accepted", generation) == Some(true)
                && condition(parent, "ResolvedRefs", generation) == Some(true)
        }),
        outdated: parent.is_some_and(|parent| {
            let mut conditions = parent.conditions.iter();
            conditions.any(|condition| condition.observed_generation < generation)
        }),
        problem: parent.and_then(|parent| problem(parent, generation)),
    };
    let digest = hashed(&object.metadata, spec);
    seen(&object.metadata, digest, Detail::Route(detail))
}

fn condition(parent: &ParentStatus, kind: &str, generation: i64) -> Option<bool> {
    let mut conditions = parent.conditions.iter();
    let condition = conditions.find(|condition| condition.kind == kind)?;
    (condition.observed_generation == generation).then_some(condition.status == "True")
}

fn problem(parent: &ParentStatus, generation: i64) -> Option<String> {
    let bad = parent.conditions.iter().find(|condition| {
        matches!(condition.kind.as_str(), "Accepted" | "ResolvedRefs")
            && condition.status == "False"
            && condition.observed_generation == generation
    })?;
    let gateway = &parent.parent_ref.name;
    Some(format!(
        "gateway {gateway} refuses the route: {} is False, {}: {}",
        bad.kind, bad.reason, bad.message
    ))
}
