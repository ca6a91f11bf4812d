use proptest::prelude::*;

use super::*;

const GOOD: Verdict = Verdict::Success;
const BAD: Verdict = Verdict::Failure(Cause::Answer);

/// An endpoint of an upstream with `endpoints` of them, on a clock that the test moves.
struct Bench {
    breaker: Breaker,
    policy: Policy,
    ejected: Ejected,
    endpoints: usize,
    now: u32,
}

impl Bench {
    fn new() -> Self {
        Self {
            breaker: Breaker::default(),
            policy: Policy::default(),
            ejected: Ejected::default(),
            endpoints: 4,
            now: 0,
        }
    }

    fn case(&self) -> Case<'_> {
        Case { policy: &self.policy, ejected: &self.ejected, endpoints: self.endpoints, now: self.now }
    }

    fn see(&self, verdict: Verdict) -> Option<Change> {
        self.breaker.record(verdict, None, &self.case(), || 0.0)
    }

    fn probe(&self) -> Probe {
        match self.breaker.admits(self.now) {
            Admit::Probe(probe) => probe,
            other => panic!("no probe but {other:?}"),
        }
    }

    fn probed(&self, verdict: Verdict, probe: Probe) -> Option<Change> {
        self.breaker.record(verdict, Some(probe), &self.case(), || 0.0)
    }

    /// Ejects the endpoint by failures in a row.
    fn eject(&self) -> Duration {
        (1..self.policy.consecutive).for_each(|_| assert_eq!(self.see(BAD), None));
        match self.see(BAD) {
            Some(Change::Ejected { lasting, .. }) => lasting,
            other => panic!("not ejected but {other:?}"),
        }
    }

    /// Passes the time of an ejection and brings the endpoint back.
    fn bring_back(&mut self) {
        self.now += u32::try_from(self.breaker.view(&self.policy, self.now).left.as_millis()).unwrap();
        assert_eq!(self.probed(GOOD, self.probe()), Some(Change::Returned));
    }

    fn view(&self) -> View {
        self.breaker.view(&self.policy, self.now)
    }
}

#[test]
fn five_failures_in_a_row_eject_and_a_success_between_them_begins_anew() {
    let bench = Bench::new();
    (0..4).for_each(|_| assert_eq!(bench.see(BAD), None));
    assert_eq!(bench.see(GOOD), None);
    let lasting = bench.eject();
    assert_eq!(lasting, Duration::from_secs(1));
    assert_eq!(bench.breaker.admits(999), Admit::No);
    let view = bench.view();
    assert_eq!((view.times, view.ejections, view.last), (1, 1, Some((Reason::Consecutive, Cause::Answer))));
    assert_eq!(view.left, lasting);
}

#[test]
fn a_low_success_rate_ejects_without_failures_in_a_row() {
    let mut bench = Bench::new();
    // Three of four are good: 75 %.
    let changes: Vec<_> = (0..40)
        .map_while(|request| {
            bench.now += 20;
            Some(bench.see(if request % 4 == 3 { BAD } else { GOOD }))
        })
        .flatten()
        .collect();
    assert!(
        matches!(changes[..], [Change::Ejected { reason: Reason::SuccessRate, cause: Cause::Answer, .. }]),
        "{changes:?}"
    );
    // What follows while it is out is not counted.
    assert_eq!(bench.view().requests, 12, "ten are needed, and the twelfth is the next failure");
}

#[test]
fn exactly_the_success_rate_is_enough_and_too_few_requests_say_nothing() {
    let bench = Bench::new();
    for request in 0..100 {
        assert_eq!(bench.see(if request % 5 == 4 { BAD } else { GOOD }), None, "80 % at request {request}");
    }
    let bench = Bench::new();
    for request in 0..9 {
        assert_eq!(bench.see(if request % 2 == 0 { BAD } else { GOOD }), None, "nine requests");
    }
    assert!(bench.see(BAD).is_some(), "the tenth");
}

