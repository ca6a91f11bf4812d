//! The accept loop of one listener on one worker.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{Instant, sleep, timeout_at};

use super::shared::{Admitted, Crew, HandedStream, Handoff, Placed};
use super::{Local, Place, serve};
use crate::shutdown::Drain;
use crate::sockets::{self, ListenSocket};
use crate::stream::Stream;

/// Waits after an error that will come again at once, such as "too many open files".
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// At the end of the process, handshakes that are under way may take so long to be accepted.
const SETTLE: Duration = Duration::from_millis(100);

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Accepted {
    Tcp(TcpStream, IpAddr),
    Unix(UnixStream),
}

impl Socket {
    fn open(socket: ListenSocket) -> io::Result<Self> {
        Ok(match socket {
            ListenSocket::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            ListenSocket::Unix(socket) => Self::Unix(UnixListener::from_std(socket)?),
        })
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, client) = socket.accept().await?;
                // A client that has left already may make this fail; reading from it will tell.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream, client.ip()))
            }
            Self::Unix(socket) => Ok(Accepted::Unix(socket.accept().await?.0)),
        }
    }

    fn into_std(self) -> io::Result<ListenSocket> {
        Ok(match self {
            Self::Tcp(socket) => ListenSocket::Tcp(socket.into_std()?),
            Self::Unix(socket) => ListenSocket::Unix(socket.into_std()?),
        })
    }
}

/// Asks the kernel itself: the runtime may not have heard of the newest connections yet.
fn accept_waiting(socket: &ListenSocket) -> io::Result<Accepted> {
    match socket {
        ListenSocket::Tcp(socket) => {
            let (stream, client) = socket.accept()?;
            stream.set_nonblocking(true)?;
            let _ = stream.set_nodelay(true);
            Ok(Accepted::Tcp(TcpStream::from_std(stream)?, client.ip()))
        }
        ListenSocket::Unix(socket) => {
            let (stream, _) = socket.accept()?;
            stream.set_nonblocking(true)?;
            Ok(Accepted::Unix(UnixStream::from_std(stream)?))
        }
    }
}

/// Accepts until told to stop, then takes what waits already: closing the socket would reset it.
pub(crate) async fn accept(place: Place, socket: ListenSocket, crew: Arc<Crew>, here: usize, mut stop: Drain) {
    let socket = match Socket::open(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = &*place.borrow().shared.name, %error, "A listener's socket cannot be used.");
            return;
        }
    };
    let mut wait = BACKOFF.0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.begun() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                wait = BACKOFF.0;
                take(&place.borrow().clone(), accepted, &crew, here);
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                // Never spin, never end: connections that are open may close and give descriptors back.
                let local = place.borrow().clone();
                tracing::warn!(listener = &*local.shared.name, %error, "Connections cannot be accepted.");
                local.series.refused("accept");
                sleep(wait).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
        }
    }
    if crew.is_closed() {
        settle(&place, &socket, &crew, here).await;
    }
    let Ok(socket) = socket.into_std() else { return };
    loop {
        match accept_waiting(&socket) {
            Ok(accepted) => take(&place.borrow().clone(), accepted, &crew, here),
            Err(error) if is_of_the_connection(&error) => {}
            Err(_) => return,
        }
    }
}

/// Lets no further connection begin and accepts those that are about to be there.
async fn settle(place: &Place, socket: &Socket, crew: &Arc<Crew>, here: usize) {
    let Socket::Tcp(listening) = socket else { return };
    if let Err(error) = sockets::drop_attempts(listening) {
        tracing::debug!(%error, "New connections cannot be held off while the socket is closed.");
        return;
    }
    let end = Instant::now() + SETTLE;
    while let Ok(accepted) = timeout_at(end, socket.accept()).await {
        match accepted {
            Ok(accepted) => take(&place.borrow().clone(), accepted, crew, here),
            Err(error) if is_of_the_connection(&error) => {}
            Err(_) => return,
        }
    }
}

/// Errors that belong to the connection that was to be accepted, not to the socket (`accept(2)`).
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn take(local: &Rc<Local>, accepted: Accepted, crew: &Arc<Crew>, here: usize) {
    let client = match &accepted {
        Accepted::Tcp(_, client) => Some(*client),
        Accepted::Unix(_) => None,
    };
    let admitted = match local.shared.admit(client, local.worker.memory()) {
        Ok(admitted) => admitted,
        Err(reason) => {
            local.series.refused(reason);
            return;
        }
    };
    let placed = crew.place(here);
    if placed.worker() == here {
        let stream = match accepted {
            Accepted::Tcp(stream, _) => stream.into(),
            Accepted::Unix(stream) => stream.into(),
        };
        start(local.clone(), stream, client, admitted, placed);
        return;
    }
    let handed = match accepted {
        Accepted::Tcp(stream, _) => stream.into_std().map(HandedStream::Tcp),
        Accepted::Unix(stream) => stream.into_std().map(HandedStream::Unix),
    };
    if let Ok(stream) = handed {
        let handoff = Handoff { shared: local.shared.clone(), stream, client, admitted, placed };
        if let Err(handoff) = crew.hand(handoff) {
            adopt(local.clone(), handoff);
        }
    }
}

/// Serves a connection that was handed over.
pub(crate) fn adopt(local: Rc<Local>, handoff: Handoff) {
    let stream: io::Result<Stream> = match handoff.stream {
        HandedStream::Tcp(stream) => TcpStream::from_std(stream).map(Stream::from),
        HandedStream::Unix(stream) => UnixStream::from_std(stream).map(Stream::from),
    };
    if let Ok(stream) = stream {
        start(local, stream, handoff.client, handoff.admitted, handoff.placed);
    }
}

fn start(local: Rc<Local>, stream: Stream, client: Option<IpAddr>, admitted: Admitted, placed: Placed) {
    // A panic ends this connection alone; the panic hook counts it.
    tokio::task::spawn_local(async move {
        serve(local, stream, client, admitted).await;
        drop(placed);
    });
}

/// Returns the size of the future that serves a connection.
#[cfg(test)]
fn size_of_serving() -> usize {
    fn of<T, A, B, C, D>(_: fn(A, B, C, D) -> T) -> usize {
        size_of::<T>()
    }
    of(serve)
}

#[cfg(test)]
mod tests {
    /// What an idle connection costs is mostly this future (ztunnel's sockets had 22 KB of it once).
    #[test]
    fn the_future_of_a_connection_stays_small() {
        let size = super::size_of_serving();
        assert!(size < 8 * 1024, "{size} bytes");
    }
}
