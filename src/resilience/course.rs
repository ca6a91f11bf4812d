//! The course of one request through its tries (pure): after each try, whether it is done, goes on, and after which wait.
//!
//! The proxy drives it with real connections, the simulator with virtual ones; what happens next is decided here alone.
//!
//! There are two ways on. A *requeue* follows a try that no application can have seen: it is always safe, waits for
//! nothing and costs no budget, but goes to another endpoint. A *retry* follows a try that failed: it needs a policy that
//! says so, a request that may be repeated, an attempt, and a place in the budget (Finagle keeps the two apart in the same
//! way).

use std::time::Duration;

use super::budget::Budget;
use super::retry;
use super::verdict::Cause;
use crate::config::{Classify, Retry, RetryOn};

/// Endpoints that one request may try at the most.
pub(crate) const MAX_TRIES: usize = 16;

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ended {
    /// No connection: nothing was sent, and the same endpoint would fail again.
    Connect,
    /// No head of a reply in the time of the try, or of the request.
    Late,
    /// The head of a reply, or all of it where that is a head alone.
    Reply(Answered),
    /// The connection broke, or the stream was reset, before a reply: the application may have seen the request.
    Reset {
        /// The connection had served before: it may have been closed while idle.
        reused: bool,
    },
    /// Provably not seen by the application.
    Unsent,
}

impl Ended {
    /// Returns what a try without a reply says about its endpoint; `None`: nothing.
    ///
    /// What was closed while it was idle, or by an endpoint that goes, is no failure of it. Of a reply its content tells.
    pub(crate) fn blames(self) -> Option<Cause> {
        match self {
            Self::Connect => Some(Cause::Connect),
            Self::Late => Some(Cause::Timeout),
            Self::Reset { reused: false } => Some(Cause::Reset),
            Self::Reset { reused: true } | Self::Unsent | Self::Reply(_) => None,
        }
    }
}

/// What a reply says about whether it may be had better elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// gRPC status, where the whole reply is there already.
    pub(crate) grpc: Option<u8>,
    /// `Retry-After`, from now.
    pub(crate) retry_after: Option<Duration>,
    /// `grpc-retry-pushback-ms`.
    pub(crate) pushback: Option<Pushback>,
    /// A gateway answered it because of a limit of its own: that says "less", not "again".
    pub(crate) is_limit: bool,
}

/// What a gRPC server says about retries (gRFC A6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushback {
    /// None.
    Never,
    /// After so long.
    After(Duration),
}

/// What goes for all tries of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) policy: &'a Retry,
    /// What is retried besides.
    pub(crate) classify: &'a Classify,
    /// Its method may be repeated once an endpoint may have seen it.
    pub(crate) repeats: bool,
    /// The application beside us: it gets no retries, only requeues.
    pub(crate) is_local_hop: bool,
}

/// What holds when a try has ended.
#[derive(Clone, Copy)]
pub(crate) struct Now<'a> {
    /// The request can be sent again from its beginning.
    pub(crate) rewinds: bool,
    /// Time that is left; `None`: no bound.
    pub(crate) left: Option<Duration>,
    /// Of the service, shared by all its requests.
    pub(crate) budget: &'a Budget,
    /// Milliseconds of the process, for the budget.
    pub(crate) millis: u32,
    /// From 0 to 1.
    pub(crate) random: f64,
    /// Tells whether an endpoint is left besides those given.
    pub(crate) another: &'a dyn Fn(&[u64]) -> bool,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Next {
    /// Nothing: the reply is delivered, or the failure told.
    Done,
    /// The same request at another endpoint, at once.
    Requeue,
    /// The same request at any endpoint, at once: the try says nothing about its endpoint.
    Resend,
    /// The request again after a wait.
    Retry {
        wait: Duration,
        /// For the metric: `connect`, `reset`, `status`, `per_try`.
        reason: &'static str,
    },
}

