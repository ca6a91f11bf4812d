//! Virtual time: requests arrive, tries reach endpoints, answers come or do not, in order.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use meshless_discovery::{Address, Endpoint as Listed, Snapshot, Target};

use super::flight::Flight;
use super::gateway::Gateway;
use super::log::{Log, Outcome};
use super::queue::Queue;
use super::request::Request;
use super::world::{Endpoint, Kind, Response, Try, World};
use super::{Micros, micros};
use crate::balance::{self, Pick};
use crate::resilience::breaker::Verdict;
use crate::upstream::plan::RoutePlan;
use crate::upstream::turn::Turn;
use crate::upstream::{Member, Upstream};

/// What every request asks for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) route: RoutePlan,
    pub(crate) method: Method,
    /// What equal requests are told by.
    pub(crate) headers: HeaderMap,
    pub(crate) client: Option<IpAddr>,
    pub(crate) is_grpc: bool,
    /// How much time its client gives it.
    pub(crate) deadline: Option<Duration>,
}

impl Asked {
    /// Asks for what a request says, along a route.
    pub(crate) fn new(route: RoutePlan, request: &Request) -> Self {
        Self {
            route,
            method: request.method.clone(),
            headers: request.headers.clone(),
            client: request.address,
            is_grpc: request.is_grpc(),
            deadline: request.deadline(),
        }
    }

    pub(super) fn asked(&self) -> balance::Asked<'_> {
        balance::Asked { headers: Some(&self.headers), client: self.client }
    }
}

/// How requests arrive, whatever becomes of those before (open loop).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Arrivals {
    /// So many a second at equal distances.
    Steady(f64),
    /// So many a second on the average, each one at a time of its own.
    Poisson(f64),
}

/// From a time on a target lists other endpoints.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) at: Micros,
    pub(crate) target: Target,
    pub(crate) snapshot: Arc<Snapshot>,
}

#[derive(Debug)]
pub(super) enum Event {
    /// A request is due.
    Arrives,
    /// A request is to be tried again.
    Tries(usize),
    /// A try has a connection to an endpoint, and reaches it in this life of its process.
    Reaches { one: Try, place: usize, life: u32 },
    /// An endpoint's answer is there.
    Answers { one: Try, place: usize, life: u32, response: Response },
    /// No connection can be made.
    Refused(Try),
    /// A try is too late.
    Late(Try),
    /// The process of an endpoint is gone.
    Dies(usize),
    /// A target lists something else.
    Lists(usize),
    /// Held endpoints may be dropped.
    Expires,
}

/// A gateway, its endpoints, and the time.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(super) gateway: Gateway,
    pub(super) world: World,
    pub(super) asked: Asked,
    /// The gateway's luck; that of the endpoints is their own, so that two gateways meet the same world.
    pub(super) random: RefCell<fastrand::Rng>,
    pub(super) queue: Queue<Event>,
    pub(super) flights: Vec<Flight>,
    /// Connections that wait for a request, by member.
    pub(super) idle: HashMap<u64, usize>,
    pub(super) now: Micros,
    pub(super) log: Log,
    listings: Vec<Listing>,
    load: Option<(Arrivals, Micros)>,
    arrived: u64,
}

impl Engine {
    /// Prepares a run. `other` describes endpoints that `endpoints` does not.
    pub(crate) fn new(
        gateway: Gateway,
        asked: Asked,
        endpoints: Vec<Endpoint>,
        other: Endpoint,
        listings: Vec<Listing>,
        seed: u64,
    ) -> Self {
        let mut engine = Self {
            gateway,
            world: World::new(endpoints, other, seed ^ 0x9e37_79b9_7f4a_7c15),
            asked,
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            queue: Queue::default(),
            flights: Vec::new(),
            idle: HashMap::new(),
            now: 0,
            log: Log::default(),
            listings,
            load: None,
            arrived: 0,
        };
        for (index, listing) in engine.listings.iter().enumerate() {
            engine.queue.push(listing.at, Event::Lists(index));
        }
        for (index, place) in engine.world.places.iter().enumerate() {
            for fault in place.endpoint.faults.iter().filter(|fault| fault.kind == Kind::Down) {
                engine.queue.push(fault.from, Event::Dies(index));
            }
        }
        engine
    }

    /// Lets requests arrive for so long, waits until each has ended, and returns what happened.
    pub(crate) fn run(mut self, arrivals: Arrivals, length: Micros) -> Log {
        self.load = Some((arrivals, length));
        self.schedule_arrival();
        self.go_on_until(Micros::MAX);
        self.finish()
    }

    /// Asks one request at a time and returns what came of it.
    pub(crate) fn ask(&mut self, at: Micros) -> Option<Outcome> {
        self.go_on_until(at);
        let id = self.flights.len();
        self.arrives(at);
        while self.flights.get(id).is_some_and(|flight| flight.outcome.is_none()) && self.step(Micros::MAX) {}
        self.flights.get(id)?.outcome
    }

