//! B3, as Zipkin, Linkerd 1 and Envoy have it: `b3: TRACE-SPAN-STATE-PARENT`, or a field for each of them.

use http::{HeaderMap, HeaderName};

use super::{Ours, SpanId, TraceId, only, set};

pub(super) const SINGLE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// What B3 says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct B3 {
    /// Left out where only the decision is told.
    pub(super) ids: Option<Ids>,
    pub(super) decision: Decision,
}

/// The trace, and the span that called us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    /// The trace id had 64 bits and is passed on so: what reads it may not know of more.
    is_short: bool,
}

/// Whether the trace is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Accept,
    /// Accept, and whoever thins out later must keep it.
    Debug,
    Defer,
    Deny,
}

impl Decision {
    pub(super) fn accepts(self) -> Option<bool> {
        match self {
            Self::Accept | Self::Debug => Some(true),
            Self::Defer => None,
            Self::Deny => Some(false),
        }
    }

    /// Reads what is written in the single field. Zipkin's older clients wrote words into `x-b3-sampled`.
    fn parse(value: &[u8]) -> Option<Self> {
        match value {
            b"1" => Some(Self::Accept),
            b"0" => Some(Self::Deny),
            b"d" => Some(Self::Debug),
            _ => None,
        }
    }
}

pub(super) fn read_single(headers: &HeaderMap) -> Option<B3> {
    parse(only(headers, &SINGLE)?)
}

pub(super) fn parse(value: &[u8]) -> Option<B3> {
    if let Some(decision) = Decision::parse(value) {
        return Some(B3 { ids: None, decision });
    }
    let mut parts = value.split(|byte| *byte == b'-');
    let ids = Ids::parse(parts.next()?, parts.next()?)?;
    let decision = parts.next().map_or(Some(Decision::Defer), Decision::parse)?;
    if let Some(parent) = parts.next() {
        SpanId::parse(parent)?;
    }
    parts.next().is_none().then_some(B3 { ids: Some(ids), decision })
}

pub(super) fn read_several(headers: &HeaderMap) -> Option<B3> {
    let ids = match (only(headers, &TRACE), only(headers, &SPAN)) {
        (Some(trace), Some(span)) => Some(Ids::parse(trace, span)?),
        (None, None) => None,
        // One without the other names no place in a trace.
        _ => return None,
    };
    let sampled = match only(headers, &SAMPLED) {
        Some(b"1" | b"true") => Some(Decision::Accept),
        Some(b"0" | b"false") => Some(Decision::Deny),
        _ => None,
    };
    let debug = (only(headers, &FLAGS) == Some(b"1")).then_some(Decision::Debug);
    let decision = debug.or(sampled);
    if ids.is_none() && decision.is_none() {
        return None;
    }
    Some(B3 { ids, decision: decision.unwrap_or(Decision::Defer) })
}

impl Ids {
    fn parse(trace: &[u8], span: &[u8]) -> Option<Self> {
        let span = SpanId::parse(span)?;
        if let Some(trace) = TraceId::parse_short(trace) {
            return Some(Self { trace, span, is_short: true });
        }
        Some(Self { trace: TraceId::parse(trace)?, span, is_short: false })
    }
}

impl B3 {
    /// Tells whether our trace is the one of this form, or this form has none of its own.
    pub(super) fn may_carry(&self, trace: TraceId) -> bool {
        self.ids.is_none_or(|ids| ids.trace == trace)
    }

    pub(super) fn print(&self, ours: &Ours) -> String {
        let state = if self.decision == Decision::Debug { 'd' } else { '1' };
        format!("{}-{}-{state}-{}", self.trace(ours), ours.span, ours.parent)
    }

    pub(super) fn write(&self, ours: &Ours, headers: &mut HeaderMap) {
        set(headers, &TRACE, &self.trace(ours));
        set(headers, &SPAN, &ours.span.to_string());
        set(headers, &PARENT, &ours.parent.to_string());
        // Debug implies it, and the specification asks not to send both.
        if self.decision != Decision::Debug {
            set(headers, &SAMPLED, "1");
        }
    }

    fn trace(&self, ours: &Ours) -> String {
        if self.ids.is_some_and(|ids| ids.is_short) {
            format!("{:016x}", ours.trace.low())
        } else {
            ours.trace.to_string()
        }
    }
}
