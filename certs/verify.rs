//! Who a peer is, by its chain: webpki for signatures and validity, then the rules of SPIFFE.
//!
//! No URI name constraint is looked at, because webpki refuses every chain that has one
//! (docs/decisions/0105-no-uri-name-constraints.md): that an authority speaks for its own trust domain alone is checked
//! here, by keeping the roots of each trust domain apart.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use ring::digest::{Context, Digest, SHA256, digest};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::peer::{Peer, spiffe_id};
use crate::refused::{Part, Refused};
use crate::svid::{self, Issuer};
use crate::{Leaf, TrustBundle, provider};

/// Longest chain that is looked at: a leaf and two intermediates. Ours has one.
pub const MAX_CHAIN: usize = 3;

/// Chains whose signatures are remembered as verified; a gateway has fewer peers, or forgets all and begins anew.
const MAX_KNOWN: usize = 1024;

/// A root, with what webpki's anchor leaves out: webpki takes it for valid for ever, above any number of authorities.
struct Root {
    anchor: TrustAnchor<'static>,
    issuer: Issuer,
}

impl Root {
    fn check(&self, now: SystemTime) -> Result<(), Refused> {
        check_validity(Part::Root, self.issuer.not_before, self.issuer.not_after, now)
    }
}

/// A chain whose signatures are right: they stay so, only time passes.
#[derive(Clone)]
struct Known {
    leaf: Leaf,
    /// When each certificate of its path is valid, the root among them.
    from: SystemTime,
    until: SystemTime,
}

/// The roots of each trust domain whose members may be peers, apart from each other.
pub struct Verifier {
    own: String,
    domains: BTreeMap<String, Vec<Root>>,
    /// By SHA-256 of the chain. It makes the check after a resumed handshake, which verifies nothing, a look-up.
    known: Mutex<HashMap<[u8; 32], Known>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots: BTreeMap<_, _> = self.domains.iter().map(|(domain, roots)| (domain, roots.len())).collect();
        let known = self.lock().len();
        formatter
            .debug_struct("Verifier")
            .field("own", &self.own)
            .field("roots", &roots)
            .field("known", &known)
            .finish()
    }
}

impl Verifier {
    /// Trusts the roots of one bundle, for its own trust domain. A root that is none is an error, and so is a bundle
    /// without roots; one that has expired is not, it is no longer used.
    pub fn new(bundle: &TrustBundle) -> Result<Self, Refused> {
        let own = bundle.trust_domain.as_str().to_owned();
        let mut roots = Vec::new();
        for der in &bundle.roots {
            let issuer = svid::issuer(der, Part::Root)?;
            let anchor = anchor_from_trusted_cert(der).map_err(|_| Refused::Malformed)?.to_owned();
            roots.push(Root { anchor, issuer });
        }
        if roots.is_empty() {
            return Err(Refused::NoRoot);
        }
        Ok(Self { domains: BTreeMap::from([(own.clone(), roots)]), own, known: Mutex::default() })
    }

