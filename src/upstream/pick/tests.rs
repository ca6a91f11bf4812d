use std::collections::BTreeMap;
use std::time::Duration;

use meshless_discovery::{Address, Endpoint, Health, Target};

use super::*;
use crate::config::Policies;
use crate::follow::removals::Standing;
use crate::resilience::breaker::{Case, Cause, Verdict};
use crate::upstream::plan::{Plan, UpstreamPlan};
use crate::upstream::reconcile::{Catalog, Reconciler};

fn target(path: &str) -> Target {
    Target { backend: "file".to_owned(), path: path.to_owned(), options: BTreeMap::default() }
}

/// A table of one service in tiers of so many endpoints; the ports of tier `n` are `100 n + 1, …`.
struct World {
    reconciler: Reconciler,
    plan: Arc<Plan>,
    catalog: Catalog,
    table: Table,
    now: u32,
    random: fastrand::Rng,
}

impl World {
    fn new(tiers: &[u16], policies: Policies) -> Self {
        let leaves = (0..tiers.len()).map(|tier| Tree::Leaf(target(&tier.to_string()))).collect();
        let upstream =
            UpstreamPlan { name: "api".into(), policies: Arc::new(policies), tls: None, from: Tree::Tiers(leaves) };
        let plan = Arc::new(Plan { upstreams: vec![upstream], ..Plan::default() });
        let endpoint = |port| (Endpoint::new(Address::Tcp(([127, 0, 0, 1], port).into())), Standing::Listed);
        let catalog: Catalog = (0u16..)
            .zip(tiers)
            .map(|(tier, &count)| {
                (target(&tier.to_string()), (1..=count).map(|number| endpoint(100 * tier + number)).collect())
            })
            .collect();
        let mut reconciler = Reconciler::default();
        let table = reconciler.reconcile(&Table::default(), plan.clone(), &catalog);
        Self { reconciler, plan, catalog, table, now: 0, random: fastrand::Rng::with_seed(11) }
    }

    /// Changes what a backend says of an endpoint.
    fn says(&mut self, port: u16, change: impl Fn(&mut Endpoint, &mut Standing)) {
        let name = target(&(port / 100).to_string());
        let mut list = self.catalog[&name].to_vec();
        for (endpoint, standing) in &mut list {
            if endpoint.address == Address::Tcp(([127, 0, 0, 1], port).into()) {
                change(endpoint, standing);
            }
        }
        self.catalog.insert(name, list.into());
        self.table = self.reconciler.reconcile(&self.table, self.plan.clone(), &self.catalog);
    }

    fn member(&self, port: u16) -> Arc<Member> {
        let address = Address::Tcp(([127, 0, 0, 1], port).into());
        let found = self.table.upstreams[0].members.values().find(|member| member.endpoint.address == address);
        found.unwrap().clone()
    }

