//! Deletes an application from a member.

use super::{
    admission::Admission,
    connection::{Answer, ApiError, Connection, REQUEST_TIMEOUT, RequestError, get, request},
    error::MemberError,
    fencing::epochs::{IfMissing, Token},
    fresh,
    live::Live,
    member::Member,
    metrics::Verb,
    observe::{self, Surplus},
    order, refusal, secrets,
    seen::Seen,
    store::Coverage,
};
use flambeau_planner::model::{ApplicationKey, Kind};
use futures::future::join_all;
use http::Method;
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

/// How often a deletion is tried of an object that changes meanwhile.
const ATTEMPTS: usize = 5;

/// What an erasure is about: how far the application is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Erasure {
    /// When the application was created.
    pub created: Option<Timestamp>,
    /// The highest epoch under which a copy to be erased can have been
    /// written. A copy under a higher one belongs to a newer leader.
    pub highest: i64,
    /// The lowest epoch under which the application may ever be written there
    /// again: an old leader must not bring it back.
    pub next: i64,
}

/// Deletes every object of an application; returns as soon as all deletions
/// are under way. Doing so again does no harm.
pub(super) async fn erase(
    member: &Member,
    key: &ApplicationKey,
    kinds: &BTreeSet<Kind>,
    erasure: Option<&Erasure>,
) -> Result<(), MemberError> {
    let connection = member.connection()?;
    let mut hasher = DefaultHasher::new();
    ("erase", kinds, erasure).hash(&mut hasher);
    let turn = member.works.begin(key, hasher.finish())?;
    let result = erase_now(member, &connection, key, kinds, erasure).await;
    let result = result.map_err(|error| match member.shared.declared(key) {
        Some(declared) => secrets::without_values(error, &declared),
        None => error,
    });
    match &result {
        Ok(()) => turn.done(false, &member.shared.dirty),
        Err(error) => {
            if !member.fence.told(key, error) {
                tracing::warn!(cluster = %member.name, application = %key, %error, "application not erased");
            }
            turn.failed(error, &member.shared.dirty);
        }
    }
    result
}

async fn erase_now(
    member: &Member,
    connection: &Connection,
    key: &ApplicationKey,
    kinds: &BTreeSet<Kind>,
    erasure: Option<&Erasure>,
) -> Result<(), MemberError> {
    let (mut objects, unknown) = {
        let contents = member.store.lock();
        let unknown: Vec<Kind> = kinds
            .iter()
            .filter(|kind| contents.coverage(kind) == Coverage::Pending)
            .cloned()
            .collect();
        (observe::erasable(&contents, key), unknown)
    };
    for kind in unknown {
        let listed = fresh::list(member, connection, key, &kind, None).await?;
        objects.extend(listed.iter().filter(|seen| !seen.derived).map(Surplus::of));
    }
    let highest = erasure.map_or(i64::MAX, |erasure| erasure.highest);
    objects
        .iter()
        .try_for_each(|object| not_above(object, highest))?;
    if let Some(erasure) = erasure.filter(|_| !objects.is_empty()) {
        let token = Token::new(erasure.created, erasure.next);
        let epochs = &member.fence.epochs;
        epochs
            .raise(member, connection, key, token, IfMissing::Leave)
            .await?;
    }
    delete_all(member, connection, key, &objects, highest).await
}

/// An object that was written under a higher epoch is not touched.
fn not_above(object: &Surplus, highest: i64) -> Result<(), MemberError> {
    match object.epoch.filter(|live| *live > highest) {
        None => Ok(()),
        Some(live) => Err(MemberError::EpochTooLow {
            object: order::title(&object.kind, &object.name),
            live,
            epoch: highest,
        }),
    }
}

/// Deletes objects, each only in the version that was judged: of no higher
/// epoch than the highest.
pub(super) async fn delete_all(
    member: &Member,
    connection: &Connection,
    key: &ApplicationKey,
    objects: &[Surplus],
    highest: i64,
) -> Result<(), MemberError> {
    let deletion = Deletion {
        member,
        connection,
        key,
        highest,
    };
    let results = join_all(objects.iter().map(|object| deletion.run(object))).await;
    results.into_iter().collect()
}

