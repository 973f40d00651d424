//! Deletes an application from a member.

use super::{
    connection::{Connection, REQUEST_TIMEOUT, RequestError, request},
    error::MemberError,
    fresh,
    member::Member,
    metrics::Verb,
    observe::{self, Surplus},
    order,
    store::Coverage,
};
use flambeau_planner::model::{ApplicationKey, Kind};
use futures::future::join_all;
use http::Method;
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

/// Deletes every object of an application; returns as soon as all deletions
/// are under way. Doing so again does no harm.
pub(super) async fn erase(
    member: &Member,
    key: &ApplicationKey,
    kinds: &BTreeSet<Kind>,
) -> Result<(), MemberError> {
    let connection = member.connection()?;
    let mut hasher = DefaultHasher::new();
    ("erase", kinds).hash(&mut hasher);
    let turn = member.works.begin(key, hasher.finish())?;
    let result = erase_now(member, &connection, key, kinds).await;
    match &result {
        Ok(()) => turn.done(false, &member.shared.dirty),
        Err(error) => {
            tracing::warn!(cluster = %member.name, application = %key, %error, "application not erased");
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
    delete_all(member, connection, key, &objects).await
}

/// Deletes objects, each only if it is still the one that was meant.
pub(super) async fn delete_all(
    member: &Member,
    connection: &Connection,
    key: &ApplicationKey,
    objects: &[Surplus],
) -> Result<(), MemberError> {
    let results = join_all(
        objects
            .iter()
            .map(|object| delete(member, connection, key, object)),
    )
    .await;
    results.into_iter().collect()
}

async fn delete(
    member: &Member,
    connection: &Connection,
    key: &ApplicationKey,
    object: &Surplus,
) -> Result<(), MemberError> {
    let Some(resource) = member.resource(&object.kind) else {
        // With its kind went the object.
        return Ok(());
    };
    // In the foreground, an object stays until everything made from it is gone: a Deployment until its pods are.
    // Nothing is made from the others, and nobody has to wait for the garbage collector.
    let policy = if order::leaf(&object.kind) {
        "Background"
    } else {
        "Foreground"
    };
    let body = serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
        "preconditions": {"uid": &object.uid}});
    let path = resource.object(&key.namespace, &object.name);
    let _permit = member.permits.acquire().await;
    let answer = match request(
        Method::DELETE,
        &path,
        Some("application/json"),
        body.to_string().into_bytes(),
    ) {
        Ok(request) => {
            connection
                .call(Verb::Delete, request, REQUEST_TIMEOUT)
                .await
        }
        Err(error) => Err(error),
    };
    match answer {
        Ok(_) => {
            tracing::info!(cluster = %member.name, application = %key, kind = %object.kind.kind, name = %object.name, "deleted");
            Ok(())
        }
        // Gone already, or another object has taken its name.
        Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(()),
        Err(RequestError::Api(error))
            if error.code < 500 && error.code != 429 && error.code != 401 =>
        {
            Err(MemberError::Refused {
                object: order::title(&object.kind, &object.name),
                message: error.to_string(),
            })
        }
        Err(error) => Err(MemberError::NotYet {
            what: order::title(&object.kind, &object.name),
            message: error.to_string(),
        }),
    }
}
