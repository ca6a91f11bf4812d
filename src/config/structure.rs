//! Holds a whole tree against the schema: unknown keys, wrong types and keys of later builds, all at once.
//!
//! What is wrong is left out, so that what is left deserializes and can be checked for its meaning in the same run.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::document::{Node, Tree};
use super::problem::{At, Path, Report, shown, suggestion};
use super::schema::{LATER, LATER_UNLESS, LATER_VALUES, resolve, schema};
use super::units;

/// What is left of a tree, and which keys were wrong.
pub(super) struct Sound {
    pub(super) json: Value,
    pub(super) wrong: BTreeSet<Path>,
}

/// Reports all that does not fit the schema of the configuration.
pub(super) fn check(tree: &Tree, report: &mut Report<'_>) -> Sound {
    check_against(schema(), tree, report)
}

/// Reports all that does not fit a schema.
pub(super) fn check_against(schema: &Value, tree: &Tree, report: &mut Report<'_>) -> Sound {
    let mut walk = Walk { report, wrong: BTreeSet::new() };
    let json = walk.value(tree, schema, &Path::default()).unwrap_or_else(|| Value::Object(Map::new()));
    Sound { json, wrong: walk.wrong }
}

struct Walk<'a, 'tree> {
    report: &'a mut Report<'tree>,
    wrong: BTreeSet<Path>,
}

impl Walk<'_, '_> {
    fn value(&mut self, tree: &Tree, schema: &Value, path: &Path) -> Option<Value> {
        if tree.node == Node::Refused {
            self.wrong.insert(path.clone());
            return None;
        }
        let schema = resolve(schema);
        let Some(branch) = branch_for(tree, schema) else {
            return self.refuse(path, At::Value, format!("expected {}, found {}", expectation(schema), found(tree)));
        };
        if [schema, branch].iter().any(|schema| is_later(schema) && !says_what_is_done_anyway(tree, schema)) {
            let at = if is_later(schema) { At::Key } else { At::Value };
            return self.refuse(path, at, "not in this build yet; remove it".to_owned());
        }
        match kind(branch) {
            "array" => self.list(tree, branch, path),
            "object" => self.table(tree, branch, path),
            "boolean" => boolean(tree).map(Value::Bool).or_else(|| self.mismatch(tree, branch, path)),
            "integer" | "number" => self.number(tree, branch, path),
            "string" => self.text(tree, branch, path),
            _ => self.mismatch(tree, branch, path),
        }
    }

    fn table(&mut self, tree: &Tree, schema: &Value, path: &Path) -> Option<Value> {
        // An empty table of YAML reads as nothing: `discovery: { file: }`.
        let empty = std::collections::BTreeMap::new();
        let table = match &tree.node {
            Node::Table(table) => table,
            Node::Null => &empty,
            _ => return self.mismatch(tree, schema, path),
        };
        let mut sound = Map::new();
        for (key, child) in table {
            let path = path.key(key);
            let known = schema.get("properties").and_then(|properties| properties.get(key));
            let free = schema.get("additionalProperties").filter(|schema| schema.is_object());
            let Some(schema) = known.or(free) else {
                let allowed = keys(schema).filter(|(_, schema)| !is_later(schema)).map(|(key, _)| key);
                self.refuse(&path, At::Key, format!("unknown key{}", suggestion(key, allowed)));
                continue;
            };
            if let Some(value) = self.value(child, schema, &path) {
                sound.insert(key.clone(), value);
            }
        }
        Some(Value::Object(sound))
    }

    /// A wrong item leaves an empty place, so that the others keep their positions, and so their places in the file.
    fn list(&mut self, tree: &Tree, schema: &Value, path: &Path) -> Option<Value> {
        let Node::List(list) = &tree.node else { return self.mismatch(tree, schema, path) };
        let item = schema.get("items").unwrap_or(&Value::Null);
        let placeholder = if kind(resolve(item)) == "object" { Some(Value::Object(Map::new())) } else { None };
        let sound = list.iter().enumerate().filter_map(|(position, child)| {
            self.value(child, item, &path.position(position)).or_else(|| placeholder.clone())
        });
        Some(Value::Array(sound.collect()))
    }

