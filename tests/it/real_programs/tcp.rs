//! Protocols that the gateway only carries.

use std::process::Command;

use super::{Daemon, nginx, program, run, without_proxies};
use crate::gateway;

fn redis() -> Option<Daemon> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("redis-server")?);
    command.args(["--port", "0", "--save", "", "--dir"]).arg(folder.path());
    command.arg("--unixsocket").arg(folder.path().join("redis.sock"));
    Some(Daemon::start(command, folder, "redis.sock"))
}

#[test]
fn redis_cli_works_over_tcp() {
    let Some(redis_cli) = program("redis-cli") else { return };
    let Some(redis) = redis() else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"redis\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nto = \"redis\"\n\
         [services.redis]\nfrom = \"{}\"\nprotocol = \"tcp\"\n",
        redis.target("redis.sock")
    ))
    .start();
    let cli = |arguments: &[&str], input: &[u8]| {
        let mut command = Command::new(&redis_cli);
        command.args(["-h", "127.0.0.1", "-p", &gateway.address("redis").port().to_string()]).args(arguments);
        run(command, input)
    };
    assert_eq!(cli(&["PING"], b""), "PONG\n");
    let value = "x".repeat(300_000);
    assert_eq!(cli(&["-x", "SET", "large"], value.as_bytes()), "OK\n");
    assert_eq!(cli(&["GET", "large"], b""), format!("{value}\n"));
    let mut pipelined = Vec::new();
    for number in 0..10_000 {
        let (key, value) = (format!("key:{number}"), format!("{number}"));
        let command = format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len());
        pipelined.extend(command.as_bytes());
    }
    let printed = cli(&["--pipe"], &pipelined);
    assert!(printed.contains("errors: 0, replies: 10000"), "{printed}");
    assert_eq!(cli(&["GET", "key:9999"], b""), "9999\n");
    gateway.wait_for_metric("tcp_open_connections", &[], 0.0);
}

#[test]
fn curl_reaches_the_right_server_by_sni_and_the_gateway_opens_nothing() {
    let Some(curl) = program("curl") else { return };
    let Some(nginx) = nginx() else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"pass\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tls-passthrough\"\n\
         [services.nginx]\nfrom = \"{}\"\nprotocol = \"tcp\"\n\
         [[routes]]\nmatch = {{ host = \"nginx.test\" }}\nto = \"nginx\"\n",
        nginx.target("tls.sock")
    ))
    .start();
    let port = gateway.address("pass").port();
    let ask = |name: &str| {
        let mut command = without_proxies(Command::new(&curl));
        command.args(["--silent", "--http2", "--max-time", "9", "-w", "|%{http_version}", "--cacert"]);
        command.arg(nginx.path("cert.pem")).args(["--resolve", &format!("{name}:{port}:127.0.0.1")]);
        command.arg(format!("https://{name}:{port}/hello.txt"));
        command
    };
    // The certificate that curl accepts is nginx's: the gateway has none.
    assert_eq!(run(ask("nginx.test"), b""), "hello from nginx\n|2");
    assert!(!ask("other.test").output().unwrap().status.success());
    gateway.wait_for_metric("response_total", &["error=\"no_route\""], 1.0);
}
