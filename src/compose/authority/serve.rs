//! The runtime that an authority is served on.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use meshless_certs::authority::Issuer;
use meshless_certs::authority::server::operator::{self, Operator};
use meshless_certs::authority::server::{Server, ServerOptions, Spawn};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::counted::{Counted, Counting};
use crate::admin::{BindError, SocketFile, bind_private};
use crate::config::ListenAddress;
use crate::telemetry::metrics::Registry;

/// Threads: one is enough to wait for the disk while the other one shakes hands.
const THREADS: usize = 2;
/// Longest wait at the end for requests that are under way.
const END: Duration = Duration::from_secs(10);

/// What is served.
pub(super) struct Parts<'a> {
    pub(super) issuer: Arc<dyn Issuer>,
    pub(super) operator: Arc<dyn Operator>,
    /// Where the network is served; `None`: nowhere.
    pub(super) listen: Option<SocketAddr>,
    /// Where operators are served.
    pub(super) socket: &'a Path,
    pub(super) options: ServerOptions,
    pub(super) registry: &'a Arc<Registry>,
}

/// An authority that is served. Ends in order when it is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    issuer: Arc<dyn Issuer>,
    address: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    ended: Receiver<()>,
    runtime: Option<Runtime>,
    _socket: SocketFile,
}

impl Served {
    /// Binds and serves; `upkeep` runs beside it until the end.
    pub(super) fn start(
        parts: Parts<'_>,
        upkeep: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, BindError> {
        let Parts { issuer, operator, listen, socket, options, registry } = parts;
        let refused = |address: ListenAddress| move |source| BindError::Refused { address, source };
        let at_socket = || refused(ListenAddress::Unix(socket.to_owned()));
        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("authority").enable_all().build();
        let runtime = runtime.map_err(at_socket())?;
        let entered = runtime.enter();
        let counted = Counted::new(issuer, registry);
        let witness = Arc::new(Counting(counted.series().clone()));
        let issuer: Arc<dyn Issuer> = Arc::new(counted);
        let handle = runtime.handle().clone();
        let spawn: Spawn = Arc::new(move |job| drop(handle.spawn(job)));
        let (stop, stopped) = watch::channel(false);
        let (unix, file) = bind_private(socket)?;
        let bound = listen.map(|address| bind(address).map_err(refused(ListenAddress::Tcp(address)))).transpose()?;
        let address = bound.as_ref().and_then(|listener| listener.local_addr().ok());
        let network = bound.map(|listener| {
            Server::new(issuer.clone(), options, witness, spawn.clone()).serve(listener, stopped.clone())
        });
        let (tell, ended) = sync_channel(1);
        runtime.spawn(upkeep);
        runtime.spawn(async move {
            let at_socket = operator::serve(unix, operator, spawn, stopped);
            let in_network = async {
                if let Some(network) = network {
                    network.await;
                }
            };
            tokio::join!(at_socket, in_network);
            let _ = tell.try_send(());
        });
        drop(entered);
        Ok(Self { issuer, address, stop, ended, runtime: Some(runtime), _socket: file })
    }

    /// Returns what issues.
    pub(crate) fn issuer(&self) -> &Arc<dyn Issuer> {
        &self.issuer
    }

    /// Returns where the network is served, with the port that the kernel gave.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = self.ended.recv_timeout(END);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}
