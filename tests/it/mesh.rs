//! TLS of the mesh: whole gateways that show who they are, and let in whom they know.

mod envoy;
mod openbao;
mod openssl;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tempfile::TempDir;

use crate::authority::connect;
use crate::gateway::{self, Running};
use crate::identities::{LONG, Place, Root, Svid, id, root};
use crate::plain::{Client, client, get, origin, serve};

/// The gateway beside an application, which lets in whom it knows.
fn inbound(place: &Place, mode: &str, to: SocketAddr, more: &str) -> Running {
    gateway::with(&format!(
        "{}[shutdown]\ndrain = \"1s\"\n[[listeners]]\nname = \"in\"\nlisten = \"127.0.0.1:0\"\ntls = {{ mode = \"{mode}\" }}\n\
         to = \"static/{to}\"\n{more}\n",
        place.table()
    ))
    .start()
}

/// The gateway beside a client, whose service `web` is spoken to over the mesh.
fn outbound(place: &Place, web: SocketAddr, more: &str) -> Running {
    gateway::with(&format!(
        "{}[shutdown]\ndrain = \"1s\"\n[[listeners]]\nname = \"out\"\nlisten = \"127.0.0.1:0\"\nto = \"web\"\n\
         [services.web]\nfrom = \"static/{web}\"\ntls = \"mesh\"\nretry = {{ on = [] }}\n{more}\n",
        place.table()
    ))
    .start()
}

/// Two identities of one root.
struct Two {
    directory: TempDir,
    root: Root,
    client: Place,
    web: Place,
}

fn two() -> Two {
    let directory = tempfile::tempdir().unwrap();
    let root = root("one");
    let (client, web) = (Place::new(directory.path(), "client"), Place::new(directory.path(), "web"));
    client.write(&root.issue("client", LONG), &[&root]);
    web.write(&root.issue("web", LONG), &[&root]);
    Two { directory, root, client, web }
}

/// A client of a test's own that shows a certificate and believes every server: what is tested is whom a server lets in.
fn shows(svid: Option<&Svid>, alpn: &[&str]) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(meshless_certs::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty());
    let mut config = match svid {
        None => builder.with_no_client_auth(),
        Some(svid) => builder.with_client_auth_cert(vec![svid.certificate()], svid.private_key()).unwrap(),
    };
    config.dangerous().set_certificate_verifier(Arc::new(Believes));
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

#[derive(Debug)]
struct Believes;

