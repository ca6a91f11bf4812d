//! When to tell a registry what (pure): `now`, randomness and every result are handed in.
//!
//! ```text
//!             ready, application well                 application ill
//!   absent ──────── announce ────────► passing ──────── report ────────► critical
//!     ▲                                   │  ▲                              │
//!     │                                   │  └────── report, if allowed ────┘
//!     └──── the registry forgot us ───────┴──────── drain: withdraw ──► left
//! ```
//!
//! What changed is written, and nothing else: consul-ecs wrote the state of each task once a second to the leader until
//! 0.10 (consul-ecs#309). Between changes a *heartbeat* repeats the last word to the agent, which passes nothing on. Bad
//! news goes out at once; good news (first, back after a failure, back after being forgotten, redefined) costs one of a
//! few writes that are earned over time, so that whatever flaps, the registry sees a write in ten seconds.

mod allowance;
pub(crate) mod leftovers;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use meshless_discovery::{Condition, Error};

use crate::follow::Backoff;
use crate::upstream::health::Condition as Checked;
use allowance::Allowance;

/// First wait after a failure is at most this long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait after failures: the agent is near, and one that is back should hear of us soon.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How often it is tried to look for what a predecessor left.
const CLEANINGS: u32 = 3;

/// One exchange with the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Write {
    /// Write the entry.
    Announce(Condition),
    /// Remove what a predecessor left.
    Clean,
    /// Say again what is known, or look whether the entry is there; no change.
    Heartbeat(Condition),
    /// Say what is new.
    Report(Condition),
    /// Remove the entry.
    Withdraw,
}

impl Write {
    /// The word in metrics and logs.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Announce(_) => "announce",
            Self::Clean => "clean",
            Self::Heartbeat(_) => "heartbeat",
            Self::Report(_) => "report",
            Self::Withdraw => "withdraw",
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, for ever: the entry is gone and nobody wants it back.
    Left,
    /// Nothing until then; `None`: until something happens.
    Wait(Option<Instant>),
    /// This, now. It is under way until [`Course::done`].
    Write(Write),
}

/// Where we stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Absent,
    Present {
        told: Condition,
        beat_at: Instant,
    },
    /// An announcement failed in a way that it may have arrived all the same.
    Unsure,
}

/// Where we stand, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Critical,
    Left,
    Passing,
}

impl State {
    /// The word in views and metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Critical => "critical",
            Self::Left => "left",
            Self::Passing => "passing",
        }
    }
}

/// The course of one registration.
#[derive(Debug)]
pub(crate) struct Course {
    /// Time between two words.
    beat: Duration,
    /// The application is checked by us: its state decides.
    is_checked: bool,
    is_ready: bool,
    is_leaving: bool,
    application: Checked,
    standing: Standing,
    /// What is written is not what is wanted.
    is_stale: bool,
    under_way: Option<Write>,
    retry_at: Option<Instant>,
    backoff: Backoff,
    allowance: Allowance,
    clean_at: Option<Instant>,
    cleanings: u32,
}

