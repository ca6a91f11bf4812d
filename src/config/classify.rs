//! `classify`, checked: which replies count against an endpoint, as bitmaps.

use std::str::FromStr;

use serde::{Serialize, Serializer};

/// Names of the gRPC statuses, by number (gRPC, "Status codes and their use").
const GRPC_STATUSES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid-argument",
    "deadline-exceeded",
    "not-found",
    "already-exists",
    "permission-denied",
    "resource-exhausted",
    "failed-precondition",
    "aborted",
    "out-of-range",
    "unimplemented",
    "internal",
    "unavailable",
    "data-loss",
    "unauthenticated",
];
/// HTTP statuses that can be named: errors.
const STATUSES: std::ops::RangeInclusive<u16> = 400..=599;
/// The gRPC statuses that count against an endpoint unless others are named: deadline-exceeded, internal, unavailable
/// and data-loss. They are Linkerd 2's but permission-denied, which one client with a wrong token could bring on every
/// endpoint; `unknown` is what many frameworks make of an exception that means "not found".
const GRPC_FAILURES: [u8; 4] = [4, 13, 14, 15];

/// What counts against an endpoint, and what is retried besides `retry.on`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Classify {
    /// Replies that are failures. Default `5xx`, and for gRPC `deadline-exceeded`, `internal`, `unavailable`, `data-loss`.
    pub failure: Statuses,
    /// Replies that are retried as if they stood in `retry.on`. Default none: `retry.on` decides alone.
    pub retryable: Statuses,
}

impl Default for Classify {
    fn default() -> Self {
        Self { failure: Statuses::failures(&[]), retryable: Statuses::default() }
    }
}

impl Classify {
    /// Tells whether a reply of this HTTP status counts against the endpoint.
    pub fn is_failure(&self, status: u16) -> bool {
        self.failure.has(status)
    }

    /// Tells whether a reply of this gRPC status counts against the endpoint.
    pub fn is_grpc_failure(&self, status: u8) -> bool {
        self.failure.has_grpc(status)
    }

    /// Tells whether a reply is retried although `retry.on` does not name it. A gRPC status wins over the 200 that
    /// carries it.
    pub fn is_retryable(&self, status: u16, grpc: Option<u8>) -> bool {
        match grpc {
            Some(grpc) if status == 200 => self.retryable.has_grpc(grpc),
            _ => self.retryable.has(status),
        }
    }
}

/// Words for statuses, in the order they were written: `5xx`, `500`, `500-504`, or the name of a gRPC status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusWord {
    /// HTTP statuses from one to another one.
    Http(u16, u16),
    /// A gRPC status.
    Grpc(u8),
}

impl StatusWord {
    /// The names of gRPC statuses that are words.
    pub fn grpc_names() -> impl Iterator<Item = &'static str> {
        GRPC_STATUSES.into_iter().skip(1)
    }
}

impl FromStr for StatusWord {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        if let Some(grpc) = (0u8..).zip(GRPC_STATUSES).find(|(_, name)| *name == word).map(|(number, _)| number) {
            return if grpc == 0 { Err(()) } else { Ok(Self::Grpc(grpc)) };
        }
        let status = |text: &str| {
            let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|status| digits && STATUSES.contains(status)).ok_or(())
        };
        match word {
            "4xx" => Ok(Self::Http(400, 499)),
            "5xx" => Ok(Self::Http(500, 599)),
            _ => {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                let (first, last) = (status(first)?, status(last)?);
                if first <= last { Ok(Self::Http(first, last)) } else { Err(()) }
            }
        }
    }
}

impl std::fmt::Display for StatusWord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http(400, 499) => formatter.write_str("4xx"),
            Self::Http(500, 599) => formatter.write_str("5xx"),
            Self::Http(first, last) if first == last => first.fmt(formatter),
            Self::Http(first, last) => write!(formatter, "{first}-{last}"),
            Self::Grpc(status) => formatter.write_str(GRPC_STATUSES.get(usize::from(*status)).unwrap_or(&"unknown")),
        }
    }
}

