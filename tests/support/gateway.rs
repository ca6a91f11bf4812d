//! A whole gateway in this process, from the text of a configuration.
//!
//! ```ignore
//! let gateway = gateway::with(&format!(
//!     "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[[routes]]\nto = \"static/{}\"",
//!     upstream.address
//! ))
//! .start();
//! let client = TcpStream::connect(gateway.address("edge"));
//! ```
//!
//! What a text does not say is set so that tests do not disturb each other: admin on a port of its own, one worker, no
//! access log, state in a directory that goes with the gateway.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use meshless::compose::{Gateway, Options, StartError};
use meshless::config::ListenAddress;
use meshless::telemetry::log::{self, LogFormat};
use meshless_platforms::{Scripted, Surroundings};
use tempfile::TempDir;

/// Longest that a gateway may take to do what it was told.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at something that has to come.
const LOOK: Duration = Duration::from_millis(5);

/// A gateway that is about to start.
#[derive(Debug)]
pub(crate) struct Builder {
    text: String,
    variables: BTreeMap<String, String>,
    files: SystemFiles,
}

/// Files of the system that a gateway sees, by their paths; a test may change them while it runs.
pub(crate) type SystemFiles = Arc<Mutex<BTreeMap<String, String>>>;

/// Surroundings whose files change.
#[derive(Debug)]
struct Machine {
    variables: Scripted,
    files: SystemFiles,
}

impl Surroundings for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.variable(name)
    }

    fn variables(&self) -> BTreeMap<String, String> {
        self.variables.variables()
    }

    fn file(&self, path: &str) -> Option<String> {
        self.files.lock().unwrap().get(path).cloned()
    }

    fn address(&self) -> Option<IpAddr> {
        meshless_platforms::reached_from()
    }
}

/// Describes a gateway by the text of its configuration, in TOML.
pub(crate) fn with(text: &str) -> Builder {
    Builder { text: text.to_owned(), variables: BTreeMap::new(), files: SystemFiles::default() }
}

/// Describes a gateway with one listener, `edge`, that sends everything to one service, `app`, of these endpoints.
pub(crate) fn before(endpoints: &[SocketAddr]) -> Edge {
    Edge { endpoints: endpoints.to_vec(), listener: String::new(), policies: String::new() }
}

/// A gateway with one listener and one service.
#[derive(Debug)]
pub(crate) struct Edge {
    endpoints: Vec<SocketAddr>,
    listener: String,
    policies: String,
}

impl Edge {
    /// Adds lines to the listener.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// Adds lines to the service.
    pub(crate) fn policies(mut self, lines: &str) -> Self {
        self.policies.push_str(lines);
        self.policies.push('\n');
        self
    }

    /// Speaks HTTP/2 to the endpoints.
    pub(crate) fn h2(self) -> Self {
        self.policies("protocol = \"http2\"")
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Running {
        self.build().start()
    }

    /// Goes on as a builder.
    pub(crate) fn build(self) -> Builder {
        let endpoints = self.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n{}\n[services.app]\nfrom = \"static/{endpoints}\"\n\
             balance = \"round-robin\"\n{}\n[[routes]]\nto = \"app\"\n",
            self.listener, self.policies
        ))
    }
}

impl Builder {
    /// Runs so many workers instead of one.
    pub(crate) fn workers(self, count: usize) -> Self {
        self.variable("MESHLESS__NODE__WORKERS", &count.to_string())
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets it see these files of the system, and no others.
    pub(crate) fn files(mut self, files: &SystemFiles) -> Self {
        self.files = files.clone();
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Running {
        self.try_start().unwrap_or_else(|error| panic!("the gateway does not start: {error}"))
    }

    /// Starts it and waits until it is ready, or says why it does not start. May be called within a runtime.
    pub(crate) fn try_start(mut self) -> Result<Running, StartError> {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let file = directory.path().join("meshless.toml");
        std::fs::write(&file, &self.text).unwrap();
        for (table, name, value) in [
            ("[admin]", "MESHLESS__ADMIN__LISTEN", "127.0.0.1:0"),
            ("[node]", "MESHLESS__NODE__WORKERS", "1"),
            ("[telemetry]", "MESHLESS__TELEMETRY__ACCESS_LOG", "off"),
            ("", "STATE_DIRECTORY", state.to_str().unwrap()),
        ] {
            if table.is_empty() || !self.text.contains(table) {
                self.variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
        }
        let (_, log_level) = log::build(LogFormat::Text, "off", std::io::sink).unwrap();
        let options = Options {
            paths: vec![file],
            sets: BTreeMap::new(),
            surroundings: Arc::new(Machine { variables: Scripted(self.variables), files: self.files }),
            log_level,
        };
        // A thread of its own: the caller may be a task of a runtime, where a runtime must not be started or ended.
        let gateway = thread::spawn(move || Gateway::start(options)).join().unwrap()?;
        let running = Running { gateway: Some(gateway), directory };
        running.wait_until("the gateway is ready", |running| running.admin("/ready").0 == 200);
        Ok(running)
    }
}

/// A gateway that runs until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    gateway: Option<Gateway>,
    directory: TempDir,
}

impl Running {
    /// Returns the gateway itself.
    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    /// Returns where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        match self.gateway().addresses().get(listener) {
            Some(ListenAddress::Tcp(address)) => *address,
            other => panic!("listener {listener} is at {other:?}"),
        }
    }

    /// Returns its configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("meshless.toml")
    }

    /// Asks the admin interface by GET; returns status and body.
    pub(crate) fn admin(&self, path: &str) -> (u16, String) {
        let ListenAddress::Tcp(address) = &self.gateway().admin else { panic!("admin is on a Unix socket") };
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {path}: {answer}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.unwrap_or_else(|| panic!("no status: {head}")), body.to_owned())
    }

    /// Adds up the samples of a metric whose labels contain all of `labels`, each written as in `error="no_route"`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.admin("/metrics");
        let lines = text.lines().filter(|line| {
            let named = line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            named && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Adds up like [`Running::metric`], for a metric that counts.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a test counts to no more than thousands"
    )]
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> u64 {
        self.metric(name, labels) as u64
    }

    /// Waits until a metric has a value.
    pub(crate) fn wait_for_metric(&self, name: &str, labels: &[&str], value: f64) {
        let what = format!("{name}{labels:?} is {value}");
        self.wait_until(&what, |running| (running.metric(name, labels) - value).abs() < 1e-9);
    }

    /// Waits until something is true of it, and fails where it does not become so. Blocks the thread.
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}:\n{}", self.admin("/metrics").1);
            thread::park_timeout(LOOK);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let gateway = self.gateway.take();
        // See `Builder::try_start`.
        let ended = thread::spawn(move || drop(gateway)).join();
        assert!(ended.is_ok() || thread::panicking(), "the gateway panicked while it ended");
    }
}
