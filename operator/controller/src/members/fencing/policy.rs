//! The admission policy that every member carries, and what it says.

use super::super::{discovery::encoded, live::Live};
use flambeau_crds::{APPLICATION_LABEL, EPOCH_ANNOTATION, FIELD_MANAGER};
use serde_json::{Value, json};

/// Name of the policy, and of the binding that holds everywhere.
pub(in super::super) const NAME: &str = "flambeau-fencing";
/// Name of the binding that holds where epochs are remembered.
const REMEMBERED: &str = "flambeau-fencing-remembered";
/// Name of the ConfigMap in which a namespace remembers epochs.
pub(in super::super) const EPOCHS: &str = "flambeau-epochs";
/// A namespace that exists on every cluster, for a write that is tried
/// without effect.
pub(super) const PROBE_NAMESPACE: &str = "default";
const PROBE: &str = "flambeau-fencing-probe";
const STALE: &str = "flambeau-fencing-stale-probe";
const EFFECTIVE: &str = "fencing is effective in revision ";

/// Names of the objects that make up the policy, of either kind.
pub(in super::super) const NAMES: [&str; 2] = [NAME, REMEMBERED];
/// Names of the ConfigMaps that are written: the one of epochs, and those that
/// are tried without effect.
pub(in super::super) const CONFIG_MAPS: [&str; 3] = [EPOCHS, PROBE, STALE];

/// Grows with every change of the policy, so that an older operator does not
/// undo what a newer one wrote.
pub(super) const REVISION: u32 = 1;
/// Annotation on the parts of the policy: the revision.
pub(super) const REVISION_ANNOTATION: &str = "flambeau.dev/fencing-revision";

pub(in super::super) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
const GROUP: &str = "admissionregistration.k8s.io/v1";

/// An epoch as it stands on an object, as a regular expression.
const EPOCH_FORM: &str = "^[0-9]{1,18}$";
/// An entry of the ConfigMap, as a regular expression: when the application
/// was created, and the epoch in ten digits, so that the later of two entries
/// is the greater string.
const ENTRY_FORM: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z/[0-9]{10}$";

/// One of the objects that make up the policy.
pub(in super::super) struct Part {
    pub kind: &'static str,
    plural: &'static str,
    pub name: &'static str,
    spec: Value,
}

impl Part {
    /// Path of all objects of its kind.
    pub fn collection(&self) -> String {
        format!("/apis/{GROUP}/{}", self.plural)
    }

    /// Its path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }

    /// The object to write, in place of one of a resource version.
    pub fn manifest(&self, version: Option<&str>) -> Value {
        let mut manifest = json!({"apiVersion": GROUP, "kind": self.kind, "spec": self.spec, "metadata": {
            "name": self.name, "labels": {MANAGED_BY_LABEL: "flambeau"},
            "annotations": {REVISION_ANNOTATION: REVISION.to_string()}}});
        if let Some(version) = version {
            manifest["metadata"]["resourceVersion"] = version.into();
        }
        manifest
    }

    /// Whether an object is exactly that: what somebody added may weaken it.
    pub fn is(&self, live: &Live) -> bool {
        let revision = live.metadata.annotations.get(REVISION_ANNOTATION);
        live.fields.get("spec") == Some(&self.spec)
            && revision.is_some_and(|revision| *revision == REVISION.to_string())
    }
}

/// The parts, in the order in which they are written. The binding that a
/// probe can prove comes last: the API server sees objects of a kind in the
/// order in which they were written.
pub(in super::super) fn parts() -> [Part; 3] {
    let binding = |name, extra: Value| {
        let mut spec = json!({"policyName": NAME, "validationActions": ["Deny"]});
        if !extra.is_null() {
            spec["paramRef"] = extra;
        }
        Part {
            kind: "ValidatingAdmissionPolicyBinding",
            plural: "validatingadmissionpolicybindings",
            name,
            spec,
        }
    };
    [
        Part {
            kind: "ValidatingAdmissionPolicy",
            plural: "validatingadmissionpolicies",
            name: NAME,
            spec: specification(),
        },
        // Of the namespace of the request; where nothing is remembered, this binding refuses nothing.
        binding(
            REMEMBERED,
            json!({"name": EPOCHS, "parameterNotFoundAction": "Allow"}),
        ),
        binding(NAME, Value::Null),
    ]
}