    /// Returns the name of our own trust domain.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Verifies a chain, leaf first, as that of a client and of a server; returns what its leaf says.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Leaf, Refused> {
        self.known(chain, now).map(|known| known.leaf)
    }

    /// Verifies a chain like [`Verifier::verify`], and says what is worth to be known of the peer.
    pub fn peer(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Peer, Refused> {
        let known = self.known(chain, now)?;
        let leaf = chain.first().ok_or(Refused::None)?;
        Ok(Peer {
            id: known.leaf.id,
            serial: known.leaf.serial,
            not_after: known.until,
            fingerprint: bytes(&digest(&SHA256, leaf)),
        })
    }

    fn known(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Known, Refused> {
        let now = whole_seconds(now);
        let hash = hash_of(chain);
        if let Some(known) = self.lock().get(&hash)
            && (known.from..=known.until).contains(&now)
        {
            return Ok(known.clone());
        }
        let found = self.verify_anew(chain, now)?;
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(hash, found.clone());
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verify_anew(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Known, Refused> {
        let (first, intermediates) = chain.split_first().ok_or(Refused::None)?;
        if chain.len() > MAX_CHAIN {
            return Err(Refused::TooLong(chain.len()));
        }
        let leaf = svid::leaf(first)?;
        EndEntityCert::try_from(first).map_err(|error| Refused::of(&error))?;
        // Two parsers read the leaf, one for its name and one for its signature: they must agree.
        if spiffe_id(chain).as_ref() != Some(&leaf.id) {
            return Err(Refused::Malformed);
        }
        let domain = leaf.id.trust_domain();
        let roots = self.domains.get(domain).ok_or_else(|| Refused::TrustDomain(domain.to_owned()))?;
        for intermediate in intermediates {
            svid::intermediate(intermediate, domain)?;
        }
        check_validity(Part::Leaf, leaf.not_before, leaf.not_after, now)?;
        let (valid, invalid): (Vec<_>, Vec<_>) = roots.iter().partition(|root| root.check(now).is_ok());
        let (from, until) = path(first, intermediates, &valid, now).map_err(|refused| {
            // Of a chain that leads to a root which is not valid now, say that.
            let unusable = match path(first, intermediates, &invalid, now) {
                Ok((from, until)) => check_validity(Part::Root, from, until, now).err(),
                Err(_) => None,
            };
            if refused == Refused::UnknownIssuer { unusable.unwrap_or(refused) } else { refused }
        })?;
        Ok(Known { from: from.max(leaf.not_before), until: until.min(leaf.not_after), leaf })
    }
}

/// Looks for a path from the leaf to one of the roots; returns when its issuers are valid.
fn path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[&Root],
    now: SystemTime,
) -> Result<(SystemTime, SystemTime), Refused> {
    let entity = EndEntityCert::try_from(leaf).map_err(|_| Refused::Malformed)?;
    let anchors: Vec<_> = roots.iter().map(|root| root.anchor.clone()).collect();
    let algorithms = provider().signature_verification_algorithms.all;
    let path = entity
        .verify_for_usage(algorithms, &anchors, intermediates, unix(now), KeyUsage::server_auth(), None, None)
        .map_err(|error| Refused::of(&error))?;
    let root = roots.iter().find(|root| &root.anchor == path.anchor()).ok_or(Refused::UnknownIssuer)?;
    let below = path.intermediate_certificates().count();
    if root.issuer.path_length.is_some_and(|most| below > usize::try_from(most).unwrap_or(usize::MAX)) {
        return Err(Refused::PathLength);
    }
    path.intermediate_certificates().try_fold(
        (root.issuer.not_before, root.issuer.not_after),
        |(from, until), intermediate| {
            let issuer = svid::issuer(&intermediate.der(), Part::Intermediate)?;
            Ok((issuer.not_before.max(from), issuer.not_after.min(until)))
        },
    )
}

/// No allowance for clocks that differ: authorities date certificates back, and what has expired has expired.
fn check_validity(part: Part, begin: SystemTime, end: SystemTime, now: SystemTime) -> Result<(), Refused> {
    if let Ok(ahead) = begin.duration_since(now)
        && !ahead.is_zero()
    {
        return Err(Refused::NotYetValid { part, ahead });
    }
    match now.duration_since(end) {
        Ok(ago) if !ago.is_zero() => Err(Refused::Expired { part, ago }),
        _ => Ok(()),
    }
}

/// Returns the SHA-256 of a chain; the lengths say where each certificate ends.
fn hash_of(chain: &[CertificateDer<'_>]) -> [u8; 32] {
    let mut digest = Context::new(&SHA256);
    for certificate in chain {
        digest.update(&certificate.len().to_be_bytes());
        digest.update(certificate);
    }
    bytes(&digest.finish())
}

fn bytes(digest: &Digest) -> [u8; 32] {
    digest.as_ref().try_into().unwrap_or_default()
}

/// Certificates count seconds, and so does rustls.
fn whole_seconds(now: SystemTime) -> SystemTime {
    system(unix(now))
}

fn unix(now: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

pub(crate) fn system(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs())
}
