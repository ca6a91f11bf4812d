//! Proxies that people run beside this one: as endpoints, and in front.

use std::process::Command;

use super::{Daemon, free_port, nginx, program, run, wait_for, without_proxies};
use crate::gateway;

/// HAProxy that answers itself on `http1.sock` and, by prior knowledge, on `http2.sock`.
fn haproxy(more: &str) -> Option<Daemon> {
    let program = program("haproxy")?;
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let configuration = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
         frontend own\n  bind unix@{at}/http1.sock\n  bind unix@{at}/http2.sock proto h2\n\
         \x20 http-request return status 200 content-type text/plain lf-string \"haproxy %[req.ver] %[req.hdr(host)]\\n\"\n\
         {more}"
    );
    std::fs::write(folder.path().join("haproxy.cfg"), configuration).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(folder.path().join("haproxy.cfg"));
    Some(Daemon::start(command, folder, "http2.sock"))
}

fn curl(url: &str, more: &[&str]) -> Option<String> {
    let mut command = without_proxies(Command::new(program("curl")?));
    command.args(["--silent", "--show-error", "--max-time", "20"]).args(more).arg(url);
    Some(run(command, b""))
}

#[test]
fn haproxy_answers_as_an_endpoint_by_both_versions() {
    let Some(haproxy) = haproxy("") else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.one]\nfrom = \"{}\"\nprotocol = \"http1\"\n\
         [services.two]\nfrom = \"{}\"\nprotocol = \"http2\"\n\
         [[routes]]\nmatch = {{ host = \"one.test\" }}\nto = \"one\"\n\
         [[routes]]\nmatch = {{ host = \"two.test\" }}\nto = \"two\"\n",
        haproxy.target("http1.sock"),
        haproxy.target("http2.sock"),
    ))
    .start();
    let url = format!("http://{}/", gateway.address("edge"));
    for (host, version) in [("one.test", "1.1"), ("two.test", "2.0")] {
        for option in ["--http1.1", "--http2-prior-knowledge"] {
            let Some(printed) = curl(&url, &[option, "-H", &format!("Host: {host}")]) else { return };
            assert_eq!(printed, format!("haproxy {version} {host}\n"), "{option}");
        }
    }
}

#[test]
fn haproxy_in_front_says_by_the_proxy_protocol_who_the_client_is() {
    let Some(nginx) = nginx() else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nproxy_protocol = true\n[[routes]]\nto = \"{}\"\n",
        nginx.target("plain.sock")
    ))
    .start();
    for version in ["send-proxy", "send-proxy-v2"] {
        let port = free_port();
        // Whoever connects to it is taken for 192.0.2.7, as a client from outside would be.
        let more = format!(
            "frontend front\n  bind 127.0.0.1:{port}\n  http-request set-src ipv4(192.0.2.7)\n  default_backend gateway\n\
             backend gateway\n  server gateway {} {version}\n",
            gateway.address("edge")
        )
        .replace("ipv4(192.0.2.7)", "str(192.0.2.7)");
        let Some(_haproxy) = haproxy(&more) else { return };
        wait_for(([127, 0, 0, 1], port).into());
        let url = format!("http://127.0.0.1:{port}/echo");
        // What a client from outside says of itself is not believed.
        let Some(printed) = curl(&url, &["-H", "X-Forwarded-For: 10.9.8.7"]) else { return };
        assert!(printed.contains("for=192.0.2.7 "), "{version}: {printed}");
    }
}

#[test]
fn nginx_restarts_and_nobody_notices() {
    let Some(curl_path) = program("curl") else { return };
    let Some(first) = nginx() else { return };
    let Some(second) = nginx() else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[services.web]\nfrom = \"{},{}\"\n[[routes]]\nto = \"web\"\n",
        first.target("plain.sock"),
        second.target("plain.sock").trim_start_matches("static/"),
    ))
    .start();
    let many = |count: usize| {
        let mut command = without_proxies(Command::new(&curl_path));
        command.args(["--silent", "--show-error", "-o", "/dev/null", "-w", "%{http_code}\n"]);
        command.arg(format!("http://{}/hello.txt?[1-{count}]", gateway.address("edge")));
        run(command, b"").lines().filter(|line| *line == "200").count()
    };
    assert_eq!(many(50), 50);
    // Its connections break, idle ones and all; what was not sent goes to the other one.
    drop(first);
    assert_eq!(many(200), 200);
}
