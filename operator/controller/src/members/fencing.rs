//! Fencing: a member itself refuses what a leader writes that no longer
//! leads.
//!
//! The epoch of an application grows by one whenever its active cluster
//! changes or a move is walked back, and stands on every object as an
//! annotation. The writer compares before it writes; but a leader that was
//! paused or cut off compares with what it knew. So every member carries an admission policy
//! ([`policy`], a `ValidatingAdmissionPolicy`: no webhook, nothing of it runs
//! outside the API server) that compares with what is stored:
//!
//! - A change of an object under a lower epoch than the one on it is refused.
//!   The API server compares within the transaction of the write, so nothing
//!   slips between.
//! - An object that does not exist has no epoch. For these, a ConfigMap
//!   `flambeau-epochs` in the namespace remembers how far each application is
//!   ([`epochs`]): nobody makes an object under a lower epoch, and Flambeau
//!   changes none. It is raised
//!   before objects are written under a new epoch, and before a copy is
//!   erased. The API server reads it from a cache: the writer waits until a
//!   write under a lower epoch, tried without effect, is refused. (Where
//!   several API servers share a cluster, each has a cache, a few milliseconds
//!   behind as a rule, and one of them was asked.)
//! - An entry of that ConfigMap can be raised, and neither lowered nor
//!   removed, and the ConfigMap goes only with its namespace. To begin anew on
//!   purpose, remove the bindings and the policy first, with no operator
//!   running: it puts them back.
//!
//! Deletions need no rule. Their options carry no epoch that a rule could
//! compare; they carry the UID and the resource version of what was read
//! ([`super::erase`]), and what was read is judged by its epoch first. A newer
//! leader that wrote the object changed its version: the deletion fails, the
//! object is read again, and its higher epoch stops the old leader. Besides,
//! an erasure begins with raising the entry, which the policy refuses to an
//! old leader.
//!
//! The rule concerns writes that carry an epoch, whoever writes: people who
//! edit an object keep its epoch and are not hindered, nor are controllers
//! that write status, which is a subresource. Who strips the epoch or the
//! label is not refused either: that is drift, and corrected.
//!
//! The policy is put in place when the member answers, checked every minute,
//! and put right. It counts as [`Fencing::Installed`] only when a write that
//! it must refuse was refused, tried without effect (`dryRun=All`). A member
//! where that does not work still takes writes, guarded by the writer's own
//! comparison as far as that goes, and says so.
//!
//! What the credentials for a member need for it is in [`super::rights`]. Who
//! may write the policy may also break it, and who writes a policy with a
//! parameter must be permitted to read every object of the parameter's kind:
//! on a member that was joined, whoever joins it writes the policy, and
//! Flambeau reads and tries it.

pub(super) mod epochs;
pub(super) mod policy;

use super::{
    connection::{Connection, REQUEST_TIMEOUT, RequestError, get, request},
    error::MemberError,
    live::Live,
    member::Member,
    metrics::Verb,
};
use epochs::Epochs;
use flambeau_crds::FIELD_MANAGER;
use flambeau_planner::model::{ApplicationKey, Reach};
use http::Method;
use policy::{Part, REVISION_ANNOTATION};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How soon a check is repeated that got no answer.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How soon is looked again whether this process leads.
const INTERVAL_WITHOUT_LEADING: Duration = Duration::from_secs(1);
/// How often is tried whether a policy that was just written is effective.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// How long that may take: the API server takes policies up about once a
/// second.
const PROBE_PATIENCE: Duration = Duration::from_secs(15);

/// Media type of a server-side apply.
const APPLY: &str = "application/apply-patch+yaml";
/// No object ever has this resource version: the API server reports a conflict
/// with any that is there.
const ABSENT: &str = "1";

/// Whether a member refuses writes under an old epoch by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fencing {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// It does: a write that it must refuse was refused.
    Installed,
    /// It does not; only the writer compares.
    Unavailable {
        /// Why, and what to do.
        message: String,
    },
}

/// Fencing on one member.
#[derive(Default)]
pub(super) struct Fence {
    state: Mutex<Fencing>,
    /// How far each application is on the member.
    pub epochs: Epochs,
    /// The refusal that was told last, by application: live and tried epoch.
    told: Mutex<HashMap<ApplicationKey, (i64, i64)>>,
}

impl Fence {
    /// Whether the member refuses writes under an old epoch by itself.
    pub fn state(&self) -> Fencing {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether it is known that nobody would read the entries.
    pub fn unavailable(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(*state, Fencing::Unavailable { .. })
    }

    pub fn set(&self, member: &Member, now: Fencing) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == now {
            return;
        }
        match &now {
            Fencing::Installed => {
                tracing::info!(cluster = %member.name, "the member refuses writes under an old epoch by itself");
            }
            Fencing::Unavailable { message } => {
                tracing::warn!(cluster = %member.name, %message, "the member cannot refuse writes under an old epoch by itself");
            }
            Fencing::Unknown => {}
        }
        *state = now;
        drop(state);
        member.shared.dirty.mark();
    }

    /// Forgets what was told of an application.
    pub fn forget(&self, key: &ApplicationKey) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.remove(key);
    }

    /// Whether a refusal of an application's writes was told before.
    pub fn told(&self, key: &ApplicationKey, error: &MemberError) -> bool {
        let MemberError::Fenced { live, epoch, .. } = error else {
            return false;
        };
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(key.clone(), (*live, *epoch)) == Some((*live, *epoch))
    }
}