/// Defaults are spelt out, so that what is stored can be compared.
fn specification() -> Value {
    // Fail: a rule that cannot be evaluated must not let an old leader through. Whom that may hinder is narrowed
    // down by the label here and by the condition: who writes an epoch, or the ConfigMap of epochs.
    json!({
        "failurePolicy": "Fail",
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {"matchLabels": {MANAGED_BY_LABEL: "flambeau"}},
            "resourceRules": [
                // Subresources, such as status, are not among these.
                {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": ["*"], "scope": "Namespaced"},
                {"apiGroups": [""], "apiVersions": ["*"], "operations": ["DELETE"], "resources": ["configmaps"], "scope": "Namespaced"},
            ],
        },
        "matchConditions": [{"name": "carries-an-epoch-or-remembers-them", "expression": condition()}],
        "variables": [
            {"name": "remembers", "expression": format!("!({})", writes_an_epoch())},
            {"name": "application", "expression": format!("variables.remembers ? '' : object.metadata.labels['{APPLICATION_LABEL}']")},
            {"name": "tried", "expression": format!("variables.remembers ? 0 : {}", epoch("object"))},
            {"name": "entry", "expression":
                "params != null && has(params.data) && variables.application in params.data ? params.data[variables.application] : ''"},
            // Of updates, what is remembered concerns Flambeau's own: everybody else may go on with a copy that is not erased yet.
            {"name": "remembered", "expression": format!(
                "variables.entry.matches('{ENTRY_FORM}') && (request.operation == 'CREATE' || {} && !has(object.metadata.deletionTimestamp)) ? \
                 int(variables.entry.split('/')[1]) : 0", own())},
            {"name": "live", "expression": format!(
                "variables.remembers ? 0 : request.operation == 'UPDATE' && {old} > variables.remembered ? {old} : variables.remembered",
                old = epoch("oldObject"))},
            {"name": "lowered", "expression": format!(
                "variables.remembers && request.operation == 'UPDATE' && has(oldObject.data) ? \
                 oldObject.data.filter(name, !({})) : []", kept_or_raised())},
        ],
        "validations": [
            {"expression": "variables.tried >= variables.live", "reason": "Forbidden",
                "messageExpression": "'application ' + request.namespace + '/' + variables.application + ' is at epoch ' + string(variables.live) + \
                 ' here, and this write is under epoch ' + string(variables.tried) + ': a newer leader has taken over'"},
            {"expression": "size(variables.lowered) == 0", "reason": "Forbidden",
                "messageExpression": "'the epoch of an application never goes back: application ' + request.namespace + '/' + variables.lowered[0] + \
                 ' is at ' + oldObject.data[variables.lowered[0]] + ' here, and this write is under ' + \
                 (has(object.data) && variables.lowered[0] in object.data ? object.data[variables.lowered[0]] : 'none') + ': a newer leader has taken over'"},
            {"expression": format!("!variables.remembers || request.operation != 'UPDATE' || has(object.metadata.labels) && \
                 '{MANAGED_BY_LABEL}' in object.metadata.labels && object.metadata.labels['{MANAGED_BY_LABEL}'] == 'flambeau'"), "reason": "Forbidden",
                "message": format!("the label {MANAGED_BY_LABEL}=flambeau protects the epochs of applications: keep it")},
            {"expression": "request.operation != 'DELETE' || !has(oldObject.data) || has(namespaceObject.metadata.deletionTimestamp)", "reason": "Forbidden",
                "message": format!("the epochs of applications are kept as long as their namespace, so that no old leader of Flambeau can come back; \
                 to begin anew on purpose, stop Flambeau and delete ValidatingAdmissionPolicy {NAME} first")},
            {"expression": format!("request.operation != 'CREATE' || !has(request.dryRun) || !request.dryRun || object.metadata.name != '{PROBE}'"),
                "reason": "Forbidden", "message": format!("{EFFECTIVE}{REVISION}")},
        ],
    })
}

/// Which requests the rules are about.
fn condition() -> String {
    let of_epochs = |object: &str| {
        format!(
            "request.resource.group == '' && request.resource.resource == 'configmaps' && {object}.metadata.name == '{EPOCHS}'"
        )
    };
    format!(
        "request.operation == 'DELETE' ? ({}) : request.operation == 'UPDATE' && ({}) || {}",
        of_epochs("oldObject"),
        of_epochs("object"),
        writes_an_epoch()
    )
}

/// An object of an application is written under an epoch.
fn writes_an_epoch() -> String {
    format!(
        "(request.operation == 'CREATE' && {new} || request.operation == 'UPDATE' && {new} && {old} && \
         object.metadata.labels['{APPLICATION_LABEL}'] == oldObject.metadata.labels['{APPLICATION_LABEL}'])",
        new = carries("object"),
        old = carries("oldObject")
    )
}

