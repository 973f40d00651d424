//! Renews the token of a member before it expires: asks the member for
//! another under the identity that it has, and stores that in the Secret on
//! the hub, from where it is taken like any other credential.
//!
//! Only Secrets that `kubectl flambeau join` made, or somebody labelled so;
//! only by the process that leads. Nothing is lost by a crash in between: the
//! former token is valid as long as it says. A Secret that changed meanwhile
//! is left as it is.

use crate::{
    dirty::Dirty,
    members::{
        Members, Renewal,
        rights::RENEWED_LABEL,
        token::{self, Token},
    },
};
use anyhow::{Context, anyhow};
use flambeau_crds::{FIELD_MANAGER, cluster::SecretKeyReference};
use flambeau_planner::model::{Name, Reach};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How often is looked whether a token is due and can be renewed: by the clock
/// that tokens expire by, which may be set at any time.
const LOOK: Duration = Duration::from_secs(5);
/// How soon an attempt that failed is repeated; doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How long after a token was stored the next is asked for, whatever clocks
/// say.
pub(super) const LEAST: Duration = Duration::from_secs(60);

/// Keeps the token of one member alive.
pub(super) struct Renewing {
    pub client: Client,
    pub members: Members,
    pub dirty: Dirty,
    pub name: Name,
    pub reference: SecretKeyReference,
    /// What time it is.
    pub now: fn() -> Timestamp,
}

/// The kubeconfig of a Secret whose token may be renewed, and its token.
pub(super) fn renewable(secret: &Secret, key: &str) -> Option<(Vec<u8>, Token)> {
    let labels = secret.metadata.labels.as_ref()?;
    if labels.get(RENEWED_LABEL).map(String::as_str) != Some("true") {
        return None;
    }
    let kubeconfig = secret.data.as_ref()?.get(key)?.0.clone();
    let token = token::held(&kubeconfig)?;
    token.renew_at()?;
    Some((kubeconfig, token))
}

/// How the token of a Secret fares before anything is tried; none of one that
/// is not renewed.
pub(super) fn lasting(secret: &Secret, key: &str) -> Option<Renewal> {
    let (_, token) = renewable(secret, key)?;
    Some(Renewal {
        expires: token.expires()?,
        trouble: None,
    })
}

impl Renewing {
    /// Waits until the token of a Secret is due, and renews it; not before a
    /// moment.
    pub async fn run(self, secret: Secret, earliest: Option<Instant>) {
        let Some((kubeconfig, token)) = renewable(&secret, &self.reference.key) else {
            return;
        };
        let (Some(due), Some(expires)) = (token.renew_at(), token.expires()) else {
            return;
        };
        if let Some(earliest) = earliest {
            sleep_until(earliest).await;
        }
        let mut pause = FIRST_PAUSE;
        loop {
            while (self.now)() < due || !self.can() {
                sleep(LOOK).await;
            }
            match self.renew(&secret, &kubeconfig, &token).await {
                Ok(()) => {
                    tracing::info!(cluster = %self.name, "its token was renewed");
                    // The watch brings the Secret as it is now.
                    return;
                }
                Err(error) => {
                    let trouble = format!("{error:#}");
                    tracing::warn!(cluster = %self.name, %expires, error = %trouble, "its token was not renewed, it is tried again");
                    self.tell(expires, trouble);
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether this process leads, and the member answers.
    fn can(&self) -> bool {
        self.members.lead() && self.members.reach(&self.name) == Reach::Reachable
    }

    fn tell(&self, expires: Timestamp, trouble: String) {
        let renewal = Renewal {
            expires,
            trouble: Some(trouble),
        };
        if self.members.renewal(&self.name).as_ref() != Some(&renewal) {
            self.members.set_renewal(&self.name, Some(renewal));
            self.dirty.mark();
        }
    }

    async fn renew(&self, secret: &Secret, kubeconfig: &[u8], token: &Token) -> anyhow::Result<()> {
        let account = token
            .account()
            .context("the token is not one of a ServiceAccount")?;
        let lifetime = token
            .lifetime()
            .context("the token does not say for how long it was issued")?;
        let another = self
            .members
            .another_token(&self.name, account, lifetime)
            .await?;
        let kubeconfig = token::replaced(kubeconfig, &another)
            .ok_or_else(|| anyhow!("the kubeconfig has no place for a token"))?;
        let SecretKeyReference {
            namespace,
            name,
            key,
        } = &self.reference;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let change = json!({
            // Somebody who joined it again knows better.
            "metadata": {"resourceVersion": secret.metadata.resource_version},
            "data": {key: ByteString(kubeconfig.into_bytes())},
        });
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch_metadata(name, &parameters, &Patch::Merge(&change))
            .await
            .with_context(|| {
                format!(
                    "Secret {namespace}/{name} cannot be changed: grant the operator patch on it"
                )
            })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    fn secret(labels: serde_json::Value, token: &str) -> Secret {
        let kubeconfig = json!({"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {"token": token}}]});
        serde_json::from_value(json!({"metadata": {"name": "member", "labels": labels},
            "data": {"kubeconfig": ByteString(kubeconfig.to_string().into_bytes())}}))
        .unwrap()
    }

    #[test]
    fn only_what_is_labelled_and_expires_is_renewed() {
        let token = |claims: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims));
        let lasting = token(r#"{"sub":"system:serviceaccount:a:b","iat":0,"exp":600}"#);
        let label = json!({RENEWED_LABEL: "true"});
        let renewed = |secret: &Secret| renewable(secret, "kubeconfig").is_some();
        assert!(renewed(&secret(label.clone(), &lasting)));
        assert!(!renewed(&secret(json!({}), &lasting)));
        assert!(!renewed(&secret(json!({RENEWED_LABEL: "false"}), &lasting)));
        let endless = token(r#"{"sub":"system:serviceaccount:a:b"}"#);
        assert!(!renewed(&secret(label.clone(), &endless)));
        assert!(!renewed(&secret(label.clone(), "opaque")));
        assert!(renewable(&secret(label, &lasting), "another").is_none());
    }
}
