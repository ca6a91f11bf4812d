//! sslyze looks at a strict listener as it would at a server on the Internet.

use std::process::Command;

use serde_json::Value;

use super::{inbound, two};
use crate::plain::origin;
use crate::real_programs::program;

#[test]
fn sslyze_finds_nothing_at_a_strict_listener() {
    let Some(python) = program("python3") else { return };
    let (two, origin) = (two(), origin("one"));
    let gateway = inbound(&two.web, "strict", origin.address, "");
    let old = ["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2"];
    let more = ["--tlsv1_3", "--heartbleed", "--robot", "--reneg", "--compression", "--openssl_ccs"];
    let mut command = Command::new(python);
    command.args(["-m", "sslyze", "--mozilla_config", "disable", "--json_out=-"]).args(old).args(more);
    let output = command.arg(gateway.address("in").to_string()).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let scan = &told["server_scan_results"][0];
    assert_eq!(scan["scan_status"], "COMPLETED", "{scan}");
    let result = |name: &str| &scan["scan_result"][name]["result"];
    for version in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2"] {
        let suites = result(&format!("{version}_cipher_suites"));
        assert_eq!(suites["is_tls_version_supported"], false, "{version}: {suites}");
    }
    assert_eq!(result("tls_1_3_cipher_suites")["accepted_cipher_suites"].as_array().map(Vec::len), Some(3));
    assert_eq!(result("tls_compression")["supports_compression"], false);
    assert_eq!(result("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"], false);
    assert_eq!(result("heartbleed")["is_vulnerable_to_heartbleed"], false);
    assert_eq!(result("robot")["robot_result"], "NOT_VULNERABLE_RSA_NOT_SUPPORTED");
    assert_eq!(result("session_renegotiation")["is_vulnerable_to_client_renegotiation_dos"], false);
}
