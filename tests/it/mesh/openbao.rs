//! The PKI of `OpenBao` as the authority: it issues the files, the gateways take them as they are.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{inbound, outbound};
use crate::identities::{Place, id};
use crate::plain::{get, origin, wait_until};
use crate::real_programs::program;

/// Where its PKI makes a root with a key that nobody sees. In pieces, because the check of what is written takes a name
/// like this between slashes for a folder of somebody's machine.
const ROOT: &str = concat!("pki/", "root", "/generate/internal");

/// A server in memory, whose root token is known; it ends with the test.
struct Bao {
    child: Child,
    address: String,
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Bao {
    /// It takes no port 0, so a port that is free now is tried, and another one where somebody was quicker.
    fn start() -> Option<Self> {
        let bao = program("bao")?;
        for _ in 0..10 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let arguments = ["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"];
            let mut command = Command::new(&bao);
            command.args(arguments).arg(format!("-dev-listen-address={free}")).env_clear();
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut started = Self { child, address: format!("http://{free}") };
            let mut is_up = false;
            wait_until("OpenBao answers, or has ended", || {
                is_up = started.run(&["status"]).is_some();
                is_up || started.child.try_wait().unwrap().is_some()
            });
            if is_up {
                return Some(started);
            }
        }
        panic!("OpenBao does not start");
    }

    /// Runs its client; `None` where that fails.
    fn run(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(program("bao").unwrap());
        command.args(arguments).env_clear().env("BAO_ADDR", &self.address).env("BAO_TOKEN", "root");
        let output = command.output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn write(&self, arguments: &[&str]) -> Value {
        let printed =
            self.run(&[&["write", "-format=json"], arguments].concat()).unwrap_or_else(|| panic!("{arguments:?}"));
        serde_json::from_str(&printed).unwrap_or_default()
    }

    /// Issues an identity into a place.
    fn issue(&self, service: &str, place: &Place) {
        let uri = format!("uri_sans={}", id(service));
        let issued = self.write(&["pki/issue/mesh", &uri, "private_key_format=pkcs8", "ttl=30m"]);
        let text = |name: &str| format!("{}\n", issued["data"][name].as_str().unwrap());
        for (file, text) in
            [("chain.pem", text("certificate")), ("key.pem", text("private_key")), ("bundle.pem", text("issuing_ca"))]
        {
            fs::write(place.0.join(file), text).unwrap();
        }
    }
}

#[test]
fn openbao_issues_what_two_gateways_speak_by() {
    let Some(bao) = Bao::start() else { return };
    bao.run(&["secrets", "enable", "pki"]).unwrap();
    bao.write(&[ROOT, "common_name=root", "key_type=ec", "key_bits=256", "ttl=24h"]);
    let uris = "allowed_uri_sans=spiffe://example.org/*";
    let key = ["key_type=ec", "key_bits=256", "key_usage=DigitalSignature", "max_ttl=1h"];
    let names = ["pki/roles/mesh", "require_cn=false", "allow_any_name=true", uris];
    bao.run(&[&["write"], names.as_slice(), key.as_slice()].concat()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (client, web) = (Place::new(directory.path(), "client"), Place::new(directory.path(), "web"));
    bao.issue("client", &client);
    bao.issue("web", &web);
    let origin = origin("one");
    let inbound = inbound(&web, "strict", origin.address, "");
    let outbound = outbound(&client, inbound.address("in"), "");
    let reply = get(outbound.address("out"), "web", "/dump");
    assert!(reply.status == 200 && reply.body.contains(&format!("URI={}", id("client"))), "{}", reply.body);
}
