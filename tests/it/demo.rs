//! `meshless demo`, as a process that a person starts and ends.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

struct Demo {
    child: Child,
    folder: TempDir,
}

impl Demo {
    /// Starts one whose output goes to a file, as under a service manager.
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let out = File::create(folder.path().join("out")).unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
        command.arg("demo").args(arguments).env_clear().env("TMPDIR", folder.path());
        let child = command.stdin(Stdio::null()).stdout(out).stderr(log).spawn().unwrap();
        Self { child, folder }
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("out")).unwrap()
    }

    fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let printed = self.printed();
            if let Some(found) = look(&printed) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "no {what} ({ended:?}):\n{printed}\n{log}");
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Returns the first URL that it prints.
    fn gateway(&mut self) -> SocketAddr {
        self.wait("URL", |printed| {
            let rest = printed.split_once("http://")?.1;
            rest.split_once(|letter: char| letter.is_whitespace())?.0.parse().ok()
        })
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.printed());
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn configuration(&self) -> PathBuf {
        let folder = self.folder.path().join(format!("meshless-demo-{}", self.child.id()));
        folder.join("demo.toml")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[test]
fn the_demo_answers_at_its_first_url_and_ctrl_c_ends_it_with_0() {
    let mut demo = Demo::start(&["--rate", "0"]);
    let gateway = demo.gateway();
    let page = get(gateway, "/", "text/html");
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("<h1>web-v"), "{page}");
    let text = get(gateway, "/", "*/*");
    assert!(text.contains("\r\n\r\nweb-v"), "{text}");
    assert!(get(gateway, "/slow/", "*/*").contains("\r\n\r\nslow-a at "));
    assert!(demo.configuration().exists());
    assert_eq!(demo.end(Signal::INT).code(), Some(0), "{}", demo.printed());
    assert!(!demo.configuration().exists(), "its directory must go with it");
    assert!(demo.printed().ends_with("Ended.\n"));
}

#[test]
fn two_demos_run_beside_each_other_and_sigterm_ends_them_with_0() {
    let mut demos = [Demo::start(&["--rate", "0"]), Demo::start(&["--rate", "0"])];
    let addresses: Vec<SocketAddr> = demos.iter_mut().map(Demo::gateway).collect();
    assert_ne!(addresses[0], addresses[1]);
    for (demo, address) in demos.iter_mut().zip(addresses) {
        assert!(get(address, "/", "*/*").starts_with("HTTP/1.1 200 "));
        assert_eq!(demo.end(Signal::TERM).code(), Some(0));
    }
}

#[test]
fn what_the_demo_says_to_try_works() {
    let mut demo = Demo::start(&["--rate", "50"]);
    let gateway = demo.gateway();
    let printed =
        demo.wait("whole introduction", |printed| printed.contains("Ctrl-C ends it.").then(|| printed.to_owned()));
    // Nine in ten are version 1: of 200, 180; five standard deviations are 21.
    let first = |count: usize| (0..count).filter(|_| get(gateway, "/", "*/*").contains("\r\n\r\nweb-v1")).count();
    let ones = first(200);
    assert!((158..=199).contains(&ones), "{ones} of 200");

    // One instance goes away; nothing fails.
    let stop = printed.split_whitespace().find(|word| word.ends_with("/stop")).unwrap();
    let victim = stop.trim_start_matches("http://").trim_end_matches("/stop").parse().unwrap();
    assert!(get(victim, "/stop", "*/*").contains("is gone for"));
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(victim).is_ok() {
        assert!(Instant::now() < deadline, "{victim} is still there");
        thread::park_timeout(Duration::from_millis(10));
    }
    for _ in 0..50 {
        assert!(get(gateway, "/", "*/*").starts_with("HTTP/1.1 200 "));
    }

    // The weights of the file are changed; it is read by itself.
    let text = std::fs::read_to_string(demo.configuration()).unwrap();
    std::fs::write(demo.configuration(), text.replace("90 * web-v1 & 10", "0 * web-v1 & 10")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while first(20) > 0 {
        assert!(Instant::now() < deadline, "the change is not seen");
    }

    // A line about the traffic comes, and nothing of it failed.
    demo.wait("line about the traffic", |printed| {
        let line = printed.lines().find(|line| line.contains(" requests: "))?;
        assert!(line.contains("failed 0"), "{line}");
        Some(())
    });
    assert_eq!(demo.end(Signal::INT).code(), Some(0));
}
