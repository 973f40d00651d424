//! The credential for a member: what a kubeconfig must be, and a token in time
//! before it expires.

use super::{
    Members,
    connection::{REQUEST_TIMEOUT, request},
    discovery::encoded,
    error::MemberError,
    kubeconfig,
    metrics::Verb,
    token::Token,
};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// Whether the operator would take a kubeconfig, and what it would make of it.
///
/// # Errors
/// A message for people, with the field and the remedy; no value of the
/// kubeconfig stands in it.
pub fn read_kubeconfig(kubeconfig: &[u8]) -> Result<kube::Config, String> {
    kubeconfig::read(kubeconfig).map(|access| access.config)
}

/// How a token fares that Flambeau renews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// When the token expires.
    pub expires: Timestamp,
    /// Why the last attempt to renew it failed; none when it need not be, or
    /// was.
    pub trouble: Option<String>,
}

#[derive(Deserialize)]
struct Issued {
    status: Status,
}

#[derive(Deserialize)]
struct Status {
    token: String,
}

impl Members {
    /// Whether this process may write now.
    pub fn lead(&self) -> bool {
        self.0.shared.leadership.check().is_ok()
    }

    /// How the token of a member fares, if Flambeau renews it.
    pub fn renewal(&self, name: &str) -> Option<Renewal> {
        self.member(name)?.renewal()
    }

    /// Takes how the token of a member fares; none when Flambeau does not
    /// renew it.
    pub fn set_renewal(&self, name: &str, renewal: Option<Renewal>) {
        if let Some(member) = self.member(name) {
            member.set_renewal(renewal);
        }
    }

    /// Asks a member for another token of the ServiceAccount to which a token
    /// belongs, under that identity, for as long a life. The former token goes
    /// on to be valid until it expires.
    ///
    /// # Errors
    /// When the member does not answer or refuses.
    pub async fn another_token(
        &self,
        name: &str,
        (namespace, account): (&str, &str),
        lifetime: SignedDuration,
    ) -> Result<String, MemberError> {
        let member = self.known(name)?;
        let connection = member.connection()?;
        let what = || format!("token of ServiceAccount {namespace}/{account}");
        let path = format!(
            "/api/v1/namespaces/{}/serviceaccounts/{}/token",
            encoded(namespace),
            encoded(account)
        );
        let body = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": lifetime.as_secs()}});
        let body = body.to_string().into_bytes();
        let answer = match request(Method::POST, &path, Some("application/json"), body) {
            Ok(request) => {
                connection
                    .call(Verb::Create, request, REQUEST_TIMEOUT)
                    .await
            }
            Err(error) => Err(error),
        };
        let issued = answer.and_then(|answer| answer.json::<Issued>());
        issued.map_or_else(
            |error| {
                Err(MemberError::NotYet {
                    what: what(),
                    message: error.to_string(),
                })
            },
            |issued| Ok(issued.status.token),
        )
    }
}

/// What to say of a credential that a member does not accept.
pub(super) fn not_accepted(server: &str, token: Option<&Token>, now: Timestamp) -> String {
    let of = |token: &Token| {
        let (namespace, account) = token.account()?;
        Some(format!("token of ServiceAccount {namespace}/{account}"))
    };
    match token.and_then(|token| Some((of(token)?, token.expires()))) {
        Some((token, Some(expired))) if expired <= now => format!(
            "{server} does not accept the {token}, which expired at {expired}: run `kubectl flambeau join` again"
        ),
        Some((token, _)) => format!(
            "{server} does not accept the {token}, which was revoked, or its ServiceAccount deleted: run `kubectl flambeau join` again"
        ),
        None => format!("{server} does not accept the credentials of the kubeconfig: renew them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    #[test]
    fn a_token_that_is_over_is_told_from_one_that_was_revoked() {
        let claims = r#"{"sub":"system:serviceaccount:flambeau-system:flambeau","iat":0,"exp":60}"#;
        let token = Token::read(&format!("e30.{}.x", URL_SAFE_NO_PAD.encode(claims)));
        let told = |second| {
            let now = Timestamp::from_second(second).unwrap();
            not_accepted("https://member", token.as_ref(), now)
        };
        assert!(told(60).contains("expired at 1970-01-01T00:01:00Z"));
        assert!(told(59).contains("revoked"));
        assert!(told(60).contains("kubectl flambeau join"));
        let other = not_accepted("https://member", None, Timestamp::now());
        assert!(other.contains("credentials of the kubeconfig"));
    }
}
