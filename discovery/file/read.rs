//! Gets the bytes of all files, as they were at one time.
//!
//! A set of files cannot be read in one step. What is in it is listed before and after it was read; if the lists
//! differ somebody wrote meanwhile, and the set is read again. So no answer is a mix of an old and a new version (a
//! `ConfigMap` swaps all its files at once), nor the half of a file.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::Error;

/// Most bytes of one file.
pub(super) const MAX_BYTES: u64 = 1024 * 1024;

/// Most files of a directory.
pub(super) const MAX_FILES: usize = 1000;

/// How often a set that changes while it is read is read again before that is an error.
const TRIES: usize = 3;

/// One file's format, told by the ending of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Format {
    Json,
    Toml,
    Yaml,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// One file that was read.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Text {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) content: String,
}

/// Returns a number that tells one set of files from another.
pub(super) fn digest(texts: &[Text]) -> u64 {
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    hasher.finish()
}

/// Reads the file at `path`, or every file with a known ending in the directory there, in the order of their names.
pub(super) fn read(path: &Path) -> Result<Vec<Text>, Error> {
    read_while(path, || {})
}

/// Reads as [`read`] does; `meanwhile` happens after the files were read and before that is checked.
fn read_while(path: &Path, mut meanwhile: impl FnMut()) -> Result<Vec<Text>, Error> {
    for _ in 0..TRIES {
        let before = list(path)?;
        let mut texts = Vec::with_capacity(before.len());
        for listed in &before {
            texts.push(text(listed)?);
        }
        meanwhile();
        if list(path)? == before {
            return Ok(texts);
        }
    }
    Err(Error::Unreachable(format!("{} changes faster than it can be read", path.display())))
}

/// A file as it stood in a list; a change of any field is a change of the file.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    path: PathBuf,
    format: Format,
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

fn list(path: &Path) -> Result<Vec<Listed>, Error> {
    let metadata = fs::metadata(path).map_err(|error| failed(path, &error))?;
    if !metadata.is_dir() {
        let format = Format::of(path).ok_or_else(|| {
            Error::Malformed(format!(
                "{} does not end in .toml, .yaml, .yml or .json, so its format is not known",
                path.display()
            ))
        })?;
        return Ok(vec![listed(path.to_owned(), format, &metadata)?]);
    }
    let inside = fs::canonicalize(path).map_err(|error| failed(path, &error))?;
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| failed(path, &error))? {
        let file = entry.map_err(|error| failed(path, &error))?.path();
        let Some(format) = Format::of(&file) else { continue };
        if is_hidden(&file) {
            continue;
        }
        let metadata = fs::metadata(&file).map_err(|error| failed(&file, &error))?;
        if metadata.is_dir() {
            continue;
        }
        stays_inside(&file, &inside)?;
        files.push(listed(file, format, &metadata)?);
    }
    if files.len() > MAX_FILES {
        return Err(Error::Malformed(format!(
            "{} files in {}, at most {MAX_FILES} are taken",
            files.len(),
            path.display()
        )));
    }
    files.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(files)
}

