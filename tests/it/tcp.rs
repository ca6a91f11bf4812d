//! Bytes: TCP, TLS that is passed on by its name, detection, PROXY headers, Unix sockets, IPv6.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::authority::{self, Authority, connect};
use crate::gateway::{self, Running};
use crate::plain::{Client, Served, client, dead_address, get, origin, origin_at, serve, unix_client, wait_until};
use crate::process;

/// Sends everything back when the other side has ended, with a mark before it.
fn reverser(mark: &'static str) -> Served {
    serve(move |mut stream| {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).is_ok() {
            all.reverse();
            let _ = stream.write_all(mark.as_bytes()).and_then(|()| stream.write_all(&all));
        }
    })
}

fn tcp(protocol: &str, to: &str, service: &str) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"{protocol}\"\nto = \"bytes\"\n\
         [services.bytes]\nprotocol = \"tcp\"\nfrom = \"{to}\"\n{service}\n"
    )
}

fn ask(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = client(address);
    let mut writer = client.stream.try_clone().unwrap();
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let all = client.rest().unwrap();
    writing.join().unwrap();
    all
}

#[test]
fn bytes_go_both_ways_and_a_half_closed_client_gets_its_answer() {
    let reverser = reverser("");
    let gateway = gateway::with(&tcp("tcp", &format!("static/{}", reverser.address), "")).start();
    assert_eq!(ask(gateway.address("edge"), b"abc"), b"cba");
    assert_eq!(ask(gateway.address("edge"), b""), b"");
    let large: Vec<u8> = (0..20_000_000u32).map(|number| (number % 251) as u8).collect();
    let mut expected = large.clone();
    expected.reverse();
    assert!(ask(gateway.address("edge"), &large) == expected, "20 MB arrive whole and in order");
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 0.0);
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"dst\""], 0.0);
}

#[test]
fn a_server_that_speaks_first_is_heard() {
    let greeter = serve(|mut stream| {
        let _ = stream.write_all(b"220 hello\r\n");
        let _ = stream.read(&mut [0; 16]);
    });
    let gateway = gateway::with(&tcp("tcp", &format!("static/{}", greeter.address), "")).start();
    assert_eq!(client(gateway.address("edge")).until(b"\r\n").unwrap(), "220 hello\r\n");
}

#[test]
fn a_silent_connection_ends_after_the_idle_timeout_and_a_busy_one_does_not() {
    let echo = serve(|mut stream| {
        let mut from = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut from, &mut stream);
    });
    let to = format!("static/{}", echo.address);
    let gateway = gateway::with(&tcp("tcp", &to, "idle_timeout = \"400ms\"")).start();
    let mut busy = client(gateway.address("edge"));
    let mut silent = client(gateway.address("edge"));
    silent.send("x").unwrap();
    silent.exactly(1).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(1200) {
        busy.send("x").unwrap();
        busy.exactly(1).unwrap();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(silent.is_closed());
    busy.send("y").unwrap();
    assert_eq!(busy.exactly(1).unwrap(), b"y");
    gateway.wait_for_metric("response_total", &["error=\"idle\""], 1.0);
}

#[test]
fn a_dead_endpoint_is_passed_over_and_nobody_left_closes() {
    let reverser = reverser("");
    let (dead, live) = (dead_address(), reverser.address);
    let gateway = gateway::with(&tcp("tcp", &format!("static/{dead} | static/{live}"), "")).start();
    for _ in 0..8 {
        assert_eq!(ask(gateway.address("edge"), b"abc"), b"cba");
    }
    assert!(gateway.metric("meshless_requeue_total", &[]) >= 1.0);
    let alone = gateway::with(&tcp("tcp", &format!("static/{dead}"), "")).start();
    assert_eq!(ask(alone.address("edge"), b""), b"");
    alone.wait_for_metric("response_total", &["error=\"connect_failed\""], 1.0);
}

