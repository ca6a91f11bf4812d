//! TLS on both sides of a whole gateway: termination, certificates that change, TLS to endpoints.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::authority::{self, Authority, Files, connect, shown};
use crate::gateway::{self, Running};
use crate::plain::{self, client, get, origin, wait_until};

fn https(files: &[&Files], extra: &str, origin: SocketAddr) -> String {
    let certs: Vec<String> = files
        .iter()
        .map(|files| format!("{{ cert = \"{}\", key = \"{}\" }}", files.cert.display(), files.key.display()))
        .collect();
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         tls = {{ mode = \"server\", certs = [{}]{extra} }}\nto = \"static/{origin}\"\n",
        certs.join(", ")
    )
}

fn negotiated(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> String {
    let client = connect(address, name, config).unwrap();
    client.stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
}

#[test]
fn a_certificate_is_chosen_by_the_name_that_a_client_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let (a, wild) = (authority.issue(&["a.example", "127.0.0.1"]), authority.issue(&["*.b.example"]));
    let (files_a, files_wild) = (a.write(directory.path(), "a"), wild.write(directory.path(), "wild"));
    let origin = origin("one");
    let gateway = gateway::with(&https(&[&files_a, &files_wild], "", origin.address)).start();
    let address = gateway.address("edge");
    let config = authority.client(&[], None);
    for (name, expected) in [("a.example", &a), ("x.b.example", &wild), ("127.0.0.1", &a)] {
        let mut client = connect(address, name, &config).unwrap();
        assert_eq!(shown(&client), expected.der(), "{name}");
        let reply = client.get(name, "/dump").unwrap();
        assert!(reply.status == 200 && reply.body.contains("x-forwarded-proto: https"), "{reply:?}");
    }
    let stranger = Authority::new("stranger").client(&[], None);
    assert!(connect(address, "a.example", &stranger).is_err());
}

#[test]
fn alpn_chooses_between_the_two_versions_of_http_and_refuses_others() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let files = authority.issue(&["a.example"]).write(directory.path(), "a");
    let origin = origin("one");
    let gateway = gateway::with(&https(&[&files], "", origin.address)).start();
    let address = gateway.address("edge");
    for (offered, expected) in [
        (&["h2", "http/1.1"][..], "h2"),
        (&["http/1.1"][..], "http/1.1"),
        (&["http/1.1", "h2"][..], "h2"),
        (&[][..], ""),
    ] {
        assert_eq!(negotiated(address, "a.example", &authority.client(offered, None)), expected, "{offered:?}");
    }
    let error = connect(address, "a.example", &authority.client(&["spdy/3"], None)).unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"tls\""], 1.0);
}

#[test]
fn only_tls_1_2_and_1_3_are_spoken() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let files = authority.issue(&["a.example"]).write(directory.path(), "a");
    let origin = origin("one");
    let gateway = gateway::with(&https(&[&files], "", origin.address)).start();
    let address = gateway.address("edge");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = connect(address, "a.example", &authority.client_of(&[], None, &[version])).unwrap();
        assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
        assert_eq!(client.get("a.example", "/").unwrap().body, "one");
    }
    // No client library here speaks TLS 1.1: a ClientHello by hand, which is answered when it says 1.2 …
    let ask = |minor: u8| {
        let mut stream = client(address);
        stream.stream.write_all(&hello(minor)).unwrap();
        stream.exactly(7).unwrap()
    };
    assert_eq!(ask(3)[0], 22, "a handshake record");
    // … and refused with a fatal `protocol_version` when it says 1.1.
    let alert = ask(2);
    assert_eq!((alert[0], alert[5], alert[6]), (21, 2, 70), "{alert:?}");
}

