//! Bad certificates: each is refused by servers and by clients, with its reason.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose as Purpose, GeneralSubtree, IsCa,
    KeyPair, KeyUsagePurpose as Usage, NameConstraints, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use super::made::{Signer, World, uri, valid};
use super::openssl::{Files, LEAF};
use super::wire::{self, Broken};
use crate::{Identity, Refused, Verifier, refusal};

type Chain = Vec<CertificateDer<'static>>;

/// Checks a chain by the verifier and by handshakes of both sides; each must have the same to say.
fn verdict(chain: &Chain, good: &Arc<Identity>) -> Result<(), Refused> {
    let alone = good.verifier().verify(chain, SystemTime::now()).map(drop);
    // What was refused once must not be remembered as known.
    let again = good.verifier().verify(chain, SystemTime::now()).map(drop);
    assert_eq!(alone.as_ref().map_err(without_time), again.as_ref().map_err(without_time));
    let Err(expected) = &alone else { return Ok(()) };

    let server = wire::server(good.clone());
    let by_server =
        match wire::handshake(wire::client_with(chain.clone(), good), server.config(SystemTime::now()).unwrap()) {
            Err(Broken::Server(error)) => error,
            other => panic!("the server: {other:?}"),
        };
    // A server always shows something: where the chain is empty there is nothing that a client could refuse.
    let client = wire::client(good.clone(), "web");
    let by_client =
        match wire::handshake(client.config(SystemTime::now()).unwrap(), wire::server_with(chain.clone(), good)) {
            Err(Broken::Client(error)) => Some(error),
            Err(Broken::Server(_)) if chain.is_empty() => None,
            other => panic!("the client: {other:?}"),
        };
    for error in std::iter::once(by_server).chain(by_client) {
        // As it comes out of an acceptor.
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        let found = refusal(&error).unwrap_or_else(|| panic!("no reason in {error:?}"));
        assert_eq!(without_time(&found), without_time(expected));
    }
    alone
}

fn without_time(refused: &Refused) -> String {
    format!("{} {}", refused.label(), refused.to_string().replace(|c: char| c.is_ascii_digit(), "#"))
}

/// `Ok` or the label and a part of the message.
fn expect(name: &str, chain: &Chain, good: &Arc<Identity>, expected: Result<(), (&str, &str)>) {
    match (verdict(chain, good), expected) {
        (Ok(()), Ok(())) => {}
        (Err(refused), Err((label, message))) => {
            assert_eq!(refused.label(), label, "{name}: {refused}");
            assert!(refused.to_string().contains(message), "{name}: {refused}");
        }
        (found, _) => panic!("{name}: {found:?}"),
    }
}

fn expiry(params: &mut CertificateParams, from: i32, until: i32) {
    valid(params, from, until);
}

