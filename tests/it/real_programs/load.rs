//! Load generators: nothing may fail.

use std::process::Command;

use super::{Daemon, nginx, program, run, without_proxies};
use crate::gateway::{self, Running};

fn before(nginx: &Daemon) -> Running {
    gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.plain]\nfrom = \"{}\"\n\
         [services.tls]\nfrom = \"{}\"\ntls = {{ ca = \"{}\", server_name = \"nginx.test\" }}\n\
         [[routes]]\nmatch = {{ host = \"tls.test\" }}\nto = \"tls\"\n\
         [[routes]]\nto = \"plain\"\n",
        nginx.target("plain.sock"),
        nginx.target("tls.sock"),
        nginx.path("cert.pem").display(),
    ))
    .workers(2)
    .start()
}

#[test]
fn h2load_sees_no_failure_with_many_streams() {
    let Some(h2load) = program("h2load") else { return };
    let Some(nginx) = nginx() else { return };
    let gateway = before(&nginx);
    for (protocol, host) in [("h2c", "plain.test"), ("h2c", "tls.test"), ("http/1.1", "plain.test")] {
        let mut command = without_proxies(Command::new(&h2load));
        let streams = if protocol == "h2c" { "32" } else { "1" };
        command.args(["--requests", "6000", "--clients", "8", "--max-concurrent-streams", streams, "--threads", "1"]);
        command.args(["--no-tls-proto", protocol]);
        if protocol == "h2c" {
            // In HTTP/1.1 it would send this besides its own Host, and two of them are refused.
            command.args(["-H", &format!(":authority: {host}")]);
        }
        command.arg(format!("http://{}/hello.txt", gateway.address("edge")));
        let printed = run(command, b"");
        let all = "requests: 6000 total, 6000 started, 6000 done, 6000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(printed.contains(all), "{protocol} {host}: {printed}");
        assert!(printed.contains("status codes: 6000 2xx"), "{protocol} {host}: {printed}");
    }
    gateway.wait_for_metric("response_total", &["classification=\"success\""], 18_000.0);
    gateway.wait_for_metric("response_total", &["classification=\"failure\""], 0.0);
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 0.0);
}

#[test]
fn wrk_sees_no_error_with_many_connections() {
    let Some(wrk) = program("wrk") else { return };
    let Some(nginx) = nginx() else { return };
    let gateway = before(&nginx);
    for path in ["/hello.txt", "/large.bin"] {
        let mut command = without_proxies(Command::new(&wrk));
        command.args(["--threads", "1", "--connections", "50", "--duration", "2s", "--timeout", "10s"]);
        command.arg(format!("http://{}{path}", gateway.address("edge")));
        let printed = run(command, b"");
        assert!(!printed.contains("Socket errors") && !printed.contains("Non-2xx"), "{path}: {printed}");
        let requests = printed.lines().find_map(|line| line.trim().split_once(" requests in")?.0.parse::<u64>().ok());
        assert!(requests.is_some_and(|requests| requests > 20), "{path}: {printed}");
    }
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 0.0);
    assert!(gateway.metric("response_total", &["classification=\"failure\""]) < 0.5);
}