#[test]
fn a_burst_counts_as_much_as_the_same_requests_spread_over_the_window() {
    for step in [0, 2] {
        let mut bench = Bench::new();
        (0..2000).for_each(|_| assert_eq!(bench.see(GOOD), None));
        let failures = (0..2000).take_while(|request| {
            bench.now += step;
            // Every fourth is good, so that failures in a row play no part.
            bench.see(if request % 4 == 3 { GOOD } else { BAD }).is_none()
        });
        let count = failures.count();
        // x requests, three quarters of them bad: 1 − 0.75 x / (2000 + x) < 0.8 from x = 728 on.
        assert!((720..=732).contains(&count), "after {count} with a step of {step} ms");
    }
}

#[test]
fn a_limit_counts_for_the_rate_but_not_in_a_row_and_fails_a_probe() {
    let mut bench = Bench::new();
    (0..4).for_each(|_| assert_eq!(bench.see(BAD), None));
    (0..5).for_each(|_| assert_eq!(bench.see(Verdict::Limited), None));
    assert!(matches!(bench.see(Verdict::Limited), Some(Change::Ejected { reason: Reason::SuccessRate, .. })));
    bench.now = 1000;
    let change = bench.probed(Verdict::Limited, bench.probe());
    assert!(matches!(change, Some(Change::Ejected { reason: Reason::Probe, times: 2, .. })), "{change:?}");
}

#[test]
fn only_one_request_at_a_time_is_the_probe_and_a_good_one_brings_it_back_clean() {
    let mut bench = Bench::new();
    bench.eject();
    bench.now = 1000;
    assert_eq!(bench.breaker.usable(bench.now), Usable::Due);
    let probe = bench.probe();
    assert_eq!(bench.breaker.admits(bench.now), Admit::No);
    assert_eq!(bench.see(GOOD), None, "an answer that is not the probe's decides nothing");
    assert_eq!(bench.breaker.admits(bench.now), Admit::No);
    assert_eq!(bench.probed(GOOD, probe), Some(Change::Returned));
    assert_eq!(bench.breaker.admits(bench.now), Admit::Yes);
    assert_eq!(bench.ejected.count(), 0);
    let view = bench.view();
    assert_eq!((view.requests, view.consecutive, view.times), (0, 0, 1));
}

#[test]
fn a_failed_probe_doubles_the_ejection_up_to_the_longest() {
    let mut bench = Bench::new();
    let mut lasting = vec![bench.eject()];
    for _ in 0..8 {
        bench.now += u32::try_from(lasting.last().unwrap().as_millis()).unwrap();
        match bench.probed(BAD, bench.probe()) {
            Some(Change::Ejected { lasting: next, reason: Reason::Probe, .. }) => lasting.push(next),
            other => panic!("{other:?}"),
        }
    }
    let seconds: Vec<_> = lasting.iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30, 30], "the lower ends of the jitter");
    assert_eq!(bench.ejected.count(), 1, "it is one endpoint, however often");
}

#[test]
fn jitter_spreads_an_ejection_over_its_upper_half_and_keeps_to_the_range() {
    let policy = Policy::default();
    assert_eq!([0.0, 0.5, 1.0].map(|random| lasting(&policy, 1, random)), [1000, 1500, 2000]);
    assert_eq!([0.0, 0.5, 1.0].map(|random| lasting(&policy, 6, random)), [30_000, 45_000, 60_000]);
    assert_eq!([0.0, 1.0].map(|random| lasting(&policy, 31, random)), [30_000, 60_000]);
    let fixed = Policy { eject: (Duration::from_secs(30), Duration::from_secs(30)), ..Policy::default() };
    assert_eq!([0.0, 1.0].map(|random| lasting(&fixed, 4, random)), [30_000, 30_000]);
}

#[test]
fn ejections_in_a_row_are_forgotten_after_it_stayed_good_for_the_longest_ejection() {
    let mut bench = Bench::new();
    bench.eject();
    bench.bring_back();
    bench.now += 59_999;
    assert_eq!(bench.view().times, 1);
    assert_eq!(bench.eject(), Duration::from_secs(2));
    bench.bring_back();
    bench.now += 60_000;
    assert_eq!(bench.view().times, 0);
    assert_eq!(bench.eject(), Duration::from_secs(1));
}

