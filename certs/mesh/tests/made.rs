//! Certificates, good by default; a test changes what it is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::{Identity, REFRESH_HINT, TrustBundle};

pub(super) const DOMAIN: &str = "example.org";
pub(super) const HOUR: Duration = Duration::from_hours(1);

/// Whoever signs.
pub(super) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) der: CertificateDer<'static>,
}

impl Signer {
    pub(super) fn root(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority("root", change);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    pub(super) fn below(&self, change: impl FnOnce(&mut CertificateParams)) -> Self {
        self.below_with(KeyPair::generate().unwrap(), change)
    }

    pub(super) fn below_with(&self, key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let params = authority("intermediate", change);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    /// Signs the leaf of a service.
    pub(super) fn leaf(
        &self,
        service: &str,
        key: &impl PublicKeyData,
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, service);
        params.subject_alt_names = vec![uri(&format!("spiffe://{DOMAIN}/svc/{service}"))];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, -1, 1);
        change(&mut params);
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }
}

fn authority(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = format!("{name} {}", COUNT.fetch_add(1, Ordering::Relaxed));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // `openssl verify -x509_strict` wants it.
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, -2, 2);
    change(&mut params);
    params
}

/// Sets the validity, in hours from now.
pub(super) fn valid(params: &mut CertificateParams, from: i32, until: i32) {
    let at = |hours: i32| {
        let distance = HOUR * hours.unsigned_abs();
        let now = SystemTime::now();
        if hours < 0 { now - distance } else { now + distance }
    };
    (params.not_before, params.not_after) = (at(from).into(), at(until).into());
}

pub(super) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A root and an intermediate.
pub(super) struct World {
    pub(super) root: Signer,
    pub(super) intermediate: Signer,
}

impl World {
    pub(super) fn new() -> Self {
        let root = Signer::root(|_| {});
        let intermediate = root.below(|_| {});
        Self { root, intermediate }
    }

    /// Trusts its root and these.
    pub(super) fn bundle(&self, more: &[&Signer]) -> Arc<TrustBundle> {
        let roots = std::iter::once(&self.root).chain(more.iter().copied()).map(|root| root.der.clone()).collect();
        bundle(roots)
    }

    pub(super) fn identity(&self, service: &str) -> Arc<Identity> {
        self.identity_that_trusts(service, &[])
    }

    pub(super) fn identity_that_trusts(&self, service: &str, more: &[&Signer]) -> Arc<Identity> {
        let key = KeyPair::generate().unwrap();
        let leaf = self.intermediate.leaf(service, &key, |_| {});
        self.put_together(leaf, &key, more)
    }

    pub(super) fn put_together(&self, leaf: CertificateDer<'static>, key: &KeyPair, more: &[&Signer]) -> Arc<Identity> {
        let chain = vec![leaf, self.intermediate.der.clone()];
        let key = Zeroizing::new(key.serialize_der());
        Arc::new(Identity::new(chain, key, self.bundle(more), SystemTime::now()).unwrap())
    }
}

pub(super) fn bundle(roots: Vec<CertificateDer<'static>>) -> Arc<TrustBundle> {
    let trust_domain = DOMAIN.parse().unwrap();
    Arc::new(TrustBundle { trust_domain, sequence: 1, roots, refresh_hint: REFRESH_HINT })
}
