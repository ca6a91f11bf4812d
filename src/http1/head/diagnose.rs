//! Says what is wrong with a head that `httparse` refused: the slow path, taken once per bad message.
//!
//! `httparse` knows a handful of errors; an operator who reads a metric or a log wants to tell folding from a stray
//! control byte. All lines here end with CRLF, because the end of the section was found so.

use super::super::names::{is_token, is_token_byte};
use super::Reject;

/// Returns what is wrong with a request head.
pub(super) fn request(head: &[u8]) -> Reject {
    let (line, fields) = first_line(head);
    request_line(line).unwrap_or_else(|| self::fields(fields, 2))
}

/// Returns what is wrong with a request line, if anything is.
pub(super) fn request_line(line: &[u8]) -> Option<Reject> {
    if line.contains(&b'\r') {
        return Some(Reject::BareCarriageReturn { line: 1 });
    }
    let mut words = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Some(Reject::RequestLine);
    };
    if !is_token(method) {
        return Some(Reject::Method);
    }
    if target.is_empty() {
        return Some(Reject::RequestLine);
    }
    if target.iter().any(|byte| !byte.is_ascii_graphic()) {
        return Some(Reject::Target);
    }
    match (words.next(), words.next()) {
        // `GET /` alone is HTTP/0.9.
        (None, _) => Some(Reject::Version),
        (Some(_), Some(_)) => Some(Reject::RequestLine),
        (Some(word), None) => version(word),
    }
}

/// Returns what is wrong with a response head.
pub(super) fn response(head: &[u8]) -> Reject {
    let (line, fields) = first_line(head);
    if line.contains(&b'\r') {
        return Reject::BareCarriageReturn { line: 1 };
    }
    let (word, rest) = line.split_at_checked(8).unwrap_or((line, &[]));
    if let Some(reject) = version(word) {
        return reject;
    }
    let well_formed = match rest {
        [b' ', a, b, c, reason @ ..] => {
            [a, b, c].iter().all(|byte| byte.is_ascii_digit())
                && (reason.is_empty() || reason.starts_with(b" "))
                && !reason.iter().copied().any(is_control)
        }
        _ => false,
    };
    if well_formed { self::fields(fields, 2) } else { Reject::StatusLine }
}

/// Returns what is wrong with field lines, the first of which has the number `line`.
pub(super) fn fields(mut lines: &[u8], mut line: usize) -> Reject {
    loop {
        let (field, rest) = first_line(lines);
        if field.is_empty() {
            return Reject::TooManyFields;
        }
        if let Some(reject) = field_line(field, line) {
            return reject;
        }
        lines = rest;
        line += 1;
    }
}

fn field_line(field: &[u8], line: usize) -> Option<Reject> {
    if field.starts_with(b" ") || field.starts_with(b"\t") {
        return Some(Reject::FieldFolded { line });
    }
    if field.contains(&b'\r') {
        return Some(Reject::BareCarriageReturn { line });
    }
    let name_length = field.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(field.len());
    match field.get(name_length) {
        Some(b':') if name_length > 0 => {}
        Some(b' ' | b'\t') if name_length > 0 => return Some(Reject::FieldSpaceBeforeColon { line }),
        _ => return Some(Reject::FieldName { line }),
    }
    field.iter().copied().any(is_control).then_some(Reject::FieldControl { line })
}

/// Returns what is wrong with a version, if anything is.
fn version(word: &[u8]) -> Option<Reject> {
    match word {
        b"HTTP/1.0" | b"HTTP/1.1" => None,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Some(Reject::VersionUnsupported),
        _ => Some(Reject::Version),
    }
}

fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// Splits off the first line, without its CRLF.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
    let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    (line.strip_suffix(b"\r\n").unwrap_or(line), rest)
}