#[test]
fn a_probe_without_a_result_expires_and_its_late_result_still_counts() {
    let mut bench = Bench::new();
    bench.eject();
    bench.now = 1000;
    let lost = bench.probe();
    bench.now += PROBE_PATIENCE - 1;
    assert_eq!(bench.breaker.admits(bench.now), Admit::No);
    bench.now += 1;
    let second = bench.probe();
    assert!(matches!(bench.probed(BAD, lost), Some(Change::Ejected { times: 2, .. })));
    assert_eq!(bench.probed(GOOD, second), None, "it belongs to the ejection before");
    assert_eq!(bench.breaker.admits(bench.now), Admit::No);
}

#[test]
fn a_probe_whose_client_went_away_is_given_to_the_next_request() {
    let mut bench = Bench::new();
    bench.eject();
    bench.now = 1000;
    let probe = bench.probe();
    bench.breaker.abandon(probe, bench.now);
    let next = bench.probe();
    assert_eq!(bench.probed(GOOD, next), Some(Change::Returned));
    bench.breaker.abandon(probe, bench.now);
    assert_eq!(bench.breaker.admits(bench.now), Admit::Yes);
}

#[test]
fn no_more_than_the_share_is_ejected_and_the_spared_one_goes_when_there_is_room() {
    let (first, second) = (Bench::new(), Bench::new());
    first.eject();
    let shared = Case { ejected: &first.ejected, endpoints: 3, ..second.case() };
    let see = || second.breaker.record(BAD, None, &shared, || 0.0);
    (0..4).for_each(|_| assert_eq!(see(), None));
    assert_eq!(see(), Some(Change::Spared(Reason::Consecutive)));
    assert_eq!(second.breaker.admits(0), Admit::Yes);
    first.breaker.retire(&first.ejected);
    assert!(matches!(see(), Some(Change::Ejected { .. })));
    assert_eq!(first.ejected.count(), 1);
}

#[test]
fn the_only_endpoint_may_be_ejected() {
    let bench = Bench { endpoints: 1, ..Bench::new() };
    bench.eject();
    assert_eq!(bench.breaker.usable(0), Usable::No);
}

#[test]
fn an_endpoint_that_is_gone_frees_its_place_once_and_is_never_ejected_again() {
    let bench = Bench::new();
    bench.eject();
    bench.breaker.retire(&bench.ejected);
    bench.breaker.retire(&bench.ejected);
    (0..50).for_each(|_| assert_eq!(bench.see(BAD), None));
    assert!(!bench.breaker.heal(&bench.ejected, 0));
    assert_eq!(bench.ejected.count(), 0);
}

#[test]
fn a_good_health_check_brings_it_back_at_once() {
    let bench = Bench::new();
    assert!(!bench.breaker.heal(&bench.ejected, 0), "it was in");
    bench.eject();
    assert!(bench.breaker.heal(&bench.ejected, 10));
    assert_eq!((bench.breaker.admits(10), bench.ejected.count()), (Admit::Yes, 0));
    assert_eq!(bench.eject(), Duration::from_secs(2), "it failed again soon after");
}

#[test]
fn a_failure_to_connect_is_remembered_until_something_else_is_learnt() {
    let bench = Bench::new();
    bench.see(Verdict::Failure(Cause::Connect));
    assert!(bench.breaker.is_unreachable());
    bench.see(BAD);
    assert!(!bench.breaker.is_unreachable(), "it answered");
    let changes: Vec<_> = (0..3).filter_map(|_| bench.see(Verdict::Failure(Cause::Connect))).collect();
    assert!(
        matches!(changes[..], [Change::Ejected { reason: Reason::Consecutive, cause: Cause::Connect, .. }]),
        "{changes:?}"
    );
    assert!(bench.breaker.is_unreachable());
    bench.see(GOOD);
    assert!(!bench.breaker.is_unreachable(), "a request that panic sent to it was served");
    assert_eq!(bench.breaker.admits(0), Admit::No);
}