#[test]
fn a_bad_leaf_is_refused_by_both_sides_with_the_reason() {
    let world = World::new();
    let good = world.identity("api");
    let key = KeyPair::generate().unwrap();
    let case = |name: &str, change: &dyn Fn(&mut CertificateParams), expected| {
        let leaf = world.intermediate.leaf("web", &key, |params| change(params));
        expect(name, &vec![leaf, world.intermediate.der.clone()], &good, expected);
    };
    let names = |uris: &[&str]| {
        let names: Vec<_> = uris.iter().map(|text| uri(text)).collect();
        move |params: &mut CertificateParams| params.subject_alt_names.clone_from(&names)
    };
    let usages = |usages: &[Usage]| {
        let usages = usages.to_vec();
        move |params: &mut CertificateParams| params.key_usages.clone_from(&usages)
    };
    let purposes = |purposes: &[Purpose]| {
        let purposes = purposes.to_vec();
        move |params: &mut CertificateParams| params.extended_key_usages.clone_from(&purposes)
    };
    let custom = |oid: &[u64], critical: bool, content: &[u8]| {
        let mut extension = CustomExtension::from_oid_content(oid, content.to_vec());
        extension.set_criticality(critical);
        move |params: &mut CertificateParams| params.custom_extensions.push(extension.clone())
    };

    case("good", &|_| {}, Ok(()));
    case("good without basic constraints", &|params| params.is_ca = IsCa::NoCa, Ok(()));
    case(
        "good with a DNS name beside its ID",
        &|params| params.subject_alt_names.push(rcgen::SanType::DnsName("web.example.org".try_into().unwrap())),
        Ok(()),
    );

    case("expired", &|params| expiry(params, -3, -1), Err(("expired", "the leaf has expired 360")));
    case(
        "not valid yet",
        &|params| expiry(params, 1, 2),
        Err(("not_yet_valid", "the leaf is not valid yet, but in 3")),
    );
    case(
        "ends before it begins",
        &|params| expiry(params, 1, -1),
        Err(("malformed", "ends to be valid before it begins")),
    );

    case(
        "of another trust domain",
        &names(&["spiffe://other.org/svc/web"]),
        Err(("trust_domain", "`other.org` is not ours")),
    );
    case(
        "of two URIs",
        &names(&["spiffe://example.org/svc/web", "spiffe://example.org/svc/admin"]),
        Err(("spiffe_id", "several URIs")),
    );
    case("of the same URI twice", &names(&["spiffe://example.org/svc/web"; 2]), Err(("spiffe_id", "several URIs")));
    case(
        "of an ID and a web address",
        &names(&["spiffe://example.org/svc/web", "https://example.org/"]),
        Err(("spiffe_id", "several URIs")),
    );
    case("of no name", &|params| params.subject_alt_names.clear(), Err(("spiffe_id", "names no URI")));
    case(
        "of a DNS name alone",
        &|params| params.subject_alt_names = vec![rcgen::SanType::DnsName("web.example.org".try_into().unwrap())],
        Err(("spiffe_id", "names no URI")),
    );
    for (text, message) in [
        ("https://example.org/svc/web", "does not begin with `spiffe://`"),
        ("SPIFFE://example.org/svc/web", "does not begin with `spiffe://`"),
        ("spiffe://Example.org/svc/web", "a trust domain has"),
        ("spiffe://example.org:8443/svc/web", "a trust domain has"),
        ("spiffe://a@example.org/svc/web", "a trust domain has"),
        ("spiffe:///svc/web", "it has no trust domain"),
        ("spiffe://example.org", "it has no path"),
        ("spiffe://example.org/", "it has no path"),
        ("spiffe://example.org/svc/web/", "a segment of its path is empty"),
        ("spiffe://example.org//svc/web", "a segment of its path is empty"),
        ("spiffe://example.org/svc/../web", "is `.` or `..`"),
        ("spiffe://example.org/./web", "is `.` or `..`"),
        ("spiffe://example.org/svc/w%65b", "a path has"),
        ("spiffe://example.org/svc/web?a=b", "a path has"),
        ("spiffe://example.org/svc/web#a", "a path has"),
    ] {
        case(text, &names(&[text]), Err(("spiffe_id", message)));
    }
    let long = format!("spiffe://example.org/{}", "a".repeat(2048));
    case("of a long ID", &names(&[&long]), Err(("spiffe_id", "it is too long")));
    // A second name that is a URI with a byte which no URI has: it must not be overlooked.
    let hidden: Vec<u8> = [b"\x30\x24\x86\x1cspiffe://example.org/svc/web".as_slice(), b"\x86\x04x:\xff\xff"].concat();
    case(
        "of a URI that cannot be read",
        &|params| {
            params.subject_alt_names.clear();
            custom(&[2, 5, 29, 17], false, &hidden)(params);
        },
        Err(("malformed", "cannot be parsed")),
    );

    case("for servers alone", &purposes(&[Purpose::ServerAuth]), Err(("usage", "not for clients and servers")));
    case("for clients alone", &purposes(&[Purpose::ClientAuth]), Err(("usage", "not for clients and servers")));
    case("for no purpose", &purposes(&[]), Err(("usage", "not for clients and servers")));
    case("for any purpose", &purposes(&[Purpose::Any]), Err(("usage", "not for clients and servers")));
    case("for signing code", &purposes(&[Purpose::CodeSigning]), Err(("usage", "not for clients and servers")));
    case("of no key usage", &usages(&[]), Err(("usage", "no digitalSignature")));
    case("of no digital signature", &usages(&[Usage::KeyEncipherment]), Err(("usage", "no digitalSignature")));
    case(
        "that may sign certificates",
        &usages(&[Usage::DigitalSignature, Usage::KeyCertSign]),
        Err(("leaf_is_ca", "may sign certificates")),
    );
    case(
        "that may sign revocation lists",
        &usages(&[Usage::DigitalSignature, Usage::CrlSign]),
        Err(("leaf_is_ca", "may sign certificates or revocation lists")),
    );
    case(
        "that is an authority",
        &|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Err(("leaf_is_ca", "a certificate of an authority")),
    );
    case(
        "whose basic constraints cannot be read",
        &|params| {
            params.is_ca = IsCa::NoCa;
            custom(&[2, 5, 29, 19], true, b"\x30\x02\x01\x01")(params);
        },
        Err(("malformed", "cannot be parsed")),
    );
    case(
        "with an unknown critical extension",
        &custom(&[1, 3, 6, 1, 4, 1, 99999, 1], true, b"\x05\x00"),
        Err(("malformed", "critical extension")),
    );
    let serial = Err(("malformed", "serial number of the leaf"));
    case("of serial number 0", &|params| params.serial_number = Some(SerialNumber::from_slice(&[0])), serial);
    case(
        "of a serial number of 21 bytes",
        &|params| params.serial_number = Some(SerialNumber::from_slice(&[1; 21])),
        serial,
    );
    case(
        "of a serial number of 20 bytes",
        &|params| params.serial_number = Some(SerialNumber::from_slice(&[0xff; 20])),
        Ok(()),
    );
}

