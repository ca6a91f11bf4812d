//! An endpoint that a test plays itself: it takes each connection by hand and answers it with bytes or frames.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

use crate::wire::{Head, Wire};

/// An endpoint that listens.
#[derive(Debug)]
pub(crate) struct Upstream {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Upstream {
    #[allow(clippy::unused_async, reason = "a socket needs a runtime around it: awaiting says so")]
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Room for every connection of a burst: what overflows comes again a second later, when it is too late.
        let listener = socket.listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// Takes the next connection.
    pub(crate) async fn accept(&self) -> Wire {
        self.listener.accept().await.unwrap().0.into()
    }

    /// Takes the next connection and the head of its first request.
    pub(crate) async fn request(&self) -> (Wire, Head) {
        let mut wire = self.accept().await;
        let head = wire.head().await;
        (wire, head)
    }

    /// Takes the next connection as HTTP/2.
    pub(crate) async fn accept_h2(&self) -> H2Peer {
        self.accept_h2_with(&h2::server::Builder::new()).await
    }

    /// Takes the next connection as HTTP/2 with settings of its own.
    pub(crate) async fn accept_h2_with(&self, settings: &h2::server::Builder) -> H2Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut connection = settings.handshake::<_, Bytes>(stream).await.unwrap();
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(request)) = connection.accept().await {
                let _ = sender.send(request);
            }
        });
        H2Peer { requests }
    }

    /// Fails if a connection comes.
    pub(crate) async fn is_left_alone(&self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        tokio::task::yield_now().await;
        assert!(self.listener.poll_accept(&mut context).is_pending(), "a connection came");
    }
}

/// The endpoint's side of a connection of HTTP/2.
#[derive(Debug)]
pub(crate) struct H2Peer {
    requests: mpsc::UnboundedReceiver<(Request<RecvStream>, SendResponse<Bytes>)>,
}

impl H2Peer {
    /// Takes the next request.
    pub(crate) async fn request(&mut self) -> (Request<RecvStream>, SendResponse<Bytes>) {
        self.requests.recv().await.expect("the gateway closed the session")
    }
}
