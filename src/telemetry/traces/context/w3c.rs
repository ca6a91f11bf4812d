//! `traceparent`: `00-TRACE-SPAN-FLAGS`.

use http::{HeaderMap, HeaderName};

use super::id::hexadecimal;
use super::{Ours, SpanId, TraceId, only};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Flag: the caller records this trace.
const SAMPLED: u8 = 0b01;
/// Flag of level 2: the trace id is random. It says something of the id, so it goes on with it.
const RANDOM: u8 = 0b10;
/// Length of version 00, and of what is read of later ones.
const LENGTH: usize = 55;

/// A `traceparent` that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) flags: u8,
}

impl Parent {
    pub(super) fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

pub(super) fn read(headers: &HeaderMap) -> Option<Parent> {
    parse(only(headers, &TRACEPARENT)?)
}

pub(super) fn parse(value: &[u8]) -> Option<Parent> {
    let (known, rest) = value.split_at_checked(LENGTH)?;
    let mut parts = known.split(|byte| *byte == b'-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let [version] = hexadecimal::<1>(version)?;
    // 255 is forbidden; version 0 ends here, and what a later one adds is set off by another dash.
    if version == 0xff || parts.next().is_some() || !(rest.is_empty() || version > 0 && rest.first() == Some(&b'-')) {
        return None;
    }
    let [flags] = hexadecimal::<1>(flags)?;
    Some(Parent { trace: TraceId::parse(trace)?, span: SpanId::parse(span)?, flags })
}

/// Prints version 00, the one that we know, whatever came in; flags that we do not know are cleared.
pub(super) fn print(ours: &Ours, incoming_flags: u8) -> String {
    format!("00-{}-{}-{:02x}", ours.trace, ours.span, incoming_flags & RANDOM | SAMPLED)
}