impl rustls::client::danger::ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &[rustls::pki_types::CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls::pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        meshless_certs::provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Asks once as such a client; the error is what it sees of being refused.
fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<u16> {
    Ok(connect(address, "web.svc.example.org", config)?.get("web", "/")?.status)
}

#[test]
fn two_gateways_speak_and_say_who_asked() {
    let Two { client: client_place, web, directory: _directory, .. } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let outbound = outbound(&client_place, inbound.address("in"), "");
    let mut client = client(outbound.address("out"));
    for _ in 0..3 {
        client
            .send(
                "GET /dump HTTP/1.1\r\nhost: web\r\nx-forwarded-client-cert: URI=spiffe://example.org/svc/root\r\n\r\n",
            )
            .unwrap();
        let reply = client.reply().unwrap();
        assert_eq!(reply.status, 200, "{reply:?}");
        let said: Vec<_> = reply.body.lines().filter(|line| line.starts_with("x-forwarded-client-cert:")).collect();
        assert_eq!(said.len(), 1, "{}", reply.body);
        assert!(said[0].contains(&format!("By={};Hash=", id("web"))), "{said:?}");
        assert!(said[0].ends_with(&format!(";URI={}", id("client"))), "{said:?}");
        let hash = said[0].split("Hash=").nth(1).unwrap().split(';').next().unwrap();
        assert!(hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{said:?}");
    }
    assert_eq!(
        outbound.count("meshless_upstream_connect_total", &["service=\"web\"", "result=\"ok\""]),
        1,
        "it is kept"
    );
    let identity: Value = serde_json::from_str(&inbound.admin("/identity").1).unwrap();
    assert_eq!((&identity["id"], &identity["last_error"]), (&id("web").into(), &Value::Null));
    assert_eq!(identity["roots"].as_array().unwrap().len(), 1);
    assert!(inbound.metric("identity_cert_expiration_timestamp_seconds", &[]) > 1.0);
    assert_eq!(inbound.count("identity_cert_refresh_count", &[]), 1);
}

#[test]
fn http2_goes_over_the_mesh() {
    let Two { client: client_place, web, directory: _directory, .. } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let outbound = outbound(&client_place, inbound.address("in"), "protocol = \"http2\"");
    let reply = get(outbound.address("out"), "web", "/dump");
    assert!(reply.status == 200 && reply.body.contains(&id("client")), "{reply:?}");
    assert!(reply.body.contains("2.0 meshless"), "{}", reply.body);
}

#[test]
fn an_endpoint_with_another_identity_gets_nothing() {
    let Two { client: client_place, web, root, directory: _directory } = two();
    web.write(&root.issue("other", LONG), &[&root]);
    let origin = origin("one");
    let inbound = inbound(&web, "permissive", origin.address, "");
    let outbound = outbound(&client_place, inbound.address("in"), "");
    let reply = get(outbound.address("out"), "web", "/");
    assert_eq!((reply.status, reply.header("meshless-error")), (503, Some("connect_failed")), "{reply:?}");
    assert!(reply.body.contains(&id("other")) && reply.body.contains(&id("web")), "{}", reply.body);
    outbound.wait_for_metric("meshless_upstream_connect_total", &["service=\"web\"", "result=\"tls_identity\""], 1.0);
    assert_eq!(outbound.count("meshless_upstream_connect_total", &["result=\"ok\""]), 0);
    assert_eq!((origin.requests(), inbound.count("meshless_plaintext_connections_total", &[])), (0, 0));
}

#[test]
fn an_endpoint_that_speaks_clear_text_gets_nothing() {
    let Two { client: client_place, directory: _directory, .. } = two();
    let origin = origin("one");
    let outbound = outbound(&client_place, origin.address, "");
    let reply = get(outbound.address("out"), "web", "/");
    assert_eq!((reply.status, reply.header("meshless-error")), (503, Some("connect_failed")), "{reply:?}");
    assert_eq!(origin.requests(), 0);
}

#[test]
fn an_identity_that_the_service_names_is_expected_instead() {
    let Two { client: client_place, web, root, directory: _directory } = two();
    web.write(&root.issue("legacy", LONG), &[&root]);
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let more = format!("identity = [\"{}\", \"{}\"]", id("web"), id("legacy"));
    let outbound = outbound(&client_place, inbound.address("in"), &more);
    assert_eq!(get(outbound.address("out"), "web", "/").status, 200);
}

#[test]
fn a_strict_listener_lets_in_whom_it_knows_and_counts_why_others_are_refused() {
    let Two { web, root: known, directory: _directory, .. } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let address = inbound.address("in");
    let now = SystemTime::now();
    let good = known.issue("client", LONG);
    assert_eq!(ask(address, &shows(Some(&good), &[])).unwrap(), 200);
    let stranger = root("stranger");
    let elsewhere = known.sign("spiffe://elsewhere.org/svc/client", now - LONG, now + LONG);
    let expired = known.sign(&id("client"), now - LONG * 2, now - LONG);
    let early = known.sign(&id("client"), now + LONG, now + LONG * 2);
    for (svid, reason) in [
        (None, "tls_no_certificate"),
        (Some(&stranger.issue("client", LONG)), "tls_unknown_issuer"),
        (Some(&elsewhere), "tls_trust_domain"),
        (Some(&expired), "tls_expired"),
        (Some(&early), "tls_not_yet_valid"),
    ] {
        ask(address, &shows(svid, &[])).unwrap_err();
        inbound.wait_for_metric("meshless_connection_refused_total", &[&format!("reason=\"{reason}\"")], 1.0);
    }
    let mut plain = client(address);
    plain.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n").unwrap();
    plain.rest().unwrap_or_default();
    inbound.wait_for_metric("meshless_connection_refused_total", &["reason=\"tls_plaintext\""], 1.0);
    assert_eq!(origin.requests(), 1);
}

#[test]
fn a_permissive_listener_takes_both_and_says_who_speaks_clear_text() {
    let Two { web, root, directory: _directory, .. } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "permissive", origin.address, "");
    let address = inbound.address("in");
    assert_eq!(inbound.count("meshless_plaintext_connections_total", &["listener=\"in\""]), 0);
    assert_eq!(ask(address, &shows(Some(&root.issue("client", LONG)), &["http/1.1"])).unwrap(), 200);
    let dump = get(address, "web", "/dump");
    assert!(dump.status == 200 && !dump.body.contains("x-forwarded-client-cert"), "{}", dump.body);
    assert_eq!(get(address, "web", "/").status, 200);
    ask(address, &shows(None, &[])).unwrap_err();
    inbound.wait_for_metric("meshless_plaintext_connections_total", &["listener=\"in\""], 2.0);
    let identity: Value = serde_json::from_str(&inbound.admin("/identity").1).unwrap();
    let plaintext = identity["plaintext"].as_array().unwrap();
    assert_eq!(plaintext.len(), 1, "{identity}");
    let source = (&plaintext[0]["listener"], &plaintext[0]["address"], &plaintext[0]["connections"]);
    assert_eq!(source, (&"in".into(), &"127.0.0.1".into(), &2.into()));
}

#[test]
fn without_an_identity_a_gateway_waits_and_then_refuses_and_heals_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (root, place) = (root("one"), Place::new(directory.path(), "web"));
    let origin = origin("one");
    let started = Instant::now();
    // Ready in the end, with a warning: what needs no identity shall not wait for it for ever.
    let inbound = inbound(&place, "strict", origin.address, "");
    assert!(started.elapsed() > Duration::from_secs(8), "{:?}", started.elapsed());
    assert!(inbound.admin("/ready").1.contains("identity: none yet"), "{}", inbound.admin("/ready").1);
    let config = shows(Some(&root.issue("client", LONG)), &[]);
    ask(inbound.address("in"), &config).unwrap_err();
    inbound.wait_for_metric("meshless_connection_refused_total", &["reason=\"no_identity\""], 1.0);
    assert!(inbound.count("meshless_identity_refresh_failures_total", &["reason=\"unreachable\""]) > 0);
    place.write(&root.issue("web", LONG), &[&root]);
    inbound.wait_until("there is an identity", |running| !running.admin("/ready").1.contains("identity"));
    assert_eq!(ask(inbound.address("in"), &config).unwrap(), 200);
}

