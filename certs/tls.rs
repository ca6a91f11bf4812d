//! rustls configurations from given certificates.

use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};

use crate::provider::ticketer;
use crate::resolve::BySni;
use crate::{Anchors, Error, KeyFiles, provider};

/// The server side of TLS: what handshakes are made with.
#[derive(Debug, Clone)]
pub struct Server {
    /// For the acceptor.
    pub config: Arc<ServerConfig>,
    certificates: Arc<BySni>,
}

impl Server {
    /// Tells whether a host belongs to another certificate than the one that was chosen for a name. `host` has no port.
    pub fn misdirects(&self, name: &str, host: &str) -> bool {
        self.certificates.misdirects(name, host)
    }
}

/// Builds the server side: TLS 1.2 and 1.3, certificates chosen by SNI, no early data.
///
/// `client_ca`: client certificates are asked for, and must be signed by one of these.
pub fn server(keys: &[KeyFiles], client_ca: Option<&Anchors>, alpn: &[&[u8]]) -> Result<Server, Error> {
    let read = keys.iter().map(|files| files.read().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    let certificates = BySni::new(read)
        .map(Arc::new)
        .ok_or_else(|| Error::Tls(rustls::Error::General("no certificate was given".to_owned())))?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(anchors) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(anchors.read()?, provider())
                .build()
                .map_err(|error| Error::Tls(rustls::Error::General(error.to_string())))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(certificates.clone());
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    // Ticket keys are made anew every six hours by the ticketer; the paper's bound is twelve.
    config.ticketer = ticketer()?;
    config.send_tls13_tickets = 1;
    Ok(Server { config: Arc::new(config), certificates })
}

/// Builds the client side: the peer is checked against `anchors`; `key` is shown where it asks for one.
pub fn client(anchors: &Anchors, key: Option<&KeyFiles>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(anchors.read()?);
    Ok(match key {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let resolver = rustls::sign::SingleCertAndKey::from(files.read()?);
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_empty_or_does_not_fit_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let one = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["b.example".to_owned()]).unwrap();
        let (cert, key) = (write("a.pem", &one.cert.pem()), write("a.key", &one.signing_key.serialize_pem()));
        let wrong = write("b.key", &other.signing_key.serialize_pem());
        let empty = write("empty.pem", "");
        let error = |cert: &std::path::PathBuf, key: &std::path::PathBuf| {
            server(&[KeyFiles { cert: cert.clone(), key: key.clone() }], None, &[]).unwrap_err().to_string()
        };
        assert!(server(&[KeyFiles { cert: cert.clone(), key: key.clone() }], None, &[b"h2"]).is_ok());
        assert!(error(&dir.path().join("none.pem"), &key).contains("none.pem"));
        assert!(error(&empty, &key).contains("empty.pem: no certificate"));
        assert!(error(&cert, &empty).contains("empty.pem: no private key"));
        assert!(error(&cert, &wrong).contains("does not fit the key in"), "{}", error(&cert, &wrong));
        assert!(client(&Anchors::File(cert), None).is_ok());
        assert!(client(&Anchors::File(empty), None).is_err());
    }
}
