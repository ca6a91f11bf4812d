//! When an endpoint is ejected, and when it comes back (pure; `now` and randomness are handed in).
//!
//! ```text
//!          5 failures in a row, or < 80 % of ≥ 10 requests in 10 s good
//!   In ───────────────────────────────────────────────────────────────► Out, 1 s … 60 s
//!   ▲ ▲                                                                  │  ▲
//!   │ └── a good health check ───────────────────────────────────────────┤  │ the probe failed: next longer ejection
//!   │                                                the time is over:   ▼  │
//!   └──────────────── the probe was good ─────────────────────────── Probing, one request at a time
//! ```
//!
//! A [`Breaker`] is shared by the workers and is two cache lines of relaxed atomics: the state is one word that changes
//! by compare and swap, the window is a ring of exact counts. A success of an endpoint that is well costs one load and one
//! compare and swap. How often it was ejected in a row is forgotten when it has been back for as long as the longest ejection.

mod ejected;
mod state;
#[cfg(test)]
mod tests;
mod window;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use self::ejected::Ejected;
use self::state::{MOST_CONSECUTIVE, MOST_TIMES, Phase, State};
use self::window::{BUCKETS, Counts, Window};
pub(crate) use super::verdict::{Cause, Verdict};
use crate::config::Breaker as Policy;

/// How long the right to probe is held, in milliseconds: a probe that has no result by then is lost, and another request
/// may be one. A result that comes later still counts, until the next ejection.
pub(crate) const PROBE_PATIENCE: u32 = 10_000;
/// No time in the word lies further ahead than this, in milliseconds; what seems to is long over, and the clock has
/// come round. Twice the longest ejection that can be configured.
const HORIZON: u32 = 2 * 60 * 60 * 1000;

/// What is known of one endpoint's failures.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Breaker {
    state: AtomicU64,
    /// Ejections since the endpoint is known.
    ejections: AtomicU32,
    window: Window,
}

/// Under which circumstances something is recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) policy: &'a Policy,
    /// Of the endpoint's upstream.
    pub(crate) ejected: &'a Ejected,
    /// How many endpoints the upstream has.
    pub(crate) endpoints: usize,
    /// Milliseconds of the process.
    pub(crate) now: u32,
}

/// Whether a request may go to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admit {
    /// It is ejected, or its probe is on its way.
    No,
    /// This request is its probe: its result must be recorded with the token, or the token given back.
    Probe(Probe),
    Yes,
}

/// Whether a request might go to an endpoint; asking claims nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usable {
    /// Its ejection is over: one request may be its probe.
    Due,
    No,
    Yes,
}

/// The right to be the probe of one ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    generation: u8,
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Too many failures in a row.
    Consecutive,
    /// The success rate was too low.
    SuccessRate,
    /// It was ejected, and its probe failed.
    Probe,
}

impl Reason {
    /// The label value in metrics and views.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::Probe => "probe",
            Self::SuccessRate => "success_rate",
        }
    }
}

/// What recording a result changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is ejected now.
    Ejected {
        reason: Reason,
        /// The failure that tipped the scales.
        cause: Cause,
        /// For how long.
        lasting: Duration,
        /// The how many-th ejection in a row this is.
        times: u32,
    },
    /// It is back.
    Returned,
    /// It would be ejected, but `max_ejected` of its upstream's endpoints are already.
    Spared(Reason),
}

/// What people are told about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) usable: Usable,
    /// A request is its probe just now.
    pub(crate) is_probing: bool,
    /// What is left of the ejection; zero where it is not ejected, or may be probed.
    pub(crate) left: Duration,
    /// Ejections in a row, this one included; 0 once they are forgotten.
    pub(crate) times: u32,
    /// Why it was ejected last, and by what; `None` where it never was.
    pub(crate) last: Option<(Reason, Cause)>,
    /// Ejections since the endpoint is known.
    pub(crate) ejections: u32,
    /// Failures in a row.
    pub(crate) consecutive: u32,
    /// Requests in the window, and how many of them failed or were limited.
    pub(crate) requests: u64,
    pub(crate) failures: u64,
}

impl Breaker {
    /// Asks whether a request may go to the endpoint. Where its ejection is over, this request gets the right to be
    /// its probe, unless another one has it.
    pub(crate) fn admits(&self, now: u32) -> Admit {
        let word = self.state.load(Ordering::Relaxed);
        let state = State::unpack(word);
        match usable(state, now) {
            Usable::Yes => Admit::Yes,
            Usable::No => Admit::No,
            Usable::Due => {
                let probing = State { phase: Phase::Probing, at: now.wrapping_add(PROBE_PATIENCE), ..state };
                // Who loses the race is not the probe.
                if self.swap(word, probing) { Admit::Probe(Probe { generation: state.generation }) } else { Admit::No }
            }
        }
    }

    /// Asks the same without claiming anything.
    pub(crate) fn usable(&self, now: u32) -> Usable {
        usable(self.load(), now)
    }

