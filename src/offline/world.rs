//! What endpoints do with requests over time: they answer late, with errors, or not at all.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use meshless_discovery::Address;

use super::Micros;
use super::latency::Latency;

/// A try at an endpoint: which request, and the how many-th try of it.
pub(super) type Try = (usize, u32);

/// An endpoint as it is described.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    pub(crate) latency: Latency,
    /// What making a connection takes.
    pub(crate) connect: Micros,
    /// Requests that it serves at once; others wait in a line. `None`: any number.
    pub(crate) capacity: Option<usize>,
    pub(crate) faults: Vec<Fault>,
}

/// Something that befalls an endpoint for a time.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) from: Micros,
    /// `Micros::MAX`: for ever.
    pub(crate) to: Micros,
    /// Share of the requests that it befalls, from 0 to 1; all of them where it befalls the process.
    pub(crate) share: f64,
    pub(crate) kind: Kind,
}

/// What befalls it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// The process is gone: connections are refused, those that are open are reset.
    Down,
    /// Its host is gone: connecting never ends, and nothing is heard on connections that are open.
    Unreachable,
    /// It stands still (SIGSTOP): connections are accepted by the kernel, answers come when it goes on.
    Frozen,
    /// It resets the connection instead of an answer.
    Reset,
    /// It takes so many times as long.
    Slow(f64),
    /// It answers a status of a failure; `None`: as late as it would answer well.
    Status { status: u16, latency: Option<Latency>, retry_after: Option<Duration> },
}

/// What comes back from an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Response {
    Reply { status: u16, retry_after: Option<Duration> },
    Reset,
}

/// An endpoint that is used.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    /// Tries that have a connection to it.
    pub(super) here: BTreeSet<Try>,
    /// Counts up when the process is gone: what it would have answered never comes.
    pub(super) life: u32,
    busy: usize,
    line: VecDeque<Try>,
}

/// All endpoints.
#[derive(Debug)]
pub(super) struct World {
    pub(super) places: Vec<Place>,
    by_address: HashMap<Address, usize>,
    /// What an endpoint is like that nobody described.
    other: Endpoint,
    random: fastrand::Rng,
}

impl World {
    pub(super) fn new(endpoints: Vec<Endpoint>, other: Endpoint, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let mut world = Self { places: Vec::new(), by_address: HashMap::new(), other, random };
        for endpoint in endpoints {
            world.add(endpoint);
        }
        world
    }

    fn add(&mut self, endpoint: Endpoint) -> usize {
        let index = self.places.len();
        self.by_address.insert(endpoint.address.clone(), index);
        self.places.push(Place { endpoint, here: BTreeSet::new(), life: 0, busy: 0, line: VecDeque::new() });
        index
    }

    /// Returns the position of an endpoint.
    pub(super) fn place_of(&mut self, address: &Address) -> usize {
        match self.by_address.get(address) {
            Some(index) => *index,
            None => self.add(Endpoint { address: address.clone(), ..self.other.clone() }),
        }
    }

    pub(super) fn random(&mut self) -> &mut fastrand::Rng {
        &mut self.random
    }

    /// A request has arrived. Returns when its answer is due, and which; `None`: it waits in line, or for ever.
    pub(super) fn arrives(&mut self, index: usize, one: Try, now: Micros) -> Option<(Micros, Response)> {
        let place = self.places.get_mut(index)?;
        if place.endpoint.capacity.is_some_and(|capacity| place.busy >= capacity) {
            place.line.push_back(one);
            return None;
        }
        place.busy += 1;
        place.serve(now, &mut self.random)
    }

    /// A request has been served or given up by the endpoint. Returns the next one in line, and when its answer is due.
    pub(super) fn leaves(
        &mut self,
        index: usize,
        now: Micros,
        is_waiting: impl Fn(Try) -> bool,
    ) -> Option<(Try, Option<(Micros, Response)>)> {
        let place = self.places.get_mut(index)?;
        place.busy = place.busy.saturating_sub(1);
        while let Some(next) = place.line.pop_front() {
            if is_waiting(next) {
                place.busy += 1;
                return Some((next, place.serve(now, &mut self.random)));
            }
        }
        None
    }

    /// The process is gone. Returns the tries that had a connection to it.
    pub(super) fn dies(&mut self, index: usize) -> Vec<Try> {
        let Some(place) = self.places.get_mut(index) else { return Vec::new() };
        place.life += 1;
        place.busy = 0;
        place.line.clear();
        std::mem::take(&mut place.here).into_iter().collect()
    }
}

