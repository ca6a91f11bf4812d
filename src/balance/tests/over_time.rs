//! Peak EWMA on virtual time: nobody is forgotten, nobody bad gets much, one failure is no catastrophe.

use super::*;

/// One request after the other at a rate, each answered before the next: returns when the second of two members was
/// chosen, in milliseconds. `reply` says what a try on a member teaches at a time.
fn chosen(
    members: &[Arc<Member>],
    from: u32,
    per_second: u32,
    seconds: u32,
    seed: u64,
    reply: impl Fn(u64, u32) -> Sample,
) -> Vec<u32> {
    let picker = build(Balance::PeakEwma, members.to_vec());
    let mut random = fastrand::Rng::with_seed(seed);
    let mut times = Vec::new();
    for request in 0..seconds * per_second {
        let elapsed = request * 1000 / per_second;
        let now = from.wrapping_add(elapsed);
        let found = picker.pick(&mut Pick::new(now, &mut random, &[])).unwrap();
        if found.state.id == 2 {
            times.push(elapsed);
        }
        found.state.load.observe(reply(found.state.id, elapsed), now);
    }
    times
}

fn answered(latency_ms: f32) -> Sample {
    Sample::Answered { latency_ms }
}

const FAILED: Sample = Sample::Failed { latency_ms: 0.2 };

#[test]
fn a_slow_member_gets_little() {
    let times = chosen(&members(&[1, 1]), 0, 100, 100, 3, |id, _| answered(if id == 1 { 2.0 } else { 40.0 }));
    // Once at first, then a probe every second at the most.
    assert!((50..=101).contains(&times.len()), "{times:?}");
}

#[test]
fn whoever_lost_is_tried_again_in_time_even_beside_one_other() {
    // 1 s of silence, then 1 comparison in 32: beyond 400 comparisons the chance is 1 in 300,000.
    for (seed, per_second) in (0..40).zip([10u32, 50, 200].into_iter().cycle()) {
        let members = members(&[1, 1]);
        (0..5).for_each(|_| members[1].state.load.observe(FAILED, 0));
        members[1].state.load.observe(answered(4_000.0), 0);
        members[0].state.load.observe(answered(1.0), 0);
        let first = chosen(&members, 0, per_second, 60, seed, |_, _| answered(1.0))[0];
        let latest = 1_000 + 400 * 1000 / per_second;
        assert!((1_000..=latest).contains(&first), "{first} at {per_second}/s");
    }
}

#[test]
fn the_worst_is_forgotten_after_150_s_however_few_requests_come() {
    // As bad as it gets: five minutes of Retry-After, beside one that is as fast as it gets. The clock wraps meanwhile.
    for seed in 0..20 {
        let members = members(&[1, 1]);
        let from = u32::MAX - 60_000;
        members[1].state.load.observe(answered(f32::INFINITY), from);
        members[1].state.load.observe(Sample::Refused { retry_after: Duration::from_hours(1) }, from);
        let first = chosen(&members, from, 1, 200, seed, |_, _| answered(0.01))[0];
        // From then on it is one of two equals; 20 draws that all miss it are one in a million.
        assert!((10_000..=170_000).contains(&first), "{first}");
    }
}

#[test]
fn a_member_that_does_nothing_but_fail_at_once_gets_next_to_nothing() {
    for (per_second, most) in [(10, 0.035), (200, 0.006)] {
        let times =
            chosen(&members(&[1, 1]), 0, per_second, 300, 3, |id, _| if id == 1 { answered(5.0) } else { FAILED });
        let share = times.len() as f64 / f64::from(300 * per_second);
        assert!(share < most && times.last() > Some(&250_000), "{share} at {per_second}/s");
    }
}

#[test]
fn half_of_the_members_may_fail_and_get_little_all_the_same() {
    let members = members(&[1; 4]);
    let picker = build(Balance::PeakEwma, members);
    let mut random = seeded();
    let mut failed = 0;
    for now in (0..60_000).step_by(10) {
        let found = picker.pick(&mut Pick::new(now, &mut random, &[])).unwrap();
        failed += usize::from(found.state.id > 2);
        found.state.load.observe(if found.state.id > 2 { FAILED } else { answered(5.0) }, now);
    }
    // By pairs alone it would be a sixth: 1,000. Probes are up to two a second.
    assert!(failed < 240, "{failed} of 6,000");
}

#[test]
fn one_failure_among_many_replies_does_not_empty_an_endpoint() {
    // The second fails once. With 5 s for it, it would be without requests until they have faded below 5 ms: for 69 s.
    let members = members(&[1, 1]);
    for member in &members {
        member.state.load.observe(answered(5.0), 0);
    }
    members[1].state.load.observe(FAILED, 0);
    // The first is as slow as the request before it makes it.
    let times = chosen(&members, 0, 50, 60, 3, |_, _| answered(5.0));
    assert!(times[0] < 30_000, "{}", times[0]);
    let after = times.iter().filter(|time| **time > 30_000).count() as f64 / (30.0 * 50.0);
    assert!(after > 0.4, "{after}");
}

#[test]
fn who_recovers_has_its_share_again_soon() {
    // Down for a minute, then as good as ever.
    let reply = |id: u64, elapsed: u32| match (id, elapsed) {
        (2, ..60_000) => Sample::Unreachable,
        _ => answered(5.0),
    };
    let times = chosen(&members(&[1, 1]), 0, 100, 180, 3, reply);
    let down = times.iter().filter(|time| **time < 60_000).count();
    assert!(down <= 60, "once a second: {down}");
    let back = times.iter().filter(|time| (90_000..120_000).contains(*time)).count() as f64 / 3_000.0;
    assert!((0.3..0.7).contains(&back), "{back}");
}

#[test]
fn a_member_that_nobody_measured_is_tried_at_once_but_not_by_everybody() {
    let (fast, new) = (member(1, 1), member(2, 1));
    fast.state.load.observe(answered(1.0), 0);
    let picker = build(Balance::PeakEwma, vec![fast, new.clone()]);
    let mut random = seeded();
    let mut pick = || picker.pick(&mut Pick::new(1, &mut random, &[])).unwrap().state.id;
    assert_eq!(pick(), 2);
    new.state.load.begin();
    assert!((0..20).all(|_| pick() == 1));
    new.state.load.end();
    assert_eq!(pick(), 2);
    // One that could not be reached before anybody measured it is not the first choice.
    new.state.load.observe(Sample::Unreachable, 1);
    assert!((0..20).all(|_| pick() == 1));
}

#[test]
fn a_member_that_hangs_is_not_probed() {
    let (fast, stuck) = (member(1, 1), member(2, 1));
    fast.state.load.observe(answered(1.0), 0);
    stuck.state.load.observe(answered(4_000.0), 0);
    stuck.state.load.begin();
    let picker = build(Balance::PeakEwma, vec![fast, stuck.clone()]);
    assert_eq!(share(&shares(&*picker, 1_000, 15_000), 1), 1.0);
    stuck.state.load.end();
    assert!(share(&shares(&*picker, 1_000, 15_000), 2) > 0.0);
}
