//! Namespaces on a member: made where they are missing, never deleted.

use super::{
    connection::{Connection, REQUEST_TIMEOUT, RequestError, get, request},
    discovery::encoded,
    error::MemberError,
    member::Member,
    metrics::Verb,
    refusal::not_yet,
};
use flambeau_crds::FIELD_MANAGER;
use flambeau_planner::model::Name;
use http::Method;

impl Member {
    /// Makes a Namespace; it is never deleted, and carries no mark of ours.
    pub async fn ensure_namespace(
        &self,
        connection: &Connection,
        namespace: &Name,
    ) -> Result<(), MemberError> {
        let what = format!("Namespace/{namespace}");
        let _one_at_a_time = self.namespaces.lock().await;
        let exists = match get(&format!("/api/v1/namespaces/{}", encoded(namespace))) {
            Ok(request) => connection
                .call(Verb::Get, request, REQUEST_TIMEOUT)
                .await
                .is_ok(),
            Err(_) => false,
        };
        if exists {
            return Ok(());
        }
        let body = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": &**namespace}});
        let path = format!("/api/v1/namespaces?fieldManager={FIELD_MANAGER}");
        let made = match request(
            Method::POST,
            &path,
            Some("application/json"),
            body.to_string().into_bytes(),
        ) {
            Ok(request) => {
                connection
                    .call(Verb::Create, request, REQUEST_TIMEOUT)
                    .await
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(_) => {
                tracing::info!(cluster = %self.name, %namespace, "namespace made");
                Ok(())
            }
            Err(error) if error.code() == Some(409) => Ok(()),
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
