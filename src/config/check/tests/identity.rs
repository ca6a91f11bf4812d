//! `[identity]`, and what needs one.

use std::path::PathBuf;

use super::{Given, around, toml};
use crate::config::{Attest, Authority, AuthorityTrust, ListenerTls, UpstreamTls};

const FILES: &str = "authority = { chain = \"/c\", key = \"/k\", bundle = \"/b\" }";
const URL: &str = "authority = \"https://ca.internal:8443\"";

fn identity(keys: &str) -> Given {
    around(&format!("[node]\nservice = \"web\"\n[identity]\ntrust_domain = \"example.org\"\n{keys}\n"))
}

fn meshed(rest: &str) -> Given {
    toml(&format!("[identity]\ntrust_domain = \"example.org\"\n{FILES}\n{rest}\n"))
}

#[test]
fn files_of_another_agent_are_named_one_by_one() {
    let config = identity(FILES).config().identity.unwrap();
    assert_eq!(config.trust_domain.as_str(), "example.org");
    let (chain, key, bundle) = ("/c".into(), "/k".into(), "/b".into());
    assert_eq!(config.authority, Authority::Files { chain, key, bundle });
    let problems = identity("authority = { chain = \"/c\", key = \"\" }").problems();
    assert!(problems.contains("identity.authority.bundle: missing: the file that has the roots, PEM"), "{problems}");
    assert!(problems.contains("identity.authority.key: expected the path of a file"), "{problems}");
}

