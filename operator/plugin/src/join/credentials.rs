//! The credential that Flambeau gets: a token of its ServiceAccount on the
//! member, in a kubeconfig that the operator takes.

use super::side::{Done, Log, Place, Side};
use anyhow::{Context, anyhow, bail, ensure};
use flambeau_operator::members::{
    read_kubeconfig,
    rights::{MANAGED_BY, MANAGED_BY_LABEL, Membership, RENEWED_LABEL},
    token::Token,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{SelfSubjectReview, TokenRequest, TokenRequestSpec},
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        core::v1::ServiceAccount,
    },
    apimachinery::pkg::version::Info,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{Cluster, KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};

/// Key of the Secret on the hub.
pub const KEY: &str = "kubeconfig";
/// How long the member may take to go by rights that it was just given.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// What the kubeconfig of an administrator of the member says.
pub struct Administrator {
    /// Everything needed to connect.
    pub config: Config,
    /// URL of the API server, and the authority behind its certificate.
    pub cluster: Value,
}

impl Administrator {
    /// Reads a kubeconfig as kubectl would: the person who joins a cluster may
    /// use plugins and files.
    ///
    /// # Errors
    /// When it cannot be read or used.
    pub async fn read(
        file: &Path,
        context: Option<&str>,
        server: Option<&str>,
    ) -> anyhow::Result<Self> {
        let named = || format!("--kubeconfig-of-member {}", file.display());
        let kubeconfig = Kubeconfig::read_from(file).with_context(named)?;
        let cluster = cluster(&kubeconfig, context).with_context(named)?;
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .with_context(named)?;
        let mut described = json!({"server": server.or(cluster.server.as_deref())});
        if let Some(authority) = authority(&cluster).with_context(named)? {
            described["certificate-authority-data"] = authority;
        }
        if let Some(name) = &cluster.tls_server_name {
            described["tls-server-name"] = name.as_str().into();
        }
        // So that the operator's own refusal is heard here already.
        if cluster.insecure_skip_tls_verify == Some(true) {
            described["insecure-skip-tls-verify"] = true.into();
        }
        if let Some(proxy) = &cluster.proxy_url {
            described["proxy-url"] = proxy.as_str().into();
        }
        Ok(Self {
            config,
            cluster: described,
        })
    }

    /// A kubeconfig for Flambeau.
    ///
    /// # Errors
    /// When the operator would refuse it.
    pub fn kubeconfig(&self, name: &str, token: &str) -> anyhow::Result<String> {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": name,
            "clusters": [{"name": name, "cluster": self.cluster}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        });
        ensure!(
            self.cluster.get("certificate-authority-data").is_some()
                || self.cluster.get("insecure-skip-tls-verify").is_some(),
            "--kubeconfig-of-member: its cluster names no certificate authority, and Flambeau \
             trusts none but the one that it is given: add certificate-authority-data"
        );
        let text = serde_yaml::to_string(&kubeconfig)?;
        read_kubeconfig(text.as_bytes())
            .map_err(|message| anyhow!("--kubeconfig-of-member: {message}"))?;
        Ok(text)
    }
}

fn cluster(kubeconfig: &Kubeconfig, context: Option<&str>) -> anyhow::Result<Cluster> {
    let current = context.or(kubeconfig.current_context.as_deref());
    let current = current.context("no current-context: name one with --context-of-member")?;
    let context = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == current)
        .and_then(|context| context.context.as_ref())
        .with_context(|| format!("no context {current}"))?;
    let mut clusters = kubeconfig.clusters.iter();
    clusters
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.clone())
        .with_context(|| format!("no cluster {}", context.cluster))
}

