//! `join` and `unjoin`: makes a cluster a member of the fleet with no more
//! rights there than Flambeau uses, and takes it out again.

mod credentials;
mod leave;
mod side;

pub use leave::unjoin;

use crate::{
    cli::{DryRun, Join},
    failure::Failure,
    hub::Hub,
    print,
    text::{self, Line, Tone},
};
use anyhow::{Context, ensure};
use credentials::{Accepted, Administrator};
use flambeau_crds::{GamesApplication, MemberCluster, cluster::MemberAccess};
use flambeau_operator::members::rights::{
    DEFAULT_KINDS, HUB_ANNOTATION, MANAGED_BY, MANAGED_BY_LABEL, MEMBER_LABEL, Membership,
};
use flambeau_planner::Reason;
use kube::{ResourceExt, discovery::Discovery};
use serde_json::{Value, json};
use side::{Log, Place, Side, title};
use std::{collections::BTreeSet, fmt::Write, process::ExitCode};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// What is said where no namespaces are named: RBAC has no way to leave some
/// out.
const EVERYWHERE: &str = "\
no --namespace: whoever steals this credential reads the kinds of applications in every namespace, and may let them \
into any, kube-system included; name the namespaces to take that back";

/// `join`.
///
/// # Errors
/// When the member or the hub refuses or does not answer; what was made until
/// then stays, and the same command goes on from there.
pub async fn join(fleet: &Hub, options: Join) -> anyhow::Result<ExitCode> {
    let hub = hub_side(fleet);
    let membership = membership(&hub, &options).await?;
    let cluster = member_cluster(&options, &membership)?;
    let administrator = Administrator::read(
        &options.kubeconfig_of_member,
        options.context_of_member.as_deref(),
        options.server.as_deref(),
    )
    .await?;
    if let Some(wanted) = options.dry_run {
        return manifests(wanted, &administrator, &membership, &options, &cluster);
    }
    let member = Side::member(administrator.config.clone())?;
    nobody_elses(&member, &membership).await?;
    nobody_left_out(fleet, &membership).await?;
    no_kind_left_out(fleet, &member, &membership).await?;
    let mut log = Log::new(false);
    let mut done = async || {
        for manifest in membership.manifests() {
            member.apply(&manifest, &mut log).await?;
        }
        for surplus in surplus(&member, &membership).await? {
            member.delete(&surplus, &mut log).await?;
        }
        let sides = (&member, &hub);
        let accepted =
            credentials::ensure(sides, &administrator, &membership, &options, &mut log).await?;
        hub.apply(&cluster, &mut log).await?;
        anyhow::Ok(accepted)
    };
    let accepted = done().await;
    text::print(&log.lines())?;
    text::print(&told(&accepted?, &options))?;
    Ok(ExitCode::SUCCESS)
}

fn told(accepted: &Accepted, options: &Join) -> Vec<Line> {
    let mut connection = format!(
        "{} answers {}: Kubernetes {}, {} ms",
        accepted.server.trim_end_matches('/'),
        accepted.user,
        accepted.version,
        accepted.took.as_millis()
    );
    if let Some(expires) = accepted.expires {
        let _ = write!(
            connection,
            "\nits token lasts until {expires}; Flambeau renews it before"
        );
    }
    let mut lines = vec![Line::empty()];
    lines.extend(
        connection
            .lines()
            .map(|line| Line::new(Tone::Plain, line.to_owned())),
    );
    let next = format!(
        "whether Flambeau reaches it from where it runs: kubectl wait membercluster/{} --for=condition=Ready",
        options.name
    );
    lines.push(next.into());
    if options.namespaces.is_empty() {
        lines.push(Line::new(Tone::Bad, EVERYWHERE.to_owned()));
    }
    lines
}

fn hub_side(hub: &Hub) -> Side {
    Side {
        place: Place::Hub,
        client: hub.client.clone(),
    }
}

/// What tells one hub from another: the UID of its first namespace, which lasts
/// as long as the cluster.
async fn identity(hub: &Side) -> anyhow::Result<String> {
    let first =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}});
    let first = hub.get(&first).await?;
    let uid = first.and_then(|namespace| namespace.metadata.uid);
    uid.context("the hub has no namespace kube-system, whose UID tells one hub from another")
}

