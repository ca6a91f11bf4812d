//! What a predecessor left in the registry (pure): entries whose process is gone.
//!
//! An entry carries which process wrote it: the boot of the machine and the process namespace (so that numbers mean the
//! same), the number, and when it started, because numbers are used again. Only where all of that can be compared is an
//! entry taken for a leftover; everything else is left to the registry, which removes what says nothing.

use std::fmt;
use std::str::FromStr;

use meshless_discovery::Entry;

/// The key of the mark in the metadata.
pub(crate) const KEY: &str = "meshless-instance";

/// Which process wrote an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The boot of the machine and the process namespace.
    place: String,
    process: u32,
    /// When it started, in the kernel's ticks since the boot.
    started: u64,
}

/// What is seen of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Gone,
    /// It runs; when it started may be hidden from us.
    Runs {
        started: Option<u64>,
    },
}

impl Mark {
    /// Makes our own of the texts of `/proc/sys/kernel/random/boot_id`, `/proc/self/stat` and where `/proc/self/ns/pid` points.
    pub(crate) fn of(boot: &str, namespace: &str, stat: &str) -> Option<Self> {
        let digits: String = namespace.chars().filter(char::is_ascii_digit).collect();
        let boot = boot.trim();
        if boot.is_empty() || digits.is_empty() {
            return None;
        }
        let process = stat.split(' ').next()?.parse().ok()?;
        Some(Self { place: format!("{boot}/{digits}"), process, started: started(stat)? })
    }
}

/// Reads when a process started from the text of `/proc/PID/stat`.
pub(crate) fn started(stat: &str) -> Option<u64> {
    // The second field is the name in parentheses, with whatever is in it; the 22nd is the start (proc_pid_stat(5)).
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl fmt::Display for Mark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.place, self.process, self.started)
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (rest, started) = text.rsplit_once('/').ok_or(())?;
        let (place, process) = rest.rsplit_once('/').ok_or(())?;
        let (process, started) = (process.parse().map_err(|_| ())?, started.parse().map_err(|_| ())?);
        Ok(Self { place: place.to_owned(), process, started })
    }
}

/// Returns the ids of entries that nobody stands behind any more; `look` sees a process by its number.
pub(crate) fn leftovers<'a>(
    entries: &'a [Entry],
    own_id: &str,
    own: &Mark,
    look: impl Fn(u32) -> Seen,
) -> Vec<&'a str> {
    let is_left = |entry: &&Entry| {
        let mark = entry.meta.get(KEY).and_then(|mark| mark.parse::<Mark>().ok());
        mark.is_some_and(|mark| {
            mark.place == own.place
                && mark != *own
                && match look(mark.process) {
                    Seen::Gone => true,
                    Seen::Runs { started } => started.is_some_and(|started| started != mark.started),
                }
        })
    };
    entries.iter().filter(|entry| entry.id != own_id).filter(is_left).map(|entry| entry.id.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (a ) b (c) S 1 4711 4711 0 -1 4194304 1 0 0 0 5 6 0 0 20 0 7 0 987654 1000 2 3";

    fn own() -> Mark {
        Mark::of("b00t\n", "pid:[4026531836]", STAT).unwrap()
    }

    fn entry(id: &str, mark: &str) -> Entry {
        Entry { id: id.to_owned(), meta: [(KEY.to_owned(), mark.to_owned())].into() }
    }

    #[test]
    fn a_mark_survives_being_written() {
        assert_eq!(own().to_string(), "b00t/4026531836/4711/987654");
        assert_eq!(own().to_string().parse(), Ok(own()));
        for broken in ["", "a", "a/b", "b00t/1/x/2", "b00t/1/2/"] {
            assert_eq!(broken.parse::<Mark>(), Err(()), "{broken}");
        }
        assert_eq!(Mark::of("", "pid:[1]", STAT), None);
        assert_eq!(Mark::of("b", "", STAT), None);
        assert_eq!(Mark::of("b", "pid:[1]", "4711 (cut"), None);
    }

    #[test]
    fn only_what_is_known_to_be_dead_is_a_leftover() {
        let entries = [
            entry("ours", "b00t/4026531836/1/1"),
            entry("dead", "b00t/4026531836/10/5"),
            entry("number used again", "b00t/4026531836/11/5"),
            entry("alive", "b00t/4026531836/12/5"),
            entry("hidden from us", "b00t/4026531836/13/5"),
            entry("another container", "b00t/4026532000/10/5"),
            entry("another boot", "other/4026531836/10/5"),
            entry("ours too", "b00t/4026531836/4711/987654"),
            entry("nonsense", "dead"),
            Entry { id: "of somebody else".to_owned(), meta: [].into() },
        ];
        let look = |process| match process {
            11 | 12 => Seen::Runs { started: Some(if process == 11 { 99 } else { 5 }) },
            13 => Seen::Runs { started: None },
            _ => Seen::Gone,
        };
        assert_eq!(leftovers(&entries, "ours", &own(), look), ["dead", "number used again"]);
    }
}
