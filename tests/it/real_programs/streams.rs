//! Clients and servers of WebSocket and gRPC, a gateway between them.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{ScriptServer, nginx, program, run, run_client, without_proxies};
use crate::gateway::{self, Running};

fn before(server: &ScriptServer) -> Running {
    gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[services.echo]\nfrom = \"static/127.0.0.1:{}\"\n\
         [[routes]]\nto = \"echo\"\n",
        server.port()
    ))
    .start()
}

#[test]
fn websockets_work_through_the_gateway() {
    let Some(server) = ScriptServer::start("websocket.py") else { return };
    let gateway = before(&server);
    run_client("websocket.py", gateway.address("edge").port());
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"dst\""], 0.0);
    assert!((gateway.metric("response_total", &["status_code=\"101\""]) - 1.0).abs() < 0.1);
}

#[test]
fn every_kind_of_grpc_call_works_through_the_gateway() {
    let Some(server) = ScriptServer::start("grpc_echo.py") else { return };
    let gateway = before(&server);
    run_client("grpc_echo.py", gateway.address("edge").port());
    // Hundreds of calls on one session: a session for each would be the pool at fault.
    assert!(gateway.metric("tcp_open_total", &["peer=\"dst\""]) < 6.0);
}

/// A call of gRPC by curl, which watches no deadline itself.
fn call(address: SocketAddr, method: &str, message: &[u8], headers: &[&str]) -> Option<(Vec<u8>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let (body, head) = (folder.path().join("body"), folder.path().join("head"));
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    let mut command = without_proxies(Command::new(program("curl")?));
    command.args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "9", "--data-binary", "@-"]);
    command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    for header in headers {
        command.args(["-H", header]);
    }
    command.arg("-o").arg(&body).arg("-D").arg(&head);
    command.arg(format!("http://{address}/meshless.test.Echo/{method}"));
    run(command, &framed);
    let body = std::fs::read(&body).unwrap_or_default();
    Some((body, std::fs::read_to_string(&head).unwrap()))
}

#[test]
fn a_grpc_deadline_that_the_client_does_not_watch_ends_the_call() {
    let Some(server) = ScriptServer::start("grpc_echo.py") else { return };
    let gateway = before(&server);
    let edge = gateway.address("edge");
    let started = Instant::now();
    // `Wait` answers one message at once and then nothing: the deadline comes in the middle of the reply.
    let Some((body, head)) = call(edge, "Wait", b"by-curl", &["grpc-timeout: 700m"]) else { return };
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(body.ends_with(b"waiting"), "{body:?}");
    assert!(head.contains("grpc-status: 4"), "{head}");
    let (body, _) = call(edge, "WasEnded", b"by-curl", &[]).unwrap();
    assert!(body.ends_with(b"yes"), "the server was not told");
}

#[test]
fn a_grpc_deadline_that_nobody_else_watches_is_enforced_in_the_middle_of_a_reply() {
    let Some(nginx) = nginx() else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.slow]\nfrom = \"{}\"\nprotocol = \"http1\"\n[[routes]]\nto = \"slow\"\n",
        nginx.target("plain.sock")
    ))
    .start();
    let started = Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let Some(curl) = program("curl") else { return };
    let mut command = without_proxies(Command::new(curl));
    command.args(["--silent", "--show-error", "--http2-prior-knowledge", "--max-time", "9"]);
    command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 500m", "-D"]);
    command.arg(folder.path().join("head")).arg("-o").arg(folder.path().join("body"));
    // 5 MiB at 100 kB a second, said to be gRPC.
    command.arg(format!("http://{}/slow/large.bin", gateway.address("edge")));
    // Without the length that was announced curl calls it a failure; what counts is what it was told.
    let output = command.output().unwrap();
    let head = std::fs::read_to_string(folder.path().join("head")).unwrap_or_default();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?} {head} {output:?}", started.elapsed());
    assert!(head.contains("HTTP/2 200"), "{head}");
    gateway.wait_for_metric("response_total", &["error=\"deadline\""], 1.0);
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"dst\""], 0.0);
}

#[test]
fn the_server_is_told_what_is_left_of_a_deadline() {
    let Some(server) = ScriptServer::start("grpc_echo.py") else { return };
    let gateway = before(&server);
    let Some((body, _)) = call(gateway.address("edge"), "Remaining", b"", &["grpc-timeout: 5S"]) else { return };
    let left: f64 = String::from_utf8(body[5..].to_vec()).unwrap().parse().unwrap();
    assert!((1.0..=5.01).contains(&left), "{left}");
}