/// How far a request has come.
#[derive(Debug, Default)]
pub(crate) struct Course {
    tried: [u64; MAX_TRIES],
    count: usize,
    retries: u32,
    requeues: u32,
}

impl Course {
    /// A try begins at an endpoint.
    pub(crate) fn tries(&mut self, endpoint: u64) {
        if let Some(place) = self.tried.get_mut(self.count) {
            *place = endpoint;
            self.count += 1;
        }
    }

    /// Returns the endpoints that were tried.
    pub(crate) fn tried(&self) -> &[u64] {
        self.tried.get(..self.count).unwrap_or_default()
    }

    /// Decides what follows a try. A retry is paid for when this returns it.
    pub(crate) fn next(&mut self, ended: Ended, terms: &Terms<'_>, now: &Now<'_>) -> Next {
        let in_time = now.left.is_none_or(|left| !left.is_zero());
        if !now.rewinds || !in_time || self.count == MAX_TRIES {
            return Next::Done;
        }
        let on = |reason| terms.policy.on.contains(&reason);
        match ended {
            Ended::Connect | Ended::Unsent => {
                // Where nothing can be connected to, the same endpoint again is no help; a refused stream may be.
                let elsewhere = (now.another)(self.tried()) || ended == Ended::Unsent;
                if elsewhere && self.requeue() {
                    return Next::Requeue;
                }
                // Alone, it may be restarting: the policy says whether to wait for it.
                if on(RetryOn::Connect) { self.retry("connect", terms, now, Duration::ZERO) } else { Next::Done }
            }
            Ended::Reset { .. } if !terms.repeats => Next::Done,
            // An idle connection that the endpoint closed under our hands says nothing about the endpoint.
            Ended::Reset { reused: true } if self.requeue() => {
                self.count = self.count.saturating_sub(1);
                Next::Resend
            }
            Ended::Reset { .. } if on(RetryOn::Reset) => self.retry("reset", terms, now, Duration::ZERO),
            Ended::Late if terms.repeats && terms.policy.per_try.is_some() => {
                self.retry("per_try", terms, now, Duration::ZERO)
            }
            Ended::Reply(answered) => self.after_reply(&answered, terms, now),
            Ended::Reset { .. } | Ended::Late => Next::Done,
        }
    }

    fn after_reply(&mut self, answered: &Answered, terms: &Terms<'_>, now: &Now<'_>) -> Next {
        let named = retry::on_status(terms.policy, answered.status, answered.grpc)
            || terms.classify.is_retryable(answered.status, answered.grpc);
        // A gRPC server that answers "unavailable" without a message says that it did nothing: whatever the method.
        let may = terms.repeats || answered.grpc == Some(retry::GRPC_UNAVAILABLE);
        if !named || !may || answered.is_limit {
            return Next::Done;
        }
        let at_least = match answered.pushback {
            Some(Pushback::Never) => return Next::Done,
            Some(Pushback::After(wait)) => wait,
            // An endpoint says when *it* is worth asking again; another one may be asked at once.
            None if (now.another)(self.tried()) => Duration::ZERO,
            None => answered.retry_after.unwrap_or_default(),
        };
        self.retry("status", terms, now, at_least)
    }

    fn requeue(&mut self) -> bool {
        let may = self.requeues < retry::MAX_REQUEUES;
        self.requeues += u32::from(may);
        may
    }

    fn retry(&mut self, reason: &'static str, terms: &Terms<'_>, now: &Now<'_>, at_least: Duration) -> Next {
        let Terms { policy, is_local_hop, .. } = *terms;
        if is_local_hop || self.retries + 1 >= policy.attempts {
            return Next::Done;
        }
        let wait = retry::backoff(policy, self.retries + 1, now.random).max(at_least);
        // A retry that could only begin when the request is too late is none, and is not paid for.
        if now.left.is_some_and(|left| left <= wait) || !now.budget.withdraw(policy.min_per_second, now.millis) {
            return Next::Done;
        }
        self.retries += 1;
        Next::Retry { wait, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Retry {
        Retry { attempts: 3, ..Retry::default() }
    }

    static PLAIN: std::sync::LazyLock<Classify> = std::sync::LazyLock::new(Classify::default);

    fn terms(policy: &Retry) -> Terms<'_> {
        Terms { policy, classify: &PLAIN, repeats: true, is_local_hop: false }
    }

    fn now(budget: &Budget) -> Now<'_> {
        Now { rewinds: true, left: Some(Duration::from_secs(1)), budget, millis: 0, random: 1.0, another: &|_| true }
    }

