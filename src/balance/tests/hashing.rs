//! Ring and Maglev: sticky, the same everywhere, and little moves.

use super::*;
use crate::balance::consistent::Placed;
use crate::balance::hash::{hash, mix};

fn pick_for(picker: &dyn Picker, name: u64, tried: &[u64], in_flight: usize) -> Arc<Member> {
    let headers = user(name);
    let mut random = seeded();
    let asked = Asked { headers: Some(&headers), client: None };
    picker.pick(&mut Pick { asked, in_flight, ..Pick::new(0, &mut random, tried) }).unwrap().clone()
}

fn kinds() -> [Balance; 2] {
    [Balance::Maglev(on_user()), Balance::RingHash(on_user())]
}

/// Whose a key is, for many keys.
fn owners(picker: &dyn Picker, keys: u64) -> Vec<u64> {
    (0..keys).map(|key| pick_for(picker, key, &[], 0).state.id).collect()
}

fn moved(before: &[u64], after: &[u64]) -> f64 {
    before.iter().zip(after).filter(|(before, after)| before != after).count() as f64 / before.len() as f64
}

const KEYS: u64 = 20_000;

#[test]
fn a_key_stays_and_a_request_without_one_goes_anywhere() {
    for balance in kinds() {
        let picker = build(balance, members(&[1; 10]));
        for key in 0..50 {
            let first = pick_for(&*picker, key, &[], 0);
            assert!((0..20).all(|_| pick_for(&*picker, key, &[], 0).state.id == first.state.id));
        }
        let anywhere = shares(&*picker, 20_000, 0);
        assert!(anywhere.values().all(|share| (share - 0.1).abs() < 0.02) && anywhere.len() == 10, "{anywhere:?}");
    }
}

#[test]
fn the_order_in_which_endpoints_are_listed_makes_no_difference() {
    for balance in kinds() {
        let mut all = members(&[3, 1, 2, 1, 1]);
        let one = owners(&*build(balance.clone(), all.clone()), 2_000);
        all.reverse();
        assert_eq!(one, owners(&*build(balance, all), 2_000));
    }
}

#[test]
fn every_gateway_of_every_version_chooses_the_same() {
    // A change of these numbers sends users of a running fleet elsewhere while it is updated. It is a breaking one.
    for (balance, expected) in kinds().into_iter().zip([EXPECTED_MAGLEV, EXPECTED_RING]) {
        let picker = build(balance.clone(), members(&[1, 1, 2, 5]));
        assert_eq!(owners(&*picker, 16), expected, "{balance:?}");
    }
}

const EXPECTED_MAGLEV: [u64; 16] = [4, 4, 4, 4, 3, 2, 2, 3, 4, 4, 3, 2, 4, 3, 2, 4];
const EXPECTED_RING: [u64; 16] = [3, 3, 4, 1, 2, 1, 1, 4, 4, 4, 4, 4, 3, 4, 1, 1];

#[test]
fn only_the_keys_of_an_endpoint_that_leaves_move() {
    for (balance, extra) in kinds().into_iter().zip([0.02, 0.0]) {
        for count in [3usize, 10, 50] {
            let all = members(&vec![1; count]);
            let before = owners(&*build(balance.clone(), all.clone()), KEYS);
            let gone = all[count / 2].state.id;
            let rest: Vec<_> = all.iter().filter(|member| member.state.id != gone).cloned().collect();
            let after = owners(&*build(balance.clone(), rest), KEYS);
            let others: Vec<_> = before.iter().zip(&after).filter(|(before, _)| **before != gone).collect();
            let needless = others.iter().filter(|(before, after)| before != after).count() as f64 / KEYS as f64;
            let share = moved(&before, &after);
            assert!(needless <= extra, "{balance:?} of {count}: {needless} moved needlessly");
            assert!(
                (share - 1.0 / count as f64).abs() < extra + 0.12 / count as f64,
                "{balance:?} of {count}: {share}"
            );
        }
    }
}

#[test]
fn an_endpoint_that_comes_takes_its_share_and_nothing_else_moves() {
    for (balance, extra) in kinds().into_iter().zip([0.02, 0.0]) {
        let all = members(&[1; 21]);
        let before = owners(&*build(balance.clone(), all[..20].to_vec()), KEYS);
        let after = owners(&*build(balance.clone(), all), KEYS);
        let needless = before.iter().zip(&after).filter(|(before, after)| before != after && **after != 21).count();
        assert!(needless as f64 / KEYS as f64 <= extra, "{balance:?}: {needless} moved needlessly");
        assert!((moved(&before, &after) - 1.0 / 21.0).abs() < extra + 0.006, "{balance:?}");
    }
}

