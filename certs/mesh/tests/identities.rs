//! Who is let in: expected identities, swapped identities, protocols.

use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use rustls::version::TLS12;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};

use super::made::{HOUR, World};
use super::wire::{self, ALPN, Broken, handshake, id};
use crate::{Mesh, MeshClient, MeshServer, NoIdentity, Refused, provider, refusal};

#[test]
fn both_sides_learn_who_the_other_is() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("web"));
    let client = wire::client(world.identity("api"), "web");
    let (by_client, by_server) = handshake(client.config(now).unwrap(), server.config(now).unwrap()).unwrap();
    assert_eq!(by_client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let (web, api) = (client.peer(&by_client, now).unwrap(), server.peer(&by_server, now).unwrap());
    assert_eq!((&web.id, &api.id), (&id("web"), &id("api")));
    let shown = server.mesh().identity().unwrap();
    assert_eq!(web.serial, shown.leaf().serial);
    assert_eq!(web.not_after, shown.leaf().not_after);
    let digest = ring::digest::digest(&ring::digest::SHA256, &shown.chain()[0]);
    assert_eq!(web.fingerprint, digest.as_ref());
    // A connection that was made for another purpose is not taken for one of this client's.
    let other = MeshClient::new(client.mesh().clone(), vec![id("api")], ALPN);
    assert_eq!(other.peer(&by_client, now).unwrap_err().label(), "identity");
    assert!(web.hash().len() == 64 && web.hash().starts_with(&format!("{:02x}", web.fingerprint[0])));
}

#[test]
fn the_end_of_a_peer_is_that_of_the_first_certificate_of_its_path() {
    let (world, now) = (World::new(), SystemTime::now());
    let brief = world.root.below(|params| super::made::valid(params, -1, 1));
    let leaf = brief.leaf("web", &KeyPair::generate().unwrap(), |params| super::made::valid(params, -1, 2));
    let chain = [leaf, brief.der.clone()];
    let verifier = world.identity("api").verifier().clone();
    let peer = verifier.peer(&chain, now).unwrap();
    assert!(peer.not_after <= now + HOUR);
    // That second is still within, and the next is not, though the signatures are known by now.
    let after = |seconds| verifier.peer(&chain, peer.not_after + Duration::from_secs(seconds));
    assert_eq!(after(0).unwrap(), peer);
    let refused = after(1).unwrap_err();
    assert_eq!(
        (refused.label(), refused.to_string().contains("expired 1s ago")),
        ("issuer_expired", true),
        "{refused}"
    );
    assert!(verifier.peer(&chain, now - 2 * HOUR).is_err());
    // Two certificates as one are not the chain of two that is known.
    let joined = [chain[0].as_ref(), chain[1].as_ref()].concat();
    assert_eq!(verifier.peer(&[joined.into()], now).unwrap_err(), Refused::Malformed);
}

#[test]
fn a_server_of_another_identity_is_refused_by_name() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("evil"));
    for expected in [vec![id("web"), id("api")], Vec::new()] {
        let client = MeshClient::new(wire::mesh(world.identity("api")), expected.clone(), ALPN);
        let Err(Broken::Client(error)) = handshake(client.config(now).unwrap(), server.config(now).unwrap()) else {
            panic!("it was let in")
        };
        let refused = refusal(&error).unwrap();
        assert_eq!(refused.label(), "identity");
        let names = if expected.is_empty() {
            "nobody".to_owned()
        } else {
            "spiffe://example.org/svc/web or spiffe://example.org/svc/api".to_owned()
        };
        assert_eq!(refused.to_string(), format!("it is spiffe://example.org/svc/evil, expected {names}"));
    }
}

#[test]
fn a_change_of_identity_shows_at_the_next_handshake() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("web"));
    let client = MeshClient::new(wire::mesh(world.identity("api")), vec![id("web"), id("new")], ALPN);
    let who = || {
        let (by_client, by_server) = handshake(client.config(now).unwrap(), server.config(now).unwrap()).unwrap();
        (client.peer(&by_client, now).unwrap().id, server.peer(&by_server, now).unwrap().id)
    };
    assert_eq!(who(), (id("web"), id("api")));
    assert_eq!(server.mesh().generation(), 1);
    server.mesh().publish(world.identity("new"));
    assert_eq!((server.mesh().generation(), who()), (2, (id("new"), id("api"))));
    client.mesh().publish(world.identity("client"));
    assert_eq!(who(), (id("new"), id("client")));
}

