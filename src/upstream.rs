//! Upstreams: services and inline targets as the data path sees them.
//!
//! A [`Table`] is built anew for every change and published in one pointer. What moves (load, budgets, limits) lives in
//! states behind `Arc`s that a new table takes over from the old one, so an endpoint that stays keeps its history.

pub(crate) mod connect;
pub(crate) mod health;
pub(crate) mod live;
pub(crate) mod logical;
pub(crate) mod pick;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod reconcile;
pub(crate) mod tls;
pub(crate) mod tree;
pub(crate) mod turn;
pub(crate) mod vitals;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use meshless_discovery::{Endpoint, Health, Target};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::balance::{Load, Picker, Warmth, picker};
use crate::config::Policies;
use crate::follow::removals::Standing;
use crate::resilience::breaker::{Breaker, Ejected, Usable};
use crate::resilience::budget::Budget;
use crate::resilience::percentile::Latencies;
use health::Checked;
use plan::{ListenerPlan, Plan};
use tls::TlsClient;
use tree::Tree;
use vitals::Counted;

/// All that the data path decides by. Never changed, only replaced.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// What the configuration says.
    pub(crate) plan: Arc<Plan>,
    /// What requests asked for besides.
    pub(crate) live: Arc<live::Live>,
    /// In the order of `plan.upstreams`, then of `live.upstreams`.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
}

impl Table {
    /// Returns what a listener does with requests.
    pub(crate) fn listener(&self, name: &str) -> Option<&Arc<ListenerPlan>> {
        self.plan.listeners.get(name)
    }
}

/// A service or an inline target.
pub(crate) struct Upstream {
    /// Its name in metrics and logs: the service's, else the target as written.
    pub(crate) name: Arc<str>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) tls: Option<Arc<TlsClient>>,
    pub(crate) state: Arc<UpstreamState>,
    /// Its endpoints, in tiers and splits.
    pub(crate) endpoints: Tree<Arc<TargetSet>>,
    pub(crate) members: std::collections::HashMap<u64, Arc<Member>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Upstream")
            .field("name", &self.name)
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

/// What of an upstream is shared by the workers and outlives a table.
#[derive(Debug)]
pub(crate) struct UpstreamState {
    pub(crate) id: u64,
    pub(crate) budget: Budget,
    /// How many of its endpoints are ejected.
    pub(crate) ejected: Ejected,
    /// Latencies of its replies, where hedging asks for them.
    latencies: OnceLock<Box<Latencies>>,
    /// Counts up when the health of an endpoint changes.
    pub(crate) epoch: AtomicU32,
    /// Requests in flight, against `limits.requests`.
    pub(crate) in_flight: AtomicUsize,
    /// A permit for each connection, up to `limits.connections`.
    pub(crate) connections: Arc<Semaphore>,
    /// Permits that were given to `connections`.
    connection_limit: AtomicUsize,
    /// Connections over a limit that was lowered: so many permits are not given back.
    excess: AtomicUsize,
    /// Requests that wait for a connection, over all workers.
    pub(crate) waiting: AtomicUsize,
}

