//! What all workers share of a listener: its configuration, its TLS, its limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc;

use super::plaintext::Sources;
use super::secure::Tls;
use crate::config::{Listener, UpstreamProtocol};
use crate::resilience::memory;
use crate::telemetry::metrics::Direction;
use crate::upstream::Table;

/// One listener, as all workers see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) direction: Direction,
    listener: ArcSwap<Listener>,
    tls: ArcSwapOption<Tls>,
    /// Who came in clear text although the listener wishes for certificates.
    plaintext: Sources,
    /// What connections go on by when the listener is gone from the configuration.
    last_table: ArcSwapOption<Table>,
    open: AtomicUsize,
    /// Requests in flight.
    requests: AtomicUsize,
    /// The only lock on the way of a connection; requests never see it.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Shared {
    pub(crate) fn new(listener: Arc<Listener>, tls: Option<Arc<Tls>>, direction: Direction) -> Arc<Self> {
        Arc::new(Self {
            name: Arc::from(listener.name.as_str()),
            direction,
            listener: ArcSwap::new(listener),
            tls: ArcSwapOption::new(tls),
            plaintext: Sources::default(),
            last_table: ArcSwapOption::empty(),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            by_address: Mutex::default(),
        })
    }

    /// Takes a changed configuration over; connections that are open keep the old one.
    pub(crate) fn replace(&self, listener: Arc<Listener>, tls: Option<Arc<Tls>>) {
        self.listener.store(listener);
        self.tls.store(tls);
    }

    pub(crate) fn listener(&self) -> Arc<Listener> {
        self.listener.load_full()
    }

    pub(crate) fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.load_full()
    }

    /// Returns who came in clear text although the listener wishes for certificates.
    pub(crate) fn plaintext(&self) -> &Sources {
        &self.plaintext
    }

    /// The listener goes: what is under way on its connections still ends by this table.
    pub(crate) fn leave(&self, table: Arc<Table>) {
        self.last_table.store(Some(table));
    }

    /// Returns the table that a listener that is gone left.
    pub(crate) fn last_table(&self) -> Option<Arc<Table>> {
        // Hardly ever there, so look before an owner is counted.
        self.last_table.load().as_ref().cloned()
    }

    /// Returns how many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Tells whether all traffic goes to a service that speaks bytes, so that what is no HTTP may be carried there.
    pub(super) fn carries_tcp(&self, table: &Table) -> bool {
        let Some(to) = table.listener(&self.name).and_then(|plan| plan.to.as_ref()) else { return false };
        let mut all = true;
        to.to.for_each(&mut |&index| {
            let protocol = table.plan.upstreams.get(index).map(|upstream| upstream.policies.protocol);
            all &= protocol == Some(UpstreamProtocol::Tcp);
        });
        all
    }

    /// Counts a request in, up to a limit; false: it is reached. One that was counted in is counted out again.
    pub(crate) fn count_in(&self, limit: usize) -> bool {
        let is_in = self.requests.fetch_add(1, Ordering::Relaxed) < limit;
        if !is_in {
            self.count_out();
        }
        is_in
    }

    /// A request that was counted in has ended.
    pub(crate) fn count_out(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Lets a connection in, or says which limit keeps it out.
    pub(crate) fn admit(
        self: &Arc<Self>,
        client: Option<IpAddr>,
        memory: memory::Level,
    ) -> Result<Admitted, &'static str> {
        if memory >= memory::Level::NoConnections {
            return Err("limit_memory");
        }
        let listener = self.listener.load();
        if self.open.fetch_add(1, Ordering::Relaxed) >= listener.limits.connections {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err("limit_connections");
        }
        let mut admitted = Admitted { shared: self.clone(), counted: None };
        // Behind a balancer the client is known when its PROXY header was read.
        if let Some(client) = client.filter(|_| !listener.proxy_protocol) {
            admitted.count(client)?;
        }
        Ok(admitted)
    }
}

/// A connection that was let in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    shared: Arc<Shared>,
    counted: Option<IpAddr>,
}

