//! What the values of enumerations mean. A CustomResourceDefinition has no
//! place for that, the schema of the Rust types has.

use schemars::{JsonSchema, Schema, schema_for};
use serde_json::Value;

/// The schema of a kind as the Rust types give it, with documented variants.
pub(super) struct Meanings(Schema);

impl Meanings {
    pub(super) fn of<K: JsonSchema>() -> Self {
        Self(schema_for!(K))
    }

    /// The values of the enumeration at a path of field names, or of that in
    /// the list there, each with what it means; nothing for any other field.
    pub(super) fn of_values(&self, path: &[&str]) -> Vec<(String, String)> {
        let mut here = self.0.as_value();
        for name in path {
            let Some(field) = self.resolve(here)["properties"].get(*name) else {
                return Vec::new();
            };
            here = self.resolve(field);
            if let Some(items) = here.get("items") {
                here = self.resolve(items);
            }
        }
        let variants = here["oneOf"].as_array();
        variants
            .into_iter()
            .flatten()
            .filter_map(|variant| {
                let text = |key: &str| variant[key].as_str().map(str::to_owned);
                Some((text("const")?, text("description")?))
            })
            .collect()
    }

    /// Follows references, and leaves null aside.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        if let Some(reference) = schema["$ref"].as_str() {
            let pointer = reference.trim_start_matches('#');
            return self
                .0
                .as_value()
                .pointer(pointer)
                .map_or(&Value::Null, |found| self.resolve(found));
        }
        let choices = schema["anyOf"].as_array();
        let real = choices
            .into_iter()
            .flatten()
            .find(|one| one["type"] != "null");
        real.map_or(schema, |one| self.resolve(one))
    }
}
