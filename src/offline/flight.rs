//! One request on its way through its tries.
//!
//! The steps are those of `proxy::tries`, and so are the rules: [`Table::pick`](crate::upstream::Table::pick),
//! [`Turn`], [`Bounds`] and [`Course`]. Connections are HTTP/1.1: one request at a time, kept open after an answer.

use std::sync::Arc;
use std::time::Duration;

use super::engine::{Engine, Event};
use super::log::{Changed, Outcome, Tried};
use super::world::{Kind, Response, Try};
use super::{Micros, micros};
use crate::balance::{Pick, Sample};
use crate::proxy::bounds::{self, Bounds};
use crate::proxy::failure::{Failure, Limit};
use crate::resilience::breaker::{Change, Verdict};
use crate::resilience::course::{Answered, Course, Ended, Next, Now, Terms};
use crate::resilience::retry::may_repeat;
use crate::resilience::verdict;
use crate::upstream::turn::Turn;
use crate::upstream::{Member, Upstream};

/// A request.
#[derive(Debug)]
pub(super) struct Flight {
    due: Micros,
    deadline: Option<Micros>,
    course: Course,
    turn: Option<Turn>,
    /// Tries that have begun; what comes for an earlier one comes too late.
    number: u32,
    retries: u32,
    /// When the try that is under way began, and when its connection was there.
    began: Micros,
    connected: Micros,
    /// Position of the try in the log.
    record: usize,
    /// Position of its endpoint, and whether its connection had served before.
    place: usize,
    is_reused: bool,
    /// When the request is too late.
    end: Micros,
    last_failure: Option<Failure>,
    pub(super) outcome: Option<Outcome>,
}

impl Flight {
    pub(super) fn new(due: Micros, deadline: Option<Micros>) -> Self {
        Self {
            due,
            deadline,
            course: Course::default(),
            turn: None,
            number: 0,
            retries: 0,
            began: due,
            connected: due,
            record: 0,
            place: 0,
            is_reused: false,
            end: Micros::MAX,
            last_failure: None,
            outcome: None,
        }
    }

    fn has_under_way(&self, one: Try) -> bool {
        self.turn.is_some() && self.number == one.1
    }
}

impl Engine {
    /// Begins the next try of a request.
    pub(super) fn tries(&mut self, id: usize) {
        let (now, millis) = (self.now, self.millis());
        let route = &self.asked.route;
        let Some(flight) = self.flights.get_mut(id) else { return };
        let picked = {
            let mut random = self.random.borrow_mut();
            let tried = flight.course.tried();
            let mut pick = Pick { asked: self.asked.asked(), ..Pick::new(millis, &mut random, tried) };
            let choice = self.gateway.table.pick(&route.to, route.is_local_hop, &mut pick);
            choice.map(|choice| (choice.upstream.clone(), choice.member.clone(), choice.probe))
        };
        let Some((upstream, member, probe)) = picked else {
            let failure = flight.last_failure.take().unwrap_or(Failure::NoEndpoint);
            return self.fails(id, &failure);
        };
        let policies = &upstream.policies;
        let retry = route.retry(&upstream.name, policies);
        if flight.number == 0 {
            upstream.state.budget.deposit(retry.budget, retry.min_per_second, millis);
        }
        flight.course.tries(member.state.id);
        let mut turn = Turn::begin(&upstream, &member, probe, !route.is_local_hop);
        if !turn.is_within_limit {
            turn.end(millis);
            return self.fails(id, &Failure::Limit(Limit::Requests));
        }
        flight.turn = Some(turn);
        flight.number += 1;
        flight.began = now;
        let is_stream = self.asked.is_grpc && flight.deadline.is_none();
        let time = |at| tokio::time::Instant::from_std(self.gateway.instant(at));
        let bounds = Bounds {
            received: time(flight.due),
            began: time(now),
            deadline: flight.deadline.map(time),
            timeout: bounds::timeout(route, policies, is_stream),
            idle: policies.idle_timeout,
            per_try: retry.per_try,
            upload: None,
        };
        flight.end = self.gateway.time(bounds.end().into_std());
        let one = (id, flight.number);
        flight.record = self.log.tries.len();
        self.queue.push(self.gateway.time(bounds.end_of_try().into_std()), Event::Late(one));
        self.log.tries.push(Tried { at: now, endpoint: self.world.place_of(&member.endpoint.address), took: None });
        self.connects(one, &upstream, &member);
    }

