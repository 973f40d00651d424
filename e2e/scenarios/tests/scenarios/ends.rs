//! Applications that change or go in the middle of a move, or while their member is away.

use anyhow::{Result, ensure};
use flambeau_crds::{
    Sensitivity,
    migration::{MigrationOutcome, MigrationStep},
};
use serde_json::json;

use crate::{load::Counted, wait::until, world::World};

/// Deleted while requests go over: nothing is left anywhere.
pub fn deleted_in_the_middle(world: &World) -> Result<Counted> {
    let stage = world.stage("deleted")?;
    let mut asked = stage.asked(Sensitivity::Public, &["alibaba"]);
    asked.pace.stage_seconds = 20;
    let played = stage.play(asked, |_| {})?;
    played.request("away", "alibaba", "atos", false)?;
    played.reaches("away", MigrationStep::Shift)?;
    played.delete()?;
    until("the application is gone", || {
        Ok(played
            .object()?
            .map(|object| format!("{:?}", object.metadata.finalizers)))
    })?;
    played.nothing_at("alibaba")?;
    played.nothing_at("atos")?;
    until("the move is over", || {
        let open = played
            .moves()?
            .into_iter()
            .filter(|migration| flambeau_scenarios::hub::outcome(migration).is_none());
        Ok(open
            .map(|migration| format!("{:?}", migration.status))
            .next())
    })?;
    Ok(Counted::default())
}

/// Its spec changes while requests go over: the move ends, and both the target and the answer are as declared last.
pub fn changed_in_the_middle(world: &World) -> Result<Counted> {
    let stage = world.stage("changed")?;
    let mut asked = stage.asked(Sensitivity::Public, &["alibaba"]);
    asked.pace.stage_seconds = 4;
    let mut played = stage.play(asked, |_| {})?;
    let load = played.load()?;
    played.request("away", "alibaba", "atos", false)?;
    played.reaches("away", MigrationStep::Shift)?;
    let extra = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "added-in-the-middle" }, "data": { "a": "b" },
    });
    played.change(|object| object.spec.resources.push(extra))?;
    played.ends("away", MigrationOutcome::Completed)?;
    played.rests_at("atos")?;
    played.whole_at("atos")?;
    played.nothing_at("alibaba")?;
    load.ends_clean()
}

/// Deleted while its member is cut off: the deletion does not wait, and the copy is erased when the member is back.
pub fn deleted_while_member_is_dead(world: &World) -> Result<Counted> {
    let stage = world.stage("dead-member")?;
    let played = stage.play(stage.asked(Sensitivity::Public, &["ovh"]), |_| {})?;
    let ovh = world.member("ovh");
    ovh.cut_link()?;
    until("ovh counts as unreachable", || {
        let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let ready = world
            .testbed
            .hub()
            .kubectl(&["get", "member", "ovh", "--output", ready])?;
        Ok((ready == "True").then_some(ready))
    })?;
    played.delete()?;
    until("the application is gone", || {
        Ok(played
            .object()?
            .map(|object| format!("{:?}", object.metadata.finalizers)))
    })?;
    ovh.restore_link()?;
    played.nothing_at("ovh")?;
    Ok(Counted::default())
}

/// Cluster and provider are deleted while an application runs there: they stay, say so, and nothing moves; they go when
/// it has gone.
pub fn in_use(world: &World) -> Result<Counted> {
    let stage = world.stage("in-use")?;
    let played = stage.play(stage.asked(Sensitivity::Public, &["ovh"]), |_| {})?;
    let load = played.load()?;
    let hub = world.testbed.hub();
    let used = ["member/ovh", "cprov/ovh"];
    for object in used {
        hub.kubectl(&["delete", object, "--wait=false"])?;
    }
    for object in used {
        until(&format!("{object} says that it is in use"), || {
            let reasons = "jsonpath={.status.conditions[*].reason}";
            let reasons = hub.kubectl(&["get", object, "--output", reasons])?;
            Ok((!reasons.contains("InUse")).then_some(reasons))
        })?;
    }
    played.rests_at("ovh")?;
    ensure!(
        played.moves()?.is_empty(),
        "nothing moves because a cluster is deleted"
    );
    let counted = load.ends_clean()?;
    played.delete()?;
    for object in used {
        hub.kubectl(&["wait", "--for=delete", "--timeout=60s", object])?;
    }
    played.nothing_at("ovh")?;
    Ok(counted)
}
