//! One pass over the fields of a head: what they mean for the connection, or why they are refused.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::super::names;
use super::{Framing, HeadLimits, Reject, Underscores, Version, diagnose};

/// Fields up to this number are cut out on the stack; a higher limit allocates.
pub(super) const STACK_FIELDS: usize = 128;

/// What the fields of a head say.
pub(super) struct Fields {
    pub(super) headers: HeaderMap,
    pub(super) content_length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) host: Option<HeaderValue>,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    upgrade_named: bool,
    upgrade: Upgrade,
}

enum Upgrade {
    None,
    One(HeaderValue),
    Several,
}

/// Which side sent the head.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    Client,
    Server,
}

impl Fields {
    /// Reads all fields; `lines` must be slices of `head`. `reuse` is emptied first.
    pub(super) fn read(
        head: &Bytes,
        lines: &[httparse::Header<'_>],
        limits: &HeadLimits,
        sender: Sender,
        reuse: HeaderMap,
    ) -> Result<Self, Reject> {
        let mut fields = Self {
            headers: reuse,
            content_length: None,
            chunked: false,
            host: None,
            close: false,
            keep_alive: false,
            expect_continue: false,
            upgrade_named: false,
            upgrade: Upgrade::None,
        };
        fields.headers.clear();
        fields.headers.try_reserve(lines.len()).map_err(|_| Reject::TooManyFields)?;
        for (index, line) in lines.iter().enumerate() {
            fields.read_one(head, line, index + 2, limits.underscores, sender)?;
        }
        Ok(fields)
    }

    fn read_one(
        &mut self,
        head: &Bytes,
        line: &httparse::Header<'_>,
        number: usize,
        underscores: Underscores,
        sender: Sender,
    ) -> Result<(), Reject> {
        let name = name(line.name, number, underscores)?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value))
            .map_err(|_| Reject::FieldControl { line: number })?;
        match name {
            header::CONNECTION => self.connection(line.value)?,
            header::CONTENT_LENGTH => {
                if self.content_length.is_some() {
                    return Err(Reject::ContentLengthRepeated);
                }
                self.content_length = Some(content_length(line.value)?);
            }
            header::EXPECT if sender == Sender::Client => {
                if !line.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Reject::Expectation);
                }
                self.expect_continue = true;
            }
            header::HOST if sender == Sender::Client => {
                if self.host.is_some() {
                    return Err(Reject::HostRepeated);
                }
                if !super::target::is_authority(line.value) {
                    return Err(Reject::Host);
                }
                self.host = Some(value.clone());
            }
            header::TRANSFER_ENCODING => {
                if self.chunked || !line.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Reject::TransferEncoding);
                }
                self.chunked = true;
            }
            header::UPGRADE => {
                self.upgrade = match self.upgrade {
                    Upgrade::None => Upgrade::One(value.clone()),
                    Upgrade::One(_) | Upgrade::Several => Upgrade::Several,
                };
            }
            _ => {}
        }
        self.headers.try_append(name, value).map_err(|_| Reject::TooManyFields)?;
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) -> Result<(), Reject> {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade_named = true;
            } else if option.is_empty() {
                // Empty list elements are legal and mean nothing.
            } else if !names::is_token(option) {
                return Err(Reject::Connection);
            } else if names::is_protected(option) {
                return Err(Reject::ConnectionNamesProtected);
            }
        }
        Ok(())
    }

    /// Returns what the fields announce about the body; `Framing::None` if nothing.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, Reject> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(Reject::ContentLengthWithTransferEncoding),
            (true, None) if version == Version::Http10 => Err(Reject::TransferEncodingInHttp10),
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::None),
        }
    }

    /// Returns whether another message may follow on the connection.
    pub(super) fn persistent(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version == Version::Http11)
    }

    /// Takes the Upgrade field if there is exactly one, Connection names it and the version has upgrades.
    pub(super) fn take_upgrade(&mut self, version: Version) -> Option<HeaderValue> {
        match std::mem::replace(&mut self.upgrade, Upgrade::None) {
            Upgrade::One(value) if self.upgrade_named && version == Version::Http11 => Some(value),
            _ => None,
        }
    }
}

