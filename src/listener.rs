//! From an accepted socket to a protocol: limits, PROXY header, TLS, detection.

mod accept;
mod detect;
mod plaintext;
mod proxy_protocol;
mod secure;
mod shared;

pub(crate) use accept::{accept, adopt};
pub(crate) use secure::Tls;
pub(crate) use shared::{Crew, Handoff, Shared};

use std::cell::RefCell;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::time::Instant;

use self::detect::Detected;
use self::secure::{Refused, Secured, secure};
use self::shared::Admitted;
use crate::config::{Listener, ListenerLimits, ListenerProtocol};
use crate::proxy::{Session, WorkerContext, carry};
use crate::shutdown::Drain;
use crate::stream::Stream;
use crate::telemetry::metrics::{ListenerSeries, TcpSeries};
use crate::timer::{Timer, after};
use crate::{http1, http2};

/// Whose connections a socket accepts, as long as no other listener takes it over.
pub(crate) type Place = Rc<RefCell<Rc<Local>>>;

/// What a worker has for one listener.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) series: Rc<ListenerSeries>,
    pub(crate) source: Rc<TcpSeries>,
    pub(crate) drain: Drain,
}

/// Serves one connection from its first byte to its end.
pub(crate) async fn serve(local: Rc<Local>, mut stream: Stream, client: Option<IpAddr>, mut admitted: Admitted) {
    stream.count(local.source.open());
    let listener = local.shared.listener();
    let mut timer = Timer::default();
    let deadline = after(Instant::now(), listener.limits.handshake_timeout);
    let preparing = Box::pin(prepare(&listener, &mut stream, client, &mut admitted));
    let prepared = timer.bound(Some(deadline), preparing).await;
    let refusal = match prepared {
        Err(_) => Err("handshake_timeout"),
        Ok(result) => result,
    };
    let client = match refusal {
        Ok(client) => client,
        Err(reason) => {
            local.series.refused(reason);
            return;
        }
    };
    let securing = Box::pin(secure(&local, stream, client));
    let Secured { stream, encrypted, alpn, drain } = match timer.bound(Some(deadline), securing).await {
        Ok(Ok(secured)) => secured,
        Ok(Err(Refused::Silent)) => return,
        Ok(Err(Refused::Failed(failed))) => {
            local.series.refused(failed.label);
            if local.worker.rarely().may_say(&(failed.label, &listener.name, client), Instant::now()) {
                let client = client.map(tracing::field::display);
                let (reason, why) = (failed.label, failed.why);
                tracing::info!(listener = listener.name, client, reason, why, "A TLS handshake failed.");
            }
            return;
        }
        Err(_) => {
            local.series.refused("handshake_timeout");
            return;
        }
    };
    let session = Session::new(
        local.worker.clone(),
        local.shared.clone(),
        listener.clone(),
        client,
        encrypted,
        local.series.clone(),
    );
    let drain = drain.map_or_else(|| local.drain.clone(), |lost| local.drain.or(lost));
    speak(&local, &listener, session, stream, alpn, drain, &mut timer).await;
    drop(admitted);
}

/// Reads what comes before TLS and HTTP; returns who the client is.
async fn prepare(
    listener: &Listener,
    stream: &mut Stream,
    client: Option<IpAddr>,
    admitted: &mut Admitted,
) -> Result<Option<IpAddr>, &'static str> {
    if !listener.proxy_protocol {
        return Ok(client);
    }
    match proxy_protocol::read(stream).await {
        Ok(Some(said)) => {
            admitted.count(said)?;
            Ok(Some(said))
        }
        // LOCAL or UNKNOWN: the balancer speaks for itself.
        Ok(None) => Ok(client),
        Err(error) => {
            tracing::debug!(listener = listener.name, %error, "A connection had no PROXY header.");
            Err("proxy_header")
        }
    }
}

async fn speak(
    local: &Rc<Local>,
    listener: &Arc<Listener>,
    session: Rc<Session>,
    mut stream: Stream,
    alpn: Option<Vec<u8>>,
    mut drain: Drain,
    timer: &mut Timer,
) {
    let limits = &listener.limits;
    let protocol = listener.protocol;
    if protocol == ListenerProtocol::Tcp {
        Box::pin(carry(&session, stream, "")).await;
        return;
    }
    let deadline = after(Instant::now(), limits.header_timeout);
    if protocol == ListenerProtocol::TlsPassthrough {
        match timer.bound(Some(deadline), Box::pin(detect::server_name(&mut stream))).await {
            Ok(Ok((name, hello))) => {
                stream.unread(hello);
                Box::pin(carry(&session, stream, &name)).await;
            }
            Ok(Err(reason)) => local.series.refused(reason),
            Err(_) => local.series.refused("handshake_timeout"),
        }
        return;
    }
    if alpn.as_deref() == Some(b"h2") {
        return serve_http2(stream, BytesMut::new(), limits, drain, session).await;
    }
    let sniffs = protocol == ListenerProtocol::Auto && local.shared.carries_tcp(&session.table());
    let detecting = detect::protocol(&mut stream, sniffs, &mut drain);
    match timer.bound(Some(deadline), detecting).await {
        Ok(Some((Detected::Http1, buffered))) => {
            http1::connection::serve(stream, buffered, limits, drain, &session).await;
        }
        Ok(Some((Detected::Http2, buffered))) => {
            serve_http2(stream, buffered, limits, drain, session).await;
        }
        Ok(Some((Detected::Bytes, buffered))) => {
            stream.unread(buffered);
            Box::pin(carry(&session, stream, "")).await;
        }
        // It said nothing, or nothing that makes sense, in the time that a head may take.
        Ok(None) | Err(_) => {}
    }
}

/// Boxed, like everything here that HTTP/1.1 has no use for: one future holds the largest of its branches, and a
/// connection pays for it as long as it is open.
fn serve_http2<'a>(
    stream: Stream,
    buffered: BytesMut,
    limits: &'a ListenerLimits,
    drain: Drain,
    session: Rc<Session>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    Box::pin(http2::server::serve(stream, buffered, limits, drain, Rc::new(session)))
}
