//! The JSON Schema of the configuration: what editors use, and what keys are checked against.

use std::sync::LazyLock;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::raw::Raw;

/// Schema of a key that the product has and this build has not.
pub(super) const LATER: &str = "x-later";
/// The one value of such a key that says what is done anyway.
pub(super) const LATER_UNLESS: &str = "x-later-unless";
/// Values of an enumeration that this build has not.
pub(super) const LATER_VALUES: &str = "x-later-values";

static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<Raw>);

/// Makes the schema of something that is written like a configuration.
pub(super) fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    strip_null(&mut schema);
    schema
}

/// Returns the JSON Schema (draft 2020-12) of the configuration.
pub fn schema() -> &'static Value {
    &SCHEMA
}

/// Follows `$ref`, which only the recursive parts of the schema use.
pub(super) fn resolve(schema: &Value) -> &Value {
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
    reference.and_then(|pointer| SCHEMA.pointer(pointer)).unwrap_or(schema)
}

/// An option of Rust is a key that may be left out, not one that may be `null`, which TOML has not.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Array(list) => list.iter_mut().for_each(strip_null),
        Value::Object(object) => {
            if object.get("default").is_some_and(Value::is_null) {
                object.remove("default");
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(values)) = object.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            flatten_any_of(object);
            object.values_mut().for_each(strip_null);
        }
        _ => {}
    }
}

/// `anyOf: [X, null]` is `X`; what stands beside it (a description, `x-later`) wins over what is in `X`.
fn flatten_any_of(object: &mut Map<String, Value>) {
    let Some(Value::Array(branches)) = object.get_mut("anyOf") else { return };
    branches.retain(|branch| branch.get("type").and_then(Value::as_str) != Some("null"));
    if let [Value::Object(only)] = branches.as_slice() {
        let only = only.clone();
        object.remove("anyOf");
        for (key, value) in only {
            object.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod reference;
