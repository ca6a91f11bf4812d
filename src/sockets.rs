//! Listening sockets: one for each worker where the kernel spreads connections, else one that all share.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use crate::config::ListenAddress;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// Why a listener has no socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody else listens there.
    #[error("{0} is in use by another process (`ss -ltnp` says which)")]
    InUse(ListenAddress),
    /// The system refuses.
    #[error("cannot listen on {address}: {source}")]
    Refused {
        /// Where.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
    /// There is something that is no socket.
    #[error("{0} exists and is no socket; remove it or choose another path")]
    NotASocket(ListenAddress),
}

/// The sockets of one listener, one for each worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Where it listens, with the port that the kernel gave.
    pub(crate) address: ListenAddress,
    pub(crate) each: Vec<ListenSocket>,
}

/// One listening socket.
#[derive(Debug)]
pub(crate) enum ListenSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Binds a listener for a number of workers.
pub(crate) fn bind(address: &ListenAddress, workers: usize) -> Result<Sockets, BindError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse(address.clone()),
        _ => BindError::Refused { address: address.clone(), source },
    };
    match address {
        ListenAddress::Tcp(wanted) => {
            // Without SO_REUSEPORT first: with it a second process would silently take half of the traffic.
            drop(tcp(*wanted, false).map_err(refused)?);
            let first = tcp(*wanted, true).map_err(refused)?;
            let bound = first.local_addr().map_err(refused)?;
            let mut each = vec![ListenSocket::Tcp(first)];
            for _ in 1..workers {
                each.push(ListenSocket::Tcp(tcp(bound, true).map_err(refused)?));
            }
            Ok(Sockets { address: ListenAddress::Tcp(bound), each })
        }
        ListenAddress::Unix(path) => {
            remove_stale(path, address)?;
            let first = UnixListener::bind(path).map_err(refused)?;
            first.set_nonblocking(true).map_err(refused)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(refused)?;
            let mut each = Vec::new();
            for _ in 1..workers {
                each.push(ListenSocket::Unix(first.try_clone().map_err(refused)?));
            }
            each.push(ListenSocket::Unix(first));
            Ok(Sockets { address: address.clone(), each })
        }
    }
}

/// Tells whether an address could be listened at, and leaves everything as it is: what a dead process left stays.
pub(crate) fn probe(address: &ListenAddress) -> io::Result<()> {
    match address {
        ListenAddress::Tcp(wanted) => tcp(*wanted, false).map(drop),
        ListenAddress::Unix(path) => {
            match std::fs::symlink_metadata(path) {
                Ok(metadata) if !metadata.file_type().is_socket() => {
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is no socket"));
                }
                Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
                _ => {}
            }
            let directory = path.parent().unwrap_or_else(|| Path::new("/"));
            Ok(rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?)
        }
    }
}

/// Tries what every listener needs of the kernel: two sockets on one port, and a filter for the end.
pub(crate) fn try_sharing() -> io::Result<()> {
    let first = tcp(SocketAddr::from(([127, 0, 0, 1], 0)), true)?;
    let second = tcp(first.local_addr()?, true)?;
    drop_attempts(&second)
}

fn tcp(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // `[::]` is IPv6 alone unless it says otherwise; both families need two listeners, which is explicit.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// Lets a listening TCP socket drop attempts to connect, while handshakes that are under way end as they would.
///
/// To close a listening socket resets what waits in its queue, and one that is accepted from until it is empty may have
/// a connection again before it is closed. A client whose SYN is dropped asks again after a second, and is refused then,
/// or finds the process that comes next.
pub(crate) fn drop_attempts(socket: &impl AsFd) -> io::Result<()> {
    // Of classic BPF: load the byte of flags of the TCP header, which is where a filter's packet begins; drop what has
    // SYN set, keep the rest. A connection inherits the filter and never sees a SYN.
    const FILTER: [(u16, u8, u8, u32); 4] =
        [(0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, u32::MAX)];
    let filter = FILTER.map(|(code, yes, no, value)| SockFilter::new(code, yes, no, value));
    SockRef::from(socket).attach_filter(&filter)
}

/// Removes the socket of a process that is gone; never a file, never a socket that somebody answers on.
fn remove_stale(path: &Path, address: &ListenAddress) -> Result<(), BindError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(address.clone()));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(BindError::InUse(address.clone()));
    }
    std::fs::remove_file(path).map_err(|source| BindError::Refused { address: address.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_listens_on_is_refused_even_with_reuse_port() {
        let first = bind(&ListenAddress::Tcp(([127, 0, 0, 1], 0).into()), 2).unwrap();
        assert_eq!(first.each.len(), 2);
        assert!(matches!(bind(&first.address, 2), Err(BindError::InUse(_))));
    }

    #[test]
    fn attempts_to_connect_are_dropped_and_what_is_connected_goes_on() {
        use std::io::{Read as _, Write as _};
        use std::time::Duration;
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let socket = TcpListener::bind(place).unwrap();
            let address = socket.local_addr().unwrap();
            let mut waiting = std::net::TcpStream::connect(address).unwrap();
            drop_attempts(&socket).unwrap();
            let error = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "neither connected nor refused");
            let (mut accepted, _) = socket.accept().unwrap();
            waiting.write_all(b"ask").unwrap();
            let mut asked = [0; 3];
            accepted.read_exact(&mut asked).unwrap();
            assert_eq!(&asked, b"ask");
        }
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_but_a_file_or_a_live_socket_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| ListenAddress::Unix(dir.path().join(name));
        drop(UnixListener::bind(dir.path().join("stale")).unwrap());
        assert!(bind(&at("stale"), 2).is_ok());
        std::fs::write(dir.path().join("file"), "precious").unwrap();
        assert!(matches!(bind(&at("file"), 1), Err(BindError::NotASocket(_))));
        assert!(dir.path().join("file").exists());
        let live = bind(&at("live"), 1).unwrap();
        assert!(matches!(bind(&live.address, 1), Err(BindError::InUse(_))));
    }
}