    fn reply(status: u16) -> Ended {
        Ended::Reply(Answered { status, ..Answered::default() })
    }

    #[test]
    fn attempts_count_all_tries_and_waits_grow() {
        let (policy, budget) = (policy(), Budget::new(10.0));
        let mut course = Course::default();
        let waits: Vec<_> = (0..3).map(|_| course.next(reply(503), &terms(&policy), &now(&budget))).collect();
        let retry = |wait| Next::Retry { wait: Duration::from_millis(wait), reason: "status" };
        assert_eq!(waits, [retry(25), retry(50), Next::Done]);
    }

    #[test]
    fn a_retry_needs_a_policy_a_repeatable_method_the_whole_body_a_budget_and_time() {
        let (policy, budget, empty) = (policy(), Budget::new(10.0), Budget::new(0.0));
        let free = Retry { min_per_second: 0.0, ..policy.clone() };
        let next = |ended, terms: &Terms<'_>, now: &Now<'_>| Course::default().next(ended, terms, now);
        assert!(matches!(next(reply(503), &terms(&policy), &now(&budget)), Next::Retry { .. }));
        assert_eq!(next(reply(500), &terms(&policy), &now(&budget)), Next::Done);
        let once = Terms { repeats: false, ..terms(&policy) };
        assert_eq!(next(reply(503), &once, &now(&budget)), Next::Done);
        assert_eq!(next(Ended::Reset { reused: true }, &once, &now(&budget)), Next::Done);
        let local = Terms { is_local_hop: true, ..terms(&policy) };
        assert_eq!(next(reply(503), &local, &now(&budget)), Next::Done);
        let sent = Now { rewinds: false, ..now(&budget) };
        assert_eq!(next(reply(503), &terms(&policy), &sent), Next::Done);
        assert_eq!(next(reply(503), &terms(&free), &now(&empty)), Next::Done);
        let late = Now { left: Some(Duration::from_millis(25)), ..now(&budget) };
        assert_eq!(next(reply(503), &terms(&policy), &late), Next::Done);
    }

    #[test]
    fn what_nobody_saw_is_requeued_whatever_its_method_and_costs_no_budget() {
        let (policy, budget) = (Retry { min_per_second: 0.0, ..policy() }, Budget::new(0.0));
        let post = Terms { repeats: false, ..terms(&policy) };
        let mut course = Course::default();
        for ended in [Ended::Connect, Ended::Unsent, Ended::Connect] {
            assert_eq!(course.next(ended, &post, &now(&budget)), Next::Requeue);
        }
        assert_eq!(course.next(Ended::Unsent, &post, &now(&budget)), Next::Done, "three requeues and no more");
        let alone = Now { another: &|_| false, ..now(&budget) };
        assert_eq!(Course::default().next(Ended::Connect, &post, &alone), Next::Done);
    }

    #[test]
    fn the_only_endpoint_is_waited_for_when_it_cannot_be_connected_to() {
        let (policy, budget) = (policy(), Budget::new(10.0));
        let alone = Now { another: &|_| false, ..now(&budget) };
        let next = Course::default().next(Ended::Connect, &terms(&policy), &alone);
        assert_eq!(next, Next::Retry { wait: Duration::from_millis(25), reason: "connect" });
        let never = Retry { on: [RetryOn::Reset].into(), ..policy };
        assert_eq!(Course::default().next(Ended::Connect, &terms(&never), &alone), Next::Done);
    }

