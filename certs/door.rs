//! rustls's door to a [`Verifier`], for both sides of a handshake.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use crate::peer::Peer;
use crate::verify::system;
use crate::{Refused, SpiffeId, Verifier, provider};

#[derive(Debug)]
pub(crate) struct Door {
    verifier: Arc<Verifier>,
    /// Whom a client of ours wants to speak to; discovery cannot change it.
    expected: Vec<SpiffeId>,
    /// When the first of the chains that were let in ends to be valid, in seconds since 1970.
    first_end: AtomicU64,
    /// Clients that show no certificate are let in too.
    optional: bool,
}

impl Door {
    pub(crate) fn new(verifier: Arc<Verifier>, expected: Vec<SpiffeId>) -> Self {
        Self { verifier, expected, first_end: AtomicU64::new(u64::MAX), optional: false }
    }

    /// Lets clients in that show no certificate: the authority's server has an answer for who has no identity yet.
    pub(crate) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    /// Tells whether a chain that was let in has expired since: sessions with its owner must not be resumed.
    pub(crate) fn knows_expired(&self, now: SystemTime) -> bool {
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
            > Duration::from_secs(self.first_end.load(Ordering::Acquire))
    }

    fn check(&self, leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>], now: UnixTime) -> Result<Peer, Refused> {
        let chain: Vec<_> = std::iter::once(leaf).chain(others).map(|der| CertificateDer::from(der.as_ref())).collect();
        let peer = self.verifier.peer(&chain, system(now))?;
        let end = peer.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.first_end.fetch_min(end.as_secs(), Ordering::AcqRel);
        Ok(peer)
    }
}

/// Checks that a peer is one of those who are expected.
pub(crate) fn expect(found: &SpiffeId, expected: &[SpiffeId]) -> Result<(), Refused> {
    if expected.contains(found) {
        return Ok(());
    }
    let expected = match expected {
        [] => "nobody".to_owned(),
        some => some.iter().map(SpiffeId::as_str).collect::<Vec<_>>().join(" or "),
    };
    Err(Refused::Identity { found: found.clone(), expected })
}

impl ClientCertVerifier for Door {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Clients have one identity; a list would only tell everybody which authorities there are.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.optional
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Door {
    /// The name that was asked for plays no part: who the server must be is an ID.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let peer = self.check(end_entity, intermediates, now)?;
        expect(&peer.id, &self.expected)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(self)
    }
}
