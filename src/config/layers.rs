//! The layers of a configuration: files, then the environment over them. Built-in defaults are those of the checked
//! types, under both.
//!
//! Files are merged here, because two files that set the same key are a mistake that names both. The `config` crate
//! reads `MESHLESS__…` and lays it over the files; it keeps no places, which are looked up again in the files' tree.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use config::{Config, ConfigError, Environment, Map, Source, Value, ValueKind};
use meshless_platforms::{ECS_SERVICE, Platform, Surroundings};

use super::document::{self, Format, Node, Tree};
use super::problem::{At, Path, Place, Problem, Severity, Step};
use super::structure;

/// Lists of tables that several files may add to.
const APPENDED: [&str; 3] = ["listeners", "names", "routes"];
/// Largest file that is read; a larger one is refused by its size.
const MAX_READ: u64 = 4 * 1024 * 1024 + 1;

/// Name and value of the variables that set keys, by the path of the key.
type Variables = BTreeMap<Vec<String>, (String, String)>;

/// The merged tree, what was read, and what was wrong on the way.
pub(super) struct Layers {
    pub(super) tree: Tree,
    pub(super) files: Vec<PathBuf>,
    pub(super) problems: Vec<Problem>,
}

/// Reads the files at `paths` and the environment.
pub(super) fn read(paths: &[PathBuf], surroundings: &dyn Surroundings) -> Layers {
    let mut problems = Vec::new();
    let files = list(paths, &mut problems);
    let mut tree = Tree::default();
    for file in &files {
        match read_one(file) {
            Ok(next) => merge_file(&mut tree, next, &Path::default(), &mut problems),
            Err(problem) => problems.push(problem),
        }
    }
    let variables = variables(surroundings, &mut problems);
    let tree = overlay(tree, &variables, &mut problems);
    Layers { tree, files, problems }
}

/// Returns the platform that `node.platform` names, before anything else is read: what it says is needed to read the rest. `None` is
/// `auto`, and whatever is wrong there, which loading tells.
pub fn named_platform(paths: &[PathBuf], surroundings: &dyn Surroundings) -> Option<Platform> {
    let tree = read(paths, surroundings).tree;
    let key = |key: &str| Step::Key(key.to_owned());
    match &tree.child(&key("node"))?.child(&key("platform"))?.node {
        Node::Text(name) => Platform::parse(name),
        _ => None,
    }
}

/// An empty table for each of these backends, under the environment.
pub(super) fn imply(backends: &[&str], surroundings: &dyn Surroundings) -> Layers {
    let mut problems = Vec::new();
    let empty = |name: &&str| ((*name).to_owned(), Tree::default());
    let tables = Tree { node: Node::Table(backends.iter().map(empty).collect()), ..Tree::default() };
    let root = Node::Table(BTreeMap::from([("discovery".to_owned(), tables)]));
    let variables = variables(surroundings, &mut problems);
    let tree = overlay(Tree { node: root, ..Tree::default() }, &variables, &mut problems);
    Layers { tree, files: Vec::new(), problems }
}

/// The files that paths stand for: a directory stands for its own files with a known ending, in the order of names.
fn list(paths: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if paths.is_empty() {
        problems.push(whole("no file is named; give one, or a directory, with -c".to_owned()));
    }
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found: Vec<_> = match fs::read_dir(path) {
            // Hidden files are those of editors and the `..data` of mounted maps.
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| file.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')))
                .filter(|file| Format::of(file).is_some() && file.is_file())
                .collect(),
            Err(error) => {
                problems.push(of_file(path, format!("cannot be read: {error}")));
                continue;
            }
        };
        if found.is_empty() {
            problems.push(of_file(path, "no .toml, .yaml, .yml or .json file in this directory".to_owned()));
        }
        found.sort();
        files.append(&mut found);
    }
    files
}

/// Reads one file, without `${…}` put in.
pub(super) fn read_one(path: &FilePath) -> Result<Tree, Problem> {
    let Some(format) = Format::of(path) else {
        return Err(of_file(path, "its ending says no format; name it .toml, .yaml, .yml or .json".to_owned()));
    };
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(of_file(path, format!("cannot be read: {error}")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes().iter().take(error.utf8_error().valid_up_to()).filter(|byte| **byte == b'\n').count() + 1;
        let place = Place::File { file: named(path), line, column: 1 };
        document::unreadable(place, "the line is not UTF-8".to_owned())
    })?;
    // A byte order mark is no part of the text; editors on Windows write it.
    document::parse(&named(path), format, text.strip_prefix('\u{feff}').unwrap_or(&text))
}

/// Adds what the next file sets.
fn merge_file(tree: &mut Tree, next: Tree, path: &Path, problems: &mut Vec<Problem>) {
    let appended = matches!(path.steps(), [Step::Key(key)] if APPENDED.contains(&key.as_str()));
    match (&mut tree.node, next.node) {
        (Node::Table(table), Node::Table(keys)) => {
            // Tables have no place of their own once they come from two files; the first one stands for both.
            if matches!(tree.value, Place::Whole) {
                (tree.key, tree.value) = (next.key, next.value);
            }
            for (key, child) in keys {
                match table.get_mut(&key) {
                    Some(known) => merge_file(known, child, &path.key(&key), problems),
                    None => drop(table.insert(key, child)),
                }
            }
        }
        (Node::List(list), Node::List(mut items)) if appended => list.append(&mut items),
        _ => problems.push(Problem {
            place: next.key,
            severity: Severity::Error,
            key: path.to_string(),
            message: format!("is set at {} too; keep one of them", tree.place(At::Key)),
        }),
    }
}