#[test]
fn that_a_gateway_has_no_identity_is_no_endpoints_fault() {
    let Two { web, root, directory, .. } = two();
    let place = Place::new(directory.path(), "late");
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let outbound = outbound(&place, inbound.address("in"), "");
    for _ in 0..20 {
        let reply = get(outbound.address("out"), "web", "/");
        assert_eq!((reply.status, reply.header("meshless-error")), (503, Some("connect_failed")), "{}", reply.body);
        assert!(reply.body.contains("no identity"), "{}", reply.body);
    }
    place.write(&root.issue("late", LONG), &[&root]);
    outbound.wait_until("there is an identity", |running| !running.admin("/ready").1.contains("identity"));
    assert_eq!(get(outbound.address("out"), "web", "/").status, 200);
    assert_eq!(outbound.count("meshless_ejection_total", &[]), 0);
}

#[test]
fn a_wrong_new_state_of_the_files_keeps_the_old_one_and_says_so() {
    let Two { web, root: one, directory: _directory, .. } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    web.write(&root("other").issue("web", LONG), &[&one]);
    let last_error = |running: &Running| {
        let identity: Value = serde_json::from_str(&running.admin("/identity").1).unwrap();
        identity["last_error"].as_str().map(ToOwned::to_owned)
    };
    inbound.wait_until("it is said", |running| last_error(running).is_some_and(|why| why.contains("not signed by")));
    assert_eq!(ask(inbound.address("in"), &shows(Some(&one.issue("client", LONG)), &[])).unwrap(), 200);
    web.write(&one.issue("web", LONG), &[&one]);
    inbound.wait_until("it is over", |running| last_error(running).is_none());
}

