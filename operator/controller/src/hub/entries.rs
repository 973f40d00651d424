//! What is kept of each object: what decisions need, not the object.

use crate::{convert, declared::Declared};
use flambeau_crds::{
    CloudProvider, CloudProviderStatus, Evacuation, EvacuationStatus, FINALIZER, Freeze,
    FreezeStatus, GamesApplication, GamesApplicationStatus, MemberCluster, Migration,
    MigrationSpec, MigrationStatus, SovereigntyPolicy, SovereigntyPolicyStatus,
};
use flambeau_planner::model::{
    self, ApplicationKey, ApplicationRecord, ApplicationSpec, Kind, MigrationRecord, Policy,
    Provider,
};
use jiff::Timestamp;
use kube::{Resource, ResourceExt, api::ObjectMeta};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

/// Namespace and name; the namespace of cluster-scoped objects is empty.
pub type ObjectKey = ApplicationKey;

/// What every entry knows of its object.
#[derive(Clone, Debug, PartialEq)]
pub struct Meta {
    /// UID.
    pub uid: String,
    /// Resource version, as the number that it is.
    pub version: u64,
    /// Generation of the spec.
    pub generation: Option<i64>,
    /// Where Flambeau's finalizer stands among the finalizers, if it is on it.
    pub finalizer: Option<usize>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// When it was created.
    pub created: Option<Timestamp>,
}

impl Meta {
    fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: version(metadata),
            generation: metadata.generation,
            finalizer: metadata
                .finalizers
                .iter()
                .flatten()
                .position(|finalizer| finalizer == FINALIZER),
            deleting: metadata.deletion_timestamp.is_some(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
        }
    }
}

impl Meta {
    /// Whether Flambeau's finalizer is on it.
    pub fn protected(&self) -> bool {
        self.finalizer.is_some()
    }
}

fn version(metadata: &ObjectMeta) -> u64 {
    metadata
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// An entry of a cache.
pub trait Entry: Clone + Debug + Send + Sync + 'static {
    /// The kind of the API.
    type Object: Resource<DynamicType = ()>
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static;

    /// What is kept of the object; what did not change comes from before.
    fn from_object(object: Self::Object, before: Option<&Self>) -> Self;

    /// What every entry knows.
    fn meta(&self) -> &Meta;

    /// Namespace and name of an object.
    fn key(object: &Self::Object) -> ObjectKey {
        ObjectKey {
            namespace: object.namespace().unwrap_or_default().into(),
            name: object.name_any().into(),
        }
    }

    /// Resource version of an object.
    fn version_of(object: &Self::Object) -> u64 {
        version(object.meta())
    }
}

/// A CloudProvider.
#[derive(Clone, Debug)]
pub struct ProviderEntry {
    /// About the object.
    pub meta: Meta,
    /// Legal facts.
    pub facts: Arc<Provider>,
    /// Its status.
    pub status: CloudProviderStatus,
}

impl Entry for ProviderEntry {
    type Object = CloudProvider;

