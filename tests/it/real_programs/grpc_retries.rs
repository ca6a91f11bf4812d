//! What a gateway tries again of gRPC, seen by a service and a client of grpcio.

use super::{ScriptServer, run_client};
use crate::gateway;

#[test]
fn grpc_is_tried_again_as_the_service_says_it() {
    let Some(server) = ScriptServer::start("grpc_retry.py") else { return };
    // Each call fails on purpose, most of them on the only endpoint: it must not be ejected for it.
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.flaky]\nfrom = \"static/127.0.0.1:{}\"\nclassify = {{ failure = [] }}\n[[routes]]\nto = \"flaky\"\n",
        server.port()
    ))
    .start();
    run_client("grpc_retry.py", gateway.address("edge").port());
    assert!(gateway.count("meshless_retry_total", &[]) >= 5);
}