    /// Takes a connection that is open, or makes one.
    fn connects(&mut self, one: Try, upstream: &Upstream, member: &Member) {
        let now = self.now;
        let index = self.world.place_of(&member.endpoint.address);
        let idle = self.idle.entry(member.state.id).or_default();
        let is_reused = *idle > 0;
        *idle = idle.saturating_sub(1);
        let (Some(place), Some(flight)) = (self.world.places.get_mut(index), self.flights.get_mut(one.0)) else {
            return;
        };
        flight.place = index;
        flight.is_reused = is_reused;
        let plight = place.plight(now).map(|fault| fault.kind);
        let takes = if is_reused { 0 } else { place.endpoint.connect };
        let patience = micros(upstream.policies.connect_timeout);
        let event = match plight {
            Some(Kind::Down) if !is_reused => (now.saturating_add(takes.min(patience)), Event::Refused(one)),
            Some(Kind::Unreachable) if !is_reused => (now.saturating_add(patience), Event::Refused(one)),
            _ if takes > patience => (now.saturating_add(patience), Event::Refused(one)),
            _ => {
                place.here.insert(one);
                (now.saturating_add(takes), Event::Reaches { one, place: index, life: place.life })
            }
        };
        flight.connected = event.0;
        self.queue.push(event.0, event.1);
    }

    pub(super) fn reaches(&mut self, one: Try, index: usize, life: u32) {
        let is_here = self.flights.get(one.0).is_some_and(|flight| flight.has_under_way(one));
        if !is_here || self.world.places.get(index).is_none_or(|place| place.life != life) {
            return;
        }
        if let Some((due, response)) = self.world.arrives(index, one, self.now) {
            self.queue.push(due, Event::Answers { one, place: index, life, response });
        }
    }

    pub(super) fn answers(&mut self, one: Try, index: usize, life: u32, response: Response) {
        let now = self.now;
        let Some(place) = self.world.places.get_mut(index).filter(|place| place.life == life) else { return };
        match place.stands_still_until(now) {
            Some(Micros::MAX) => return,
            Some(until) => return self.queue.push(until, Event::Answers { one, place: index, life, response }),
            None => {}
        }
        let flights = &self.flights;
        let is_waiting = |one: Try| flights.get(one.0).is_some_and(|flight| flight.has_under_way(one));
        if let Some((next, Some((due, response)))) = self.world.leaves(index, now, is_waiting) {
            self.queue.push(due, Event::Answers { one: next, place: index, life, response });
        }
        let Some(flight) = self.flights.get(one.0).filter(|flight| flight.has_under_way(one)) else { return };
        let ended = match response {
            Response::Reply { status, retry_after } => {
                Ended::Reply(Answered { status, retry_after, ..Answered::default() })
            }
            Response::Reset => Ended::Reset { reused: flight.is_reused },
        };
        self.ended(one.0, ended);
    }

    pub(super) fn refused(&mut self, one: Try) {
        if self.flights.get(one.0).is_some_and(|flight| flight.has_under_way(one)) {
            self.ended(one.0, Ended::Connect);
        }
    }

    pub(super) fn late(&mut self, one: Try) {
        if self.flights.get(one.0).is_some_and(|flight| flight.has_under_way(one)) {
            self.ended(one.0, Ended::Late);
        }
    }

    /// Connections to a process that is gone are closed: those in use are reset, the gateway drops those that wait.
    pub(super) fn dies(&mut self, index: usize) {
        let Some(place) = self.world.places.get(index) else { return };
        let address = place.endpoint.address.clone();
        for upstream in &self.gateway.table.upstreams {
            for (id, member) in &upstream.members {
                if member.endpoint.address == address {
                    self.idle.remove(id);
                }
            }
        }
        for one in self.world.dies(index) {
            if let Some(flight) = self.flights.get(one.0).filter(|flight| flight.has_under_way(one)) {
                let reused = flight.is_reused;
                self.ended(one.0, Ended::Reset { reused });
            }
        }
    }

