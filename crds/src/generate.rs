//! The CustomResourceDefinitions as text, as they stand in `generated/`.

/// One file of `generated/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Name of the file: the plural of the kind, with `.yaml`.
    pub name: String,
    /// Content of the file.
    pub text: String,
}

/// Every CustomResourceDefinition as a file.
///
/// # Errors
/// When a definition cannot be written as YAML.
pub fn files() -> Result<Vec<GeneratedFile>, serde_yaml::Error> {
    crate::all_crds()
        .map(|crd| {
            let yaml = serde_yaml::to_string(&crd)?;
            Ok(GeneratedFile {
                name: format!("{}.yaml", crd.spec.names.plural),
                text: format!("# Generated from the types in crds/src by `make generate`; do not edit.\n{yaml}"),
            })
        })
        .collect()
}
