//! The rules that every decision is held against.

use crate::{
    operator::Broken,
    oracle::lawful,
    rules::broken,
    world::{Link, World},
};
use flambeau_planner::{
    Plan,
    evacuation::EvacuationPlan,
    fleet::{ApplicationPlan, Decision, Loss, Motive},
    model::{
        Application, Cluster, Evacuation, Migration, MoveType, Name, Outcome, Reach, Resources,
        Role, Service, Snapshot, Step,
    },
};
use jiff::Timestamp;

/// Seconds after which an operator that lives knows what is so.
const KNOWN_AFTER: u64 = 20;

/// Most of the clusters that could still vanish did so within one window.
pub fn hub_suspect(snapshot: &Snapshot) -> bool {
    let gone: Vec<Timestamp> = snapshot
        .clusters
        .values()
        .filter_map(|cluster| match cluster.reach {
            Reach::Unreachable { since } => Some(since),
            _ => None,
        })
        .collect();
    let asked = snapshot
        .clusters
        .values()
        .filter(|cluster| !matches!(cluster.reach, Reach::Misconfigured { .. }));
    let asked = asked.count();
    gone.iter().any(|last| {
        let window = snapshot.settings.hub_window;
        let before = |since: &&Timestamp| last.duration_since(**since) > window;
        let together = |since: &&Timestamp| !before(since) && *since <= last;
        let left = asked - gone.iter().filter(before).count();
        gone.iter().filter(together).count() * 2 > left
    })
}

/// Whether an evacuation that was not aborted empties a cluster.
pub fn emptied(evacuation: &Evacuation, cluster: &Cluster) -> bool {
    let named = evacuation.cluster.as_ref() == Some(&cluster.name)
        || evacuation.provider.as_ref() == Some(&cluster.provider);
    named && !evacuation.abort
}

/// Whether a freeze holds planned moves of an application.
pub fn frozen(snapshot: &Snapshot, application: &Application, now: Timestamp) -> bool {
    snapshot.freezes.values().any(|freeze| {
        let namespaces = &freeze.namespaces;
        let concerned =
            namespaces.is_empty() || namespaces.contains(&application.spec.key.namespace);
        concerned && freeze.from <= now && now < freeze.until
    })
}

/// Decisions keep the law, the state of clusters, the budgets, the freezes and
/// what people said, and still while the hub is suspect.
pub fn plan(world: &World, snapshot: &Snapshot, plan: &Plan) -> Result<(), Broken> {
    let now = world.now();
    for (application, planned) in snapshot.applications.iter().zip(&plan.applications) {
        match &planned.decision {
            Decision::Place { cluster } => target(snapshot, application, cluster, now)?,
            Decision::Move { to, motive, .. } => {
                target(snapshot, application, to, now)?;
                let suspect = hub_suspect(snapshot);
                if suspect {
                    broken("when most clusters vanish, hold", &planned.key)?;
                }
                match motive {
                    Motive::Loss(loss) => failover(world, snapshot, application, loss)?,
                    _ => planned_move(snapshot, application, to, motive, now)?,
                }
            }
            _ => {}
        }
    }
    budgets(snapshot, plan)?;
    rooms(snapshot, plan)?;
    plan.evacuations
        .iter()
        .try_for_each(|planned| evacuation(snapshot, planned))
}

fn target(
    snapshot: &Snapshot,
    application: &Application,
    to: &Name,
    now: Timestamp,
) -> Result<(), Broken> {
    let what = format!("{} to {to}", application.spec.key);
    if !lawful(snapshot, to, application.spec.sensitivity, now) {
        broken("never an unlawful choice", &what)?;
    }
    let Some(cluster) = snapshot.clusters.get(to) else {
        return broken("a target is part of the fleet", &what);
    };
    if cluster.cordoned || cluster.deleting {
        broken("nothing new on a closed cluster", &what)?;
    }
    if cluster.reach != Reach::Reachable {
        broken("a target answers", &what)?;
    }
    let proved = |since: Timestamp| now.duration_since(since) >= cluster.recovered_after;
    if cluster.returned && !cluster.answers_since.is_some_and(proved) {
        broken("a cluster that returned proves itself first", &what)?;
    }
    if cluster
        .nodes
        .is_some_and(|nodes| nodes.total > 0 && nodes.ready == 0)
    {
        broken("a target has nodes", &what)?;
    }
    let mut evacuations = snapshot.evacuations.values();
    if evacuations.any(|evacuation| emptied(evacuation, cluster)) {
        broken("nothing new where everything leaves", &what)?;
    }
    Ok(())
}

