//! One connection and the identity that its peer showed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use meshless_certs::{Mesh, Refused, SpiffeId};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;

use crate::shutdown::{self, Drain, DrainTrigger};

/// Who is at the other end of a connection, as its certificate says and as it was verified.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: SpiffeId,
    /// As it was shown, leaf first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// Validity of the leaf.
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// Returns who a handshake was made with. `generation` is that of `mesh` before the handshake.
///
/// A handshake checks the chain, but one that takes up an earlier session does not (RFC 8446, 2.2), and what is trusted may
/// have changed since it began: then the chain is checked here.
pub(crate) fn peer(
    mesh: &Mesh,
    generation: u64,
    chain: Option<&[CertificateDer<'_>]>,
    kind: Option<HandshakeKind>,
    now: SystemTime,
) -> Result<Peer, Refused> {
    let chain = chain.ok_or(Refused::None)?;
    let was_checked = kind != Some(HandshakeKind::Resumed) && generation == mesh.generation();
    let leaf = if was_checked {
        meshless_certs::leaf(chain.first().ok_or(Refused::None)?)?
    } else {
        mesh.check(chain, now)?
    };
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    Ok(Peer { id: leaf.id, chain, not_before: leaf.not_before, not_after: leaf.not_after })
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
    peer: Peer,
    pub(super) until: SystemTime,
    side: Side,
    lost: Cell<bool>,
    drain: DrainTrigger,
    pub(super) cut: Rc<Cut>,
}

impl Bond {
    pub(super) fn new(peer: Peer, until: SystemTime, side: Side) -> (Rc<Self>, Drain) {
        let (trigger, drain) = shutdown::drain();
        let bond = Self { peer, until, side, lost: Cell::new(false), drain: trigger, cut: Rc::default() };
        (Rc::new(bond), drain)
    }

    pub(crate) fn id(&self) -> &SpiffeId {
        &self.peer.id
    }

    pub(crate) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.peer.chain
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
