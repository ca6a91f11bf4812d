//! `${NAME}`, `${NAME:-default}` and `${node.zone}` inside strings; `$$` is a `$`.
//!
//! A name without a dot is an environment variable. A name with a dot comes from `--set`, else from `[node]`, which is
//! read first and takes no `${…}` itself, else from what the platform said, if it was asked.

use std::collections::{BTreeMap, BTreeSet};

use meshless_platforms::{Surroundings, Whereabouts};

use super::document::{Node, Tree};
use super::problem::{At, Path, Place, Problem, Severity, suggestion};

/// Why a text cannot be expanded, and at which byte of it.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    offset: usize,
    message: String,
}

/// Where values come from.
pub(super) struct Values<'a> {
    surroundings: &'a dyn Surroundings,
    sets: &'a BTreeMap<String, String>,
    node: BTreeMap<String, String>,
    used: BTreeSet<String>,
}

/// Expands every text of the tree, and says which names are unknown and which `--set` nothing used.
pub(super) fn expand(
    tree: &mut Tree,
    surroundings: &dyn Surroundings,
    sets: &BTreeMap<String, String>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut values = Values { surroundings, sets, node: node_values(tree), used: BTreeSet::new() };
    walk(tree, &Path::default(), &mut values, &mut problems);
    for name in sets.keys().filter(|name| !values.used.contains(*name)) {
        problems.push(Problem {
            place: Place::Set(name.clone()),
            severity: Severity::Warning,
            key: String::new(),
            message: format!("nothing uses `${{{}}}`", name.escape_debug()),
        });
    }
    problems
}

/// `node.service` and `node.zone` as they are written.
fn node_values(tree: &Tree) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let Node::Table(root) = &tree.node else { return found };
    let Some(Node::Table(node)) = root.get("node").map(|node| &node.node) else { return found };
    for (key, value) in node {
        if let Node::Text(text) = &value.node {
            // What `auto` stands for is the platform's to say.
            if key != "platform" || text != "auto" {
                found.insert(format!("node.{key}"), text.clone());
            }
        }
    }
    found
}

fn walk(tree: &mut Tree, path: &Path, values: &mut Values<'_>, problems: &mut Vec<Problem>) {
    match &mut tree.node {
        Node::Table(table) => {
            for (key, child) in table {
                walk(child, &path.key(key), values, problems);
            }
        }
        Node::List(list) => {
            for (position, child) in list.iter_mut().enumerate() {
                walk(child, &path.position(position), values, problems);
            }
        }
        Node::Text(text) if text.contains('$') => {
            let of_node = matches!(path.steps().first(), Some(super::problem::Step::Key(key)) if key == "node");
            let expanded = if of_node { untouched(text) } else { text_with(text, |name| values.find(name)) };
            match expanded {
                Ok(expanded) => {
                    // Only what was put in can stand for a number: `"$$5"` stays a text.
                    tree.untyped |= text.contains("${");
                    tree.verbatim = None;
                    tree.node = Node::Text(expanded);
                }
                Err(Refusal { offset, message }) => {
                    let place = tree.place(At::Offset(offset));
                    problems.push(Problem { place, severity: Severity::Error, key: path.to_string(), message });
                    tree.node = Node::Refused;
                }
            }
        }
        _ => {}
    }
}

fn untouched(text: &str) -> Result<String, Refusal> {
    match text.find("${") {
        Some(offset) => Err(Refusal {
            offset,
            message: "`${…}` is not taken in [node], which is read first; write the value".to_owned(),
        }),
        None => Ok(text.to_owned()),
    }
}