fn listed(path: PathBuf, format: Format, metadata: &fs::Metadata) -> Result<Listed, Error> {
    if !metadata.is_file() {
        return Err(Error::Malformed(format!("{} is not a regular file", path.display())));
    }
    if metadata.len() > MAX_BYTES {
        return Err(Error::Malformed(format!(
            "{} has {} bytes, at most {MAX_BYTES} are taken; use more than one file",
            path.display(),
            metadata.len()
        )));
    }
    Ok(Listed {
        path,
        format,
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

/// Hidden files belong to editors, version control and `ConfigMap` volumes.
fn is_hidden(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// A link may lead to another place in the directory (`ConfigMap`: `a.toml` → `..data/a.toml`), but not out of it:
/// a right to write names there must not become a right to have any file of this machine read and quoted in errors.
fn stays_inside(file: &Path, directory: &Path) -> Result<(), Error> {
    let real = fs::canonicalize(file).map_err(|error| failed(file, &error))?;
    if real.starts_with(directory) {
        return Ok(());
    }
    Err(Error::Denied(format!(
        "{} is a link that leads out of its directory; put the file there, or give its own path as `path`",
        file.display()
    )))
}

fn text(listed: &Listed) -> Result<Text, Error> {
    let path = &listed.path;
    let mut bytes = Vec::with_capacity(usize::try_from(listed.bytes).unwrap_or_default());
    let file = fs::File::open(path).map_err(|error| failed(path, &error))?;
    // The bound holds for a file that grows after it was listed, too.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| failed(path, &error))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::Malformed(format!("{} has more than {MAX_BYTES} bytes", path.display())));
    }
    let content = String::from_utf8(bytes)
        .map_err(|error| Error::Malformed(format!("{} is not UTF-8: {}", path.display(), error.utf8_error())))?;
    Ok(Text { path: path.clone(), format: listed.format, content })
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Denied(message),
        // A missing file may be half of a rename or a volume that is not mounted yet: it may come back.
        _ => Error::Unreachable(message),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(texts: &[Text]) -> Vec<String> {
        texts.iter().map(|text| text.path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_directory_gives_its_visible_files_of_known_formats_in_the_order_of_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.json", "a.toml", "c.yaml", "d.yml", ".hidden.toml", "README", "a.toml~", "e.toml.swp"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        fs::create_dir(directory.path().join("deeper.toml")).unwrap();
        assert_eq!(names(&read(directory.path()).unwrap()), ["a.toml", "b.json", "c.yaml", "d.yml"]);
    }

    #[test]
    fn a_set_that_changes_while_it_is_read_is_read_again_and_at_last_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.toml");
        let mut written = 0;
        let mut write_until = |last| {
            fs::write(&file, "").unwrap();
            written = 0;
            read_while(directory.path(), || {
                if written < last {
                    written += 1;
                    fs::write(&file, "x".repeat(written)).unwrap();
                }
            })
        };
        assert_eq!(write_until(2).unwrap()[0].content, "xx");
        assert!(matches!(write_until(3), Err(Error::Unreachable(message)) if message.contains("changes faster")));
    }

    #[test]
    fn a_directory_that_is_gone_is_unreachable_and_not_empty() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        assert_eq!(read(&path), Ok(Vec::new()));
        drop(directory);
        assert!(matches!(read(&path), Err(Error::Unreachable(_))));
    }

    #[test]
    fn a_link_of_a_config_map_is_followed_but_none_that_leads_out() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(directory.path().join("..v1")).unwrap();
        fs::write(directory.path().join("..v1/a.toml"), "one").unwrap();
        symlink("..v1", directory.path().join("..data")).unwrap();
        symlink("..data/a.toml", directory.path().join("a.toml")).unwrap();
        assert_eq!(read(directory.path()).unwrap()[0].content, "one");

        fs::write(outside.path().join("secret.toml"), "secret").unwrap();
        symlink(outside.path().join("secret.toml"), directory.path().join("b.toml")).unwrap();
        let error = read(directory.path()).unwrap_err();
        assert!(matches!(&error, Error::Denied(message) if message.contains("leads out")), "{error}");
    }

    #[test]
    fn a_link_that_was_given_as_the_path_is_followed_anywhere() {
        let (directory, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("real.toml"), "real").unwrap();
        let link = directory.path().join("link.toml");
        symlink(outside.path().join("real.toml"), &link).unwrap();
        assert_eq!(read(&link).unwrap()[0].content, "real");
    }

    #[test]
    fn a_file_that_is_too_large_or_no_text_or_no_file_or_of_no_known_format_is_malformed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("large.toml"), vec![b' '; usize::try_from(MAX_BYTES).unwrap() + 1]).unwrap();
        fs::write(at("latin1.toml"), [0xe9]).unwrap();
        fs::write(at("web.conf"), "").unwrap();
        for (path, problem) in [
            (at("large.toml"), "at most 1048576"),
            (at("latin1.toml"), "UTF-8"),
            (at("web.conf"), "does not end in"),
            (PathBuf::from("/dev/null.toml"), "No such file"),
        ] {
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let socket = at("socket.toml");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(read(&socket).unwrap_err().to_string().contains("regular file"));
    }

    #[test]
    fn a_file_of_just_the_largest_size_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        fs::write(&path, vec![b' '; usize::try_from(MAX_BYTES).unwrap()]).unwrap();
        assert!(read(&path).is_ok());
    }
}