#[test]
fn a_bad_chain_is_refused_by_both_sides_with_the_reason() {
    let world = World::new();
    let (old, future) = (Signer::root(|root| expiry(root, -9, -1)), Signer::root(|root| expiry(root, 1, 9)));
    let flat = Signer::root(|root| root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let good = world.identity_that_trusts("api", &[&old, &future, &flat]);
    let key = KeyPair::generate().unwrap();
    let web = |signer: &Signer| signer.leaf("web", &key, |_| {});
    // A leaf below an intermediate that a test changes.
    let below = |root: &Signer, change: &dyn Fn(&mut CertificateParams)| {
        let intermediate = root.below(|params| change(params));
        vec![web(&intermediate), intermediate.der.clone()]
    };
    let case = |name: &str, chain: Chain, expected| expect(name, &chain, &good, expected);
    let unknown = Err(("unknown_issuer", "not signed by an authority of its trust domain"));

    case("good, signed by the root", vec![web(&world.root)], Ok(()));
    case("good, with its root", vec![web(&world.root), world.root.der.clone()], Ok(()));
    let second = world.intermediate.below(|_| {});
    case("good, of three", vec![web(&second), second.der.clone(), world.intermediate.der.clone()], Ok(()));
    case("good, in another order", vec![web(&second), world.intermediate.der.clone(), second.der.clone()], Ok(()));
    let unused = world.root.below(|params| expiry(params, -9, -1));
    case("good, with an expired authority that is not needed", vec![web(&world.root), unused.der.clone()], Ok(()));
    let third = second.below(|_| {});
    case(
        "of four",
        vec![web(&third), third.der.clone(), second.der.clone(), world.intermediate.der.clone()],
        Err(("chain_length", "has 4 certificates, at most 3")),
    );
    case("of none", Vec::new(), Err(("no_certificate", "showed no certificate")));
    case(
        "that is no certificate",
        vec![CertificateDer::from(vec![0x30, 0x00])],
        Err(("malformed", "cannot be parsed")),
    );
    let longer = [web(&world.root).as_ref(), b"\x00"].concat();
    case("with a byte behind its leaf", vec![longer.into()], Err(("malformed", "cannot be parsed")));
    let mut forged = web(&world.root).to_vec();
    *forged.last_mut().unwrap() ^= 1;
    case("of a leaf with another signature", vec![forged.into()], unknown);
    case("without its intermediate", vec![web(&world.intermediate)], unknown);
    let stranger = World::new();
    case("of another root", vec![web(&stranger.intermediate), stranger.intermediate.der.clone()], unknown);
    let alone = Signer::root(|params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![Usage::DigitalSignature];
        params.extended_key_usages = vec![Purpose::ServerAuth, Purpose::ClientAuth];
        params.subject_alt_names = vec![uri("spiffe://example.org/svc/web")];
    });
    case("that signed itself", vec![alone.der.clone()], unknown);

    case(
        "of an issuer without the CA flag",
        below(&world.root, &|params| params.is_ca = IsCa::ExplicitNoCa),
        Err(("issuer_usage", "no authority (CA flag)")),
    );
    case(
        "of an issuer without basic constraints",
        below(&world.root, &|params| params.is_ca = IsCa::NoCa),
        Err(("issuer_usage", "no authority (CA flag)")),
    );
    // What a workload could do with the key of its own leaf.
    let workload = world.root.below_with(KeyPair::generate().unwrap(), |params| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![Usage::DigitalSignature];
        params.extended_key_usages = vec![Purpose::ServerAuth, Purpose::ClientAuth];
        params.subject_alt_names = vec![uri("spiffe://example.org/svc/evil")];
    });
    case("of a workload", vec![web(&workload), workload.der.clone()], Err(("issuer_usage", "no authority (CA flag)")));
    for (name, usages) in [("revocation lists alone", vec![Usage::CrlSign]), ("nothing at all", vec![])] {
        case(
            name,
            below(&world.root, &|params| params.key_usages.clone_from(&usages)),
            Err(("issuer_usage", "without keyCertSign")),
        );
    }
    for (purposes, expected) in [
        (vec![Purpose::ServerAuth], Err(("issuer_usage", "not for certificates of clients and servers"))),
        (vec![Purpose::ClientAuth], Err(("issuer_usage", "not for certificates of clients and servers"))),
        (vec![Purpose::ServerAuth, Purpose::ClientAuth], Ok(())),
    ] {
        let chain = below(&world.root, &|params| params.extended_key_usages.clone_from(&purposes));
        case(&format!("of an issuer for {purposes:?}"), chain, expected);
    }
    for (id, expected) in [
        ("spiffe://example.org", Ok(())),
        ("https://ca.example.org/", Ok(())),
        ("spiffe://other.org", Err(("issuer_usage", "names itself `spiffe://other.org`"))),
        ("spiffe://example.org/ca", Err(("issuer_usage", "names itself `spiffe://example.org/ca`"))),
        ("spiffe://a\n\u{1b}[1m", Err(("issuer_usage", r"names itself `spiffe://a\n\u{1b}[1m`"))),
        ("SPIFFE://example.org", Err(("issuer_usage", "names itself `SPIFFE://example.org`"))),
    ] {
        case(id, below(&world.root, &|params| params.subject_alt_names = vec![uri(id)]), expected);
    }

    let expired = below(&world.root, &|params| expiry(params, -9, -1));
    case(
        "of an expired intermediate",
        expired,
        Err(("issuer_expired", "the intermediate certificate has expired 360")),
    );
    let early = below(&world.root, &|params| expiry(params, 1, 9));
    case(
        "of an intermediate of tomorrow",
        early,
        Err(("not_yet_valid", "the intermediate certificate is not valid yet")),
    );
    case("of an expired root", below(&old, &|_| {}), Err(("root_expired", "the root has expired 360")));
    case("of a root of tomorrow", below(&future, &|_| {}), Err(("not_yet_valid", "the root is not valid yet")));

    case("below a root that allows no intermediate", vec![web(&flat)], Ok(()));
    case(
        "of an intermediate below a root that allows none",
        below(&flat, &|_| {}),
        Err(("chain_length", "longer than an authority in it allows")),
    );
    let last = world.root.below(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let beyond = last.below(|_| {});
    case(
        "below an intermediate that allows none",
        vec![web(&beyond), beyond.der.clone(), last.der.clone()],
        Err(("chain_length", "longer than an authority in it allows")),
    );
    let only_dns = |params: &mut CertificateParams| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("example.com".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    };
    let limited = world.root.below(only_dns);
    let outside = limited.leaf("web", &key, |params| {
        params.subject_alt_names.push(rcgen::SanType::DnsName("web.example.org".try_into().unwrap()));
    });
    case(
        "of a DNS name outside of its issuer's",
        vec![outside, limited.der.clone()],
        Err(("name_constraints", "outside of an authority's name constraints")),
    );
    case(
        "of an intermediate with a serial number of 21 bytes",
        below(&world.root, &|params| params.serial_number = Some(SerialNumber::from_slice(&[1; 21]))),
        Err(("malformed", "serial number of the intermediate")),
    );
}

