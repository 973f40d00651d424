//! Knowledge from fresh reads of a member, for what cannot be undone.

use super::{
    connection::Connection, discovery::encoded, endpoints::slice_kind, error::MemberError,
    live::Live, member::Member, observe, pages::Pages, seen::Seen, store::Copy,
};
use crate::declared::Declared;
use flambeau_crds::APPLICATION_LABEL;
use flambeau_planner::model::{ApplicationKey, Kind};
use futures::future::join_all;
use std::collections::BTreeSet;

/// Whether nothing of an application is left.
pub(super) async fn verify_absent(
    member: &Member,
    key: &ApplicationKey,
    kinds: &BTreeSet<Kind>,
) -> Result<bool, MemberError> {
    let seen = observe::kinds_of(&member.store.lock(), key);
    let kinds: BTreeSet<Kind> = kinds.union(&seen).cloned().collect();
    let objects = read(member, key, &kinds, None).await?;
    Ok(objects.iter().all(|seen| seen.derived))
}

/// Whether everything declared is there, ready and reachable.
pub(super) async fn serves(member: &Member, declared: &Declared) -> Result<bool, MemberError> {
    let mut kinds: BTreeSet<Kind> = declared
        .objects
        .iter()
        .map(|object| object.kind.clone())
        .collect();
    kinds.extend(declared.traffic.is_some().then(slice_kind));
    let copy = Copy::of(read(member, &declared.key, &kinds, Some(declared)).await?);
    let complete = declared.objects.iter().all(|object| {
        copy.find(&object.kind, &object.name)
            .is_some_and(|seen| !seen.deleting)
    });
    let counted = observe::count(&copy, Some(declared), 0);
    let reachable = declared.traffic.is_none() || counted.endpoints > 0;
    Ok(complete && reachable && counted.workloads_ready == counted.workloads)
}

async fn read(
    member: &Member,
    key: &ApplicationKey,
    kinds: &BTreeSet<Kind>,
    declared: Option<&Declared>,
) -> Result<Vec<Seen>, MemberError> {
    let connection = member.connection()?;
    let lists = join_all(
        kinds
            .iter()
            .map(|kind| list(member, &connection, key, kind, declared)),
    )
    .await;
    let mut objects = Vec::new();
    for list in lists {
        objects.extend(list?);
    }
    Ok(objects)
}

/// Objects of an application as the API server has them now; none of a kind
/// that is not served.
pub(super) async fn list(
    member: &Member,
    connection: &Connection,
    key: &ApplicationKey,
    kind: &Kind,
    declared: Option<&Declared>,
) -> Result<Vec<Seen>, MemberError> {
    let not_yet = |message: String| MemberError::NotYet {
        what: format!("list of {kind} on {}", member.name),
        message,
    };
    if member.kinds().is_none() {
        return Err(not_yet(
            "it is not known yet which kinds the member serves".to_owned(),
        ));
    }
    let Some(resource) = member.readable(kind) else {
        return Ok(Vec::new());
    };
    let path = format!(
        "{}?labelSelector={}%3D{}",
        resource.within(&key.namespace),
        encoded(APPLICATION_LABEL),
        encoded(&key.name)
    );
    let mut pages = Pages::<Live>::of(connection, path);
    let mut objects = Vec::new();
    loop {
        match pages.next().await {
            Ok(Some(page)) => {
                let seen = page.items.iter();
                objects.extend(seen.map(|live| Seen::of(kind, live, declared)));
            }
            Ok(None) => return Ok(objects),
            Err(error) => {
                // Something between may say so for want of a backend: whether the kind is gone says discovery alone.
                if error.code() == Some(404) {
                    member.rediscover.notify_one();
                }
                return Err(not_yet(error.to_string()));
            }
        }
    }
}