/// A `ClientHello` of TLS 1.`minor - 1` without `supported_versions`.
fn hello(minor: u8) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend([7; 32]);
    // No session; ECDHE_ECDSA with AES-128-GCM, and with AES-128-CBC, which 1.1 would know; no compression.
    body.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x09, 1, 0]);
    let groups = [0, 10, 0, 4, 0, 2, 0, 23];
    let points = [0, 11, 0, 2, 1, 0];
    let signatures = [0, 13, 0, 4, 0, 2, 4, 3];
    let extended_master_secret = [0, 23, 0, 0];
    let extensions = [&groups[..], &points, &signatures, &extended_master_secret].concat();
    body.extend([0, u8::try_from(extensions.len()).unwrap()]);
    body.extend(extensions);
    let mut hello =
        vec![22, 3, 1, 0, u8::try_from(body.len() + 4).unwrap(), 1, 0, 0, u8::try_from(body.len()).unwrap()];
    hello.extend(body);
    hello
}

#[test]
fn a_client_certificate_is_asked_for_and_must_be_of_the_given_authority() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, clients) = (Authority::new("test"), Authority::new("clients"));
    let files = authority.issue(&["a.example"]).write(directory.path(), "a");
    let ca = clients.write(directory.path(), "clients.pem");
    let origin = origin("one");
    let text = https(&[&files], &format!(", client_ca = \"{}\"", ca.display()), origin.address);
    let gateway = gateway::with(&text).start();
    let address = gateway.address("edge");
    let good = clients.issue(&["client.example"]);
    let reply = connect(address, "a.example", &authority.client(&[], Some(&good))).unwrap().get("a.example", "/");
    assert_eq!(reply.unwrap().body, "one");
    let wrong = authority.issue(&["client.example"]);
    for leaf in [None, Some(&wrong)] {
        // With TLS 1.3 the client is done before the server has seen its certificate.
        let refused = connect(address, "a.example", &authority.client(&[], leaf))
            .and_then(|mut client| client.get("a.example", "/"));
        assert!(refused.is_err(), "{refused:?}");
    }
    assert_eq!(origin.requests(), 1);
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"tls\""], 2.0);
}

#[test]
fn a_handshake_that_does_not_end_is_ended() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let files = authority.issue(&["a.example"]).write(directory.path(), "a");
    let origin = origin("one");
    let text = https(&[&files], "", origin.address) + "limits = { handshake_timeout = \"200ms\" }\n";
    let gateway = gateway::with(&text).start();
    let (mut silent, mut half) = (client(gateway.address("edge")), client(gateway.address("edge")));
    half.send("\u{16}").unwrap();
    let start = Instant::now();
    assert!(silent.is_closed() && half.is_closed());
    assert!(start.elapsed() < Duration::from_secs(10));
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"handshake_timeout\""], 2.0);
    // What is no TLS at all is refused at once.
    let mut plain = client(gateway.address("edge"));
    plain.send("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    let _ = plain.rest();
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"tls\""], 1.0);
}

#[test]
fn a_request_for_a_host_of_another_certificate_is_misdirected() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let a = authority.issue(&["a.example", "also.example", "127.0.0.1"]).write(directory.path(), "a");
    let b = authority.issue(&["*.b.example"]).write(directory.path(), "b");
    let origin = origin("one");
    let gateway = gateway::with(&https(&[&a, &b], "", origin.address)).start();
    let address = gateway.address("edge");
    let config = authority.client(&[], None);
    for (name, host, status) in [
        ("a.example", "a.example", 200),
        ("a.example", "A.example:443", 200),
        ("a.example", "also.example", 200),
        ("a.example", "x.b.example", 421),
        ("a.example", "elsewhere.example", 200),
        ("x.b.example", "y.b.example", 200),
        ("x.b.example", "y.x.b.example", 200),
        ("x.b.example", "a.example", 421),
        // Who asks for no name got the first certificate, and may ask for any host: health checks do.
        ("127.0.0.1", "elsewhere.example", 200),
    ] {
        let reply = connect(address, name, &config).unwrap().get(host, "/").unwrap();
        assert_eq!(reply.status, status, "{name} {host}: {}", reply.body);
        assert_eq!(reply.header("meshless-error"), (status == 421).then_some("misdirected"), "{name} {host}");
    }
}

fn swap_gateway() -> (tempfile::TempDir, Authority, plain::Origin, Running, Arc<ClientConfig>) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let files = authority.issue(&["a.example"]).write(directory.path(), "a");
    let origin = origin("one");
    let gateway = gateway::with(&https(&[&files], "", origin.address)).start();
    let config = authority.client(&["http/1.1"], None);
    (directory, authority, origin, gateway, config)
}

