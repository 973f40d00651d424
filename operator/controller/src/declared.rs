//! What an application declares, in the form in which it is written.

use flambeau_planner::model::{ApplicationKey, Kind, Name};
use serde_json::Value;
use std::sync::Arc;

/// The objects of one application, made once per change of its specification.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Namespace and name of the application.
    pub key: ApplicationKey,
    /// UID of the GamesApplication, for owner references on the hub.
    pub uid: String,
    /// Its objects, in the order in which they are written.
    pub objects: Vec<DeclaredObject>,
    /// How requests reach it; none without traffic.
    pub traffic: Option<DeclaredTraffic>,
}

/// One object of an application.
#[derive(Clone, Debug, PartialEq)]
pub struct DeclaredObject {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The manifest as declared: no namespace, none of Flambeau's labels or
    /// annotations.
    pub manifest: Arc<Value>,
    /// Digest of the manifest, the value of the digest annotation.
    pub digest: Arc<str>,
}

/// How requests reach an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredTraffic {
    /// Host names.
    pub hostnames: Vec<String>,
    /// Name of the Service on the member.
    pub service: Name,
    /// Port of the Service.
    pub port: u16,
}
