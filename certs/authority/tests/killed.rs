//! Kills the authority where it stands, again and again, and looks at what is left.
//!
//! The test starts itself as another process that issues, uses join tokens, rotates and is refused, and says what it was
//! answered, line by line. It is killed (SIGKILL) at a random moment; then the directory is opened here: whatever was
//! answered must be there, whatever was used must be used, and the log must be whole.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::bench::{claim_of, key, request};
use crate::Verifier;
use crate::authority::command::{Command, Reply};
use crate::authority::desk::Desk;
use crate::authority::issue::{Asked, Claim};
use crate::authority::options::Options;
use crate::authority::{Denied, Issued, init};

/// How often it is killed.
const ROUNDS: u64 = 200;
/// Longest wait for a process to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// The directory that the process which is killed works on.
const DIRECTORY: &str = "MESHLESS_TEST_KILLED";
/// The name of the test that is that process.
const VICTIM: &str = "authority::tests::killed::the_one_that_is_killed";

fn options() -> Options {
    let mut options =
        Options { leaf_ttl: Duration::from_mins(1), intermediate_ttl: Duration::from_hours(24), ..Options::default() };
    options.limits.per_identity = 1_000_000;
    options.limits.per_second = 1_000_000;
    options
}

fn ask(desk: &Desk, claim: Claim, service: Option<&str>) -> Result<Issued, Denied> {
    let asked = Asked { service: service.map(ToOwned::to_owned), source: None, method: claim.label() };
    let csr = crate::authority::csr::Csr::parse(&request(&key())).unwrap();
    desk.answer(&asked, Ok((csr, claim)), desk.now())
}

fn serial(issued: &Issued) -> String {
    crate::leaf(&issued.chain[0]).unwrap().serial
}

fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "told {text}").unwrap();
    out.flush().unwrap();
}

/// Does everything that changes something, as long as it lives.
#[test]
#[ignore = "it is started, and killed, by the other test"]
#[allow(clippy::disallowed_methods, reason = "the directory comes from the test that started this process")]
fn the_one_that_is_killed() {
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let desk = Desk::open(&directory, options()).unwrap();
    tell("ready");
    let mut chain = None;
    for turn in 0_u64.. {
        let create = Command::TokenCreate { id: "/svc/web".to_owned(), ttl: None, cidr: None };
        let Ok(Reply::TokenCreated { token, .. }) = desk.execute(create) else { panic!() };
        tell(&format!("token {}", token.expose()));
        // Said before: from here on it may be burnt, and if it is answered it must be.
        let issued = ask(&desk, claim_of(token.expose()), None).unwrap();
        tell(&format!("used {} {}", token.expose(), serial(&issued)));
        let issued = ask(&desk, Claim::Renewal(chain.take().unwrap_or(issued.chain)), None).unwrap();
        tell(&format!("issued {}", serial(&issued)));
        chain = Some(issued.chain);
        let issued = ask(&desk, Claim::Embedded, Some("api")).unwrap();
        tell(&format!("issued {}", serial(&issued)));
        ask(&desk, claim_of("mjt_x"), None).unwrap_err();
        match turn % 3 {
            0 => drop(desk.execute(Command::RotateIntermediate { root_key: None, now: true }).unwrap()),
            // Refused while the root before it is on its way out.
            1 => drop(desk.execute(Command::RotateRoot { root_key: None, now: false })),
            _ => drop(desk.execute(Command::RotateRoot { root_key: None, now: true })),
        }
        tell(&format!("rotated {} {}", desk.bundle().sequence, desk.held().unwrap().signer.as_ref().unwrap().name));
        desk.advance().unwrap();
    }
}

/// What the killed process said.
#[derive(Debug, Default)]
struct Told {
    used: Vec<String>,
    unused: Vec<String>,
    serials: Vec<String>,
    sequence: u64,
}

