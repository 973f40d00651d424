//! The digest of one object on a member.

use super::{covers, endpoints::Slice, live::Live, readiness};
use crate::declared::{Declared, DeclaredObject};
use flambeau_crds::{
    APPLICATION_LABEL, APPLICATION_UID_ANNOTATION, DIGEST_ANNOTATION, EPOCH_ANNOTATION,
};
use flambeau_planner::model::{ApplicationKey, Kind, Name};
use std::sync::Arc;

/// What is remembered of an object.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub kind: Kind,
    pub name: Name,
    pub uid: Box<str>,
    /// Its resource version.
    pub version: u64,
    /// UID of the application for which it was written.
    pub application: Option<Box<str>>,
    /// Epoch under which it was written.
    pub epoch: Option<i64>,
    /// Digest of what was declared when it was written.
    pub digest: Option<Arc<str>>,
    /// How it compares with what that digest stands for.
    pub judgement: Judgement,
    /// The shape in which it stays although it was written as declared: a
    /// webhook on the member changes it.
    pub accepted: Option<u64>,
    /// It is being deleted.
    pub deleting: bool,
    /// Another object owns it: it is made from the application's objects, not
    /// one of them.
    pub derived: bool,
    /// Whether it is a ready workload; none when it is no workload.
    pub ready: Option<bool>,
    /// What an EndpointSlice says.
    pub slice: Option<Box<Slice>>,
}

/// How an object compares with what was declared when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// What was declared then was not at hand.
    Unknown,
    /// It says everything that was declared.
    Covers,
    /// It does not; with a digest of its shape.
    Differs(u64),
}

/// The application an object belongs to, by its label.
pub(super) fn owner(live: &Live) -> Option<ApplicationKey> {
    Some(ApplicationKey {
        namespace: live.metadata.namespace.as_str().into(),
        name: live.metadata.labels.get(APPLICATION_LABEL)?.as_str().into(),
    })
}

/// The declared object of a kind and name.
pub(super) fn declared_object<'a>(
    declared: &'a Declared,
    kind: &Kind,
    name: &str,
) -> Option<&'a DeclaredObject> {
    declared
        .objects
        .iter()
        .find(|object| *object.name == *name && object.kind == *kind)
}

impl Seen {
    /// The digest of an object; `declared` is what its application declares
    /// now.
    pub fn of(kind: &Kind, live: &Live, declared: Option<&Declared>) -> Self {
        let metadata = &live.metadata;
        let declared =
            declared.and_then(|declared| declared_object(declared, kind, &metadata.name));
        let digest = metadata
            .annotations
            .get(DIGEST_ANNOTATION)
            .map(String::as_str);
        let same = declared.filter(|declared| digest == Some(&*declared.digest));
        let judgement = match same {
            None => Judgement::Unknown,
            Some(declared) if covers::covers(&declared.manifest(), live) => Judgement::Covers,
            Some(_) => Judgement::Differs(covers::shape(live)),
        };
        Self {
            kind: kind.clone(),
            name: declared.map_or_else(
                || metadata.name.as_str().into(),
                |declared| declared.name.clone(),
            ),
            uid: metadata.uid.as_str().into(),
            version: metadata.version(),
            application: metadata
                .annotations
                .get(APPLICATION_UID_ANNOTATION)
                .map(|uid| uid.as_str().into()),
            epoch: metadata
                .annotations
                .get(EPOCH_ANNOTATION)
                .and_then(|epoch| epoch.parse().ok()),
            digest: same.map_or_else(
                || digest.map(Arc::from),
                |declared| Some(declared.digest.clone()),
            ),
            judgement,
            accepted: None,
            deleting: metadata.deletion_timestamp.is_some(),
            derived: declared.is_none() && !metadata.owner_references.is_empty(),
            ready: readiness::ready(kind, live),
            slice: Slice::of(kind, live).map(Box::new),
        }
    }

    /// Whether it is there as declared, under an epoch.
    pub fn current(&self, declared: &DeclaredObject, epoch: i64) -> bool {
        self.marked(declared, epoch) && self.in_sync()
    }

    /// Whether it was last written from this declaration, under an epoch.
    pub fn marked(&self, declared: &DeclaredObject, epoch: i64) -> bool {
        !self.deleting
            && self.epoch == Some(epoch)
            && self.digest.as_deref() == Some(&declared.digest)
    }

    /// Whether it still is as it was written.
    pub fn in_sync(&self) -> bool {
        match self.judgement {
            Judgement::Unknown => false,
            Judgement::Covers => true,
            Judgement::Differs(shape) => self.accepted == Some(shape),
        }
    }

    /// Takes over what is remembered and not on the object.
    pub fn inherit(&mut self, before: &Seen) {
        if self.uid != before.uid || self.digest != before.digest {
            return;
        }
        self.accepted = self.accepted.or(before.accepted);
        if self.version == before.version && self.judgement == Judgement::Unknown {
            self.judgement = before.judgement;
        }
    }

    /// Whether it knows more than another digest of the same version.
    pub fn settles(&self, known: &Seen) -> bool {
        self.judgement != known.judgement && self.judgement != Judgement::Unknown
            || self.accepted.is_some() && self.accepted != known.accepted
    }

    /// Whether nothing changed that anything depends on.
    pub fn says_the_same(&self, other: &Seen) -> bool {
        self.uid == other.uid
            && self.application == other.application
            && self.epoch == other.epoch
            && self.digest == other.digest
            && self.judgement == other.judgement
            && self.accepted == other.accepted
            && self.deleting == other.deleting
            && self.derived == other.derived
            && self.ready == other.ready
            && self.slice == other.slice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn declared() -> Declared {
        Declared {
            key: ApplicationKey {
                namespace: "games".into(),
                name: "a".into(),
            },
            uid: "u".into(),
            created: None,
            objects: vec![DeclaredObject::new(
                kind(),
                "x".into(),
                &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": "v"}}),
                "d1".into(),
            )],
            traffic: None,
        }
    }

    fn kind() -> Kind {
        Kind {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
        }
    }

    fn seen(value: &str, digest: &str) -> Seen {
        let object: Value = json!({"metadata": {"name": "x", "uid": "1", "resourceVersion": "5",
            "annotations": {"flambeau.dev/epoch": "3", "flambeau.dev/digest": digest}}, "data": {"k": value}});
        Seen::of(
            &kind(),
            &serde_json::from_value(object).unwrap(),
            Some(&declared()),
        )
    }

    #[test]
    fn current_needs_the_digest_the_epoch_and_the_contents() {
        let declared = &declared().objects[0];
        assert!(seen("v", "d1").current(declared, 3));
        assert!(!seen("v", "d1").current(declared, 4));
        assert!(!seen("v", "d0").current(declared, 3));
        assert!(!seen("drifted", "d1").current(declared, 3));
    }

    #[test]
    fn a_shape_that_a_webhook_insists_on_is_accepted_until_it_changes() {
        let mut written = seen("changed by a webhook", "d1");
        let Judgement::Differs(shape) = written.judgement else {
            panic!("{:?}", written.judgement);
        };
        written.accepted = Some(shape);
        assert!(written.in_sync());
        let mut later = seen("changed by a webhook", "d1");
        later.inherit(&written);
        assert!(later.in_sync());
        let mut drifted = seen("changed by a person", "d1");
        drifted.inherit(&written);
        assert!(!drifted.in_sync());
    }
}
