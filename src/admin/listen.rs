//! Where the admin interface listens, and where it refuses to.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::ListenAddress;

/// What a listener answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything; loopback or a Unix socket only.
    Full,
    /// `/live`, `/ready` and `/metrics`; any address.
    Probes,
}

/// Why the admin interface cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Not loopback.
    #[error(
        "the admin interface does not listen on {0}, which other machines can reach; use 127.0.0.1:{port} or unix:/…, \
         and admin.probes for what others may see",
        port = .0.port()
    )]
    Exposed(SocketAddr),
    /// The path is taken by something that is not a socket.
    #[error("{} is there and is not a socket; remove it or choose another path", .0.display())]
    NotASocket(PathBuf),
    /// Another process answers.
    #[error("another process listens on {}; stop it or choose another path", .0.display())]
    InUse(PathBuf),
    /// The kernel refused.
    #[error("cannot listen on {address}: {source}")]
    Refused {
        /// Where.
        address: ListenAddress,
        /// Why.
        source: io::Error,
    },
}

/// A listener that is bound. A Unix socket's file is removed when it is dropped.
#[derive(Debug)]
pub struct AdminListener {
    pub(super) access: Access,
    pub(super) socket: Bound,
}

#[derive(Debug)]
pub(super) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl AdminListener {
    /// Binds; must be called within the runtime that will serve it.
    pub fn bind(address: &ListenAddress, access: Access) -> Result<Self, BindError> {
        let refused = |source| BindError::Refused { address: address.clone(), source };
        let socket = match address {
            ListenAddress::Tcp(tcp) => {
                if access == Access::Full && !tcp.ip().to_canonical().is_loopback() {
                    return Err(BindError::Exposed(*tcp));
                }
                Bound::Tcp(bind_tcp(*tcp).map_err(refused)?)
            }
            ListenAddress::Unix(path) => {
                remove_stale(path, address)?;
                let listener = bind_unix(path, access).map_err(refused)?;
                Bound::Unix(listener, SocketFile::of(path).map_err(refused)?)
            }
        };
        Ok(Self { access, socket })
    }

    /// Returns where it listens, with the port that the kernel gave.
    pub fn address(&self) -> io::Result<ListenAddress> {
        match &self.socket {
            Bound::Tcp(listener) => listener.local_addr().map(ListenAddress::Tcp),
            Bound::Unix(_, file) => Ok(ListenAddress::Unix(file.path.clone())),
        }
    }
}

/// Binds a Unix socket for its owner alone (0600), in place of one that nobody serves any more. The file goes with the
/// second value.
pub fn bind_private(path: &Path) -> Result<(UnixListener, SocketFile), BindError> {
    let address = ListenAddress::Unix(path.to_owned());
    let refused = |source| BindError::Refused { address: address.clone(), source };
    remove_stale(path, &address)?;
    let listener = bind_unix(path, Access::Full).map_err(refused)?;
    let file = SocketFile::of(path).map_err(refused)?;
    Ok((listener, file))
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn bind_unix(path: &Path, access: Access) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Linux gives the file the mode that the socket has before it is bound, so there is no moment in which others could
    // connect. Probes are for others.
    let mode = if access == Access::Full { 0o600 } else { 0o666 };
    fchmod(socket.as_fd(), Mode::from_raw_mode(mode))?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(128)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket.into())
}

/// Removes what a process that ended without tidying up left behind, and nothing else.
fn remove_stale(path: &Path, address: &ListenAddress) -> Result<(), BindError> {
    let refused = |source| BindError::Refused { address: address.clone(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(refused(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BindError::NotASocket(path.into())),
        Ok(_) => {}
    }
    // Does not block: a full queue says "try again", and then somebody owns it.
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    match socket.connect(&SockAddr::unix(path).map_err(refused)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(refused),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(refused(error)),
        Ok(()) | Err(_) => Err(BindError::InUse(path.into())),
    }
}

/// Removes the file when dropped, unless another process put its own there meanwhile.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self { path: path.into(), inode: (metadata.dev(), metadata.ino()) })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "The admin socket was not removed.");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_full_interface_stays_on_this_machine() {
        for exposed in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9990", "[::ffff:192.0.2.1]:0"] {
            let address = ListenAddress::Tcp(exposed.parse().unwrap());
            let error = AdminListener::bind(&address, Access::Full).unwrap_err().to_string();
            assert!(error.contains("admin.probes"), "{error}");
        }
        let loopback = ListenAddress::Tcp("127.0.0.1:0".parse().unwrap());
        let bound = AdminListener::bind(&loopback, Access::Full).unwrap();
        assert_ne!(bound.address().unwrap(), loopback);
    }

    #[tokio::test]
    async fn probes_may_listen_anywhere() {
        let anywhere = ListenAddress::Tcp("0.0.0.0:0".parse().unwrap());
        assert!(AdminListener::bind(&anywhere, Access::Probes).is_ok());
    }

    #[tokio::test]
    async fn a_unix_socket_is_for_its_owner_and_goes_with_the_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let bound = AdminListener::bind(&ListenAddress::Unix(path.clone()), Access::Full).unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(bound);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _bound = AdminListener::bind(&ListenAddress::Unix(path.clone()), Access::Full).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[tokio::test]
    async fn a_socket_that_answers_and_a_file_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let address = ListenAddress::Unix(path.clone());
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(AdminListener::bind(&address, Access::Full), Err(BindError::InUse(_))));
        let file = directory.path().join("file");
        fs::write(&file, "precious").unwrap();
        let error = AdminListener::bind(&ListenAddress::Unix(file.clone()), Access::Full).unwrap_err();
        assert!(matches!(error, BindError::NotASocket(_)));
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_listener_that_goes_leaves_the_socket_of_its_successor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let address = ListenAddress::Unix(path.clone());
        let first = AdminListener::bind(&address, Access::Full).unwrap();
        fs::rename(&path, directory.path().join("old.sock")).unwrap();
        let _second = AdminListener::bind(&address, Access::Full).unwrap();
        drop(first);
        assert!(path.exists());
    }
}
