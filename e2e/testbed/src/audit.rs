//! What one user asked of an API server, from the latter's audit log
//! (<https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>).

use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// An audit log of the requests of one user.
#[derive(Clone, Debug)]
pub struct Audit {
    policy: PathBuf,
    log: PathBuf,
}

impl Audit {
    /// Keeps the log in a folder that exists. Impersonated requests count as those of the user who sent them.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn of(user: &str, folder: &Path) -> Result<Self> {
        let audit = Self {
            policy: folder.join("audit-policy.yaml"),
            log: folder.join("audit.log"),
        };
        // When they are answered, and without their bodies.
        let policy = format!(
            "apiVersion: audit.k8s.io/v1\n\
             kind: Policy\n\
             omitStages: [RequestReceived, Panic]\n\
             rules: [{{level: Metadata, users: [\"{user}\"]}}, {{level: None}}]\n"
        );
        let file = audit.policy.display();
        fs::write(&audit.policy, policy).with_context(|| format!("write {file}"))?;
        Ok(audit)
    }

    /// What the API server has to be told.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        vec![
            format!("--audit-policy-file={}", self.policy.display()),
            format!("--audit-log-path={}", self.log.display()),
        ]
    }

    /// Every request so far, none twice.
    ///
    /// # Errors
    /// When a line of the log is no event.
    pub fn uses(&self) -> Result<Vec<Use>> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut uses = whole.lines().map(parse).collect::<Result<Vec<Use>>>()?;
        uses.sort();
        uses.dedup();
        Ok(uses)
    }
}

/// Group, resource and verb of what a role allows or a request takes. What is no resource stands with its path, and no
/// group.
pub type Right = (String, String, String);

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    verb: String,
    group: String,
    resource: String,
    namespace: String,
    created: bool,
    /// As whom, if not as the user.
    pub impersonated: Option<String>,
    /// The API server did not allow it.
    pub refused: bool,
}

impl Use {
    /// Whether it was for a path, such as `/version`, and not for a resource.
    #[must_use]
    pub fn of_path(&self) -> bool {
        self.resource.starts_with('/')
    }

    /// What it takes: a server-side apply that makes an object takes two rights.
    pub fn rights(self) -> impl Iterator<Item = Right> {
        let makes = self.verb == "patch" && self.created;
        let verbs = [Some(self.verb), makes.then(|| "create".to_owned())];
        verbs
            .into_iter()
            .flatten()
            .map(move |verb| (self.group.clone(), self.resource.clone(), verb))
    }
}

fn parse(line: &str) -> Result<Use> {
    let event: Value = serde_json::from_str(line).context("read a line of an audit log")?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let about = &event["objectRef"];
    let resource = match (about["resource"].as_str(), about["subresource"].as_str()) {
        (Some(resource), Some(subresource)) => format!("{resource}/{subresource}"),
        (Some(resource), None) => resource.to_owned(),
        _ => {
            let uri = word(&event["requestURI"]);
            uri.split('?').next().unwrap_or_default().to_owned()
        }
    };
    let code = event["responseStatus"]["code"].as_i64();
    let impersonated = event["impersonatedUser"]["username"].as_str();
    Ok(Use {
        verb: word(&event["verb"]),
        group: word(&about["apiGroup"]),
        resource,
        namespace: word(&about["namespace"]),
        created: code == Some(201),
        impersonated: impersonated.map(str::to_owned),
        refused: code == Some(403),
    })
}
