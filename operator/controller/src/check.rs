//! The verb `check`: asks the hub for what the operator needs, and waits for a
//! sign of life of the leader. `helm test` runs it with the operator's rights.

use crate::run;
use anyhow::Context;
use clap::Args;
use flambeau_operator::{
    hub::definitions,
    leader::{Leadership, default_namespace},
    transport,
};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api, Client, Error, ResourceExt,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// A request that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `check` is told.
#[derive(Debug, Args)]
pub struct Check {
    /// Kubeconfig of the hub; inside a pod, the pod's own account is used
    /// without it.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
    /// Namespace of the Lease and of the Secrets with credentials of members.
    /// Default: that of the pod, and flambeau-system outside of a pod.
    #[arg(long)]
    leader_election_namespace: Option<String>,
    /// Name of the Lease.
    #[arg(long, default_value = "flambeau-operator")]
    leader_election_id: String,
    /// Seconds for which what is not well yet is waited for.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=3600))]
    within_seconds: u16,
}

/// One thing that must be well.
enum Question {
    /// Objects of a kind can be listed in the whole cluster.
    Listed {
        kind: ApiResource,
        remedy: &'static str,
    },
    /// The hub knows every field of this version.
    Definitions,
    /// Secrets can be listed in the namespace.
    Credentials,
    /// Somebody holds the Lease and renews it.
    Leader,
}

const CHART: &str = "upgrade the release, with crds.install=true";
const GATEWAY_API: &str = "install the Gateway API (https://gateway-api.sigs.k8s.io)";
const BUILT_IN: &str = "the API server does not serve what every Kubernetes has";

/// Asks until all is well, or until the time is over.
///
/// # Errors
/// When the hub's address or credentials cannot be used.
#[tokio::main(flavor = "current_thread")]
pub async fn check(options: Check) -> anyhow::Result<ExitCode> {
    let config = run::config(options.kubeconfig).await?;
    // Reads alone are sent.
    let client = transport::client(&config, &Leadership::always()).context(run::UNUSABLE)?;
    let hub = Hub {
        client,
        namespace: options
            .leader_election_namespace
            .unwrap_or_else(default_namespace),
        lease: options.leader_election_id,
        until: Instant::now() + Duration::from_secs(options.within_seconds.into()),
    };
    let mut failed = 0;
    for question in questions() {
        match hub.settled(&question).await {
            Ok(answer) => println!("✔ {:<24} {answer}", question.title()),
            Err(trouble) => {
                failed += 1;
                println!("✖ {:<24} {trouble}", question.title());
            }
        }
    }
    if failed == 0 {
        println!("Flambeau works.");
        return Ok(ExitCode::SUCCESS);
    }
    println!("Not well: {failed}.");
    Ok(ExitCode::FAILURE)
}

fn questions() -> Vec<Question> {
    let kind = |group: &str, version: &str, kind: &str, plural: &str, remedy| Question::Listed {
        kind: ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(group, version, kind),
            plural,
        ),
        remedy,
    };
    let mut questions = Vec::new();
    for definition in flambeau_crds::all_crds() {
        let spec = definition.spec;
        questions.extend(spec.versions.iter().map(|version| {
            kind(
                &spec.group,
                &version.name,
                &spec.names.kind,
                &spec.names.plural,
                CHART,
            )
        }));
    }
    questions.push(Question::Definitions);
    let gateway = "gateway.networking.k8s.io";
    questions.extend([
        kind(gateway, "v1", "HTTPRoute", "httproutes", GATEWAY_API),
        kind("", "v1", "Service", "services", BUILT_IN),
        kind(
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "endpointslices",
            BUILT_IN,
        ),
        Question::Credentials,
        Question::Leader,
    ]);
    questions
}

impl Question {
    fn title(&self) -> &str {
        match self {
            Self::Listed { kind, .. } => &kind.kind,
            Self::Definitions => "Definitions",
            Self::Credentials => "Credentials of members",
            Self::Leader => "Leader",
        }
    }
}

struct Hub {
    client: Client,
    namespace: String,
    lease: String,
    until: Instant,
}