async fn membership(hub: &Side, options: &Join) -> anyhow::Result<Membership> {
    let sorted = |names: &[String]| -> Vec<String> {
        names
            .iter()
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    };
    let kinds = if options.kind.is_empty() {
        DEFAULT_KINDS.map(str::to_owned).to_vec()
    } else {
        sorted(&options.kind)
    };
    for kind in &kinds {
        let form = |character: char| {
            character.is_ascii_lowercase() || character.is_ascii_digit() || "-.".contains(character)
        };
        ensure!(
            kind.starts_with(|first: char| first.is_ascii_lowercase()) && kind.chars().all(form),
            "--kind {kind}: must be a resource as `kubectl api-resources` prints it, in the plural \
             and with its group, such as services or deployments.apps"
        );
    }
    let system = ["kube-system", "kube-public", "kube-node-lease"];
    for namespace in &options.namespaces {
        ensure!(
            !system.contains(&namespace.as_str())
                && *namespace != options.identity.member_namespace,
            "--namespace {namespace}: belongs to the system, and applications must not be there"
        );
    }
    Ok(Membership {
        name: options.name.clone(),
        hub: identity(hub).await?,
        namespace: options.identity.member_namespace.clone(),
        service_account: options.identity.service_account.clone(),
        application_service_account: options.identity.application_service_account.clone(),
        namespaces: sorted(&options.namespaces),
        kinds,
    })
}

/// The MemberCluster, with the fields that were asked for and no others.
fn member_cluster(options: &Join, membership: &Membership) -> anyhow::Result<Value> {
    let access = MemberAccess {
        application_service_account: Some(membership.application_service_account.clone()),
        namespaces: membership.namespaces.clone(),
        kinds: membership.kinds.clone(),
    };
    let object = json!({"apiVersion": "flambeau.dev/v1alpha1", "kind": "MemberCluster",
    "metadata": {"name": options.name},
    "spec": {
        "provider": options.provider,
        "residency": options.residency,
        "kubeconfigSecret": {
            "namespace": options.identity.secret_namespace,
            "name": credentials::secret_name(&options.name),
            "key": credentials::KEY,
        },
        "access": serde_json::to_value(access)?,
    }});
    // The types of the API say what is written wrongly here.
    serde_json::from_value::<MemberCluster>(object.clone()).context("the MemberCluster")?;
    Ok(object)
}

/// A ServiceAccount stands for one membership of one hub.
async fn nobody_elses(member: &Side, membership: &Membership) -> anyhow::Result<()> {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
        "namespace": membership.namespace, "name": membership.service_account}});
    let Some(live) = member.get(&account).await? else {
        return Ok(());
    };
    let metadata = &live.metadata;
    let hub = metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(HUB_ANNOTATION));
    let name = metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MEMBER_LABEL));
    let (Some(hub), Some(name)) = (hub, name) else {
        return Ok(());
    };
    if *hub == membership.hub && *name == membership.name {
        return Ok(());
    }
    let of = if *hub == membership.hub {
        "this hub"
    } else {
        "another hub"
    };
    Err(Failure::Refused {
        reason: Reason::InUse,
        message: format!(
            "{} on the member stands for MemberCluster {name} of {of}",
            title(&account)
        ),
        remedy: "To join it once more: name another with --service-account".to_owned(),
    }
    .into())
}

/// Where applications have copies, Flambeau must still be able to erase them.
async fn nobody_left_out(hub: &Hub, membership: &Membership) -> anyhow::Result<()> {
    let namespaces = &membership.namespaces;
    if namespaces.is_empty() {
        return Ok(());
    }
    let mut there = leave::copies(hub, &membership.name, |_| true).await?;
    there.retain(|key| !namespaces.iter().any(|name| *name == *key.namespace));
    if there.is_empty() {
        return Ok(());
    }
    let there: Vec<String> = there.iter().map(ToString::to_string).collect();
    Err(Failure::Refused {
        reason: Reason::InUse,
        message: format!("{} has copies of {}", membership.name, there.join(", ")),
        remedy: "To keep them there: name their namespaces with --namespace too; else move them first: kubectl flambeau relocate".to_owned(),
    }
    .into())
}