    fn record(&self, port: u16, verdict: Verdict, probe: Option<Probe>) {
        let upstream = &self.table.upstreams[0];
        let case = Case {
            policy: &upstream.policies.breaker,
            ejected: &upstream.state.ejected,
            endpoints: upstream.members.len(),
            now: self.now,
        };
        if self.member(port).state.breaker.record(verdict, probe, &case, || 0.0).is_some() {
            upstream.state.epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn eject(&self, port: u16) {
        for _ in 0..5 {
            self.record(port, Verdict::Failure(Cause::Answer), None);
        }
    }

    fn pick(&mut self, tried: &[u16]) -> Option<(u16, Option<Probe>)> {
        let tried: Vec<u64> = tried.iter().map(|&port| self.member(port).state.id).collect();
        let mut pick = Pick::new(self.now, &mut self.random, &tried);
        let choice = self.table.pick(&Tree::Leaf(0), false, &mut pick)?;
        match choice.member.endpoint.address {
            Address::Tcp(address) => Some((address.port(), choice.probe)),
            Address::Unix(_) => None,
        }
    }

    fn port(&mut self, tried: &[u16]) -> Option<u16> {
        self.pick(tried).map(|(port, _)| port)
    }

    /// The share of requests that goes to the first tier.
    fn first_tier(&mut self) -> f64 {
        (0..4000).filter(|_| self.port(&[]).unwrap() < 100).count() as f64 / 4000.0
    }
}

fn any_may_be_ejected() -> Policies {
    let mut policies = Policies::default();
    policies.breaker.max_ejected = 1.0;
    policies
}

#[test]
fn held_endpoints_serve_only_when_no_listed_one_is_usable_in_any_tier() {
    let mut world = World::new(&[1, 1], Policies::default());
    world.says(1, |_, standing| *standing = Standing::Held);
    assert_eq!(world.port(&[]), Some(101));
    world.says(101, |endpoint, _| endpoint.health = Health::Draining);
    assert_eq!(world.port(&[]), Some(1));
}

#[test]
fn what_its_backend_calls_unhealthy_serves_only_in_panic() {
    let mut world = World::new(&[3], Policies::default());
    world.says(1, |endpoint, _| endpoint.health = Health::Unhealthy);
    assert!((0..200).all(|_| world.port(&[]) != Some(1)), "a third is no panic");
    world.says(2, |endpoint, _| endpoint.health = Health::Unhealthy);
    let ports: std::collections::BTreeSet<_> = (0..200).filter_map(|_| world.port(&[])).collect();
    assert_eq!(ports.len(), 3, "two thirds are: what is left would be run over");
}

#[test]
fn panic_of_zero_percent_never_sends_to_what_is_unhealthy() {
    let mut world = World::new(&[2], Policies { panic: 0.0, ..Policies::default() });
    for port in [1, 2] {
        world.says(port, |endpoint, _| endpoint.health = Health::Unhealthy);
    }
    assert_eq!(world.port(&[]), None);
}

#[test]
fn a_tier_that_loses_endpoints_spills_to_the_next_one_as_the_tables_say() {
    let mut world = World::new(&[4, 4], any_may_be_ejected());
    assert!((world.first_tier() - 1.0).abs() < f64::EPSILON);
    world.eject(1);
    assert!((world.first_tier() - 1.0).abs() < f64::EPSILON, "75 % times 1.4 is all");
    world.eject(2);
    let half = world.first_tier();
    assert!((half - 0.7).abs() < 0.03, "50 % times 1.4 is 70 %, got {half}");
    world.eject(3);
    world.eject(4);
    assert!(world.first_tier() < f64::EPSILON);
}

#[test]
fn our_own_ejections_are_no_panic_while_one_endpoint_is_left() {
    let mut world = World::new(&[4], any_may_be_ejected());
    for port in [1, 2, 3] {
        world.eject(port);
    }
    assert!((0..200).all(|_| world.port(&[]) == Some(4)));
    world.eject(4);
    let ports: std::collections::BTreeSet<_> = (0..200).filter_map(|_| world.port(&[])).collect();
    assert_eq!(ports.len(), 4, "with everybody ejected, everybody is asked");
}

#[test]
fn panic_skips_what_could_not_be_connected_to_while_others_are_left() {
    let mut world = World::new(&[2], any_may_be_ejected());
    world.eject(1);
    for _ in 0..5 {
        world.record(2, Verdict::Failure(Cause::Connect), None);
    }
    assert!((0..100).all(|_| world.port(&[]) == Some(1)));
    assert_eq!(world.port(&[1]), Some(2), "a retry takes what is left");
}

#[test]
fn an_ejected_endpoint_gets_one_probe_when_its_time_is_over_and_is_back_after_a_good_one() {
    let mut world = World::new(&[2], Policies::default());
    world.eject(1);
    assert!((0..50).all(|_| world.pick(&[]) == Some((2, None))));
    world.now = 1000;
    let (port, probe) = world.pick(&[]).unwrap();
    assert!(port == 1 && probe.is_some());
    assert!((0..50).all(|_| world.pick(&[]) == Some((2, None))), "one at a time");
    world.record(1, Verdict::Success, probe);
    let ports: std::collections::BTreeSet<_> = (0..200).filter_map(|_| world.port(&[])).collect();
    assert_eq!(ports.len(), 2);
}

#[test]
fn a_lost_first_tier_is_found_again_by_its_probes_although_the_second_one_serves_everything() {
    let mut world = World::new(&[2, 2], any_may_be_ejected());
    world.eject(1);
    world.eject(2);
    assert!(world.first_tier() < f64::EPSILON);
    world.now += u32::try_from(Duration::from_secs(2).as_millis()).unwrap();
    for _ in 0..2 {
        let (port, probe) = world.pick(&[]).unwrap();
        assert!(port < 100 && probe.is_some(), "{port}");
        world.record(port, Verdict::Success, probe);
    }
    assert!((world.first_tier() - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_request_repeats_no_endpoint_while_another_is_left_in_any_tier() {
    let mut world = World::new(&[1, 1], Policies::default());
    assert_eq!(world.port(&[]), Some(1));
    assert_eq!(world.port(&[1]), Some(101));
    assert!(world.port(&[1, 101]).is_some(), "then the same again");
}

#[test]
fn the_application_beside_us_is_asked_whatever_happened() {
    let mut world = World::new(&[1], Policies { panic: 0.0, ..Policies::default() });
    world.eject(1);
    let mut pick = Pick::new(0, &mut world.random, &[]);
    assert!(world.table.pick(&Tree::Leaf(0), true, &mut pick).is_some());
    assert_eq!(world.port(&[]), None, "as a service it would be ejected, and panic is forbidden");
}

#[test]
fn asking_whether_another_is_left_uses_up_neither_a_turn_nor_a_probe() {
    let mut world = World::new(&[3], Policies { balance: crate::config::Balance::RoundRobin, ..Policies::default() });
    let mut turns = Vec::new();
    for _ in 0..6 {
        let port = world.port(&[]).unwrap();
        turns.push(port);
        let tried = [world.member(port).state.id];
        assert!(world.table.has_another(&Tree::Leaf(0), false, &tried, world.now));
    }
    assert_eq!(turns[..3], turns[3..], "everybody in turn");
    let everybody: Vec<u64> = [1, 2, 3].map(|port| world.member(port).state.id).into();
    assert!(!world.table.has_another(&Tree::Leaf(0), false, &everybody, world.now));
    world.eject(1);
    world.now = 1000;
    assert!(world.table.has_another(&Tree::Leaf(0), false, &[], world.now));
    assert!(world.pick(&[]).unwrap().1.is_some(), "the probe is still to be had");
}
