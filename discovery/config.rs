//! What a backend needs to be told, and the only way to open one.

use std::path::PathBuf;
use std::sync::Arc;

use crate::{Backend, Target, TargetError, file, inline};

/// `[discovery.NAME]`, checked: which kind of backend it is and what that kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// Endpoints in files.
    File {
        /// A file that ends in `.toml`, `.yaml`, `.yml` or `.json`, or a directory of such files.
        path: PathBuf,
    },
    /// Endpoints that stand in the target itself; needs no table.
    Static,
}

/// Why a backend cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("discovery backend `{name}`: {problem}")]
pub struct OpenError {
    name: String,
    problem: String,
}

/// Opens the backend called `name`. Does no IO: a backend that is not there yet is an error of its sources.
pub fn open(name: &str, config: &Config) -> Result<Arc<dyn Backend>, OpenError> {
    match config {
        Config::File { path } if path.as_os_str().is_empty() => {
            Err(OpenError { name: name.to_owned(), problem: "`path` is empty; name a file or a directory".to_owned() })
        }
        Config::File { path } => Ok(Arc::new(file::File::new(path.clone()))),
        Config::Static => Ok(Arc::new(inline::Inline)),
    }
}

/// Says what is wrong with a target for a backend of this kind, without opening one that is used.
pub fn check(name: &str, config: &Config, target: &Target) -> Result<(), TargetError> {
    let backend = open(name, config).map_err(|error| TargetError(error.to_string()))?;
    backend.source(target).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_backend_without_a_path_is_refused_by_name() {
        let error = open("hosts", &Config::File { path: PathBuf::new() }).unwrap_err();
        assert_eq!(error.to_string(), "discovery backend `hosts`: `path` is empty; name a file or a directory");
    }

    #[test]
    fn a_backend_whose_place_is_not_there_yet_opens() {
        assert!(open("file", &Config::File { path: "/nowhere/at/all".into() }).is_ok());
    }
}