impl Admitted {
    /// Counts the connection as one of a client's, or says which limit keeps it out.
    pub(super) fn count(&mut self, client: IpAddr) -> Result<(), &'static str> {
        let limit = self.shared.listener.load().limits.connections_per_address;
        if limit == 0 || client.to_canonical().is_loopback() || self.counted.is_some() {
            return Ok(());
        }
        let mut by_address = self.shared.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(client).or_default();
        if *count >= limit {
            return Err("limit_connections_per_address");
        }
        *count += 1;
        self.counted = Some(client);
        Ok(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.counted {
            let mut by_address = self.shared.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

/// All workers, for spreading connections: the kernel's hash spreads connections, not load.
#[derive(Debug)]
pub(crate) struct Crew {
    loads: Vec<AtomicUsize>,
    handoffs: Vec<mpsc::UnboundedSender<Handoff>>,
    closed: AtomicBool,
}

/// A connection that one worker accepted and another serves.
#[derive(Debug)]
pub(crate) struct Handoff {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stream: HandedStream,
    pub(crate) client: Option<IpAddr>,
    pub(crate) admitted: Admitted,
    pub(crate) placed: Placed,
}

/// A connection counts for its worker from the moment it is placed there, until this is dropped.
#[derive(Debug)]
pub(crate) struct Placed {
    crew: Arc<Crew>,
    worker: usize,
}

impl Placed {
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        if let Some(load) = self.crew.loads.get(self.worker) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A stream that belongs to no runtime yet.
#[derive(Debug)]
pub(crate) enum HandedStream {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Crew {
    pub(crate) fn new(handoffs: Vec<mpsc::UnboundedSender<Handoff>>) -> Arc<Self> {
        Arc::new(Self {
            loads: handoffs.iter().map(|_| AtomicUsize::new(0)).collect(),
            handoffs,
            closed: AtomicBool::new(false),
        })
    }

    /// Returns how many connections a worker has.
    pub(crate) fn load(&self, worker: usize) -> usize {
        self.loads.get(worker).map_or(0, |load| load.load(Ordering::Relaxed))
    }

    /// Tells whether the process ends.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The process ends: workers keep what they accept, because another one may be gone before it could serve.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Places one more connection that `here` accepted: there, unless another worker has clearly fewer. Few connections
    /// are spread evenly; with many a sixteenth may differ, so that a full house does not pass every second connection
    /// around.
    pub(crate) fn place(self: &Arc<Self>, here: usize) -> Placed {
        let mine = self.load(here);
        let least = (0..self.loads.len()).min_by_key(|&worker| self.load(worker)).unwrap_or(here);
        let slack = mine / 16;
        let keeps = self.is_closed() || mine <= self.load(least) + slack;
        let worker = if keeps { here } else { least };
        if let Some(load) = self.loads.get(worker) {
            load.fetch_add(1, Ordering::Relaxed);
        }
        Placed { crew: self.clone(), worker }
    }

    /// Hands a connection over; gives it back where the worker is gone.
    pub(crate) fn hand(&self, handoff: Handoff) -> Result<(), Handoff> {
        match self.handoffs.get(handoff.placed.worker) {
            Some(sender) => sender.send(handoff).map_err(|error| error.0),
            None => Err(handoff),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crew(workers: usize) -> Arc<Crew> {
        Crew::new((0..workers).map(|_| mpsc::unbounded_channel().0).collect())
    }

    #[test]
    fn four_connections_that_one_worker_accepts_are_spread_over_two() {
        let crew = crew(2);
        let placed: Vec<_> = (0..4).map(|_| crew.place(0)).collect();
        assert_eq!((crew.load(0), crew.load(1)), (2, 2));
        drop(placed);
        assert_eq!((crew.load(0), crew.load(1)), (0, 0));
    }

    #[test]
    fn with_many_connections_small_differences_stay() {
        let crew = crew(2);
        crew.loads[0].store(100, Ordering::Relaxed);
        crew.loads[1].store(95, Ordering::Relaxed);
        assert_eq!(crew.place(0).worker(), 0);
        crew.loads[0].store(110, Ordering::Relaxed);
        assert_eq!(crew.place(0).worker(), 1);
    }
}
