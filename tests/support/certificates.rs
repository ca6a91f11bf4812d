//! What must hold for any bytes that a peer may show. The fuzz targets call these, and a normal test replays the seeds.

use meshless_certs::{MAX_ID, SpiffeError, SpiffeId, TrustDomain};

/// A leaf is refused with a reason, or has one name, which the parser that checks signatures finds too.
pub(crate) fn leaf(bytes: &[u8]) {
    match meshless_certs::leaf(bytes) {
        Err(refused) => {
            assert!(!refused.label().is_empty());
            assert!(!refused.to_string().contains(|c: char| c.is_control()), "{refused:?}");
        }
        Ok(leaf) => {
            assert_eq!(leaf.id.as_str().parse(), Ok(leaf.id.clone()));
            assert!(leaf.not_before <= leaf.not_after);
            assert!(
                (2..=40).contains(&leaf.serial.len()) && leaf.serial.bytes().all(|digit| digit.is_ascii_hexdigit())
            );
            if let Some(found) = meshless_certs::spiffe_id(&[bytes.into()]) {
                assert_eq!(found, leaf.id, "two parsers read two names");
            }
        }
    }
}

/// An ID is refused, or has only the bytes of its one form, and is made of its parts.
pub(crate) fn spiffe_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!(id.as_str(), text);
    let domain: TrustDomain = id.trust_domain().parse().expect("the trust domain of an ID");
    assert_eq!(domain.id(id.path()).as_ref(), Ok(&id));
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-_".contains(&byte)), "{text:?}");
    assert!(id.path().starts_with('/') && !id.path().ends_with('/') && !id.path().contains("//"));
    assert!(!id.path().split('/').any(|segment| matches!(segment, "." | "..")));
    let reason = if text.len() < MAX_ID { SpiffeError::EmptySegment } else { SpiffeError::TooLong };
    assert_eq!(format!("{text}/").parse::<SpiffeId>(), Err(reason));
}