    fn from_object(object: CloudProvider, _: Option<&Self>) -> Self {
        Self {
            meta: Meta::of(&object.metadata),
            facts: Arc::new(convert::provider(&object)),
            status: object.status.unwrap_or_default(),
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// A MemberCluster.
#[derive(Clone, Debug)]
pub struct ClusterEntry {
    /// About the object.
    pub meta: Meta,
    /// The object, without its managed fields.
    pub object: Arc<MemberCluster>,
}

impl Entry for ClusterEntry {
    type Object = MemberCluster;

    fn from_object(mut object: MemberCluster, _: Option<&Self>) -> Self {
        object.metadata.managed_fields = None;
        Self {
            meta: Meta::of(&object.metadata),
            object: Arc::new(object),
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// A SovereigntyPolicy.
#[derive(Clone, Debug)]
pub struct PolicyEntry {
    /// About the object.
    pub meta: Meta,
    /// What it asks for.
    pub policy: Arc<Policy>,
    /// Its status.
    pub status: SovereigntyPolicyStatus,
}

impl Entry for PolicyEntry {
    type Object = SovereigntyPolicy;

    fn from_object(object: SovereigntyPolicy, _: Option<&Self>) -> Self {
        Self {
            meta: Meta::of(&object.metadata),
            policy: Arc::new(convert::policy(&object)),
            status: object.status.unwrap_or_default(),
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// A GamesApplication.
#[derive(Clone, Debug)]
pub struct ApplicationEntry {
    /// About the object.
    pub meta: Meta,
    /// For the planner.
    pub spec: Arc<ApplicationSpec>,
    /// For members and the edge; or what cannot be used.
    pub declared: Result<Arc<Declared>, String>,
    /// Its status.
    pub status: Arc<GamesApplicationStatus>,
    /// What was recorded, from the status.
    pub record: Arc<ApplicationRecord>,
    /// Kinds that a copy may have: those that are declared, and those that ever
    /// were while a copy has been anywhere.
    pub kinds: Arc<BTreeSet<Kind>>,
    /// Whether all of them are stored: before that, none is written.
    pub kinds_stored: bool,
}

impl Entry for ApplicationEntry {
    type Object = GamesApplication;

    fn from_object(mut object: GamesApplication, before: Option<&Self>) -> Self {
        let meta = Meta::of(&object.metadata);
        let unchanged = before.filter(|before| {
            before.meta.uid == meta.uid && before.meta.generation == meta.generation
        });
        let (spec, declared) = match unchanged {
            Some(before) => (Arc::clone(&before.spec), before.declared.clone()),
            None => {
                let (spec, declared) = convert::application(&mut object);
                (Arc::new(spec), declared.map(Arc::new))
            }
        };
        let status = object.status.unwrap_or_default();
        let record = Arc::new(convert::application_record(&status));
        let stored: BTreeSet<Kind> = status.kinds.iter().map(convert::kind).collect();
        let kinds_stored = stored.is_superset(&spec.kinds);
        let kinds = stored.union(&spec.kinds).cloned().collect();
        let unchanged = before.filter(|before| *before.kinds == kinds);
        Self {
            meta,
            spec,
            declared,
            status: Arc::new(status),
            record,
            kinds: unchanged.map_or_else(|| Arc::new(kinds), |before| Arc::clone(&before.kinds)),
            kinds_stored,
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// A Migration.
#[derive(Clone, Debug)]
pub struct MigrationEntry {
    /// About the object.
    pub meta: Meta,
    /// What was asked for.
    pub spec: Arc<MigrationSpec>,
    /// Its status.
    pub status: Arc<MigrationStatus>,
    /// What was recorded, from the status.
    pub record: Arc<MigrationRecord>,
}

impl Entry for MigrationEntry {
    type Object = Migration;

    fn from_object(object: Migration, _: Option<&Self>) -> Self {
        let meta = Meta::of(&object.metadata);
        let status = object.status.unwrap_or_default();
        let record = Arc::new(convert::migration_record(&status));
        Self {
            meta,
            spec: Arc::new(object.spec),
            status: Arc::new(status),
            record,
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// An Evacuation.
#[derive(Clone, Debug)]
pub struct EvacuationEntry {
    /// About the object.
    pub meta: Meta,
    /// What was asked for and recorded.
    pub evacuation: Arc<model::Evacuation>,
    /// Its status.
    pub status: Arc<EvacuationStatus>,
}

impl Entry for EvacuationEntry {
    type Object = Evacuation;

    fn from_object(object: Evacuation, _: Option<&Self>) -> Self {
        Self {
            meta: Meta::of(&object.metadata),
            evacuation: Arc::new(convert::evacuation(&object)),
            status: Arc::new(object.status.unwrap_or_default()),
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// A Freeze.
#[derive(Clone, Debug)]
pub struct FreezeEntry {
    /// About the object.
    pub meta: Meta,
    /// The window.
    pub freeze: Arc<model::Freeze>,
    /// Its status.
    pub status: FreezeStatus,
}

impl Entry for FreezeEntry {
    type Object = Freeze;

    fn from_object(object: Freeze, _: Option<&Self>) -> Self {
        Self {
            meta: Meta::of(&object.metadata),
            freeze: Arc::new(convert::freeze(&object)),
            status: object.status.unwrap_or_default(),
        }
    }

    fn meta(&self) -> &Meta {
        &self.meta
    }
}