#[test]
fn a_certificate_that_changes_is_served_and_connections_live_on() {
    let (directory, authority, _origin, gateway, config) = swap_gateway();
    let address = gateway.address("edge");
    let mut old = connect(address, "a.example", &config).unwrap();
    assert_eq!(old.get("a.example", "/").unwrap().body, "one");
    let next = authority.issue(&["a.example"]);
    assert_ne!(shown(&old), next.der());
    next.write(directory.path(), "a");
    wait_until("the new certificate is served", || {
        connect(address, "a.example", &config).is_ok_and(|client| shown(&client) == next.der())
    });
    assert_eq!(old.get("a.example", "/").unwrap().body, "one");
}

#[test]
fn a_broken_certificate_keeps_the_old_one_and_is_told() {
    let (directory, authority, _origin, gateway, config) = swap_gateway();
    let address = gateway.address("edge");
    let served = shown(&connect(address, "a.example", &config).unwrap());
    std::fs::write(directory.path().join("a.pem"), "-----BEGIN CERTIFICATE-----\nhalf").unwrap();
    gateway.wait_for_metric("meshless_config_reload_total", &["result=\"refused\""], 1.0);
    assert!((gateway.metric("meshless_config_last_reload_success", &[])).abs() < 0.5);
    let told: serde_json::Value = serde_json::from_str(&gateway.admin("/config").1).unwrap();
    let error = told["last_error"].as_str().unwrap();
    assert!(error.contains("a.pem") && error.contains("edge"), "{error}");
    assert_eq!(shown(&connect(address, "a.example", &config).unwrap()), served);
    // And a good one after it is taken.
    let next = authority.issue(&["a.example"]);
    next.write(directory.path(), "a");
    wait_until("the new certificate is served", || {
        connect(address, "a.example", &config).is_ok_and(|client| shown(&client) == next.der())
    });
    let told: serde_json::Value = serde_json::from_str(&gateway.admin("/config").1).unwrap();
    assert!(told["last_error"].is_null(), "{told}");
}

fn to_tls(address: SocketAddr, tls: &str, protocol: &str) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.secure]\nfrom = \"static/{address}\"\nprotocol = \"{protocol}\"\ntls = {{ {tls} }}\n\
         [[routes]]\nto = \"secure\"\n"
    )
}

#[test]
fn an_endpoint_is_checked_and_told_who_we_are_and_alpn_chooses_the_version() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, ours) = (Authority::new("endpoints"), Authority::new("ours"));
    let ca = authority.write(directory.path(), "ca.pem");
    let me = ours.issue(&["gateway.example"]).write(directory.path(), "me");
    let by_name = format!(
        "ca = \"{}\", cert = \"{}\", key = \"{}\", server_name = \"db.example\"",
        ca.display(),
        me.cert.display(),
        me.key.display()
    );
    let by_address = format!("ca = \"{}\"", ca.display());
    for (offered, tls, protocol, expected) in [
        (&["h2", "http/1.1"][..], &by_name, "auto", "alpn=h2 sni=db.example client=yes version=HTTP/2.0"),
        (&["http/1.1"][..], &by_name, "auto", "alpn=http/1.1 sni=db.example client=yes version=HTTP/1.1"),
        (&[][..], &by_name, "auto", "alpn= sni=db.example client=yes version=HTTP/1.1"),
        (&["h2", "http/1.1"][..], &by_name, "http1", "alpn=http/1.1 sni=db.example client=yes version=HTTP/1.1"),
        (&["h2", "http/1.1"][..], &by_name, "http2", "alpn=h2 sni=db.example client=yes version=HTTP/2.0"),
        (&["h2", "http/1.1"][..], &by_address, "auto", "alpn=h2 sni=- client=no version=HTTP/2.0"),
    ] {
        let asks = (tls == &by_name).then_some(&ours);
        let origin = authority::origin(authority.server(&["db.example", "127.0.0.1"], offered, asks));
        let gateway = gateway::with(&to_tls(origin.address, tls, protocol)).start();
        for _ in 0..2 {
            let reply = get(gateway.address("edge"), "a.example", "/");
            assert_eq!((reply.status, reply.body.as_str()), (200, expected), "{offered:?} {protocol}");
        }
        assert_eq!(origin.names.lock().unwrap().len(), 1, "one connection serves both requests");
    }
}

