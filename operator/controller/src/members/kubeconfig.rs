//! Reads the kubeconfig of a member, which is input from outside.
//!
//! A credential for a member must neither run a command in the operator nor
//! read its files, and TLS is always verified; whatever asks for more is
//! refused with the field and the remedy. No value of the kubeconfig stands in
//! a message: it is a credential.

use super::token;
use kube::config::{AuthInfo, Cluster, Config, Kubeconfig};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What a kubeconfig says.
pub(super) struct Access {
    /// Everything needed to connect.
    pub config: Config,
    /// URL of the API server.
    pub server: String,
    /// Same value, same cluster: made from the server and its authority, not
    /// from the credentials.
    pub identity: u64,
}

/// Reads a kubeconfig.
///
/// # Errors
/// A message for people, with the field and the remedy.
pub(super) fn read(bytes: &[u8]) -> Result<Access, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "the kubeconfig is not text: store a kubeconfig in YAML or JSON".to_owned())?;
    let kubeconfig: Kubeconfig = serde_yaml::from_str(text).map_err(|error| {
        let place = error.location().map_or_else(String::new, |place| {
            format!(" (line {}, column {})", place.line(), place.column())
        });
        format!("the kubeconfig cannot be understood{place}: store a kubeconfig in YAML or JSON")
    })?;
    let (cluster, user) = selected(&kubeconfig)?;
    refuse_cluster(&cluster)?;
    refuse_user(&user)?;
    refuse_token(bytes)?;
    let server = cluster.server.clone().unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    (
        &server,
        &cluster.certificate_authority_data,
        &cluster.tls_server_name,
    )
        .hash(&mut hasher);
    let mut config = Config::try_from(kubeconfig)
        .map_err(|error| format!("the kubeconfig cannot be used: {error}"))?;
    // From the environment of the operator, which is not the member's business.
    config.proxy_url = None;
    Ok(Access {
        config,
        server,
        identity: hasher.finish(),
    })
}

fn selected(kubeconfig: &Kubeconfig) -> Result<(Cluster, AuthInfo), String> {
    let current = kubeconfig
        .current_context
        .as_deref()
        .filter(|name| !name.is_empty())
        .ok_or("the kubeconfig has no current-context: set it")?;
    let context = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == current)
        .and_then(|context| context.context.as_ref())
        .ok_or("current-context of the kubeconfig names no entry of contexts: correct it")?;
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|cluster| cluster.name == context.cluster)
        .and_then(|cluster| cluster.cluster.clone())
        .ok_or("the current context of the kubeconfig names no entry of clusters: correct it")?;
    let name = context
        .user
        .as_deref()
        .ok_or("the current context of the kubeconfig names no user: add one")?;
    let user = kubeconfig
        .auth_infos
        .iter()
        .find(|user| user.name == name)
        .and_then(|user| user.auth_info.clone())
        .ok_or("the current context of the kubeconfig names no entry of users: correct it")?;
    Ok((cluster, user))
}

fn refuse_cluster(cluster: &Cluster) -> Result<(), String> {
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Err("insecure-skip-tls-verify is refused, as TLS is always verified: give certificate-authority-data".into());
    }
    if cluster.certificate_authority.is_some() {
        return Err("certificate-authority names a file of another machine: give certificate-authority-data".into());
    }
    if cluster
        .proxy_url
        .as_deref()
        .is_some_and(|url| !url.is_empty())
    {
        return Err("proxy-url is not supported: remove it".into());
    }
    let server = cluster.server.as_deref().unwrap_or_default();
    // It is told in messages, so no credential may stand in it.
    if server.contains(['@', '?', '#']) {
        return Err("server of the kubeconfig holds more than an address: remove user, password and query, and give a token".into());
    }
    let https = server.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str() == Some("https") && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !https {
        return Err(
            "server of the kubeconfig must be a URL that begins with https://: correct it".into(),
        );
    }
    Ok(())
}

fn refuse_user(user: &AuthInfo) -> Result<(), String> {
    let refused = [
        (user.exec.is_some(), "exec runs a command in the operator"),
        (
            user.auth_provider.is_some(),
            "auth-provider runs a plugin in the operator",
        ),
        (
            user.token_file.is_some(),
            "tokenFile names a file of another machine",
        ),
        (
            user.client_certificate.is_some(),
            "client-certificate names a file of another machine",
        ),
        (
            user.client_key.is_some(),
            "client-key names a file of another machine",
        ),
    ];
    match refused.into_iter().find(|(present, _)| *present) {
        Some((_, what)) => Err(format!(
            "{what} and is refused: give a token, or client-certificate-data and client-key-data"
        )),
        None => Ok(()),
    }
}

