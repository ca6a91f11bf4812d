//! Identities that an authority issues: `meshless ca serve` as a process, gateways that ask it, and what happens while it
//! rotates, is away, and comes back.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::gateway::{self, Running};
use crate::plain::{Origin, client, get, load, origin, wait_until};

/// An authority in a directory of its own; the process that serves it may come and go.
struct Authority {
    directory: TempDir,
    listen: SocketAddr,
    pin: String,
    serving: Option<Child>,
}

impl Authority {
    /// Makes one and serves it.
    fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut authority =
            Self { directory, listen: "127.0.0.1:0".parse().unwrap(), pin: String::new(), serving: None };
        let told = authority.ca(&["init", "--trust-domain", "example.org"]);
        told.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap().clone_into(&mut authority.pin);
        authority.serve(more);
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a command of an operator: on the directory, or at the socket of who serves it.
    fn ca(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
        command.arg("ca").args(arguments).arg("--dir").arg(self.path("ca")).env_clear();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Serves it where it was served before, if it was.
    fn serve(&mut self, more: &str) {
        let file = self.path("ca.toml");
        let text = format!(
            "[admin]\nlisten = \"unix:{}\"\n[ca]\nlisten = \"{}\"\nstate_dir = \"{}\"\n{more}\n",
            self.path("admin.sock").display(),
            self.listen,
            self.path("ca").display()
        );
        fs::write(&file, text).unwrap();
        let log = File::create(self.path("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
        command.args(["ca", "serve", "-c"]).arg(&file).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        self.serving = Some(command.stderr(log).spawn().unwrap());
        let mut listen = None;
        wait_until("the authority listens", || {
            let log = fs::read_to_string(self.path("log")).unwrap();
            let started = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut started = started.filter(|line| line["fields"]["message"] == "Started.");
            listen = started.next().and_then(|line| line["fields"]["address"].as_str()?.parse().ok());
            listen.is_some()
        });
        self.listen = listen.unwrap();
    }

    fn kill(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.kill().unwrap();
            serving.wait().unwrap();
        }
    }

    /// Writes a token for a service into a file, and returns `[node]` and `[identity]` of who has it.
    fn member(&self, service: &str) -> String {
        let token = self.path(&format!("{service}.token"));
        fs::write(&token, self.ca(&["token", "create", "--id", &format!("/svc/{service}")])).unwrap();
        let state = self.path(&format!("{service}.state"));
        fs::create_dir_all(&state).unwrap();
        format!(
            "[node]\nservice = \"{service}\"\nstate_dir = \"{}\"\n[identity]\ntrust_domain = \"example.org\"\n\
             authority = \"https://{}\"\nauthority_pin = \"{}\"\nattest = \"join-token\"\ntoken_file = \"{}\"\n\
             [shutdown]\ndrain = \"2s\"\n",
            state.display(),
            self.listen,
            self.pin,
            token.display()
        )
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A sidecar beside a client and one beside an application, each with an identity that was issued.
struct Pair {
    outbound: Running,
    inbound: Running,
    _origin: Origin,
}

fn pair(authority: &Authority) -> Pair {
    let origin = origin("one");
    let inbound = gateway::with(&format!(
        "{}[[listeners]]\nname = \"in\"\nlisten = \"127.0.0.1:0\"\ntls = {{ mode = \"strict\" }}\nto = \"static/{}\"\n\
         allow = [{{ from = \"spiffe://example.org/svc/edge\" }}]\n",
        authority.member("web"),
        origin.address
    ))
    .start();
    let outbound = gateway::with(&format!(
        "{}[[listeners]]\nname = \"out\"\nlisten = \"127.0.0.1:0\"\nto = \"web\"\n\
         [services.web]\nfrom = \"static/{}\"\ntls = \"mesh\"\n",
        authority.member("edge"),
        inbound.address("in")
    ))
    .start();
    Pair { outbound, inbound, _origin: origin }
}

fn identity(gateway: &Running) -> Value {
    serde_json::from_str(&gateway.admin("/identity").1).unwrap()
}

#[test]
fn two_sidecars_get_their_identities_by_join_tokens_and_speak() {
    let authority = Authority::start("");
    let pair = pair(&authority);
    let reply = get(pair.outbound.address("out"), "web", "/dump");
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert!(reply.body.contains("URI=spiffe://example.org/svc/edge"), "{}", reply.body);
    assert_eq!(identity(&pair.inbound)["id"], "spiffe://example.org/svc/web");
    let tokens = authority.ca(&["token", "list"]);
    assert_eq!(tokens.matches("  used ").count(), 2, "{tokens}");
    assert!(authority.ca(&["audit", "verify"]).starts_with("ok: "));
    let status: Value = serde_json::from_str(&authority.ca(&["status", "--json"])).unwrap();
    assert_eq!(status["sequence"], 1);
}

#[test]
fn leaves_intermediates_and_the_root_are_replaced_under_load_and_no_request_fails() {
    // Leaves of seconds: everything that takes days happens within half a minute.
    let authority = Authority::start("leaf_ttl = \"6s\"\nintermediate_ttl = \"1h\"\nlimits = { per_identity = 1000 }");
    let pair = pair(&authority);
    let address = pair.outbound.address("out");
    let load = load(3, "/", false, move || Ok(client(address)));
    load.wait_for(100);
    authority.ca(&["rotate", "intermediate", "--now"]);
    load.wait_for(100);
    authority.ca(&["rotate", "root"]);
    let has_roots = |count: usize| {
        [&pair.outbound, &pair.inbound]
            .iter()
            .all(|gateway| identity(gateway)["roots"].as_array().is_some_and(|roots| roots.len() == count))
    };
    wait_until("both trust both roots", || has_roots(2));
    let old = identity(&pair.inbound)["roots"][0]["sha256"].clone();
    wait_until("both trust the new root alone", || {
        has_roots(1) && identity(&pair.inbound)["roots"][0]["sha256"] != old
    });
    load.wait_for(200);
    let tally = load.stop();
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(pair.outbound.count("identity_cert_refresh_count", &[]) >= 4);
    assert!(authority.ca(&["audit", "verify"]).starts_with("ok: "));
}

#[test]
fn while_the_authority_is_away_traffic_goes_on_and_a_restart_keeps_the_identity() {
    let mut authority =
        Authority::start("leaf_ttl = \"8s\"\nintermediate_ttl = \"1h\"\nlimits = { per_identity = 1000 }");
    let pair = pair(&authority);
    let address = pair.outbound.address("out");
    assert_eq!(get(address, "web", "/").status, 200);
    authority.kill();
    pair.outbound.wait_until("it is told that renewal fails", |gateway| identity(gateway)["last_error"].is_string());
    assert_eq!(get(address, "web", "/").status, 200, "the identity is there until it expires");
    assert!(pair.outbound.count("meshless_identity_refresh_failures_total", &["reason=\"unreachable\""]) > 0);
    authority.serve("leaf_ttl = \"8s\"\nintermediate_ttl = \"1h\"\nlimits = { per_identity = 1000 }");
    let before = identity(&pair.outbound)["serial"].clone();
    pair.outbound.wait_until("it heals by itself", |gateway| {
        let now = identity(gateway);
        now["last_error"].is_null() && now["serial"] != before
    });
    assert_eq!(get(address, "web", "/").status, 200);
}

#[test]
fn an_identity_that_expired_sends_nothing_and_another_token_heals() {
    let mut authority =
        Authority::start("leaf_ttl = \"5s\"\nintermediate_ttl = \"1h\"\nlimits = { per_identity = 1000 }");
    let pair = pair(&authority);
    let address = pair.outbound.address("out");
    assert_eq!(get(address, "web", "/").status, 200);
    authority.kill();
    pair.outbound.wait_until("it has expired", |gateway| identity(gateway)["left_seconds"] == 0.0);
    let reply = get(address, "web", "/");
    assert_eq!((reply.status, reply.header("meshless-error")), (503, Some("connect_failed")));
    assert!(reply.body.contains("identity has expired"), "{}", reply.body);
    assert_eq!(pair.outbound.count("meshless_ejection_total", &[]), 0, "no endpoint is to blame");
    authority.serve("leaf_ttl = \"1h\"\nlimits = { per_identity = 1000 }");
    // A token is for one use: who slept through the life of its leaf needs another one.
    for service in ["edge", "web"] {
        authority.member(service);
    }
    pair.outbound.wait_until("it has an identity again", |_| get(address, "web", "/").status == 200);
}

#[test]
fn the_identity_is_written_for_other_programs_and_kept_fresh() {
    let authority = Authority::start("leaf_ttl = \"6s\"\nintermediate_ttl = \"1h\"\nlimits = { per_identity = 1000 }");
    let file = authority.path("app.toml");
    let listener = "[[listeners]]\nlisten = \"127.0.0.1:0\"\nto = \"static/127.0.0.1:1\"\n";
    fs::write(&file, authority.member("app") + listener).unwrap();
    let (directory, told) = (authority.path("app-tls"), authority.path("told"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.args(["identity", "write"]).arg(&directory).arg("-c").arg(&file);
    command.arg("--reload").arg(format!("echo again >> {}", told.display())).env_clear();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    wait_until("it is written", || !read("chain.pem").is_empty());
    let first = read("chain.pem");
    assert!(openssl_verifies(&directory), "{first}");
    wait_until("it is renewed, and the program told", || {
        read("chain.pem") != first && fs::read_to_string(&told).is_ok_and(|told| told.starts_with("again\n"))
    });
    assert!(openssl_verifies(&directory));
    child.kill().unwrap();
    child.wait().unwrap();
    let once = Command::new(env!("CARGO_BIN_EXE_meshless"))
        .args(["identity", "write", "--once"])
        .arg(authority.path("once"))
        .arg("-c")
        .arg(&file)
        .env_clear()
        .output()
        .unwrap();
    assert!(once.status.success(), "{}", String::from_utf8_lossy(&once.stderr));
    assert!(String::from_utf8_lossy(&once.stdout).starts_with("spiffe://example.org/svc/app is in "));
}

/// Asks OpenSSL whether the chain leads to the bundle and the key is the leaf's.
fn openssl_verifies(directory: &Path) -> bool {
    let chain = directory.join("chain.pem");
    let verified = Command::new("openssl")
        .args(["verify", "-x509_strict", "-CAfile"])
        .arg(directory.join("bundle.pem"))
        .arg("-untrusted")
        .arg(&chain)
        .arg(&chain)
        .output()
        .unwrap();
    let public = |arguments: &[&str], file: &Path| {
        Command::new("openssl").args(arguments).arg("-in").arg(file).output().unwrap().stdout
    };
    let (of_leaf, of_key) =
        (public(&["x509", "-pubkey", "-noout"], &chain), public(&["pkey", "-pubout"], &directory.join("key.pem")));
    verified.status.success() && !of_leaf.is_empty() && of_leaf == of_key
}