#[test]
fn an_authority_is_known_before_it_is_asked() {
    let config = identity(&format!("{URL}\nauthority_bundle = \"/ca.pem\"")).config().identity.unwrap();
    let Authority::Remote { address, trust, attest, service } = config.authority else { panic!() };
    assert_eq!((address.to_string().as_str(), service.as_str()), ("https://ca.internal:8443", "web"));
    assert_eq!((trust, attest), (AuthorityTrust::Bundle("/ca.pem".into()), Attest::Auto));
    let pin = "ab".repeat(32);
    let config = identity(&format!("authority = \"https://[::1]/\"\nauthority_pin = \"sha256:{pin}\""));
    let Authority::Remote { address, trust, .. } = config.config().identity.unwrap().authority else { panic!() };
    assert_eq!((address.to_string().as_str(), trust), ("https://[::1]:443", AuthorityTrust::Pin([0xab; 32])));
    for (keys, expected) in [
        (URL.to_owned(), "identity.authority_bundle: missing: nobody is trusted at first sight"),
        (
            format!("{URL}\nauthority_pin = \"sha256:12\""),
            "authority_pin: expected `sha256:` and 64 hexadecimal digits",
        ),
        (
            format!("{URL}\nauthority_bundle = \"/a\"\nauthority_pin = \"sha256:{pin}\""),
            "authority_pin: stands beside `authority_bundle`",
        ),
    ] {
        let problems = identity(&keys).problems();
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn the_url_of_an_authority_is_https_a_host_and_a_port() {
    for url in [
        "http://ca.internal",
        "ca.internal:8443",
        "https://",
        "https://ca.internal/v1",
        "https://user@ca.internal",
        "https://ca.internal:0",
        "https://ca.internal:99999",
        "https://ca.internal:+1",
        "https://[::1",
        "https://[::1]8443",
        "https://ca.internal?x=1",
        "Embedded",
    ] {
        let problems = identity(&format!("authority = \"{url}\"\nauthority_bundle = \"/a\"")).problems();
        assert!(problems.contains("identity.authority: expected `embedded`, or a URL"), "{url}: {problems}");
    }
}

#[test]
fn what_a_method_does_not_take_is_an_error() {
    for (keys, expected) in [
        ("attest = \"join-token\"", "identity.token_file: missing"),
        ("token_file = \"/t\"", "identity.token_file: has no meaning here"),
        ("attest = \"x509\"", "identity.cert: missing"),
        ("attest = \"x509\"\ncert = \"/c\"", "identity.key: missing"),
        ("attest = \"ec2\"\ncert = \"/c\"", "identity.cert: has no meaning here"),
    ] {
        let problems = identity(&format!("{URL}\nauthority_bundle = \"/a\"\n{keys}")).problems();
        assert!(problems.contains(expected), "{problems}");
    }
    let problems = identity(&format!("{FILES}\nattest = \"ec2\"\nauthority_bundle = \"/a\"")).problems();
    assert!(problems.contains("identity.attest: has no meaning with files that another agent writes"), "{problems}");
    assert!(problems.contains("identity.authority_bundle: has no meaning"), "{problems}");
    let attest = |keys: &str| match identity(&format!("{URL}\nauthority_bundle = \"/a\"\n{keys}")).config().identity {
        Some(identity) => match identity.authority {
            Authority::Remote { attest, .. } => attest,
            other => panic!("{other:?}"),
        },
        None => panic!("no identity"),
    };
    let token_file = PathBuf::from("/var/run/secrets/tokens/meshless");
    assert_eq!(attest("attest = \"kubernetes\""), Attest::Kubernetes { token_file });
    let token_file = PathBuf::from("/t");
    assert_eq!(attest("attest = \"join-token\"\ntoken_file = \"/t\""), Attest::JoinToken { token_file });
}

#[test]
fn what_is_missing_of_an_identity_is_said() {
    let problems = around("[identity]\n").problems();
    assert!(problems.contains("identity.trust_domain: missing"), "{problems}");
    assert!(problems.contains("identity.authority: missing"), "{problems}");
    for domain in ["Example.org", "example.org:1", "spiffe://example.org", ""] {
        let problems = around(&format!("[identity]\ntrust_domain = \"{domain}\"\n{FILES}\n")).problems();
        assert!(
            problems.contains("identity.trust_domain: expected a trust domain such as `example.org`"),
            "{problems}"
        );
    }
    let asked = format!("[identity]\ntrust_domain = \"a\"\n{URL}\nauthority_bundle = \"/a\"\n");
    let problems = around(&asked).problems();
    assert!(problems.contains("node.service: missing: an identity is asked for"), "{problems}");
    let problems = identity("authority = \"embedded\"").problems();
    assert!(
        problems.contains("identity.authority: `embedded` is the authority of this process: add `[ca]`"),
        "{problems}"
    );
}

#[test]
fn mesh_tls_expects_the_identity_of_the_service_or_those_that_are_given() {
    let rest = "[services.api]\nfrom = \"static/127.0.0.1:1\"\ntls = \"mesh\"\n[services.old]\nfrom = \"static/127.0.0.1:2\"\n\
                tls = \"mesh\"\nidentity = [\"spiffe://example.org/svc/legacy\"]\n[[listeners]]\nlisten = \"127.0.0.1:1\"\n\
                tls = { mode = \"strict\" }\n[[listeners]]\nlisten = \"127.0.0.1:2\"\ntls = { mode = \"permissive\" }\n\
                [[routes]]\nto = \"api & old\"";
    let config = meshed(rest).config();
    let expected = |service: &str| match &config.services[service].policies.tls {
        UpstreamTls::Mesh { expected } => expected.iter().map(ToString::to_string).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(expected("api"), ["spiffe://example.org/svc/api"]);
    assert_eq!(expected("old"), ["spiffe://example.org/svc/legacy"]);
    assert_eq!((&config.listeners[0].tls, &config.listeners[1].tls), (&ListenerTls::Strict, &ListenerTls::Permissive));
}

#[test]
fn what_needs_an_identity_names_both_keys() {
    let rest = "[services.api]\nfrom = \"static/127.0.0.1:1\"\ntls = \"mesh\"\n[[listeners]]\nlisten = \"127.0.0.1:1\"\n\
                tls = { mode = \"strict\", cert = \"/c\" }\nto = \"api\"";
    let problems = toml(rest).problems();
    for expected in [
        "services.api.tls: `tls = \"mesh\"` needs an identity: add `[identity]`",
        "listeners[0].tls.mode: `mode = \"strict\"` needs an identity: add `[identity]`",
        "listeners[0].tls.cert: has no meaning with `mode = \"strict\"`",
    ] {
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn identities_that_cannot_be_are_refused_where_they_stand() {
    let service = |keys: &str| {
        meshed(&format!(
            "[services.api]\nfrom = \"static/127.0.0.1:1\"\n{keys}\n[[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"api\""
        ))
        .problems()
    };
    for (keys, expected) in [
        (
            "identity = [\"spiffe://example.org/svc/a\"]",
            "services.api.identity: has no meaning without `tls = \"mesh\"`",
        ),
        ("tls = \"mesh\"\nidentity = []", "services.api.identity: expected at least one"),
        ("tls = \"mesh\"\nidentity = [\"web\"]", "services.api.identity[0]: expected an ID such as"),
        (
            "tls = \"mesh\"\nidentity = [\"spiffe://other.org/svc/a\"]",
            "services.api.identity[0]: `spiffe://other.org/svc/a` is of another trust domain",
        ),
    ] {
        let problems = service(keys);
        assert!(problems.contains(expected), "{problems}");
    }
}

#[test]
fn mesh_tls_by_default_is_for_services_and_the_application_beside_us_is_spoken_to_in_clear() {
    let given = |to: &str, more: &str| {
        meshed(&format!(
            "[defaults]\ntls = \"mesh\"\n[services.api]\nfrom = \"static/10.0.0.1:1\"\n[[listeners]]\n\
             listen = \"127.0.0.1:1\"\nto = \"{to}\"\n{more}"
        ))
    };
    for right in ["api", "static/127.0.0.1:8080", "static/unix:/run/app.sock"] {
        given(right, "").config();
    }
    let far = given("static/10.0.0.1:80", "").problems();
    assert!(far.contains("listeners[0].to: `static/10.0.0.1:80` stands inline"), "{far}");
    let route = "[[listeners]]\nlisten = \"127.0.0.1:2\"\n[[routes]]\nto = \"static/127.0.0.1:8080\"";
    let problems = given("api", route).problems();
    assert!(problems.contains("routes[0].to: `static/127.0.0.1:8080` stands inline"), "{problems}");
}