#[test]
fn an_endpoint_that_resets_ends_the_client_too() {
    let resetter = serve(|stream| {
        let _ = (&stream).read(&mut [0; 1]);
        let socket = socket2::Socket::from(stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
    });
    let gateway = gateway::with(&tcp("tcp", &format!("static/{}", resetter.address), "")).start();
    let mut client = client(gateway.address("edge"));
    client.send("x").unwrap();
    assert!(client.is_closed());
}

fn passthrough(routes: &[(&str, SocketAddr)]) -> Running {
    let mut text = "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tls-passthrough\"\n\
         limits = { header_timeout = \"500ms\" }\n"
        .to_owned();
    for (host, address) in routes {
        let host = if host.is_empty() { String::new() } else { format!("match = {{ host = \"{host}\" }}\n") };
        write!(text, "[[routes]]\n{host}to = \"static/{address}\"\n").unwrap();
    }
    gateway::with(&text).start()
}

#[test]
fn tls_is_passed_on_unopened_by_the_name_it_asks_for() {
    let authority = Authority::new("test");
    let one = authority::origin(authority.server(&["a.example"], &[], None));
    let wild = authority::origin(authority.server(&["*.b.example", "b.example"], &[], None));
    let gateway = passthrough(&[("a.example", one.address), ("*.b.example", wild.address)]);
    let config = authority.client(&[], None);
    let address = gateway.address("edge");
    for (name, origin) in [("a.example", &one), ("x.b.example", &wild)] {
        let reply = connect(address, name, &config).unwrap().get(name, "/").unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(origin.names.lock().unwrap().as_slice(), [name]);
    }
    assert!(connect(address, "b.example", &config).is_err(), "*.b.example takes one label or more");
    assert!(connect(address, "other.example", &config).is_err());
    // An address is no name: no SNI.
    assert!(connect(address, "127.0.0.1", &config).is_err());
    gateway.wait_for_metric("response_total", &["error=\"no_route\""], 3.0);
}

#[test]
fn tls_without_a_name_takes_the_route_without_a_host() {
    let authority = Authority::new("test");
    let one = authority::origin(authority.server(&["a.example"], &[], None));
    let rest = authority::origin(authority.server(&["127.0.0.1"], &[], None));
    let gateway = passthrough(&[("a.example", one.address), ("", rest.address)]);
    let reply = connect(gateway.address("edge"), "127.0.0.1", &authority.client(&[], None)).unwrap().get("x", "/");
    assert_eq!(reply.unwrap().body, "alpn= sni=- client=no version=HTTP/1.1");
}

#[test]
fn what_is_no_hello_is_refused_and_counted() {
    let gateway = passthrough(&[("", dead_address())]);
    let address = gateway.address("edge");
    let mut garbage = client(address);
    garbage.send("GET / HTTP/1.1\r\nhost: a.example\r\n\r\n").unwrap();
    assert!(garbage.is_closed());
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"tls_hello\""], 1.0);
    let mut endless = client(address);
    // Handshake records of a hello that says it is 16 MB long.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff, 3, 3];
    record.resize(5 + 0x4000, 0);
    for _ in 0..3 {
        if endless.stream.write_all(&record).is_err() {
            break;
        }
        record = [vec![22, 3, 1, 0x40, 0], vec![0; 0x4000]].concat();
    }
    assert!(endless.is_closed());
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"tls_hello\""], 2.0);
    let mut silent = client(address);
    assert!(silent.is_closed());
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"handshake_timeout\""], 1.0);
}

#[test]
fn an_auto_listener_tells_bytes_from_http_where_a_tcp_service_is_behind_it() {
    let authority = Authority::new("test");
    let secure = authority::origin(authority.server(&["a.example"], &[], None));
    let gateway = gateway::with(&tcp("auto", &format!("static/{}", secure.address), "")).start();
    let reply = connect(gateway.address("edge"), "a.example", &authority.client(&[], None)).unwrap().get("x", "/");
    assert_eq!(reply.unwrap().body, "alpn= sni=a.example client=no version=HTTP/1.1");
    let redis = serve(|stream| {
        let mut client = Client::new(stream);
        while let Ok(line) = client.until(b"\r\n") {
            if line.contains("PING") {
                let _ = client.send("+PONG\r\n");
            }
        }
    });
    let gateway = gateway::with(&tcp("auto", &format!("static/{}", redis.address), "")).start();
    for ping in ["*1\r\n$4\r\nPING\r\n", "PING\r\n"] {
        let mut client = client(gateway.address("edge"));
        client.send(ping).unwrap();
        assert_eq!(client.until(b"\r\n").unwrap(), "+PONG\r\n");
    }
    // HTTP on the same listener is HTTP still; a service of bytes carries no requests that we would understand.
    let origin = origin("one");
    let gateway = gateway::with(&tcp("auto", &format!("static/{}", origin.address), "")).start();
    let reply = get(gateway.address("edge"), "a.example", "/");
    assert_eq!((reply.status, reply.body.as_str()), (200, "one"), "{reply:?}");
    // And without a tcp service, bytes are a malformed request.
    let text =
        format!("[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{}\"\n", origin.address);
    let gateway = gateway::with(&text).start();
    let mut bytes = client(gateway.address("edge"));
    bytes.send("*1\r\n$4\r\nPING\r\n").unwrap();
    assert_eq!(bytes.reply().unwrap().status, 400);
}

fn balancer(origin: SocketAddr, extra: &str) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nproxy_protocol = true\n{extra}\
         to = \"static/{origin}\"\n"
    )
}

fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family, 0, u8::try_from(addresses.len()).unwrap()]);
    header.extend(addresses);
    header
}

