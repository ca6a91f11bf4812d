//! What holds for all policies, and for those that draw.

#![allow(clippy::float_cmp, reason = "numbers that floats hold exactly")]

mod cost;
mod hashing;
mod over_time;
mod zone;

use std::collections::HashMap;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use meshless_discovery::{Address, Endpoint};
use proptest::prelude::*;

use super::*;
use crate::config::{self, HashOn};
use crate::resilience::breaker::{Case, Cause, Ejected, Verdict};

fn member(port: u16, weight: u32) -> Arc<Member> {
    let mut endpoint = Endpoint::new(Address::Tcp(([127, 0, 0, 1], port).into()));
    endpoint.weight = weight;
    Arc::new(Member::new(endpoint, u64::from(port)))
}

/// Members whose ids and ports count from 1.
fn members(weights: &[u32]) -> Vec<Arc<Member>> {
    (1u16..).zip(weights).map(|(port, &weight)| member(port, weight)).collect()
}

fn on_user() -> HashOn {
    HashOn::Header(HeaderName::from_static("x-user"))
}

fn policies(balance: Balance) -> Policies {
    Policies { balance, ..Policies::default() }
}

fn build(balance: Balance, members: Vec<Arc<Member>>) -> Box<dyn Picker> {
    picker(&policies(balance), None, members, &[])
}

fn seeded() -> fastrand::Rng {
    fastrand::Rng::with_seed(7)
}

fn user(name: u64) -> HeaderMap {
    [(HeaderName::from_static("x-user"), HeaderValue::from(name))].into_iter().collect()
}

/// Ejects a member for an hour.
fn eject(member: &Member) {
    let hour = Duration::from_hours(1);
    let policy = config::Breaker { eject: (hour, hour), max_ejected: 1.0, ..config::Breaker::default() };
    let case = Case { policy: &policy, ejected: &Ejected::default(), endpoints: 2, now: 0 };
    for _ in 0..policy.consecutive {
        member.state.breaker.record(Verdict::Failure(Cause::Answer), None, &case, || 0.5);
    }
    assert!(!member.is_usable(0));
}

/// Picks so often; returns each member's share by id.
fn shares(picker: &dyn Picker, picks: usize, now: u32) -> HashMap<u64, f64> {
    let mut random = seeded();
    let mut counts: HashMap<u64, usize> = HashMap::new();
    for _ in 0..picks {
        let id = picker.pick(&mut Pick::new(now, &mut random, &[])).unwrap().state.id;
        *counts.entry(id).or_default() += 1;
    }
    counts.into_iter().map(|(id, count)| (id, count as f64 / picks as f64)).collect()
}

fn share(shares: &HashMap<u64, f64>, id: u64) -> f64 {
    shares.get(&id).copied().unwrap_or_default()
}

fn all() -> [Balance; 6] {
    [
        Balance::LeastRequest,
        Balance::Maglev(on_user()),
        Balance::PeakEwma,
        Balance::Random,
        Balance::RingHash(on_user()),
        Balance::RoundRobin,
    ]
}

#[test]
fn idle_members_get_their_weights_share() {
    for balance in [Balance::LeastRequest, Balance::Random, Balance::RoundRobin, Balance::Maglev(on_user())] {
        for weights in [[90, 10, 0], [9_000, 1_000, 0]] {
            let shares = shares(&*build(balance.clone(), members(&weights)), 20_000, 0);
            assert!((share(&shares, 1) - 0.9).abs() < 0.01 && share(&shares, 3) == 0.0, "{balance:?}: {shares:?}");
        }
    }
}

#[test]
fn equal_members_get_equal_shares() {
    for balance in all() {
        let shares = shares(&*build(balance.clone(), members(&[1; 4])), 20_000, 0);
        assert!(
            shares.values().all(|share| (share - 0.25).abs() < 0.02) && shares.len() == 4,
            "{balance:?}: {shares:?}"
        );
    }
}

#[test]
fn the_shares_of_busy_members_are_their_weights_too() {
    // Requests last for 40 picks: as many are always in flight.
    let members = members(&[30, 10]);
    let picker = build(Balance::LeastRequest, members.clone());
    let (mut random, mut open) = (seeded(), std::collections::VecDeque::new());
    let mut heavy = 0;
    for _ in 0..10_000 {
        let found = picker.pick(&mut Pick::new(0, &mut random, &[])).unwrap().clone();
        heavy += usize::from(found.state.id == 1);
        found.state.load.begin();
        open.push_back(found);
        if open.len() > 40 {
            open.pop_front().unwrap().state.load.end();
        }
    }
    assert!((heavy as f64 / 10_000.0 - 0.75).abs() < 0.02, "{heavy}");
}

#[test]
fn a_busy_member_is_avoided() {
    let (idle, busy) = (member(1, 1), member(2, 1));
    (0..5).for_each(|_| busy.state.load.begin());
    let picker = build(Balance::LeastRequest, vec![idle, busy.clone()]);
    assert_eq!(share(&shares(&*picker, 100, 0), 1), 1.0);
    (0..5).for_each(|_| busy.state.load.end());
    assert_eq!(busy.state.load.in_flight(), 0);
}

