//! The TLS of a listener: shakes hands, and says who the client is or why it is not let in.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use meshless_certs::{MeshServer, Server};
use tokio::time::Instant;
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::Local;
use crate::handshake::Failed;
use crate::http1::wire::poll_read_scratch;
use crate::proxy::Encrypted;
use crate::proxy::headers::client_certificate;
use crate::shutdown::Drain;
use crate::stream::Stream;
use crate::trust::Shown;

/// The first bytes of a connection that speaks TLS: a handshake record of a version 3.x (RFC 8446, 5.1).
const HANDSHAKE: [u8; 2] = [22, 3];

/// The TLS of a listener.
#[derive(Debug)]
pub(crate) enum Tls {
    /// By given certificates.
    Files(Arc<Server>),
    /// By the identity of this workload.
    Mesh {
        server: MeshServer,
        /// What does not speak TLS is let in, and counted.
        permissive: bool,
    },
}

/// A connection behind its handshake.
pub(super) struct Secured {
    pub(super) stream: Stream,
    /// `None`: clear text.
    pub(super) encrypted: Option<Encrypted>,
    pub(super) alpn: Option<Vec<u8>>,
    /// When its peer is trusted no longer; `None`: it showed no identity that could be lost.
    pub(super) drain: Option<Drain>,
}

impl Secured {
    fn clear(stream: Stream) -> Self {
        Self { stream, encrypted: None, alpn: None, drain: None }
    }
}

/// Why a connection is not let in.
pub(super) enum Refused {
    /// It ended before it said anything.
    Silent,
    /// Its handshake failed.
    Failed(Failed),
}

/// Shakes hands as the listener is configured to. The caller bounds the time.
pub(super) async fn secure(local: &Local, stream: Stream, client: Option<IpAddr>) -> Result<Secured, Refused> {
    let Some(tls) = local.shared.tls() else { return Ok(Secured::clear(stream)) };
    match &*tls {
        Tls::Files(server) => by_files(server, stream).await.map_err(Refused::Failed),
        Tls::Mesh { server, permissive: false } => by_mesh(local, server, stream).await.map_err(Refused::Failed),
        Tls::Mesh { server, permissive: true } => {
            let mut stream = stream;
            if begins_tls(&mut stream).await.ok_or(Refused::Silent)? {
                return by_mesh(local, server, stream).await.map_err(Refused::Failed);
            }
            local.series.plaintext();
            local.shared.plaintext().count(client, SystemTime::now());
            if local.worker.rarely().may_say(&("plaintext", &local.shared.name, client), Instant::now()) {
                let client = client.map(tracing::field::display);
                tracing::info!(listener = &*local.shared.name, client, "A connection in clear text is let in.");
            }
            Ok(Secured::clear(stream))
        }
    }
}

async fn by_files(server: &Arc<Server>, stream: Stream) -> Result<Secured, Failed> {
    let accepting = TlsAcceptor::from(server.config.clone()).accept(stream);
    let session = accepting.await.map_err(|error| Failed { label: "tls", ..Failed::of(&error) })?;
    let connection = session.get_ref().1;
    let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
    let name = connection.server_name().map(ToOwned::to_owned);
    let chain = connection.peer_certificates();
    let identity = chain.and_then(meshless_certs::spiffe_id);
    let leaf = chain.and_then(|chain| chain.first());
    let certificate = identity
        .as_ref()
        .zip(leaf)
        .and_then(|(id, leaf)| client_certificate(None, &meshless_certs::fingerprint(leaf), id.as_str()));
    let encrypted = Encrypted { server: Some(server.clone()), name, identity, certificate, bond: None };
    Ok(Secured { stream: Stream::from(TlsStream::from(session)), encrypted: Some(encrypted), alpn, drain: None })
}

async fn by_mesh(local: &Local, server: &MeshServer, stream: Stream) -> Result<Secured, Failed> {
    let mesh = server.mesh();
    let config = server.config(SystemTime::now()).map_err(|error| Failed::no_identity(&error))?;
    let session = TlsAcceptor::from(config).accept(stream).await.map_err(|error| Failed::of(&error))?;
    let connection = session.get_ref().1;
    let peer = server.peer(connection, SystemTime::now()).map_err(|refused| Failed::refused(&refused))?;
    let ours = mesh.identity();
    let ours = ours.as_ref().map(|ours| ours.id().as_str());
    let certificate = client_certificate(ours, &peer.fingerprint, peer.id.as_str());
    let alpn = connection.alpn_protocol().map(<[u8]>::to_vec);
    let identity = Some(peer.id.clone());
    let shown = Shown::new(peer, connection.peer_certificates());
    let (bond, drain) = local.worker.trust().watch_client(shown);
    let mut stream = Stream::from(TlsStream::from(session));
    stream.cut_by(bond.cut().clone());
    let encrypted = Encrypted { server: None, name: None, identity, certificate, bond: Some(bond) };
    Ok(Secured { stream, encrypted: Some(encrypted), alpn, drain: Some(drain) })
}

/// Tells whether a client begins to speak TLS; `None`: it ended before. What was read stays to be read.
async fn begins_tls(stream: &mut Stream) -> Option<bool> {
    let mut read = BytesMut::new();
    loop {
        let length = poll_fn(|context| {
            poll_read_scratch(stream, context, |bytes| {
                read.extend_from_slice(bytes);
                bytes.len()
            })
        });
        let ended = length.await.ok()? == 0;
        let begins = read.starts_with(&HANDSHAKE);
        if ended && read.is_empty() {
            return None;
        }
        // One byte of two says nothing yet.
        if begins || ended || !HANDSHAKE.starts_with(&read) {
            stream.unread(read);
            return Some(begins);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn tls_is_told_from_clear_text_by_two_bytes_and_nothing_is_lost() {
        for (sent, expected) in [
            (&b"\x16\x03\x01\x02\x00"[..], Some(true)),
            (b"GET / HTTP/1.1", Some(false)),
            (b"\x16\x04", Some(false)),
            (b"\x16", Some(false)),
            (b"", None),
        ] {
            let (mut near, far) = tokio::io::duplex(1);
            let mut stream = Stream::from(far);
            let writing = async {
                near.write_all(sent).await.unwrap();
                near.shutdown().await.unwrap();
            };
            let reading = async {
                let begins = begins_tls(&mut stream).await;
                let mut read = Vec::new();
                stream.read_to_end(&mut read).await.unwrap();
                (begins, read)
            };
            let ((), (begins, read)) = tokio::join!(writing, reading);
            assert_eq!((begins, read.as_slice()), (expected, sent));
        }
    }
}
