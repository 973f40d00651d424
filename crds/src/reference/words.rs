//! Schemas in words.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use std::fmt::Display;

/// Where the conditions that every kind has are described.
const CONDITIONS: &str = "https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties";

/// What the API server refuses: a message, and the fields that it names.
#[derive(Default)]
pub(super) struct Refusals(Vec<(String, Vec<String>)>);

impl Refusals {
    /// What rules of the object itself refuse.
    pub(super) fn of_root(object: &JSONSchemaProps) -> Self {
        let mut refusals = Self::default();
        refusals.add("", object);
        refusals
    }

    /// What rules of the object, and of its fields, refuse; but for fields that
    /// have a table of their own.
    pub(super) fn of(object: &JSONSchemaProps) -> Self {
        let mut refusals = Self::of_root(object);
        for (name, field) in object.properties.iter().flatten() {
            if !has_table(field) {
                refusals.add(name, field);
            }
            if let Some(items) = items(field).filter(|items| !has_table(items)) {
                refusals.add(&format!("{name}[]"), items);
            }
        }
        refusals
    }

    fn add(&mut self, name: &str, schema: &JSONSchemaProps) {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let path = rule.field_path.as_deref().unwrap_or_default();
            let field = format!("{name}{path}");
            let field = field.trim_start_matches('.').to_owned();
            let message = rule.message.clone().unwrap_or_default();
            match self.0.iter_mut().find(|(known, _)| *known == message) {
                Some((_, fields)) => fields.push(field),
                None => self.0.push((message, vec![field])),
            }
        }
    }

    /// One line each: the fields if any is named, then the message.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(message, fields)| {
            let message = one_line(message);
            let named: Vec<_> = fields.iter().filter(|field| !field.is_empty()).collect();
            if named.is_empty() {
                return message;
            }
            format!("{}: {message}", code(named))
        })
    }
}

/// Whether an object has named fields to put into a table. Conditions are those
/// of every Kubernetes API.
pub(super) fn has_table(schema: &JSONSchemaProps) -> bool {
    let fields = schema.properties.iter().flatten();
    let names: Vec<&str> = fields.map(|(name, _)| name.as_str()).collect();
    !names.is_empty() && !names.contains(&"lastTransitionTime")
}

/// What a list is of.
pub(super) fn items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => Some(items),
        _ => None,
    }
}

/// The type of a field with its bounds; `anchor` is that of its table, if it
/// has one.
pub(super) fn type_of(schema: &JSONSchemaProps, anchor: &str) -> String {
    if let Some(items) = items(schema) {
        let list = match schema.x_kubernetes_list_type.as_deref() {
            Some("set") => "set",
            _ => "list",
        };
        let length = match bounds(schema.min_items, schema.max_items) {
            Some(length) => format!(" ({length})"),
            None => String::new(),
        };
        return format!("{list}{length} of {}", type_of(items, anchor));
    }
    let values: Vec<&str> = schema
        .enum_
        .iter()
        .flatten()
        .filter_map(|value| value.0.as_str())
        .collect();
    if !values.is_empty() {
        return code(values);
    }
    match (schema.type_.as_deref(), schema.format.as_deref()) {
        (Some("object"), _) if has_table(schema) => format!("[object](#{anchor})"),
        (Some("object"), _) if schema.properties.is_some() => format!("[condition]({CONDITIONS})"),
        (Some("object"), _) => "object, with any fields".to_owned(),
        (Some("string"), Some("date-time")) => "time".to_owned(),
        (Some("string"), _) => match bounds(schema.min_length, schema.max_length) {
            Some(length) => format!("string of {length} characters"),
            None => "string".to_owned(),
        },
        (Some(number), _) => match bounds(schema.minimum, schema.maximum) {
            Some(range) => format!("{number}, {range}"),
            None => number.to_owned(),
        },
        (None, _) => "anything".to_owned(),
    }
}

fn bounds<N: Display>(least: Option<N>, most: Option<N>) -> Option<String> {
    match (least, most) {
        (Some(least), Some(most)) => Some(format!("{least} to {most}")),
        (Some(least), None) => Some(format!("at least {least}")),
        (None, Some(most)) => Some(format!("at most {most}")),
        (None, None) => None,
    }
}

/// What a field is when it is left out.
pub(super) fn default_of(schema: &JSONSchemaProps, required: bool) -> String {
    match &schema.default {
        Some(value) => format!("`{}`", value.0),
        None if required => "required".to_owned(),
        None => String::new(),
    }
}

/// The anchor that a heading gets on the page.
pub(super) fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter(|one| one.is_ascii_alphanumeric())
        .map(|one| one.to_ascii_lowercase())
        .collect()
}

/// Words as code, separated by commas.
pub(super) fn code<W: Display>(words: impl IntoIterator<Item = W>) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// A description on one line; a word that was broken at its hyphen is whole
/// again.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let broken = text.lines().map(str::trim_end).filter_map(|line| {
        let end = line.rsplit(' ').next().unwrap_or_default();
        (end.ends_with('-') && end.len() > 1).then_some(end)
    });
    broken.fold(words, |words, end| words.replace(&format!("{end} "), end))
}

/// A description in the cell of a table.
pub(super) fn cell(text: &str) -> String {
    one_line(text).replace('|', "\\|")
}
