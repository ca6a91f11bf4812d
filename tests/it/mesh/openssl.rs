//! OpenSSL as the other side of a whole gateway, both ways.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;

use super::{inbound, outbound, two};
use crate::identities::{LONG, Place, id};
use crate::plain::{get, origin};

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn openssl(place: &Place, arguments: &str) -> Running {
    let child = Command::new("openssl")
        .args(arguments.split_whitespace())
        .args("-cert chain.pem -key key.pem -CAfile bundle.pem".split_whitespace())
        .current_dir(&place.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    Running(child.expect("openssl is installed"))
}

#[test]
fn openssl_asks_a_strict_listener() {
    let two = two();
    let origin = origin("one");
    let gateway = inbound(&two.web, "strict", origin.address, "");
    let arguments = format!(
        "s_client -connect {} -servername web.svc.example.org -alpn http/1.1 -tls1_3 -verify_return_error -quiet",
        gateway.address("in")
    );
    let mut client = openssl(&two.client, &arguments);
    let mut input = client.0.stdin.take().unwrap();
    input.write_all(b"GET /dump HTTP/1.1\r\nhost: web\r\nconnection: close\r\n\r\n").unwrap();
    let mut output = String::new();
    client.0.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(output.contains("200 OK") && output.contains(&format!("URI={}", id("client"))), "{output}");
}

#[test]
fn openssl_is_asked_by_a_gateway_and_only_where_it_is_the_service() {
    let two = two();
    let mut server = openssl(&two.web, "s_server -accept 127.0.0.1:0 -www -tls1_3 -Verify 3 -verify_return_error");
    // It says `ACCEPT 127.0.0.1:PORT` once it listens.
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(|at| at.parse().unwrap())).unwrap();
    // Whatever else it says is read too, or it would wait for somebody who reads.
    thread::spawn(move || lines.for_each(drop));
    let gateway = outbound(&two.client, address, "");
    let reply = get(gateway.address("out"), "web", "/");
    assert!(reply.status == 200 && reply.body.contains("TLSv1.3"), "{reply:?}");
    // Without one it says `no client certificate available`.
    assert!(reply.body.contains("Client certificate"), "{}", reply.body);
    let other = Place::new(two.directory.path(), "other");
    other.write(&two.root.issue("client", LONG), &[&two.root]);
    let gateway = outbound(&other, address, "identity = [\"spiffe://example.org/svc/somebody-else\"]");
    assert_eq!(get(gateway.address("out"), "web", "/").status, 503);
}
