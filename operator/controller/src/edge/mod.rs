//! The edge: routes, backends and what they report.

mod endpoint;

pub use endpoint::EndpointAddress;
