//! curl through a gateway to nginx: each version of HTTP on each side.

use std::path::Path;
use std::process::Command;

use super::{large_file, nginx, program, run, without_proxies, write_certificate};
use crate::gateway::{self, Running};

/// A gateway before nginx: `plain` and `secure` (TLS as `edge.test`), to nginx in clear and by TLS (`tls.test`).
fn gateway(nginx: &super::Daemon, certificates: &Path) -> Running {
    write_certificate(certificates, &["edge.test"]);
    let certificates = certificates.display();
    gateway::with(&format!(
        "[[listeners]]\nname = \"plain\"\nlisten = \"127.0.0.1:0\"\n\
         [[listeners]]\nname = \"secure\"\nlisten = \"127.0.0.1:0\"\n\
         tls = {{ mode = \"server\", cert = \"{certificates}/cert.pem\", key = \"{certificates}/key.pem\" }}\n\
         [services.plain]\nfrom = \"{}\"\n\
         [services.tls]\nfrom = \"{}\"\ntls = {{ ca = \"{}\", server_name = \"nginx.test\" }}\n\
         [[routes]]\nmatch = {{ host = \"tls.test\" }}\nto = \"tls\"\n\
         [[routes]]\nto = \"plain\"\n",
        nginx.target("plain.sock"),
        nginx.target("tls.sock"),
        nginx.path("cert.pem").display(),
    ))
    .start()
}

struct Curl {
    gateway: Running,
    nginx: super::Daemon,
    certificates: tempfile::TempDir,
}

impl Curl {
    fn start() -> Option<Self> {
        program("curl")?;
        let nginx = nginx()?;
        let certificates = tempfile::tempdir().unwrap();
        let gateway = gateway(&nginx, certificates.path());
        Some(Self { gateway, nginx, certificates })
    }

    fn command(&self) -> Command {
        let mut command = without_proxies(Command::new(program("curl").unwrap()));
        command.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]);
        command.arg(self.certificates.path().join("cert.pem"));
        command
    }

    fn plain(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.address("plain"))
    }

    /// Adds the URL of the TLS listener, under the name that its certificate has.
    fn secure(&self, command: &mut Command, path: &str) {
        let port = self.gateway.address("secure").port();
        command.args(["--resolve", &format!("edge.test:{port}:127.0.0.1")]);
        command.arg(format!("https://edge.test:{port}{path}"));
    }
}

#[test]
fn curl_speaks_every_version_in_clear() {
    let Some(curl) = Curl::start() else { return };
    for (option, version) in [("--http1.0", "1.1"), ("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        for (host, upstream) in [("plain.test", "HTTP/1.1"), ("tls.test", "HTTP/2.0")] {
            let mut command = curl.command();
            command.args([option, "-H", &format!("Host: {host}"), "-w", "|%{http_version}|%{http_code}"]);
            command.arg(curl.plain("/echo"));
            let printed = run(command, b"");
            assert!(printed.starts_with(&format!("GET {upstream} host={host} for=")), "{option}: {printed}");
            // The gateway answers HTTP/1.0 as HTTP/1.1, as RFC 9110, 2.5 asks of a server.
            let answered = if option == "--http1.0" { ["|1.0|200", "|1.1|200"] } else { ["|1.1|200", "|2|200"] };
            assert!(answered.iter().any(|answer| printed.ends_with(answer)), "{option} {version}: {printed}");
            assert!(option == "--http1.0" || printed.ends_with(&format!("|{version}|200")), "{option}: {printed}");
        }
    }
}

#[test]
fn curl_agrees_to_a_version_by_alpn() {
    let Some(curl) = Curl::start() else { return };
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut command = curl.command();
        command.args([option, "-w", "|%{http_version}|%{http_code}|%{ssl_verify_result}"]);
        curl.secure(&mut command, "/echo");
        let printed = run(command, b"");
        assert!(printed.contains("proto=https"), "{printed}");
        assert!(printed.ends_with(&format!("|{version}|200|0")), "{option}: {printed}");
    }
}

#[test]
fn head_has_the_length_and_no_body() {
    let Some(curl) = Curl::start() else { return };
    // By TLS, because curl 7.88 cannot use a connection of HTTP/2 by prior knowledge again.
    for option in ["--http1.1", "--http2"] {
        let mut command = curl.command();
        command.args([option, "--head", "-w", "|%{size_download}"]);
        curl.secure(&mut command, "/large.bin");
        // A second request on the same connection: bytes of a body would stand in its way.
        command.args(["--next", option, "-s", "--cacert"]).arg(curl.certificates.path().join("cert.pem"));
        curl.secure(&mut command, "/hello.txt");
        let printed = run(command, b"");
        assert!(printed.to_lowercase().contains(&format!("content-length: {}\r\n", 5 << 20)), "{option}: {printed}");
        assert!(printed.ends_with("|0hello from nginx\n"), "{option}: {printed}");
    }
}

