//! What an answer to a write means, and how it is told to people.

use super::{
    connection::{ApiError, RequestError},
    error::MemberError,
    fencing, order,
};
use crate::declared::DeclaredObject;
use flambeau_planner::model::Kind;

/// Why one write did not happen.
pub(super) enum Failure {
    /// The Namespace is missing.
    NoNamespace,
    /// An object of that name is there, or not the one that was meant.
    Conflict,
    /// The ServiceAccount of the application may not do it.
    NotPermitted(MemberError),
    Final(MemberError),
}

impl From<MemberError> for Failure {
    fn from(error: MemberError) -> Self {
        Self::Final(error)
    }
}

impl From<Failure> for MemberError {
    fn from(failure: Failure) -> Self {
        let message = match failure {
            Failure::Final(error) | Failure::NotPermitted(error) => return error,
            Failure::NoNamespace => "the namespace is gone",
            Failure::Conflict => "the object was replaced meanwhile",
        };
        Self::NotYet {
            what: "write".to_owned(),
            message: message.to_owned(),
        }
    }
}

pub(super) fn title(object: &DeclaredObject) -> String {
    order::title(&object.kind, &object.name)
}

pub(super) fn not_yet(what: String, error: &RequestError) -> MemberError {
    MemberError::NotYet {
        what,
        message: error.to_string(),
    }
}

/// What was not done with an object, and may be done later.
pub(super) fn not_written(object: &DeclaredObject, error: &RequestError) -> MemberError {
    MemberError::NotYet {
        what: title(object),
        message: told(&object.kind, error),
    }
}

/// An error about an object of a kind, for people.
pub(super) fn told(kind: &Kind, error: &RequestError) -> String {
    match error {
        RequestError::Api(api) => explanation(kind, api),
        other => other.to_string(),
    }
}

pub(super) fn refused(object: &DeclaredObject, message: String) -> Failure {
    Failure::Final(MemberError::Refused {
        object: title(object),
        message,
    })
}

pub(super) fn failure(object: &DeclaredObject, error: &RequestError) -> Failure {
    let RequestError::Api(api) = error else {
        return Failure::Final(not_written(object, error));
    };
    if let Some((live, epoch)) = fencing::refusal(&api.message) {
        return Failure::Final(MemberError::Fenced {
            object: title(object),
            live,
            epoch,
        });
    }
    let replaced = || {
        api.details
            .causes
            .iter()
            .any(|cause| cause.field == "metadata.uid")
    };
    match api.code {
        404 if api.details.kind == "namespaces" => Failure::NoNamespace,
        409 => Failure::Conflict,
        422 if replaced() => Failure::Conflict,
        // The credentials may be renewed, the Namespace may come back.
        401 | 429 => Failure::Final(not_written(object, error)),
        403 if api.going() => Failure::Final(not_written(object, error)),
        code if code < 500 || misfit(&api.message) => {
            refused(object, explanation(&object.kind, api))
        }
        _ => Failure::Final(MemberError::NotYet {
            what: title(object),
            message: explanation(&object.kind, api),
        }),
    }
}

/// Errors of server-side apply that say 500 and mean the manifest: it does
/// not fit the schema (<https://github.com/kubernetes/kubernetes/issues/101786>).
fn misfit(message: &str) -> bool {
    [
        "failed to create typed patch object",
        "failed to convert new object",
        "failed to create manager for existing fields",
    ]
    .iter()
    .any(|beginning| message.starts_with(beginning))
}

/// What the API server said, for people: without its preamble, and for
/// Secrets without anything that could hold a value.
pub(super) fn explanation(kind: &Kind, api: &ApiError) -> String {
    if *kind.kind == *"Secret" {
        if let Some(policy) = policy(&api.message) {
            return format!("refused by {policy} (values are not shown)");
        }
        let fields: Vec<&str> = api
            .details
            .causes
            .iter()
            .map(|cause| cause.field.as_str())
            .filter(|field| !field.is_empty())
            .collect();
        return match (fields.as_slice(), misfit(&api.message)) {
            ([], true) => "does not fit the schema of a Secret: data must be base64, stringData text (values are not shown)".to_owned(),
            ([], false) if api.reason.is_empty() => format!("the API server answers {} (values are not shown)", api.code),
            ([], false) => format!("{} (values are not shown)", api.reason),
            (fields, _) => format!("{}: {} (values are not shown)", api.reason, fields.join(", ")),
        };
    }
    let message = api.to_string();
    match message.split_once("): ") {
        Some((preamble, rest)) if misfit(preamble) => rest.to_owned(),
        _ => message,
    }
}

