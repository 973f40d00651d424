//! Leader election: of any number of replicas, one writes.
//!
//! The protocol is that of client-go
//! (<https://pkg.go.dev/k8s.io/client-go/tools/leaderelection>), on a `Lease`
//! of `coordination.k8s.io/v1`, so that `kubectl get lease` shows who leads.
//! Crates that offer it compare their wall clock with `renewTime`
//! (`kube-leader-election`, `kubert`, `kube-lease-manager`), or do not say
//! until when a Lease is held (`k8s-controller`), which is what the check
//! before every write is made of.
//!
//! What holds:
//! - No clock is compared with another machine's. A candidate takes a Lease
//!   that it saw unchanged for the time that the holder was granted, by its
//!   own clock; `renewTime` is for people. A clock that is an hour wrong
//!   neither steals nor loses.
//! - Every write of the Lease is conditional on the version that was read: of
//!   two that take it at once, one does.
//! - The holder counts its time from *before* it sent the renewal, the others
//!   from *after* they saw it, and it stops at six tenths of what it was
//!   granted ([`Timing`]).
//! - [`Leadership`] is checked right before every request that changes
//!   anything, and on each write to a connection ([`crate::transport`]), so
//!   that a process that was stopped in the middle of its work sends nothing
//!   when it wakes. What was sent before it was stopped may still arrive:
//!   members refuse that by its epoch.
//! - One task writes the Lease. Its end, whatever the reason, ends the
//!   process ([`EXIT_CODE_LOST`]).

mod candidacy;
mod election;
mod leadership;
mod record;
mod settings;

pub use candidacy::{Candidacy, Lost};
pub use election::{Election, End};
#[cfg(test)]
pub(crate) use leadership::since_boot;
pub use leadership::{Leadership, NotLeader};
pub use settings::{LeaseSettings, Timing, default_identity, default_namespace};

/// Exit code of a process that led and does so no more; a supervisor starts
/// it again, as a standby. 0, 1 and 2 have meanings of their own.
pub const EXIT_CODE_LOST: i32 = 3;
