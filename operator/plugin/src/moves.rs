//! What Migrations and applications say, in words.

use flambeau_crds::{
    EvacuationSpec, GamesApplication, Migration,
    application::PlacementRole,
    migration::{MigrationStep, MigrationTrigger},
};
use flambeau_operator::offline::objects::Objects;
use flambeau_planner::model::ApplicationKey;
use jiff::Timestamp;

/// Where the active copy of an application is recorded.
pub fn active(object: &GamesApplication) -> Option<&str> {
    let placements = &object.status.as_ref()?.placements;
    placements
        .iter()
        .find(|placement| placement.role == PlacementRole::Active)
        .map(|placement| placement.cluster.as_str())
}

/// The name of a Migration.
pub fn name(object: &Migration) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

/// The step of a Migration.
pub fn step(object: &Migration) -> Option<MigrationStep> {
    object.status.as_ref()?.step
}

/// Whether nothing is left to do about a Migration.
pub fn over(object: &Migration) -> bool {
    step(object) == Some(MigrationStep::Done)
}

/// When a Migration was asked for.
pub fn created(object: &Migration) -> Timestamp {
    object
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::MIN, |time| time.0)
}

/// Every Migration of an application, the oldest first.
pub fn all<'a>(objects: &'a Objects, application: &ApplicationKey) -> Vec<&'a Migration> {
    let mut moves: Vec<&Migration> = objects
        .migrations
        .iter()
        .filter(|(key, object)| {
            key.namespace == application.namespace && *object.spec.application == *application.name
        })
        .map(|(_, object)| object)
        .collect();
    moves.sort_by_key(|object| (created(object), name(object)));
    moves
}

/// The move of an application that is under way: the one that touched something
/// already, or else the oldest.
pub fn open<'a>(objects: &'a Objects, application: &ApplicationKey) -> Option<&'a Migration> {
    let open: Vec<&Migration> = all(objects, application)
        .into_iter()
        .filter(|object| !over(object))
        .collect();
    open.iter()
        .find(|object| reached(object, MigrationStep::Prepare))
        .or_else(|| open.first())
        .copied()
}

/// Whether a Migration ever got to a step.
pub fn reached(object: &Migration, step: MigrationStep) -> bool {
    object
        .status
        .iter()
        .flat_map(|status| &status.steps)
        .any(|record| record.name == step)
}

/// Who asked for a move.
pub fn who(object: &Migration) -> String {
    match (&object.spec.requested_by, &object.spec.evacuation) {
        (Some(user), _) => user.clone(),
        (None, Some(evacuation)) => format!("evacuation/{evacuation}"),
        (None, None) => match object.spec.trigger {
            MigrationTrigger::Request => "somebody".to_owned(),
            _ => "Flambeau".to_owned(),
        },
    }
}

/// What an Evacuation empties.
pub fn place(spec: &EvacuationSpec) -> String {
    match (&spec.cluster, &spec.provider) {
        (Some(cluster), _) => format!("cluster/{cluster}"),
        (None, provider) => format!("provider/{}", provider.as_deref().unwrap_or_default()),
    }
}
