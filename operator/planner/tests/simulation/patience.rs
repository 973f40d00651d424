//! What has to last, lasts, whatever the operator's clock says: neither a
//! process with another clock nor one whose clock is set cuts a wait short.

use crate::{
    operator::Broken,
    rules::broken,
    world::{HubApplication, HubMigration, World},
};
use flambeau_planner::{
    Reason,
    model::{MigrationRecord, MoveType, Step},
};
use jiff::SignedDuration;

/// A target gets its time to get ready, a soak lasts, and open requests get
/// their time to end.
pub fn enough(
    world: &World,
    migration: &HubMigration,
    application: &HubApplication,
    new: &MigrationRecord,
) -> Result<(), Broken> {
    let old = &migration.record;
    let strategy = &application.spec.strategy;
    let short = |since: Step, least: SignedDuration| {
        let entered = migration.entered.get(&since).copied();
        let lasted = entered.map_or(0, |entered| world.second - entered);
        i64::try_from(lasted).unwrap_or(i64::MAX) < least.as_secs()
    };
    let gave_up = |record: &MigrationRecord| {
        let reason = record.abort_reason.as_ref().map(|(reason, _)| *reason);
        reason == Some(Reason::ReadyTimeout)
    };
    let name = &migration.name;
    if gave_up(new) && !gave_up(old) && short(Step::Prepare, strategy.ready_timeout) {
        broken("a target gets its time to get ready", name)?;
    }
    // A source that is lost, or may be, is not waited for.
    let (key, from) = (&migration.application, &migration.from);
    if !application.spec.traffic || !world.answers(key, from) || world.disturbed(key, from) {
        return Ok(());
    }
    let planned = migration.move_type != MoveType::Failover;
    match (old.step, new.step) {
        (Some(Step::Soak), Some(Step::Drain)) if planned && short(Step::Soak, strategy.soak) => {
            broken("a soak lasts as long as it should", name)
        }
        (Some(Step::Drain), Some(Step::Retire)) if short(Step::Drain, strategy.drain) => {
            let route = world.edge.get(key);
            let open = route.and_then(|route| route.open.get(from).copied());
            match open {
                Some(open) if open > 0 => broken("open requests get their time to end", name),
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}
