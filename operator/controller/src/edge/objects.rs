//! The objects of the edge as Flambeau writes them: pure builders.
//!
//! Every field that the API server would fill in is written, so that what is
//! stored can be compared with what is wanted.

use super::{
    EndpointAddress,
    backend::Backend,
    route::{self, BackendReference, HttpRoute, ParentReference, RouteSpec, Rule, Timeouts},
};
use crate::declared::{Declared, DeclaredTraffic};
use flambeau_crds::{APPLICATION_LABEL, CLUSTER_LABEL, FIELD_MANAGER};
use flambeau_planner::model::ApplicationKey;
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use serde_json::json;
use std::{collections::BTreeMap, fmt::Write};

/// Label of everything that Flambeau writes
/// (<https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/>).
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Label that ties an EndpointSlice to its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label that keeps other controllers away from an EndpointSlice.
pub const SLICE_MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// Name of the one port, the same on Service and EndpointSlice.
const PORT_NAME: &str = "http";

/// The most endpoints that one EndpointSlice holds
/// (`discovery.k8s.io/v1`, EndpointSlice `endpoints`).
const ENDPOINTS_PER_SLICE: usize = 1000;

/// Envoy refuses what is above 1,024 connections or requests at a backend at
/// once unless told otherwise
/// (<https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/circuit_breaker.proto>);
/// long-lived streams reach that soon, and an application that moves must not
/// meet a limit that its owner never set. It also sends no more than 3
/// requests again at once, fewer than a pod that dies under load leaves
/// behind. Contour reads these annotations.
const LIMITS: [(&str, &str); 4] = [
    ("projectcontour.io/max-connections", "100000"),
    ("projectcontour.io/max-pending-requests", "100000"),
    ("projectcontour.io/max-requests", "100000"),
    ("projectcontour.io/max-retries", "1000"),
];

/// When a request is sent again, to whichever pod is next, because it never
/// reached one: nothing is done twice. Contour reads no retry policy from
/// routes; Envoy's router takes it from a request's headers, which do not go
/// on to the pod
/// (<https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on>).
const RETRY_UNSENT: &str = "connect-failure,refused-stream,reset-before-request";

/// Requests by safe methods may be sent again even when a pod may have begun
/// with them, as long as it did not answer (RFC 9110, 9.2.1 and 9.2.2): a pod
/// that ends closes connections on which the next request is on its way.
const RETRY_SAFE: &str = "connect-failure,refused-stream,reset";

/// The safe methods that carry requests of users (RFC 9110, 9.2.1).
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// How often a request is sent again. Envoy chooses among all pods each time,
/// the dead one included; with one of two dead, one request in 2^15 hits it
/// every time. With all of them dead, the answer is some two seconds late.
const RETRIES: &str = "15";

