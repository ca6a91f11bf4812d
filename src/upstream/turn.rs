//! A try that is under way, as the decision core sees it: it counts as load, and its end says something about its endpoint.
//!
//! The proxy drives it with real connections, the simulator with virtual ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Member, Upstream};
use crate::resilience::breaker::{Case, Change, Probe, Verdict};

/// A try at one endpoint. Whoever has it calls [`Turn::end`] once.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) member: Arc<Member>,
    probe: Option<Probe>,
    /// Of the application beside us nothing is learnt: nobody else could serve in its place.
    is_judged: bool,
    /// It fits into `limits.requests`.
    pub(crate) is_within_limit: bool,
}

impl Turn {
    /// Begins a try. `is_judged`: not at the application beside us.
    pub(crate) fn begin(upstream: &Arc<Upstream>, member: &Arc<Member>, probe: Option<Probe>, is_judged: bool) -> Self {
        let before = upstream.state.in_flight.fetch_add(1, Ordering::Relaxed);
        member.state.load.begin();
        let is_within_limit = before < upstream.policies.limits.requests;
        Self { upstream: upstream.clone(), member: member.clone(), probe, is_judged, is_within_limit }
    }

    /// Takes what the try said about the endpoint. `now` in milliseconds of the process; `random` from 0 to 1, asked for
    /// an ejection alone.
    pub(crate) fn judge(&mut self, verdict: Verdict, now: u32, random: impl FnOnce() -> f64) -> Option<Change> {
        if !self.is_judged {
            return None;
        }
        let state = &self.upstream.state;
        let case = Case {
            policy: &self.upstream.policies.breaker,
            ejected: &state.ejected,
            endpoints: self.upstream.members.len(),
            now,
        };
        let learnt = &self.member.state;
        // Who could not be reached and answers now is well.
        if verdict == Verdict::Success && learnt.breaker.is_unreachable() {
            learnt.load.forgive(now);
        }
        let change = learnt.breaker.record(verdict, self.probe.take(), &case, random)?;
        state.epoch.fetch_add(1, Ordering::Relaxed);
        if matches!(change, Change::Returned) {
            learnt.load.forgive(now);
            learnt.warmth.begin();
        }
        Some(change)
    }

    /// Ends it: it is no load any more, and a probe without a verdict was none.
    pub(crate) fn end(&mut self, now: u32) {
        if let Some(probe) = self.probe.take() {
            self.member.state.breaker.abandon(probe, now);
        }
        self.upstream.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.member.state.load.end();
    }
}