#[test]
fn ranges_and_large_files_arrive_as_they_are() {
    let Some(curl) = Curl::start() else { return };
    let whole = large_file();
    for option in ["--http1.1", "--http2-prior-knowledge"] {
        for (range, expected) in [("0-", &whole[..]), ("1048570-3145733", &whole[1_048_570..=3_145_733])] {
            for host in ["plain.test", "tls.test"] {
                let file = curl.nginx.path("downloaded");
                let mut command = curl.command();
                command.args([option, "-H", &format!("Host: {host}"), "--range", range, "-w", "%{http_code}", "-o"]);
                command.arg(&file).arg(curl.plain("/large.bin"));
                assert_eq!(run(command, b""), "206", "{option} {host}");
                assert!(std::fs::read(&file).unwrap() == expected, "{option} {host}: {range} came changed");
            }
        }
    }
}

#[test]
fn an_upload_waits_for_100_continue_and_arrives_whole() {
    let Some(curl) = Curl::start() else { return };
    let whole = large_file();
    for (number, option) in ["--http1.1", "--http2-prior-knowledge"].into_iter().enumerate() {
        for (framing, header) in [("length", "X-Nothing: 1"), ("chunked", "Transfer-Encoding: chunked")] {
            if framing == "chunked" && option != "--http1.1" {
                continue;
            }
            for host in ["plain.test", "tls.test"] {
                let path = format!("/put/{number}-{framing}-{host}");
                let mut command = curl.command();
                // It waits longer for the 100 than it may take in all: without one it fails.
                command.args([option, "--verbose", "--expect100-timeout", "60", "-H", "Expect: 100-continue"]);
                command.args(["-H", &format!("Host: {host}"), "-H", header, "--upload-file"]);
                command.arg(curl.nginx.path("files/large.bin")).arg(curl.plain(&path));
                let printed = run(command, b"");
                assert!(printed.contains(" 201"), "{option} {framing} {host}: {printed}");
                if option == "--http1.1" {
                    assert!(printed.contains("< HTTP/1.1 100 Continue"), "{option} {framing} {host}: {printed}");
                }
                let stored = std::fs::read(curl.nginx.path(&format!("files{path}"))).unwrap();
                assert!(stored == whole, "{option} {framing} {host}: {} bytes arrived", stored.len());
            }
        }
    }
}

#[test]
fn many_requests_share_one_connection() {
    let Some(curl) = Curl::start() else { return };
    for option in ["--http1.1", "--http2"] {
        let before = curl.gateway.metric("tcp_open_total", &["peer=\"src\"", "listener=\"secure\""]);
        let mut command = curl.command();
        command.args([option, "-w", "%{http_code}\n", "-o", "/dev/null"]);
        curl.secure(&mut command, "/hello.txt?[1-200]");
        let printed = run(command, b"");
        assert_eq!(printed.lines().filter(|line| *line == "200").count(), 200, "{option}: {printed}");
        let after = curl.gateway.metric("tcp_open_total", &["peer=\"src\"", "listener=\"secure\""]);
        assert!((after - before - 1.0).abs() < 0.5, "{option}: {} connections", after - before);
    }
    assert!(curl.gateway.metric("tcp_open_total", &["peer=\"dst\"", "service=\"plain\""]) < 3.0);
}

#[test]
fn bytes_of_connections_are_counted_on_both_sides() {
    let Some(curl) = Curl::start() else { return };
    let mut command = curl.command();
    command.args(["-o", "/dev/null"]).arg(curl.plain("/large.bin"));
    run(command, b"");
    let size = f64::from(5 << 20);
    curl.gateway.wait_until("the bytes are counted", |running| {
        let written = running.metric("tcp_write_bytes_total", &["peer=\"src\"", "listener=\"plain\""]);
        let read = running.metric("tcp_read_bytes_total", &["peer=\"dst\"", "service=\"plain\""]);
        [written, read].iter().all(|bytes| (size..size + 2000.0).contains(bytes))
    });
    let asked = curl.gateway.metric("tcp_read_bytes_total", &["peer=\"src\"", "listener=\"plain\""]);
    let passed_on = curl.gateway.metric("tcp_write_bytes_total", &["peer=\"dst\"", "service=\"plain\""]);
    assert!((20.0..2000.0).contains(&asked) && (20.0..2000.0).contains(&passed_on), "{asked} {passed_on}");
}
