//! Connections whose peer showed an identity: each of them ends when that is worth nothing any more.
//!
//! A certificate is checked at the handshake, and a connection may live for hours after it. Revocation is by short
//! lifetimes, so a connection lives no longer than the certificate that it was opened with; and where a root leaves the
//! bundle, peers that only it vouched for are found by checking their chains again. Such a connection is drained: no
//! further request, and after the grace period its stream is cut.
//!
//! All of this is one worker's own. Requests pay nothing: the worker looks at its connections four times a second, and at
//! most of these looks at one number.

mod bond;
mod review;

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use meshless_certs::{Mesh, TrustBundle};
use tokio::time::Instant;

pub(crate) use self::bond::{Bond, Cut, Shown};

use self::bond::{Lost, Side};
use self::review::Review;
use crate::shutdown::Drain;
use crate::telemetry::metrics::WorkerMetrics;

/// A connection of ours to an endpoint leaves its pool so long before a certificate ends, or a tenth of the time
/// that it has left when the connection begins, where that is less: the endpoint drains at the end itself, and shall not meet a request of ours.
const MARGIN: Duration = Duration::from_secs(30);

/// A certificate is valid to the end of its last second (RFC 5280, 4.1.2.5).
const LAST_SECOND: Duration = Duration::from_secs(1);

/// What all workers share of it.
#[derive(Debug)]
pub(crate) struct Terms {
    mesh: Arc<Mesh>,
    grace: AtomicU64,
}

impl Terms {
    pub(crate) fn new(mesh: Arc<Mesh>) -> Arc<Self> {
        Arc::new(Self { mesh, grace: AtomicU64::new(0) })
    }

    /// Sets how long what is under way may go on on a connection that ends (`shutdown.drain`).
    pub(crate) fn set_grace(&self, grace: Duration) {
        self.grace.store(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.grace.load(Ordering::Relaxed))
    }
}

/// The connections of one worker whose peers showed identities.
#[derive(Debug)]
pub(crate) struct Trust {
    terms: Arc<Terms>,
    metrics: WorkerMetrics,
    bonds: RefCell<Vec<Weak<Bond>>>,
    /// Lost, and when they are cut.
    ending: RefCell<Vec<(Instant, Weak<Cut>)>>,
    /// No bond ends before this.
    soonest: Cell<Option<SystemTime>>,
    /// What peers were checked by last.
    generation: Cell<u64>,
    bundle: RefCell<Option<Arc<TrustBundle>>>,
    review: RefCell<Option<Review>>,
}

impl Trust {
    pub(crate) fn new(terms: Arc<Terms>, metrics: WorkerMetrics) -> Rc<Self> {
        Rc::new(Self {
            terms,
            metrics,
            bonds: RefCell::default(),
            ending: RefCell::default(),
            soonest: Cell::new(None),
            generation: Cell::new(0),
            bundle: RefCell::default(),
            review: RefCell::default(),
        })
    }

    /// Watches a client's connection from now on; the second one says when it has to end in order.
    pub(crate) fn watch_client(&self, shown: Shown) -> (Rc<Bond>, Drain) {
        let until = shown.peer.not_after + LAST_SECOND;
        self.watch(shown, until, Side::Client)
    }

    /// Watches a connection to an endpoint from now on. It ends before the shorter of both certificates does.
    pub(crate) fn watch_endpoint(&self, shown: Shown, wall: SystemTime) -> Rc<Bond> {
        let own = self.terms.mesh.identity().map(|identity| identity.leaf().not_after);
        let end = own.map_or(shown.peer.not_after, |own| own.min(shown.peer.not_after));
        let left = end.duration_since(wall).unwrap_or_default();
        self.watch(shown, end - MARGIN.min(left / 10), Side::Endpoint).0
    }

    fn watch(&self, shown: Shown, until: SystemTime, side: Side) -> (Rc<Bond>, Drain) {
        let (bond, drain) = Bond::new(shown, until, side);
        let mut bonds = self.bonds.borrow_mut();
        if bonds.len() == bonds.capacity() {
            // Those that ended go before the list grows.
            bonds.retain(|bond| bond.strong_count() > 0);
        }
        bonds.push(Rc::downgrade(&bond));
        self.soonest.set(Some(self.soonest.get().map_or(until, |soonest| soonest.min(until))));
        (bond, drain)
    }

