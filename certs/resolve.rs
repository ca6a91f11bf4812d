//! The certificate that fits the name a client asks for.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

/// Chooses by SNI: an exact name, then a wildcard of one label, then the first certificate.
#[derive(Debug)]
pub(crate) struct BySni {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl BySni {
    /// `None` for no certificates. Of two for one name the earlier wins.
    pub(crate) fn new(keys: Vec<Arc<CertifiedKey>>) -> Option<Self> {
        let first = keys.first()?.clone();
        let mut by_name = HashMap::new();
        for key in keys {
            for name in names(&key) {
                by_name.entry(name).or_insert_with(|| key.clone());
            }
        }
        Some(Self { by_name, first })
    }

    /// Tells whether `host` belongs to another of these certificates than the one that `name` gets.
    ///
    /// A host that belongs to none is not misdirected: sidecars ask for each other by one name and for services by others.
    pub(crate) fn misdirects(&self, name: &str, host: &str) -> bool {
        let chosen = self.find(name).unwrap_or(&self.first);
        self.find(host).is_some_and(|fitting| !Arc::ptr_eq(fitting, chosen) && !is_valid_for(chosen, host))
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

fn is_valid_for(key: &CertifiedKey, host: &str) -> bool {
    let (Some(leaf), Ok(host)) = (key.cert.first(), ServerName::try_from(host)) else { return false };
    EndEntityCert::try_from(leaf).is_ok_and(|leaf| leaf.verify_is_valid_for_subject_name(&host).is_ok())
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fitting = hello.server_name().and_then(|name| self.find(name));
        Some(fitting.unwrap_or(&self.first).clone())
    }
}

fn names(key: &CertifiedKey) -> Vec<String> {
    let Some(leaf) = key.cert.first() else { return Vec::new() };
    // A leaf that cannot be parsed was refused when it was read; it would simply have no names.
    EndEntityCert::try_from(leaf)
        .map(|leaf| leaf.valid_dns_names().map(str::to_ascii_lowercase).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::provider;

    fn key(names: &[&str]) -> Arc<CertifiedKey> {
        let signed =
            rcgen::generate_simple_self_signed(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        let key = PrivateKeyDer::Pkcs8(signed.signing_key.serialize_der().into());
        Arc::new(CertifiedKey::from_der(vec![signed.cert.der().clone()], key, &provider()).unwrap())
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_a_wildcard_takes_one_label() {
        let (wild, exact) = (key(&["*.example.org"]), key(&["a.example.org"]));
        let by_sni = BySni::new(vec![wild.clone(), exact.clone()]).unwrap();
        assert!(Arc::ptr_eq(by_sni.find("A.example.org").unwrap(), &exact));
        assert!(Arc::ptr_eq(by_sni.find("b.example.org").unwrap(), &wild));
        assert!(by_sni.find("a.b.example.org").is_none());
        assert!(by_sni.find("example.org").is_none());
    }

    #[test]
    fn a_host_is_misdirected_if_it_belongs_to_another_certificate_and_not_if_it_belongs_to_none() {
        let by_sni = BySni::new(vec![key(&["a.org", "both.org"]), key(&["*.example.org", "both.org"])]).unwrap();
        for (name, host, misdirected) in [
            ("a.org", "A.org", false),
            ("a.org", "x.example.org", true),
            ("a.org", "elsewhere.org", false),
            ("a.org", "127.0.0.1", false),
            ("unknown.org", "a.org", false),
            ("unknown.org", "x.example.org", true),
            ("x.example.org", "y.example.org", false),
            ("x.example.org", "both.org", false),
            ("x.example.org", "A.org", true),
            ("x.example.org", "y.x.example.org", false),
            ("x.example.org", "not a name", false),
            ("x.example.org", "", false),
        ] {
            assert_eq!(by_sni.misdirects(name, host), misdirected, "{name} {host}");
        }
    }
}
