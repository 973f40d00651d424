//! What one copy of an application looks like, from what is stored.

use super::{
    endpoints,
    error::MemberError,
    order,
    seen::{Judgement, Seen, declared_object},
    store::{Contents, Copy, Coverage},
};
use crate::{declared::Declared, edge::EndpointAddress};
use flambeau_planner::model::{ApplicationKey, CopyObservation, Kind, Name};
use std::{collections::BTreeSet, sync::Arc};

/// An observation that holds until the copy or its declaration changes.
#[derive(Debug)]
pub(super) struct Cached {
    /// Every object that was written from the declaration was compared with it.
    judged: bool,
    declared: Option<Arc<Declared>>,
    epoch: i64,
    observation: CopyObservation,
}

impl Cached {
    fn holds(&self, declared: Option<&Arc<Declared>>, epoch: i64) -> bool {
        self.epoch == epoch
            && match (&self.declared, declared) {
                (None, None) => true,
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                _ => false,
            }
    }
}

/// What an application's copy looks like. What was not listed, or not
/// compared with the declaration yet, is not observed; nor is it known that
/// nothing is there while there may be objects that Flambeau may not look at.
pub(super) fn observe(
    contents: &mut Contents,
    key: &ApplicationKey,
    declared: Option<&Arc<Declared>>,
    wanted: &BTreeSet<Kind>,
    epoch: i64,
) -> CopyObservation {
    let known = known(contents, declared.map(AsRef::as_ref), wanted);
    let mut judged = true;
    let mut observation = match contents.copies.get_mut(key) {
        None => CopyObservation {
            declared: declared.map_or(0, |declared| declared.objects.len()),
            ..CopyObservation::default()
        },
        Some(copy) => match &copy.cached {
            Some(cached) if cached.holds(declared, epoch) => {
                judged = cached.judged;
                cached.observation.clone()
            }
            _ => {
                let observation = count(copy, declared.map(AsRef::as_ref), epoch);
                judged = declared.is_none_or(|declared| unjudged(copy, declared).next().is_none());
                copy.cached = Some(Cached {
                    judged,
                    declared: declared.cloned(),
                    epoch,
                    observation: observation.clone(),
                });
                observation
            }
        },
    };
    let declared = declared.map(AsRef::as_ref);
    observation.observed = known && judged && !only_hidden(contents, key, declared);
    observation
}

/// Whether nothing of an application is to be seen but what Flambeau may not
/// look at: it was there, or may be there.
fn only_hidden(contents: &Contents, key: &ApplicationKey, declared: Option<&Declared>) -> bool {
    if !contents.hides() {
        return false;
    }
    let hidden = |kind: &Kind| contents.coverage(kind) == Coverage::Hidden;
    let seen = kinds_of(contents, key);
    let mut declared = declared.iter().flat_map(|declared| &declared.objects);
    seen.iter().all(hidden) && (!seen.is_empty() || declared.any(|object| hidden(&object.kind)))
}

/// Whether an object is one that is declared, seen in another version of its
/// kind.
fn in_another_version(copy: &Copy, declared: &Declared, seen: &Seen) -> bool {
    declared.objects.iter().any(|object| {
        object.name == seen.name
            && object.kind.kind == seen.kind.kind
            && object.kind != seen.kind
            && copy
                .find(&object.kind, &object.name)
                .is_some_and(|other| other.uid == seen.uid)
    })
}

/// The UID of the application for which Flambeau wrote everything that it wrote
/// of a copy; none when it wrote nothing, or not all for the same one.
pub(super) fn written_for(copy: &Copy) -> Option<&str> {
    let mut written = copy
        .objects()
        .filter(|seen| !seen.derived && seen.epoch.is_some())
        .map(|seen| seen.application.as_deref());
    let first = written.next()??;
    written.all(|other| other == Some(first)).then_some(first)
}

/// Kinds of which an application has objects that were written from its
/// declaration and not compared with it yet: they were seen before it.
pub(super) fn unjudged<'a>(
    copy: &'a Copy,
    declared: &'a Declared,
) -> impl Iterator<Item = &'a Kind> {
    copy.objects().filter_map(|seen| {
        let same = seen.judgement == Judgement::Unknown
            && declared_object(declared, &seen.kind, &seen.name)
                .is_some_and(|object| seen.digest.as_deref() == Some(&object.digest));
        same.then_some(&seen.kind)
    })
}

fn known(contents: &Contents, declared: Option<&Declared>, wanted: &BTreeSet<Kind>) -> bool {
    let known = |kind: &Kind| contents.coverage(kind) != Coverage::Pending;
    match declared {
        // Objects of any kind may be left of an application that declares nothing.
        None => wanted.iter().all(known),
        Some(declared) => {
            let mut last = None;
            declared.objects.iter().all(|object| {
                let again = last == Some(&object.kind);
                last = Some(&object.kind);
                again || known(&object.kind)
            }) && (declared.traffic.is_none() || known(&endpoints::slice_kind()))
        }
    }
}