/// The same for the kinds that copies consist of.
async fn no_kind_left_out(hub: &Hub, member: &Side, membership: &Membership) -> anyhow::Result<()> {
    let there = leave::copies(hub, &membership.name, |_| true).await?;
    if there.is_empty() {
        return Ok(());
    }
    let served = Discovery::new(member.client.clone()).run_aggregated().await;
    let served = served.context("the member does not say which kinds it serves")?;
    let applications: Vec<GamesApplication> = hub.list().await?;
    let (mut left, mut whose) = (BTreeSet::new(), BTreeSet::new());
    for application in &applications {
        let name = format!(
            "{}/{}",
            application.namespace().unwrap_or_default(),
            application.name_any()
        );
        if !there.iter().any(|key| key.to_string() == name) {
            continue;
        }
        let resources = kinds(application)
            .into_iter()
            .filter_map(|(api_version, kind)| resource(&served, api_version, kind))
            .filter(|resource| !membership.kinds.contains(resource));
        for resource in resources {
            left.insert(resource);
            whose.insert(name.clone());
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let listed = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(", ");
    Err(Failure::Refused {
        reason: Reason::InUse,
        message: format!(
            "{} has copies of {}, and {} would be left there unseen",
            membership.name,
            listed(whose),
            listed(left)
        ),
        remedy: "To keep them there: name these too, each with --kind; else move them first: kubectl flambeau relocate".to_owned(),
    }
    .into())
}

/// Kinds that an application has or had, with their versions.
fn kinds(application: &GamesApplication) -> BTreeSet<(&str, &str)> {
    let declared = application.spec.resources.iter().filter_map(|manifest| {
        let text = |field: &str| manifest.get(field).and_then(Value::as_str);
        Some((text("apiVersion")?, text("kind")?))
    });
    let written = application.status.iter().flat_map(|status| &status.kinds);
    let written = written.map(|kind| (kind.api_version.as_str(), kind.kind.as_str()));
    declared.chain(written).collect()
}

/// A kind as kubectl names it, in whatever version the member serves it: in the
/// plural and with its group.
fn resource(served: &Discovery, api_version: &str, kind: &str) -> Option<String> {
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let mut groups = served.groups().filter(|found| found.name() == group);
    let resources = groups.next()?.recommended_resources();
    let (found, _) = resources
        .into_iter()
        .find(|(found, _)| found.kind == kind)?;
    Some(match group {
        "" => found.plural,
        group => format!("{}.{group}", found.plural),
    })
}

/// Everything on a member that belongs to a membership, but for the policy of
/// fencing and Namespaces; what belongs to applications only when no other
/// membership shares it.
async fn belongings(member: &Side, membership: &Membership) -> anyhow::Result<Vec<Value>> {
    let shared = !others(member, membership).await?.is_empty();
    let mut all = Vec::new();
    for kind in [
        (RBAC, "ClusterRoleBinding"),
        (RBAC, "RoleBinding"),
        (RBAC, "ClusterRole"),
        (RBAC, "Role"),
        ("v1", "ServiceAccount"),
    ] {
        let label = format!("{MANAGED_BY_LABEL}={MANAGED_BY}");
        let objects = member.list(kind, &label).await?;
        all.extend(objects.into_iter().filter(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let namespace = object["metadata"]["namespace"].as_str();
            let own_account = kind.1 == "ServiceAccount"
                && name == membership.service_account
                && namespace == Some(&membership.namespace);
            let own_right = kind.1 != "ServiceAccount" && name == membership.role_name();
            own_account || own_right || (!shared && name == membership.application_service_account)
        }));
    }
    Ok(all)
}

/// What an earlier `join` made and this one does not ask for.
async fn surplus(member: &Side, membership: &Membership) -> anyhow::Result<Vec<Value>> {
    let wanted: BTreeSet<String> = membership.manifests().iter().map(title).collect();
    let mut all = belongings(member, membership).await?;
    all.retain(|object| {
        // Bindings that Flambeau made for namespaces stay while it may make them.
        let made = membership.namespaces.is_empty()
            && object["kind"] == "RoleBinding"
            && object["metadata"]["name"] == membership.application_service_account.as_str()
            && object["roleRef"]["kind"] == "ClusterRole";
        !made && !wanted.contains(&title(object))
    });
    Ok(all)
}

/// ServiceAccounts of other memberships on the same member.
async fn others(member: &Side, membership: &Membership) -> anyhow::Result<Vec<String>> {
    let accounts = member.list(("v1", "ServiceAccount"), MEMBER_LABEL).await?;
    Ok(accounts
        .iter()
        .filter(|account| {
            let metadata = &account["metadata"];
            metadata["name"] != membership.service_account.as_str()
                || metadata["namespace"] != membership.namespace.as_str()
        })
        .map(title)
        .collect())
}

/// Prints manifests instead of applying them.
fn manifests(
    wanted: DryRun,
    administrator: &Administrator,
    membership: &Membership,
    options: &Join,
    cluster: &Value,
) -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    let mut part = |heading: &str, objects: &[Value]| -> anyhow::Result<()> {
        for (index, object) in objects.iter().enumerate() {
            text.push_str("---\n");
            if index == 0 {
                for line in heading.lines() {
                    let _ = writeln!(text, "# {line}");
                }
            }
            text.push_str(&serde_yaml::to_string(object)?);
        }
        Ok(())
    };
    if wanted != DryRun::Hub {
        part("On the member.", &membership.manifests())?;
    }
    if wanted != DryRun::Member {
        let kubeconfig = administrator.kubeconfig(&options.name, "TOKEN")?;
        let mut secret =
            credentials::secret(&options.identity.secret_namespace, membership, &kubeconfig);
        if let Some(fields) = secret.as_object_mut() {
            fields.remove("data");
            fields.insert(
                "stringData".to_owned(),
                json!({credentials::KEY: kubeconfig}),
            );
        }
        let heading = format!(
            "On the hub. In place of TOKEN, what this prints on the member, once:\n\
             kubectl create token {} --namespace {} --duration {}s\n\
             From then on Flambeau renews it: let GitOps create this Secret and not put it back.",
            membership.service_account,
            membership.namespace,
            options.token_lifetime.as_secs()
        );
        part(&heading, &[secret, cluster.clone()])?;
    }
    print::raw(&text)?;
    Ok(ExitCode::SUCCESS)
}
