//! The audit log: one JSON line for each decision, each with the hash of the line before it.
//!
//! A line is on the disk before anybody hears of the decision. How far the log goes stands in the database, so a log that
//! was cut off at its end is found too. The line is written first, then the database: after a crash the log is at most
//! one line ahead, and that one is taken over when it is opened (docs/decisions/0112-the-audit-log-is-one-line-ahead.md).

mod verify;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clock::written;
use super::directory::{no_follow, sync};
use super::policy::Facts;
use super::random::hash;

pub use verify::Broken;
pub(crate) use verify::verify;

/// What stands in the place of a hash before the first line.
pub(crate) const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Longest line, in bytes. Facts are bounded by the evidence (16 KiB), reasons by [`MOST_REASON`].
const MOST_LINE: usize = 64 * 1024;
/// Longest reason, in bytes; the rest is cut off.
const MOST_REASON: usize = 2048;

/// One decision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Counts lines, from 1.
    pub(crate) line: u64,
    /// When, RFC 3339 in UTC.
    pub(crate) time: String,
    /// What was decided: `issued`, `refused`, `token_created`, `rotated` …
    pub(crate) decision: String,
    /// Serial number of the certificate, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serial: Option<String>,
    /// The identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<String>,
    /// By what: the method of an attestor, `renewal`, `embedded`, `operator`, `own`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) method: Option<String>,
    /// What was proved.
    #[serde(default, skip_serializing_if = "Facts::is_empty")]
    pub(crate) facts: Facts,
    /// Address that was asked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
    /// SHA-256 of the public key, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// End of validity, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_after: Option<String>,
    /// Why, where it was refused; what, where a person did something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// SHA-256 of the line before, without its end of line, hexadecimal.
    pub(crate) previous: String,
}

impl Line {
    /// Begins a line; number, time and hash come when it is written.
    pub(crate) fn new(decision: &str) -> Self {
        Self { decision: decision.to_owned(), ..Self::default() }
    }

    /// Says why.
    pub(crate) fn because(mut self, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        let mut end = MOST_REASON.min(reason.len());
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        reason.truncate(end);
        self.reason = Some(reason);
        self
    }
}

/// How far the log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Lines so far, those before a restore included.
    pub(crate) lines: u64,
    /// Hash of the last one.
    pub(crate) hash: String,
    /// Bytes so far in this file.
    pub(crate) offset: u64,
    /// Bytes of the last line in this file, with its end; 0: there is none.
    pub(crate) last: u64,
    /// Number and hash of the last line before this file.
    pub(crate) before: (u64, String),
}

impl Head {
    /// A log that nobody wrote to.
    pub(crate) fn new() -> Self {
        Self::after(0, NOTHING.to_owned())
    }

    /// A new file that goes on behind another one.
    pub(crate) fn after(lines: u64, hash: String) -> Self {
        Self { lines, hash: hash.clone(), offset: 0, last: 0, before: (lines, hash) }
    }

    fn with(&self, text: &[u8]) -> Self {
        let bytes = text.len() as u64 + 1;
        Self {
            lines: self.lines + 1,
            hash: hash(text),
            offset: self.offset + bytes,
            last: bytes,
            before: self.before.clone(),
        }
    }
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    /// It is not what the database says.
    #[error("the audit log {}: {why}; somebody changed it, or it was lost: keep what is there for whoever looks into it, then restore a backup into an empty directory", path.display())]
    Changed {
        /// Which file.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// The system refuses.
    #[error("the audit log {}: {error}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A write that failed could not be taken back.
    #[error("the audit log {} failed before, and what was written could not be taken back; restart the authority", .0.display())]
    Broken(PathBuf),
    /// A line would be too long.
    #[error("the audit log: a line of {0} bytes is too long")]
    TooLong(usize),
}

/// The log, open for writing.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    head: Head,
    broken: bool,
}

