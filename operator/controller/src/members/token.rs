//! The token of a ServiceAccount, as a kubeconfig holds it: whose it is, and
//! how long it lasts.
//!
//! The claims are read and not verified: the member's API server does that.
//! They only say when a new token is due, and for whom to ask.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_yaml::Value;

/// What a token says of itself (RFC 7519, section 4.1).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Token {
    sub: String,
    #[serde(default)]
    iat: Option<i64>,
    #[serde(default)]
    exp: Option<i64>,
    #[serde(default, rename = "kubernetes.io")]
    kubernetes: Kubernetes,
}

/// What Kubernetes adds
/// (<https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Kubernetes {
    serviceaccount: Account,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Account {
    uid: String,
}

impl Token {
    /// Reads the claims of a token; none when it is not of that form.
    pub fn read(token: &str) -> Option<Self> {
        let claims = token.split('.').nth(1)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    /// Namespace and name of its ServiceAccount.
    pub fn account(&self) -> Option<(&str, &str)> {
        self.sub
            .strip_prefix("system:serviceaccount:")?
            .split_once(':')
    }

    /// UID of its ServiceAccount: another one of the same name makes the token
    /// void. Empty when it is not said.
    pub fn account_uid(&self) -> &str {
        &self.kubernetes.serviceaccount.uid
    }

    /// When it expires; none when it never does.
    pub fn expires(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.exp?).ok()
    }

    /// For how long it was issued.
    pub fn lifetime(&self) -> Option<SignedDuration> {
        let seconds = self.exp?.checked_sub(self.iat?)?;
        (seconds > 0).then(|| SignedDuration::from_secs(seconds))
    }

    /// When a new one is due: at half of its life, so that as long again is
    /// left to try in.
    pub fn renew_at(&self) -> Option<Timestamp> {
        let half = self.lifetime()?.as_secs() / 2;
        Timestamp::from_second(self.iat?.checked_add(half)?).ok()
    }
}

/// The token that a kubeconfig holds, if it holds one.
pub fn held(kubeconfig: &[u8]) -> Option<Token> {
    Token::read(&text(kubeconfig)?)
}

/// The same, whatever it says of itself.
pub(super) fn text(kubeconfig: &[u8]) -> Option<String> {
    let mut kubeconfig: Value = serde_yaml::from_slice(kubeconfig).ok()?;
    Some(place(&mut kubeconfig)?.as_str()?.to_owned())
}

/// The kubeconfig with another token in place of the one that it holds; none
/// when it holds none.
pub fn replaced(kubeconfig: &[u8], token: &str) -> Option<String> {
    let mut kubeconfig: Value = serde_yaml::from_slice(kubeconfig).ok()?;
    *place(&mut kubeconfig)? = token.into();
    serde_yaml::to_string(&kubeconfig).ok()
}

/// Where the token of the current context is.
fn place(kubeconfig: &mut Value) -> Option<&mut Value> {
    let current = kubeconfig.get("current-context")?.clone();
    let context = named(kubeconfig.get_mut("contexts")?, &current)?;
    let user = context.get("context")?.get("user")?.clone();
    let user = named(kubeconfig.get_mut("users")?, &user)?;
    user.get_mut("user")?.get_mut("token")
}

fn named<'a>(list: &'a mut Value, name: &Value) -> Option<&'a mut Value> {
    let mut entries = list.as_sequence_mut()?.iter_mut();
    entries.find(|entry| entry.get("name") == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token of this payload, signed by nobody.
    fn token(payload: &str) -> String {
        format!("e30.{}.x", URL_SAFE_NO_PAD.encode(payload))
    }

    #[test]
    fn half_of_its_life_is_left_when_a_token_is_renewed() {
        let token = token(
            r#"{"sub":"system:serviceaccount:flambeau-system:flambeau","iat":1000,"exp":4600}"#,
        );
        let token = Token::read(&token).unwrap();
        assert_eq!(token.account(), Some(("flambeau-system", "flambeau")));
        assert_eq!(token.renew_at(), Timestamp::from_second(2800).ok());
        assert_eq!(token.expires(), Timestamp::from_second(4600).ok());
    }

    #[test]
    fn what_is_no_token_of_a_service_account_is_left_alone() {
        assert_eq!(Token::read("opaque"), None);
        assert_eq!(Token::read("a.b.c"), None);
        let person = Token::read(&token(r#"{"sub":"anna","exp":5}"#)).unwrap();
        assert_eq!(person.account(), None);
        assert_eq!(person.renew_at(), None);
    }

    #[test]
    fn only_the_token_of_the_current_context_is_replaced() {
        let kubeconfig = |token: &str| {
            format!(
                "current-context: b\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}, {{name: b, context: {{cluster: b, user: b}}}}]\n\
                 users: [{{name: a, user: {{token: one}}}}, {{name: b, user: {{token: {token}}}}}]\n"
            )
        };
        let replaced = replaced(kubeconfig("two").as_bytes(), "three").unwrap();
        let value = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
        assert_eq!(value(&replaced), value(&kubeconfig("three")));
        assert_eq!(super::replaced(b"users: []", "three"), None);
    }
}
