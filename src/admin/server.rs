//! Accepts and serves connections, bounded in number, time and size.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer::Peer;
use super::listen::{Access, Bound};
use super::{Admin, AdminListener, answer};

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// Until a head is complete, from the first byte or from the reply before.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Age at which a connection is closed in order; no client is owed more.
const AGE: Duration = Duration::from_mins(1);
/// What is under way then may still end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Request line and headers, in bytes.
const HEAD_BYTES: usize = 16 * 1024;
/// Pause after a failed accept, such as when descriptors ran out: never spin, never end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is dropped, which closes the connections, too. Not to be awaited for an end.
pub async fn serve(listener: AdminListener, admin: Admin) -> Infallible {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    // Owned here: no connection outlives the listener.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            // Nobody closes the semaphore.
            continue;
        };
        let admin = admin.clone();
        let access = listener.access;
        let accepted = match &listener.socket {
            Bound::Tcp(socket) => socket.accept().await.map(|(stream, _)| {
                connections.spawn(async move {
                    connection(stream, admin, access, Peer::Tcp).await;
                    drop(permit);
                });
            }),
            Bound::Unix(socket, _) => socket.accept().await.map(|(stream, _)| {
                connections.spawn(async move {
                    connection(stream, admin, access, Peer::Unix).await;
                    drop(permit);
                });
            }),
        };
        if let Err(error) = accepted {
            if is_of_one_connection(&error) {
                continue;
            }
            tracing::warn!(%error, "The admin interface cannot accept a connection.");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, admin: Admin, access: Access, peer: Peer) {
    let service = service_fn(|request| {
        let admin = &admin;
        async move { Ok::<_, Infallible>(answer::answer(admin, access, peer, request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEAD_BYTES)
            .max_headers(64)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = if let Ok(ended) = timeout(AGE, connection.as_mut()).await {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        timeout(LAST_WORDS, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "A connection to the admin interface ended early.");
    }
}