    /// Lets virtual time pass.
    pub(crate) fn go_on_until(&mut self, until: Micros) {
        while self.step(until) {}
        if until != Micros::MAX {
            self.now = self.now.max(until);
        }
    }

    /// Returns the upstream and the endpoint of `count` choices at this moment, of which nothing is learnt.
    pub(crate) fn choices(&mut self, count: usize) -> Vec<(Arc<Upstream>, Arc<Member>)> {
        let now = self.millis();
        let mut chosen = Vec::with_capacity(count);
        let mut probes = Vec::new();
        for _ in 0..count {
            let mut random = self.random.borrow_mut();
            let mut pick = Pick { asked: self.asked.asked(), ..Pick::new(now, &mut random, &[]) };
            let Some(choice) = self.gateway.table.pick(&self.asked.route.to, self.asked.route.is_local_hop, &mut pick)
            else {
                break;
            };
            if let Some(probe) = choice.probe {
                // Only one request at a time is a probe; the others find it taken.
                probes.push((choice.member.clone(), probe));
            }
            chosen.push((choice.upstream.clone(), choice.member.clone()));
        }
        for (member, probe) in probes {
            member.state.breaker.abandon(probe, now);
        }
        chosen
    }

    /// Lets tries at an endpoint end so, as if other requests had made them. Returns how many places it has.
    pub(crate) fn judge(&mut self, address: &Address, verdict: Verdict, count: u32) -> usize {
        let now = self.millis();
        let mut found = 0;
        for upstream in self.gateway.table.upstreams.clone() {
            let mut members: BTreeMap<u64, Arc<Member>> = BTreeMap::new();
            members.extend(upstream.members.iter().map(|(id, member)| (*id, member.clone())));
            for member in members.values().filter(|member| member.endpoint.address == *address) {
                found += 1;
                for _ in 0..count {
                    let mut turn = Turn::begin(&upstream, member, None, true);
                    let change = turn.judge(verdict, now, || self.random.borrow_mut().f64());
                    turn.end(now);
                    self.tell(member, change);
                }
            }
        }
        found
    }

    /// Changes what targets list of an endpoint; `None` takes it away. Returns how many targets list it.
    pub(crate) fn relist(&mut self, address: &Address, change: impl Fn(Listed) -> Option<Listed>) -> usize {
        self.gateway.relist_with(address, change, self.now)
    }

    /// Returns what happened until now.
    pub(crate) fn finish(mut self) -> Log {
        self.log.addresses = self.world.places.iter().map(|place| place.endpoint.address.clone()).collect();
        self.log.outcomes = self.flights.iter().filter_map(|flight| flight.outcome).collect();
        self.log
    }

    /// Milliseconds of the virtual process; they wrap as those of a worker do.
    #[allow(clippy::cast_possible_truncation, reason = "it wraps on purpose")]
    pub(super) fn millis(&self) -> u32 {
        (self.now / 1000) as u32
    }

    /// Does what is next, unless that is later than `until`.
    fn step(&mut self, until: Micros) -> bool {
        if self.queue.next_at().is_none_or(|at| at > until) {
            return false;
        }
        let Some((at, event)) = self.queue.pop() else { return false };
        self.now = self.now.max(at);
        match event {
            Event::Arrives => {
                self.arrives(self.now);
                self.schedule_arrival();
            }
            Event::Tries(id) => self.tries(id),
            Event::Reaches { one, place, life } => self.reaches(one, place, life),
            Event::Answers { one, place, life, response } => self.answers(one, place, life, response),
            Event::Refused(one) => self.refused(one),
            Event::Late(one) => self.late(one),
            Event::Dies(place) => self.dies(place),
            Event::Lists(index) => {
                if let Some(listing) = self.listings.get(index) {
                    self.gateway.list(&listing.target, &listing.snapshot, self.now);
                }
                if let Some(deadline) = self.gateway.deadline() {
                    self.queue.push(deadline, Event::Expires);
                }
            }
            Event::Expires => self.gateway.expire(self.now),
        }
        true
    }

    fn arrives(&mut self, at: Micros) {
        let deadline = self.asked.deadline.map(|left| at.saturating_add(micros(left)));
        self.flights.push(Flight::new(at, deadline));
        self.tries(self.flights.len() - 1);
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times within a bounded run")]
    fn schedule_arrival(&mut self) {
        let Some((arrivals, length)) = self.load else { return };
        let at = match arrivals {
            // From its number, so that rounding does not add up.
            Arrivals::Steady(rate) => (self.arrived as f64 * 1e6 / rate) as Micros,
            Arrivals::Poisson(rate) => {
                let wait = -(1.0 - self.world.random().f64()).ln() * 1e6 / rate;
                self.now.saturating_add(wait as Micros)
            }
        };
        self.arrived += 1;
        if at < length {
            self.queue.push(at, Event::Arrives);
        }
    }
}