#[test]
fn shares_follow_weights() {
    for (balance, within) in kinds().into_iter().zip([0.02, 0.1]) {
        let weights = [1, 2, 3, 4, 10];
        let owners = owners(&*build(balance.clone(), members(&weights)), KEYS);
        for (id, weight) in (1u64..).zip(weights) {
            let share = owners.iter().filter(|owner| **owner == id).count() as f64 / KEYS as f64;
            let wanted = f64::from(weight) / 20.0;
            assert!((share / wanted - 1.0).abs() < within + 0.05, "{balance:?}: {id} has {share}, not {wanted}");
        }
    }
}

#[test]
fn an_ejected_endpoint_and_one_that_is_gone_send_their_keys_to_the_same_places() {
    let all = members(&[1; 10]);
    let rest = all[1..].to_vec();
    eject(&all[0]);
    let (ejected, gone) = (build(Balance::RingHash(on_user()), all), build(Balance::RingHash(on_user()), rest));
    assert_eq!(owners(&*ejected, 2_000), owners(&*gone, 2_000));
}

#[test]
fn an_endpoint_over_its_bound_is_relieved_and_nobody_goes_over_it() {
    for balance in kinds() {
        let members = members(&[1, 1, 1, 1, 4]);
        let picker = build(balance.clone(), members.clone());
        // One key that everybody asks for: 400 requests at once.
        for open in 0..400 {
            pick_for(&*picker, 1, &[], open).state.load.begin();
        }
        for member in &members {
            let in_flight = f64::from(member.state.load.in_flight());
            let bound = (1.25 * 400.0 * f64::from(member.endpoint.weight) / 8.0).ceil();
            assert!(in_flight <= bound, "{balance:?}: {in_flight} of {bound}");
        }
        // Those who are free again serve it again.
        let own = build(balance, members.clone());
        for member in &members {
            (0..member.state.load.in_flight()).for_each(|_| member.state.load.end());
        }
        assert_eq!(pick_for(&*own, 1, &[], 0).state.id, pick_for(&*picker, 1, &[], 0).state.id);
    }
}

#[test]
fn a_few_requests_at_once_are_no_overload() {
    for balance in kinds() {
        let picker = build(balance, members(&[1; 10]));
        let first = pick_for(&*picker, 1, &[], 0);
        for open in 1..=8 {
            first.state.load.begin();
            assert_eq!(pick_for(&*picker, 1, &[], open).state.id == first.state.id, open < 8);
        }
    }
}

#[test]
fn bounds_are_those_of_the_endpoints_that_are_left() {
    for balance in kinds() {
        let members = members(&[1; 4]);
        members[..2].iter().for_each(|member| eject(member));
        let picker = build(balance, members.clone());
        for open in 0..100 {
            pick_for(&*picker, 1, &[], open).state.load.begin();
        }
        let loads: Vec<_> = members.iter().map(|member| member.state.load.in_flight()).collect();
        assert!(loads[..2] == [0, 0] && loads[2..].iter().all(|load| *load >= 37), "{loads:?}");
    }
}

#[test]
fn a_ring_has_enough_points_and_not_too_many() {
    let placed = |count: u64| -> Vec<Placed> { (0..count).map(|number| (mix(number), 1)).collect() };
    for (count, points) in [(1, 1024), (2, 1024), (100, 51_200), (128, 65_536), (129, 33_024), (10_000, 40_000)] {
        assert_eq!(Ring::new(&placed(count)).len(), points, "{count}");
    }
    let light: Vec<Placed> = vec![(hash(b"a"), 100_000), (hash(b"b"), 1)];
    assert_eq!(Ring::new(&light).len(), 513);
}

#[test]
fn every_slot_of_a_maglev_table_is_someones_and_everyone_has_one() {
    for weights in [vec![1u32; 3], vec![100_000, 1, 1], vec![1; 1_000]] {
        let placed: Vec<Placed> = (0u64..).map(mix).zip(weights.iter().copied()).collect();
        let table = Maglev::new(&placed);
        let mut counts = vec![0usize; weights.len()];
        (0..maglev::SLOTS).for_each(|place| counts[table.member(place).unwrap()] += 1);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
    assert_eq!(Maglev::new(&[]).member(0), None);
}