    /// Returns after how many milliseconds its ejection, or the patience with its probe, is over; 0: it is. `None`: it is
    /// not ejected.
    pub(crate) fn ends_in(&self, now: u32) -> Option<u32> {
        let state = self.load();
        match state.phase {
            Phase::In => None,
            Phase::Out | Phase::Probing if is_over(state.at, now) => Some(0),
            Phase::Out | Phase::Probing => Some(state.at.wrapping_sub(now)),
            Phase::Gone => Some(HORIZON),
        }
    }

    /// Tells whether the last thing that was learnt of the endpoint is that no connection could be made.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.load().unreachable
    }

    /// Takes what a try said about the endpoint. `probe` is what [`Breaker::admits`] gave for this try; while the endpoint
    /// is ejected, only its probe decides. `random` is from 0 to 1, asked for an ejection alone.
    pub(crate) fn record(
        &self,
        verdict: Verdict,
        probe: Option<Probe>,
        case: &Case<'_>,
        random: impl FnOnce() -> f64,
    ) -> Option<Change> {
        let mut word = self.state.load(Ordering::Relaxed);
        let mut state = State::unpack(word);
        if state.phase == Phase::In {
            self.window.add(verdict != Verdict::Success, bucket(case.policy), case.now);
        }
        let mut random = Some(random);
        loop {
            let next = after(state, verdict);
            let decides = probe.is_some_and(|probe| probe.generation == state.generation);
            let eject = match (state.phase, verdict) {
                (Phase::Gone, _) => return None,
                (Phase::In, _) => self.wants_ejection(&next, verdict, case),
                (Phase::Out | Phase::Probing, Verdict::Success) if decides => {
                    // First, so that nothing is lost that is counted after the return.
                    self.window.clear();
                    if self.swap(word, returned(next, case.now)) {
                        case.ejected.release();
                        return Some(Change::Returned);
                    }
                    (word, state) = self.again();
                    continue;
                }
                (Phase::Out | Phase::Probing, _) => decides.then_some((Reason::Probe, cause(verdict))),
            };
            let mut change = None;
            let mut after = next;
            let holds = state.phase != Phase::In;
            if let Some((reason, cause)) = eject {
                // What cannot be connected to serves nobody: to keep it among the others, because too many of them are out,
                // would help nobody either.
                let share = if cause == Cause::Connect { 1.0 } else { case.policy.max_ejected };
                if holds || case.ejected.claim(share, case.endpoints) {
                    let times = if holds { state.times } else { standing_times(state, case) };
                    let times = (times + 1).min(MOST_TIMES);
                    let lasting = lasting(case.policy, times, random.take().map_or(0.5, |random| random()));
                    after = ejected(next, reason, cause, times, case.now.wrapping_add(lasting));
                    let lasting = Duration::from_millis(lasting.into());
                    change = Some(Change::Ejected { reason, cause, lasting, times });
                } else {
                    change = Some(Change::Spared(reason));
                }
            }
            if after == state || self.swap(word, after) {
                if matches!(change, Some(Change::Ejected { .. })) {
                    self.ejections.fetch_add(1, Ordering::Relaxed);
                }
                return change;
            }
            if !holds && matches!(change, Some(Change::Ejected { .. })) {
                case.ejected.release();
            }
            (word, state) = self.again();
        }
    }

    /// Gives the right to probe back: the request ended without a word about the endpoint (its client went away).
    pub(crate) fn abandon(&self, probe: Probe, now: u32) {
        let word = self.state.load(Ordering::Relaxed);
        let state = State::unpack(word);
        if state.phase == Phase::Probing && state.generation == probe.generation {
            // Who is faster has something to say.
            self.swap(word, State { phase: Phase::Out, at: now, ..state });
        }
    }

    /// An active health check was good: the endpoint is back at once, as with Envoy. True: it was ejected.
    pub(crate) fn heal(&self, ejected: &Ejected, now: u32) -> bool {
        loop {
            let word = self.state.load(Ordering::Relaxed);
            let state = State::unpack(word);
            if !matches!(state.phase, Phase::Out | Phase::Probing) {
                return false;
            }
            self.window.clear();
            if self.swap(word, returned(State { unreachable: false, ..state }, now)) {
                ejected.release();
                return true;
            }
        }
    }

    /// The endpoint belongs to its upstream no more: its place among the ejected is free, and nothing that requests
    /// under way have to say about it counts.
    pub(crate) fn retire(&self, ejected: &Ejected) {
        loop {
            let word = self.state.load(Ordering::Relaxed);
            let state = State::unpack(word);
            if self.swap(word, State { phase: Phase::Gone, ..state }) {
                if matches!(state.phase, Phase::Out | Phase::Probing) {
                    ejected.release();
                }
                return;
            }
        }
    }

    /// Returns what people are told.
    pub(crate) fn view(&self, policy: &Policy, now: u32) -> View {
        let state = self.load();
        let ejections = self.ejections.load(Ordering::Relaxed);
        let Counts { requests, failures } = self.window.counts(bucket(policy), now);
        let is_in = state.phase == Phase::In;
        View {
            usable: usable(state, now),
            is_probing: state.phase == Phase::Probing && !is_over(state.at, now),
            left: match state.phase {
                Phase::Out if !is_over(state.at, now) => Duration::from_millis(state.at.wrapping_sub(now).into()),
                _ => Duration::ZERO,
            },
            times: if is_in && is_forgiven(state, policy, now) { 0 } else { state.times },
            last: (ejections > 0).then_some((state.reason, state.cause)),
            ejections,
            consecutive: state.consecutive,
            requests,
            failures,
        }
    }

    /// Says whether what is known by now is reason for an ejection. Failures in a row are looked at first: they need no sum.
    fn wants_ejection(&self, next: &State, verdict: Verdict, case: &Case<'_>) -> Option<(Reason, Cause)> {
        let policy = case.policy;
        if verdict == Verdict::Success {
            return None;
        }
        let is_failure = matches!(verdict, Verdict::Failure(_));
        if is_failure && policy.consecutive > 0 && next.consecutive >= policy.consecutive.min(MOST_CONSECUTIVE) {
            return Some((Reason::Consecutive, cause(verdict)));
        }
        let Counts { requests, failures } = self.window.counts(bucket(policy), case.now);
        let good = requests.saturating_sub(failures) as f64;
        let is_low = requests >= policy.min_requests.into() && good < policy.success_below * requests as f64;
        is_low.then_some((Reason::SuccessRate, cause(verdict)))
    }

    fn load(&self) -> State {
        State::unpack(self.state.load(Ordering::Relaxed))
    }

    fn again(&self) -> (u64, State) {
        let word = self.state.load(Ordering::Relaxed);
        (word, State::unpack(word))
    }

    fn swap(&self, before: u64, after: State) -> bool {
        self.state.compare_exchange(before, after.pack(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn usable(state: State, now: u32) -> Usable {
    match state.phase {
        Phase::In => Usable::Yes,
        Phase::Out | Phase::Probing if is_over(state.at, now) => Usable::Due,
        Phase::Gone | Phase::Out | Phase::Probing => Usable::No,
    }
}

fn is_over(at: u32, now: u32) -> bool {
    let left = at.wrapping_sub(now);
    left == 0 || left > HORIZON
}

/// What a verdict changes where nobody is ejected.
fn after(state: State, verdict: Verdict) -> State {
    let unreachable = verdict == Verdict::Failure(Cause::Connect);
    let consecutive = match (state.phase, verdict) {
        (Phase::In, Verdict::Success) => 0,
        (Phase::In, Verdict::Failure(_)) => (state.consecutive + 1).min(MOST_CONSECUTIVE),
        _ => state.consecutive,
    };
    State { unreachable, consecutive, ..state }
}

/// Back among the others. How often it was ejected stays known for a while.
fn returned(state: State, now: u32) -> State {
    State { phase: Phase::In, at: now, consecutive: 0, ..state }
}

fn ejected(state: State, reason: Reason, cause: Cause, times: u32, at: u32) -> State {
    let generation = state.generation.wrapping_add(1);
    State { phase: Phase::Out, at, times, reason, cause, generation, ..state }
}

/// Ejections in a row of an endpoint that is in.
fn standing_times(state: State, case: &Case<'_>) -> u32 {
    if is_forgiven(state, case.policy, case.now) { 0 } else { state.times }
}

/// It has been back for as long as the longest ejection. A time just ahead is another worker's, read a moment later.
fn is_forgiven(state: State, policy: &Policy, now: u32) -> bool {
    (millis(policy.eject.1)..u32::MAX - HORIZON).contains(&now.wrapping_sub(state.at))
}

/// The n-th ejection in a row: equal jitter over a ceiling that doubles, so from 1 s to 2 s, from 2 s to 4 s, …, from
/// 30 s to 60 s. Gateways that saw the same failure do not send their probes at the same moment.
fn lasting(policy: &Policy, times: u32, random: f64) -> u32 {
    let (shortest, longest) = policy.eject;
    let ceiling = shortest.saturating_mul(1 << times.min(MOST_TIMES - 1)).min(longest);
    let floor = (ceiling / 2).max(shortest);
    millis(floor + (ceiling.saturating_sub(floor)).mul_f64(random.clamp(0.0, 1.0))).max(1)
}

/// The length of a bucket of the window, in milliseconds.
fn bucket(policy: &Policy) -> u32 {
    millis(policy.window) / BUCKETS
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn cause(verdict: Verdict) -> Cause {
    match verdict {
        Verdict::Failure(cause) => cause,
        Verdict::Limited | Verdict::Success => Cause::Answer,
    }
}
