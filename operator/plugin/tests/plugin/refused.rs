//! Refusals, each before anything is created, and each by the name of its
//! rule.

use crate::{
    hub::{Hub, SharedHub},
    objects::{cluster, freeze, lost, namespaced, refusing},
    trial,
};
use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use serde_json::json;
use std::sync::Arc;

pub fn trials(hub: &Arc<SharedHub>) -> Vec<Trial> {
    vec![
        trial(hub, "refused::by_the_law", by_the_law),
        trial(
            hub,
            "refused::by_the_state_of_the_target",
            by_the_state_of_the_target,
        ),
        trial(hub, "refused::by_a_freeze", by_a_freeze),
        trial(hub, "refused::by_another_move", by_another_move),
        trial(hub, "refused::failback_to_nowhere", failback_to_nowhere),
        trial(hub, "refused::evacuations", evacuations),
        trial(hub, "refused::by_the_hub", by_the_hub),
        trial(hub, "refused::unknown_names", unknown_names),
    ]
}

/// The rule is named, something is said to do next, and nothing is made.
fn refused(hub: &Hub, line: &str, says: &[&str]) -> Result<()> {
    let before = hub.migrations()?.len();
    let answer = hub.expect(2, line)?;
    for text in says {
        ensure!(
            answer.err.contains(text),
            "kubectl flambeau {line} does not say `{text}`, but:\n{}",
            answer.err
        );
    }
    ensure!(
        answer.err.lines().count() >= 2,
        "nothing is said to do next:\n{}",
        answer.err
    );
    ensure!(
        hub.migrations()?.len() == before,
        "{line}: a Migration was made"
    );
    ensure!(
        hub.get("evacuations")?["items"] == json!([]),
        "{line}: an Evacuation was made"
    );
    Ok(())
}

fn by_the_law(hub: &Hub) -> Result<()> {
    hub.apply(&[refusing("ovh")])?;
    for verb in ["relocate", "failover"] {
        refused(
            hub,
            &format!("{verb} badges --to ovh --reason test"),
            &["ProviderRefused", "policy no-way"],
        )?;
    }
    Ok(())
}

fn by_the_state_of_the_target(hub: &Hub) -> Result<()> {
    let mut cordoned = cluster("atos");
    cordoned["spec"]["cordoned"] = json!(true);
    let mut small = cluster("ovh");
    small["spec"]["capacity"] = json!({"cpu": "500m"});
    hub.apply(&[cordoned, small])?;
    let ask = |to: &str| format!("relocate badges --to {to}");
    refused(hub, &ask("alibaba"), &["AlreadyThere", "alibaba"])?;
    refused(
        hub,
        &ask("nowhere"),
        &["ClusterUnknown", "alibaba, atos, ovh"],
    )?;
    refused(hub, &ask("atos"), &["ClusterCordoned", "uncordon atos"])?;
    refused(hub, &ask("ovh"), &["ClusterFull"])?;
    hub.apply(&[cluster("ovh")])?;
    hub.report(&[lost("ovh")])?;
    refused(
        hub,
        &ask("ovh"),
        &["ClusterUnreachable", "2020-02-02T10:00:00Z"],
    )?;
    hub.expect(0, "uncordon atos")?;
    hub.expect(0, &format!("{} --dry-run", ask("atos")))?;
    Ok(())
}

fn by_a_freeze(hub: &Hub) -> Result<()> {
    hub.apply(&[freeze()])?;
    let says = ["Frozen", "opening ceremony", "--ignore-freeze"];
    refused(hub, "relocate badges --to ovh", &says)?;
    refused(hub, "evacuate cluster/alibaba --reason test", &says)?;
    hub.expect(0, "failover badges --to ovh --reason test --dry-run")?;
    hub.expect(0, "relocate badges --to ovh --ignore-freeze")?;
    let made = hub.migrations()?;
    ensure!(
        made[0]["spec"]["ignoreFreeze"] == true,
        "the override is not recorded"
    );
    Ok(())
}

