//! The API for people, as it stands in `docs/reference/api.md`: a section for
//! each kind, a table for each object in it.

mod meanings;
mod words;

use crate::{
    CloudProvider, Evacuation, Freeze, GamesApplication, MemberCluster, Migration,
    SovereigntyPolicy,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionVersion,
    JSONSchemaProps,
};
use kube::CustomResourceExt;
use meanings::Meanings;
use schemars::JsonSchema;
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
<!-- Generated from the types in crds/src; do not edit. Write it anew with:
     cargo run --package flambeau-crds --bin crdgen -- --reference docs/reference/api.md -->

# API reference

The kinds of group `flambeau.dev`, version `v1alpha1`, as the hub's API server knows them. `kubectl explain` says the same:
`kubectl explain gapp.spec.migration`. People write `spec`; Flambeau writes `status`. Durations are integers in the unit that
the name ends with; times are those of RFC 3339, such as `2026-07-01T00:00:00Z`. *Set* is a list in no order without
duplicates. Below each table stands what the API server refuses beyond the table, in the words that it answers.
";

/// A kind, and what its enumerations mean.
struct Kind {
    definition: CustomResourceDefinition,
    meanings: Meanings,
}

impl Kind {
    fn of<K: CustomResourceExt + JsonSchema>() -> Self {
        Self {
            definition: K::crd(),
            meanings: Meanings::of::<K>(),
        }
    }

    fn name(&self) -> &str {
        &self.definition.spec.names.kind
    }
}

/// The API reference, as Markdown.
pub fn api() -> String {
    let kinds = [
        Kind::of::<CloudProvider>(),
        Kind::of::<MemberCluster>(),
        Kind::of::<SovereigntyPolicy>(),
        Kind::of::<GamesApplication>(),
        Kind::of::<Migration>(),
        Kind::of::<Evacuation>(),
        Kind::of::<Freeze>(),
    ];
    let mut page = INTRODUCTION.to_owned();
    page.push_str("\n| kind | short | scope | what it is |\n|---|---|---|---|\n");
    for kind in &kinds {
        let names = &kind.definition.spec.names;
        put(
            &mut page,
            format_args!(
                "| [{name}](#{anchor}) | {short} | {scope} | {what} |\n",
                name = kind.name(),
                anchor = words::anchor(kind.name()),
                short = words::code(names.short_names.iter().flatten()),
                scope = kind.definition.spec.scope,
                what = words::cell(description(kind)),
            ),
        );
    }
    for kind in &kinds {
        section(&mut page, kind);
    }
    page
}

fn section(page: &mut String, kind: &Kind) {
    let names = &kind.definition.spec.names;
    put(
        page,
        format_args!(
            "\n## {}\n\n{}\n\n",
            kind.name(),
            words::one_line(description(kind))
        ),
    );
    put(
        page,
        format_args!(
            "`kubectl get {}` shows {}. [An example](../../crds/examples/{}.yaml).\n",
            names
                .short_names
                .iter()
                .flatten()
                .next()
                .unwrap_or(&names.plural),
            columns(kind),
            names.plural,
        ),
    );
    let Some(schema) = version(kind).schema.as_ref() else {
        return;
    };
    let Some(root) = &schema.open_api_v3_schema else {
        return;
    };
    refusals(page, &words::Refusals::of_root(root));
    for part in ["spec", "status"] {
        if let Some(object) = root
            .properties
            .iter()
            .flatten()
            .find(|(name, _)| *name == part)
        {
            table(
                page,
                kind,
                &format!("{}.{part}", kind.name()),
                &[part],
                object.1,
            );
        }
    }
}

/// A table of an object's fields, then those of the objects in it.
fn table(page: &mut String, kind: &Kind, heading: &str, path: &[&str], object: &JSONSchemaProps) {
    put(page, format_args!("\n### {heading}\n\n"));
    if let Some(description) = &object.description {
        put(page, format_args!("{}\n\n", words::one_line(description)));
    }
    page.push_str("| field | type | default | meaning |\n|---|---|---|---|\n");
    for (name, field) in object.properties.iter().flatten() {
        let required = object.required.iter().flatten().any(|one| one == name);
        let nested = format!("{heading}.{name}");
        let mut meaning = words::cell(field.description.as_deref().unwrap_or_default());
        let field_path = [path, &[name.as_str()]].concat();
        for (value, says) in kind.meanings.of_values(&field_path) {
            put(
                &mut meaning,
                format_args!("<br>`{value}`: {}", words::cell(&says)),
            );
        }
        put(
            page,
            format_args!(
                "| `{name}` | {} | {} | {meaning} |\n",
                words::type_of(field, &words::anchor(&nested)),
                words::default_of(field, required),
            ),
        );
    }
    refusals(page, &words::Refusals::of(object));
    for (name, field) in object.properties.iter().flatten() {
        let (heading, inner) = match words::items(field) {
            Some(items) => (format!("{heading}.{name}[]"), items),
            None => (format!("{heading}.{name}"), field),
        };
        if words::has_table(inner) {
            let path = [path, &[name.as_str()]].concat();
            table(page, kind, &heading, &path, inner);
        }
    }
}

fn refusals(page: &mut String, refusals: &words::Refusals) {
    let lines: Vec<String> = refusals.lines().collect();
    if !lines.is_empty() {
        put(
            page,
            format_args!("\nRefused:\n\n- {}\n", lines.join("\n- ")),
        );
    }
}

/// The columns of `kubectl get`, and those of `-o wide`.
fn columns(kind: &Kind) -> String {
    let columns = version(kind).additional_printer_columns.iter().flatten();
    let (wide, always): (Vec<_>, Vec<_>) =
        columns.partition(|column| column.priority.unwrap_or_default() > 0);
    let names = |columns: Vec<&CustomResourceColumnDefinition>| {
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        names.join(", ")
    };
    let mut shown = names(always);
    if !wide.is_empty() {
        put(
            &mut shown,
            format_args!("; with `-o wide` also {}", names(wide)),
        );
    }
    shown
}

fn description(kind: &Kind) -> &str {
    version(kind)
        .schema
        .as_ref()
        .and_then(|schema| schema.open_api_v3_schema.as_ref())
        .and_then(|root| root.description.as_deref())
        .unwrap_or_default()
}

/// The one version that every kind has.
fn version(kind: &Kind) -> &CustomResourceDefinitionVersion {
    &kind.definition.spec.versions[0]
}

/// Appends; writing to a String does not fail.
fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).unwrap_or_default();
}
