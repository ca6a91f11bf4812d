//! OpenSSL as the other side, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rcgen::KeyPair;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ServerConnection, Stream};

use super::made::{Signer, World};
use super::openssl::Files;
use super::wire::{self, id};
use crate::{Identity, MeshServer, pem};

/// How long `openssl` may take; it takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Writes an identity as files: `bundle.pem`, `chain.pem`, `key.pem`.
fn files(identity: &Identity) -> Files {
    let files = Files::new();
    files.write("bundle.pem", identity.bundle().to_pem());
    files.write("leaf.pem", pem::encode_chain(&identity.chain()[..1]));
    files.write("between.pem", pem::encode_chain(&identity.chain()[1..]));
    files.write("key.pem", pem::encode("PRIVATE KEY", identity.key()));
    files
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(files: &Files, arguments: &str) -> Running {
    let shown = "-cert leaf.pem -key key.pem -cert_chain between.pem -CAfile bundle.pem";
    let child = Command::new("openssl")
        .args(arguments.split_whitespace().chain(shown.split_whitespace()))
        .current_dir(files.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl is installed");
    Running(child)
}

fn bounded(stream: &TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
}

#[test]
fn openssl_verifies_a_chain_for_clients_and_for_servers_by_the_strict_rules() {
    let world = World::new();
    let web = world.identity("web");
    let files = files(&web);
    for purpose in ["sslserver", "sslclient"] {
        let verify =
            format!("verify -x509_strict -purpose {purpose} -CAfile bundle.pem -untrusted between.pem leaf.pem");
        assert_eq!(files.run(&verify).trim(), "leaf.pem: OK");
    }
    let text = files.run("x509 -in leaf.pem -noout -serial -ext subjectAltName");
    let serial = format!("serial={}", web.leaf().serial.to_uppercase());
    assert!(text.contains(&serial) && text.contains("URI:spiffe://example.org/svc/web"), "{text}");
}

#[test]
fn s_client_speaks_to_our_server_and_both_know_each_other() {
    let world = World::new();
    let server = wire::server(world.identity("web"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let files = files(&world.identity("api"));
    let mut client = start(&files, &format!("s_client -connect {address} -verify_return_error -alpn h2 -quiet"));
    client.0.stdin.take().unwrap().write_all(b"hello\n").unwrap();

    let (mut socket, _) = listener.accept().unwrap();
    bounded(&socket);
    let now = SystemTime::now();
    let mut connection = ServerConnection::new(server.config(now).unwrap()).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    let mut said = [0; 6];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello\n");
    stream.write_all(b"welcome\n").unwrap();
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    assert_eq!(server.peer(&connection, now).unwrap().id, id("api"));
    assert_eq!(connection.alpn_protocol(), Some(b"h2".as_slice()));
    let mut heard = String::new();
    BufReader::new(client.0.stdout.take().unwrap()).read_line(&mut heard).unwrap();
    assert_eq!(heard, "welcome\n");
}

#[test]
fn our_client_speaks_to_s_server_and_both_know_each_other() {
    let world = World::new();
    let client = wire::client(world.identity("api"), "web");
    let (mut socket, server) = s_server(&files(&world.identity("web")), "-Verify 4 -verify_return_error");
    let now = SystemTime::now();
    let name = ServerName::try_from("web.mesh").unwrap();
    let mut connection = ClientConnection::new(client.config(now).unwrap(), name).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.write_all(b"olleh\n").unwrap();
    // `-rev` sends each line back, reversed: it was read, so our certificate was taken.
    let mut said = [0; 6];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello\n");
    assert_eq!(client.peer(&connection, now).unwrap().id, id("web"));
    drop(server);
}

#[test]
fn s_server_refuses_our_client_of_another_root() {
    let (world, other) = (World::new(), World::new());
    // It trusts the server's root, and the server does not trust its own.
    let client = wire::client(other.identity_that_trusts("api", &[&world.root]), "web");
    let (mut socket, _server) = s_server(&files(&world.identity("web")), "-Verify 4 -verify_return_error");
    let name = ServerName::try_from("web.mesh").unwrap();
    let mut connection = ClientConnection::new(client.config(SystemTime::now()).unwrap(), name).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    let error = stream.write_all(b"olleh\n").and_then(|()| stream.read_exact(&mut [0; 6])).unwrap_err();
    assert!(error.to_string().contains("UnknownCA"), "{error}");
    // It was the peer who refused: we have no reason of our own.
    assert_eq!(crate::refusal(&error), None);
}

#[test]
fn a_leaf_that_openssl_made_is_taken_by_our_server() {
    let world = World::new();
    let server = wire::server(world.identity("web"));
    let made = Files::new();
    let rsa = made.leaf(
        &world.root,
        "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        &super::openssl::LEAF.replace("digitalSignature", "digitalSignature, keyEncipherment"),
        "-days 1 -sha256",
    );
    made.write("bundle.pem", pem::encode_chain(std::slice::from_ref(&world.root.der)));
    made.write("between.pem", pem::encode_chain(std::slice::from_ref(&world.root.der)));
    std::fs::rename(made.path("leaf.key"), made.path("key.pem")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = start(&made, &format!("s_client -connect {address} -quiet"));
    client.0.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    bounded(&socket);
    let now = SystemTime::now();
    let mut connection = ServerConnection::new(server.config(now).unwrap()).unwrap();
    Stream::new(&mut connection, &mut socket).read_exact(&mut [0; 6]).unwrap();
    let peer = server.peer(&connection, now).unwrap();
    assert_eq!(peer.fingerprint, ring::digest::digest(&ring::digest::SHA256, &rsa).as_ref());
}

/// Starts `openssl s_server` on a port of the kernel's, and connects to it.
fn s_server(files: &Files, more: &str) -> (TcpStream, Running) {
    let mut server = start(files, &format!("s_server -accept 127.0.0.1:0 -rev {more}"));
    // It says `ACCEPT 127.0.0.1:PORT` once it listens.
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let begun = Instant::now();
    let address = loop {
        assert!(begun.elapsed() < DEADLINE, "s_server does not listen");
        let line = lines.next().expect("s_server listens").unwrap();
        if let Some(address) = line.strip_prefix("ACCEPT ") {
            break address.to_owned();
        }
    };
    // Whatever else it says is read too, or it would wait for somebody who reads.
    std::thread::spawn(move || lines.for_each(drop));
    let socket = TcpStream::connect(address).unwrap();
    bounded(&socket);
    (socket, server)
}

#[test]
fn the_root_of_another_world_is_not_verified_by_openssl_either() {
    let (world, other) = (World::new(), World::new());
    let files = files(&world.identity("web"));
    let Signer { der, .. } = &other.root;
    files.write("bundle.pem", pem::encode_chain(std::slice::from_ref(der)));
    let leaf = world.intermediate.leaf("web", &KeyPair::generate().unwrap(), |_| {});
    files.write("leaf.pem", pem::encode_chain(&[leaf]));
    let output = Command::new("openssl")
        .args(["verify", "-CAfile", "bundle.pem", "-untrusted", "between.pem", "leaf.pem"])
        .current_dir(files.path(""))
        .output()
        .unwrap();
    assert!(!output.status.success());
}

/// Serves one `s_client`, which saves its session and brings along the one that it saved before.
fn serve_a_session(listener: &TcpListener, server: &MeshServer, files: &Files) -> (HandshakeKind, ServerConnection) {
    let address = listener.local_addr().unwrap();
    let brought = if files.path("session").exists() { "-sess_in session" } else { "" };
    let mut client = start(files, &format!("s_client -connect {address} -sess_out session {brought} -quiet"));
    client.0.stdin.take().unwrap().write_all(b"hello\n").unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    bounded(&socket);
    let mut connection = ServerConnection::new(server.config(SystemTime::now()).unwrap()).unwrap();
    let mut stream = Stream::new(&mut connection, &mut socket);
    stream.read_exact(&mut [0; 6]).unwrap();
    stream.write_all(b"welcome\n").unwrap();
    // What it hears comes after the ticket, so that was saved.
    let mut heard = String::new();
    BufReader::new(client.0.stdout.take().unwrap()).read_line(&mut heard).unwrap();
    assert_eq!(heard, "welcome\n");
    (connection.handshake_kind().unwrap(), connection)
}

#[test]
fn a_session_of_openssl_ends_with_our_identity_and_after_its_own_is_refused() {
    let world = World::new();
    let server = wire::server(world.identity("web"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let files = files(&world.identity("api"));
    let next = || serve_a_session(&listener, &server, &files);
    assert_eq!((next().0, next().0), (HandshakeKind::Full, HandshakeKind::Resumed));
    server.mesh().publish(world.identity("web"));
    assert_eq!(next().0, HandshakeKind::Full);

    let (kind, resumed) = next();
    assert_eq!(kind, HandshakeKind::Resumed);
    let now = SystemTime::now();
    assert_eq!(server.peer(&resumed, now).unwrap().id, id("api"));
    // It holds on to its session though its leaf has expired: refused once, then it must show a leaf again.
    assert_eq!(server.peer(&resumed, now + 2 * super::made::HOUR).unwrap_err().label(), "expired");
    assert_eq!(next().0, HandshakeKind::Full);
}

#[test]
fn openssl_with_tls_1_2_is_refused_on_both_sides() {
    let world = World::new();
    let server = wire::server(world.identity("web"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = files(&world.identity("api"));
    let _client = start(&api, &format!("s_client -connect {} -tls1_2", listener.local_addr().unwrap()));
    let (mut socket, _) = listener.accept().unwrap();
    bounded(&socket);
    let mut connection = ServerConnection::new(server.config(SystemTime::now()).unwrap()).unwrap();
    let error = connection.complete_io(&mut socket).unwrap_err();
    assert!(error.to_string().contains("peer is incompatible"), "{error}");

    let client = wire::client(world.identity("api"), "web");
    let (mut socket, _server) = s_server(&files(&world.identity("web")), "-tls1_2");
    let name = ServerName::try_from("web.mesh").unwrap();
    let mut connection = ClientConnection::new(client.config(SystemTime::now()).unwrap(), name).unwrap();
    let error = connection.complete_io(&mut socket).unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
}
