//! What can go wrong with a member.

use flambeau_planner::model::{Kind, Name};
use jiff::Timestamp;

/// Why something was not done on a member. No value of a Secret ever stands
/// in one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// No usable connection details.
    #[error("member {cluster} cannot be asked: {message}")]
    NotConnected {
        /// The member.
        cluster: Name,
        /// What is missing.
        message: String,
    },
    /// The member's objects were not listed yet, so nothing is known of what is there.
    #[error("objects of kind {kind} were not listed on member {cluster} yet")]
    NotObserved {
        /// The member.
        cluster: Name,
        /// The kind.
        kind: Kind,
    },
    /// The member does not serve a kind.
    #[error(
        "{object}: member {cluster} does not serve {kind}: install it there, or remove the resource"
    )]
    NotServed {
        /// The member.
        cluster: Name,
        /// The object, as `Kind/name`.
        object: String,
        /// The kind.
        kind: Kind,
    },
    /// The MemberCluster does not allow a namespace or a kind.
    #[error("{what} on member {cluster} {why}")]
    NotAllowed {
        /// The member.
        cluster: Name,
        /// The namespace, or the object and its kind.
        what: String,
        /// Why, and what to do.
        why: String,
    },
    /// The member's API server refused an object.
    #[error("{object}: {message}")]
    Refused {
        /// The object, as `Kind/name`.
        object: String,
        /// What the API server said.
        message: String,
    },
    /// An object of that name is there and belongs to somebody else.
    #[error(
        "{object}: exists on member {cluster} and is not managed by Flambeau: rename the resource, or delete the object there"
    )]
    Foreign {
        /// The member.
        cluster: Name,
        /// The object, as `Kind/name`.
        object: String,
    },
    /// The object was written under a higher epoch.
    #[error("{object}: written under epoch {live}, which is higher than {epoch}")]
    EpochTooLow {
        /// The object, as `Kind/name`.
        object: String,
        /// The epoch on the member.
        live: i64,
        /// The epoch of the refused write.
        epoch: i64,
    },
    /// The member itself refused the write: it knows a higher epoch, so a
    /// newer leader has taken over. This says nothing against the object.
    #[error(
        "{object}: refused under epoch {epoch}, the member is at epoch {live}: a newer leader has taken over"
    )]
    Fenced {
        /// The object, as `Kind/name`.
        object: String,
        /// The epoch on the member.
        live: i64,
        /// The epoch of the refused write.
        epoch: i64,
    },
    /// The member did not answer, or not now; worth another try.
    #[error("{what}: {message}")]
    NotYet {
        /// The object or request.
        what: String,
        /// What happened.
        message: String,
    },
    /// The last attempt failed; the next is not due. A plan is asked for when
    /// it is.
    #[error("waiting until {until} after {failures} failed attempts: {message}")]
    BackingOff {
        /// When the next attempt is due.
        until: Timestamp,
        /// Failed attempts in a row.
        failures: u32,
        /// What happened at the last.
        message: String,
    },
    /// The same application is being written or erased there right now.
    #[error("under way")]
    UnderWay,
}

impl MemberError {
    /// The same error, with what others said of it in other words.
    pub(super) fn map_words(mut self, change: impl FnOnce(String) -> String) -> Self {
        match &mut self {
            Self::Refused { message, .. } | Self::NotYet { message, .. } => {
                *message = change(std::mem::take(message));
            }
            Self::NotConnected { .. }
            | Self::NotObserved { .. }
            | Self::NotServed { .. }
            | Self::NotAllowed { .. }
            | Self::Foreign { .. }
            | Self::EpochTooLow { .. }
            | Self::Fenced { .. }
            | Self::BackingOff { .. }
            | Self::UnderWay => {}
        }
        self
    }

    /// Whether only a change of the declaration, or on the member, can help.
    /// That a newer leader has taken over is no refusal: nothing is wrong
    /// with the object or the member.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotServed { .. }
                | Self::NotAllowed { .. }
                | Self::Refused { .. }
                | Self::Foreign { .. }
                | Self::EpochTooLow { .. }
        )
    }
}
