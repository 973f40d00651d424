//! Lets the applications of a namespace write there, where a MemberCluster
//! names no namespaces: one RoleBinding, made when it is missed.
//!
//! It binds the ServiceAccount of the namespace to a ClusterRole that whoever
//! joined the cluster wrote; Flambeau may bind that one and no other.

use super::{
    connection::{Connection, REQUEST_TIMEOUT, RequestError, request},
    discovery::encoded,
    error::MemberError,
    member::Member,
    metrics::Verb,
    refusal::not_yet,
    rights,
};
use flambeau_crds::FIELD_MANAGER;
use flambeau_planner::model::Name;
use http::Method;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the API server may take to go by a new binding, and how often it
/// is asked.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// A namespace whose applications were let in just now.
pub(super) struct Admission(Instant);

impl Admission {
    /// Waits for a moment; false when the API server had time enough.
    pub async fn wait(&self) -> bool {
        sleep(PAUSE).await;
        self.0.elapsed() < PATIENCE
    }
}

impl Member {
    /// Makes a Namespace and the RoleBinding in it, as far as they are missing.
    pub async fn admit(
        &self,
        connection: &Connection,
        namespace: &Name,
    ) -> Result<Admission, MemberError> {
        self.ensure_namespace(connection, namespace).await?;
        let limits = self.limits();
        let account = limits.application.as_deref().unwrap_or_default();
        let binding = rights::application_binding(account, namespace);
        let path = format!(
            "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings/{}?fieldManager={FIELD_MANAGER}&force=true",
            encoded(namespace),
            encoded(account)
        );
        let body = binding.to_string().into_bytes();
        let sent = match request(
            Method::PATCH,
            &path,
            Some("application/apply-patch+yaml"),
            body,
        ) {
            Ok(request) => {
                connection
                    .call(Verb::Create, request, REQUEST_TIMEOUT)
                    .await
            }
            Err(error) => Err(error),
        };
        let what = format!("RoleBinding/{account}");
        match sent {
            Ok(_) => {
                tracing::info!(cluster = %self.name, %namespace, account, "applications may write in this namespace now");
                Ok(Admission(Instant::now()))
            }
            Err(RequestError::Api(error)) if error.code < 500 && error.code != 429 => {
                Err(MemberError::Refused {
                    object: what,
                    message: error.to_string(),
                })
            }
            Err(error) => Err(not_yet(what, &error)),
        }
    }
}
