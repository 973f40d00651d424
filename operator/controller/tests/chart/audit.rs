//! What the operator asked of the API server, from the latter's audit log.

use serde_json::Value;
use std::fs;
use std::path::Path;

/// The requests of one user, when they are answered, without their bodies.
pub fn policy(user: &str) -> String {
    format!(
        "apiVersion: audit.k8s.io/v1\n\
         kind: Policy\n\
         omitStages: [RequestReceived, Panic]\n\
         rules: [{{level: Metadata, users: [\"{user}\"]}}, {{level: None}}]\n"
    )
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    verb: String,
    group: String,
    resource: String,
    namespace: String,
    created: bool,
    /// The API server did not allow it.
    pub refused: bool,
}

impl Use {
    /// Group, resource and verb of what it takes: a server-side apply that makes an object takes two.
    pub fn rights(self) -> impl Iterator<Item = (String, String, String)> {
        let makes = self.verb == "patch" && self.created;
        let verbs = [Some(self.verb), makes.then(|| "create".to_owned())];
        verbs
            .into_iter()
            .flatten()
            .map(move |verb| (self.group.clone(), self.resource.clone(), verb))
    }
}

/// Every request for a resource so far.
pub fn read(log: &Path) -> Vec<Use> {
    let text = fs::read_to_string(log).unwrap_or_default();
    // The last line may be half written.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut uses: Vec<Use> = whole.lines().filter_map(parse).collect();
    uses.sort();
    uses.dedup();
    uses
}

fn parse(line: &str) -> Option<Use> {
    let event: Value = serde_json::from_str(line).unwrap();
    let about = event.get("objectRef")?;
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut resource = word(&about["resource"]);
    if let Some(subresource) = about["subresource"].as_str() {
        resource = format!("{resource}/{subresource}");
    }
    let code = event["responseStatus"]["code"].as_i64();
    Some(Use {
        verb: word(&event["verb"]),
        group: word(&about["apiGroup"]),
        resource,
        namespace: word(&about["namespace"]),
        created: code == Some(201),
        refused: code == Some(403),
    })
}
