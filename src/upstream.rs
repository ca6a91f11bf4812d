//! Upstreams: services and inline targets as the data path sees them.
//!
//! A [`Table`] is built anew for every change and published in one pointer. What moves (load, budgets, limits) lives in
//! states behind `Arc`s that a new table takes over from the old one, so an endpoint that stays keeps its history.

pub(crate) mod connect;
pub(crate) mod plan;
pub(crate) mod pool;
pub(crate) mod reconcile;
pub(crate) mod tree;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use meshless_discovery::{Endpoint, Health, Target};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::balance::{Load, Pick, Picker, picker};
use crate::config::Policies;
use crate::follow::removals::Standing;
use crate::resilience::budget::Budget;
use plan::{ListenerPlan, Plan, TlsClient};
use tree::Tree;

/// All that the data path decides by. Never changed, only replaced.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// What the configuration says.
    pub(crate) plan: Arc<Plan>,
    /// In the order of `plan.upstreams`.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
}

impl Table {
    /// Returns what a listener does with requests.
    pub(crate) fn listener(&self, name: &str) -> Option<&Arc<ListenerPlan>> {
        self.plan.listeners.get(name)
    }

    /// Chooses an endpoint for a request: the first tier that has one, of the best standing that any has; one that was
    /// tried only when nothing else is left.
    pub(crate) fn pick(&self, to: &Tree<usize>, pick: &mut Pick<'_>) -> Option<(&Arc<Upstream>, &Arc<Member>)> {
        self.pick_untried(to, pick).or_else(|| {
            let mut again = Pick { now: pick.now, random: pick.random, tried: &[] };
            (!pick.tried.is_empty()).then(|| self.pick_untried(to, &mut again)).flatten()
        })
    }

    fn pick_untried(&self, to: &Tree<usize>, pick: &mut Pick<'_>) -> Option<(&Arc<Upstream>, &Arc<Member>)> {
        [Rank::Listed, Rank::Held, Rank::Unhealthy].into_iter().find_map(|rank| {
            to.choose(pick, &mut |&index, pick| {
                let upstream = self.upstreams.get(index)?;
                let member = upstream.endpoints.choose(pick, &mut |set, pick| set.rank(rank).pick(pick))?;
                Some((upstream, member))
            })
        })
    }
}

/// In which order endpoints of different standing are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rank {
    Listed,
    Held,
    Unhealthy,
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
            in_flight: AtomicUsize::new(0),
            connections: Arc::new(Semaphore::new(policies.limits.connections)),
            connection_limit: AtomicUsize::new(policies.limits.connections),
            excess: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
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

/// The endpoints of one target, by standing.
#[derive(Debug)]
pub(crate) struct TargetSet {
    pub(crate) target: Target,
    listed: Box<dyn Picker>,
    held: Box<dyn Picker>,
    unhealthy: Box<dyn Picker>,
    pub(crate) members: Vec<Arc<Member>>,
}

impl TargetSet {
    pub(crate) fn new(target: Target, policies: &Policies, members: Vec<Arc<Member>>) -> Self {
        let of = |wanted: Rank| {
            let fitting = members.iter().filter(|member| member.rank() == Some(wanted)).cloned().collect();
            picker(policies.balance, fitting)
        };
        Self { target, listed: of(Rank::Listed), held: of(Rank::Held), unhealthy: of(Rank::Unhealthy), members }
    }

    fn rank(&self, rank: Rank) -> &dyn Picker {
        match rank {
            Rank::Listed => &*self.listed,
            Rank::Held => &*self.held,
            Rank::Unhealthy => &*self.unhealthy,
        }
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
    /// Connections to it, over all workers.
    pub(crate) connections: AtomicUsize,
    /// It is in no table any more; workers close what they have open to it.
    pub(crate) gone: AtomicBool,
}

impl Member {
    /// A listed member without history.
    #[cfg(test)]
    pub(crate) fn new(endpoint: Endpoint, id: u64) -> Self {
        Self { endpoint, standing: Standing::Listed, state: Arc::new(MemberState { id, ..MemberState::default() }) }
    }

    /// Returns when it is used; `None`: never for new requests.
    fn rank(&self) -> Option<Rank> {
        match (self.endpoint.health, self.standing) {
            (Health::Draining, _) => None,
            (Health::Unhealthy, _) => Some(Rank::Unhealthy),
            (Health::Healthy, Standing::Held) => Some(Rank::Held),
            (Health::Healthy, Standing::Listed) => Some(Rank::Listed),
        }
    }

    /// Says why new requests pass it over; `None` where they do not.
    pub(crate) fn unused_because(&self) -> Option<&'static str> {
        match (self.rank(), self.endpoint.weight) {
            (_, 0) => Some("weight 0"),
            (None, _) => Some("draining"),
            (Some(Rank::Unhealthy), _) => Some("the backend says it is unhealthy; used when nothing else is left"),
            (Some(Rank::Held), _) => Some("removed by the last answer and held; used when nothing else is left"),
            (Some(Rank::Listed), _) => None,
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