    fn number(&mut self, tree: &Tree, schema: &Value, path: &Path) -> Option<Value> {
        let whole = kind(schema) == "integer";
        let number = match &tree.node {
            Node::Integer(number) => Some(Value::from(*number)),
            Node::Float(number) if !whole => Some(Value::from(*number)),
            Node::Text(text) if tree.untyped && whole => text.parse::<i64>().ok().map(Value::from),
            Node::Text(text) if tree.untyped => text.parse::<f64>().ok().map(Value::from),
            _ => None,
        };
        let Some((number, float)) = number.and_then(|number| number.as_f64().map(|float| (number, float))) else {
            return self.mismatch(tree, schema, path);
        };
        let (low, high) = bounds(schema);
        // NaN and infinity are numbers of TOML and YAML, and none of ours.
        let fits = float.is_finite() && low.is_none_or(|low| float >= low) && high.is_none_or(|high| float <= high);
        if fits { Some(number) } else { self.mismatch(tree, schema, path) }
    }

    fn text(&mut self, tree: &Tree, schema: &Value, path: &Path) -> Option<Value> {
        let Node::Text(text) = &tree.node else { return self.mismatch(tree, schema, path) };
        let strings = |key| schema.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        if schema.get("enum").is_some() {
            if strings(LATER_VALUES).any(|later| later == text) {
                let rest = strings("enum").filter(|value| !strings(LATER_VALUES).any(|later| later == *value));
                let rest = rest.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
                return self.refuse(path, At::Value, format!("`{text}` is not in this build yet; it has {rest}"));
            }
            if !strings("enum").any(|value| value == text) {
                let message = format!("expected {}, found {}", expectation(schema), found(tree));
                let near = suggestion(text, strings("enum"));
                let near = if near.contains("did you mean") { near } else { String::new() };
                return self.refuse(path, At::Value, message + &near);
            }
        }
        let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
        match units::check(format, text) {
            Some(Err(error)) => self.refuse(path, At::Value, format!("{error}, found {}", found(tree))),
            Some(Ok(())) | None => Some(Value::String(text.clone())),
        }
    }

    fn mismatch(&mut self, tree: &Tree, schema: &Value, path: &Path) -> Option<Value> {
        self.refuse(path, At::Value, format!("expected {}, found {}", expectation(schema), found(tree)))
    }

    fn refuse(&mut self, path: &Path, at: At, message: String) -> Option<Value> {
        self.wrong.insert(path.clone());
        self.report.error(path, at, message);
        None
    }
}

/// Says whether the environment can set the key at `path`, or why not.
pub(super) fn scalar_at(path: &[&str]) -> Result<(), String> {
    const ONLY: &str = "the environment sets single values in tables only";
    let mut schema = schema();
    for key in path {
        schema = resolve(schema);
        let tables: Vec<_> = branches(schema).filter(|branch| kind(branch) == "object").collect();
        let Some(table) = tables.first() else {
            let what = if branches(schema).any(|branch| kind(branch) == "array") { "a list" } else { "a single value" };
            return Err(format!("`{key}` would be a key in {what}; {ONLY}"));
        };
        let known = table.get("properties").and_then(|properties| properties.get(*key));
        let free = table.get("additionalProperties").filter(|schema| schema.is_object());
        let Some(next) = known.or(free) else {
            let allowed = keys(table).filter(|(_, schema)| !is_later(schema)).map(|(key, _)| key);
            return Err(format!("unknown key `{key}`{}", suggestion(key, allowed)));
        };
        schema = next;
    }
    let schema = resolve(schema);
    if branches(schema).any(|branch| !matches!(kind(branch), "array" | "object")) {
        return Ok(());
    }
    let what = if kind(schema) == "array" { "a list" } else { "a table" };
    Err(format!("this is {what}; {ONLY}"))
}

fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn is_later(schema: &Value) -> bool {
    schema.get(LATER).and_then(Value::as_bool) == Some(true)
}

