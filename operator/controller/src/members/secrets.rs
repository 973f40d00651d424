//! Words of a member without what stands in an application's Secrets.
//!
//! A member says why it refuses an object, and often with which value. That
//! helps people, and goes into status, events and logs, which more people read
//! than Secrets. So whatever an application declares in its Secrets is taken
//! out, wherever it comes back: in a message about another object that holds
//! the same value, in the words of an admission policy, or cut in two.

use super::{covers::secret_data, error::MemberError};
use crate::declared::{Declared, DeclaredObject};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// What stands where a value was.
const HIDDEN: &str = "(a value of a Secret)";
/// Values with fewer bytes are not looked for: they are found everywhere, and
/// keep no secret.
const SHORTEST: usize = 4;
/// So many bytes of a longer value in a row are a part of it.
const PART: usize = 12;

/// The error without values of the application's Secrets.
pub(super) fn without_values(error: MemberError, declared: &Declared) -> MemberError {
    error.map_words(|words| hide(&words, declared))
}

fn hide(words: &str, declared: &Declared) -> String {
    let secrets = declared.objects.iter().filter(|object| is_secret(object));
    let mut hidden = Hidden::of(words);
    for value in secrets.flat_map(values) {
        hidden.mark(&value);
    }
    hidden.text()
}

fn is_secret(object: &DeclaredObject) -> bool {
    *object.kind.kind == *"Secret" && *object.kind.api_version == *"v1"
}

/// Every value of a Secret in every form in which it may come back.
fn values(secret: &DeclaredObject) -> HashSet<String> {
    let manifest = secret.manifest();
    let Some(manifest) = manifest.as_object() else {
        return HashSet::new();
    };
    let mut plain = Vec::new();
    for field in ["data", "stringData"] {
        scalars(manifest.get(field).unwrap_or(&Value::Null), &mut plain);
    }
    let written = secret_data(manifest);
    plain.extend(
        written
            .values()
            .filter_map(Value::as_str)
            .map(str::to_owned),
    );
    let decoded: Vec<String> = plain
        .iter()
        .filter_map(|value| String::from_utf8(STANDARD.decode(value).ok()?).ok())
        .collect();
    plain.extend(decoded);
    let lines: Vec<String> = plain
        .iter()
        .flat_map(|value| value.lines())
        .map(|line| line.trim().to_owned())
        .collect();
    plain.extend(lines);
    let forms = plain.into_iter().flat_map(|value| {
        // As JSON and Go quote it, and as Go's JSON does besides.
        let quoted = Value::String(value.clone()).to_string();
        let quoted = quoted.trim_matches('"').to_owned();
        let escaped = [("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")]
            .iter()
            .fold(quoted.clone(), |text, (from, to)| text.replace(from, to));
        [value, quoted, escaped]
    });
    forms.filter(|value| value.len() >= SHORTEST).collect()
}

/// Texts and numbers within a value, however deep.
fn scalars(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::Number(number) => found.push(number.to_string()),
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| scalars(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| scalars(field, found)),
    }
}

/// A text, and which bytes of it are not shown.
struct Hidden<'a> {
    text: &'a str,
    /// Where each run of [`PART`] bytes begins.
    parts: HashMap<&'a [u8], Vec<usize>>,
    marked: Vec<bool>,
}

impl<'a> Hidden<'a> {
    fn of(text: &'a str) -> Self {
        let mut parts: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (start, part) in text.as_bytes().windows(PART).enumerate() {
            parts.entry(part).or_default().push(start);
        }
        Self {
            text,
            parts,
            marked: vec![false; text.len()],
        }
    }

    fn mark(&mut self, value: &str) {
        let value = value.as_bytes();
        if value.len() < PART {
            let starts = self.text.as_bytes().windows(value.len()).enumerate();
            let starts: Vec<usize> = starts
                .filter(|(_, bytes)| *bytes == value)
                .map(|(start, _)| start)
                .collect();
            starts
                .into_iter()
                .for_each(|start| self.marked[start..start + value.len()].fill(true));
        }
        for part in value.windows(PART) {
            for start in self.parts.get(part).into_iter().flatten() {
                self.marked[*start..start + PART].fill(true);
            }
        }
        // A message may end within a value.
        let end = self.text.trim_end_matches('…').len();
        let cut = (SHORTEST..value.len().min(end + 1))
            .rev()
            .find(|length| self.text.as_bytes()[..end].ends_with(&value[..*length]));
        if let Some(length) = cut {
            self.marked[end - length..end].fill(true);
        }
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(self.text.len());
        let mut before = false;
        for (start, letter) in self.text.char_indices() {
            let hidden = self.marked[start..start + letter.len_utf8()].contains(&true);
            match (before, hidden) {
                (_, false) => text.push(letter),
                (false, true) => text.push_str(HIDDEN),
                (true, true) => {}
            }
            before = hidden;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flambeau_planner::model::{ApplicationKey, Kind};
    use serde_json::json;

    fn declared(secret: Value) -> Declared {
        let object = DeclaredObject::new(
            Kind {
                api_version: "v1".into(),
                kind: "Secret".into(),
            },
            "password".into(),
            &secret,
            "d".into(),
        );
        Declared {
            key: ApplicationKey {
                namespace: "games".into(),
                name: "shop".into(),
            },
            uid: "u".into(),
            created: None,
            objects: vec![object],
            traffic: None,
        }
    }

    fn hidden(secret: Value, words: &str) -> String {
        hide(words, &declared(secret))
    }

    #[test]
    fn a_value_is_taken_out_in_every_form() {
        let secret = json!({"stringData": {"a": "open sesame", "b": "a \"quoted\" <one>", "n": 271_828},
            "data": {"c": "c2VzYW1lLW9wZW4=", "d": "not base64!"}});
        for words in [
            "open sesame",
            "b3BlbiBzZXNhbWU=",
            "a \"quoted\" <one>",
            r#"a \"quoted\" <one>"#,
            r#"a \"quoted\" \u003cone\u003e"#,
            "271828",
            "c2VzYW1lLW9wZW4=",
            "sesame-open",
            "not base64!",
        ] {
            let text = hidden(
                secret.clone(),
                &format!("spec.type: Invalid value: <{words}>."),
            );
            assert_eq!(
                text,
                format!("spec.type: Invalid value: <{HIDDEN}>."),
                "{words}"
            );
        }
    }

    #[test]
    fn a_part_of_a_long_value_and_the_beginning_of_one_that_was_cut_are_taken_out() {
        let secret =
            json!({"stringData": {"key": "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nshort\n"}});
        assert_eq!(
            hidden(secret.clone(), "found EvQIBADANBgkqhki there, short too"),
            format!("found {HIDDEN} there, {HIDDEN} too")
        );
        assert_eq!(
            hidden(secret.clone(), "it was MIIEv…"),
            format!("it was {HIDDEN}…")
        );
        assert_eq!(hidden(secret, "it was MIIEv"), format!("it was {HIDDEN}"));
    }

    #[test]
    fn other_words_stay() {
        let secret = json!({"stringData": {"flag": "no", "password": "sesame"}});
        let words = "no ConfigMap \"größer\": spec.type is not a type";
        assert_eq!(hidden(secret, words), words);
        assert_eq!(
            hide(
                words,
                &Declared {
                    objects: Vec::new(),
                    ..declared(json!({}))
                }
            ),
            words
        );
    }
}