    /// A try has ended: what is learnt of it, and what comes next.
    fn ended(&mut self, id: usize, ended: Ended) {
        let (now, millis) = (self.now, self.millis());
        let Some(flight) = self.flights.get_mut(id) else { return };
        let Some(mut turn) = flight.turn.take() else { return };
        if let Some(place) = self.world.places.get_mut(flight.place) {
            place.here.remove(&(id, flight.number));
        }
        let (upstream, member) = (turn.upstream.clone(), turn.member.clone());
        let policies = &upstream.policies;
        let said = match ended {
            Ended::Reply(said) => {
                if let Some(tried) = self.log.tries.get_mut(flight.record) {
                    tried.took = Some(now.saturating_sub(flight.began));
                }
                let verdict = verdict::verdict(&policies.classify, said.status, said.grpc, None);
                let latency_ms = to_ms(now.saturating_sub(flight.connected));
                member.state.load.observe(Sample::of(verdict, said.retry_after, latency_ms), millis);
                Some(verdict)
            }
            _ => ended.blames().map(|cause| {
                let verdict = Verdict::Failure(cause);
                // The time that was lost on it is its latency.
                let latency_ms = to_ms(now.saturating_sub(flight.began));
                member.state.load.observe(Sample::of(verdict, None, latency_ms), millis);
                verdict
            }),
        };
        let change = said.and_then(|said| turn.judge(said, millis, || self.random.borrow_mut().f64()));
        let retry = self.asked.route.retry(&upstream.name, policies);
        let terms = Terms {
            policy: &retry,
            classify: &policies.classify,
            repeats: may_repeat(&retry, &self.asked.method),
            is_local_hop: self.asked.route.is_local_hop,
        };
        if !matches!(ended, Ended::Reply(_)) {
            turn.end(millis);
        }
        let (table, route, random) = (&self.gateway.table, &self.asked.route, &self.random);
        let luck = random.borrow_mut().f64();
        let next = {
            let now = Now {
                rewinds: true,
                left: Some(Duration::from_micros(flight.end.saturating_sub(now))),
                budget: &upstream.state.budget,
                millis,
                random: luck,
                another: &|tried| table.has_another(&route.to, route.is_local_hop, tried, millis),
            };
            flight.course.next(ended, &terms, &now)
        };
        let failure = match ended {
            Ended::Reply(_) => None,
            Ended::Connect => Some(Failure::ConnectFailed(String::new())),
            Ended::Late => Some(Failure::Deadline),
            Ended::Reset { .. } | Ended::Unsent => Some(Failure::Broken(String::new())),
        };
        match (next, ended) {
            (Next::Done, Ended::Reply(said)) => {
                turn.end(millis);
                *self.idle.entry(member.state.id).or_default() += 1;
                self.ends(id, said.status, "");
            }
            (Next::Done, _) => {
                let failure = failure.unwrap_or(Failure::NoEndpoint);
                self.fails(id, &failure);
            }
            (Next::Requeue | Next::Resend, _) => {
                flight.last_failure = failure;
                self.queue.push(now, Event::Tries(id));
            }
            (Next::Retry { wait, .. }, _) => {
                if failure.is_none() {
                    turn.end(millis);
                }
                flight.retries += 1;
                flight.last_failure = failure;
                self.queue.push(now.saturating_add(micros(wait)), Event::Tries(id));
            }
        }
        self.tell(&member, change);
        if ended == Ended::Connect {
            self.gateway.failed(&member.endpoint.address);
        }
    }

    /// Notes what a breaker decided.
    pub(super) fn tell(&mut self, member: &Arc<Member>, change: Option<Change>) {
        if let Some(change) = change {
            let endpoint = self.world.place_of(&member.endpoint.address);
            self.log.changes.push(Changed { at: self.now, endpoint, change });
        }
    }

    fn fails(&mut self, id: usize, failure: &Failure) {
        self.ends(id, failure.status().as_u16(), failure.label());
    }

    fn ends(&mut self, id: usize, status: u16, error: &'static str) {
        let now = self.now;
        if let Some(flight) = self.flights.get_mut(id) {
            let (due, took) = (flight.due, now.saturating_sub(flight.due));
            flight.outcome = Some(Outcome { due, took, status, error, tries: flight.number, retries: flight.retries });
        }
    }
}

fn to_ms(micros: Micros) -> f32 {
    Duration::from_micros(micros).as_secs_f32() * 1000.0
}