#[test]
fn a_root_that_is_taken_out_of_the_bundle_refuses_peers_that_were_let_in() {
    let (old, new, now) = (World::new(), World::new(), SystemTime::now());
    let server = wire::server(new.identity_that_trusts("web", &[&old.root]));
    let client = wire::client(old.identity_that_trusts("api", &[&new.root]), "web");
    let (_, by_server) = handshake(client.config(now).unwrap(), server.config(now).unwrap()).unwrap();
    assert_eq!(server.peer(&by_server, now).unwrap().id, id("api"));

    let alone = server.mesh().identity().unwrap().with_bundle(new.bundle(&[]), now).unwrap();
    server.mesh().publish(alone.into());
    assert_eq!(server.peer(&by_server, now).unwrap_err(), Refused::UnknownIssuer);
    assert_eq!(server.mesh().peer(by_server.peer_certificates().unwrap(), now), Err(Refused::UnknownIssuer));
    let Err(Broken::Server(error)) = handshake(client.config(now).unwrap(), server.config(now).unwrap()) else {
        panic!("it was let in")
    };
    assert_eq!(refusal(&error), Some(Refused::UnknownIssuer));
}

#[test]
fn without_an_identity_or_with_one_that_has_expired_there_is_no_handshake() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = MeshServer::new(std::sync::Arc::new(Mesh::default()), ALPN);
    assert_eq!(server.config(now).unwrap_err(), NoIdentity::Missing);
    assert_eq!(server.mesh().peer(&[], now).unwrap_err(), Refused::NoIdentity);
    server.mesh().publish(world.identity("web"));
    assert!(server.config(now).is_ok());
    assert_eq!(server.config(now + 2 * HOUR).unwrap_err(), NoIdentity::Expired);
    let client = wire::client(world.identity("api"), "web");
    assert_eq!(client.config(now + 2 * HOUR).unwrap_err(), NoIdentity::Expired);
}

#[test]
fn a_key_that_is_anothers_makes_no_identity() {
    let (world, now) = (World::new(), SystemTime::now());
    let (ours, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let chain = vec![world.root.leaf("web", &ours, |_| {})];
    let identity = |key: &[u8]| crate::Identity::new(chain.clone(), key.to_vec().into(), world.bundle(&[]), now);
    assert!(identity(&ours.serialize_der()).is_ok());
    for wrong in [theirs.serialize_der(), Vec::new(), vec![0x30; 100]] {
        let error = identity(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("the key does not fit the chain: "), "{error}");
    }
    let shown = format!("{:?}", identity(&ours.serialize_der()).unwrap());
    assert!(shown.contains("svc/web") && !shown.contains("key"), "{shown}");
}

#[test]
fn tls_1_2_is_refused() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("web"));
    let mut roots = RootCertStore::empty();
    roots.add(world.root.der.clone()).unwrap();
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let Err(Broken::Server(error)) = handshake(old.into(), server.config(now).unwrap()) else {
        panic!("TLS 1.2 was taken")
    };
    assert!(matches!(error, rustls::Error::PeerIncompatible(_)), "{error:?}");
    assert_eq!(refusal(&error), None);
}

#[test]
fn the_protocol_is_agreed_on_or_there_is_no_connection() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("web"));
    let with = |alpn: &[&[u8]]| {
        let client = MeshClient::new(wire::mesh(world.identity("api")), vec![id("web")], alpn);
        handshake(client.config(now).unwrap(), server.config(now).unwrap())
    };
    assert_eq!(with(&[b"http/1.1"]).unwrap().0.alpn_protocol(), Some(b"http/1.1".as_slice()));
    assert_eq!(with(&[b"http/1.1", b"h2"]).unwrap().1.alpn_protocol(), Some(b"h2".as_slice()));
    assert_eq!(with(&[]).unwrap().0.alpn_protocol(), None);
    let Err(Broken::Server(error)) = with(&[b"spdy/3"]) else { panic!("spdy was taken") };
    assert_eq!(error, rustls::Error::NoApplicationProtocol);
}

#[test]
fn no_number_of_peers_makes_the_memory_of_known_chains_grow_on() {
    let (world, now) = (World::new(), SystemTime::now());
    let verifier = world.identity("api").verifier().clone();
    let key = KeyPair::generate().unwrap();
    let known = |count: usize| format!("{verifier:?}").contains(&format!("known: {count} "));
    assert!(known(1), "its own: {verifier:?}");
    for number in 1..1024 {
        let leaf = world.root.leaf(&format!("web-{number}"), &key, |_| {});
        verifier.verify(&[leaf], now).unwrap();
    }
    assert!(known(1024), "{verifier:?}");
    verifier.verify(&[world.root.leaf("web", &key, |_| {})], now).unwrap();
    assert!(known(1), "{verifier:?}");
}
