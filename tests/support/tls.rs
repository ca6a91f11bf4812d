//! A certificate authority, certificates of it, and TLS on both sides of a gateway.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::plain::{Client, PATIENCE};

/// A TLS connection of a blocking client.
pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

/// An authority of a test's own.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub(crate) pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// Files of a certificate and its key.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Signs a certificate for names and addresses, for servers and clients.
    pub(crate) fn issue(&self, names: &[&str]) -> Leaf {
        self.issue_for(names, &[])
    }

    /// Signs one with URI names (SPIFFE IDs) besides.
    pub(crate) fn issue_for(&self, names: &[&str], uris: &[&str]) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Leaf { cert, key: key.serialize_pem() }
    }

    /// Writes its certificate to a file.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, &self.pem).unwrap();
        path
    }

    /// Returns a client that trusts this authority.
    pub(crate) fn client(&self, alpn: &[&str], leaf: Option<&Leaf>) -> Arc<ClientConfig> {
        self.client_of(alpn, leaf, rustls::DEFAULT_VERSIONS)
    }

    /// Returns a client that speaks these versions alone.
    pub(crate) fn client_of(
        &self,
        alpn: &[&str],
        leaf: Option<&Leaf>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(meshless_certs::provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.roots());
        let mut config = match leaf {
            None => builder.with_no_client_auth(),
            Some(leaf) => builder.with_client_auth_cert(leaf.chain(), leaf.private_key()).unwrap(),
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// Returns a server with a certificate of its; `clients`: asks clients for one of these.
    pub(crate) fn server(&self, names: &[&str], alpn: &[&str], clients: Option<&Self>) -> Arc<ServerConfig> {
        let leaf = self.issue(names);
        let builder = ServerConfig::builder_with_provider(meshless_certs::provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(clients.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, meshless_certs::provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = builder.with_single_cert(leaf.chain(), leaf.private_key()).unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

impl Leaf {
    /// Writes both files, the key first; one after the other, as most tools do.
    pub(crate) fn write(&self, directory: &Path, name: &str) -> Files {
        let files = Files { cert: directory.join(format!("{name}.pem")), key: directory.join(format!("{name}.key")) };
        std::fs::write(&files.key, &self.key).unwrap();
        std::fs::write(&files.cert, &self.cert).unwrap();
        files
    }

    /// Returns the certificate as it is on the wire.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

/// Shakes hands as a client that asks for a name.
pub(crate) fn connect(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> io::Result<Client<Tls>> {
    let sock = TcpStream::connect(address)?;
    sock.set_read_timeout(Some(PATIENCE))?;
    sock.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut conn = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut sock = sock;
    while conn.is_handshaking() {
        conn.complete_io(&mut sock)?;
    }
    Ok(Client::new(StreamOwned::new(conn, sock)))
}

/// Returns the certificate that a server showed.
pub(crate) fn shown(client: &Client<Tls>) -> CertificateDer<'static> {
    client.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

/// A TLS origin that speaks HTTP/2 or HTTP/1.1, as ALPN says, and answers with what it saw of the connection.
#[derive(Debug)]
pub(crate) struct TlsOrigin {
    pub(crate) address: SocketAddr,
    /// Names that clients asked for.
    pub(crate) names: Arc<Mutex<Vec<String>>>,
    _end: oneshot::Sender<()>,
}

/// Starts a TLS origin.
pub(crate) fn origin(config: Arc<ServerConfig>) -> TlsOrigin {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let names: Arc<Mutex<Vec<String>>> = Arc::default();
    let (end, ended) = oneshot::channel::<()>();
    let seen = names.clone();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let accepting = async {
                while let Ok((stream, _)) = listener.accept().await {
                    let (acceptor, seen) = (TlsAcceptor::from(config.clone()), seen.clone());
                    tokio::task::spawn(async move {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        speak(stream, &seen).await;
                    });
                }
            };
            tokio::select! {
                () = accepting => {}
                _ = ended => {}
            }
        });
    });
    TlsOrigin { address, names, _end: end }
}

async fn speak(stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>, seen: &Mutex<Vec<String>>) {
    let session = stream.get_ref().1;
    let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    let name = session.server_name().unwrap_or("-").to_owned();
    let client = if session.peer_certificates().is_some() { "yes" } else { "no" };
    let said = format!("alpn={alpn} sni={name} client={client}");
    seen.lock().unwrap().push(name);
    let service = service_fn(move |request: Request<Incoming>| {
        let text = format!("{said} version={:?}", request.version());
        async move { Ok::<_, hyper::Error>(Response::new(Full::new(Bytes::from(text)))) }
    });
    let io = TokioIo::new(stream);
    // A client that leaves is none of our business.
    let _ = if alpn == "h2" {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
    };
}
