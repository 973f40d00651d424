//! Which Lease, under which name, for how long.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Where a pod finds the name of its namespace
/// (<https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>).
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Where the Lease is outside of a pod.
const NAMESPACE: &str = "flambeau-system";

/// Which Lease is held, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Namespace of the Lease; it must exist.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this process is. A Lease that is held by this very identity is
    /// taken over at once: its holder is the process before this one.
    pub identity: String,
    /// How long a Lease is held.
    pub timing: Timing,
}

/// How long a Lease is granted, and what follows from it.
///
/// By default 10 s, 6 s and 1.5 s. client-go's 15, 10 and 2 s would hold up
/// the failover of every application for 17 s when operator and cluster die
/// together, as they do with a provider; with these it is 11.5 s. Shorter ones
/// make a leader end itself for a hub that is busy for a moment: an API server
/// that restarts is away for some four seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others leave the Lease alone after a renewal.
    pub lease: Duration,
}

impl Timing {
    /// Whole seconds, as the Lease says them to others.
    pub fn of_seconds(seconds: u16) -> Self {
        Self {
            lease: Duration::from_secs(seconds.max(1).into()),
        }
    }

    /// How long after a renewal its holder writes on. What is between this and
    /// [`Timing::lease`] is for requests on their way, and for clocks that do
    /// not run equally fast.
    pub fn deadline(self) -> Duration {
        self.lease * 3 / 5
    }

    /// How often the Lease is renewed, or looked at.
    pub fn period(self) -> Duration {
        self.lease * 3 / 20
    }

    /// How long one request may take: a connection that hangs must leave time
    /// for another try.
    pub fn request(self) -> Duration {
        self.lease / 5
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::of_seconds(10)
    }
}

/// The pod's own namespace; outside of a pod that of Flambeau.
pub fn default_namespace() -> String {
    let own = fs::read_to_string(POD_NAMESPACE).unwrap_or_default();
    match own.trim() {
        "" => NAMESPACE.to_owned(),
        own => own.to_owned(),
    }
}

/// The host's name, which in a pod is the pod's, and a random number: no other
/// process has it, nor this one after a restart.
pub fn default_identity() -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    // The standard library's one source of randomness.
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}-{random:016x}", host.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_stops_long_before_others_may_start() {
        let timing = Timing::default();
        assert_eq!(timing.lease, Duration::from_secs(10));
        assert_eq!(timing.deadline(), Duration::from_secs(6));
        assert_eq!(timing.period(), Duration::from_millis(1500));
        for seconds in [1, 2, 15, 300] {
            let timing = Timing::of_seconds(seconds);
            assert!(timing.deadline() < timing.lease);
            assert!(
                timing.period() + timing.request() * 2 <= timing.deadline(),
                "two requests may hang in a row"
            );
        }
    }

    #[test]
    fn no_two_processes_have_one_default_identity() {
        assert_ne!(default_identity(), default_identity());
    }
}