fn failover(
    world: &World,
    snapshot: &Snapshot,
    application: &Application,
    loss: &Loss,
) -> Result<(), Broken> {
    let key = &application.spec.key;
    let spec = &application.spec.failover;
    let now = world.now();
    let Some(active) = application.record.active() else {
        return broken("only what runs is failed over", key);
    };
    if !spec.automatic {
        broken("in manual mode a person decides", key)?;
    }
    let answers = |application: &Application| {
        let copy = application.copies.get(&active.cluster);
        copy.is_some_and(|copy| copy.service.answers())
    };
    if answers(application) {
        broken("what answers is not failed over", key)?;
    }
    let silent = match application
        .copies
        .get(&active.cluster)
        .map(|copy| copy.service)
    {
        Some(Service::Silent { since }) => now.duration_since(since) >= spec.unhealthy_after,
        _ => false,
    };
    let cooled = !application.record.failed_targets.iter().any(|failed| {
        failed.reason == flambeau_planner::Reason::ClusterLost && failed.retry_after > now
    });
    let lost = snapshot
        .clusters
        .get(&active.cluster)
        .is_some_and(|cluster| {
            matches!(cluster.reach, Reach::Unreachable { .. })
                && !snapshot.applications.iter().any(answers)
        });
    if !(lost || silent && cooled) {
        broken(
            "only what is lost is failed over",
            format!("{key}: {loss:?}"),
        )?;
    }
    let well = world.answers_since(key, &active.cluster);
    if well.is_some_and(|since| world.second >= since + KNOWN_AFTER) {
        broken("what truly answers is not failed over", key)?;
    }
    let partitioned = world
        .members
        .get(&active.cluster)
        .is_some_and(|member| member.link == Link::Partitioned);
    if well.is_some() && partitioned && world.second < KNOWN_AFTER {
        broken("a silent API server is no loss", key)?;
    }
    Ok(())
}

fn planned_move(
    snapshot: &Snapshot,
    application: &Application,
    to: &Name,
    motive: &Motive,
    now: Timestamp,
) -> Result<(), Broken> {
    let key = &application.spec.key;
    let evacuation = motive
        .evacuation()
        .and_then(|name| snapshot.evacuations.get(name));
    let crosses = evacuation.is_some_and(|evacuation| evacuation.ignore_freeze);
    if frozen(snapshot, application, now) && !crosses {
        broken("no planned move begins in a freeze", key)?;
    }
    if let Some(evacuation) = evacuation {
        let held = evacuation.pause || evacuation.abort || evacuation.ended;
        let elsewhere = !evacuation.to.is_empty() && !evacuation.to.contains(to);
        if held || elsewhere {
            broken("an evacuation does what it says", format!("{key} to {to}"))?;
        }
    }
    if *motive == Motive::Failback {
        let home = application.record.failed_over_from.as_ref() == Some(to);
        let since = snapshot
            .clusters
            .get(to)
            .and_then(|cluster| cluster.answers_since);
        let asked = application.spec.failover.failback_after;
        let well = since
            .zip(asked)
            .is_some_and(|(since, after)| now.duration_since(since) >= after);
        if !(home && well) {
            broken(
                "a failback leads home, when home is well",
                format!("{key} to {to}"),
            )?;
        }
    }
    Ok(())
}