impl UpstreamState {
    pub(crate) fn new(id: u64, policies: &Policies) -> Self {
        Self {
            id,
            budget: Budget::new(policies.retry.min_per_second),
            ejected: Ejected::default(),
            latencies: OnceLock::new(),
            epoch: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(policies.limits.connections)),
            connection_limit: AtomicUsize::new(policies.limits.connections),
            excess: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Returns the latencies of its replies.
    pub(crate) fn latencies(&self) -> &Latencies {
        self.latencies.get_or_init(Box::default)
    }

    /// Takes over a changed `limits.connections`. Connections over a lowered limit stay until they end.
    pub(crate) fn limit_connections(&self, limit: usize) {
        let before = self.connection_limit.swap(limit, Ordering::Relaxed);
        for _ in before..limit {
            // A connection over the old limit is within the new one: it keeps its permit instead.
            if !self.take_excess() {
                self.connections.add_permits(1);
            }
        }
        if limit < before {
            let over = before - limit;
            self.excess.fetch_add(over - self.connections.forget_permits(over), Ordering::Relaxed);
        }
    }

    /// Takes the permit of a connection that has ended back.
    pub(crate) fn give_back(&self, permit: OwnedSemaphorePermit) {
        if self.take_excess() {
            permit.forget();
        }
    }

    fn take_excess(&self) -> bool {
        let take = |excess: usize| excess.checked_sub(1);
        self.excess.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// The endpoints of one target.
#[derive(Debug)]
pub(crate) struct TargetSet {
    pub(crate) target: Target,
    /// Those that their backend says are healthy.
    healthy: Box<dyn Picker>,
    held: Box<dyn Picker>,
    /// All that are listed; `None` where all of them are healthy.
    listed: Option<Box<dyn Picker>>,
    pub(crate) members: Vec<Arc<Member>>,
    pub(crate) vitals: Counted,
}

impl TargetSet {
    /// `zone` is the gateway's own; `line` says whose turns were next before this set took the place of another.
    pub(crate) fn new(
        target: Target,
        policies: &Policies,
        zone: Option<&str>,
        members: Vec<Arc<Member>>,
        line: &[u64],
    ) -> Self {
        let of = |fits: &dyn Fn(&Member) -> bool| {
            picker(policies, zone, members.iter().filter(|member| fits(member)).cloned().collect(), line)
        };
        let is_healthy = |member: &Member| member.endpoint.health == Health::Healthy;
        let all_healthy = members.iter().all(|member| is_healthy(member));
        Self {
            target,
            healthy: of(&|member| member.is_listed() && is_healthy(member)),
            held: of(&|member| member.standing == Standing::Held && is_healthy(member)),
            listed: (!all_healthy).then(|| of(&Member::is_listed)),
            members,
            vitals: Counted::new(),
        }
    }

    /// Returns the ids of healthy members in the order of their next turns, where there are turns.
    pub(crate) fn line(&self) -> Vec<u64> {
        self.healthy.line()
    }
}

/// An endpoint of an upstream: what discovery says of it, and what we learnt of it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) endpoint: Endpoint,
    pub(crate) standing: Standing,
    pub(crate) state: Arc<MemberState>,
}

/// What we learnt of an endpoint; stays as long as the endpoint does.
#[derive(Debug, Default)]
pub(crate) struct MemberState {
    /// Unique in the process.
    pub(crate) id: u64,
    pub(crate) load: Load,
    /// Its failures, and whether it is ejected for them.
    pub(crate) breaker: Breaker,
    /// What active health checks say of it.
    pub(crate) checked: Checked,
    /// Connections to it, over all workers.
    pub(crate) connections: AtomicUsize,
    /// It is in no table any more; workers close what they have open to it.
    pub(crate) gone: AtomicBool,
    /// How far it is in its slow start.
    pub(crate) warmth: Warmth,
}

impl Member {
    /// A listed member without history.
    #[cfg(test)]
    pub(crate) fn new(endpoint: Endpoint, id: u64) -> Self {
        Self { endpoint, standing: Standing::Listed, state: Arc::new(MemberState { id, ..MemberState::default() }) }
    }

    /// Tells whether its backend lists it for new requests.
    pub(crate) fn is_listed(&self) -> bool {
        self.standing == Standing::Listed && self.endpoint.health != Health::Draining
    }

    /// Tells whether its backend says that it is well, and our health checks do not say otherwise.
    pub(crate) fn is_sound(&self) -> bool {
        self.endpoint.health == Health::Healthy && !self.state.checked.is_bad()
    }

    /// Tells whether it may get any request: it is well, and not ejected.
    pub(crate) fn is_usable(&self, now: u32) -> bool {
        self.is_sound() && self.state.breaker.usable(now) == Usable::Yes
    }

    /// Says why new requests pass it over; `None` where they do not.
    pub(crate) fn unused_because(&self, now: u32) -> Option<&'static str> {
        match (self.endpoint.health, self.standing) {
            _ if self.endpoint.weight == 0 => Some("weight 0"),
            (Health::Draining, _) => Some("draining"),
            (Health::Unhealthy, _) => Some("the backend says it is unhealthy; used when nothing else is left"),
            (Health::Healthy, Standing::Held) => {
                Some("removed by the last answer and held; used when nothing else is left")
            }
            _ if self.state.checked.is_bad() => Some("it fails our health checks; used when nothing else is left"),
            (Health::Healthy, Standing::Listed) => match self.state.breaker.usable(now) {
                Usable::Yes => None,
                Usable::Due => Some("ejected; the next request is its probe"),
                Usable::No => Some("ejected"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lowered_limit_holds_as_soon_as_connections_over_it_end() {
        let policies = Policies::default();
        let state = UpstreamState::new(1, &policies);
        state.limit_connections(3);
        let open = || state.connections.clone().try_acquire_owned();
        let (first, second, third) = (open().unwrap(), open().unwrap(), open().unwrap());
        state.limit_connections(1);
        state.give_back(first);
        state.give_back(second);
        assert!(open().is_err());
        state.give_back(third);
        let only = open().unwrap();
        assert!(open().is_err());
        // Lowered to nothing and raised again while one is open: the one counts.
        state.limit_connections(0);
        state.limit_connections(2);
        let other = open().unwrap();
        assert!(open().is_err());
        state.give_back(only);
        state.give_back(other);
        assert_eq!(state.connections.available_permits(), 2);
    }
}
