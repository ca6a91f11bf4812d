//! Where a head or a trailer section ends.

use super::Reject;

/// Returns the length of the section at the start of `bytes`, its closing empty line included; `None` if it is not
/// complete yet. `scanned` keeps how far was looked, so that a section that arrives byte by byte is looked at once.
pub(in crate::http1) fn end_of_section(bytes: &[u8], scanned: &mut usize) -> Result<Option<usize>, Reject> {
    let start = (*scanned).min(bytes.len());
    for offset in memchr::memchr_iter(b'\n', bytes.get(start..).unwrap_or_default()) {
        let at = start + offset;
        match bytes.get(..at).unwrap_or_default() {
            [b'\r'] | [.., b'\n', b'\r'] => return Ok(Some(at + 1)),
            [.., b'\r'] => {}
            _ => return Err(Reject::BareLineFeed),
        }
    }
    *scanned = bytes.len();
    Ok(None)
}
