//! What a choice and a table cost. `cargo test --profile quick-release --lib what_it_costs -- --ignored --nocapture` prints
//! it.

use std::time::Instant;

use super::*;

fn zoned(count: u16) -> Vec<Arc<Member>> {
    (1..=count)
        .map(|port| {
            let mut endpoint = Endpoint::new(Address::Tcp(([127, 0, 0, 1], port).into()));
            endpoint.zone = Some(["a", "b", "c"][usize::from(port % 3)].to_owned());
            endpoint.weight = 1 + u32::from(port % 2);
            let member = Arc::new(Member::new(endpoint, u64::from(port)));
            member.state.load.observe(Sample::Answered { latency_ms: 5.0 }, 0);
            member
        })
        .collect()
}

#[test]
#[ignore = "a measurement"]
fn what_it_costs() {
    const PICKS: u32 = 1_000_000;
    for count in [3, 50, 500, 5_000] {
        for balance in all() {
            for (zone, slow_start, ejected) in [(None, None, 0), (Some("a"), Some(Duration::from_secs(30)), count / 10)]
            {
                let members = zoned(count);
                members[..usize::from(ejected)].iter().for_each(|member| eject(member));
                let policies = Policies { zones: ZonePreference::Prefer, slow_start, ..policies(balance.clone()) };
                let began = Instant::now();
                let picker = picker(&policies, zone, members, &[]);
                let built = began.elapsed();
                let (mut random, headers) = (seeded(), user(1));
                let began = Instant::now();
                for number in 0..PICKS {
                    let asked = Asked { headers: Some(&headers), client: None };
                    // 100,000 requests a second.
                    let mut pick = Pick { asked, ..Pick::new(number / 100, &mut random, &[]) };
                    std::hint::black_box(picker.pick(&mut pick));
                }
                let each = began.elapsed().as_secs_f64() * 1e9 / f64::from(PICKS);
                let with = if zone.is_some() { "zones, slow start, a tenth ejected" } else { "" };
                println!("{:14} {count:5} endpoints: {each:4.0} ns, built in {built:9.1?} {with}", balance.name());
            }
        }
    }
}

#[test]
fn a_choice_looks_at_few_members_however_many_there_are() {
    // Half of 500 are ejected: every policy still finds one at the second or third look on average. It would need a look
    // at hundreds if it went through them; a thousand choices then take far more than this.
    let members = zoned(500);
    members.iter().step_by(2).for_each(|member| eject(member));
    let headers = user(1);
    for balance in all() {
        let picker = build(balance.clone(), members.clone());
        let mut random = seeded();
        let mut fastest = Duration::MAX;
        for _ in 0..20 {
            let began = Instant::now();
            for _ in 0..1_000 {
                let asked = Asked { headers: Some(&headers), client: None };
                assert!(picker.pick(&mut Pick { asked, ..Pick::new(0, &mut random, &[]) }).is_some());
            }
            fastest = fastest.min(began.elapsed());
        }
        assert!(fastest < Duration::from_millis(20), "{balance:?}: {fastest:?} for a thousand choices");
    }
}
