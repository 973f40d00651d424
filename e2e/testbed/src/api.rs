//! A small client of an API server: enough to await conditions. Objects are applied with kubectl.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::wait::Probe;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads one API server, with the credentials of a kubeconfig as [`crate::pki`] writes it.
#[derive(Clone)]
pub struct ApiClient {
    agent: Agent,
    server: String,
}

#[derive(Deserialize)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    server: String,
    certificate_authority_data: String,
}

#[derive(Deserialize)]
struct NamedUser {
    user: UserEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    client_certificate_data: String,
    client_key_data: String,
}

impl ApiClient {
    /// A client for the server and the credentials of the kubeconfig's first entries.
    ///
    /// # Errors
    /// When the file cannot be read or lacks embedded credentials.
    pub fn from_kubeconfig(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("read kubeconfig {}", path.display()))?;
        let config: Kubeconfig = serde_yaml::from_str(&text)
            .with_context(|| format!("parse kubeconfig {}", path.display()))?;
        let (Some(cluster), Some(user)) = (config.clusters.first(), config.users.first()) else {
            bail!("kubeconfig {} has no cluster or no user", path.display());
        };
        let authority =
            Certificate::from_pem(&STANDARD.decode(&cluster.cluster.certificate_authority_data)?)?;
        let certificate =
            Certificate::from_pem(&STANDARD.decode(&user.user.client_certificate_data)?)?;
        let key = PrivateKey::from_pem(&STANDARD.decode(&user.user.client_key_data)?)?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&[authority]))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .unversioned_rustls_crypto_provider(Arc::new(
                rustls::crypto::aws_lc_rs::default_provider(),
            ))
            .build();
        let agent = agent().tls_config(tls).build().new_agent();
        Ok(Self {
            agent,
            server: cluster.cluster.server.clone(),
        })
    }

    /// The body that the server answers to GET `path`.
    ///
    /// # Errors
    /// When the server does not answer, or not with a status of success.
    pub fn get(&self, path: &str) -> Result<String> {
        read(&self.agent, &format!("{}{path}", self.server))
    }

    /// Merges `change`, in JSON, into the object at `path`.
    ///
    /// # Errors
    /// When the server does not answer, or not with a status of success.
    pub fn merge(&self, path: &str, change: &str) -> Result<()> {
        let url = format!("{}{path}", self.server);
        let request = self.agent.patch(&url);
        let answer = request
            .header("Content-Type", "application/merge-patch+json")
            .send(change)
            .with_context(|| format!("PATCH {url}"))?;
        body(answer, &format!("PATCH {url}")).map(drop)
    }

    /// Sees whether the object at `path` has condition `kind` with status True.
    #[must_use]
    pub fn condition(&self, path: &str, kind: &str) -> Probe<()> {
        let body = match self.get(path) {
            Ok(body) => body,
            Err(error) => return Probe::Pending(format!("{error:#}")),
        };
        let object: Value = serde_json::from_str(&body).unwrap_or_default();
        let conditions = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let found =
            conditions.and_then(|list| list.iter().find(|condition| condition["type"] == kind));
        match found {
            Some(condition) if condition["status"] == "True" => Probe::Done(()),
            Some(condition) => Probe::Pending(format!(
                "{kind} is {}: {}",
                condition["status"], condition["message"]
            )),
            None => Probe::Pending(format!("{path} has no condition {kind} yet")),
        }
    }

    /// Sees whether the server says at `/readyz` that it is ready.
    #[must_use]
    pub fn ready(&self) -> Probe<()> {
        match self.get("/readyz") {
            Ok(_) => Probe::Done(()),
            Err(error) => Probe::Pending(format!("{error:#}")),
        }
    }
}

/// Sees whether a plain HTTP address answers with a status of success.
#[must_use]
pub fn answers(url: &str) -> Probe<()> {
    match read(&agent().build().new_agent(), url) {
        Ok(_) => Probe::Done(()),
        Err(error) => Probe::Pending(format!("{error:#}")),
    }
}

fn agent() -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    Agent::config_builder()
        .timeout_global(Some(REQUEST_TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
}

fn read(agent: &Agent, url: &str) -> Result<String> {
    let answer = agent
        .get(url)
        .call()
        .with_context(|| format!("GET {url}"))?;
    body(answer, &format!("GET {url}"))
}

/// The body of an answer with a status of success.
fn body(mut answer: Response<Body>, request: &str) -> Result<String> {
    let body = answer
        .body_mut()
        .read_to_string()
        .with_context(|| format!("read the answer to {request}"))?;
    if answer.status().is_success() {
        return Ok(body);
    }
    let start: String = body.chars().take(300).collect();
    Err(anyhow!("{request}: {}: {start}", answer.status()))
}
