//! Paths are normalised once, and the same string is matched and sent (pure).
//!
//! A path that an endpoint could read in another way than a route does is how rules are walked around: `//admin`,
//! `/a/../admin`, `/%2e%2e/admin`, `/a\..\admin` (security paper §1, Path).

use std::borrow::Cow;

use crate::http1::Reject;

/// Brings the path of `target` (path and query) into its one form: no empty or dot segments, nothing escaped that needs
/// no escape, escapes in upper case.
///
/// Refuses `%00`, `%2f`, `%5c`, a backslash and an escape that is none. The query is left as it is.
pub(crate) fn normalise(target: &str) -> Result<Cow<'_, str>, Reject> {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    if is_plain(path) {
        return Ok(Cow::Borrowed(target));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return Err(Reject::Path),
            b'%' => {
                let (Some(high), Some(low)) = (bytes.next().and_then(hex), bytes.next().and_then(hex)) else {
                    return Err(Reject::Path);
                };
                match high << 4 | low {
                    0 | b'/' | b'\\' => return Err(Reject::Path),
                    plain if plain.is_ascii_alphanumeric() || b"-._~".contains(&plain) => decoded.push(plain),
                    other => decoded.extend_from_slice(&[b'%', digit(other >> 4), digit(other & 15)]),
                }
            }
            other => decoded.push(other),
        }
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_slash = false;
    for segment in decoded.split(|&byte| byte == b'/') {
        ends_in_slash = true;
        match segment {
            b"" | b"." => {}
            b".." => {
                segments.pop();
            }
            other => {
                segments.push(other);
                ends_in_slash = false;
            }
        }
    }
    let mut normal = Vec::with_capacity(target.len());
    for segment in &segments {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    if ends_in_slash || segments.is_empty() {
        normal.push(b'/');
    }
    normal.extend_from_slice(query.as_bytes());
    String::from_utf8(normal).map(Cow::Owned).map_err(|_| Reject::Path)
}

/// Tells whether nothing in a path could need another form.
fn is_plain(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut after_slash = false;
    for &byte in bytes {
        match byte {
            b'%' | b'\\' => return false,
            b'/' | b'.' if after_slash => return false,
            _ => after_slash = byte == b'/',
        }
    }
    true
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'A' + value - 10 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ways_around_a_rule_lead_to_the_rule() {
        for (written, meant) in [
            ("/a/b", "/a/b"),
            ("/", "/"),
            ("//admin", "/admin"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2E/admin", "/admin"),
            ("/%61dmin", "/admin"),
            ("/../../x", "/x"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/a//b/", "/a/b/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("/a%3fb?c=%2f//..", "/a%3Fb?c=%2f//.."),
            ("/?", "/?"),
        ] {
            assert_eq!(normalise(written).unwrap(), meant, "{written}");
        }
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for written in ["/a%00", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%", "/a%4", "/a%zz"] {
            assert_eq!(normalise(written), Err(Reject::Path), "{written}");
        }
    }

    #[test]
    fn a_plain_path_is_not_copied() {
        assert!(matches!(normalise("/v1/users/42?q=1"), Ok(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(path in "/[a-c./%25eE2]{0,24}") {
            if let Ok(once) = normalise(&path) {
                prop_assert_eq!(normalise(&once).unwrap(), once.clone());
                prop_assert!(once.starts_with('/'));
                let has_dots = once.split('/').any(|segment| segment == "." || segment == "..");
                prop_assert!(!has_dots && !once.contains("//"), "{}", once);
            }
        }
    }
}