#[test]
fn turns_go_on_where_they_were_when_endpoints_change() {
    let all = members(&[1; 5]);
    let mut random = seeded();
    let mut next = |picker: &dyn Picker| picker.pick(&mut Pick::new(0, &mut random, &[])).unwrap().state.id;
    let first = build(Balance::RoundRobin, all.clone());
    assert_eq!([next(&*first), next(&*first)], [1, 2]);
    // 3, whose turn it was, is gone.
    let fewer = [&all[0], &all[1], &all[3], &all[4]].map(Clone::clone).to_vec();
    let second = picker(&policies(Balance::RoundRobin), None, fewer, &first.line());
    assert_eq!([next(&*second), next(&*second), next(&*second)], [4, 5, 1]);
    let third = picker(&policies(Balance::RoundRobin), None, all, &second.line());
    assert_eq!(next(&*third), 2);
}

#[test]
fn the_turns_of_an_ejected_member_are_shared_by_all_others() {
    let members = members(&[1; 5]);
    eject(&members[2]);
    let shares = shares(&*build(Balance::RoundRobin, members), 20_000, 0);
    assert!([1, 2, 4, 5].iter().all(|&id| (share(&shares, id) - 0.25).abs() < 0.02), "{shares:?}");
}

#[test]
fn an_endpoint_that_starts_slowly_gets_a_tenth_and_then_more() {
    for balance in [Balance::LeastRequest, Balance::PeakEwma, Balance::Random, Balance::RoundRobin] {
        let members = members(&[1; 5]);
        for member in &members {
            member.state.load.observe(Sample::Answered { latency_ms: 1.0 }, 0);
        }
        members[4].state.warmth.begin();
        let slow = Policies { slow_start: Some(Duration::from_secs(30)), ..policies(balance.clone()) };
        let slow = picker(&slow, None, members.clone(), &[]);
        for (now, weight) in [(5_000, 0.1), (20_000, 0.55), (35_000, 1.0)] {
            let (found, wanted) = (share(&shares(&*slow, 20_000, now), 5), weight / (4.0 + weight));
            assert!((found - wanted).abs() < 0.015, "{balance:?} at {now}: {found}, not {wanted}");
        }
        // Where all are new, they share as if none were.
        for member in &members {
            member.state.warmth.begin();
        }
        assert!(shares(&*slow, 20_000, 40_000).values().all(|share| (share - 0.2).abs() < 0.02), "{balance:?}");
    }
}

#[test]
fn a_policy_without_slow_start_and_kinds_of_hashing_know_none() {
    let members = members(&[1; 2]);
    members[1].state.warmth.begin();
    let random = build(Balance::Random, members.clone());
    assert!((share(&shares(&*random, 20_000, 0), 2) - 0.5).abs() < 0.02);
    let slow = Policies { slow_start: Some(Duration::from_secs(30)), ..policies(Balance::Maglev(on_user())) };
    let maglev = picker(&slow, None, members, &[]);
    assert!((share(&shares(&*maglev, 20_000, 0), 2) - 0.5).abs() < 0.02);
}

proptest! {
    #[test]
    fn whatever_fits_is_found_and_nothing_else_is_chosen(
        weights in prop::collection::vec(prop_oneof![Just(0u32), Just(1), 1u32..100, Just(100_000)], 0..12),
        tried in prop::collection::vec(1u64..12, 0..8),
        ejected in prop::collection::vec(0usize..12, 0..8),
        zones in prop::collection::vec(0usize..3, 12),
        policy in 0usize..6,
        prefer in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let members: Vec<_> = members(&weights)
            .into_iter()
            .zip(zones)
            .map(|(member, zone)| {
                let mut endpoint = member.endpoint.clone();
                endpoint.zone = Some(["a", "b", "c"][zone].to_owned());
                Arc::new(Member::new(endpoint, member.state.id))
            })
            .collect();
        ejected.iter().filter_map(|&at| members.get(at)).for_each(|member| eject(member));
        let policies = Policies {
            zones: if prefer { ZonePreference::Prefer } else { ZonePreference::Ignore },
            slow_start: (seed % 2 == 0).then(|| Duration::from_secs(10)),
            ..policies(all()[policy].clone())
        };
        let picker = picker(&policies, Some("a"), members.clone(), &[]);
        let mut random = fastrand::Rng::with_seed(seed);
        for level in [Level::Usable, Level::Any] {
            let fits = |member: &Member| {
                member.endpoint.weight > 0
                    && !tried.contains(&member.state.id)
                    && (level == Level::Any || member.is_usable(0))
            };
            let left = members.iter().filter(|member| fits(member)).count();
            // Each that is chosen counts as tried: all that are left are found, then none.
            let mut gone = tried.clone();
            for turn in 0..=left {
                let headers = user(seed.wrapping_add(turn as u64 / 3));
                let asked = Asked { headers: (turn % 3 > 0).then_some(&headers), client: None };
                let mut pick = Pick { level, asked, ..Pick::new(u32::try_from(turn * 60).unwrap(), &mut random, &gone) };
                let picked = picker.pick(&mut pick).cloned();
                prop_assert_eq!(picked.is_some(), turn < left);
                if let Some(picked) = picked {
                    prop_assert!(fits(&picked) && !gone.contains(&picked.state.id));
                    gone.push(picked.state.id);
                }
            }
        }
    }
}
