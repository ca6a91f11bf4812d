//! The reference in `docs/configuration.md` is written from the schema, so it cannot say what is not so.
//!
//! `cargo test --lib write_the_reference -- --ignored` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::{LATER, LATER_UNLESS, LATER_VALUES, resolve, schema};

const BEGIN: &str =
    "<!-- reference: written from the schema by `cargo test --lib write_the_reference -- --ignored` -->\n";
const END: &str = "<!-- end of reference -->\n";

/// One table of keys, and what later builds add.
struct Reference {
    text: String,
    later: Vec<String>,
}

fn reference() -> String {
    let mut reference = Reference { text: String::new(), later: Vec::new() };
    let properties = schema()["properties"].as_object().unwrap();
    // Policies stand once, under [defaults].
    let policies: BTreeSet<&str> = keys(&properties["defaults"]).map(|(key, _)| key).collect();
    for (name, table) in properties {
        if is_later(table) {
            reference.later.push(format!("`[{name}]`"));
            continue;
        }
        let (heading, table) =
            match (table.get("items"), table.get("additionalProperties").filter(|free| free.is_object())) {
                (Some(item), _) => (format!("[[{name}]]"), item),
                (_, Some(free)) => (format!("[{name}.NAME]"), free),
                _ => (format!("[{name}]"), table),
            };
        let skipped = if name == "services" { policies.clone() } else { BTreeSet::new() };
        reference.section(&heading, table, &skipped);
    }
    reference.text.push_str("### Not in this build yet\n\nThese are refused, with their place: ");
    reference.text.push_str(&reference.later.join(", "));
    reference.text.push_str(".\n");
    reference.text
}

impl Reference {
    fn section(&mut self, heading: &str, table: &Value, skipped: &BTreeSet<&str>) {
        let description = table["description"].as_str().unwrap_or_default();
        write!(self.text, "### `{heading}`\n\n{description}\n\n| key | type | meaning |\n|---|---|---|\n").unwrap();
        self.rows(heading, "", table, skipped);
        self.text.push('\n');
    }

    fn rows(&mut self, heading: &str, prefix: &str, table: &Value, skipped: &BTreeSet<&str>) {
        for (key, schema) in keys(table).filter(|(key, _)| !skipped.contains(key)) {
            let path = format!("{prefix}{key}");
            if is_later(schema) {
                let unless =
                    schema.get(LATER_UNLESS).map(|value| format!(" (other than `{value}`)")).unwrap_or_default();
                self.later.push(format!("`{heading}` `{path}`{unless}"));
                continue;
            }
            for branch in branches(schema) {
                let values = branch.get(LATER_VALUES).and_then(Value::as_array).into_iter().flatten();
                self.later.extend(values.map(|value| format!("`{heading}` `{path} = {value}`")));
                if is_later(branch) {
                    self.later.push(format!("`{heading}` `{path}` as a table"));
                }
            }
            let kinds: Vec<_> = branches(schema).into_iter().filter(|branch| !is_later(branch)).map(kind).collect();
            let description = schema["description"].as_str().unwrap().replace('\n', " ");
            writeln!(self.text, "| `{path}` | {} | {description} |", kinds.join(", or ")).unwrap();
            for branch in branches(schema).into_iter().filter(|branch| !is_later(branch)) {
                let (table, prefix) = match branch.get("items") {
                    Some(item) => (resolve(item), format!("{path}[].")),
                    None => (branch, format!("{path}.")),
                };
                self.rows(heading, &prefix, table, &BTreeSet::new());
            }
        }
    }
}

fn keys(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, schema)| (key.as_str(), schema))
}

fn branches(schema: &Value) -> Vec<&Value> {
    let schema = resolve(schema);
    schema
        .get("anyOf")
        .and_then(Value::as_array)
        .map_or_else(|| vec![schema], |several| several.iter().map(resolve).collect())
}

fn is_later(schema: &Value) -> bool {
    schema.get(LATER) == Some(&Value::Bool(true))
}

fn kind(schema: &Value) -> String {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let later = schema.get(LATER_VALUES).and_then(Value::as_array);
        let built = values.iter().filter(|value| !later.is_some_and(|later| later.contains(value)));
        return built.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    match (schema["type"].as_str().unwrap(), schema.get("format").and_then(Value::as_str).unwrap_or_default()) {
        (_, "meshless-duration") => "duration".to_owned(),
        (_, "meshless-duration-range") => "durations".to_owned(),
        (_, "meshless-rate") => "rate".to_owned(),
        (_, "meshless-ratio") => "share".to_owned(),
        (_, "meshless-size") => "size".to_owned(),
        ("array", _) => format!("list of {}s", kind(resolve(&schema["items"]))),
        ("integer", _) => "whole number".to_owned(),
        ("object", _) => "table".to_owned(),
        (other, _) => other.to_owned(),
    }
}

fn document() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

fn parts(text: &str) -> (&str, &str, &str) {
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (inside, after) = rest.split_once(END).unwrap();
    (before, inside, after)
}

#[test]
fn the_documentation_says_every_key_as_the_schema_does() {
    let (_, text) = document();
    assert_eq!(parts(&text).1, reference());
}

#[test]
#[ignore = "writes docs/configuration.md"]
fn write_the_reference() {
    let (path, text) = document();
    let (before, _, after) = parts(&text);
    std::fs::write(path, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
}

#[test]
fn every_key_has_a_description_and_each_built_one_says_its_default() {
    let reference = reference();
    for row in reference.lines().filter(|row| row.starts_with("| `")) {
        let says = ["Default", "Required", "| table |", "For `server`"].iter().any(|word| row.contains(word));
        assert!(says, "{row}");
    }
}
