//! Trace context in headers: W3C `traceparent`, and B3 as Zipkin has it, in one field or in several (pure).
//!
//! What a request brought is passed on as it is, unless this gateway takes part in the trace. If it does, every form that
//! came in names our span as the parent, and no other form is added: the service behind us reads what it always read.
//!
//! Rules: W3C Trace Context (Recommendation of 2021, §3 and §4.3: an unknown version is read by its first four fields and
//! answered in version 00; what cannot be read is as if it were not there) and `openzipkin/b3-propagation`.

mod b3;
mod id;
mod w3c;

pub use id::{SpanId, TraceId};

use http::{HeaderMap, HeaderName, HeaderValue};

use self::b3::B3;
use self::w3c::Parent;

/// What the headers of a request say of its trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Incoming {
    w3c: Option<Parent>,
    single: Option<B3>,
    several: Option<B3>,
}

impl Incoming {
    /// Reads all forms. What is malformed, or there twice, is as if it were not there.
    pub fn read(headers: &HeaderMap) -> Self {
        Self { w3c: w3c::read(headers), single: b3::read_single(headers), several: b3::read_several(headers) }
    }

    /// Returns the trace and the span that called us. Of several forms W3C wins, then the single `b3`.
    pub fn parent(&self) -> Option<(TraceId, SpanId)> {
        let w3c = self.w3c.map(|parent| (parent.trace, parent.span));
        w3c.or_else(|| b3_ids(self.single)).or_else(|| b3_ids(self.several))
    }

    /// Returns whether the caller wants this trace recorded; `None`: it left that to us.
    pub fn decision(&self) -> Option<bool> {
        match (self.w3c, self.single.or(self.several)) {
            (Some(parent), _) => Some(parent.is_sampled()),
            (None, Some(b3)) => b3.decision.accepts(),
            (None, None) => None,
        }
    }

    /// Writes our span into the forms that came in; a request that brought none gets a `traceparent`.
    ///
    /// A form that names *another* trace than the one that we are part of stays as it is.
    pub fn carry(&self, headers: &mut HeaderMap, ours: &Ours) {
        let mut carried = false;
        if let Some(parent) = self.w3c.filter(|parent| parent.trace == ours.trace) {
            set(headers, &w3c::TRACEPARENT, &w3c::print(ours, parent.flags));
            carried = true;
        }
        if let Some(b3) = self.single.filter(|b3| b3.may_carry(ours.trace)) {
            set(headers, &b3::SINGLE, &b3.print(ours));
            carried = true;
        }
        if let Some(b3) = self.several.filter(|b3| b3.may_carry(ours.trace)) {
            b3.write(ours, headers);
            carried = true;
        }
        if !carried {
            set(headers, &w3c::TRACEPARENT, &w3c::print(ours, 0));
            // It belongs to a `traceparent` that was none.
            headers.remove(w3c::TRACESTATE);
        }
    }
}

fn b3_ids(b3: Option<B3>) -> Option<(TraceId, SpanId)> {
    b3?.ids.map(|ids| (ids.trace, ids.span))
}

/// The span of ours that the next service shall take as its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ours {
    /// The trace.
    pub trace: TraceId,
    /// The span: that of one try.
    pub span: SpanId,
    /// Its own parent, which B3 tells, too.
    pub parent: SpanId,
}

/// Returns the `tracestate` that came with a readable `traceparent`, for the exported spans; at most 512 bytes, which is
/// what W3C asks everybody to keep.
pub fn trace_state(headers: &HeaderMap) -> String {
    let mut joined = String::new();
    for value in headers.get_all(w3c::TRACESTATE) {
        let Ok(value) = value.to_str() else { return String::new() };
        if !joined.is_empty() {
            joined.push(',');
        }
        joined.push_str(value);
    }
    if joined.len() > 512 { String::new() } else { joined }
}

/// Returns whether a share of traces includes this one: the same answer at every hop that has the same share.
///
/// `threshold` is the share of 2⁶⁴, see [`threshold`]; compared with the low half of the id, which is random in all forms.
pub fn is_included(trace: TraceId, threshold: u64) -> bool {
    threshold == u64::MAX || trace.low() < threshold
}

/// Returns a share, 0.0 to 1.0, as a threshold.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of a float saturates, as it should")]
pub fn threshold(share: f64) -> u64 {
    (share * u64::MAX as f64) as u64
}

/// Returns the only value of a field; of two that contradict each other neither counts.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    all.next().is_none().then_some(first.as_bytes())
}

fn set(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    // Hexadecimal digits and dashes: always a value.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
