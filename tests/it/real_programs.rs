//! Real programs to test with: where they are, how they are started and ended.
//!
//! `cargo xtask test` finds or installs them. A test whose program is missing says so and passes, so that `cargo test`
//! alone works everywhere; in CI a missing one is a failure. The tests in this file run each client against its own
//! server, without a gateway: when one of them fails, the program is at fault and not the gateway. Those below it put a
//! gateway between.

mod autobahn;
mod curl;
mod grpc_interop;
mod grpc_retries;
mod load;
mod streams;
mod tcp;
mod telemetry;
mod upstreams;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use meshless_platforms::{Process, Surroundings as _};
use tempfile::TempDir;

/// Longest that a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Returns where a program is, or says that its tests are skipped.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let folder = Process
        .variable("MESHLESS_TEST_COMPONENTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-components"), PathBuf::from);
    let path = folder.join("bin").join(name);
    if path.exists() {
        return Some(path);
    }
    let is_ci = Process.variable("CI").is_some_and(|value| value == "true");
    assert!(!is_ci, "in CI every program must be there: {name} is not in {}", folder.display());
    eprintln!("skipped: {name} is not in {}; `cargo xtask test` puts it there", folder.display());
    None
}

/// A server that prints its port first; ended with this.
#[derive(Debug)]
pub(crate) struct ScriptServer {
    child: Child,
    port: u16,
}

impl ScriptServer {
    /// Starts `tests/real/SCRIPT server`; `None` where there is no Python for it.
    pub(crate) fn start(script: &str) -> Option<Self> {
        let mut command = python(script)?;
        command.arg("server");
        Some(Self::run(command))
    }

    /// Starts any program that prints its port first.
    fn run(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{command:?} printed {line:?}, not its port"));
        Self { child, port }
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

/// Runs `tests/real/SCRIPT client` against a port on 127.0.0.1; it must find all as it should be. Returns what it said.
pub(crate) fn run_client(script: &str, port: u16) -> String {
    let Some(mut python) = python(script) else { return String::new() };
    python.arg("client").arg(port.to_string());
    run(python, b"")
}

fn python(script: &str) -> Option<Command> {
    let mut command = Command::new(program("python3")?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real").join(script));
    Some(without_proxies(command))
}

/// No proxy of the developer's machine may stand between client and server.
fn without_proxies(mut command: Command) -> Command {
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy"] {
        command.env_remove(name);
    }
    command
}

/// Runs a program to its end and returns what it printed on both outputs; it must end with 0.
fn run(mut command: Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A thread of its own: the program may print before it has read all.
    let writing = thread::spawn(move || {
        // A program that does not read its input closes it.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}", output.status);
    printed
}

/// A server that was started from a folder of its own; ended with this.
#[derive(Debug)]
struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Starts a server and waits until it listens on `socket` in its folder.
    fn start(mut command: Command, folder: TempDir, socket: &str) -> Self {
        let log = File::create(folder.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let mut daemon = Self { child, folder };
        let deadline = Instant::now() + PATIENCE;
        while UnixStream::connect(daemon.path(socket)).is_err() {
            let ended = daemon.child.try_wait().unwrap();
            let log = std::fs::read_to_string(daemon.path("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "{command:?} does not listen ({ended:?}):\n{log}");
            thread::park_timeout(Duration::from_millis(10));
        }
        daemon
    }

    /// Returns a path in its folder.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the static target of one of its Unix sockets.
    fn target(&self, socket: &str) -> String {
        format!("static/unix:{}", self.path(socket).display())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port of 127.0.0.1 that was free just now, for programs that cannot ask the kernel themselves.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something listens.
fn wait_for(address: SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "nothing listens on {address}");
        thread::park_timeout(Duration::from_millis(10));
    }
}

/// Writes a certificate for `names` and 127.0.0.1, signed by itself: `cert.pem` and `key.pem`.
fn write_certificate(folder: &Path, names: &[&str]) {
    let mut names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    names.push("127.0.0.1".to_owned());
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(folder.join("cert.pem"), certified.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
}

/// nginx with files to serve and to put, on `plain.sock`, and by TLS with HTTP/2 on `tls.sock`.
fn nginx() -> Option<Daemon> {
    let program = program("nginx")?;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    write_certificate(folder.path(), &["nginx.test"]);
    std::fs::create_dir_all(folder.path().join("files/put")).unwrap();
    std::fs::write(folder.path().join("files/hello.txt"), "hello from nginx\n").unwrap();
    std::fs::write(folder.path().join("files/large.bin"), large_file()).unwrap();
    let configuration = format!(
        "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;
        events {{ worker_connections 1024; }}
        http {{
            access_log off; client_max_body_size 64m; keepalive_requests 100000;
            client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fastcgi;
            uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;
            server {{
                listen unix:{at}/plain.sock; listen unix:{at}/tls.sock ssl http2;
                ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;
                root {at}/files; default_type text/plain;
                location /put/ {{ dav_methods PUT DELETE; }}
                location /slow/ {{ alias {at}/files/; default_type application/grpc; types {{ }} limit_rate 100k; }}
                location /echo {{
                    return 200 \"$request_method $server_protocol host=$http_host for=$http_x_forwarded_for \
proto=$http_x_forwarded_proto via=$http_via\\n\";
                }}
            }}
        }}"
    );
    std::fs::write(folder.path().join("nginx.conf"), configuration).unwrap();
    let mut command = Command::new(program);
    command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(folder.path().join("nginx.conf"));
    Some(Daemon::start(command, folder, "tls.sock"))
}

/// 5 MiB in which no two places look alike.
fn large_file() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..5 << 20).map(|_| random.u8(..)).collect()
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
