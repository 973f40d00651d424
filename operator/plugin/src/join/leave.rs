//! `unjoin`: takes a cluster out of the fleet, and everything of Flambeau off
//! the cluster.

use super::{
    belongings, credentials, hub_side, identity, others,
    side::{Done, Log, Place, Side, title},
};
use crate::{
    cli::Unjoin,
    failure::Failure,
    hub::Hub,
    text::{self, Line, Tone},
};
use anyhow::bail;
use credentials::Administrator;
use flambeau_crds::{GamesApplication, MemberCluster, application::PlacementRole};
use flambeau_operator::members::rights::{self, Membership};
use flambeau_planner::{Reason, model::ApplicationKey};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::{process::ExitCode, time::Duration};
use tokio::time::{Instant, sleep};

/// How long Flambeau may take to let go of a MemberCluster, and the member to
/// let go of what the policy protected.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);
/// The most objects of others that are named.
const NAMED: usize = 5;
/// The ConfigMaps in which namespaces remember epochs.
const EPOCHS: &str = "flambeau-epochs";

/// `unjoin`.
///
/// # Errors
/// When applications are placed there, or an API server refuses or does not
/// answer; the same command goes on from there.
pub async fn unjoin(hub: &Hub, options: Unjoin) -> anyhow::Result<ExitCode> {
    let side = hub_side(hub);
    let name = &options.name;
    let cluster = json!({"apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster",
        "metadata": {"name": name}});
    let live = side.get(&cluster).await?;
    let live = match live {
        Some(live) => Some(serde_json::from_value::<MemberCluster>(
            serde_json::to_value(live)?,
        )?),
        None => None,
    };
    may_go(hub, name, live.as_ref(), options.without_member).await?;
    let secret = secret(live.as_ref(), &options);
    let stored = side.get(&secret).await?;
    let token = stored
        .as_ref()
        .and_then(|secret| credentials::held(&secret.data));
    let membership = membership(&side, live.as_ref(), token, &options).await?;
    // Connected before anything is deleted: who is not there is told at once.
    let member = match &options.kubeconfig_of_member {
        Some(file) => {
            let administrator =
                Administrator::read(file, options.context_of_member.as_deref(), None).await?;
            let member = Side::member(administrator.config)?;
            others(&member, &membership).await.map_err(|error| {
                error.context("to leave the member as it is, because it is gone: --without-member")
            })?;
            Some(member)
        }
        None => None,
    };
    let mut log = Log::new(options.dry_run);
    let mut done = async || {
        if live.is_some() {
            side.delete(&cluster, &mut log).await?;
            if !options.dry_run {
                released(&side, &cluster).await?;
            }
        }
        if let Some(stored) = &stored {
            remove_secret(&side, &secret, &serde_json::to_value(stored)?, &mut log).await?;
        }
        match &member {
            Some(member) => clean(member, &membership, &mut log).await,
            None => Ok(left(&membership)),
        }
    };
    let notes = done().await;
    text::print(&log.lines())?;
    let notes = notes?;
    if !notes.is_empty() {
        text::print(&[vec![Line::empty()], notes].concat())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses while applications are there: of a member that is gone, while any
/// is to serve there.
async fn may_go(
    hub: &Hub,
    name: &str,
    cluster: Option<&MemberCluster>,
    gone: bool,
) -> anyhow::Result<()> {
    let counts = |role| !gone || role != PlacementRole::Retiring;
    let there = copies(hub, name, counts).await?;
    let mut there: Vec<String> = there.iter().map(ToString::to_string).collect();
    let waiting = cluster.iter().flat_map(|cluster| &cluster.status);
    let waiting = waiting.flat_map(|status| &status.pending_erasures);
    if !gone {
        there.extend(waiting.map(|erasure| {
            format!(
                "{}/{} (to be erased)",
                erasure.namespace, erasure.application
            )
        }));
    }
    if there.is_empty() {
        return Ok(());
    }
    Err(Failure::Refused {
        reason: Reason::InUse,
        message: format!("{name} has copies of {}", there.join(", ")),
        remedy: format!(
            "To move them first: kubectl flambeau evacuate cluster/{name} --reason WHY --wait"
        ),
    }
    .into())
}

/// Applications with copies of some roles on a cluster.
pub(super) async fn copies(
    hub: &Hub,
    cluster: &str,
    counts: impl Fn(PlacementRole) -> bool,
) -> anyhow::Result<Vec<ApplicationKey>> {
    let applications: Vec<GamesApplication> = hub.list().await?;
    let there = applications.iter().filter(|application| {
        let placements = application
            .status
            .iter()
            .flat_map(|status| &status.placements);
        placements
            .filter(|placement| placement.cluster == cluster)
            .any(|placement| counts(placement.role))
    });
    Ok(there
        .map(|application| ApplicationKey {
            namespace: application.namespace().unwrap_or_default().into(),
            name: application.name_any().into(),
        })
        .collect())
}

fn secret(cluster: Option<&MemberCluster>, options: &Unjoin) -> Value {
    let (namespace, name) = cluster.map_or_else(
        || {
            let name = credentials::secret_name(&options.name);
            (options.identity.secret_namespace.clone(), name)
        },
        |cluster| {
            let reference = &cluster.spec.kubeconfig_secret;
            (reference.namespace.clone(), reference.name.clone())
        },
    );
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name}})
}