    /// Looks at all of them; the worker calls it at each of its sweeps.
    pub(crate) fn sweep(&self, wall: SystemTime, now: Instant) {
        self.look_at_bundle();
        let step = self.review.borrow_mut().as_mut().map(|review| review.step(&self.terms.mesh, wall));
        if let Some(step) = step {
            self.lose(&step.refused, Lost::Untrusted, now);
            if step.is_done {
                self.review.replace(None);
            }
        }
        if self.soonest.get().is_some_and(|soonest| soonest <= wall) {
            self.end_expired(wall, now);
        }
        self.ending.borrow_mut().retain(|(at, cut)| {
            let Some(cut) = cut.upgrade() else { return false };
            if *at <= now {
                cut.cut();
            }
            *at > now
        });
    }

    /// Peers are checked again where a root is gone; that one came, or that our own leaf was renewed, takes no trust away.
    fn look_at_bundle(&self) {
        let generation = self.terms.mesh.generation();
        if self.generation.replace(generation) == generation {
            return;
        }
        let Some(identity) = self.terms.mesh.identity() else { return };
        let before = self.bundle.replace(Some(identity.bundle().clone()));
        let takes_away = |before: &Arc<TrustBundle>| {
            let now = identity.bundle();
            before.trust_domain != now.trust_domain || before.roots.iter().any(|root| !now.roots.contains(root))
        };
        if before.as_ref().is_some_and(takes_away) {
            let bonds = self.bonds.borrow().iter().filter(|bond| bond.strong_count() > 0).cloned().collect();
            self.review.replace(Some(Review::new(bonds)));
        }
    }

    fn end_expired(&self, wall: SystemTime, now: Instant) {
        let mut expired = Vec::new();
        let mut soonest: Option<SystemTime> = None;
        self.bonds.borrow_mut().retain(|weak| {
            let Some(bond) = weak.upgrade() else { return false };
            if bond.until <= wall {
                expired.push(weak.clone());
            } else {
                soonest = Some(soonest.map_or(bond.until, |soonest| soonest.min(bond.until)));
            }
            bond.until > wall
        });
        self.soonest.set(soonest);
        self.lose(&expired, Lost::Expired, now);
    }

    /// Ends a client's connection in order that nothing allows any more.
    pub(crate) fn deny(&self, bond: &Rc<Bond>, now: Instant) {
        self.lose(&[Rc::downgrade(bond)], Lost::Denied, now);
    }

    /// Ends a client's connection that carries bytes and showed no identity.
    pub(crate) fn deny_bytes(&self, cut: &Rc<Cut>, now: Instant) {
        self.metrics.peer_lost(Side::Client.label(), Lost::Denied.label());
        self.cut_later(cut, now);
    }

    fn cut_later(&self, cut: &Rc<Cut>, now: Instant) {
        self.ending.borrow_mut().push((crate::timer::after(now, self.terms.grace()), Rc::downgrade(cut)));
    }

    fn lose(&self, bonds: &[Weak<Bond>], why: Lost, now: Instant) {
        let mut count = [0_usize; 2];
        for weak in bonds {
            let Some(bond) = weak.upgrade().filter(|bond| bond.lose()) else { continue };
            self.metrics.peer_lost(bond.side().label(), why.label());
            tracing::debug!(peer = %bond.id(), reason = why.label(), "A connection ends in order.");
            self.cut_later(bond.cut(), now);
            if let Some(count) = count.get_mut(usize::from(bond.side() == Side::Endpoint)) {
                *count += 1;
            }
        }
        // The end of a certificate is everyday life; a peer that is refused is not.
        if why != Lost::Expired && count != [0, 0] {
            let [clients, endpoints] = count;
            tracing::info!(
                clients,
                endpoints,
                reason = why.label(),
                "Connections end in order: their peers are not let in any more."
            );
        }
    }
}

#[cfg(test)]
mod tests;