fn by_another_move(hub: &Hub) -> Result<()> {
    hub.expect(0, "relocate badges --to ovh")?;
    refused(
        hub,
        "relocate badges --to atos",
        &[
            "AnotherMove",
            "badges-relocate-",
            "kubectl flambeau abort badges",
        ],
    )?;
    hub.expect(0, "relocate results --to atos")?;
    Ok(())
}

fn failback_to_nowhere(hub: &Hub) -> Result<()> {
    refused(
        hub,
        "failback badges",
        &["NotFailedOver", "nothing to go back to"],
    )
}

fn evacuations(hub: &Hub) -> Result<()> {
    let ask = |place: &str| format!("evacuate {place} --reason test");
    refused(hub, &ask("cluster/nowhere"), &["ClusterUnknown"])?;
    refused(hub, &ask("provider/nobody"), &["ClusterUnknown"])?;
    refused(
        hub,
        "evacuate cluster/alibaba --to nowhere --reason test",
        &["ClusterUnknown", "--to"],
    )?;
    let full = |name: &str| {
        let mut full = cluster(name);
        full["spec"]["capacity"] = json!({"cpu": "1m"});
        full
    };
    hub.apply(&[full("atos"), full("ovh")])?;
    refused(
        hub,
        &ask("cluster/alibaba"),
        &[
            "SHORTFALL: 2 applications, which request 2",
            "NoEligibleCluster",
        ],
    )
}

/// Permissions are the hub's: reading is not moving.
fn by_the_hub(hub: &Hub) -> Result<()> {
    hub.kubectl(&[
        "create",
        "clusterrole",
        "reader",
        "--verb=get,list,watch",
        "--resource=gamesapplications,migrations,memberclusters,cloudproviders,sovereigntypolicies,evacuations,freezes",
    ])?;
    hub.kubectl(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=reader",
        "--user=eve",
    ])?;
    let eve = "--as eve --as-group system:authenticated";
    hub.expect(0, &format!("status -o json {eve}"))?;
    let plan = hub.run(&format!("plan {eve}"))?;
    ensure!(plan.code == 0, "eve may read, so she may plan: {plan:?}");
    for (line, missing) in [
        (
            "relocate badges --to ovh",
            "eve may not create migrations.flambeau.dev in namespace games",
        ),
        (
            "relocate badges --to ovh --dry-run",
            "eve may not create migrations.flambeau.dev in namespace games",
        ),
        (
            "evacuate cluster/alibaba --reason test",
            "eve may not create evacuations.flambeau.dev\n",
        ),
        (
            "cordon ovh",
            "eve may not patch memberclusters.flambeau.dev\n",
        ),
    ] {
        let answer = hub.expect(5, &format!("{line} {eve}"))?;
        ensure!(
            answer.err.contains(missing) && answer.err.contains("Ask whoever grants permissions"),
            "{line}: {}",
            answer.err
        );
    }
    let answer = hub.expect(5, "status --as mallory --as-group system:authenticated")?;
    ensure!(
        answer.err.contains("mallory may not list "),
        "{}",
        answer.err
    );
    ensure!(hub.migrations()?.is_empty(), "a Migration was made");
    Ok(())
}

fn unknown_names(hub: &Hub) -> Result<()> {
    let answer = hub.expect(1, "relocate nobody --to ovh")?;
    ensure!(
        answer.err.contains("kubectl flambeau status -A"),
        "{}",
        answer.err
    );
    hub.apply(&[{
        let mut elsewhere = namespaced(
            "GamesApplication",
            "tickets",
            json!({
                "spec": crate::objects::application("tickets")["spec"],
            }),
        );
        elsewhere["metadata"]["namespace"] = json!("default");
        elsewhere
    }])?;
    let answer = hub.expect(1, "status tickets")?;
    ensure!(answer.err.contains("add -n default"), "{}", answer.err);
    let answer = hub.expect(1, "evacuate ovh --reason test")?;
    ensure!(
        answer.err.contains("cluster/NAME or provider/NAME"),
        "{}",
        answer.err
    );
    let answer = hub.expect(1, "failover badges --to ovh")?;
    ensure!(answer.err.contains("--reason"), "{}", answer.err);
    Ok(())
}