/// What the hub knows of the membership, and else what the options say.
async fn membership(
    hub: &Side,
    cluster: Option<&MemberCluster>,
    token: Option<(String, flambeau_operator::members::token::Token)>,
    options: &Unjoin,
) -> anyhow::Result<Membership> {
    let access = cluster.and_then(|cluster| cluster.spec.access.clone());
    let access = access.unwrap_or_default();
    let account = token.as_ref().and_then(|(_, token)| token.account());
    let (namespace, service_account) = account.map_or_else(
        || {
            (
                options.identity.member_namespace.clone(),
                options.identity.service_account.clone(),
            )
        },
        |(namespace, name)| (namespace.to_owned(), name.to_owned()),
    );
    Ok(Membership {
        name: options.name.clone(),
        hub: identity(hub).await?,
        namespace,
        service_account,
        application_service_account: access
            .application_service_account
            .unwrap_or_else(|| options.identity.application_service_account.clone()),
        namespaces: access.namespaces,
        kinds: access.kinds,
    })
}

/// Waits until Flambeau has let go of the MemberCluster.
async fn released(hub: &Side, cluster: &Value) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut told = false;
    while hub.get(cluster).await?.is_some() {
        if begun.elapsed() > PATIENCE {
            bail!(
                "{} is marked for deletion, and Flambeau has not let go of it within {} s: kubectl \
                 describe membercluster says what it waits for; the same command goes on from here",
                title(cluster),
                PATIENCE.as_secs()
            );
        }
        if !told && begun.elapsed() > Duration::from_secs(2) {
            told = true;
            eprintln!("waiting for Flambeau to let go of {}", title(cluster));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}

/// A Secret that somebody else made stays.
async fn remove_secret(
    hub: &Side,
    secret: &Value,
    stored: &Value,
    log: &mut Log,
) -> anyhow::Result<()> {
    let label = &stored["metadata"]["labels"][rights::MANAGED_BY_LABEL];
    if label == rights::MANAGED_BY {
        return hub.delete(secret, log).await;
    }
    log.note(Place::Hub, &title(secret), Done::Left);
    Ok(())
}

/// Takes everything of a membership off the member; returns what is to be said
/// of what stays.
async fn clean(member: &Side, membership: &Membership, log: &mut Log) -> anyhow::Result<Vec<Line>> {
    let others = others(member, membership).await?;
    // In a dry run they stay; they do not count as something of somebody else's.
    let mut ours = Vec::new();
    for object in belongings(member, membership).await? {
        member.delete(&object, log).await?;
        ours.push(title(&object));
    }
    if !others.is_empty() {
        let others = others.join(", ");
        return Ok(vec![
            format!("what other memberships share stays on the member: {others}").into(),
        ]);
    }
    // The bindings first: a policy that is gone while it is bound refuses everything.
    for object in rights::fencing().iter().rev() {
        if member.get(object).await?.is_some() {
            member.delete(object, log).await?;
        }
    }
    for epochs in epochs(member).await? {
        forget(member, &epochs, log).await?;
        ours.push(title(&epochs));
    }
    leave_namespace(member, membership, &ours, log).await
}

/// Deletes the namespace that `join` made, unless somebody else uses it by now;
/// returns what is to be said of one that stays.
async fn leave_namespace(
    member: &Side,
    membership: &Membership,
    ours: &[String],
    log: &mut Log,
) -> anyhow::Result<Vec<Line>> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": membership.namespace}});
    let Some(live) = member.get(&namespace).await? else {
        return Ok(Vec::new());
    };
    let labels = live.metadata.labels.unwrap_or_default();
    if labels.get(rights::MANAGED_BY_LABEL).map(String::as_str) != Some(rights::MANAGED_BY) {
        log.note(Place::Member, &title(&namespace), Done::Left);
        return Ok(Vec::new());
    }
    let mut foreign = member.inhabitants(&membership.namespace).await?;
    foreign.retain(|object| !ours.contains(object));
    if foreign.is_empty() {
        member.delete(&namespace, log).await?;
        return Ok(Vec::new());
    }
    log.note(Place::Member, &title(&namespace), Done::Left);
    let more = match foreign.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    foreign.truncate(NAMED);
    Ok(vec![
        format!(
            "namespace {} stays on the member, because join did not make what is in it: {}{more}",
            membership.namespace,
            foreign.join(", ")
        )
        .into(),
    ])
}

