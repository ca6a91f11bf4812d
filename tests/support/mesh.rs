//! Identities of a mesh, in files, as another agent writes them.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How long a certificate is valid that no test waits for.
pub(crate) const LONG: Duration = Duration::from_hours(1);

/// A root that signs identities.
#[derive(Debug)]
pub(crate) struct Root {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate with its key, as PEM.
#[derive(Debug, Clone)]
pub(crate) struct Svid {
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// A directory with the three files of an identity.
#[derive(Debug, Clone)]
pub(crate) struct Place(pub(crate) PathBuf);

/// Makes a root.
pub(crate) fn root(name: &str) -> Root {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params.self_signed(&key).unwrap().pem();
    Root { issuer: Issuer::new(params, key), pem }
}

/// Returns the ID of a service in the trust domain of the tests.
pub(crate) fn id(service: &str) -> String {
    format!("spiffe://example.org/svc/{service}")
}

impl Root {
    /// Signs a certificate for a service that is valid from a minute ago for a time from now on.
    pub(crate) fn issue(&self, service: &str, valid: Duration) -> Svid {
        let now = SystemTime::now();
        self.sign(&id(service), now - Duration::from_mins(1), now + valid)
    }

    /// Signs a certificate for an ID.
    pub(crate) fn sign(&self, id: &str, not_before: SystemTime, not_after: SystemTime) -> Svid {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (not_before.into(), not_after.into());
        Svid { chain: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }
}

impl Svid {
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.chain.as_bytes()).unwrap()
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}

impl Place {
    /// Makes a directory for an identity.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let place = directory.join(name);
        std::fs::create_dir(&place).unwrap();
        Self(place)
    }

    /// Writes an identity, as an agent does that replaces each file by a whole one.
    pub(crate) fn write(&self, svid: &Svid, roots: &[&Root]) {
        let bundle: String = roots.iter().map(|root| root.pem.as_str()).collect();
        for (name, text) in [("bundle.pem", &bundle), ("key.pem", &svid.key), ("chain.pem", &svid.chain)] {
            let new = self.0.join(format!("{name}.new"));
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, self.0.join(name)).unwrap();
        }
    }

    /// Returns `[identity]` of a configuration.
    pub(crate) fn table(&self) -> String {
        let file = |name: &str| self.0.join(name).display().to_string();
        format!(
            "[identity]\ntrust_domain = \"example.org\"\nauthority = {{ chain = \"{}\", key = \"{}\", bundle = \"{}\" }}\n",
            file("chain.pem"),
            file("key.pem"),
            file("bundle.pem")
        )
    }
}