impl Values<'_> {
    /// Finds a value, or says what would give one.
    fn find(&mut self, name: &str) -> Result<Option<String>, String> {
        if let Some(value) = self.sets.get(name) {
            self.used.insert(name.to_owned());
            return Ok(Some(value.clone()));
        }
        if name.contains('.') {
            let whereabouts = self.surroundings.whereabouts();
            let told = || whereabouts?.value(name).map(str::to_owned);
            let value = self.node.get(name).cloned().or_else(told);
            return match (value, whereabouts) {
                (Some(value), _) => Ok(Some(value)),
                (None, Some(whereabouts)) => Err(self.not_told(name, whereabouts)),
                (None, None) if name.starts_with("node.") => {
                    Err(format!("`{name}` is not known; set it in [node], or give `--set {name}=…` to check"))
                }
                (None, None) => Err(format!("nothing here says `{name}`; give `--set {name}=…`")),
            };
        }
        match self.surroundings.variable(name) {
            Some(value) => Ok(Some(value)),
            None => {
                Err(format!("the environment variable `{name}` is not set; set it, or write `${{{name}:-default}}`"))
            }
        }
    }
}

impl Values<'_> {
    /// Says why a platform that was asked gave no such value, and what it gave.
    fn not_told(&self, name: &str, whereabouts: &Whereabouts) -> String {
        let Whereabouts { platform, missing, values, .. } = whereabouts;
        let remedy = if name.starts_with("node.") { format!("; set `{name}` in [node]") } else { String::new() };
        if let Some(reason) = missing.get(name) {
            return format!("`{name}` is not known on this platform (`{platform}`): {reason}{remedy}");
        }
        let given = self.node.keys().chain(values.keys()).map(String::as_str);
        format!("`{name}` is nothing that this platform (`{platform}`) gives{}", suggestion(name, given))
    }
}

/// Expands one text. `find` returns a value, or why there is none, which a default takes back.
fn text_with(text: &str, mut find: impl FnMut(&str) -> Result<Option<String>, String>) -> Result<String, Refusal> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        let offset = text.len() - after.len() - 1;
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some((inside, after)) = inside.split_once('}') else {
                return Err(Refusal { offset, message: "`${` without a `}`; a `$` itself is written `$$`".to_owned() });
            };
            let (name, default) =
                inside.split_once(":-").map_or((inside, None), |(name, default)| (name, Some(default)));
            if !is_variable(name) {
                let message = format!(
                    "expected a name such as `${{PORT}}`, `${{PORT:-80}}` or `${{node.zone}}`, found `${{{}}}`",
                    inside.escape_debug()
                );
                return Err(Refusal { offset, message });
            }
            match (find(name), default) {
                (Ok(Some(value)), None) => expanded.push_str(&value),
                // As in a shell, `:-` takes the default for an empty value too.
                (Ok(Some(value)), Some(_)) if !value.is_empty() => expanded.push_str(&value),
                (_, Some(default)) => expanded.push_str(default),
                (Ok(None), None) => return Err(Refusal { offset, message: format!("`{name}` has no value") }),
                (Err(message), None) => return Err(Refusal { offset, message }),
            }
            rest = after;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && !name.ends_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(name: &str) -> Result<Option<String>, String> {
        match name {
            "PORT" => Ok(Some("80".to_owned())),
            "EMPTY" => Ok(Some(String::new())),
            other => Err(format!("no {other}")),
        }
    }

    #[test]
    fn names_defaults_and_escapes_are_expanded() {
        for (text, expected) in [
            ("a:${PORT}/b", "a:80/b"),
            ("${PORT}${PORT}", "8080"),
            ("${PORT:-1}", "80"),
            ("${NONE:-1}", "1"),
            ("${EMPTY:-1}", "1"),
            ("${EMPTY}", ""),
            ("${NONE:-}", ""),
            ("$${PORT}", "${PORT}"),
            ("^/a$", "^/a$"),
            ("$PORT", "$PORT"),
        ] {
            assert_eq!(text_with(text, find), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_refusal_says_where() {
        for (text, offset, message) in [
            ("é${NONE}", 2, "no NONE"),
            ("a${PORT", 1, "`${` without a `}`; a `$` itself is written `$$`"),
            ("${}", 0, "expected a name such as `${PORT}`, `${PORT:-80}` or `${node.zone}`, found `${}`"),
            ("${a b}", 0, "expected a name such as `${PORT}`, `${PORT:-80}` or `${node.zone}`, found `${a b}`"),
        ] {
            assert_eq!(text_with(text, find), Err(Refusal { offset, message: message.to_owned() }), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a$\\{\\}:é.-]{0,20}") {
            let _ = text_with(&text, find);
        }
    }
}
