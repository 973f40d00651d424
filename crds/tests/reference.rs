//! The API reference is what the types say, says it of everything, and its
//! links lead somewhere.

use flambeau_crds::reference;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn the_checked_in_reference_is_what_the_types_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/api.md");
    let checked_in = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        checked_in == reference::api(),
        "docs/reference/api.md is not what the types say: \
         cargo run --package flambeau-crds --bin crdgen -- --reference docs/reference/api.md"
    );
}

#[test]
fn every_field_of_every_kind_has_a_row_in_the_table_of_its_object() {
    let page = reference::api();
    let mut rows = BTreeSet::new();
    let mut heading = "";
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            heading = title;
        } else if let Some(row) = line.strip_prefix("| `") {
            rows.insert(format!("{heading}.{}", row.split('`').next().unwrap()));
        }
    }
    let mut fields = BTreeSet::new();
    for crd in flambeau_crds::all_crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap();
        let root = schema.open_api_v3_schema.as_ref().unwrap();
        for part in ["spec", "status"] {
            let path = format!("{}.{part}", crd.spec.names.kind);
            collect(&path, &root.properties.as_ref().unwrap()[part], &mut fields);
        }
    }
    let kinds: BTreeSet<_> = fields
        .iter()
        .filter_map(|field| field.split('.').next())
        .collect();
    assert_eq!(
        kinds.len(),
        flambeau_crds::all_crds().len(),
        "a kind without fields: {kinds:?}"
    );
    assert_eq!(rows, fields);
}

#[test]
fn every_value_of_an_enumeration_says_what_it_means() {
    let page = reference::api();
    let mut values = 0;
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let type_of_field = line.split(" | ").nth(1).unwrap();
        for value in type_of_field.split('`').skip(1).step_by(2) {
            values += 1;
            assert!(
                line.contains(&format!("<br>`{value}`: ")),
                "{value} is not explained: {line}"
            );
        }
    }
    assert!(
        values > 0,
        "no enumeration was found: look for them in another way"
    );
}

#[test]
fn every_link_within_the_page_leads_to_one_heading() {
    let page = reference::api();
    let headings: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with("##"))
        .map(|line| {
            let letters = line.chars().filter(char::is_ascii_alphanumeric);
            letters.map(|one| one.to_ascii_lowercase()).collect()
        })
        .collect();
    let links: Vec<&str> = page
        .split("](#")
        .skip(1)
        .map(|rest| rest.split(')').next().unwrap())
        .collect();
    assert!(links.len() > flambeau_crds::all_crds().len());
    for link in links {
        let found = headings.iter().filter(|heading| *heading == link).count();
        assert_eq!(found, 1, "#{link} leads to {found} headings");
    }
}

fn collect(path: &str, schema: &JSONSchemaProps, fields: &mut BTreeSet<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        fields.insert(format!("{path}.{name}"));
        match &property.items {
            // Those of every Kubernetes API.
            _ if name == "conditions" => {}
            Some(JSONSchemaPropsOrArray::Schema(items)) => {
                collect(&format!("{path}.{name}[]"), items, fields);
            }
            _ => collect(&format!("{path}.{name}"), property, fields),
        }
    }
}