#[test]
fn certificates_and_roots_are_replaced_under_load_without_a_failed_request() {
    let Two { client: client_place, web, root: old, directory: _directory } = two();
    let origin = origin("one");
    let short = Duration::from_secs(9);
    let renew = |root: &Root, roots: &[&Root]| {
        client_place.write(&root.issue("client", short), roots);
        web.write(&root.issue("web", short), roots);
    };
    renew(&old, &[&old]);
    let inbound = inbound(&web, "strict", origin.address, "");
    let outbound = outbound(&client_place, inbound.address("in"), "");
    let (address, stop) = (outbound.address("out"), Arc::new(AtomicBool::new(false)));
    let (asked, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, asked, failed) = (stop.clone(), asked.clone(), failed.clone());
            thread::spawn(move || {
                let mut kept = client(address);
                while !stop.load(Ordering::SeqCst) {
                    let reply = kept.get("web", "/").unwrap();
                    asked.fetch_add(1, Ordering::SeqCst);
                    if reply.status != 200 {
                        failed.fetch_add(1, Ordering::SeqCst);
                        eprintln!("{reply:?}");
                    }
                    thread::park_timeout(Duration::from_millis(10));
                }
            })
        })
        .collect();
    let new = root("two");
    // Each state is seen by both before the next one: an agent's order, in which no peer meets a root that it lacks.
    let states: [(&Root, &[&Root]); 6] = [
        (&old, &[&old]),
        (&old, &[&old, &new]),
        (&new, &[&old, &new]),
        (&new, &[&old, &new]),
        (&new, &[&new]),
        (&new, &[&new]),
    ];
    for (position, (issuer, roots)) in states.into_iter().enumerate() {
        renew(issuer, roots);
        for gateway in [&inbound, &outbound] {
            let taken = format!("state {position} is in force");
            gateway
                .wait_until(&taken, |running| running.count("identity_cert_refresh_count", &[]) > position as u64 + 1);
        }
    }
    // Longer than the first certificates were valid: nothing of them is in use any more.
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.join().unwrap();
    }
    let (asked, failed) = (asked.load(Ordering::SeqCst), failed.load(Ordering::SeqCst));
    assert!(asked > 200 && failed == 0, "{failed} of {asked} failed");
    assert!(
        outbound.count("meshless_upstream_connect_total", &["service=\"web\"", "result=\"ok\""]) > 1,
        "it connected anew"
    );
}

#[test]
fn peers_of_a_root_that_is_gone_lose_their_connections() {
    let Two { web, root: old, directory: _directory, .. } = two();
    let new = root("two");
    let origin = origin("one");
    web.write(&new.issue("web", LONG), &[&old, &new]);
    let inbound = inbound(&web, "strict", origin.address, "");
    let open = |root: &Root, alpn: &[&str]| {
        let config = shows(Some(&root.issue("client", LONG)), alpn);
        let mut client = connect(inbound.address("in"), "web.svc.example.org", &config).unwrap();
        assert_eq!(client.get("web", "/").unwrap().status, 200);
        client
    };
    let (mut of_old, mut of_new) = (open(&old, &[]), open(&new, &[]));
    web.write(&new.issue("web", LONG), &[&new]);
    inbound.wait_for_metric("meshless_peer_lost_total", &["peer=\"src\"", "reason=\"untrusted\""], 1.0);
    // One request may come yet, and is the last one; or the idle connection was closed before.
    if let Ok(reply) = of_old.get("web", "/") {
        assert!(reply.closes(), "{reply:?}");
    }
    assert_eq!(of_old.rest().unwrap_or_default(), b"");
    let reply = of_new.get("web", "/").unwrap();
    assert!(reply.status == 200 && !reply.closes(), "{reply:?}");
}

#[test]
fn a_connection_lives_no_longer_than_the_certificate_of_its_client() {
    let Two { web, root, directory: _directory, .. } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let config = shows(Some(&root.issue("client", Duration::from_secs(3))), &[]);
    let mut client = connect(inbound.address("in"), "web.svc.example.org", &config).unwrap();
    assert_eq!(client.get("web", "/").unwrap().status, 200);
    inbound.wait_for_metric("meshless_peer_lost_total", &["peer=\"src\"", "reason=\"expired\""], 1.0);
    if let Ok(reply) = client.get("web", "/") {
        assert!(reply.closes(), "{reply:?}");
    }
    assert_eq!(client.rest().unwrap_or_default(), b"");
    // Neither does a session: it would be taken up without a certificate being looked at.
    ask(inbound.address("in"), &config).unwrap_err();
}

#[test]
fn a_long_stream_of_a_peer_that_is_trusted_no_longer_is_cut_after_the_grace_period() {
    let Two { web, root, directory: _directory, .. } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let config = shows(Some(&root.issue("client", Duration::from_secs(3))), &[]);
    let mut client = connect(inbound.address("in"), "web.svc.example.org", &config).unwrap();
    client.send("GET /stream HTTP/1.1\r\nhost: web\r\n\r\n").unwrap();
    origin.wait_for_held(1);
    let started = Instant::now();
    // The head and the first piece, and then an end that is none.
    let rest = client.rest().unwrap_or_default();
    assert!(!String::from_utf8_lossy(&rest).contains("end"), "{rest:?}");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

/// Sends everything back at once.
fn echo() -> crate::plain::Served {
    serve(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            if stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    })
}