impl Course {
    /// A registration that has to be renewed at least every `ttl`; `is_checked`: only while the application is well.
    pub(crate) fn new(ttl: Duration, is_checked: bool) -> Self {
        Self {
            beat: ttl / 3,
            is_checked,
            is_ready: false,
            is_leaving: false,
            application: Checked::Unknown,
            standing: Standing::Absent,
            is_stale: false,
            under_way: None,
            retry_at: None,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT.min(ttl / 3)),
            allowance: Allowance::default(),
            clean_at: None,
            cleanings: CLEANINGS,
        }
    }

    /// The gateway is ready.
    pub(crate) fn ready(&mut self) {
        self.is_ready = true;
    }

    /// What our checks say of the application.
    pub(crate) fn checked(&mut self, application: Checked) {
        self.application = application;
    }

    /// The entry goes on under other rules; `is_written_anew`: there is something else in it.
    pub(crate) fn redefine(&mut self, ttl: Duration, is_checked: bool, is_written_anew: bool) {
        let fresh = Self::new(ttl, is_checked);
        (self.beat, self.is_checked, self.backoff) = (fresh.beat, is_checked, fresh.backoff);
        self.is_stale |= is_written_anew;
        self.retry_at = None;
        if !is_checked {
            self.application = Checked::Unknown;
        }
    }

    /// We go: the entry is to be removed, whatever waits.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
        self.retry_at = None;
    }

    /// Where we stand.
    pub(crate) fn state(&self) -> State {
        match self.standing {
            Standing::Absent | Standing::Unsure if self.is_leaving => State::Left,
            Standing::Absent | Standing::Unsure => State::Absent,
            Standing::Present { told: Condition::Passing, .. } => State::Passing,
            Standing::Present { told: Condition::Critical, .. } => State::Critical,
        }
    }

    /// Tells whether anything is left to be done after [`Course::leave`].
    pub(crate) fn is_left(&self) -> bool {
        self.is_leaving && self.under_way.is_none() && self.standing == Standing::Absent
    }

    /// Returns what is to be done; asked after everything that happened, and when a wait is over.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        if self.under_way.is_some() {
            return Next::Wait(None);
        }
        if let Some(at) = self.retry_at.filter(|at| *at > now) {
            return Next::Wait(Some(at));
        }
        self.retry_at = None;
        let next = self.decide(now);
        if let Next::Write(write) = next {
            self.under_way = Some(write);
        }
        next
    }

    fn decide(&self, now: Instant) -> Next {
        let word = if self.is_well() { Condition::Passing } else { Condition::Critical };
        let (told, beat_at) = match self.standing {
            Standing::Absent if self.is_leaving => return Next::Left,
            Standing::Unsure | Standing::Present { .. } if self.is_leaving => return Next::Write(Write::Withdraw),
            // What may be there says that we are well, and nobody would renew it.
            Standing::Unsure if !self.is_wanted() => return Next::Write(Write::Withdraw),
            Standing::Absent if !self.is_wanted() => return Next::Wait(None),
            Standing::Absent | Standing::Unsure => return self.allowed(Write::Announce(Condition::Passing), None, now),
            Standing::Present { told, beat_at } => (told, beat_at),
        };
        if (told, word) == (Condition::Passing, Condition::Critical) {
            return Next::Write(Write::Report(word));
        }
        // Before anything that may fail for another reason: the entry must not expire.
        if beat_at <= now {
            return Next::Write(Write::Heartbeat(told));
        }
        if self.is_stale {
            return self.allowed(Write::Announce(word), Some(beat_at), now);
        }
        if told != word {
            return self.allowed(Write::Report(word), Some(beat_at), now);
        }
        match self.clean_at.filter(|_| self.cleanings > 0) {
            Some(at) if at <= now => Next::Write(Write::Clean),
            Some(at) => Next::Wait(Some(at.min(beat_at))),
            None => Next::Wait(Some(beat_at)),
        }
    }

    /// Good news: it waits for its turn.
    fn allowed(&self, write: Write, or: Option<Instant>, now: Instant) -> Next {
        let at = self.allowance.next(now);
        if at <= now { Next::Write(write) } else { Next::Wait(Some(or.map_or(at, |or| or.min(at)))) }
    }

    /// How the write that was under way ended; `random` is for waits.
    pub(crate) fn done(&mut self, result: Result<(), &Error>, now: Instant, random: &mut fastrand::Rng) {
        let Some(write) = self.under_way.take() else { return };
        if write == Write::Clean {
            self.cleanings = if result.is_ok() { 0 } else { self.cleanings - 1 };
            self.clean_at = Some(now + self.beat);
            return;
        }
        let error = match result {
            Ok(()) => {
                self.backoff.reset();
                self.succeeded(write, now, random);
                return;
            }
            Err(error) => error,
        };
        if let (Write::Report(_) | Write::Heartbeat(_), Error::Gone(_)) = (write, error) {
            // The agent answers, and has forgotten us: it was restarted, or somebody removed us.
            self.standing = Standing::Absent;
            self.backoff.reset();
            return;
        }
        if let (Write::Announce(_), Standing::Absent, Error::Unreachable(_)) = (write, self.standing, error) {
            self.standing = Standing::Unsure;
        }
        let wait = match error {
            Error::Throttled { retry_after: Some(asked) } => self.backoff.asked(*asked, random),
            _ => self.backoff.next(random),
        };
        self.retry_at = Some(now + wait);
    }

    fn succeeded(&mut self, write: Write, now: Instant, random: &mut fastrand::Rng) {
        // Up to a tenth earlier, so that a thousand gateways that began together do not stay together.
        let beat_at = now + self.beat.mul_f64(1.0 - 0.1 * random.f64());
        let was = self.standing;
        match write {
            Write::Announce(told) => {
                self.allowance.take(now);
                self.is_stale = false;
                self.standing = Standing::Present { told, beat_at };
                if !matches!(was, Standing::Present { .. }) {
                    self.clean_at = Some(now);
                }
            }
            Write::Report(told) => {
                if told == Condition::Passing {
                    self.allowance.take(now);
                }
                self.standing = Standing::Present { told, beat_at };
            }
            Write::Heartbeat(told) => self.standing = Standing::Present { told, beat_at },
            Write::Withdraw => self.standing = Standing::Absent,
            Write::Clean => {}
        }
    }

    fn is_well(&self) -> bool {
        !self.is_checked || self.application != Checked::Bad
    }

    fn is_wanted(&self) -> bool {
        self.is_ready && (!self.is_checked || self.application == Checked::Good)
    }
}
