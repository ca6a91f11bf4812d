//! One connection and the identity that its peer showed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use meshless_certs::{Peer, SpiffeId};
use rustls::pki_types::CertificateDer;

use crate::shutdown::{self, Drain, DrainTrigger};

/// Who is at the other end of a connection, as it was verified at the handshake.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) peer: Peer,
    /// As it was shown, leaf first: to be checked again.
    chain: Vec<CertificateDer<'static>>,
}

impl Shown {
    pub(crate) fn new(peer: Peer, chain: Option<&[CertificateDer<'_>]>) -> Self {
        let owned = |certificate: &CertificateDer<'_>| certificate.clone().into_owned();
        Self { peer, chain: chain.unwrap_or_default().iter().map(owned).collect() }
    }
}

/// Which end of us a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A client opened it.
    Client,
    /// We opened it to an endpoint.
    Endpoint,
}

impl Side {
    /// The word in metrics, that of `tcp_open_total`.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Client => "src",
            Self::Endpoint => "dst",
        }
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing allows its client any more.
    Denied,
    /// A certificate that it was opened with ends.
    Expired,
    /// No root vouches for its peer any more.
    Untrusted,
}

impl Lost {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Untrusted => "untrusted",
        }
    }
}

/// A connection that lives as long as its peer is trusted. Its owners hold it; it is forgotten with the connection.
#[derive(Debug)]
pub(crate) struct Bond {
    shown: Shown,
    pub(super) until: SystemTime,
    side: Side,
    lost: Cell<bool>,
    drain: DrainTrigger,
    cut: Rc<Cut>,
}

impl Bond {
    pub(super) fn new(shown: Shown, until: SystemTime, side: Side) -> (Rc<Self>, Drain) {
        let (trigger, drain) = shutdown::drain();
        let bond = Self { shown, until, side, lost: Cell::new(false), drain: trigger, cut: Rc::default() };
        (Rc::new(bond), drain)
    }

    pub(super) fn id(&self) -> &SpiffeId {
        &self.shown.peer.id
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.shown.chain
    }

    /// Tells whether nothing new may begin on the connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// Returns what ends the connection's stream.
    pub(crate) fn cut(&self) -> &Rc<Cut> {
        &self.cut
    }

    /// The connection has to end in order; false: it was told so before.
    pub(super) fn lose(&self) -> bool {
        let is_new = !self.lost.replace(true);
        if is_new {
            self.drain.begin();
        }
        is_new
    }
}

/// Ends a stream from outside of the task that reads and writes it, on the same thread.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    done: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
}

impl Cut {
    /// Reads and writes fail from now on.
    pub(super) fn cut(&self) {
        self.done.set(true);
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    /// Ready once it is cut; for who reads.
    pub(crate) fn poll_read(&self, context: &Context<'_>) -> Poll<()> {
        self.poll(&self.reader, context)
    }

    /// Ready once it is cut; for who writes.
    pub(crate) fn poll_write(&self, context: &Context<'_>) -> Poll<()> {
        self.poll(&self.writer, context)
    }

    fn poll(&self, waker: &RefCell<Option<Waker>>, context: &Context<'_>) -> Poll<()> {
        if self.done.get() {
            return Poll::Ready(());
        }
        let mut waker = waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}