fn echoed(client: &mut Client<TcpStream>, text: &[u8]) -> std::io::Result<Vec<u8>> {
    client.stream.write_all(text)?;
    client.exactly(text.len())
}

#[test]
fn bytes_go_over_the_mesh_and_end_with_the_trust_in_their_peer() {
    let Two { client: client_place, web, root, directory: _directory } = two();
    let echo = echo();
    let tcp = "protocol = \"tcp\"";
    let inbound = inbound(&web, "strict", echo.address, tcp);
    client_place.write(&root.issue("client", Duration::from_secs(6)), &[&root]);
    let outbound = gateway::with(&format!(
        "{}[shutdown]\ndrain = \"1s\"\n[[listeners]]\nname = \"out\"\nlisten = \"127.0.0.1:0\"\n{tcp}\nto = \"web\"\n\
         [services.web]\nfrom = \"static/{}\"\ntls = \"mesh\"\n{tcp}\n",
        client_place.table(),
        inbound.address("in")
    ))
    .start();
    let mut client = client(outbound.address("out"));
    assert_eq!(echoed(&mut client, b"hello").unwrap(), b"hello");
    client_place.write(&root.issue("client", LONG), &[&root]);
    // The certificate that it was opened with ends, and with it the connection.
    inbound.wait_for_metric("tcp_open_connections", &["peer=\"src\"", "listener=\"in\""], 0.0);
    assert_eq!(client.rest().unwrap_or_default(), b"");
    let mut again = crate::plain::client(outbound.address("out"));
    assert_eq!(echoed(&mut again, b"again").unwrap(), b"again");
    again.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(again.rest().unwrap(), b"");
}

#[test]
fn bytes_of_a_client_that_a_change_of_rules_shuts_out_are_ended() {
    let Two { web, root, directory: _directory, .. } = two();
    let echo = echo();
    let rule = |service: &str| format!("protocol = \"tcp\"\nallow = [ {{ from = \"{}\" }} ]", id(service));
    let inbound = inbound(&web, "strict", echo.address, &rule("client"));
    let config = shows(Some(&root.issue("client", LONG)), &[]);
    let mut client = connect(inbound.address("in"), "web.svc.example.org", &config).unwrap();
    client.send("hello").unwrap();
    assert_eq!(client.exactly(5).unwrap(), b"hello");
    let text = std::fs::read_to_string(inbound.file()).unwrap().replace(&id("client"), &id("somebody-else"));
    std::fs::write(inbound.file(), text).unwrap();
    inbound.gateway().reload();
    inbound.wait_for_metric("meshless_peer_lost_total", &["peer=\"src\"", "reason=\"denied\""], 1.0);
    assert_eq!(client.rest().unwrap_or_default(), b"");
}

#[test]
fn health_checks_go_over_the_mesh_too() {
    let Two { client: client_place, web, root, directory: _directory } = two();
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let more = "health = { path = \"/\", interval = \"100ms\", healthy = 1, unhealthy = 1 }";
    let outbound = outbound(&client_place, inbound.address("in"), more);
    let checked = |result: &'static str| {
        outbound.wait_until(result, |running| {
            running.count("meshless_health_check_total", &[&format!("result=\"{result}\"")]) > 0
        });
    };
    checked("good");
    web.write(&root.issue("other", LONG), &[&root]);
    checked("bad");
    outbound
        .wait_until("it says why", |running| running.admin("/endpoints").1.contains(&format!("it is {}", id("other"))));
}

#[test]
fn where_nothing_says_how_to_attest_the_start_says_so() {
    let started = gateway::with(
        "[node]\nservice = \"web\"\n[identity]\ntrust_domain = \"example.org\"\nauthority = \"https://ca.internal:8443\"\n\
         authority_bundle = \"/ca.pem\"\n[[listeners]]\nlisten = \"127.0.0.1:0\"\nto = \"static/127.0.0.1:1\"\n",
    )
    .try_start();
    let error = started.unwrap_err().to_string();
    assert!(error.contains("identity.attest: `auto` finds neither Kubernetes"), "{error}");
}