fn carries(object: &str) -> String {
    format!(
        "has({object}.metadata.labels) && '{APPLICATION_LABEL}' in {object}.metadata.labels && has({object}.metadata.annotations) && \
         '{EPOCH_ANNOTATION}' in {object}.metadata.annotations && {object}.metadata.annotations['{EPOCH_ANNOTATION}'].matches('{EPOCH_FORM}')"
    )
}

/// Flambeau writes, or somebody in its name.
fn own() -> String {
    format!(
        "has(request.options.fieldManager) && request.options.fieldManager == '{FIELD_MANAGER}'"
    )
}

fn epoch(object: &str) -> String {
    format!("int({object}.metadata.annotations['{EPOCH_ANNOTATION}'])")
}

/// The entry `name` stays, or grows; one that cannot be understood may be put
/// right.
fn kept_or_raised() -> String {
    format!(
        "has(object.data) && name in object.data && (object.data[name] == oldObject.data[name] || \
         object.data[name].matches('{ENTRY_FORM}') && object.data[name] > oldObject.data[name]) || \
         !oldObject.data[name].matches('{ENTRY_FORM}')"
    )
}

/// A write that the policy refuses, whatever else is true: path and body.
pub(super) fn probe() -> (String, Value) {
    (tried(PROBE_NAMESPACE, PROBE), object(PROBE, PROBE, 0))
}

/// A write of an application under an epoch, which the policy refuses if that
/// is over: path and body.
pub(super) fn stale(namespace: &str, application: &str, epoch: i64) -> (String, Value) {
    (tried(namespace, STALE), object(STALE, application, epoch))
}

fn tried(namespace: &str, name: &str) -> String {
    format!(
        "/api/v1/namespaces/{}/configmaps/{name}?dryRun=All&force=true&fieldManager={FIELD_MANAGER}",
        encoded(namespace)
    )
}

fn object(name: &str, application: &str, epoch: i64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name,
        "labels": {MANAGED_BY_LABEL: "flambeau", APPLICATION_LABEL: application},
        "annotations": {EPOCH_ANNOTATION: epoch.to_string()}}})
}

/// Whether a refusal proves that the policy is effective, in this revision or
/// a newer one.
pub(super) fn proves(message: &str) -> bool {
    let revision = message.split_once(EFFECTIVE).map(|(_, revision)| revision);
    revision
        .and_then(|revision| revision.trim().parse::<u32>().ok())
        .is_some_and(|revision| revision >= REVISION)
}

/// Live and tried epoch, as a refusal names them.
pub(super) fn told(message: &str) -> Option<(i64, i64)> {
    let (_, rest) = message.split_once(NAME)?;
    let (live, tried) = rest.split_once(" here, and this write is under ")?;
    let live = live.rsplit_once(" is at ")?.1;
    let tried = tried.split_once(": ").map_or(tried, |(tried, _)| tried);
    // As "epoch 5", or as an entry.
    let number = |text: &str| {
        let digits = text.rsplit([' ', '/']).next()?;
        digits.parse().ok()
    };
    Some((number(live)?, number(tried).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_any_other() {
        let prefix = "configmaps \"x\" is forbidden: ValidatingAdmissionPolicy 'flambeau-fencing' with binding 'flambeau-fencing' denied request: ";
        let told = |text: &str| told(&format!("{prefix}{text}"));
        assert_eq!(
            told(
                "application games/shop is at epoch 5 here, and this write is under epoch 4: a newer leader has taken over"
            ),
            Some((5, 4))
        );
        assert_eq!(
            told(
                "the epoch of an application never goes back: application games/shop is at 2026-11-22T09:00:00Z/0000000005 here, \
                  and this write is under 2026-11-22T09:00:00Z/0000000004: a newer leader has taken over"
            ),
            Some((5, 4))
        );
        assert_eq!(told("something else"), None);
        assert_eq!(
            super::told(
                "application games/shop is at epoch 5 here, and this write is under epoch 4: a newer leader has taken over"
            ),
            None
        );
    }

    #[test]
    fn only_its_own_refusal_proves_a_policy() {
        assert!(proves("denied request: fencing is effective in revision 1"));
        assert!(proves(
            "denied request: fencing is effective in revision 99"
        ));
        assert!(!proves(
            "denied request: fencing is effective in revision 0"
        ));
        assert!(!proves(
            "configmaps is forbidden: User \"x\" cannot create resource"
        ));
    }
}
