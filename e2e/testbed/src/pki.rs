//! Certificates of a cluster: one authority, and what it signs.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;

/// A certificate authority that signs for one cluster, and the folder where certificates and keys are written.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    folder: PathBuf,
}

/// A certificate and its private key in PEM.
pub struct Identity {
    /// The certificate in PEM.
    pub certificate: String,
    /// The private key in PEM.
    pub key: String,
}

impl Authority {
    /// Makes a new authority called `name` and writes its certificate to `folder/ca.crt`.
    ///
    /// # Errors
    /// When a key cannot be made or the folder cannot be written.
    pub fn create(name: &str, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let key = KeyPair::generate().context("make the key of a certificate authority")?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let certificate = params
            .self_signed(&key)
            .context("sign a certificate authority")?
            .pem();
        write(&folder.join("ca.crt"), &certificate, 0o644)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate,
            folder: folder.to_path_buf(),
        })
    }

    /// Signs a certificate for a server that answers at the given names and addresses; it may act as a client too,
    /// as etcd and the kubelet do.
    ///
    /// # Errors
    /// When a name is no valid DNS name or the files cannot be written.
    pub fn server(&self, name: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names)
            .with_context(|| format!("names of certificate {name}"))?;
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name = subject(name, &[]);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.sign(name, params)
    }

    /// Signs a certificate for a client. Kubernetes reads the common name as the user and each organization as one
    /// of the user's groups (<https://kubernetes.io/docs/reference/access-authn-authz/authentication/>).
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn client(&self, file: &str, user: &str, groups: &[&str]) -> Result<Identity> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, params)
    }

    fn sign(&self, file: &str, mut params: CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate().with_context(|| format!("make the key of {file}"))?;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("sign {file}"))?
            .pem();
        let identity = Identity {
            key: key.serialize_pem(),
            certificate,
        };
        write(
            &self.folder.join(format!("{file}.crt")),
            &identity.certificate,
            0o644,
        )?;
        write(
            &self.folder.join(format!("{file}.key")),
            &identity.key,
            0o600,
        )?;
        Ok(identity)
    }

    /// Writes a kubeconfig with everything embedded, so that it can be used anywhere, also as a Secret's content.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig(
        &self,
        path: &Path,
        cluster: &str,
        server: &str,
        identity: &Identity,
    ) -> Result<()> {
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": cluster,
                "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(&self.certificate) },
            }],
            "users": [{
                "name": cluster,
                "user": {
                    "client-certificate-data": STANDARD.encode(&identity.certificate),
                    "client-key-data": STANDARD.encode(&identity.key),
                },
            }],
            "contexts": [{ "name": cluster, "context": { "cluster": cluster, "user": cluster } }],
            "current-context": cluster,
        });
        write(path, &serde_yaml::to_string(&document)?, 0o600)
    }
}

/// The files of the private and the public key of ServiceAccount tokens.
pub const SERVICE_ACCOUNT_KEYS: (&str, &str) = ("service-accounts.key", "service-accounts.pub");

/// Makes the key pair that signs ServiceAccount tokens.
///
/// # Errors
/// When the files cannot be written.
pub fn service_account_keys(folder: &Path) -> Result<()> {
    let key = KeyPair::generate().context("make the key of service accounts")?;
    write(
        &folder.join(SERVICE_ACCOUNT_KEYS.0),
        &key.serialize_pem(),
        0o600,
    )?;
    write(
        &folder.join(SERVICE_ACCOUNT_KEYS.1),
        &key.public_key_pem(),
        0o644,
    )
}

fn subject(name: &str, groups: &[&str]) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    for group in groups {
        subject.push(DnType::OrganizationName, *group);
    }
    subject
}

fn write(path: &Path, content: &str, mode: u32) -> Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("open {} for writing", path.display()))?;
    file.write_all(content.as_bytes())
        .with_context(|| format!("write {}", path.display()))
}