/// The authority as the kubeconfig holds it, or as the file does that it
/// names.
fn authority(cluster: &Cluster) -> anyhow::Result<Option<Value>> {
    if let Some(data) = &cluster.certificate_authority_data {
        return Ok(Some(data.as_str().into()));
    }
    let Some(file) = &cluster.certificate_authority else {
        return Ok(None);
    };
    let bytes = std::fs::read(file).with_context(|| format!("certificate-authority {file}"))?;
    Ok(Some(serde_json::to_value(ByteString(bytes))?))
}

/// Asks the member for a token of Flambeau's ServiceAccount.
///
/// # Errors
/// When the member refuses or does not answer.
pub async fn issue(
    member: &Side,
    membership: &Membership,
    lifetime: SignedDuration,
) -> anyhow::Result<String> {
    let Membership {
        namespace,
        service_account,
        ..
    } = membership;
    let api: Api<ServiceAccount> = Api::namespaced(member.client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            expiration_seconds: Some(lifetime.as_secs()),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let parameters = PostParams::default();
    let asked = api.create_token_request(service_account, &parameters, &request);
    let what = format!("token of ServiceAccount {namespace}/{service_account}");
    let answer = member.ask("create", &what, asked).await?;
    let token = answer.status.and_then(|status| status.token);
    token.with_context(|| format!("{what}: the member answers without one"))
}

/// The Secret on the hub.
pub fn secret(namespace: &str, membership: &Membership, kubeconfig: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": {"name": secret_name(&membership.name), "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, RENEWED_LABEL: "true"}},
        "data": {KEY: ByteString(kubeconfig.as_bytes().to_vec())}})
}

/// Its name.
pub fn secret_name(member: &str) -> String {
    format!("member-{member}")
}

/// Puts a credential on the hub that works: the one that is there, or a new
/// one, tried first. Returns what it is.
///
/// # Errors
/// When the member does not accept a new credential, or the hub refuses it.
pub async fn ensure(
    (member, hub): (&Side, &Side),
    administrator: &Administrator,
    membership: &Membership,
    options: &crate::cli::Join,
    log: &mut Log,
) -> anyhow::Result<Accepted> {
    let name = secret_name(&membership.name);
    let there = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": options.identity.secret_namespace}});
    let before = hub.get(&there).await?;
    let held = before.as_ref().and_then(|secret| held(&secret.data));
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
        "namespace": membership.namespace, "name": membership.service_account}});
    let account = member
        .get(&account)
        .await?
        .and_then(|live| live.metadata.uid);
    if let Some((kubeconfig, token)) = &held
        // The member may remember for some seconds a token that is void.
        && account.as_deref() == Some(token.account_uid())
        && token.renew_at().is_some_and(|due| due > Timestamp::now())
        && administrator
            .kubeconfig(&membership.name, &bearer(kubeconfig).unwrap_or_default())
            .is_ok_and(|same| same == *kubeconfig)
        && let Ok(accepted) = accepted(kubeconfig, membership).await
    {
        log.note(
            Place::Hub,
            &format!("Secret {}/{name}", options.identity.secret_namespace),
            Done::Unchanged,
        );
        return Ok(accepted);
    }
    let token = issue(member, membership, options.token_lifetime).await?;
    let kubeconfig = administrator.kubeconfig(&membership.name, &token)?;
    let accepted = patiently(&kubeconfig, membership).await?;
    let secret = secret(&options.identity.secret_namespace, membership, &kubeconfig);
    hub.apply(&secret, log).await?;
    Ok(accepted)
}

/// The kubeconfig in the data of a Secret, and the token in it.
pub fn held(secret: &Value) -> Option<(String, Token)> {
    let data: ByteString = serde_json::from_value(secret["data"][KEY].clone()).ok()?;
    let token = flambeau_operator::members::token::held(&data.0)?;
    Some((String::from_utf8(data.0).ok()?, token))
}

fn bearer(kubeconfig: &str) -> Option<String> {
    let kubeconfig: Value = serde_yaml::from_str(kubeconfig).ok()?;
    let token = kubeconfig["users"][0]["user"]["token"].as_str()?;
    Some(token.to_owned())
}