/// The admission policy or webhook that refused an object, by its name, which
/// says to whom to turn.
fn policy(message: &str) -> Option<String> {
    [
        (
            "ValidatingAdmissionPolicy '",
            '\'',
            "ValidatingAdmissionPolicy",
        ),
        ("admission webhook \"", '"', "admission webhook"),
    ]
    .iter()
    .find_map(|(before, after, what)| {
        let (_, rest) = message.split_once(before)?;
        let (name, _) = rest.split_once(*after)?;
        Some(format!("{what} {name}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(kind: &str) -> Kind {
        Kind {
            api_version: "v1".into(),
            kind: kind.into(),
        }
    }

    fn api(code: u16, value: serde_json::Value) -> ApiError {
        ApiError {
            code,
            ..serde_json::from_value(value).unwrap()
        }
    }

    fn object(name: &str) -> DeclaredObject {
        DeclaredObject::new(kind(name), "x".into(), &json!({}), "d".into())
    }

    #[test]
    fn a_typo_is_named_without_the_preamble() {
        let error = api(
            500,
            json!({"message": "failed to create typed patch object (/c; /v1, Kind=ConfigMap): .dta: field not declared in schema"}),
        );
        assert_eq!(
            explanation(&kind("ConfigMap"), &error),
            ".dta: field not declared in schema"
        );
        let Failure::Final(error) = failure(&object("ConfigMap"), &RequestError::Api(error)) else {
            panic!("final");
        };
        assert!(error.is_refusal());
    }

    #[test]
    fn values_of_secrets_are_never_repeated() {
        for error in [
            api(
                500,
                json!({"message": "failed to convert new object (/c; /v1, Kind=Secret) to proper version: sesame"}),
            ),
            api(
                422,
                json!({"message": "sesame", "reason": "Invalid", "details": {"causes": [{"field": "data[k]", "reason": "FieldValueInvalid", "message": "sesame"}]}}),
            ),
            api(400, json!({"message": "sesame"})),
        ] {
            let text = explanation(&kind("Secret"), &error);
            assert!(!text.contains("sesame"), "{text}");
        }
    }

    #[test]
    fn who_refuses_a_secret_is_named() {
        for (message, says) in [
            (
                "secrets \"x\" is forbidden: ValidatingAdmissionPolicy 'no-secrets' with binding 'b' denied request: sesame",
                "refused by ValidatingAdmissionPolicy no-secrets ",
            ),
            (
                "admission webhook \"guard.example.org\" denied the request: sesame",
                "refused by admission webhook guard.example.org ",
            ),
        ] {
            let text = explanation(&kind("Secret"), &api(403, json!({"message": message})));
            assert!(text.starts_with(says), "{text}");
            assert!(!text.contains("sesame"), "{text}");
        }
    }

    #[test]
    fn a_newer_leader_is_nothing_against_the_object_or_its_secret() {
        let error = api(
            403,
            json!({"message": "secrets \"x\" is forbidden: ValidatingAdmissionPolicy 'flambeau-fencing' with binding 'flambeau-fencing' denied request: \
                application games/shop is at epoch 5 here, and this write is under epoch 4: a newer leader has taken over"}),
        );
        let Failure::Final(error) = failure(&object("Secret"), &RequestError::Api(error)) else {
            panic!("final");
        };
        assert!(
            matches!(
                error,
                MemberError::Fenced {
                    live: 5,
                    epoch: 4,
                    ..
                }
            ),
            "{error}"
        );
        assert!(!error.is_refusal());
    }

    #[test]
    fn overload_and_a_namespace_that_goes_are_no_refusal() {
        for error in [
            api(429, json!({"message": "too many"})),
            api(503, json!({"message": "down"})),
            api(
                403,
                json!({"message": "being terminated", "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}}),
            ),
        ] {
            let Failure::Final(error) = failure(&object("ConfigMap"), &RequestError::Api(error))
            else {
                panic!("final");
            };
            assert!(!error.is_refusal(), "{error}");
        }
    }
}
