//! What `meshless status` says of who a gateway is, and of who does not say who it is.

use std::fmt::{self, Write as _};

use super::super::view::IdentityView;
use super::{Span, table};

/// Most sources of clear text of which text tells; JSON tells of all.
const MOST: usize = 20;

/// Prints who it is, for how long, and why it may not stay so.
pub(super) fn print(identity: &IdentityView, text: &mut String) -> fmt::Result {
    let id = identity.id.as_deref().unwrap_or("none yet");
    write!(text, "identity        {id}")?;
    match identity.left_seconds {
        Some(left) if left > 0.0 => writeln!(text, ", valid for {}, from {}", Span(left), identity.source)?,
        Some(_) => writeln!(text, ", expired, from {}", identity.source)?,
        None => writeln!(text, ", from {}", identity.source)?,
    }
    match &identity.last_error {
        Some(error) => writeln!(text, "  not renewed   {error}"),
        None => Ok(()),
    }
}

/// Prints who comes in clear text where certificates are wished for.
pub(super) fn plaintext(identity: &IdentityView, text: &mut String) -> fmt::Result {
    let rows = identity.plaintext.iter().take(MOST).map(|source| {
        [source.listener.clone(), source.address.clone(), source.connections.to_string(), source.last.clone()]
    });
    table(text, ["LISTENER", "CLEAR TEXT FROM", "CONNECTIONS", "LAST"], rows)?;
    let more = identity.plaintext.len().saturating_sub(MOST);
    if more > 0 {
        writeln!(text, "and {more} more: --json, or /identity, tells of all")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::view::PlaintextView;
    use super::*;

    #[test]
    fn who_it_is_and_who_comes_in_clear_text_are_a_line_each() {
        let source = |number: usize| PlaintextView {
            listener: "in".to_owned(),
            address: format!("10.0.0.{number}"),
            connections: 7,
            last: "2026-09-30T12:34:56.789Z".to_owned(),
        };
        let identity = IdentityView {
            trust_domain: "example.org".to_owned(),
            source: "files (/c)".to_owned(),
            id: Some("spiffe://example.org/svc/web".to_owned()),
            serial: None,
            not_before: None,
            not_after: None,
            left_seconds: Some(5400.0),
            renew_at: None,
            bundle_sequence: Some(0),
            roots: Vec::new(),
            last_error: Some("/k: no private key in it".to_owned()),
            plaintext: (0..22).map(source).collect(),
        };
        let mut text = String::new();
        print(&identity, &mut text).unwrap();
        assert_eq!(
            text,
            "identity        spiffe://example.org/svc/web, valid for 1 h 30 min, from files (/c)\n  \
             not renewed   /k: no private key in it\n"
        );
        let mut text = String::new();
        plaintext(&identity, &mut text).unwrap();
        assert!(text.contains("in        10.0.0.0         7            2026-09-30T12:34:56.789Z\n"), "{text}");
        assert!(text.ends_with("and 2 more: --json, or /identity, tells of all\n"), "{text}");
        let mut text = String::new();
        let expired = IdentityView { left_seconds: Some(0.0), id: None, last_error: None, ..identity };
        print(&expired, &mut text).unwrap();
        assert_eq!(text, "identity        none yet, expired, from files (/c)\n");
    }
}