fn says_what_is_done_anyway(tree: &Tree, schema: &Value) -> bool {
    schema.get(LATER_UNLESS).is_some_and(|value| value.as_bool().is_some() && value.as_bool() == boolean(tree))
}

fn boolean(tree: &Tree) -> Option<bool> {
    match &tree.node {
        Node::Boolean(value) => Some(*value),
        Node::Text(text) if tree.untyped => text.parse().ok(),
        _ => None,
    }
}

fn keys(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(key, schema)| (key.as_str(), schema))
}

fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    let several = schema.get("anyOf").and_then(Value::as_array);
    let one = several.is_none().then_some(schema);
    several.into_iter().flatten().map(resolve).chain(one)
}

/// The branch that a value of this kind is for. Alternatives of our schema differ by kind.
fn branch_for<'a>(tree: &Tree, schema: &'a Value) -> Option<&'a Value> {
    if schema.get("anyOf").is_none() {
        return Some(schema);
    }
    let wanted = match tree.node {
        Node::Boolean(_) => "boolean",
        Node::Float(_) | Node::Integer(_) => "number",
        Node::List(_) => "array",
        Node::Null | Node::Refused | Node::Table(_) => "object",
        Node::Text(_) => "string",
    };
    branches(schema).find(|branch| kind(branch) == wanted)
}

/// Bounds of a number, those of its Rust type included.
fn bounds(schema: &Value) -> (Option<f64>, Option<f64>) {
    let bound = |key| schema.get(key).and_then(Value::as_f64);
    let widest = match schema.get("format").and_then(Value::as_str) {
        Some("uint16") => Some(f64::from(u16::MAX)),
        Some("uint32") => Some(f64::from(u32::MAX)),
        _ => None,
    };
    (bound("minimum"), bound("maximum").or(widest))
}

/// What a schema allows, as a message says it.
fn expectation(schema: &Value) -> String {
    if schema.get("anyOf").is_some() {
        return branches(schema).filter(|branch| !is_later(branch)).map(expectation).collect::<Vec<_>>().join(", or ");
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let later = schema.get(LATER_VALUES).and_then(Value::as_array);
        let built = values.iter().filter(|value| !later.is_some_and(|later| later.contains(value)));
        let built: Vec<_> = built.filter_map(Value::as_str).map(|value| format!("`{value}`")).collect();
        return match built.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, first)) => format!("{} or {last}", first.join(", ")),
            None => "nothing".to_owned(),
        };
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or_default();
    if let Some(expected) = units::expectation(format) {
        return expected.to_owned();
    }
    match kind(schema) {
        "array" => "a list".to_owned(),
        "boolean" => "true or false".to_owned(),
        kind @ ("integer" | "number") => {
            let what = if kind == "integer" { "a whole number" } else { "a number" };
            let (low, high) = bounds(schema);
            // That a number fits its type goes without saying.
            match (low, high.filter(|high| *high < f64::from(u32::MAX))) {
                (Some(low), Some(high)) => format!("{what} from {low} to {high}"),
                (Some(low), None) => format!("{what} of at least {low}"),
                (None, Some(high)) => format!("{what} of at most {high}"),
                (None, None) => what.to_owned(),
            }
        }
        "object" => {
            match keys(schema).filter(|(_, schema)| !is_later(schema)).map(|(key, _)| key).collect::<Vec<_>>() {
                keys if keys.is_empty() || keys.len() > 6 => "a table".to_owned(),
                keys => {
                    format!("a table with {}", keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
                }
            }
        }
        "string" => "a string".to_owned(),
        _ => "another value".to_owned(),
    }
}

/// What was found, as a message says it.
fn found(tree: &Tree) -> String {
    match &tree.node {
        Node::Boolean(value) => format!("`{value}`"),
        Node::Float(value) => format!("the number {value}"),
        Node::Integer(value) => format!("the number {value}"),
        Node::Text(text) => shown(text),
        other => other.kind().to_owned(),
    }
}