pub(super) fn count(copy: &Copy, declared: Option<&Declared>, epoch: i64) -> CopyObservation {
    let mut observation = CopyObservation::default();
    for seen in copy.objects().filter(|seen| !seen.derived) {
        if declared.is_some_and(|declared| in_another_version(copy, declared, seen)) {
            continue;
        }
        observation.present += 1;
        if let Some(ready) = seen.ready {
            observation.workloads += 1;
            observation.workloads_ready += usize::from(ready && !seen.deleting);
        }
    }
    if let Some(declared) = declared {
        observation.declared = declared.objects.len();
        observation.current = declared
            .objects
            .iter()
            .filter(|object| {
                copy.find(&object.kind, &object.name)
                    .is_some_and(|seen| seen.current(object, epoch))
            })
            .count();
        observation.endpoints = addresses(copy, declared)
            .iter()
            .filter(|address| address.ready)
            .count();
    }
    observation
}

/// The addresses behind an application's traffic, in order.
pub(super) fn addresses(copy: &Copy, declared: &Declared) -> Vec<EndpointAddress> {
    let Some((service, port)) = endpoints::traffic_port(declared) else {
        return Vec::new();
    };
    let mut addresses: Vec<_> = copy
        .objects()
        .filter_map(|seen| seen.slice.as_deref())
        .flat_map(|slice| slice.addresses(service, port))
        .collect();
    addresses.sort();
    addresses.dedup_by(|one, other| one.ip == other.ip && one.port == other.port);
    addresses
}

/// What is left to write so that a copy is as declared.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pending {
    /// Declared objects that are not current, by rank of [`order::rank`].
    pub writes: Vec<Write>,
    /// Objects that are no longer declared.
    pub surplus: Vec<Surplus>,
}

impl Pending {
    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.surplus.is_empty()
    }
}

/// One object to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// Its place in the declaration.
    pub index: usize,
    /// When it is written, among the others.
    pub rank: u8,
    /// How.
    pub how: How,
}

/// How an object is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It is not there.
    Create,
    /// It is there and differs.
    Update {
        /// Its UID.
        uid: Box<str>,
        /// It was written as declared, and somebody changed it since.
        drifted: bool,
    },
    /// It was written from this declaration; whether it still is as declared
    /// was not judged yet.
    Check {
        /// Its UID.
        uid: Box<str>,
    },
}

/// One object to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Surplus {
    pub kind: Kind,
    pub name: Name,
    pub uid: Box<str>,
    /// Resource version in which it was seen.
    pub version: u64,
    /// Epoch under which it was written.
    pub epoch: Option<i64>,
}

impl Surplus {
    /// An object, by what it takes to delete it.
    pub fn of(seen: &Seen) -> Self {
        Self {
            kind: seen.kind.clone(),
            name: seen.name.clone(),
            uid: seen.uid.clone(),
            version: seen.version,
            epoch: seen.epoch,
        }
    }
}

/// What is left to write.
///
/// # Errors
/// When a kind is not served or not known yet, or an object was written
/// under a higher epoch: nothing must be written then.
pub(super) fn pending(
    contents: &Contents,
    cluster: &Name,
    declared: &Declared,
    epoch: i64,
) -> Result<Pending, MemberError> {
    for object in &declared.objects {
        match contents.coverage(&object.kind) {
            Coverage::Listed => {}
            Coverage::Pending | Coverage::Hidden => {
                return Err(MemberError::NotObserved {
                    cluster: cluster.clone(),
                    kind: object.kind.clone(),
                });
            }
            Coverage::NotServed => {
                return Err(MemberError::NotServed {
                    cluster: cluster.clone(),
                    object: order::title(&object.kind, &object.name),
                    kind: object.kind.clone(),
                });
            }
        }
    }
    let none = Copy::default();
    let copy = contents.copies.get(&declared.key).unwrap_or(&none);
    let higher = copy
        .objects()
        .find(|seen| seen.epoch.is_some_and(|live| live > epoch));
    if let Some(seen) = higher {
        return Err(MemberError::EpochTooLow {
            object: order::title(&seen.kind, &seen.name),
            live: seen.epoch.unwrap_or_default(),
            epoch,
        });
    }
    let mut pending = Pending::default();
    for (index, object) in declared.objects.iter().enumerate() {
        let how = match copy.find(&object.kind, &object.name) {
            None => How::Create,
            // It has to go before it can come again.
            Some(seen) if seen.deleting || seen.current(object, epoch) => continue,
            Some(seen) if seen.marked(object, epoch) && seen.judgement == Judgement::Unknown => {
                How::Check {
                    uid: seen.uid.clone(),
                }
            }
            Some(seen) => How::Update {
                uid: seen.uid.clone(),
                drifted: seen.marked(object, epoch),
            },
        };
        let rank = order::rank(&object.kind);
        pending.writes.push(Write { index, rank, how });
    }
    pending.writes.sort_by_key(|write| write.rank);
    pending.surplus = copy
        .objects()
        .filter(|seen| {
            deletable(contents, seen)
                && declared_object(declared, &seen.kind, &seen.name).is_none()
                && !in_another_version(copy, declared, seen)
        })
        .map(Surplus::of)
        .collect();
    Ok(pending)
}