struct Deletion<'a> {
    member: &'a Member,
    connection: &'a Connection,
    key: &'a ApplicationKey,
    highest: i64,
}

impl Deletion<'_> {
    async fn run(&self, object: &Surplus) -> Result<(), MemberError> {
        let Some(resource) = self.member.readable(&object.kind) else {
            // With its kind went the object.
            return Ok(());
        };
        let path = resource.object(&self.key.namespace, &object.name);
        let _permit = self.member.permits.acquire().await;
        let mut object = object.clone();
        let mut admitted: Option<Admission> = None;
        let mut attempts = 0;
        while attempts < ATTEMPTS {
            attempts += 1;
            not_above(&object, self.highest)?;
            match self.delete(&object, &path).await {
                Ok(_) => {
                    tracing::info!(cluster = %self.member.name, application = %self.key, kind = %object.kind.kind, name = %object.name, "deleted");
                    return Ok(());
                }
                Err(error) if error.code() == Some(404) => return Ok(()),
                // It changed, or another object has taken its name.
                Err(error) if error.code() == Some(409) => match self.read(&object, &path).await? {
                    Some(now) if now.uid == object.uid => object = now,
                    _ => return Ok(()),
                },
                Err(RequestError::Api(error)) if self.may_be_admitted(&error) => match &admitted {
                    None => {
                        let namespace = &self.key.namespace;
                        admitted = Some(self.member.admit(self.connection, namespace).await?);
                    }
                    Some(admission) if admission.wait().await => attempts -= 1,
                    Some(_) => return Err(refused(&object, &error)),
                },
                Err(RequestError::Api(error))
                    if error.code < 500 && error.code != 429 && error.code != 401 =>
                {
                    return Err(refused(&object, &error));
                }
                Err(error) => return Err(not_yet(&object, refusal::told(&object.kind, &error))),
            }
        }
        Err(not_yet(&object, "it changes all the time".to_owned()))
    }

    /// Whether the application's ServiceAccount lacks what Flambeau gives it.
    fn may_be_admitted(&self, error: &ApiError) -> bool {
        let limits = self.member.limits();
        error.code == 403 && limits.admits() && limits.lacks_permission(&error.message)
    }

    async fn delete(&self, object: &Surplus, path: &str) -> Result<Answer, RequestError> {
        // In the foreground, an object stays until everything made from it is gone: a Deployment until its pods are.
        // Nothing is made from the others, and nobody has to wait for the garbage collector.
        let policy = if order::leaf(&object.kind) {
            "Background"
        } else {
            "Foreground"
        };
        let body = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
            "preconditions": {"uid": &object.uid, "resourceVersion": object.version.to_string()}});
        let body = body.to_string().into_bytes();
        let mut request = request(Method::DELETE, path, Some("application/json"), body)?;
        let limits = self.member.limits();
        limits.impersonate(&self.key.namespace, &mut request)?;
        self.connection
            .call(Verb::Delete, request, REQUEST_TIMEOUT)
            .await
    }

    /// The object as it is now; none when it is gone.
    async fn read(&self, object: &Surplus, path: &str) -> Result<Option<Surplus>, MemberError> {
        let answer = match get(path) {
            Ok(request) => {
                self.connection
                    .call(Verb::Get, request, REQUEST_TIMEOUT)
                    .await
            }
            Err(error) => Err(error),
        };
        match answer.and_then(|answer| answer.json::<Live>()) {
            Ok(live) => Ok(Some(Surplus::of(&Seen::of(&object.kind, &live, None)))),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(not_yet(object, refusal::told(&object.kind, &error))),
        }
    }
}

fn refused(object: &Surplus, error: &ApiError) -> MemberError {
    MemberError::Refused {
        object: order::title(&object.kind, &object.name),
        message: refusal::explanation(&object.kind, error),
    }
}

fn not_yet(object: &Surplus, message: String) -> MemberError {
    MemberError::NotYet {
        what: order::title(&object.kind, &object.name),
        message,
    }
}
