//! Why authorities have no URI name constraints: docs/decisions/0105-no-uri-name-constraints.md.

use std::time::{Duration, SystemTime};

use rcgen::{CustomExtension, KeyPair};
use rustls::pki_types::UnixTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::made::World;
use super::openssl::Files;
use crate::{Refused, Verifier, pem, provider};

/// Critical, permitted: the host `example.org` in URIs (RFC 5280, 4.2.1.10).
fn permits_our_own_uris() -> CustomExtension {
    let mut extension =
        CustomExtension::from_oid_content(&[2, 5, 29, 30], b"\x30\x11\xa0\x0f\x30\x0d\x86\x0bexample.org".to_vec());
    extension.set_criticality(true);
    extension
}

#[test]
fn webpki_refuses_a_leaf_within_the_uri_constraints_of_its_issuer_and_openssl_takes_it() {
    let world = World::new();
    let limited = world.root.below(|params| params.custom_extensions.push(permits_our_own_uris()));
    let free = world.root.below(|_| {});
    let key = KeyPair::generate().unwrap();
    let by_webpki = |chain: [rustls::pki_types::CertificateDer<'static>; 2]| {
        let anchor = anchor_from_trusted_cert(&world.root.der).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        EndEntityCert::try_from(&chain[0])
            .unwrap()
            .verify_for_usage(
                provider().signature_verification_algorithms.all,
                &[anchor],
                &chain[1..],
                UnixTime::since_unix_epoch(now + Duration::from_secs(1)),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map(drop)
    };
    let within = [limited.leaf("web", &key, |_| {}), limited.der.clone()];
    assert_eq!(by_webpki([free.leaf("web", &key, |_| {}), free.der.clone()]), Ok(()));
    assert_eq!(by_webpki(within.clone()), Err(webpki::Error::NameConstraintViolation));

    let files = Files::new();
    files.write("root.pem", pem::encode_chain(std::slice::from_ref(&world.root.der)));
    files.write("between.pem", pem::encode_chain(&within[1..]));
    files.write("leaf.pem", pem::encode_chain(&within[..1]));
    assert!(files.run("verify -x509_strict -CAfile root.pem -untrusted between.pem leaf.pem").contains("leaf.pem: OK"));

    // Our verifier says it before webpki does, in words that lead to the cause.
    let ours = Verifier::new(&world.bundle(&[])).unwrap();
    assert_eq!(ours.verify(&within, SystemTime::now()), Err(Refused::UriConstraints));
}

#[test]
fn a_root_with_uri_constraints_is_refused_when_it_is_trusted_not_at_each_peer() {
    let root = super::made::Signer::root(|params| params.custom_extensions.push(permits_our_own_uris()));
    assert_eq!(Verifier::new(&super::made::bundle(vec![root.der.clone()])).unwrap_err(), Refused::UriConstraints);
}
