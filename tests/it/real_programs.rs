//! Real programs to test with: where they are, how they are started and ended.
//!
//! `cargo xtask test` finds or installs them. A test whose program is missing says so and passes, so that `cargo test`
//! alone works everywhere; in CI `cargo xtask test` fails when one is missing. The tests here run each client against
//! its own server, without a gateway: when one of them fails, the program is at fault and not the gateway.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use meshless_platforms::{Process, Surroundings as _};

/// Returns where a program is, or says that its tests are skipped.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let folder = Process
        .variable("MESHLESS_TEST_COMPONENTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-components"), PathBuf::from);
    let path = folder.join("bin").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {name} is not in {}; `cargo xtask test` puts it there", folder.display());
    None
}

/// A server of `tests/real/`, which prints its port first; ended with this.
#[derive(Debug)]
pub(crate) struct ScriptServer {
    child: Child,
    port: u16,
}

impl ScriptServer {
    /// Starts `tests/real/SCRIPT server`; `None` where there is no Python for it.
    pub(crate) fn start(script: &str) -> Option<Self> {
        let mut child = python(script)?.arg("server").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{script} printed {line:?}, not its port"));
        Some(Self { child, port })
    }

    /// Returns the port on 127.0.0.1 that it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for ScriptServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `tests/real/SCRIPT client` against a port on 127.0.0.1; it must find all as it should be.
pub(crate) fn run_client(script: &str, port: u16) {
    let Some(mut python) = python(script) else { return };
    let output = python.arg("client").arg(port.to_string()).output().unwrap();
    assert!(
        output.status.success(),
        "{script} client: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn python(script: &str) -> Option<Command> {
    let mut command = Command::new(program("python3")?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(script));
    // No proxy of the developer's machine may stand between client and server.
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy"] {
        command.env_remove(name);
    }
    Some(command)
}

#[test]
fn the_grpc_client_is_content_with_its_own_server() {
    let Some(server) = ScriptServer::start("grpc_echo.py") else { return };
    run_client("grpc_echo.py", server.port());
}

#[test]
fn the_websocket_client_is_content_with_its_own_server() {
    let Some(server) = ScriptServer::start("websocket.py") else { return };
    run_client("websocket.py", server.port());
}
