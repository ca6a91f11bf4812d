//! The real `meshless` process: signals, exit codes, what it writes.
//!
//! `MESHLESS_BINARY` names another build of it than the one that cargo made for the tests.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use meshless_platforms::Surroundings;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::plain::{self, PATIENCE, Reply, unix_client, wait_until};

/// A gateway process that is about to start.
#[derive(Debug)]
pub(crate) struct Builder {
    text: String,
    directory: TempDir,
    variables: BTreeMap<String, String>,
    descriptors: Option<u32>,
    reader_stops: bool,
}

/// Describes a process by the text of its configuration; `DIR` in it is a directory of its own.
pub(crate) fn with(text: &str) -> Builder {
    let directory = tempfile::tempdir().unwrap();
    Builder { text: text.to_owned(), directory, variables: BTreeMap::new(), descriptors: None, reader_stops: false }
}

impl Builder {
    /// Uses a directory that has been used before.
    pub(crate) fn within(mut self, directory: TempDir) -> Self {
        self.directory = directory;
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Lets it have so many descriptors.
    pub(crate) fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// Keeps standard output open and never reads it.
    pub(crate) fn reader_stops(mut self) -> Self {
        self.reader_stops = true;
        self
    }

    /// Returns its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Process {
        let mut process = self.spawn();
        let deadline = Instant::now() + PATIENCE;
        while process.try_admin("GET", "/ready").is_none_or(|reply| reply.status != 200) {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("it ended with {status}: {}", process.stderr());
            }
            assert!(Instant::now() < deadline, "it is not ready: {}", process.stderr());
            thread::park_timeout(Duration::from_millis(5));
        }
        process
    }

    /// Starts it and does not wait.
    pub(crate) fn spawn(self) -> Process {
        let Self { text, directory, mut variables, descriptors, reader_stops } = self;
        let root = directory.path().to_str().unwrap();
        let file = directory.path().join("meshless.toml");
        std::fs::write(&file, text.replace("DIR", root)).unwrap();
        let state = directory.path().join("state");
        std::fs::create_dir_all(&state).unwrap();
        let admin = directory.path().join("admin.sock");
        for (table, name, value) in [
            ("[admin]", "MESHLESS__ADMIN__LISTEN", format!("unix:{}", admin.display())),
            ("workers", "MESHLESS__NODE__WORKERS", "2".to_owned()),
            ("[telemetry]", "MESHLESS__TELEMETRY__ACCESS_LOG", "off".to_owned()),
            ("state_dir", "STATE_DIRECTORY", state.to_str().unwrap().to_owned()),
        ] {
            if !text.contains(table) {
                variables.entry(name.to_owned()).or_insert(value);
            }
        }
        let binary = Surroundings::variable(&meshless_platforms::Process, "MESHLESS_BINARY")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_meshless").to_owned());
        let mut command = match descriptors {
            None => Command::new(&binary),
            Some(most) => {
                // The shell sets the limit and becomes the process.
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\""), &binary]);
                shell
            }
        };
        command.args(["run", "-c"]).arg(&file).env_clear().envs(&variables);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A pipe that stays with the child is open to its end.
        let stdout = if reader_stops { Arc::default() } else { collect(child.stdout.take().unwrap()) };
        let stderr = collect(child.stderr.take().unwrap());
        Process { child, directory: Some(directory), admin, stdout, stderr }
    }
}

/// A gateway process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    directory: Option<TempDir>,
    admin: PathBuf,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Process {
    /// Returns its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    /// Returns its configuration file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory().join("meshless.toml")
    }

    /// Returns its admin socket.
    pub(crate) fn admin_socket(&self) -> &Path {
        &self.admin
    }

    /// Returns its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns where a listener listens.
    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        let config: serde_json::Value = serde_json::from_str(&self.admin("/config").body).unwrap();
        let found = config["listeners"].as_array().unwrap().iter().find(|one| one["name"] == listener);
        let address = found.and_then(|one| one["address"].as_str()).map(str::to_owned);
        address.unwrap_or_else(|| panic!("no listener {listener}: {config}")).parse().unwrap()
    }

    /// Asks the admin interface by GET.
    pub(crate) fn admin(&self, path: &str) -> Reply {
        self.try_admin("GET", path).unwrap_or_else(|| panic!("admin does not answer: {}", self.stderr()))
    }

    /// Asks the admin interface, if it answers.
    pub(crate) fn try_admin(&self, method: &str, path: &str) -> Option<Reply> {
        let mut client = unix_client(&self.admin).ok()?;
        client.send(&format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")).ok()?;
        client.reply().ok()
    }

    /// Adds up the samples of a metric whose labels contain all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin("/metrics").body;
        let lines = text.lines().filter(|line| {
            let named = line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            named && labels.iter().all(|label| line.contains(label))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until so many connections of clients are open.
    pub(crate) fn wait_for_connections(&self, count: usize) {
        wait_until(&format!("{count} connections are open"), || {
            let config: serde_json::Value = serde_json::from_str(&self.admin("/config").body).unwrap();
            let listeners = config["listeners"].as_array().unwrap();
            listeners.iter().filter_map(|one| one["connections"].as_u64()).sum::<u64>() == count as u64
        });
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.stderr());
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Tells whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Returns what it wrote to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// Returns what it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until standard error has a text.
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log has {text:?}: {}", self.stderr()), || self.stderr().contains(text));
    }

    /// Replaces the configuration and waits until the version of what runs is another, or the change was refused.
    pub(crate) fn reload(&self, text: &str) {
        let counted = || self.metric("meshless_config_reload_total", &[]);
        let before = counted();
        // Whole or not at all: the file is also looked at by itself, and might be while it is written.
        let next = self.file().with_extension("next");
        std::fs::write(&next, text.replace("DIR", self.directory().to_str().unwrap())).unwrap();
        std::fs::rename(&next, self.file()).unwrap();
        self.signal(Signal::HUP);
        wait_until("the configuration was read again", || counted() > before);
    }

    /// Returns how many descriptors are open.
    pub(crate) fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id())).map_or(0, Iterator::count)
    }

    /// Returns resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
    }

    /// Returns the CPU time that it used, in ticks of the kernel.
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
    }

    /// Ends it at once and gives its directory back.
    pub(crate) fn kill(mut self) -> TempDir {
        self.end();
        self.directory.take().unwrap()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a subcommand to its end.
pub(crate) fn command(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_meshless")).args(arguments).env_clear().output().unwrap()
}

/// Asks a process's listener once.
pub(crate) fn get(process: &Process, listener: &str, path: &str) -> Reply {
    plain::get(process.address(listener), "a.example", path)
}

fn collect(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text: Arc<Mutex<String>> = Arc::default();
    let into = text.clone();
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}
