//! What is checked in is what the types say, and every field says what it is.

use std::{collections::BTreeMap, fs, path::Path};

use flambeau_crds::generate;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

#[test]
fn checked_in_files_are_what_the_types_generate() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("generated");
    let checked_in: BTreeMap<String, String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(&path).unwrap())
        })
        .collect();
    let generated: BTreeMap<String, String> = generate::files()
        .unwrap()
        .into_iter()
        .map(|file| (file.name, file.text))
        .collect();
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&checked_in),
        names(&generated),
        "run `make generate` and remove what it does not write"
    );
    for (name, text) in generated {
        assert!(
            checked_in[&name] == text,
            "{name} is not what the types say: run `make generate`"
        );
    }
}

#[test]
fn every_field_says_what_it_is() {
    let mut silent = Vec::new();
    for crd in flambeau_crds::all_crds() {
        let schema = crd.spec.versions[0].schema.as_ref().unwrap();
        let schema = schema.open_api_v3_schema.as_ref().unwrap();
        collect_silent(&crd.spec.names.kind, schema, &mut silent);
    }
    assert!(
        silent.is_empty(),
        "`kubectl explain` has nothing to say about {silent:?}: document the fields"
    );
}

fn collect_silent(path: &str, schema: &JSONSchemaProps, silent: &mut Vec<String>) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        if property
            .description
            .as_deref()
            .unwrap_or_default()
            .is_empty()
        {
            silent.push(path.clone());
        }
        collect_silent(&path, property, silent);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect_silent(path, items, silent);
    }
}
