//! A `kube` client of our own making: its layers, over a connector that does what ours must.
//!
//! `kube`'s own connector takes whatever crypto provider the process has, or makes one the process's, and a proxy from
//! the environment. HTTP/1.1 is on purpose: each watch has a connection of its own then. An API server takes 100 streams
//! of one HTTP/2 connection, and the 101st watch would wait for ever without a word.

use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use k8s_openapi::ByteString;
use kube::Client;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::access::{Access, Identity};
use crate::Error;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// A network that went away is noticed after 15 s + 3 × 5 s, however quiet a watch is.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Makes a client; nothing is connected yet. `identity` is what the program handed out, where there is one.
pub(super) fn client(access: &Access, identity: &Identity) -> Result<Client, Error> {
    let wrong = |problem: String| Error::Malformed(format!("API server {}: {problem}", access.server));
    let url: http::Uri = access.server.parse().map_err(|error| wrong(format!("not a URL: {error}")))?;
    if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
        return Err(wrong("expected a URL such as `https://10.0.0.1:6443`".to_owned()));
    }
    let mut config = kube::Config::new(url);
    if let Some(value) = authorization(identity) {
        let mut value = http::HeaderValue::from_str(&value)
            .map_err(|_| Error::Denied(format!("{}: the token or password cannot stand in a header", access.server)))?;
        value.set_sensitive(true);
        config.headers.push((http::header::AUTHORIZATION, value));
    }
    for (name, value) in &access.impersonation {
        let header = name.parse().ok().zip(value.parse().ok());
        config.headers.push(header.ok_or_else(|| wrong(format!("`{value}` cannot stand in a header")))?);
    }
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT));
    http.set_nodelay(true);
    http.set_keepalive(Some(KEEPALIVE));
    http.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    http.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    let mut https = HttpsConnectorBuilder::new().with_tls_config(tls(access, identity).map_err(wrong)?).https_or_http();
    if let Some(name) = &access.server_name {
        let name = ServerName::try_from(name.clone()).map_err(|error| wrong(format!("`{name}`: {error}")))?;
        https = https.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = https.enable_http1().wrap_connector(http);
    let service: hyper_util::client::legacy::Client<_, Body> =
        hyper_util::client::legacy::Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector);
    let headers = config.extra_headers_layer().map_err(|error| wrong(error.to_string()))?;
    let builder = ClientBuilder::new(service, access.namespace.clone());
    Ok(builder.with_layer(&config.base_uri_layer()).with_layer(&headers).build())
}

/// `kube` has a layer for this; it takes a token file with a line end as it is, and no inner service but its own.
fn authorization(identity: &Identity) -> Option<String> {
    match identity {
        Identity::Token(token) => Some(format!("Bearer {token}")),
        Identity::Basic(user, password) => {
            let pair = ByteString(format!("{user}:{password}").into_bytes());
            let encoded = serde_json::to_value(pair).ok()?;
            Some(format!("Basic {}", encoded.as_str()?))
        }
        Identity::Anonymous | Identity::Certificate(..) | Identity::Program(_) => None,
    }
}

fn tls(access: &Access, identity: &Identity) -> Result<ClientConfig, String> {
    let provider = meshless_certs::provider();
    let versions = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| error.to_string())?;
    let verified = if access.is_unverified {
        versions.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
    } else {
        versions.with_root_certificates(roots(access.authority.as_deref())?)
    };
    let Identity::Certificate(certificate, key) = identity else { return Ok(verified.with_no_client_auth()) };
    let chain = certificates(certificate).map_err(|problem| format!("our certificate: {problem}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key of our certificate: {error}"))?;
    verified.with_client_auth_cert(chain, key).map_err(|error| format!("our certificate and its key: {error}"))
}

fn roots(authority: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match authority {
        Some(pem) => {
            for certificate in certificates(pem).map_err(|problem| format!("the authority: {problem}"))? {
                roots.add(certificate).map_err(|error| format!("the authority: {error}"))?;
            }
        }
        // Some of a system's may be older than what rustls reads.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes any certificate: `insecure-skip-tls-verify` of a kubeconfig.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener};

    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    /// Answers one request over TLS, as `localhost`; returns its address and the PEM of its certificate.
    fn server() -> (SocketAddr, String) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(meshless_certs::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut tls = ServerConnection::new(Arc::new(config)).unwrap();
            let mut stream = rustls::Stream::new(&mut tls, &mut socket);
            let mut request = [0; 4096];
            let Ok(length) = stream.read(&mut request) else { return };
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let body = if request.contains("authorization: Bearer secret") { "known" } else { "unknown" };
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        });
        (address, made.cert.pem())
    }

    fn access(address: SocketAddr, authority: Option<String>) -> Access {
        Access {
            server: format!("https://localhost:{}", address.port()),
            authority: authority.map(String::into_bytes),
            server_name: None,
            is_unverified: false,
            namespace: "shop".to_owned(),
            identity: Identity::Token("secret".to_owned()),
            impersonation: Vec::new(),
        }
    }

    async fn ask(access: &Access) -> Result<String, String> {
        let client = client(access, &access.identity).map_err(|error| error.to_string())?;
        let request = http::Request::get("/version").body(Vec::new()).unwrap();
        client.request_text(request).await.map_err(|error| super::super::client::chain(&error))
    }

    #[tokio::test]
    async fn a_server_is_believed_by_the_authority_of_the_cluster_alone() {
        let (address, authority) = server();
        assert_eq!(ask(&access(address, Some(authority))).await, Ok("known".to_owned()));
        let (address, _) = server();
        let (_, other) = server();
        let error = ask(&access(address, Some(other))).await.unwrap_err();
        assert!(error.contains("certificate"), "{error}");
        let (address, _) = server();
        let unverified = Access { is_unverified: true, ..access(address, None) };
        assert_eq!(ask(&unverified).await, Ok("known".to_owned()));
    }

    #[tokio::test]
    async fn a_certificate_may_have_another_name_than_the_host() {
        let (address, authority) = server();
        let named = Access {
            server: format!("https://127.0.0.1:{}", address.port()),
            server_name: Some("localhost".to_owned()),
            ..access(address, Some(authority))
        };
        assert_eq!(ask(&named).await, Ok("known".to_owned()));
    }

    #[tokio::test]
    async fn no_provider_becomes_that_of_the_process() {
        let made = access(([127, 0, 0, 1], 1).into(), None);
        assert!(client(&made, &made.identity).is_ok());
        assert!(CryptoProvider::get_default().is_none());
    }

    #[tokio::test]
    async fn what_a_client_cannot_be_made_of_is_said() {
        let of = |access: Access| client(&access, &access.identity).err().unwrap().to_string();
        let base = access(([127, 0, 0, 1], 1).into(), None);
        assert!(of(Access { server: "10.0.0.1:6443".to_owned(), ..base.clone() }).contains("expected a URL"));
        assert!(of(Access { authority: Some(b"x".to_vec()), ..base.clone() }).contains("no certificate in PEM"));
        assert!(
            of(Access { identity: Identity::Token("a\nb".to_owned()), ..base }).contains("cannot stand in a header")
        );
    }
}