/// A credential that the member accepted.
pub struct Accepted {
    /// As whom.
    pub user: String,
    /// URL of the API server.
    pub server: String,
    /// Its version of Kubernetes.
    pub version: String,
    /// How long the answer took.
    pub took: Duration,
    /// When the credential expires.
    pub expires: Option<Timestamp>,
}

async fn patiently(kubeconfig: &str, membership: &Membership) -> anyhow::Result<Accepted> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        match accepted(kubeconfig, membership).await {
            Ok(accepted) => return Ok(accepted),
            Err(error) if begun.elapsed() > PATIENCE => {
                return Err(error.context("the member does not accept the new credential"));
            }
            Err(_) if !told && begun.elapsed() > Duration::from_secs(2) => {
                told = true;
                eprintln!("waiting for the member to accept the new credential");
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Makes the requests with a credential that Flambeau will make.
async fn accepted(kubeconfig: &str, membership: &Membership) -> anyhow::Result<Accepted> {
    let config = read_kubeconfig(kubeconfig.as_bytes()).map_err(|message| anyhow!(message))?;
    let server = config.cluster_url.to_string();
    let side = Side::member(config.clone())?;
    let begun = Instant::now();
    let version: Info = side
        .ask("get", "version", side.client.apiserver_version())
        .await?;
    let took = begun.elapsed();
    let review: Api<SelfSubjectReview> = Api::all(side.client.clone());
    let (parameters, question) = (PostParams::default(), SelfSubjectReview::default());
    let answer = side
        .ask("create", "who am I", review.create(&parameters, &question))
        .await?;
    let user = answer
        .status
        .and_then(|status| status.user_info?.username)
        .unwrap_or_default();
    let expected = format!(
        "system:serviceaccount:{}:{}",
        membership.namespace, membership.service_account
    );
    if user != expected {
        bail!("the member takes the credential for {user}, not for {expected}");
    }
    let scope = membership.namespaces.first();
    reads(&side, scope.map(String::as_str)).await?;
    if let Some(namespace) = scope {
        writes(&config, namespace, membership).await?;
    }
    let token = flambeau_operator::members::token::held(kubeconfig.as_bytes());
    Ok(Accepted {
        user,
        server,
        version: version.git_version,
        took,
        expires: token.and_then(|token| token.expires()),
    })
}

/// Lists what Flambeau always lists.
async fn reads(side: &Side, namespace: Option<&str>) -> anyhow::Result<()> {
    let path = namespace.map_or_else(String::new, |name| format!("/namespaces/{name}"));
    let path = format!("/apis/discovery.k8s.io/v1{path}/endpointslices?limit=1");
    let request = http::Request::get(path).body(Vec::new())?;
    let asked = side.client.request::<Value>(request);
    side.ask("list", "EndpointSlices", asked).await.map(drop)
}

/// Asks, as the applications of a namespace, whether they may write there.
async fn writes(config: &Config, namespace: &str, membership: &Membership) -> anyhow::Result<()> {
    let mut config = config.clone();
    let account = &membership.application_service_account;
    let user = format!("system:serviceaccount:{namespace}:{account}");
    config.auth_info.impersonate = Some(user.clone());
    let side = Side {
        place: Place::Member,
        client: Client::try_from(config)?,
    };
    let kind = membership.kinds.first().map_or("", String::as_str);
    let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
    let question = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                verb: Some("create".to_owned()),
                group: Some(group.to_owned()),
                resource: Some(plural.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let review: Api<SelfSubjectAccessReview> = Api::all(side.client.clone());
    let parameters = PostParams::default();
    let asked = review.create(&parameters, &question);
    let answer = side.ask("create", "may I", asked).await?;
    match answer.status {
        Some(status) if status.allowed => Ok(()),
        _ => bail!("{user} may not create {kind} in namespace {namespace}"),
    }
}
