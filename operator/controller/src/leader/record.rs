//! What a Lease says, and what is written into it.

use super::LeaseSettings;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{ResourceExt, api::ObjectMeta};
use std::time::Duration;

/// What a candidate compares: any difference says that the holder lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    version: Option<String>,
    pub holder: String,
    pub acquired: Option<Timestamp>,
    /// How long the holder was granted, unless it does not say.
    pub granted: Option<Duration>,
    transitions: i32,
}

impl Record {
    pub fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        Self {
            version: lease.resource_version(),
            holder: spec.holder_identity.unwrap_or_default(),
            acquired: spec.acquire_time.map(|time| time.0),
            granted: spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .map(Duration::from_secs),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }

    /// Nobody holds it: it was released.
    pub fn free(&self) -> bool {
        self.holder.is_empty()
    }
}

/// One time of holding the Lease. The moment at which it was taken tells it
/// from that of another process under the same identity.
#[derive(Clone, Debug)]
pub(super) struct Term {
    acquired: Timestamp,
    transitions: i32,
    pub lease: Lease,
}

impl Term {
    /// Takes a Lease that is there, or a new one.
    pub fn new(settings: &LeaseSettings, before: Option<(Lease, &Record)>) -> Self {
        let acquired = now();
        let (lease, transitions) = match before {
            // Transitions count changes of the holder.
            Some((lease, record)) if record.holder == settings.identity => {
                (lease, record.transitions)
            }
            Some((lease, record)) => (lease, record.transitions.saturating_add(1)),
            None => (named(settings), 0),
        };
        let mut term = Self {
            acquired,
            transitions,
            lease,
        };
        term.fill(settings);
        term
    }

    /// Whether a Lease is held by this very term.
    pub fn holds(&self, settings: &LeaseSettings, record: &Record) -> bool {
        record.holder == settings.identity && record.acquired == Some(self.acquired)
    }

    /// Writes the term and the present time into the Lease.
    pub fn fill(&mut self, settings: &LeaseSettings) {
        self.lease.spec = Some(LeaseSpec {
            holder_identity: Some(settings.identity.clone()),
            lease_duration_seconds: i32::try_from(settings.timing.lease.as_secs()).ok(),
            acquire_time: Some(MicroTime(self.acquired)),
            renew_time: Some(MicroTime(now())),
            lease_transitions: Some(self.transitions),
            ..LeaseSpec::default()
        });
    }

    /// Writes into the Lease that nobody holds it.
    pub fn clear(&mut self, settings: &LeaseSettings) {
        self.fill(settings);
        if let Some(spec) = &mut self.lease.spec {
            // As client-go does, whose users read it.
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
    }

    /// The Lease as if it had never been stored: it was deleted.
    pub fn unstored(&mut self, settings: &LeaseSettings) {
        self.lease = named(settings);
        self.fill(settings);
    }
}

fn named(settings: &LeaseSettings) -> Lease {
    Lease {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            ..ObjectMeta::default()
        },
        spec: None,
    }
}

/// As exact as the API stores it, so that what is read equals what was
/// written.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}
