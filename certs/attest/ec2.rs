//! EC2: an instance proves by its identity document, which AWS signed when it started.
//!
//! The document says which instance it is of, and nothing else: no authority, no nonce, no key, no end. Whoever can read it on the
//! instance once has it for ever. What stands against that is where a request comes from: the instance's own address, or, where
//! that cannot be seen, one key for each instance as long as this process remembers (decision 0127).

mod ber;
mod document;
mod metadata;
mod pkcs7;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};

use document::Document;
pub use metadata::Instance;
use pkcs7::SignerKey;

use super::evidence::{self, refused};
use super::{Attested, Attestor, Method, Presented, Rejected};
use crate::Error;

/// Most instances that are remembered by their keys. AWS vouches for each, so nobody else can fill this.
const MAX_INSTANCES: usize = 65_536;

/// What is shown.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    /// The document, byte by byte.
    document: String,
    /// `rsa2048` of the instance: a signature over it in PKCS #7, base64.
    rsa2048: String,
}

/// Takes identity documents of instances.
///
/// Facts: `account`, `region`, `zone`, `instance`, `image`.
#[derive(Debug)]
pub struct Instances {
    accounts: BTreeSet<String>,
    keys: Vec<SignerKey>,
    behind_nat: bool,
    /// The key that each instance was attested for; only behind a NAT, where its address says nothing.
    known: Mutex<BTreeMap<String, String>>,
}

impl Instances {
    /// Takes instances of these accounts, whose documents were signed by one of the certificates in `certificates`, a PEM file: those
    /// that AWS publishes for each region as "RSA-2048". `behind_nat`: instances may come from another address than their own.
    /// Reads the file.
    pub fn open(accounts: BTreeSet<String>, certificates: &PathBuf, behind_nat: bool) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable { path: certificates.clone(), source };
        let text = std::fs::read(certificates).map_err(unreadable)?;
        let unusable = |why: String| Error::Unusable { path: certificates.clone(), why };
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let parsed = parsed.map_err(|error| unusable(error.to_string()))?;
        let keys = parsed.iter().map(|der| SignerKey::of(der)).collect::<Result<Vec<_>, _>>();
        let keys = keys.map_err(|why| unusable(why.to_owned()))?;
        if keys.is_empty() {
            return Err(Error::Empty { path: certificates.clone(), what: "certificate" });
        }
        Ok(Self { accounts, keys, behind_nat, known: Mutex::default() })
    }

    fn place(&self, document: &Document, presented: &Presented<'_>) -> Result<(), Rejected> {
        if !self.behind_nat {
            return match presented.source.map(|source| source.to_canonical()) {
                Some(source) if source == document.private_ip => Ok(()),
                Some(source) => {
                    let own = document.private_ip;
                    let hint = "behind a NAT set `ca.ec2.behind_nat = true`";
                    Err(refused("address", format!("it comes from {source}, the instance has {own}; {hint}")))
                }
                None => Err(refused("address", "it is not known where the request comes from")),
            };
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = &presented.challenge.key;
        match known.get(&document.instance) {
            Some(first) if first == key => Ok(()),
            Some(_) => {
                let why = format!(
                    "the instance {} was attested for another key; restart the authority to let it in again",
                    document.instance
                );
                Err(refused("instance_known", why))
            }
            // To forget one would let anybody in who has its document.
            None if known.len() >= MAX_INSTANCES => {
                Err(Rejected::Unavailable(format!("{MAX_INSTANCES} instances are known, which is as many as are kept")))
            }
            None => {
                known.insert(document.instance.clone(), key.clone());
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Attestor for Instances {
    fn method(&self) -> Method {
        Method::Ec2
    }

    async fn attest(&self, presented: &Presented<'_>) -> Result<Attested, Rejected> {
        let Evidence { document: text, rsa2048 } = evidence::read(presented.evidence)?;
        let packed: String = rsa2048.split_ascii_whitespace().collect();
        let signature = STANDARD.decode(packed).map_err(|_| refused("malformed", "`rsa2048` is not base64"))?;
        pkcs7::verify(&signature, text.as_bytes(), &self.keys)?;
        // Only now it is AWS that speaks.
        let document = Document::parse(&text, presented.now)?;
        if !self.accounts.contains(&document.account) {
            return Err(refused("account", format!("the account {} is none that is allowed", document.account)));
        }
        self.place(&document, presented)?;
        let Document { account, region, zone, instance, image, .. } = document;
        let facts =
            vec![("account", account), ("region", region), ("zone", zone), ("instance", instance), ("image", image)];
        Ok(Attested { method: Method::Ec2, facts })
    }
}

#[cfg(test)]
mod tests;