#[test]
fn nothing_is_ejected_where_both_rules_are_off() {
    let policy = Policy { consecutive: 0, success_below: 0.0, ..Policy::default() };
    let bench = Bench { policy, ..Bench::new() };
    (0..1000).for_each(|_| assert_eq!(bench.see(BAD), None));
}

#[test]
fn an_ejection_ends_on_time_when_the_clock_comes_round() {
    let mut bench = Bench { now: u32::MAX - 500, ..Bench::new() };
    bench.eject();
    assert_eq!(bench.breaker.usable(bench.now.wrapping_add(999)), Usable::No);
    bench.now = bench.now.wrapping_add(1000);
    bench.probe();
    // Nobody asked for it for 30 days.
    let bench = Bench::new();
    bench.eject();
    assert_eq!(bench.breaker.usable(30 * 24 * 60 * 60 * 1000), Usable::Due);
}

#[test]
fn workers_give_out_one_probe_and_eject_once() {
    let bench = Bench::new();
    let count = |of: &(dyn Fn() -> bool + Sync)| {
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| (0..500).filter(|_| of()).count())).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum::<usize>()
        })
    };
    assert_eq!(count(&|| matches!(bench.see(BAD), Some(Change::Ejected { .. }))), 1);
    assert_eq!(count(&|| matches!(bench.breaker.admits(2000), Admit::Probe(_))), 1);
    assert_eq!((bench.ejected.count(), bench.view().ejections), (1, 1));
}

#[test]
fn it_fits_in_two_cache_lines() {
    assert_eq!(size_of::<Breaker>(), 128);
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u32),
    See(Verdict),
    Claim,
    Result(Verdict),
    Abandon,
    Heal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let verdict = || {
        prop_oneof![
            Just(Verdict::Success),
            Just(Verdict::Limited),
            Just(Verdict::Failure(Cause::Answer)),
            Just(Verdict::Failure(Cause::Connect)),
        ]
    };
    let step = prop_oneof![
        2 => (0u32..20_000).prop_map(Step::Wait),
        8 => verdict().prop_map(Step::See),
        3 => Just(Step::Claim),
        3 => verdict().prop_map(Step::Result),
        1 => Just(Step::Abandon),
        1 => Just(Step::Heal),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever happens, an endpoint may be used or probed again within the longest ejection and the patience for a
    /// probe, and the places that are taken are those of endpoints that are out.
    #[test]
    fn it_is_never_stuck(steps in steps(), start: u32, random in 0.0..1.0) {
        let mut bench = Bench { now: start, ..Bench::new() };
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Wait(time) => bench.now = bench.now.wrapping_add(time),
                Step::See(verdict) => {
                    bench.breaker.record(verdict, None, &bench.case(), || random);
                }
                Step::Claim => match bench.breaker.admits(bench.now) {
                    Admit::Probe(probe) => held.push(probe),
                    Admit::Yes => prop_assert_eq!(bench.view().left, Duration::ZERO),
                    Admit::No => {}
                },
                Step::Result(verdict) => if let Some(probe) = held.pop() {
                    bench.breaker.record(verdict, Some(probe), &bench.case(), || random);
                },
                Step::Abandon => if let Some(probe) = held.pop() {
                    bench.breaker.abandon(probe, bench.now);
                },
                Step::Heal => {
                    bench.breaker.heal(&bench.ejected, bench.now);
                }
            }
            let is_out = bench.breaker.usable(bench.now) != Usable::Yes;
            prop_assert_eq!(bench.ejected.count(), u32::from(is_out));
            prop_assert!(bench.view().left <= Duration::from_mins(1));
            let later = bench.now.wrapping_add(60_000 + PROBE_PATIENCE);
            prop_assert_ne!(bench.breaker.usable(later), Usable::No);
        }
    }
}
