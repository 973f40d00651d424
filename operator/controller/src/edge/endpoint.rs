//! One endpoint of an application on a member, as the edge needs it.

use std::net::IpAddr;

/// A pod's address behind the Service of an application, with the three
/// conditions of `discovery.k8s.io/v1` (Kubernetes API, EndpointConditions).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointAddress {
    /// Address, as the edge can reach it.
    pub ip: IpAddr,
    /// Port on which the pod listens (the target port, not the Service's).
    pub port: u16,
    /// New requests may go there. Never true while terminating, unless the
    /// Service publishes addresses that are not ready.
    pub ready: bool,
    /// It answers requests, terminating or not.
    pub serving: bool,
    /// Its pod was asked to end.
    pub terminating: bool,
}