fn budgets(snapshot: &Snapshot, plan: &Plan) -> Result<(), Broken> {
    let begun = |wanted: &dyn Fn(&Motive) -> bool| {
        let moves = plan.applications.iter().filter(
            |planned| matches!(&planned.decision, Decision::Move { motive, .. } if wanted(motive)),
        );
        moves.count()
    };
    let open = |wanted: &dyn Fn(&Migration) -> bool| {
        let moves = snapshot
            .applications
            .iter()
            .filter(|application| application.migrations.iter().any(wanted));
        moves.count()
    };
    let writes = |one: &Migration| {
        one.move_type == MoveType::Failover
            && !one.pause
            && one.record.step.is_none_or(|step| step < Step::Ready)
    };
    let touched =
        |one: &Migration| one.move_type != MoveType::Failover && one.record.reached(Step::Prepare);
    let settings = &snapshot.settings;
    let (failovers, planned) = (begun(&|one| !one.planned()), begun(&Motive::planned));
    if failovers > 0 && failovers + open(&writes) > settings.concurrent_failovers {
        broken("the budget of failovers is global", failovers)?;
    }
    if planned > 0 && planned + open(&touched) > settings.concurrent_moves {
        broken("the budget is global", planned)?;
    }
    for evacuation in snapshot.evacuations.values() {
        let Some(limit) = evacuation.max_concurrent else {
            continue;
        };
        let begun = begun(&|one| one.evacuation() == Some(&evacuation.name));
        let open = open(&|one| one.evacuation.as_ref() == Some(&evacuation.name));
        if begun > 0 && begun + open > limit {
            broken("an evacuation has a budget", &evacuation.name)?;
        }
    }
    Ok(())
}

/// What is decided fits beside what is there, and what was decided before.
fn rooms(snapshot: &Snapshot, plan: &Plan) -> Result<(), Broken> {
    for cluster in snapshot.clusters.values() {
        let Some(capacity) = cluster.capacity else {
            continue;
        };
        let goes = |planned: &ApplicationPlan| match &planned.decision {
            Decision::Place { cluster: to } | Decision::Move { to, .. } => *to == cluster.name,
            _ => false,
        };
        let mut both = snapshot.applications.iter().zip(&plan.applications);
        if !both.any(|(one, planned)| goes(planned) && one.spec.demand.milli_cpu > 0) {
            continue;
        }
        let mut taken = Resources::default();
        for (application, planned) in snapshot.applications.iter().zip(&plan.applications) {
            let there = application
                .record
                .on(&cluster.name)
                .is_some_and(|placement| {
                    matches!(placement.role, Role::Active | Role::Target | Role::Source)
                });
            let coming = application
                .current_move()
                .is_some_and(|one| one.to == cluster.name);
            if there || coming || goes(planned) {
                taken.milli_cpu += application.spec.demand.milli_cpu;
            }
        }
        if taken.milli_cpu > capacity.milli_cpu {
            let what = format!("{} on {}, which has {}", taken, cluster.name, capacity);
            broken("nothing goes to a full cluster", what)?;
        }
    }
    Ok(())
}

fn evacuation(snapshot: &Snapshot, planned: &EvacuationPlan) -> Result<(), Broken> {
    let name = &planned.name;
    let Some(evacuation) = snapshot.evacuations.get(name) else {
        return broken("only what exists is evacuated", name);
    };
    if planned.moved + planned.remaining.len() != planned.total
        || planned.moving > planned.remaining.len()
        || planned.total < evacuation.total
    {
        broken("an evacuation adds up", format!("{planned:?}"))?;
    }
    let open = snapshot
        .applications
        .iter()
        .flat_map(|application| &application.migrations)
        .any(|one| one.evacuation.as_ref() == Some(name));
    let left = snapshot.applications.iter().any(|application| {
        let active = application.record.active();
        let cluster = active.and_then(|active| snapshot.clusters.get(&active.cluster));
        !application.deleting && cluster.is_some_and(|cluster| emptied(evacuation, cluster))
    });
    let over = match planned.outcome {
        Some(Outcome::Completed) => left || open || !planned.remaining.is_empty(),
        Some(Outcome::Aborted) => open || !evacuation.abort,
        None => false,
    };
    if over {
        broken(
            "an evacuation ends when nothing is left",
            format!("{planned:?}"),
        )?;
    }
    Ok(())
}
