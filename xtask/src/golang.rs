//! Programs that nobody packages, built from Go modules that are pinned by version and checksum.
//!
//! They are built once for all work trees, into a folder whose name says what they were built from.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;

use crate::{components, process, workspace};

/// Programs that are built from one module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Module {
    /// Its name in lists and in the cache.
    pub(crate) name: &'static str,
    /// The folder with the pins, in the work tree.
    folder: &'static str,
    /// What decides what is built.
    sources: &'static [&'static str],
    /// Each program with the package that it is built from.
    pub(crate) programs: &'static [(&'static str, &'static str)],
    /// The variable that the program tells as its version: without it, it says that it is of no release.
    version_variable: Option<&'static str>,
    /// How long that takes on two cores.
    takes: &'static str,
}

/// gRPC's interop client, which is grpc-go's own, and a server of ours.
pub(crate) const GRPC_INTEROP: Module = Module {
    name: "grpc-interop",
    folder: "tests/real/grpc_interop",
    sources: &["go.mod", "go.sum", "server.go"],
    programs: &[("grpc-interop-client", "google.golang.org/grpc/interop/client"), ("grpc-interop-server", ".")],
    version_variable: None,
    takes: "half a minute",
};

/// Kubernetes' API server.
pub(crate) const KUBE_APISERVER: Module = Module {
    name: "kube-apiserver",
    folder: "tests/real/kube_apiserver",
    sources: &["go.mod", "go.sum", "tools.go"],
    programs: &[("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver")],
    version_variable: Some("k8s.io/component-base/version.gitVersion"),
    takes: "about 5 minutes",
};

/// Most characters of what Go said that are shown: without a registry it names every module.
const SHOWN: usize = 400;

impl Module {
    /// Returns the folder with the programs, which are built on first use.
    pub(crate) fn built(&self) -> anyhow::Result<PathBuf> {
        let go = find().context("there is no Go: install it (https://go.dev/dl) and put it on the PATH")?;
        let module = workspace::root().join(self.folder);
        let mut key = process::output(go_command(&go, &module).arg("version"))?;
        for name in self.sources {
            let path = format!("{}/{name}", self.folder);
            key.push_str(&fs::read_to_string(module.join(name)).with_context(|| format!("read {path}"))?);
        }
        let link = self.link_flags()?;
        key.push_str(&link);
        let folder = workspace::cache()?.join(format!("{}-{:016x}", self.name, components::fingerprint(&key)));
        let whole = folder.join("complete");
        if !whole.exists() {
            println!("  build {}, {}", self.version()?, self.takes);
            let start = Instant::now();
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
            for (program, package) in self.programs {
                let mut build = go_command(&go, &module);
                build.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &link, "-o"]);
                build.arg(folder.join(program)).arg(package);
                process::output(&mut build).map_err(|error| anyhow::anyhow!("{}", shortened(&format!("{error:#}"))))?;
            }
            fs::write(&whole, b"").with_context(|| format!("mark {} as complete", self.name))?;
            println!("  built {} in {} s", self.name, start.elapsed().as_secs());
        }
        Ok(folder)
    }

    /// Returns what is built with its pinned version, as `go.mod` has it: `google.golang.org/grpc v1.85.0`.
    pub(crate) fn version(&self) -> anyhow::Result<String> {
        let text = fs::read_to_string(workspace::root().join(self.folder).join("go.mod")).context("read go.mod")?;
        let line = text.lines().find_map(|line| line.strip_prefix("require "));
        line.map(Into::into).context("go.mod requires nothing")
    }

    /// Nobody debugs these: without symbols they are a third smaller.
    fn link_flags(&self) -> anyhow::Result<String> {
        let pin = self.version()?;
        let version = pin.split_once(' ').map(|(_, version)| version).unwrap_or_default();
        Ok(match self.version_variable {
            Some(variable) => format!("-s -w -X {variable}={version}"),
            None => "-s -w".to_owned(),
        })
    }
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

/// The beginning of a text, in one line.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let begin: String = line.chars().take(SHOWN).collect();
    if begin.len() < line.len() { format!("{begin} …") } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_pinned_to_a_release() {
        for (module, path) in [(GRPC_INTEROP, "google.golang.org/grpc"), (KUBE_APISERVER, "k8s.io/kubernetes")] {
            let pin = module.version().unwrap();
            let (name, version) = pin.split_once(" v").unwrap();
            assert_eq!(name, path);
            assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{pin}");
        }
    }

    #[test]
    fn an_api_server_tells_the_release_that_it_was_built_from() {
        let flags = KUBE_APISERVER.link_flags().unwrap();
        assert!(flags.contains("k8s.io/component-base/version.gitVersion=v1."), "{flags}");
        assert_eq!(GRPC_INTEROP.link_flags().unwrap(), "-s -w");
    }

    #[test]
    fn a_failure_is_told_by_its_beginning_in_one_line() {
        assert_eq!(shortened("a\n  b"), "a b");
        assert_eq!(shortened(&"x".repeat(SHOWN + 1)), format!("{} …", "x".repeat(SHOWN)));
    }
}
