//! Autobahn's WebSocket cases: what the gateway carries must be judged as without it.

use super::{ScriptServer, run_client};
use crate::gateway;

/// The verdicts that count as passed, as Autobahn has it.
const PASSED: [&str; 3] = ["OK", "NON-STRICT", "INFORMATIONAL"];

#[test]
fn autobahn_judges_a_server_behind_the_gateway_as_it_judges_the_server() {
    let Some(server) = ScriptServer::start("autobahn.py") else { return };
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[services.echo]\nfrom = \"static/127.0.0.1:{}\"\n\
         [[routes]]\nto = \"echo\"\n",
        server.port()
    ))
    .start();
    let alone = run_client("autobahn.py", server.port());
    let behind = run_client("autobahn.py", gateway.address("edge").port());

    let verdicts: Vec<&str> = alone.lines().collect();
    assert!(verdicts.len() > 300, "{} cases: {alone}", verdicts.len());
    let passed = verdicts.iter().filter(|line| line.split(' ').skip(1).all(|verdict| PASSED.contains(&verdict)));
    assert!(passed.count() > 300, "the server is of no use as a measure:\n{alone}");
    let changed: Vec<String> = verdicts
        .iter()
        .zip(behind.lines())
        .filter(|(alone, behind)| !same(alone, behind))
        .map(|(alone, behind)| format!("{alone} became {behind}"))
        .collect();
    assert!(changed.is_empty() && verdicts.len() == behind.lines().count(), "{changed:#?}");

    // Each case closes its connection, most of them in a way of its own: none may be left on either side.
    gateway.wait_for_metric("tcp_open_connections", &[], 0.0);
    let upgraded = gateway.count("response_total", &["status_code=\"101\""]);
    assert!(upgraded >= verdicts.len() as u64, "{upgraded} of {} connections were upgraded", verdicts.len());
}

/// Two lines say the same of a case, but that one good verdict is as good as another: whether a client still gets the echo
/// of a good message before the server fails the connection for a bad one behind it is a race that nobody promises to win.
fn same(alone: &str, behind: &str) -> bool {
    let good = |line: &str| line.split(' ').skip(1).all(|verdict| PASSED.contains(&verdict));
    alone == behind || alone.split(' ').next() == behind.split(' ').next() && good(alone) && good(behind)
}
