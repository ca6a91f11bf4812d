//! Child processes: run to the end, or kept until dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Shows a command and runs it to its end; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("$ {}", display(command));
    let status = command.status().with_context(|| format!("start {}", program(command)))?;
    anyhow::ensure!(status.success(), "`{}` ended with {status}", display(command));
    Ok(())
}

/// Runs a command silently and returns what it printed on standard output; its errors go into ours.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {}", program(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", display(command), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Returns a command as a person would type it.
pub(crate) fn display(command: &Command) -> String {
    let mut words = vec![program(command)];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

/// Returns the file name of a command's program: `cargo`, not where it lives.
fn program(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

/// Finds a program by its name, where a login shell of root would.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = crate::workspace::variable("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Asks again and again until there is an answer, for at most `limit`.
pub(crate) fn poll<T>(
    limit: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        pause(Duration::from_millis(20));
    }
}

/// Waits.
#[allow(clippy::disallowed_methods, reason = "this tool has no worker that could be blocked")]
pub(crate) fn pause(length: Duration) {
    std::thread::sleep(length);
}

/// A process that runs beside us and is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a process whose output goes to the file `log`.
    pub(crate) fn start(name: &str, command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().context("share a log file")?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.into(), child, log: log.into() })
    }

    /// Waits until `ask`, which is shown what was printed so far, has an answer; the end of the process or of the time is
    /// an error that shows its last words.
    pub(crate) fn until<T>(&mut self, limit: Duration, mut ask: impl FnMut(&str) -> Option<T>) -> anyhow::Result<T> {
        let answer = poll(limit, || match self.child.try_wait().context("look after a process")? {
            Some(status) => bail!("{} ended with {status} before it was ready{}", self.name, last_words(&self.log)),
            None => Ok(ask(&fs::read_to_string(&self.log).unwrap_or_default())),
        })?;
        answer.with_context(|| {
            format!("{} was not ready after {} s{}", self.name, limit.as_secs(), last_words(&self.log))
        })
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has printed so far.
    pub(crate) fn printed(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal and waits for the end; after `limit` the process is killed and that is an error.
    pub(crate) fn stop(&mut self, signal: Signal, limit: Duration) -> anyhow::Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("send a signal to {}", self.name))?;
        let ended = poll(limit, || self.child.try_wait().context("wait for a process"))?;
        if let Some(status) = ended {
            return Ok(status);
        }
        self.child.kill().context("kill a process")?;
        self.child.wait().context("wait for a process")?;
        bail!("{} did not end within {} s of the signal, killed{}", self.name, limit.as_secs(), last_words(&self.log))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.stop(Signal::TERM, Duration::from_secs(3));
        }
    }
}

/// Returns the end of a log, ready to be put behind a message.
fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n");
    if tail.is_empty() { ", and it printed nothing".into() } else { format!("; it printed:\n{tail}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_ends_early_shows_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing; exit 3"]);
        let mut service = Service::start("thing", &mut command, &folder.path().join("log")).unwrap();
        let error = service.until::<()>(Duration::from_secs(5), |_| None).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such thing"), "{error}");
    }

    #[test]
    fn a_service_that_ignores_the_signal_is_killed_and_that_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]);
        let mut service = Service::start("deaf", &mut command, &folder.path().join("log")).unwrap();
        service.until(Duration::from_secs(5), |printed| printed.contains("ready").then_some(())).unwrap();
        let error = service.stop(Signal::TERM, Duration::from_millis(200)).unwrap_err().to_string();
        assert!(error.contains("killed"), "{error}");
        assert!(service.child.try_wait().unwrap().is_some());
    }
}