    #[test]
    fn an_idle_connection_that_was_closed_does_not_count_as_a_try_of_its_endpoint() {
        let (policy, budget) = (policy(), Budget::new(10.0));
        let mut course = Course::default();
        course.tries(7);
        assert_eq!(course.next(Ended::Reset { reused: true }, &terms(&policy), &now(&budget)), Next::Resend);
        assert!(course.tried().is_empty());
        course.tries(7);
        let next = course.next(Ended::Reset { reused: false }, &terms(&policy), &now(&budget));
        assert!(matches!(next, Next::Retry { reason: "reset", .. }) && course.tried() == [7]);
    }

    #[test]
    fn an_idle_connection_that_was_closed_blames_nobody_and_silence_does() {
        assert_eq!(Ended::Reset { reused: true }.blames(), None);
        assert_eq!(Ended::Reset { reused: false }.blames(), Some(Cause::Reset));
        assert_eq!((Ended::Unsent.blames(), Ended::Late.blames()), (None, Some(Cause::Timeout)));
    }

    #[test]
    fn retry_after_binds_only_where_the_same_endpoint_would_be_asked_again() {
        let (policy, budget) = (policy(), Budget::new(10.0));
        let busy = Answered { status: 503, retry_after: Some(Duration::from_millis(300)), ..Answered::default() };
        let wait = |another: &dyn Fn(&[u64]) -> bool| match Course::default().next(
            Ended::Reply(busy),
            &terms(&policy),
            &Now { another, ..now(&budget) },
        ) {
            Next::Retry { wait, .. } => wait.as_millis(),
            _ => 0,
        };
        assert_eq!((wait(&|_| true), wait(&|_| false)), (25, 300));
        let long = Answered { retry_after: Some(Duration::from_secs(9)), ..busy };
        let alone = Now { another: &|_| false, ..now(&budget) };
        assert_eq!(Course::default().next(Ended::Reply(long), &terms(&policy), &alone), Next::Done);
    }

    #[test]
    fn a_grpc_server_says_whether_and_when() {
        let (policy, budget) = (policy(), Budget::new(10.0));
        let post = Terms { repeats: false, ..terms(&policy) };
        let unavailable = Answered { status: 200, grpc: Some(14), ..Answered::default() };
        let next = |answered| Course::default().next(Ended::Reply(answered), &post, &now(&budget));
        assert!(matches!(next(unavailable), Next::Retry { .. }));
        assert_eq!(next(Answered { grpc: Some(13), ..unavailable }), Next::Done);
        assert_eq!(next(Answered { pushback: Some(Pushback::Never), ..unavailable }), Next::Done);
        let later = Answered { pushback: Some(Pushback::After(Duration::from_millis(400))), ..unavailable };
        assert_eq!(next(later), Next::Retry { wait: Duration::from_millis(400), reason: "status" });
        assert_eq!(next(Answered { is_limit: true, ..unavailable }), Next::Done, "a limit says less, not again");
    }

    #[test]
    fn a_late_try_is_repeated_only_where_tries_have_a_limit_of_their_own() {
        let budget = Budget::new(10.0);
        let policy = policy();
        assert_eq!(Course::default().next(Ended::Late, &terms(&policy), &now(&budget)), Next::Done);
        let policy = Retry { per_try: Some(Duration::from_secs(2)), ..policy };
        let next = Course::default().next(Ended::Late, &terms(&policy), &now(&budget));
        assert!(matches!(next, Next::Retry { reason: "per_try", .. }));
    }

    #[test]
    fn no_request_tries_more_than_sixteen_endpoints() {
        let (policy, budget) = (Retry { attempts: 100, ..policy() }, Budget::new(10.0));
        let mut course = Course::default();
        let mut tries = 0;
        loop {
            course.tries(tries);
            tries += 1;
            if course.next(reply(503), &terms(&policy), &now(&budget)) == Next::Done {
                break;
            }
        }
        assert_eq!(tries, 16);
    }
}