/// Whether an object is to be deleted, and can be seen to go.
fn deletable(contents: &Contents, seen: &Seen) -> bool {
    !seen.derived && !seen.deleting && contents.coverage(&seen.kind) != Coverage::Hidden
}

/// Objects of an application that are still to be deleted, of all kinds, in
/// the order of their deletion.
pub(super) fn erasable(contents: &Contents, key: &ApplicationKey) -> Vec<Surplus> {
    let mut objects: Vec<Surplus> = contents
        .copies
        .get(key)
        .into_iter()
        .flat_map(Copy::objects)
        .filter(|seen| deletable(contents, seen))
        .map(Surplus::of)
        .collect();
    objects.sort_by_key(|object| std::cmp::Reverse(order::rank(&object.kind)));
    objects
}

/// Kinds of which an application has objects.
pub(super) fn kinds_of(contents: &Contents, key: &ApplicationKey) -> BTreeSet<Kind> {
    contents
        .copies
        .get(key)
        .into_iter()
        .flat_map(Copy::objects)
        .filter(|seen| !seen.derived)
        .map(|seen| seen.kind.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::declared::DeclaredObject;
    use serde_json::{Value, json};

    fn kind(name: &str) -> Kind {
        Kind {
            api_version: "v1".into(),
            kind: name.into(),
        }
    }

    fn declared(digest: &str) -> Arc<Declared> {
        let objects = ["ConfigMap", "Secret"].map(|name| {
            let manifest = json!({"apiVersion": "v1", "kind": name, "metadata": {"name": "x"}});
            DeclaredObject::new(kind(name), "x".into(), &manifest, digest.into())
        });
        Arc::new(Declared {
            key: key(),
            uid: "u".into(),
            created: None,
            objects: objects.to_vec(),
            traffic: None,
        })
    }

    fn key() -> ApplicationKey {
        ApplicationKey {
            namespace: "games".into(),
            name: "a".into(),
        }
    }

    fn seen(name: &str, declared: Option<&Declared>, version: u64, epoch: i64) -> Seen {
        let object: Value = json!({"metadata": {"name": "x", "uid": name, "resourceVersion": version.to_string(),
            "annotations": {"flambeau.dev/epoch": epoch.to_string(), "flambeau.dev/digest": "d1"}}});
        Seen::of(
            &kind(name),
            &serde_json::from_value(object).unwrap(),
            declared,
        )
    }

    #[test]
    fn nothing_is_absent_before_every_kind_was_listed() {
        let wanted = BTreeSet::from([kind("ConfigMap"), kind("Secret")]);
        let mut contents = Contents::default();
        assert!(!observe(&mut contents, &key(), None, &wanted, 1).absent());
        contents.replace(&kind("ConfigMap"), &None, 1, Vec::new());
        assert!(!observe(&mut contents, &key(), None, &wanted, 1).absent());
        assert!(!observe(&mut contents, &key(), Some(&declared("d1")), &wanted, 1).observed);
        contents.replace(&kind("Secret"), &None, 1, Vec::new());
        assert!(observe(&mut contents, &key(), None, &wanted, 1).absent());
        assert!(observe(&mut contents, &key(), Some(&declared("d1")), &wanted, 1).absent());
    }

    #[test]
    fn what_may_not_be_looked_at_is_not_gone() {
        let wanted = BTreeSet::from([kind("ConfigMap"), kind("Secret")]);
        let declared = declared("d1");
        let mut contents = Contents::default();
        contents.replace(&kind("ConfigMap"), &None, 1, Vec::new());
        contents.set_hidden(&kind("Secret"), "not allowed".to_owned());
        // Never seen, and perhaps there.
        let observation = observe(&mut contents, &key(), Some(&declared), &wanted, 1);
        assert!(!observation.observed);
        // Of an application that declares nothing, nothing is looked for that nobody may see.
        assert!(observe(&mut contents, &key(), None, &wanted, 1).absent());

        let mut contents = Contents::default();
        contents.replace(&kind("ConfigMap"), &None, 1, Vec::new());
        let secret = vec![(key(), seen("Secret", Some(&declared), 4, 1))];
        contents.replace(&kind("Secret"), &None, 5, secret);
        contents.set_hidden(&kind("Secret"), "not allowed".to_owned());
        let observation = observe(&mut contents, &key(), Some(&declared), &wanted, 1);
        assert!(
            !observation.observed,
            "all that was seen is not seen any more"
        );
        assert_eq!(erasable(&contents, &key()), [], "nobody would see it go");
        let other = vec![(key(), seen("ConfigMap", Some(&declared), 4, 1))];
        contents.replace(&kind("ConfigMap"), &None, 5, other);
        let observation = observe(&mut contents, &key(), Some(&declared), &wanted, 1);
        assert!(
            observation.observed && observation.present == 2,
            "{observation:?}"
        );
    }

    /// Both versions of autoscaling are served, and every object is in both.
    #[test]
    fn an_object_in_two_versions_is_one_and_not_deleted_for_the_other() {
        let version = |version: &str| Kind {
            api_version: format!("autoscaling/{version}").into(),
            kind: "HorizontalPodAutoscaler".into(),
        };
        let (old, new) = (version("v1"), version("v2"));
        let manifest = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "x"}});
        let declared = Arc::new(Declared {
            objects: vec![DeclaredObject::new(
                new.clone(),
                "x".into(),
                &manifest,
                "d1".into(),
            )],
            ..Declared::clone(&declared("d1"))
        });
        let live = |uid: &str| -> crate::members::live::Live {
            let object = json!({"metadata": {"name": "x", "uid": uid, "resourceVersion": "4",
                "annotations": {"flambeau.dev/epoch": "1", "flambeau.dev/digest": "d1"}}});
            serde_json::from_value(object).unwrap()
        };
        let cluster = Name::from("member");
        for (uid, surplus) in [("same", 0), ("another", 1)] {
            let mut contents = Contents::default();
            let seen =
                |kind: &Kind, uid: &str| (key(), Seen::of(kind, &live(uid), Some(&declared)));
            contents.replace(&new, &None, 5, vec![seen(&new, "same")]);
            contents.replace(&old, &None, 5, vec![seen(&old, uid)]);
            let observation = observe(&mut contents, &key(), Some(&declared), &BTreeSet::new(), 1);
            assert_eq!(observation.present, 1 + surplus);
            let pending = pending(&contents, &cluster, &declared, 1).unwrap();
            assert_eq!(pending.surplus.len(), surplus);
        }
    }

    #[test]
    fn an_object_seen_before_its_declaration_is_not_judged_by_its_digest_alone() {
        let wanted = BTreeSet::new();
        let declared = declared("d1");
        let mut contents = Contents::default();
        contents.replace(
            &kind("ConfigMap"),
            &None,
            5,
            vec![(key(), seen("ConfigMap", None, 3, 1))],
        );
        contents.replace(
            &kind("Secret"),
            &None,
            5,
            vec![(key(), seen("Secret", Some(&declared), 4, 1))],
        );
        assert!(!observe(&mut contents, &key(), Some(&declared), &wanted, 1).observed);
        // The same list once more, now that the declaration is known.
        contents.replace(
            &kind("ConfigMap"),
            &None,
            6,
            vec![(key(), seen("ConfigMap", Some(&declared), 3, 1))],
        );
        assert!(observe(&mut contents, &key(), Some(&declared), &wanted, 1).settled());
    }

    #[test]
    fn what_is_written_depends_on_what_is_there() {
        let (cluster, now) = (Name::from("member"), declared("d1"));
        let mut contents = Contents::default();
        contents.replace(&kind("ConfigMap"), &None, 5, Vec::new());
        let error = pending(&contents, &cluster, &now, 1).unwrap_err();
        assert!(
            matches!(error, MemberError::NotObserved { .. }),
            "{error}: an object may be there"
        );
        contents.replace(
            &kind("Secret"),
            &None,
            5,
            vec![(key(), seen("Secret", Some(&now), 4, 2))],
        );
        let plan = pending(&contents, &cluster, &now, 2).unwrap();
        assert_eq!(
            plan.writes
                .iter()
                .map(|write| &write.how)
                .collect::<Vec<_>>(),
            [&How::Create]
        );
        let error = pending(&contents, &cluster, &now, 1).unwrap_err();
        assert!(
            matches!(
                error,
                MemberError::EpochTooLow {
                    live: 2,
                    epoch: 1,
                    ..
                }
            ),
            "{error}"
        );
        let plan = pending(&contents, &cluster, &declared("d2"), 2).unwrap();
        assert!(matches!(
            plan.writes[1].how,
            How::Update { drifted: false, .. }
        ));
    }
}