/// Whether Flambeau writes an annotation.
pub fn is_limit(annotation: &str) -> bool {
    LIMITS.iter().any(|(name, _)| *name == annotation)
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayName {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

fn owner(declared: &Declared) -> OwnerReference {
    OwnerReference {
        api_version: format!("{}/v1alpha1", flambeau_crds::GROUP),
        kind: "GamesApplication".to_owned(),
        name: declared.key.name.to_string(),
        uid: declared.uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn metadata(declared: &Declared, name: String, cluster: Option<&str>) -> ObjectMeta {
    let mut labels = BTreeMap::from([
        (APPLICATION_LABEL.to_owned(), declared.key.name.to_string()),
        (MANAGED_BY_LABEL.to_owned(), FIELD_MANAGER.to_owned()),
    ]);
    if let Some(cluster) = cluster {
        labels.insert(CLUSTER_LABEL.to_owned(), cluster.to_owned());
    }
    ObjectMeta {
        name: Some(name),
        namespace: Some(declared.key.namespace.to_string()),
        labels: Some(labels),
        owner_references: Some(vec![owner(declared)]),
        ..ObjectMeta::default()
    }
}

/// The Service of an application on a cluster: no selector, as its endpoints
/// are mirrored, and headless, as nobody on the hub calls it by address.
pub fn service(declared: &Declared, traffic: &DeclaredTraffic, backend: &Backend) -> Service {
    let name = backend.name.to_string();
    let mut metadata = metadata(declared, name, Some(&backend.cluster));
    metadata.annotations = Some(
        LIMITS
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    );
    let port = i32::from(traffic.port);
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(port)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The EndpointSlices that mirror `endpoints`: one for each port and address
/// family among them, so usually one, and none without endpoints.
pub fn slices(
    declared: &Declared,
    backend: &Backend,
    endpoints: &[EndpointAddress],
) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<(bool, u16), Vec<EndpointAddress>> = BTreeMap::new();
    for endpoint in endpoints {
        let group = (endpoint.ip.is_ipv6(), endpoint.port);
        groups.entry(group).or_default().push(*endpoint);
    }
    let mut slices = Vec::new();
    for ((ipv6, port), mut group) in groups {
        group.sort_unstable();
        group.dedup_by_key(|endpoint| endpoint.ip);
        for (index, chunk) in group.chunks(ENDPOINTS_PER_SLICE).enumerate() {
            let family = if ipv6 { "v6-" } else { "" };
            let mut name = format!("{}-{family}{port}", backend.name);
            if index > 0 {
                let _ = write!(name, "-{index}");
            }
            slices.push(slice(declared, backend, name, chunk));
        }
    }
    slices
}

fn slice(
    declared: &Declared,
    backend: &Backend,
    name: String,
    endpoints: &[EndpointAddress],
) -> EndpointSlice {
    let mut metadata = metadata(declared, name, Some(&backend.cluster));
    metadata.labels.get_or_insert_default().extend([
        (SERVICE_NAME_LABEL.to_owned(), backend.name.to_string()),
        (
            SLICE_MANAGED_BY_LABEL.to_owned(),
            flambeau_crds::GROUP.to_owned(),
        ),
    ]);
    let ipv6 = endpoints.first().is_some_and(|first| first.ip.is_ipv6());
    EndpointSlice {
        metadata,
        address_type: if ipv6 { "IPv6" } else { "IPv4" }.to_owned(),
        ports: Some(vec![EndpointPort {
            name: Some(PORT_NAME.to_owned()),
            port: endpoints.first().map(|first| i32::from(first.port)),
            protocol: Some("TCP".to_owned()),
            app_protocol: None,
        }]),
        endpoints: Some(endpoints.iter().map(endpoint).collect()),
    }
}

fn endpoint(endpoint: &EndpointAddress) -> Endpoint {
    Endpoint {
        addresses: vec![endpoint.ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        ..Endpoint::default()
    }
}

/// The route of an application, with the percentages of requests.
pub fn route<'a>(
    declared: &Declared,
    traffic: &DeclaredTraffic,
    weights: impl Iterator<Item = (&'a Backend, u8)>,
    gateway: &GatewayName,
) -> HttpRoute {
    let backends = weights.map(|(backend, weight)| BackendReference {
        kind: "Service".to_owned(),
        name: backend.name.to_string(),
        port: i32::from(traffic.port),
        weight: i32::from(weight),
        ..BackendReference::default()
    });
    let backends: Vec<BackendReference> = backends.collect();
    let spec = RouteSpec {
        parent_refs: vec![ParentReference {
            group: route::GROUP.to_owned(),
            kind: "Gateway".to_owned(),
            namespace: Some(gateway.namespace.clone()),
            name: gateway.name.clone(),
            section_name: None,
        }],
        hostnames: traffic.hostnames.clone(),
        rules: vec![
            rule(Some(&SAFE_METHODS), RETRY_SAFE, &backends),
            rule(None, RETRY_UNSENT, &backends),
        ],
    };
    let name = declared.key.name.to_string();
    let mut object = HttpRoute::new(&name, &route::resource(), spec);
    object.metadata = metadata(declared, name, None);
    object
}

/// A rule for requests by some methods, or for all others.
fn rule(methods: Option<&[&str]>, retry_on: &str, backends: &[BackendReference]) -> Rule {
    let path = json!({"type": "PathPrefix", "value": "/"});
    let matches = match methods {
        Some(methods) => methods
            .iter()
            .map(|method| json!({"path": path, "method": method}))
            .collect(),
        None => vec![json!({"path": path})],
    };
    Rule {
        matches,
        filters: vec![json!({
            "type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [
                {"name": "x-envoy-retry-on", "value": retry_on},
                {"name": "x-envoy-max-retries", "value": RETRIES},
            ]},
        })],
        // Envoy ends requests after 15 s unless told otherwise, event streams
        // among them.
        timeouts: Some(Timeouts {
            request: Some("0s".to_owned()),
            ..Timeouts::default()
        }),
        backend_refs: backends.to_vec(),
    }
}

/// The application that an object of the edge belongs to.
pub fn application(metadata: &ObjectMeta) -> Option<ApplicationKey> {
    Some(ApplicationKey {
        namespace: metadata.namespace.as_deref()?.into(),
        name: label(metadata, APPLICATION_LABEL)?.into(),
    })
}

/// The value of a label.
pub fn label<'a>(metadata: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    metadata.labels.as_ref()?.get(name).map(String::as_str)
}

/// The endpoints of a slice, as they were written.
pub fn endpoints(slice: &EndpointSlice) -> Vec<EndpointAddress> {
    let ports = slice.ports.iter().flatten();
    let port = ports
        .filter_map(|port| u16::try_from(port.port?).ok())
        .next();
    let endpoints = slice.endpoints.iter().flatten();
    endpoints
        .filter_map(|endpoint| {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            // Nothing said means ready, or the same as ready
            // (`discovery.k8s.io/v1`, EndpointConditions).
            let ready = conditions.ready != Some(false);
            Some(EndpointAddress {
                ip: endpoint.addresses.first()?.parse().ok()?,
                port: port.unwrap_or_default(),
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating == Some(true),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declared() -> Declared {
        Declared {
            key: ApplicationKey {
                namespace: "games".into(),
                name: "shop".into(),
            },
            uid: "uid".to_owned(),
            created: None,
            objects: Vec::new(),
            traffic: None,
        }
    }

    fn endpoint(ip: &str, port: u16) -> EndpointAddress {
        EndpointAddress {
            ip: ip.parse().unwrap(),
            port,
            ready: true,
            serving: true,
            terminating: false,
        }
    }

    fn backend() -> Backend {
        Backend {
            cluster: "ovh".into(),
            name: "shop--ovh-1".into(),
        }
    }

    #[test]
    fn endpoints_of_other_ports_or_families_get_slices_of_their_own() {
        let endpoints = [
            endpoint("10.0.0.2", 8080),
            endpoint("fd00::1", 8080),
            endpoint("10.0.0.1", 8080),
            endpoint("10.0.0.3", 9090),
            endpoint("10.0.0.1", 8080),
        ];
        let slices = slices(&declared(), &backend(), &endpoints);
        let described: Vec<_> = slices
            .iter()
            .map(|slice| {
                let name = slice.metadata.name.clone().unwrap();
                let addresses = slice.endpoints.iter().flatten();
                let addresses: Vec<String> = addresses
                    .flat_map(|endpoint| endpoint.addresses.clone())
                    .collect();
                (name, slice.address_type.clone(), addresses.join(" "))
            })
            .collect();
        let expected = [
            ("shop--ovh-1-8080", "IPv4", "10.0.0.1 10.0.0.2"),
            ("shop--ovh-1-9090", "IPv4", "10.0.0.3"),
            ("shop--ovh-1-v6-8080", "IPv6", "fd00::1"),
        ];
        let expected = expected.map(|(name, family, addresses)| {
            (name.to_owned(), family.to_owned(), addresses.to_owned())
        });
        assert_eq!(described, expected);
    }

    #[test]
    fn a_slice_holds_no_more_endpoints_than_the_api_takes() {
        let endpoints: Vec<EndpointAddress> = (0..1001u32)
            .map(|index| EndpointAddress {
                ip: std::net::Ipv4Addr::from(0x0a00_0000 + index).into(),
                ..endpoint("10.0.0.0", 80)
            })
            .collect();
        let slices = slices(&declared(), &backend(), &endpoints);
        let read: Vec<Vec<EndpointAddress>> = slices.iter().map(super::endpoints).collect();
        assert_eq!((read[0].len(), read[1].len()), (1000, 1));
        assert_eq!(read.concat(), endpoints, "what is read is what was written");
        assert_ne!(slices[0].metadata.name, slices[1].metadata.name);
    }
}