/// Keeps the policy in place, until it is stopped.
pub(super) async fn run(member: Arc<Member>, connection: Arc<Connection>) {
    let mut generation = member.health.generation();
    loop {
        generation.borrow_and_update();
        let mut pause = member.shared.settings.fencing_check;
        // Who does not lead writes nothing, and becomes leader at any time.
        if member.shared.leadership.check().is_err() {
            pause = INTERVAL_WITHOUT_LEADING;
        } else if member.health.reach() == Reach::Reachable {
            match check(&member, &connection).await {
                Ok(()) => member.fence.set(&member, Fencing::Installed),
                Err(Trouble::Lasting(message)) => {
                    member.fence.set(&member, Fencing::Unavailable { message })
                }
                // What was true last is so until the member answers.
                Err(Trouble::Passing(error)) => {
                    tracing::debug!(cluster = %member.name, %error, "fencing not checked");
                    pause = INTERVAL_AFTER_FAILURE;
                }
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            changed = generation.changed() => if changed.is_err() { return },
        }
    }
}

/// Why fencing cannot be vouched for.
pub(super) enum Trouble {
    /// The member says no.
    Lasting(String),
    /// The member said nothing.
    Passing(RequestError),
}

impl From<RequestError> for Trouble {
    fn from(error: RequestError) -> Self {
        Self::Passing(error)
    }
}

/// Takes an error of the API server for its last word, unless it is one of
/// those that pass.
fn trouble(what: &str, error: RequestError) -> Trouble {
    match error.code() {
        None | Some(401 | 409 | 429 | 500..) => Trouble::Passing(error),
        Some(403) => Trouble::Lasting(format!(
            "{what} is not permitted to the credentials of the kubeconfig: {error}: `kubectl flambeau join` grants what is needed, and writes the policy itself"
        )),
        Some(_) => Trouble::Lasting(format!("{what} fails: {error}")),
    }
}

async fn check(member: &Member, connection: &Connection) -> Result<(), Trouble> {
    member
        .fence
        .epochs
        .list(connection)
        .await
        .map_err(|error| trouble("listing ConfigMaps", error))?;
    let mut proven = member.fence.state() == Fencing::Installed;
    for part in policy::parts() {
        proven &= ensure(member, connection, &part).await?;
    }
    if proven {
        return Ok(());
    }
    prove(connection).await
}

/// Writes a part of the policy if it is not there as it should be; returns
/// whether it was.
async fn ensure(member: &Member, connection: &Connection, part: &Part) -> Result<bool, Trouble> {
    let what = || format!("writing {} {}", part.kind, part.name);
    let live = match connection
        .call(Verb::Get, get(&part.path())?, REQUEST_TIMEOUT)
        .await
    {
        Ok(answer) => Some(answer.json::<Live>()?),
        Err(error) if error.code() == Some(404) => None,
        Err(error) => {
            return Err(trouble(
                &format!("reading {} {}", part.kind, part.name),
                error,
            ));
        }
    };
    let (method, path, verb, version) = match &live {
        None => (Method::POST, part.collection(), Verb::Create, None),
        Some(live) if part.is(live) || newer(live) => return Ok(true),
        Some(live) => {
            let version = live.metadata.resource_version.as_str();
            (Method::PUT, part.path(), Verb::Update, Some(version))
        }
    };
    let body = part.manifest(version).to_string().into_bytes();
    let path = format!("{path}?fieldManager={FIELD_MANAGER}");
    let request = request(method, &path, Some("application/json"), body)?;
    match connection.call(verb, request, REQUEST_TIMEOUT).await {
        Ok(_) => {
            tracing::info!(cluster = %member.name, kind = part.kind, name = part.name, "fencing written");
            Ok(false)
        }
        // Only collections that are not served are not found.
        Err(error) if error.code() == Some(404) => Err(Trouble::Lasting(format!(
            "{} is not served: fencing needs Kubernetes 1.30 or newer",
            part.kind
        ))),
        Err(error) => Err(trouble(&what(), error)),
    }
}

/// Whether a newer version of Flambeau wrote it: an older one leaves it alone.
fn newer(live: &Live) -> bool {
    let revision = live.metadata.annotations.get(REVISION_ANNOTATION);
    revision
        .and_then(|revision| revision.parse::<u32>().ok())
        .is_some_and(|revision| revision > policy::REVISION)
}

/// Tries, without effect, a write that must be refused, until it is.
async fn prove(connection: &Connection) -> Result<(), Trouble> {
    let begun = Instant::now();
    let (path, body) = policy::probe();
    let body = body.to_string();
    loop {
        let body = body.clone().into_bytes();
        let request = request(Method::PATCH, &path, Some(APPLY), body)?;
        match connection
            .call(Verb::Create, request, REQUEST_TIMEOUT)
            .await
        {
            Err(RequestError::Api(error)) if policy::proves(&error.message) => return Ok(()),
            Err(error) => return Err(trouble("trying whether the policy is effective", error)),
            Ok(_) if begun.elapsed() < PROBE_PATIENCE => sleep(PROBE_INTERVAL).await,
            Ok(_) => {
                return Err(Trouble::Lasting(format!(
                    "ValidatingAdmissionPolicy {} is there and refuses nothing: look whether admission plugin ValidatingAdmissionPolicy is enabled",
                    policy::NAME
                )));
            }
        }
    }
}

/// Reads what the policy says when it refuses a write: live and tried epoch.
pub(super) fn refusal(message: &str) -> Option<(i64, i64)> {
    policy::told(message)
}

/// What is read of an object's data.
fn data(live: &Live) -> impl Iterator<Item = (&String, &str)> {
    live.fields
        .get("data")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
}