/// A set of HTTP and gRPC statuses: a look-up is one bit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses {
    words: Vec<StatusWord>,
    /// From status 400 on.
    http: [u64; 4],
    grpc: u32,
}

impl Statuses {
    /// The statuses that the words name, and no others. 429 and resource-exhausted are in only where they are named
    /// themselves: `4xx` is about clients' mistakes, a limit is told apart from them.
    pub fn new(words: &[StatusWord]) -> Self {
        let mut statuses = Self { words: words.to_vec(), ..Self::default() };
        for word in words {
            match *word {
                StatusWord::Http(first, last) => (first..=last)
                    .filter(|status| *status != 429 || first == last)
                    .for_each(|status| statuses.set(status)),
                StatusWord::Grpc(status) => statuses.grpc |= 1 << status,
            }
        }
        statuses
    }

    /// The same where each of the two kinds has its own default: naming a status of one leaves the other as it is.
    pub(super) fn failures(words: &[StatusWord]) -> Self {
        let mut words = words.to_vec();
        if !words.iter().any(|word| matches!(word, StatusWord::Http(..))) {
            words.push(StatusWord::Http(500, 599));
        }
        if !words.iter().any(|word| matches!(word, StatusWord::Grpc(_))) {
            words.extend(GRPC_FAILURES.map(StatusWord::Grpc));
        }
        Self::new(&words)
    }

    fn set(&mut self, status: u16) {
        let bit = usize::from(status.saturating_sub(*STATUSES.start()));
        if let Some(word) = self.http.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    fn has(&self, status: u16) -> bool {
        let bit = usize::from(status.wrapping_sub(*STATUSES.start()));
        self.http.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    fn has_grpc(&self, status: u8) -> bool {
        self.grpc.checked_shr(status.into()).is_some_and(|bits| bits & 1 == 1)
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words.iter().map(ToString::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<StatusWord> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_word_names_a_class_a_status_a_range_or_a_status_of_grpc() {
        let statuses = Statuses::new(&words(&["4xx", "500", "502-504", "unavailable"]));
        let of =
            |range: std::ops::RangeInclusive<u16>| range.filter(|status| statuses.has(*status)).collect::<Vec<_>>();
        assert_eq!(of(0..=399), [] as [u16; 0]);
        assert_eq!(of(400..=499).len(), 99, "4xx but 429");
        assert_eq!(of(500..=u16::MAX), [500, 502, 503, 504]);
        assert_eq!((0..=u8::MAX).filter(|status| statuses.has_grpc(*status)).collect::<Vec<_>>(), [14]);
        assert!(Statuses::new(&words(&["429"])).has(429));
    }

    #[test]
    fn every_word_prints_as_it_is_written() {
        for text in ["4xx", "5xx", "500", "500-504"].into_iter().chain(StatusWord::grpc_names()) {
            assert_eq!(text.parse::<StatusWord>().unwrap().to_string(), text);
        }
        for text in ["", "2xx", "3xx", "399", "600", "504-500", "500-", "+500", "ok", "UNAVAILABLE", "5XX", "500-600"] {
            assert!(text.parse::<StatusWord>().is_err(), "{text}");
        }
    }

    #[test]
    fn naming_a_status_of_one_kind_leaves_the_other_at_its_default() {
        let http = Statuses::failures(&words(&["500"]));
        assert!(http.has(500) && !http.has(503) && http.has_grpc(14) && !http.has_grpc(2));
        let grpc = Statuses::failures(&words(&["unknown"]));
        assert!(grpc.has(503) && grpc.has_grpc(2) && !grpc.has_grpc(14));
    }

    #[test]
    fn what_is_retryable_adds_to_nothing_by_default() {
        let retryable = |texts| Classify { retryable: Statuses::new(&words(texts)), ..Classify::default() };
        assert!(!Classify::default().is_retryable(503, None));
        assert!(retryable(&["502", "aborted"]).is_retryable(502, None));
        assert!(retryable(&["502", "aborted"]).is_retryable(200, Some(10)));
        assert!(!retryable(&["502", "aborted"]).is_retryable(200, None));
    }
}
