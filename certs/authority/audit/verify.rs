//! Reads a whole audit log and says where it is not what was written.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use super::{Head, Line, MOST_LINE};
use crate::authority::random::hash;

/// Where a log is broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct Broken {
    /// Which line; as the log counts them.
    pub line: u64,
    /// What is wrong with it.
    pub why: String,
}

/// Checks each line and that the log ends where the database says; returns how many lines there are in this file.
pub(crate) fn verify(path: &Path, head: &Head) -> Result<u64, Broken> {
    let (mut number, mut last) = head.before.clone();
    let first = number;
    let broken = |line: u64, why: String| Broken { line, why };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(_) if head.offset == 0 => return Ok(0),
        Err(error) => return Err(broken(number, format!("{}: {error}", path.display()))),
    };
    let mut reader = BufReader::new(file);
    let mut bytes = 0_u64;
    while bytes < head.offset {
        let mut text = Vec::new();
        let read = std::io::Read::take(&mut reader, MOST_LINE as u64).read_until(b'\n', &mut text);
        let read = read.map_err(|error| broken(number + 1, error.to_string()))?;
        let Some(line) = text.strip_suffix(b"\n") else {
            let why = format!("it ends early: the database knows of {} lines, {number} are whole", head.lines);
            return Err(broken(number + 1, why));
        };
        number += 1;
        bytes += read as u64;
        let parsed: Line =
            serde_json::from_slice(line).map_err(|error| broken(number, format!("it cannot be read: {error}")))?;
        if parsed.line != number {
            return Err(broken(
                number,
                format!("it says that it is line {}: lines are missing or in another order", parsed.line),
            ));
        }
        if parsed.previous != last {
            return Err(broken(
                number,
                "it does not follow the line before: that one, or this one, was changed".to_owned(),
            ));
        }
        last = hash(line);
    }
    if number != head.lines || last != head.hash || bytes != head.offset {
        return Err(broken(number, "the last line is not the one that the database knows".to_owned()));
    }
    let rest = reader.fill_buf().map_err(|error| broken(number, error.to_string()))?;
    if !rest.is_empty() {
        return Err(broken(number + 1, "it is behind the last line that the database knows".to_owned()));
    }
    Ok(number - first)
}