/// What namespaces remember of epochs.
async fn epochs(member: &Side) -> anyhow::Result<Vec<Value>> {
    let label = format!("{}=flambeau", rights::MANAGED_BY_LABEL);
    let mut all = member.list(("v1", "ConfigMap"), &label).await?;
    all.retain(|object| object["metadata"]["name"] == EPOCHS);
    Ok(all)
}

/// Deletes what the policy protects until the API server goes by its deletion.
async fn forget(member: &Side, epochs: &Value, log: &mut Log) -> anyhow::Result<()> {
    if log.dry_run {
        log.note(Place::Member, &title(epochs), Done::Deleted);
        return Ok(());
    }
    let begun = Instant::now();
    loop {
        match member.delete(epochs, log).await {
            Err(error) if begun.elapsed() < PATIENCE && error.to_string().contains("epochs of") => {
                sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

/// What stays on a member that is not asked.
fn left(membership: &Membership) -> Vec<Line> {
    let role = membership.role_name();
    let names = membership.namespaces.join(", ");
    let within = if names.is_empty() {
        "in the namespaces of applications".to_owned()
    } else {
        format!("in namespaces {names}")
    };
    let mut lines = vec![Line::new(
        Tone::Bad,
        "the member was not asked, and should it come back, these are left there:",
    )];
    lines.extend(
        [
            format!("  every copy of an application that ran there, still running, and ConfigMap {EPOCHS} {within}"),
            format!("  ServiceAccount {}/{} with ClusterRole, ClusterRoleBinding, Roles and RoleBindings {role}; its token ends by itself", membership.namespace, membership.service_account),
            format!("  ServiceAccount, Role and RoleBinding {} {within}", membership.application_service_account),
            "  ValidatingAdmissionPolicy flambeau-fencing with its bindings".to_owned(),
            format!("to clean up then: kubectl flambeau unjoin {} --kubeconfig-of-member FILE, and delete what is labelled {}", membership.name, flambeau_crds::APPLICATION_LABEL),
        ]
        .map(Line::from),
    );
    lines
}