#[test]
fn an_endpoint_that_is_not_who_it_should_be_gets_nothing_and_the_client_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("endpoints"), Authority::new("other"));
    let ca = authority.write(directory.path(), "ca.pem");
    let good = format!("ca = \"{}\", server_name = \"db.example\"", ca.display());
    let wanted = other.issue(&["x.example"]).write(directory.path(), "x");
    let wrong_client = format!("{good}, cert = \"{}\", key = \"{}\"", wanted.cert.display(), wanted.key.display());
    for (server, tls, protocol, reason) in [
        (other.server(&["db.example"], &[], None), &good, "auto", "UnknownIssuer"),
        (authority.server(&["elsewhere.example"], &[], None), &good, "auto", "not valid for name"),
        (authority.server(&["db.example"], &["http/1.1"], None), &good, "http2", "NoApplicationProtocol"),
        (authority.server(&["db.example"], &[], Some(&authority)), &wrong_client, "auto", ""),
        (authority.server(&["db.example"], &[], Some(&authority)), &good, "auto", ""),
    ] {
        let origin = authority::origin(server);
        let gateway = gateway::with(&to_tls(origin.address, tls, protocol)).start();
        let reply = get(gateway.address("edge"), "a.example", "/");
        let error = reply.header("meshless-error").unwrap_or_default().to_owned();
        if reason.is_empty() {
            // TLS 1.3: the endpoint says only after our handshake is done that it does not want us.
            assert!(reply.status == 502 || reply.status == 503, "{reply:?}");
            continue;
        }
        assert_eq!((reply.status, error.as_str()), (503, "connect_failed"), "{reply:?}");
        assert!(reply.body.contains(reason), "{reason}: {}", reply.body);
        let failures = gateway.metric("meshless_upstream_connect_total", &["result=\"tls\""])
            + gateway.metric("meshless_upstream_connect_total", &["result=\"alpn\""]);
        assert!(failures >= 1.0);
    }
}

#[test]
fn an_endpoint_that_speaks_no_tls_is_a_failed_connect() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new("endpoints").write(directory.path(), "ca.pem");
    let origin = origin("plain");
    let tls = format!("ca = \"{}\", server_name = \"db.example\"", ca.display());
    let gateway = gateway::with(&to_tls(origin.address, &tls, "auto")).start();
    let reply = get(gateway.address("edge"), "a.example", "/");
    assert_eq!((reply.status, reply.header("meshless-error")), (503, Some("connect_failed")), "{reply:?}");
}

#[test]
fn tls_ends_before_tcp_and_begins_again_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let files = authority.issue(&["a.example"]).write(directory.path(), "a");
    let ca = authority.write(directory.path(), "ca.pem");
    let echo = plain::serve(|mut stream| {
        let mut from = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut from, &mut stream);
    });
    let text = format!(
        "[[listeners]]\nname = \"inner\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\n\
         tls = {{ mode = \"server\", cert = \"{}\", key = \"{}\" }}\nto = \"echo\"\n\
         [services.echo]\nprotocol = \"tcp\"\nfrom = \"static/{}\"\n",
        files.cert.display(),
        files.key.display(),
        echo.address
    );
    let inner = gateway::with(&text).start();
    let text = format!(
        "[[listeners]]\nname = \"outer\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nto = \"inner\"\n\
         [services.inner]\nprotocol = \"tcp\"\nfrom = \"static/{}\"\n\
         tls = {{ ca = \"{}\", server_name = \"a.example\" }}\n",
        inner.address("inner"),
        ca.display()
    );
    let outer = gateway::with(&text).start();
    let mut through = client(outer.address("outer"));
    through.send("ping").unwrap();
    assert_eq!(through.exactly(4).unwrap(), b"ping");
    through.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(through.rest().unwrap(), b"");
    let _: TcpStream = through.stream;
}
