//! What can go wrong, and the exit code that says so.

use flambeau_planner::Reason;
use std::process::ExitCode;

/// Exit codes, as documented in `--help` and docs/plugin.md.
pub mod code {
    /// Done, or nothing to do.
    pub const DONE: u8 = 0;
    /// An error: input, connection, anything unexpected.
    pub const ERROR: u8 = 1;
    /// `plan`: something is pending. A request: a rule refuses it, and nothing
    /// was created or changed.
    pub const RULE: u8 = 2;
    /// `--wait`: the time was over; what was begun goes on.
    pub const TIMEOUT: u8 = 3;
    /// `--wait`: it ended, but not as asked.
    pub const UNDONE: u8 = 4;
    /// The API server forbids it: a permission is missing.
    pub const FORBIDDEN: u8 = 5;
    /// Interrupted from the keyboard; what was begun goes on.
    pub const INTERRUPTED: u8 = 130;
}

/// An end with a meaning of its own. Every other error is `code::ERROR`.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A rule of Flambeau says no.
    #[error("refused: {reason}: {message}\n{remedy}")]
    Refused {
        /// The stable reason.
        reason: Reason,
        /// The fact behind it.
        message: String,
        /// What to do next.
        remedy: String,
    },
    /// The API server says no.
    #[error(
        "forbidden: {user} may not {verb} {resource}{place}\n\
         Ask whoever grants permissions on the hub for: verb {verb} on {resource}{place} \
         (see: kubectl auth can-i --list)"
    )]
    Forbidden {
        /// Who asked.
        user: String,
        /// What for.
        verb: &'static str,
        /// On which resource.
        resource: String,
        /// In which namespace, as a phrase; empty for the whole hub.
        place: String,
    },
    /// The wait took too long.
    #[error("not done after {0}; what was begun goes on")]
    TimedOut(String),
    /// It ended, but not as asked.
    #[error("{0}")]
    Undone(String),
    /// The person does not want to watch any longer.
    #[error("no longer watched; what was begun goes on")]
    Interrupted,
}

/// The exit code of an error.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let code = match error.downcast_ref::<Failure>() {
        Some(Failure::Refused { .. }) => code::RULE,
        Some(Failure::Forbidden { .. }) => code::FORBIDDEN,
        Some(Failure::TimedOut(_)) => code::TIMEOUT,
        Some(Failure::Undone(_)) => code::UNDONE,
        Some(Failure::Interrupted) => code::INTERRUPTED,
        None => code::ERROR,
    };
    ExitCode::from(code)
}
