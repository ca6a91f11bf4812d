//! gRPC's interop cases: the client and the server of grpc-go, a gateway between them.

use std::path::Path;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::{ScriptServer, program, run, without_proxies, write_certificate};
use crate::gateway::{self, Running};

/// Every case of grpc-go's own run (`interop/interop_test.sh`), which leaves out those about an account at a cloud.
///
/// Not here: compressed messages, which its client has no cases for (`grpc_echo.py` sends them), and `orca_oob`, whose
/// server only grpc-go itself may start: reports so often are an option of an internal package.
const CASES: [&str; 17] = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "status_code_and_message",
    "special_status_message",
    "custom_metadata",
    "unimplemented_method",
    "unimplemented_service",
    "orca_per_rpc",
    "rpc_soak",
    "channel_soak",
];

/// What the client needs to see the load reports in trailers.
const REPORTS: &str = r#"{"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}"#;

fn client(case: &str, port: u16, more: &[&str]) -> Option<Command> {
    let mut command = without_proxies(Command::new(program("grpc-interop-client")?));
    command.args(["-server_host", "127.0.0.1", "-server_port", &port.to_string(), "-test_case", case]).args(more);
    if case == "orca_per_rpc" {
        command.args(["-service_config_json", REPORTS]);
    }
    Some(command)
}

fn server(more: &[&str]) -> Option<ScriptServer> {
    let mut command = Command::new(program("grpc-interop-server")?);
    command.args(more);
    Some(ScriptServer::run(command))
}

/// Runs all cases at once: each is a process of its own with a connection of its own.
fn run_cases(port: u16, more: &[&str]) {
    thread::scope(|scope| {
        let running = CASES.map(|case| {
            scope.spawn(move || {
                let output = client(case, port, more)?.output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                (!output.status.success()).then(|| format!("{case}: {}\n{said}", output.status))
            })
        });
        let failed: Vec<String> = running.into_iter().filter_map(|case| case.join().unwrap()).collect();
        assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), CASES.len(), failed.join("\n"));
    });
}

/// No call may be left behind by its client, not even those that were cancelled.
fn nothing_is_left(gateway: &Running) {
    gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 0.0);
    gateway.wait_for_metric("meshless_requests_in_flight", &[], 0.0);
}

#[test]
fn the_interop_client_is_content_with_its_own_server() {
    let Some(server) = server(&[]) else { return };
    run_cases(server.port(), &[]);
}

#[test]
fn every_grpc_interop_case_passes_in_clear() {
    let Some(server) = server(&[]) else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[services.interop]\nfrom = \"static/127.0.0.1:{}\"\n\
         [[routes]]\nto = \"interop\"\n",
        server.port()
    ))
    .workers(2)
    .start();
    run_cases(gateway.address("edge").port(), &[]);
    nothing_is_left(&gateway);
}

#[test]
fn every_grpc_interop_case_passes_with_tls_on_both_sides() {
    let folder = certificates();
    let (cert, key) = (at(&folder, "cert.pem"), at(&folder, "key.pem"));
    let Some(server) = server(&["-cert", &cert, "-key", &key]) else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         tls = {{ mode = \"server\", cert = \"{cert}\", key = \"{key}\" }}\n\
         [services.interop]\nfrom = \"static/127.0.0.1:{}\"\ntls = {{ ca = \"{cert}\", server_name = \"interop.test\" }}\n\
         [[routes]]\nto = \"interop\"\n",
        server.port()
    ))
    .workers(2)
    .start();
    let tls = ["-use_tls", "-use_test_ca", "-ca_file", &cert, "-server_host_override", "interop.test"];
    run_cases(gateway.address("edge").port(), &tls);
    nothing_is_left(&gateway);
}

#[test]
fn the_interop_cases_can_fail() {
    let Some(server) = server(&[]) else { return };
    // Nothing answers 404 with gRPC's status as a gateway without a route: each case but those that want it must fail.
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[[routes]]\nmatch = {{ host = \"other.test\" }}\n\
         to = \"static/127.0.0.1:{}\"\n",
        server.port()
    ))
    .start();
    let output = client("empty_unary", gateway.address("edge").port(), &[]).unwrap().output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    run(client("empty_unary", server.port(), &[]).unwrap(), b"");
}

fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_certificate(folder.path(), &["interop.test"]);
    folder
}

fn at(folder: &TempDir, name: &str) -> String {
    Path::new(folder.path()).join(name).display().to_string()
}