impl Place {
    /// Returns the fault of the whole process that is going on.
    pub(super) fn plight(&self, now: Micros) -> Option<&Fault> {
        let is_whole = |fault: &&Fault| matches!(fault.kind, Kind::Down | Kind::Unreachable | Kind::Frozen);
        self.endpoint.faults.iter().filter(is_whole).find(|fault| (fault.from..fault.to).contains(&now))
    }

    /// Returns when it goes on, where it stands still now; `Micros::MAX`: never.
    pub(super) fn stands_still_until(&self, now: Micros) -> Option<Micros> {
        let fault = self.plight(now)?;
        matches!(fault.kind, Kind::Frozen | Kind::Unreachable).then_some(fault.to)
    }

    fn serve(&mut self, now: Micros, random: &mut fastrand::Rng) -> Option<(Micros, Response)> {
        let start = match self.stands_still_until(now) {
            Some(Micros::MAX) => return None,
            Some(until) => until,
            None => now,
        };
        let normal = self.endpoint.latency.draw(random);
        let mut befalls = |fault: &&Fault| {
            let is_partial = matches!(fault.kind, Kind::Reset | Kind::Slow(_) | Kind::Status { .. });
            is_partial && (fault.from..fault.to).contains(&start) && random.f64() < fault.share
        };
        let kind = self.endpoint.faults.iter().find(&mut befalls).map(|fault| fault.kind);
        let good = Response::Reply { status: 200, retry_after: None };
        Some(match kind {
            Some(Kind::Reset) => (start, Response::Reset),
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a latency of hours at the most"
            )]
            Some(Kind::Slow(factor)) => (start.saturating_add((normal as f64 * factor) as Micros), good),
            Some(Kind::Status { status, latency, retry_after }) => {
                let latency = latency.map_or(normal, |latency| latency.draw(random));
                (start.saturating_add(latency), Response::Reply { status, retry_after })
            }
            _ => (start.saturating_add(normal), good),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(capacity: Option<usize>, faults: Vec<Fault>) -> World {
        let address = Address::Tcp(([127, 0, 0, 1], 1).into());
        let endpoint = Endpoint { address, latency: Latency::Constant(5), connect: 0, capacity, faults };
        World::new(vec![endpoint.clone()], endpoint, 1)
    }

    fn fault(kind: Kind) -> Fault {
        Fault { from: 10, to: 20, share: 1.0, kind }
    }

    const GOOD: Response = Response::Reply { status: 200, retry_after: None };

    #[test]
    fn a_fault_befalls_what_begins_while_it_lasts() {
        let mut world = world(None, vec![fault(Kind::Slow(20.0))]);
        assert_eq!(world.arrives(0, (0, 1), 9), Some((14, GOOD)));
        assert_eq!(world.arrives(0, (1, 1), 10), Some((110, GOOD)));
        assert_eq!(world.arrives(0, (2, 1), 20), Some((25, GOOD)));
    }

    #[test]
    fn what_reaches_one_that_stands_still_is_served_when_it_goes_on() {
        assert_eq!(world(None, vec![fault(Kind::Frozen)]).arrives(0, (0, 1), 12), Some((25, GOOD)));
        let for_ever = Fault { to: Micros::MAX, ..fault(Kind::Frozen) };
        assert_eq!(world(None, vec![for_ever]).arrives(0, (0, 1), 12), None);
    }

    #[test]
    fn more_requests_than_it_serves_at_once_wait_in_line_and_those_given_up_are_passed_over() {
        let mut world = world(Some(1), Vec::new());
        assert_eq!(world.arrives(0, (0, 1), 0), Some((5, GOOD)));
        assert_eq!((world.arrives(0, (1, 1), 1), world.arrives(0, (2, 1), 1)), (None, None));
        assert_eq!(world.leaves(0, 5, |one| one == (2, 1)), Some(((2, 1), Some((10, GOOD)))));
        assert_eq!(world.leaves(0, 10, |_| true), None);
    }

    #[test]
    fn a_share_of_requests_fails() {
        let status = Kind::Status { status: 500, latency: None, retry_after: None };
        let mut world = world(None, vec![Fault { from: 0, to: Micros::MAX, share: 0.3, kind: status }]);
        let failed = (0..10_000).filter(|&id| world.arrives(0, (id, 1), 0).unwrap().1 != GOOD).count();
        assert!((2_800..3_200).contains(&failed), "{failed}");
    }
}
