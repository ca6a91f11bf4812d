//! gRPC's interop client and server, built from Go modules that are pinned by version and checksum.
//!
//! Nobody packages them. They are built once for all work trees, into a folder whose name says what they were built from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::{components, process, workspace};

/// The module with the pins and our server; the client is grpc-go's own.
const MODULE: &str = "tests/real/grpc_interop";

/// What decides what is built.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "server.go"];

/// Each program with the package that it is built from.
pub(crate) const PROGRAMS: [(&str, &str); 2] =
    [("grpc-interop-client", "google.golang.org/grpc/interop/client"), ("grpc-interop-server", ".")];

/// Returns the folder with the programs, which are built on first use: half a minute.
pub(crate) fn grpc_interop() -> anyhow::Result<PathBuf> {
    let go = find().context("there is no Go: install it (https://go.dev/dl) and put it on the PATH")?;
    let module = workspace::root().join(MODULE);
    let mut key = process::output(go_command(&go, &module).arg("version"))?;
    for name in SOURCES {
        key.push_str(&fs::read_to_string(module.join(name)).with_context(|| format!("read {MODULE}/{name}"))?);
    }
    let folder = workspace::cache()?.join(format!("grpc-interop-{:016x}", components::fingerprint(&key)));
    let whole = folder.join("complete");
    if !whole.exists() {
        println!("  build {}", pin(&module)?);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        for (program, package) in PROGRAMS {
            let mut build = go_command(&go, &module);
            build.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(folder.join(program)).arg(package);
            process::output(&mut build)?;
        }
        fs::write(&whole, b"").context("mark the interop programs as complete")?;
    }
    Ok(folder)
}

/// Returns the pinned version of grpc-go, as `go.mod` has it.
pub(crate) fn version() -> anyhow::Result<String> {
    pin(&workspace::root().join(MODULE))
}

fn pin(module: &Path) -> anyhow::Result<String> {
    let text = fs::read_to_string(module.join("go.mod")).context("read go.mod")?;
    let line = text.lines().find_map(|line| line.strip_prefix("require "));
    line.map(Into::into).context("go.mod requires nothing")
}

/// A toolchain that is too old is said, not replaced by one from the network; nothing but the pins is built.
fn go_command(go: &Path, module: &Path) -> Command {
    let mut command = Command::new(go);
    command.current_dir(module).env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=readonly").env("CGO_ENABLED", "0");
    command
}

/// Go's own installer puts it where no `PATH` of a service looks.
fn find() -> Option<PathBuf> {
    process::find("go").or_else(|| Some(PathBuf::from("/usr/local/go/bin/go")).filter(|go| go.is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_go_is_pinned_to_a_release() {
        let version = version().unwrap();
        let (module, version) = version.split_once(" v").unwrap();
        assert_eq!(module, "google.golang.org/grpc");
        assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{version}");
    }
}