/// The variables that set keys, by the path that the `config` crate gives them. Others that begin with our name are
/// reported: a variable with a typing error must not be ignored.
fn variables(surroundings: &dyn Surroundings, problems: &mut Vec<Problem>) -> Variables {
    let mut found = Variables::new();
    for (name, value) in surroundings.variables() {
        let lower = name.to_lowercase();
        let Some(rest) = lower.strip_prefix("meshless_") else { continue };
        let mut problem = |severity, message| {
            problems.push(Problem { place: Place::Variable(name.clone()), severity, key: String::new(), message });
        };
        let Some(rest) = rest.strip_prefix('_') else {
            // Kubernetes puts MESHLESS_SERVICE_HOST, MESHLESS_PORT_… into pods next to a service named `meshless`.
            if name != ECS_SERVICE && !rest.starts_with("service_") && !rest.starts_with("port") {
                let message = "is not read; a key is set as MESHLESS__TABLE__KEY, with two underscores".to_owned();
                problem(Severity::Warning, message);
            }
            continue;
        };
        let path: Vec<&str> = rest.split("__").collect();
        let plain = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
        };
        if !path.iter().all(plain) {
            problem(Severity::Error, "expected a name such as MESHLESS__ADMIN__LISTEN".to_owned());
        } else if let Err(message) = structure::scalar_at(&path) {
            problem(Severity::Error, message);
        } else if let Some((other, _)) =
            found.insert(path.iter().map(|key| (*key).to_owned()).collect(), (name.clone(), value))
        {
            problem(Severity::Error, format!("sets the same key as {other}; keep one of them"));
        }
    }
    found
}

/// Lays the environment over the files by the `config` crate and gives all values their places again.
fn overlay(files: Tree, variables: &Variables, problems: &mut Vec<Problem>) -> Tree {
    let given: HashMap<String, String> = variables.values().cloned().collect();
    let environment = Environment::with_prefix("meshless").prefix_separator("__").separator("__").source(Some(given));
    let merged = Config::builder().add_source(Files(files.clone())).add_source(environment).build();
    match merged {
        Ok(merged) => {
            let mut tree = placed(merged.cache, Some(&files), &mut Vec::new(), variables);
            put_back_odd_keys(&mut tree, files);
            tree
        }
        Err(error) => {
            problems.push(whole(format!("the layers cannot be merged: {error}")));
            files
        }
    }
}

/// The crate takes top-level keys for paths (`"a.b"`, `"a[0]"`), so [`Files`] hands it none that could be one. They
/// are unknown keys all of them, and are put back to be reported as such.
fn put_back_odd_keys(tree: &mut Tree, files: Tree) {
    if let (Node::Table(table), Node::Table(from)) = (&mut tree.node, files.node) {
        table.extend(from.into_iter().filter(|(key, _)| !is_plain(key)));
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The files as a source of the `config` crate.
#[derive(Debug, Clone)]
struct Files(Tree);

impl Source for Files {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let Node::Table(table) = &self.0.node else { return Ok(Map::new()) };
        Ok(table.iter().filter(|(key, _)| is_plain(key)).map(|(key, child)| (key.clone(), plain(child))).collect())
    }
}

fn plain(tree: &Tree) -> Value {
    let kind = match &tree.node {
        Node::Boolean(value) => ValueKind::Boolean(*value),
        Node::Float(value) => ValueKind::Float(*value),
        Node::Integer(value) => ValueKind::I64(*value),
        Node::List(list) => ValueKind::Array(list.iter().map(plain).collect()),
        Node::Null | Node::Refused => ValueKind::Nil,
        Node::Table(table) => ValueKind::Table(table.iter().map(|(key, child)| (key.clone(), plain(child))).collect()),
        Node::Text(text) => ValueKind::String(text.clone()),
    };
    Value::new(None, kind)
}

/// Gives a merged value its places: those of the files' tree, or the variable that set it.
fn placed(value: Value, file: Option<&Tree>, path: &mut Vec<String>, variables: &Variables) -> Tree {
    if let Some((name, text)) = variables.get(path) {
        let place = Place::Variable(name.clone());
        return Tree {
            key: place.clone(),
            value: place,
            verbatim: None,
            untyped: true,
            node: Node::Text(text.clone()),
        };
    }
    let node = match value.kind {
        ValueKind::Table(table) => {
            let mut keys = BTreeMap::new();
            for (key, child) in table {
                let known = match file.map(|file| &file.node) {
                    Some(Node::Table(table)) => table.get(&key),
                    _ => None,
                };
                path.push(key.clone());
                keys.insert(key, placed(child, known, path, variables));
                path.pop();
            }
            Node::Table(keys)
        }
        // No variable reaches into lists or changes single values that it does not replace: they are as in the file.
        _ => file.map_or(Node::Null, |file| file.node.clone()),
    };
    if let Some(file) = file {
        return Tree { node, ..file.clone() };
    }
    // A table that only variables have made stands where the first of them stands.
    let place = match &node {
        Node::Table(keys) => keys.values().next().map_or(Place::Whole, |child| child.key.clone()),
        _ => Place::Whole,
    };
    Tree { key: place.clone(), value: place, verbatim: None, untyped: false, node }
}

fn named(path: &FilePath) -> Arc<str> {
    Arc::from(path.display().to_string())
}

fn of_file(path: &FilePath, message: String) -> Problem {
    document::unreadable(Place::File { file: named(path), line: 1, column: 1 }, message)
}

fn whole(message: String) -> Problem {
    document::unreadable(Place::Whole, message)
}
