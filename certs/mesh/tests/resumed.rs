//! Resumed handshakes: a session is never taken up again beyond the identities that it was made with.

use std::time::{Duration, SystemTime};

use rcgen::KeyPair;
use rustls::HandshakeKind::{Full, Resumed};
use rustls::{ClientConnection, HandshakeKind, ServerConnection};

use super::made::{HOUR, World, valid};
use super::wire::{self, handshake, id};
use crate::{MeshClient, MeshServer};

fn connect(client: &MeshClient, server: &MeshServer) -> (HandshakeKind, ClientConnection, ServerConnection) {
    let now = SystemTime::now();
    let (by_client, by_server) = handshake(client.config(now).unwrap(), server.config(now).unwrap()).unwrap();
    assert_eq!(by_client.handshake_kind(), by_server.handshake_kind());
    (by_client.handshake_kind().unwrap(), by_client, by_server)
}

#[test]
fn a_session_is_resumed_and_its_peers_are_known() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("web"));
    let client = wire::client(world.identity("api"), "web");
    assert_eq!(connect(&client, &server).0, Full);
    let (kind, by_client, by_server) = connect(&client, &server);
    assert_eq!(kind, Resumed);
    assert_eq!(client.peer(&by_client, now).unwrap().id, id("web"));
    assert_eq!(server.peer(&by_server, now).unwrap().id, id("api"));
}

#[test]
fn a_ticket_from_before_a_swap_is_not_resumed() {
    let world = World::new();
    let server = wire::server(world.identity("web"));
    let client = wire::client(world.identity("api"), "web");
    assert_eq!((connect(&client, &server).0, connect(&client, &server).0), (Full, Resumed));
    server.mesh().publish(world.identity("web"));
    assert_eq!((connect(&client, &server).0, connect(&client, &server).0), (Full, Resumed));
    client.mesh().publish(world.identity("api"));
    assert_eq!((connect(&client, &server).0, connect(&client, &server).0), (Full, Resumed));
    // Another bundle is another generation too.
    let identity = server.mesh().identity().unwrap();
    let same = identity.with_bundle(identity.bundle().clone(), SystemTime::now()).unwrap();
    server.mesh().publish(same.into());
    assert_eq!(connect(&client, &server).0, Full);
}

#[test]
fn a_client_that_has_expired_since_its_ticket_is_refused_and_its_tickets_die() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("web"));
    let client = wire::client(world.identity("api"), "web");
    connect(&client, &server);
    let (kind, _, by_server) = connect(&client, &server);
    assert_eq!(kind, Resumed);
    assert!(server.peer(&by_server, now).is_ok());

    let refused = server.peer(&by_server, now + 2 * HOUR).unwrap_err();
    assert_eq!(refused.label(), "expired");
    // A client that was renewed in between, and only its session was old, gets in by a full handshake.
    assert_eq!(connect(&client, &server).0, Full);
    assert_eq!(connect(&client, &server).0, Resumed);
}

#[test]
fn a_server_that_has_expired_since_is_not_resumed() {
    let (world, now) = (World::new(), SystemTime::now());
    let key = KeyPair::generate().unwrap();
    let lasting = world.intermediate.leaf("api", &key, |params| valid(params, -1, 9));
    let server = wire::server(world.identity("web"));
    let client = wire::client(world.put_together(lasting, &key, &[]), "web");
    connect(&client, &server);
    let (kind, by_client, _) = connect(&client, &server);
    assert_eq!(kind, Resumed);
    assert_eq!(client.peer(&by_client, now + 2 * HOUR).unwrap_err().label(), "expired");

    // It is not even tried: what was remembered is forgotten at that time.
    let before = client.config(now).unwrap();
    let end = server.mesh().identity().unwrap().leaf().not_after;
    handshake(before.clone(), server.config(now).unwrap()).unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, &client.config(end).unwrap()));
    let after = client.config(end + Duration::from_secs(1)).unwrap();
    let (by_client, _) = handshake(after, server.config(now).unwrap()).unwrap();
    assert_eq!(by_client.handshake_kind(), Some(Full));
}

#[test]
fn a_refused_session_is_forgotten_by_a_client() {
    let (world, now) = (World::new(), SystemTime::now());
    let server = wire::server(world.identity("web"));
    let key = KeyPair::generate().unwrap();
    let lasting = world.intermediate.leaf("api", &key, |params| valid(params, -1, 9));
    let client = wire::client(world.put_together(lasting, &key, &[]), "web");
    connect(&client, &server);
    let (kind, by_client, _) = connect(&client, &server);
    assert_eq!(kind, Resumed);
    assert!(client.peer(&by_client, now + 2 * HOUR).is_err());
    assert_eq!(connect(&client, &server).0, Full);
}

#[test]
fn ticket_keys_live_for_hours_and_there_is_no_early_data() {
    let world = World::new();
    let config = wire::server(world.identity("web")).config(SystemTime::now()).unwrap();
    // rustls makes ticket keys anew after six hours and takes the last ones for six more.
    assert!(config.ticketer.enabled() && u64::from(config.ticketer.lifetime()) <= 12 * HOUR.as_secs());
    assert_eq!((config.max_early_data_size, config.send_half_rtt_data), (0, false));
    let client = wire::client(world.identity("api"), "web").config(SystemTime::now()).unwrap();
    assert!(!client.enable_early_data);
}