/// Refuses what fits into no request: often, the line break at the end of a
/// file.
fn refuse_token(kubeconfig: &[u8]) -> Result<(), String> {
    let fits = |token: String| token.bytes().all(|byte| byte.is_ascii_graphic());
    if token::text(kubeconfig).is_none_or(fits) {
        return Ok(());
    }
    Err("token of the kubeconfig holds a blank, a line break or a letter that no token has: store it without".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kubeconfig(cluster: &str, user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )
    }

    fn refusal(cluster: &str, user: &str) -> String {
        read(kubeconfig(cluster, user).as_bytes())
            .err()
            .expect("refused")
    }

    const SERVER: &str = "server: 'https://192.0.2.1:6443'";

    #[test]
    fn a_token_is_enough() {
        let access = read(kubeconfig(SERVER, "token: abc").as_bytes())
            .ok()
            .unwrap();
        assert_eq!(access.server, "https://192.0.2.1:6443");
    }

    #[test]
    fn other_credentials_are_the_same_cluster_and_another_server_is_not() {
        let identity = |cluster: &str, user: &str| {
            read(kubeconfig(cluster, user).as_bytes())
                .ok()
                .unwrap()
                .identity
        };
        assert_eq!(
            identity(SERVER, "token: abc"),
            identity(SERVER, "token: def")
        );
        assert_ne!(
            identity(SERVER, "token: abc"),
            identity("server: 'https://192.0.2.2:6443'", "token: abc")
        );
    }

    #[test]
    fn what_reaches_into_the_operator_is_refused_by_name() {
        for (user, field) in [
            ("exec: {apiVersion: v1, command: id}", "exec"),
            ("auth-provider: {name: gcp}", "auth-provider"),
            ("tokenFile: /etc/passwd", "tokenFile"),
            ("client-certificate: /a", "client-certificate"),
            ("client-key: /a", "client-key"),
        ] {
            assert!(refusal(SERVER, user).starts_with(field), "{user}");
        }
        for (cluster, field) in [
            ("insecure-skip-tls-verify: true", "insecure-skip-tls-verify"),
            ("certificate-authority: /a", "certificate-authority"),
            ("proxy-url: 'http://192.0.2.1'", "proxy-url"),
        ] {
            assert!(
                refusal(&format!("{SERVER}, {cluster}"), "token: abc").starts_with(field),
                "{cluster}"
            );
        }
    }

    #[test]
    fn an_address_that_holds_a_credential_is_refused_without_repeating_it() {
        for server in [
            "https://sesame@192.0.2.1",
            "https://a:sesame@192.0.2.1:6443",
            "https://192.0.2.1/?token=sesame",
        ] {
            let message = refusal(&format!("server: '{server}'"), "token: abc");
            assert!(message.starts_with("server of the kubeconfig"), "{message}");
            assert!(!message.contains("sesame"), "{message}");
        }
    }

    #[test]
    fn a_token_that_fits_into_no_request_is_refused_without_repeating_it() {
        for token in ["sesame\\n", "open sesame", "sésame", "sesame\\0"] {
            let message = refusal(SERVER, &format!("token: \"{token}\""));
            assert!(message.starts_with("token of the kubeconfig"), "{message}");
            assert!(!message.contains("sesame"), "{message}");
        }
    }

    #[test]
    fn plain_http_and_no_server_are_refused() {
        assert!(refusal("server: 'http://192.0.2.1'", "token: abc").contains("https://"));
        assert!(refusal("tls-server-name: a", "token: abc").contains("https://"));
    }

    #[test]
    fn garbage_is_refused_without_repeating_it() {
        for garbage in [
            "sesame: [",
            "sesame",
            "",
            "clusters: sesame",
            "users: [{name: u, user: {token: [sesame]}}]",
        ] {
            let message = read(garbage.as_bytes()).err().expect("refused");
            assert!(!message.contains("sesame"), "{message}");
        }
        assert!(read(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn bad_certificates_are_refused_without_repeating_them() {
        let message = refusal(
            &format!("{SERVER}, certificate-authority-data: sesame!"),
            "token: abc",
        );
        assert!(!message.contains("sesame"), "{message}");
    }
}
