//! Files that are no configuration and are written like one: cases of `meshless test`, scenarios of `meshless simulate`.
//!
//! They are read with the same care: TOML, YAML or JSON by ending, every problem at once with its place, near spellings. A
//! key of theirs may hold a whole configuration, or the name of its file.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use meshless_platforms::Surroundings;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::check::{Loaded, load, load_tree};
use super::document::{Node, Tree};
use super::problem::{At, Path, Place, Problem, Problems, Report, Severity};
use super::schema::schema_of;
use super::{layers, structure};

/// A file that was read: its shape is right, its meaning is its reader's business.
#[derive(Debug)]
pub(crate) struct Written<T> {
    pub(crate) value: T,
    file: PathBuf,
    tree: Tree,
    /// Configurations, by the key that holds them.
    configs: BTreeMap<String, Source>,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Inline(Tree),
}

/// Reads a file. `configs` are the keys that hold configurations; `T` does not have them.
pub(crate) fn read<T: DeserializeOwned + JsonSchema>(
    file: &FilePath,
    configs: &[&str],
) -> Result<Written<T>, Problems> {
    let mut tree = layers::read_one(file).map_err(|problem| Problems(vec![problem]))?;
    let folder = file.parent().unwrap_or_else(|| FilePath::new(""));
    let mut found = BTreeMap::new();
    let mut wrong = Vec::new();
    if let Node::Table(table) = &mut tree.node {
        for key in configs {
            let Some(child) = table.remove(*key) else { continue };
            let source = match &child.node {
                Node::Text(path) => Source::File(folder.join(path)),
                Node::Table(_) => Source::Inline(child),
                other => {
                    let message =
                        format!("expected the path of a configuration, or a table with one, found {}", other.kind());
                    let key = (*key).to_owned();
                    wrong.push(Problem { place: child.place(At::Value), severity: Severity::Error, key, message });
                    continue;
                }
            };
            found.insert((*key).to_owned(), source);
        }
    }
    let mut report = Report::new(&tree);
    let sound = structure::check_against(&schema_of::<T>(), &tree, &mut report);
    let mut problems = report.into_problems();
    problems.append(&mut wrong);
    match serde_json::from_value(sound.json) {
        Ok(value) if problems.is_empty() => Ok(Written { value, file: file.to_owned(), tree, configs: found }),
        Err(error) if problems.is_empty() => Err(Problems(vec![of_file(file, format!("cannot be read: {error}"))])),
        _ => {
            problems.sort();
            problems.dedup();
            Err(Problems(problems))
        }
    }
}

impl<T> Written<T> {
    /// Loads the configuration that a key holds; `None`: the key is not there.
    pub(crate) fn config(
        &self,
        key: &str,
        surroundings: &dyn Surroundings,
        sets: &BTreeMap<String, String>,
    ) -> Option<Result<Loaded, Problems>> {
        Some(match self.configs.get(key)? {
            Source::File(path) => load(std::slice::from_ref(path), surroundings, sets),
            Source::Inline(tree) => load_tree(tree.clone(), surroundings, sets),
        })
    }

    /// Returns where the configuration of a key stands; `None`: the key is not there, or has it inside.
    pub(crate) fn source(&self, key: &str) -> Option<String> {
        match self.configs.get(key)? {
            Source::File(path) => Some(path.display().to_string()),
            Source::Inline(_) => None,
        }
    }

    /// Returns a problem of a key.
    pub(crate) fn problem(&self, path: &Path, message: impl Into<String>) -> Problem {
        let mut report = Report::new(&self.tree);
        report.error(path, At::Value, message);
        let problem = report.into_problems().pop();
        let place = || Place::File { file: self.file.display().to_string().into(), line: 1, column: 1 };
        let whole = |problem: Problem| {
            if problem.place == Place::Whole { Problem { place: place(), ..problem } } else { problem }
        };
        problem.map_or_else(|| self.whole(""), whole)
    }

    /// Returns a problem of the file as a whole.
    pub(crate) fn whole(&self, message: impl Into<String>) -> Problem {
        of_file(&self.file, message.into())
    }
}

fn of_file(file: &FilePath, message: String) -> Problem {
    let place = Place::File { file: file.display().to_string().into(), line: 1, column: 1 };
    Problem { place, severity: Severity::Error, key: String::new(), message }
}
