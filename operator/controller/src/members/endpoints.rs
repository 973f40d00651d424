//! Addresses behind a Service on a member, from its EndpointSlices.

use super::live::Live;
use crate::{declared::Declared, edge::EndpointAddress};
use flambeau_planner::model::{Kind, Name};
use serde::Deserialize;
use std::net::IpAddr;

/// What one EndpointSlice says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    service: Name,
    ports: Vec<(Option<Box<str>>, u16)>,
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    ip: IpAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
}

#[derive(Deserialize)]
struct RawPort {
    name: Option<Box<str>>,
    port: Option<u16>,
}

#[derive(Deserialize)]
struct RawEndpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: RawConditions,
}

#[derive(Default, Deserialize)]
struct RawConditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// The kind of EndpointSlices.
pub(super) fn slice_kind() -> Kind {
    Kind {
        api_version: "discovery.k8s.io/v1".into(),
        kind: "EndpointSlice".into(),
    }
}

impl Slice {
    /// Reads an EndpointSlice; none for any other kind, and for a slice of
    /// no Service.
    pub fn of(kind: &Kind, live: &Live) -> Option<Self> {
        if *kind.kind != *"EndpointSlice" || !kind.api_version.starts_with("discovery.k8s.io/") {
            return None;
        }
        let service = live.metadata.labels.get("kubernetes.io/service-name")?;
        let ports: Vec<RawPort> = list(live, "ports");
        let endpoints: Vec<RawEndpoint> = list(live, "endpoints");
        let ports = ports
            .into_iter()
            .filter_map(|port| Some((port.name.filter(|name| !name.is_empty()), port.port?)))
            .collect();
        let addresses = endpoints.iter().flat_map(|endpoint| {
            let conditions = &endpoint.conditions;
            // Absent means ready (https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions).
            let ready = conditions.ready.unwrap_or(true);
            // All addresses of one endpoint are the same pod: the first counts.
            let ip = endpoint.addresses.first()?.parse().ok();
            ip.filter(|ip| is_elsewhere(*ip)).map(|ip| Address {
                ip,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
            })
        });
        Some(Self {
            service: service.as_str().into(),
            ports,
            addresses: addresses.collect(),
        })
    }

    /// The addresses of a port of a Service, by the port's name.
    pub fn addresses(
        &self,
        service: &str,
        port: Option<&str>,
    ) -> impl Iterator<Item = EndpointAddress> {
        let number = (*self.service == *service)
            .then(|| self.ports.iter().find(|(name, _)| name.as_deref() == port))
            .flatten()
            .map(|(_, number)| *number);
        number.into_iter().flat_map(|port| {
            self.addresses.iter().map(move |address| EndpointAddress {
                ip: address.ip,
                port,
                ready: address.ready,
                serving: address.serving,
                terminating: address.terminating,
            })
        })
    }
}

/// Whether an address can be that of a pod on a member. One that means the
/// machine which connects to it, or its neighbours on the same link (where
/// clouds hand out credentials), or many machines, would lead requests of users
/// and the operator's own connections to where nobody wants them. API servers
/// refuse these in an EndpointSlice
/// (<https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoint-slice-v1/>);
/// one that lies may not.
fn is_elsewhere(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let of_this_link = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(of_this_link || ip.is_loopback() || ip.is_unspecified() || ip.is_multicast())
}

fn list<T: for<'de> Deserialize<'de>>(live: &Live, field: &str) -> Vec<T> {
    live.fields
        .get(field)
        .and_then(|value| Vec::<T>::deserialize(value).ok())
        .unwrap_or_default()
}

/// The Service that takes the traffic of an application, and the name of its
/// port; none without traffic, or when the Service declares no such port.
pub(super) fn traffic_port(declared: &Declared) -> Option<(&str, Option<&str>)> {
    let traffic = declared.traffic.as_ref()?;
    let service = declared.objects.iter().find(|object| {
        *object.kind.kind == *"Service"
            && *object.kind.api_version == *"v1"
            && object.name == traffic.service
    })?;
    Some((&service.name, service.port_name(traffic.port)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice() -> Slice {
        let live = serde_json::from_value(json!({
            "metadata": {"name": "web-abc", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "metrics", "port": 9090}, {"name": "any"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.3"]},
                {"addresses": ["host.example.org"]}
            ]
        }))
        .unwrap();
        Slice::of(&slice_kind(), &live).unwrap()
    }

    #[test]
    fn addresses_of_the_port_with_their_conditions() {
        let addresses: Vec<_> = slice().addresses("web", Some("http")).collect();
        let shown: Vec<_> = addresses
            .iter()
            .map(|one| {
                (
                    one.ip.to_string(),
                    one.port,
                    one.ready,
                    one.serving,
                    one.terminating,
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("10.0.0.1".to_owned(), 8080, true, true, false),
                ("10.0.0.2".to_owned(), 8080, false, true, true),
                ("10.0.0.3".to_owned(), 8080, true, true, false),
            ]
        );
    }

    #[test]
    fn addresses_that_are_nowhere_or_here_are_left_out() {
        let addresses = |addresses: &[&str]| {
            let endpoints: Vec<_> = addresses
                .iter()
                .map(|one| json!({"addresses": [one]}))
                .collect();
            let live = json!({
                "metadata": {"name": "web", "labels": {"kubernetes.io/service-name": "web"}},
                "ports": [{"port": 80}], "endpoints": endpoints,
            });
            let slice = Slice::of(&slice_kind(), &serde_json::from_value(live).unwrap()).unwrap();
            slice.addresses("web", None).count()
        };
        for ip in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert_eq!(addresses(&[ip]), 0, "{ip}");
            assert_eq!(addresses(&[ip, "10.0.0.1"]), 1, "{ip}");
        }
        assert_eq!(
            addresses(&[
                "10.0.0.1",
                "192.168.0.1",
                "100.64.0.1",
                "fd00::1",
                "2001:db8::1"
            ]),
            5
        );
    }

    #[test]
    fn other_services_and_ports_have_none() {
        assert_eq!(slice().addresses("web", Some("admin")).count(), 0);
        assert_eq!(slice().addresses("web", None).count(), 0);
        assert_eq!(slice().addresses("shop", Some("http")).count(), 0);
    }
}