impl Hub {
    /// Asks until the answer is good, or the time is over: then why it is not.
    async fn settled(&self, question: &Question) -> Result<String, String> {
        let mut told = None;
        loop {
            let answer = match question {
                Question::Listed { kind, remedy } => self.listed(kind, remedy).await,
                Question::Definitions => self.definitions().await,
                Question::Credentials => self.credentials().await,
                Question::Leader => self.leader().await,
            };
            let Err(trouble) = answer else {
                return answer;
            };
            if Instant::now() + PAUSE > self.until {
                return Err(trouble);
            }
            if told.as_ref() != Some(&trouble) {
                println!("… {:<24} {trouble}", question.title());
                told = Some(trouble);
            }
            sleep(PAUSE).await;
        }
    }

    async fn listed(&self, kind: &ApiResource, remedy: &str) -> Result<String, String> {
        let api = Api::<DynamicObject>::all_with(self.client.clone(), kind);
        let first = ListParams::default().limit(1);
        let list = ask(api.list_metadata(&first)).await;
        let list = list.map_err(|trouble| match trouble {
            Trouble::Missing => format!("is not served by the hub: {remedy}"),
            other => other.to_string(),
        })?;
        // Pages of one: what is not on this page is counted by the API server.
        let more = list.metadata.remaining_item_count.unwrap_or(0);
        let count = i64::try_from(list.items.len()).unwrap_or(i64::MAX) + more;
        Ok(format!("listed, {count} there"))
    }

    async fn definitions(&self) -> Result<String, String> {
        let lacking = ask(definitions::lacking(&self.client)).await;
        let lacking = lacking.map_err(|trouble| trouble.to_string())?;
        if lacking.is_empty() {
            return Ok("know every field of this version".to_owned());
        }
        let all = definitions::told(&lacking);
        Err(format!("are older than this version: {all}: {CHART}"))
    }

    async fn credentials(&self) -> Result<String, String> {
        let api = Api::<Secret>::namespaced(self.client.clone(), &self.namespace);
        let first = ListParams::default().limit(1);
        let list = ask(api.list_metadata(&first)).await;
        list.map_err(|trouble| trouble.to_string())?;
        Ok(format!(
            "Secrets of namespace {} can be read",
            self.namespace
        ))
    }

    /// Who renews the Lease while somebody looks: no clock is compared with
    /// another machine's.
    async fn leader(&self) -> Result<String, String> {
        let before = self.holder().await?;
        let mut granted = Duration::ZERO;
        while granted < before.granted {
            sleep(PAUSE).await;
            granted += PAUSE;
            let now = self.holder().await?;
            if now.version != before.version {
                return Ok(format!("{} renews the Lease {}", now.name, self.shown()));
            }
        }
        Err(format!(
            "{} holds the Lease {} and does not renew it",
            before.name,
            self.shown()
        ))
    }

    async fn holder(&self) -> Result<Holder, String> {
        let api = Api::<Lease>::namespaced(self.client.clone(), &self.namespace);
        let lease = ask(api.get(&self.lease))
            .await
            .map_err(|trouble| match trouble {
                Trouble::Missing => {
                    format!("there is no Lease {}: no operator runs yet", self.shown())
                }
                other => other.to_string(),
            })?;
        let version = lease.resource_version();
        let spec = lease.spec.unwrap_or_default();
        let name = spec.holder_identity.filter(|name| !name.is_empty());
        let seconds = spec.lease_duration_seconds.unwrap_or(10);
        Ok(Holder {
            name: name.ok_or_else(|| format!("nobody holds the Lease {}", self.shown()))?,
            version,
            granted: Duration::from_secs(u64::try_from(seconds).unwrap_or(10)),
        })
    }

    fn shown(&self) -> String {
        format!("{}/{}", self.namespace, self.lease)
    }
}

/// Whoever holds the Lease.
struct Holder {
    name: String,
    version: Option<String>,
    granted: Duration,
}

/// Why a question has no good answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("is not there")]
    Missing,
    #[error("is not allowed, the operator's role lacks it: {0}")]
    Forbidden(String),
    #[error("the hub did not answer within {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the hub cannot be asked: {0}")]
    Other(String),
}

async fn ask<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, Trouble> {
    match timeout(PATIENCE, answer).await {
        Err(_) => Err(Trouble::Silent),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::Api(status))) if status.code == 404 => Err(Trouble::Missing),
        Ok(Err(Error::Api(status))) if status.code == 403 => {
            Err(Trouble::Forbidden(status.message))
        }
        // With its causes.
        Ok(Err(error)) => Err(Trouble::Other(format!("{:#}", anyhow::Error::from(error)))),
    }
}
