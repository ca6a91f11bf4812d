//! Which field names are special, compared so that neither case nor `_` for `-` hides one.
//!
//! CGI-like backends turn both `-` and `_` into `_`, so `Content_Length` reaches them as a second Content-Length.

/// Fields that carry framing, routing, credentials or identity: a Connection field may not have them dropped, and their
/// underscore twins are never passed. Lower case, sorted.
const PROTECTED: &[&str] = &[
    "authorization",
    "content-length",
    "cookie",
    "forwarded",
    "host",
    "transfer-encoding",
    "x-client-cert",
    "x-real-ip",
];
const PROTECTED_PREFIXES: &[&str] = &["x-forwarded-", "x-spiffe"];

/// Fields that must not arrive late (RFC 9110 §6.5.1): framing, routing, request modifiers, authentication, content
/// description, and what Connection controls.
const NOT_IN_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
    "x-client-cert",
    "x-real-ip",
];

/// Returns whether `name` is one that a Connection field may not name and that has no harmless underscore twin.
pub(super) fn is_protected(name: &[u8]) -> bool {
    PROTECTED.iter().any(|known| same(name, known)) || has_protected_prefix(name)
}

/// Returns whether `name` must not be taken from, or written to, a trailer section.
pub(super) fn is_forbidden_in_trailers(name: &[u8]) -> bool {
    NOT_IN_TRAILERS.iter().any(|known| same(name, known)) || has_protected_prefix(name)
}

/// Returns whether `byte` may be part of a token (RFC 9110 §5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Returns whether `bytes` is a token.
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

fn has_protected_prefix(name: &[u8]) -> bool {
    PROTECTED_PREFIXES.iter().any(|prefix| name.get(..prefix.len()).is_some_and(|start| same(start, prefix)))
}

/// Compares a name with a known one in lower case; `_` counts as `-`.
fn same(name: &[u8], known: &str) -> bool {
    name.len() == known.len()
        && name.iter().zip(known.bytes()).all(|(&byte, known)| match byte {
            b'_' => known == b'-',
            byte => byte.to_ascii_lowercase() == known,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_case_nor_underscore_hides_a_protected_name() {
        for name in ["Host", "CONTENT_length", "x-forwarded-for", "X_Forwarded_Client-Cert", "x_spiffe_id", "Cookie"] {
            assert!(is_protected(name.as_bytes()), "{name}");
        }
        for name in ["close", "te", "x-forward", "hosts", "x-request-id"] {
            assert!(!is_protected(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_belongs_into_trailers_stays_allowed() {
        for name in ["grpc-status", "grpc-message", "server-timing", "etag", "content-digest", "x-checksum"] {
            assert!(!is_forbidden_in_trailers(name.as_bytes()), "{name}");
        }
        for name in ["Transfer-Encoding", "content_length", "host", "authorization", "X-Forwarded-For", "content-type"]
        {
            assert!(is_forbidden_in_trailers(name.as_bytes()), "{name}");
        }
    }
}