impl Log {
    /// Opens the log of a database that says it goes to `head`. Where it is one line ahead, that line is taken over:
    /// [`Log::head`] differs from `head` then, and must be stored.
    pub(crate) fn open(path: &Path, head: Head) -> Result<Self, AuditError> {
        let failed = |error| AuditError::Io { path: path.to_owned(), error };
        let changed = |why: String| AuditError::Changed { path: path.to_owned(), why };
        if head.offset > 0 && !path.exists() {
            return Err(changed(format!("it is not there, the database knows of {} lines", head.lines)));
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(path)
            .map_err(failed)?;
        sync(path.parent().unwrap_or(Path::new("."))).map_err(|error| changed(error.to_string()))?;
        let bytes = file.metadata().map_err(failed)?.len();
        let mut log = Self { path: path.to_owned(), file, head, broken: false };
        if bytes < log.head.offset {
            return Err(changed(format!("it has {bytes} bytes, the database knows of {}", log.head.offset)));
        }
        log.check_last()?;
        log.take_over(bytes - log.head.offset)?;
        Ok(log)
    }

    fn check_last(&self) -> Result<(), AuditError> {
        let Head { offset, last, hash: expected, lines, .. } = &self.head;
        if *last == 0 {
            return Ok(());
        }
        let text = self.read(offset.saturating_sub(*last), *last)?;
        let line = text.strip_suffix(b"\n").unwrap_or(&text);
        if hash(line) == *expected {
            Ok(())
        } else {
            Err(self.changed(format!("line {lines} is not the one that was written")))
        }
    }

    /// Deals with what is behind the end that the database knows: nothing, one line, or a part of one.
    fn take_over(&mut self, bytes: u64) -> Result<(), AuditError> {
        if bytes == 0 {
            return Ok(());
        }
        if bytes > MOST_LINE as u64 {
            return Err(self.changed(format!("{bytes} bytes are behind the line that the database knows as the last")));
        }
        let text = self.read(self.head.offset, bytes)?;
        let Some(line) = text.strip_suffix(b"\n") else {
            if text.contains(&b'\n') {
                return Err(
                    self.changed("more than one line is behind the last one that the database knows".to_owned())
                );
            }
            // The write was interrupted, so nobody was told anything.
            return self.undo();
        };
        let follows = serde_json::from_slice::<Line>(line)
            .is_ok_and(|line| line.previous == self.head.hash && line.line == self.head.lines + 1);
        if line.contains(&b'\n') || !follows {
            return Err(
                self.changed("what is behind the last line that the database knows does not follow it".to_owned())
            );
        }
        self.file.sync_all().map_err(|error| self.failed(error))?;
        self.head = self.head.with(line);
        Ok(())
    }

    /// Returns how far it goes.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Writes a line and waits until it is on the disk; returns how far the log goes with it. It counts once
    /// [`Log::settle`] was called; [`Log::undo`] takes it back.
    pub(crate) fn append(&mut self, mut line: Line, now: u64) -> Result<Head, AuditError> {
        if self.broken {
            return Err(AuditError::Broken(self.path.clone()));
        }
        line.line = self.head.lines + 1;
        line.time = written(now);
        line.previous.clone_from(&self.head.hash);
        let mut text = serde_json::to_vec(&line).map_err(|error| self.failed(io::Error::other(error)))?;
        if text.len() >= MOST_LINE {
            return Err(AuditError::TooLong(text.len()));
        }
        let head = self.head.with(&text);
        text.push(b'\n');
        let done = self.file.write_all_at(&text, self.head.offset).and_then(|()| self.file.sync_data());
        if let Err(error) = done {
            self.undo()?;
            return Err(self.failed(error));
        }
        Ok(head)
    }

    /// Counts a line that the database knows of now.
    pub(crate) fn settle(&mut self, head: Head) {
        self.head = head;
    }

    /// Takes back a line that the database does not know of.
    pub(crate) fn undo(&mut self) -> Result<(), AuditError> {
        let done = self.file.set_len(self.head.offset).and_then(|()| self.file.sync_all());
        done.map_err(|_| {
            self.broken = true;
            AuditError::Broken(self.path.clone())
        })
    }

    /// From here on nothing is written: what is on the disk is not known.
    pub(crate) fn give_up(&mut self) {
        self.broken = true;
    }

    fn read(&self, offset: u64, bytes: u64) -> Result<Vec<u8>, AuditError> {
        let mut text = vec![0; usize::try_from(bytes).unwrap_or(MOST_LINE)];
        self.file.read_exact_at(&mut text, offset).map_err(|error| self.failed(error))?;
        Ok(text)
    }

    fn failed(&self, error: io::Error) -> AuditError {
        AuditError::Io { path: self.path.clone(), error }
    }

    fn changed(&self, why: String) -> AuditError {
        AuditError::Changed { path: self.path.clone(), why }
    }
}

#[cfg(test)]
mod tests;
