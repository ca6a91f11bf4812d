//! Zone preference: the rule by a table, and the picker that follows it.

use super::*;
use crate::balance::zones::{kept, surplus};

fn in_zones(zones: &[(&str, usize)]) -> Vec<Arc<Member>> {
    let all = zones.iter().flat_map(|(zone, count)| std::iter::repeat_n(*zone, *count));
    (1u16..)
        .zip(all)
        .map(|(port, zone)| {
            let mut endpoint = Endpoint::new(Address::Tcp(([127, 0, 0, 1], port).into()));
            endpoint.zone = Some(zone.to_owned()).filter(|zone| !zone.is_empty());
            Arc::new(Member::new(endpoint, u64::from(port)))
        })
        .collect()
}

fn prefer(balance: Balance) -> Policies {
    Policies { zones: ZonePreference::Prefer, ..policies(balance) }
}

/// Each zone's share.
fn by_zone(members: &[Arc<Member>], picker: &dyn Picker, now: u32) -> HashMap<String, f64> {
    let mut zones = HashMap::new();
    for (id, share) in shares(picker, 20_000, now) {
        let member = members.iter().find(|member| member.state.id == id).unwrap();
        *zones.entry(member.endpoint.zone.clone().unwrap_or_default()).or_insert(0.0) += share;
    }
    zones
}

#[test]
fn a_zone_keeps_what_it_can_serve() {
    for (spill, own, mean, expected) in [
        (1.4, 10.0, 10.0, 1.0),
        // 5 ÷ 7 of the mean is just enough.
        (1.4, 5.0, 7.0, 1.0),
        (1.4, 5.0, 10.0, 0.7),
        (1.4, 1.0, 14.0, 0.1),
        (1.4, 0.0, 10.0, 0.0),
        (1.0, 5.0, 10.0, 0.5),
        (1.0, 20.0, 10.0, 1.0),
        (1.4, 0.0, 0.0, 1.0),
    ] {
        assert!((kept(spill, own, mean) - expected).abs() < 1e-9, "{spill} {own} {mean}");
    }
    assert_eq!((surplus(12.0, 10.0), surplus(8.0, 10.0)), (2.0, 0.0));
}

#[test]
fn requests_stay_in_the_zone_and_spill_where_there_is_room() {
    for (zones, expected) in [
        (&[("a", 4), ("b", 4), ("c", 4)][..], [1.0, 0.0, 0.0]),
        (&[("a", 10), ("b", 1), ("c", 1)], [1.0, 0.0, 0.0]),
        // The mean is 4: a keeps 1.4 · 2 ÷ 4; c has room for the rest, b just serves its own.
        (&[("a", 2), ("b", 4), ("c", 6)], [0.7, 0.0, 0.3]),
        (&[("a", 2), ("b", 5), ("c", 5)], [0.7, 0.15, 0.15]),
        (&[("a", 1), ("b", 9), ("c", 11)], [0.2, 0.8 * 2.0 / 6.0, 0.8 * 4.0 / 6.0]),
        // None of ours, or an endpoint of unknown zone: nothing is preferred.
        (&[("b", 5), ("c", 5)], [0.0, 0.5, 0.5]),
        (&[("a", 4), ("b", 4), ("", 2)], [0.4, 0.4, 0.0]),
        (&[("a", 4)], [1.0, 0.0, 0.0]),
    ] {
        for balance in [Balance::LeastRequest, Balance::PeakEwma, Balance::Random, Balance::RoundRobin] {
            let members = in_zones(zones);
            let picker = picker(&prefer(balance.clone()), Some("a"), members.clone(), &[]);
            let found = by_zone(&members, &*picker, 0);
            for (zone, expected) in ["a", "b", "c"].into_iter().zip(expected) {
                let share = found.get(zone).copied().unwrap_or_default();
                assert!((share - expected).abs() < 0.02, "{balance:?} {zones:?}: {found:?}");
            }
        }
    }
}

#[test]
fn ejections_move_the_shares_without_a_new_table() {
    let members = in_zones(&[("a", 4), ("b", 4)]);
    let picker = picker(&prefer(Balance::Random), Some("a"), members.clone(), &[]);
    assert!(by_zone(&members, &*picker, 0)["a"] > 0.999_999);
    members[..2].iter().for_each(|member| eject(member));
    // 2 of 6 healthy, the mean is 3: 1.4 · 2 ÷ 3.
    let found = by_zone(&members, &*picker, 100);
    assert!((found["a"] - 0.933).abs() < 0.02, "{found:?}");
    members[..4].iter().for_each(|member| eject(member));
    assert!(by_zone(&members, &*picker, 200)["b"] > 0.999_999);
    // With nothing usable at all, what is chosen anyway stays at home again.
    for member in &members {
        eject(member);
    }
    let mut random = seeded();
    assert!(picker.pick(&mut Pick::new(300, &mut random, &[])).is_none());
    for _ in 0..100 {
        let mut pick = Pick { level: Level::Any, ..Pick::new(300, &mut random, &[]) };
        assert_eq!(picker.pick(&mut pick).unwrap().endpoint.zone.as_deref(), Some("a"));
    }
}

#[test]
fn without_a_zone_of_our_own_or_with_a_hash_nothing_is_preferred() {
    let members = in_zones(&[("a", 5), ("b", 5)]);
    for (policies, zone) in [
        (prefer(Balance::Random), None),
        (policies(Balance::Random), Some("a")),
        (prefer(Balance::Maglev(on_user())), Some("a")),
    ] {
        let picker = picker(&policies, zone, members.clone(), &[]);
        assert!((by_zone(&members, &*picker, 0)["b"] - 0.5).abs() < 0.02, "{zone:?}");
    }
}
