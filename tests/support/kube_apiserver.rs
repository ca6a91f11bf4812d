//! A real Kubernetes API server with its etcd, on ports of 127.0.0.1.
//!
//! What is real: the server, its storage, its versions, its watches, its accounts and their permissions (RBAC), and TLS.
//! What is not there: controllers, a kubelet, pods. A test writes the objects that those would write.
//!
//! Both programs end with the process that started them, however that ends: each is a child of a shell that kills it
//! when its own input ends.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, OnceLock};

use rcgen::KeyPair;
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::authority::{self, Authority};
use crate::plain::{Reply, try_client, wait_until};
use crate::real_programs::program;

/// The token of somebody who may do everything; of this server only.
pub(crate) const ADMIN: &str = "admin-token";

/// A server and its etcd; both end with this.
pub(crate) struct ApiServer {
    server: Option<Guarded>,
    etcd: Guarded,
    /// Where the server listens.
    pub(crate) address: SocketAddr,
    storage: SocketAddr,
    authority: Authority,
    client: Arc<ClientConfig>,
    folder: TempDir,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ApiServer").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Returns one for all tests that break nothing; each has a namespace of its own. `None` where it is not built.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<ApiServer>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    /// Starts one, if it is there.
    pub(crate) fn start() -> Option<Self> {
        let (etcd, kube_apiserver) = (program("etcd")?, program("kube-apiserver")?);
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            // Held together, so that they differ.
            let held: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let ports: Vec<SocketAddr> = held.iter().map(|listener| listener.local_addr().unwrap()).collect();
            drop(held);
            let Some(started) = Self::start_on(&etcd, &kube_apiserver, folder, &ports) else { continue };
            return Some(started);
        }
        panic!("the API server does not start");
    }

    /// Returns `None` where somebody else was faster to have a port.
    fn start_on(etcd: &Path, kube_apiserver: &Path, folder: TempDir, ports: &[SocketAddr]) -> Option<Self> {
        let authority = Authority::new("Kubernetes of a test");
        write_files(&authority, folder.path());
        let (storage, peer) = (ports[0], ports[1]);
        let mut command = Command::new(etcd);
        command.args(["--data-dir", "etcd", "--initial-cluster", &format!("default=http://{peer}")]);
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([flag, &format!("http://{storage}")]);
        }
        for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.args([flag, &format!("http://{peer}")]);
        }
        let etcd = Guarded::spawn(&command, folder.path(), "etcd.log");
        let client = authority.client(&["http/1.1"], None);
        let mut started = Self { server: None, etcd, address: ports[2], storage, authority, client, folder };
        let mut is_well = false;
        wait_until("etcd is well", || {
            is_well = started.ask_etcd("GET", "/health", "").is_some_and(|reply| reply.body.contains("true"));
            is_well || started.etcd.has_ended()
        });
        if !is_well {
            eprintln!("etcd ended: {}", started.log("etcd.log"));
            return None;
        }
        started.serve(kube_apiserver).then_some(started)
    }

    /// Starts the server and waits until it is ready; `false` if it ended.
    fn serve(&mut self, kube_apiserver: &Path) -> bool {
        let mut command = Command::new(kube_apiserver);
        let port = self.address.port().to_string();
        command.arg(format!("--etcd-servers=http://{}", self.storage)).arg(format!("--secure-port={port}")).args([
            "--bind-address=127.0.0.1",
            // It publishes itself as a Service and refuses to do so with an address of loopback.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            "--tls-cert-file=server.pem",
            "--tls-private-key-file=server.key",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=RBAC",
            "--anonymous-auth=false",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=account.pub",
            "--service-account-signing-key-file=account.key",
            "--service-cluster-ip-range=10.0.0.0/16",
            // Its controller is not there, which would give each namespace an account and a token.
            "--disable-admission-plugins=ServiceAccount",
        ]);
        self.server = Some(Guarded::spawn(&command, self.folder.path(), "server.log"));
        let mut is_ready = false;
        wait_until("the API server is ready", || {
            is_ready = self.try_ask(ADMIN, "GET", "/readyz", "", "").is_some_and(|reply| reply.status == 200);
            is_ready || self.server.as_mut().is_none_or(Guarded::has_ended)
        });
        if !is_ready {
            eprintln!("the API server ended: {}", self.log("server.log"));
        }
        is_ready
    }

    /// Kills the server; what it keeps in etcd stays.
    pub(crate) fn end(&mut self) {
        self.server = None;
    }

    /// Starts the server again, on its port.
    pub(crate) fn restart(&mut self) {
        self.end();
        let kube_apiserver = program("kube-apiserver").unwrap();
        assert!((0..10).any(|_| self.serve(&kube_apiserver)), "the API server does not start again");
    }

    /// Makes etcd forget every version up to now.
    pub(crate) fn compact(&self) {
        // Something else in the cluster always happens: what was known a moment ago is not the last version then.
        let (_, _, version) = self.apply("v1", "ConfigMap", "default", "tick", &json!({ "data": { "a": unique() } }));
        let body = json!({ "revision": version, "physical": true }).to_string();
        let reply = self.ask_etcd("POST", "/v3/kv/compaction", &body).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// Creates a namespace.
    pub(crate) fn namespace(&self, name: &str) {
        self.apply("v1", "Namespace", "", name, &json!({}));
    }

    /// Creates or replaces an object, given without kind and metadata but labels; returns it, its path and its version.
    pub(crate) fn apply(
        &self,
        version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        object: &Value,
    ) -> (Value, String, String) {
        let mut object = object.clone();
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(name);
        let path = path(version, kind, namespace, name);
        let patch = format!("{path}?fieldManager=test&force=true");
        let reply = self.ask(ADMIN, "PATCH", &patch, "application/apply-patch+yaml", &object.to_string());
        assert!(matches!(reply.status, 200 | 201), "{path}: {}", reply.body);
        let object: Value = serde_json::from_str(&reply.body).unwrap();
        let version = object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        (object, path, version)
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, version: &str, kind: &str, namespace: &str, name: &str) {
        let reply = self.ask(ADMIN, "DELETE", &path(version, kind, namespace, name), "", "");
        assert_eq!(reply.status, 200, "{}", reply.body);
    }

    /// Makes an account of a namespace, as pods have one, and returns a token for it that holds for an hour.
    pub(crate) fn account(&self, namespace: &str, name: &str) -> String {
        let (_, path, _) = self.apply("v1", "ServiceAccount", namespace, name, &json!({}));
        let body = json!({ "spec": { "expirationSeconds": 3600 } }).to_string();
        let reply = self.ask(ADMIN, "POST", &format!("{path}/token"), "application/json", &body);
        assert_eq!(reply.status, 201, "{}", reply.body);
        let answer: Value = serde_json::from_str(&reply.body).unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Permits what `docs/discovery-kubernetes.md` says that the gateway needs, and more rules, to an account.
    pub(crate) fn permit(&self, namespace: &str, account: &str, more: &[Value]) {
        let mut rules = vec![
            json!({ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] }),
            json!({ "apiGroups": [""], "resources": ["services"], "verbs": ["get"] }),
        ];
        rules.extend(more.iter().cloned());
        let group = "rbac.authorization.k8s.io";
        let version = format!("{group}/v1");
        self.apply(&version, "Role", namespace, "meshless", &json!({ "rules": rules }));
        let binding = json!({
            "roleRef": { "apiGroup": group, "kind": "Role", "name": "meshless" },
            "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": namespace }],
        });
        self.apply(&version, "RoleBinding", namespace, "meshless", &binding);
    }

    /// Writes a kubeconfig of one context, whose user has this token.
    pub(crate) fn write_kubeconfig(&self, path: &Path, token: &str) {
        let authority = self.folder.path().join("authority.pem");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: real\n\
             clusters:\n- name: real\n  cluster: {{ server: \"https://{}\", certificate-authority: {} }}\n\
             users:\n- name: real\n  user: {{ token: {token} }}\n\
             contexts:\n- name: real\n  context: {{ cluster: real, user: real }}\n",
            self.address,
            authority.display()
        );
        // Whole or not at all: it is read while it is replaced.
        let next = path.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(&next, path).unwrap();
    }

    /// Writes what the kubelet puts into each pod: token, authority and namespace. Returns the folder.
    pub(crate) fn write_account(&self, folder: &Path, token: &str, namespace: &str) -> PathBuf {
        std::fs::write(folder.join("token"), token).unwrap();
        std::fs::write(folder.join("ca.crt"), &self.authority.pem).unwrap();
        std::fs::write(folder.join("namespace"), namespace).unwrap();
        folder.to_owned()
    }

    /// Asks the server.
    pub(crate) fn ask(&self, token: &str, method: &str, path: &str, kind: &str, body: &str) -> Reply {
        self.try_ask(token, method, path, kind, body).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    fn try_ask(&self, token: &str, method: &str, path: &str, kind: &str, body: &str) -> Option<Reply> {
        let mut client = authority::connect(self.address, "127.0.0.1", &self.client).ok()?;
        client
            .send(&format!(
                "{method} {path} HTTP/1.1\r\nhost: kubernetes\r\nauthorization: Bearer {token}\r\n\
                 content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ))
            .ok()?;
        client.reply().ok()
    }

    fn ask_etcd(&self, method: &str, path: &str, body: &str) -> Option<Reply> {
        let mut client = try_client(self.storage).ok()?;
        let length = body.len();
        client
            .send(&format!("{method} {path} HTTP/1.1\r\nhost: etcd\r\ncontent-length: {length}\r\n\r\n{body}"))
            .ok()?;
        client.reply().ok()
    }

    fn log(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// What the server is given: its certificate, the keys that it signs tokens of accounts with, and who may do everything.
fn write_files(authority: &Authority, folder: &Path) {
    authority.write(folder, "authority.pem");
    authority.issue(&["127.0.0.1"]).write(folder, "server");
    let account = KeyPair::generate().unwrap();
    std::fs::write(folder.join("account.key"), account.serialize_pem()).unwrap();
    std::fs::write(folder.join("account.pub"), account.public_key_pem()).unwrap();
    std::fs::write(folder.join("tokens.csv"), format!("{ADMIN},admin,1,\"system:masters\"\n")).unwrap();
}

/// Returns the path of an object: `/api/v1/namespaces/shop/services/web`.
pub(crate) fn path(version: &str, kind: &str, namespace: &str, name: &str) -> String {
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let resource = format!("{}s", kind.to_lowercase());
    let within = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    let name = if name.is_empty() { String::new() } else { format!("/{name}") };
    format!("{root}{within}/{resource}{name}")
}

/// Returns a text that was not there before.
fn unique() -> String {
    fastrand::u64(..).to_string()
}

/// A program that ends with this, and with this process.
#[derive(Debug)]
struct Guarded {
    shell: Child,
    /// The shell reads it, and kills the program at its end.
    input: Option<ChildStdin>,
}

impl Guarded {
    fn spawn(command: &Command, folder: &Path, log: &str) -> Self {
        let log = File::options().create(true).append(true).open(folder.join(log)).unwrap();
        // The shell ends with the program too, so that one can see it: a reader of its own waits for the end of input.
        let script = "\"$@\" </dev/null & program=$!\n\
                      exec 3<&0; { read -r _ <&3; kill -9 $program; } 2>/dev/null & reader=$!\n\
                      wait $program; kill -9 $reader 2>/dev/null";
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script, "guard"]).arg(command.get_program()).args(command.get_args()).current_dir(folder);
        shell.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut shell = shell.spawn().unwrap();
        let input = shell.stdin.take();
        Self { shell, input }
    }

    fn has_ended(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_some()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.shell.wait();
    }
}