#[test]
fn a_key_or_a_signature_that_is_weak_is_refused_by_both_sides() {
    let world = World::new();
    let good = world.identity("api");
    let files = Files::new();
    let case = |key: &str, extensions: &str, signing: &str, expected| {
        let leaf = files.leaf(&world.root, key, extensions, signing);
        expect(&format!("{key} {extensions} {signing}"), &vec![leaf], &good, expected);
    };
    let weak = Err(("weak_key", "the key of the leaf is none of P-256"));
    for (key, expected) in [
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256", Ok(())),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-384", Ok(())),
        ("-algorithm ED25519", Ok(())),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", Ok(())),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:1024", weak),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2047", weak),
        ("-algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3", weak),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-521", weak),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1", weak),
        ("-algorithm EC -pkeyopt ec_paramgen_curve:P-256 -pkeyopt ec_param_enc:explicit", weak),
        ("-algorithm ED448", weak),
    ] {
        case(key, LEAF, "-days 1", expected);
    }
    let p256 = "-algorithm EC -pkeyopt ec_paramgen_curve:P-256";
    case(p256, LEAF, "-days 1 -sha1", Err(("weak_key", "such as one with SHA-1")));
    case(p256, LEAF, "-days 1 -set_serial -5", Err(("malformed", "serial number of the leaf")));
    // Without extensions `openssl` makes a certificate of version 1.
    case(p256, "", "-days 1", Err(("malformed", "cannot be parsed")));
}

