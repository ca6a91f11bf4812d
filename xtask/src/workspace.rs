//! Where things are, and what the environment says.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

/// Returns the root of the work tree: the parent of this package's folder.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Returns where cargo builds.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let path = variable("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    path.canonicalize().with_context(|| format!("find {}", path.display()))
}

/// Returns what is downloaded once for all work trees: `$MESHLESS_TEST_CACHE`, else `~/.cache/meshless`.
pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let path = variable("MESHLESS_TEST_CACHE")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache/meshless")))
        .context("neither MESHLESS_TEST_CACHE nor HOME is set: set one of them to a folder for downloads")?;
    std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
    Ok(path)
}

/// Returns a `cargo` command in the root, of the toolchain that built us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(variable("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    forget_package(&mut command);
    command
}

/// What cargo told us about our own package must not leak into another build: build scripts (ring's) watch these and
/// would start anew each time.
pub(crate) fn forget_package(command: &mut Command) {
    for name in ["DIR", "LINKS", "PATH"] {
        command.env_remove(format!("CARGO_MANIFEST_{name}"));
    }
    for name in ["NAME", "VERSION", "VERSION_MAJOR", "VERSION_MINOR", "VERSION_PATCH", "VERSION_PRE"] {
        command.env_remove(format!("CARGO_PKG_{name}"));
    }
}

/// Returns whether this is a CI run, where nothing may be skipped.
pub(crate) fn is_ci() -> bool {
    variable("CI").is_some_and(|value| value == "true")
}

/// Returns the files that git has or would add, relative to the root, in order.
pub(crate) fn files() -> anyhow::Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .context("run git: install it, the list of files comes from it")?;
    anyhow::ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    let mut files: Vec<PathBuf> = String::from_utf8(output.stdout)
        .context("a file name is not UTF-8")?
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(|path| root().join(path).exists())
        .collect();
    files.sort();
    files.dedup();
    Ok(files)
}

/// Returns the value of an environment variable that is set and not empty.
#[allow(clippy::disallowed_methods, reason = "the one place of this tool that reads the environment")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