#[test]
fn a_balancer_says_who_the_client_is() {
    let origin = origin("one");
    let gateway = gateway::with(&balancer(origin.address, "")).start();
    let mut ipv6 = vec![0x20, 1, 0xd, 0xb8];
    ipv6.extend([0; 11]);
    ipv6.push(7);
    ipv6.extend([0; 16]);
    ipv6.extend([1, 2, 3, 4]);
    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.7 192.0.2.8 8080 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21, 0x11, &[192, 0, 2, 9, 192, 0, 2, 8, 1, 2, 3, 4]), "192.0.2.9"),
        (v2(0x21, 0x21, &ipv6), "2001:db8::7"),
        (v2(0x20, 0, &[]), "127.0.0.1"),
    ] {
        let mut client = client(gateway.address("edge"));
        // In two pieces, as a slow network would.
        let (begin, end) = header.split_at(header.len() / 2);
        client.stream.write_all(begin).unwrap();
        std::thread::yield_now();
        client.stream.write_all(end).unwrap();
        let reply = client.get("a.example", "/dump").unwrap();
        let said = reply.body.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
        assert_eq!(said, Some(expected), "{:?}", String::from_utf8_lossy(&header));
    }
}

#[test]
fn a_connection_without_a_proxy_header_is_refused_and_counted() {
    let origin = origin("one");
    let gateway = gateway::with(&balancer(origin.address, "limits = { handshake_timeout = \"300ms\" }\n")).start();
    let too_long = [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(), vec![0; 8000]].concat();
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n".to_vec(),
        b"PROXY TCP4 nowhere 192.0.2.8 8080 80\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 192.0.2.8 8080 99999\r\n".to_vec(),
        v2(0x31, 0x11, &[192, 0, 2, 9, 192, 0, 2, 8, 1, 2, 3, 4]),
        too_long,
    ] {
        let mut client = client(gateway.address("edge"));
        let _ = client.stream.write_all(&bytes);
        assert!(client.is_closed(), "{:?}", String::from_utf8_lossy(&bytes));
    }
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"proxy_header\""], 5.0);
    let mut silent = client(gateway.address("edge"));
    assert!(silent.is_closed());
    gateway.wait_for_metric("meshless_connection_refused_total", &["reason=\"handshake_timeout\""], 1.0);
    assert_eq!(origin.requests(), 0);
}

#[test]
fn the_access_log_names_the_client_that_a_balancer_named() {
    let origin = origin("one");
    let text = balancer(origin.address, "") + "[telemetry]\naccess_log = \"json\"\n";
    let process = process::with(&text).start();
    let mut client = client(process.address("edge"));
    client.send("PROXY TCP4 192.0.2.7 192.0.2.8 8080 80\r\n").unwrap();
    assert_eq!(client.get("a.example", "/logged").unwrap().status, 200);
    wait_until("the access log has the request", || process.stdout().contains("/logged"));
    let line = process.stdout().lines().find(|line| line.contains("/logged")).unwrap().to_owned();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["client"], "192.0.2.7", "{line}");
}

#[test]
fn unix_sockets_are_listened_on_and_connected_to() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("edge.sock");
    let origin = origin("one");
    let text = format!(
        "[[listeners]]\nname = \"near\"\nlisten = \"unix:{}\"\nto = \"static/{}\"\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/unix:{}\"\n",
        socket.display(),
        origin.address,
        socket.display()
    );
    let gateway = gateway::with(&text).workers(2).start();
    for _ in 0..6 {
        let mut direct = unix_client(&socket).unwrap();
        assert_eq!(direct.get("a.example", "/").unwrap().body, "one");
        let reply = get(gateway.address("edge"), "a.example", "/dump");
        assert!(reply.status == 200 && reply.body.contains("x-forwarded-for: 127.0.0.1"), "{reply:?}");
    }
    drop(gateway);
    let gone = format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/unix:{}/none.sock\"\n",
        directory.path().display()
    );
    let reply = get(gateway::with(&gone).start().address("edge"), "a.example", "/");
    assert_eq!((reply.status, reply.header("meshless-error")), (503, Some("connect_failed")), "{reply:?}");
}

#[test]
fn ipv6_is_an_address_like_any_other() {
    let origin = origin_at("[::1]:0".parse().unwrap(), "six");
    let text = format!("[[listeners]]\nname = \"edge\"\nlisten = \"[::1]:0\"\nto = \"static/{}\"\n", origin.address);
    let gateway = gateway::with(&text).workers(2).start();
    let address = gateway.address("edge");
    assert!(address.is_ipv6());
    let reply = get(address, "[::1]", "/dump");
    assert!(reply.status == 200 && reply.body.contains("x-forwarded-for: ::1"), "{reply:?}");
    assert!(TcpStream::connect(("127.0.0.1", address.port())).is_err(), "[::1] is IPv6 alone");
}