/// Kills it so long after it was started (`early`), or after it is ready.
fn run_and_kill(directory: &Path, after: Duration, early: bool) -> Told {
    let mut child = Process::new(std::env::current_exe().unwrap())
        .args(["--exact", VICTIM, "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut told = Told::default();
    let (mut deadline, mut created) = (early.then(|| Instant::now() + after), None);
    loop {
        let patience =
            deadline.map_or(PATIENCE, |deadline: Instant| deadline.saturating_duration_since(Instant::now()));
        match receiver.recv_timeout(patience) {
            // What stood in the pipe was said before the kill.
            Ok(line) => {
                told.hear(&line, &mut created);
                if line.ends_with("told ready") && !early {
                    deadline = Some(Instant::now() + after);
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                assert!(deadline.take().is_some(), "it does not begin, or does not end");
                child.kill().unwrap();
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let _ = reader.join().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended by itself");
    told.unused.extend(created);
    told
}

impl Told {
    fn hear(&mut self, line: &str, created: &mut Option<String>) {
        // The test harness writes on the line where the first word stands.
        let Some((_, words)) = line.split_once("told ") else { return };
        match words.split(' ').collect::<Vec<_>>().as_slice() {
            ["ready"] => {}
            ["token", token] => *created = Some((*token).to_owned()),
            ["used", token, serial] => {
                *created = None;
                self.used.push((*token).to_owned());
                self.serials.push((*serial).to_owned());
            }
            ["issued", serial] => self.serials.push((*serial).to_owned()),
            ["rotated", sequence, ..] => self.sequence = sequence.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn killed_at_two_hundred_points_it_loses_nothing_and_gives_nothing_twice() {
    let outer = tempfile::tempdir().unwrap();
    let directory = outer.path().join("ca");
    init(&directory, &"example.org".parse().unwrap(), &options(), None).unwrap();
    let mut luck = 0x9e37_79b9_7f4a_7c15_u64;
    let (mut serials, mut used, mut healed) = (BTreeSet::new(), 0_usize, 0_usize);
    for round in 0..ROUNDS {
        // xorshift: the same moments each time, as far as the machine allows.
        luck ^= luck << 13;
        luck ^= luck >> 7;
        luck ^= luck << 17;
        let told = run_and_kill(&directory, Duration::from_micros(luck % 100_000), round % 5 == 0);
        let log = directory.join("audit.log");
        let before = std::fs::metadata(&log).map_or(0, |log| log.len());
        let desk = Desk::open(&directory, options()).unwrap_or_else(|error| panic!("round {round}: {error}"));
        healed += usize::from(desk.held().unwrap().log.head().offset != before);
        let Reply::AuditVerified { .. } = desk.execute(Command::AuditVerify).unwrap() else { panic!() };
        let text = std::fs::read_to_string(&log).unwrap();
        let known: BTreeSet<&str> =
            text.lines().filter_map(|line| Some(line.split_once("\"serial\":\"")?.1.split_once('"')?.0)).collect();
        for serial in &told.serials {
            assert!(known.contains(serial.as_str()), "round {round}: {serial} was answered, and is not in the log");
        }
        serials.extend(told.serials);
        // What was used is used. What may have been used gives one certificate at most.
        for token in &told.used {
            let denied = ask(&desk, claim_of(token), None).unwrap_err();
            assert!(matches!(denied.label(), "token_used" | "throttled"), "round {round}: {denied}");
        }
        for token in &told.unused {
            let first = ask(&desk, claim_of(token), None);
            let second = ask(&desk, claim_of(token), None);
            assert!(second.is_err(), "round {round}: a token gave two certificates, the first {first:?}");
        }
        used += told.used.len();
        assert!(desk.bundle().sequence >= told.sequence, "round {round}: the bundle went back");
        let issued = ask(&desk, Claim::Embedded, Some("api")).unwrap();
        Verifier::new(&issued.bundle).unwrap().verify(&issued.chain, desk.now()).unwrap();
        desk.advance().unwrap();
    }
    assert!(serials.len() > 200 && used > 50, "too little happened: {} certificates, {used} tokens", serials.len());
    tell(&format!(
        "{} certificates, {used} tokens used, {healed} times the log was not where the database said",
        serials.len()
    ));
}
