//! SPIFFE IDs, parsed strictly.
//!
//! The rules are those of the SPIFFE-ID standard, 2: an ID is compared byte by byte, so nothing is normalised and what
//! is not in its one form is not an ID.

use std::fmt;
use std::str::FromStr;

/// Longest ID, in bytes (SPIFFE-ID, 2.3).
pub const MAX_ID: usize = 2048;

/// Longest trust domain, in bytes (SPIFFE-ID, 2.1).
pub const MAX_TRUST_DOMAIN: usize = 255;

const SCHEME: &str = "spiffe://";

/// The name of a trust domain: who vouches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(String);

/// `spiffe://TRUST-DOMAIN/PATH`: the name of one workload. The path is never empty: an ID without one names the trust
/// domain itself, which no workload is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: String,
    /// Where the path begins, with its slash.
    path: usize,
}

/// Why a text is not a SPIFFE ID, or not a trust domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Another scheme, or none.
    #[error("it does not begin with `spiffe://`")]
    Scheme,
    /// No trust domain.
    #[error("it has no trust domain")]
    NoTrustDomain,
    /// A byte that a trust domain cannot have: a port, user information and upper case are among them.
    #[error("a trust domain has a-z, 0-9, `.`, `-` and `_` alone")]
    TrustDomain,
    /// Nothing behind the trust domain.
    #[error("it has no path, so it names no workload")]
    NoPath,
    /// Two slashes in a row, or one at the end.
    #[error("a segment of its path is empty")]
    EmptySegment,
    /// `.` or `..`.
    #[error("a segment of its path is `.` or `..`")]
    DotSegment,
    /// A byte that a path cannot have: `%`, `?` and `#` are among them.
    #[error("a path has a-z, A-Z, 0-9, `.`, `-`, `_` and `/` alone")]
    Path,
    /// More than [`MAX_ID`] or [`MAX_TRUST_DOMAIN`] bytes.
    #[error("it is too long")]
    TooLong,
}

impl TrustDomain {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the ID of a workload of this trust domain; `path` begins with a slash.
    pub fn id(&self, path: &str) -> Result<SpiffeId, SpiffeError> {
        format!("{SCHEME}{}{path}", self.0).parse()
    }
}

impl SpiffeId {
    /// Returns the name of the trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.text.get(SCHEME.len()..self.path).unwrap_or_default()
    }

    /// Returns the path, with its leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.get(self.path..).unwrap_or_default()
    }

    /// Returns the whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        check_trust_domain(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        if text.len() > MAX_ID {
            return Err(SpiffeError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (trust_domain, path) = rest.split_once('/').map_or((rest, None), |(domain, path)| (domain, Some(path)));
        check_trust_domain(trust_domain)?;
        let path = path.ok_or(SpiffeError::NoPath)?;
        if path.is_empty() {
            return Err(SpiffeError::NoPath);
        }
        path.split('/').try_for_each(check_segment)?;
        Ok(Self { text: text.to_owned(), path: SCHEME.len() + trust_domain.len() })
    }
}

fn check_trust_domain(text: &str) -> Result<(), SpiffeError> {
    match text {
        "" => Err(SpiffeError::NoTrustDomain),
        _ if text.len() > MAX_TRUST_DOMAIN => Err(SpiffeError::TooLong),
        _ if text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_')) => Ok(()),
        _ => Err(SpiffeError::TrustDomain),
    }
}

fn check_segment(segment: &str) -> Result<(), SpiffeError> {
    match segment {
        "" => Err(SpiffeError::EmptySegment),
        "." | ".." => Err(SpiffeError::DotSegment),
        _ if segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')) => Ok(()),
        _ => Err(SpiffeError::Path),
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<SpiffeId, SpiffeError> {
        text.parse()
    }

    #[test]
    fn an_id_has_a_trust_domain_and_a_path() {
        let id = parse("spiffe://example.org/svc/web").unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("example.org", "/svc/web"));
        assert_eq!(id.to_string(), "spiffe://example.org/svc/web");
        assert!(parse("spiffe://a_b-1.c/A.b_C-9").is_ok());
        let domain: TrustDomain = "example.org".parse().unwrap();
        assert_eq!(domain.id("/svc/web").unwrap(), id);
        assert_eq!(domain.id("svc").unwrap_err(), SpiffeError::NoPath);
    }

    #[test]
    fn what_is_not_in_its_one_form_is_refused_with_the_reason() {
        use SpiffeError::{DotSegment, EmptySegment, NoPath, NoTrustDomain, Path, Scheme, TooLong, TrustDomain};
        let long = format!("spiffe://{}/a", "a".repeat(256));
        let longer = format!("spiffe://a/{}", "a".repeat(2048));
        for (text, reason) in [
            ("", Scheme),
            ("https://example.org/svc", Scheme),
            ("SPIFFE://example.org/svc", Scheme),
            (" spiffe://example.org/svc", Scheme),
            ("spiffe:///svc", NoTrustDomain),
            ("spiffe://", NoTrustDomain),
            ("spiffe://Example.org/svc", TrustDomain),
            ("spiffe://example.org:8443/svc", TrustDomain),
            ("spiffe://user@example.org/svc", TrustDomain),
            ("spiffe://ex%61mple.org/svc", TrustDomain),
            ("spiffe://bücher.example/svc", TrustDomain),
            ("spiffe://example.org?a/svc", TrustDomain),
            ("spiffe://example.org", NoPath),
            ("spiffe://example.org/", NoPath),
            ("spiffe://example.org/svc/", EmptySegment),
            ("spiffe://example.org//svc", EmptySegment),
            ("spiffe://example.org/a/../svc", DotSegment),
            ("spiffe://example.org/./svc", DotSegment),
            ("spiffe://example.org/%73vc", Path),
            ("spiffe://example.org/svc?a=b", Path),
            ("spiffe://example.org/svc#a", Path),
            ("spiffe://example.org/svc\0", Path),
            ("spiffe://example.org/svc ", Path),
            (&long, TooLong),
            (&longer, TooLong),
        ] {
            assert_eq!(parse(text), Err(reason), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_prints_as_it_came_and_has_only_plain_bytes(text in "(spiffe://)?[a-zA-Z0-9./:%_-]{0,40}") {
            if let Ok(id) = parse(&text) {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
                prop_assert!(id.path().starts_with('/') && id.path().len() > 1);
                prop_assert!(!id.as_str().contains('%') && !id.trust_domain().contains(':'));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("spiffe://{text}"));
            let _ = text.parse::<TrustDomain>();
        }
    }
}