/// Parses a trailer section, its closing empty line included.
pub(in crate::http1) fn parse_trailers(section: &Bytes) -> Result<HeaderMap, Reject> {
    let mut storage = [httparse::EMPTY_HEADER; STACK_FIELDS];
    let lines = match httparse::parse_headers(section, &mut storage) {
        Ok(httparse::Status::Complete((_, lines))) => lines,
        Ok(httparse::Status::Partial) | Err(_) => return Err(diagnose::fields(section, 1)),
    };
    let mut trailers = HeaderMap::new();
    trailers.try_reserve(lines.len()).map_err(|_| Reject::TooManyFields)?;
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        if names::is_forbidden_in_trailers(line.name.as_bytes()) {
            return Err(Reject::TrailerForbidden { line: number });
        }
        let name = name(line.name, number, Underscores::Refuse)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(line.value))
            .map_err(|_| Reject::FieldControl { line: number })?;
        trailers.try_append(name, value).map_err(|_| Reject::TooManyFields)?;
    }
    Ok(trailers)
}

/// Calls `parse` with room for as many fields as the limit allows, on the stack if it can be.
pub(super) fn with_storage<'buffer, T>(
    limit: usize,
    parse: impl FnOnce(&mut [MaybeUninit<httparse::Header<'buffer>>]) -> T,
) -> T {
    let mut storage = [const { MaybeUninit::uninit() }; STACK_FIELDS];
    match storage.get_mut(..limit) {
        Some(storage) => parse(storage),
        None => parse(&mut vec![MaybeUninit::uninit(); limit]),
    }
}

/// Checks the name of a field that came by HTTP/2 by the rule that HTTP/1.1 has for underscores.
pub(crate) fn check_name(name: &HeaderName) -> Result<(), Reject> {
    if name.as_str().contains('_') { Err(Reject::FieldUnderscore { line: 0 }) } else { Ok(()) }
}

/// Checks the name of a trailer that came by HTTP/2 by the rules that HTTP/1.1 has for them.
pub(crate) fn check_trailer_name(name: &HeaderName) -> Result<(), Reject> {
    check_name(name)?;
    let is_forbidden = names::is_forbidden_in_trailers(name.as_str().as_bytes());
    if is_forbidden { Err(Reject::TrailerForbidden { line: 0 }) } else { Ok(()) }
}

/// Tells whether a value names a host and nothing else.
pub(crate) fn is_host(value: &[u8]) -> bool {
    super::target::is_authority(value)
}

fn name(raw: &str, line: usize, underscores: Underscores) -> Result<HeaderName, Reject> {
    if raw.bytes().any(|byte| byte == b'_')
        && (underscores == Underscores::Refuse || names::is_protected(raw.as_bytes()))
    {
        return Err(Reject::FieldUnderscore { line });
    }
    HeaderName::from_bytes(raw.as_bytes()).map_err(|_| Reject::FieldName { line })
}

/// Digits alone: a sign, a list, white space or a second opinion on the base is what smuggling is made of. Nineteen
/// digits cannot overflow, and what is beyond 2^63 - 1 is negative to half of the world.
fn content_length(value: &[u8]) -> Result<u64, Reject> {
    if value.is_empty() || value.len() > 19 {
        return Err(Reject::ContentLength);
    }
    let mut length = 0_u64;
    for &byte in value {
        if !byte.is_ascii_digit() {
            return Err(Reject::ContentLength);
        }
        length = length * 10 + u64::from(byte - b'0');
    }
    if i64::try_from(length).is_ok() { Ok(length) } else { Err(Reject::ContentLength) }
}