#[test]
fn an_intermediate_with_a_weak_key_is_refused() {
    let world = World::new();
    let good = world.identity("api");
    let files = Files::new();
    let extensions =
        "basicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\nsubjectAltName = DNS:ca\n";
    let weak = files.leaf(&world.root, "-algorithm RSA -pkeyopt rsa_keygen_bits:1024", extensions, "-days 1");
    let leaf = world.root.leaf("web", &KeyPair::generate().unwrap(), |_| {});
    expect("weak", &vec![leaf, weak], &good, Err(("weak_key", "the key of the intermediate certificate")));
}

#[test]
fn a_bundle_without_a_usable_root_is_refused() {
    let world = World::new();
    let refused = |roots: Vec<CertificateDer<'static>>| Verifier::new(&super::made::bundle(roots)).unwrap_err();
    assert_eq!(refused(Vec::new()).label(), "no_root");
    let leaf = world.root.leaf("web", &KeyPair::generate().unwrap(), |_| {});
    assert_eq!(refused(vec![world.root.der.clone(), leaf]).label(), "issuer_usage");
    let silent = Signer::root(|params| params.key_usages.clear());
    assert_eq!(refused(vec![silent.der.clone()]).label(), "issuer_usage");
    assert_eq!(refused(vec![CertificateDer::from(vec![1, 2, 3])]).label(), "malformed");
}

#[test]
fn a_leaf_is_judged_alone_too() {
    let world = World::new();
    let key = KeyPair::generate().unwrap();
    assert_eq!(crate::leaf(&world.root.der), Err(Refused::LeafIsCa));
    let unreadable = world.root.leaf("web", &key, |params| {
        params.is_ca = IsCa::NoCa;
        params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 19], b"\x30\x02\x01\x01".to_vec()));
    });
    assert_eq!(crate::leaf(&unreadable), Err(Refused::Malformed));
    let good = crate::leaf(&world.root.leaf("web", &key, |_| {})).unwrap();
    assert_eq!(good.id, wire::id("web"));
}
