//! The client against sockets that a test holds: clear text, TLS, a Unix socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use meshless_certs::{Anchors, KeyFiles};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::ConsulAddress;

const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-consul-index: 7\r\n\r\n[]";

/// Reads one request and answers it; returns what was read.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, reply: &str) -> String {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = stream.read(&mut piece).await.unwrap_or(0);
        read.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&read).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.len());
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
        if count == 0 || body.is_some_and(|body| body >= length.unwrap_or(0)) {
            let _ = stream.write_all(reply.as_bytes()).await;
            let _ = stream.shutdown().await;
            return text;
        }
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn config(address: &str) -> ConsulConfig {
    ConsulConfig { address: address.parse().unwrap(), ..ConsulConfig::default() }
}

fn ask() -> Ask {
    Ask::new("health/service", "service:read on `web`").below("web")
}

/// Asks once, of a server that answers so; returns what it read and what came of it.
async fn exchange(reply: &str, change: impl FnOnce(&mut ConsulConfig)) -> (String, Result<Reply, Error>) {
    let (listener, port) = listener().await;
    let mut config = config(&format!("http://127.0.0.1:{port}/prefix"));
    change(&mut config);
    let client = Client::new(&config);
    let served = async { answer(listener.accept().await.unwrap().0, reply).await };
    both(served, client.get(ask().with("dc", "a b&c").flag("stale"))).await
}

/// Runs both sides, with a limit: a client that fails before it connects leaves its server waiting.
async fn both<A, B>(served: impl Future<Output = A>, asked: impl Future<Output = B>) -> (A, B) {
    timeout(PATIENCE, async { tokio::join!(served, asked) }).await.expect("both sides end")
}

#[tokio::test]
async fn what_is_asked_is_written_so_that_no_name_can_change_the_request() {
    let (request, reply) = exchange(GOOD, |config| config.token = Some("secret".to_owned())).await;
    assert!(request.starts_with("GET /prefix/v1/health/service/web?dc=a%20b%26c&stale HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-consul-token: secret\r\n"), "{request}");
    assert_eq!(reply.unwrap().index, Some(7));
    let odd = Ask::new("agent/service", "x").below("../a?b/é");
    assert_eq!(odd.path, "/v1/agent/service/..%2Fa%3Fb%2F%C3%A9");
}

#[tokio::test]
async fn what_the_headers_say_is_told() {
    let reply = "HTTP/1.1 200 OK\r\nX-Consul-Results-Filtered-By-ACLs: true\r\nX-Consul-KnownLeader: false\r\n\
                 X-Consul-LastContact: 1500\r\nAge: 9\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 4\r\n\r\n[1]\n";
    let reply = exchange(reply, |_| {}).await.1.unwrap();
    assert!(reply.is_filtered && reply.knows_leader == Some(false) && reply.index.is_none());
    assert_eq!(reply.last_contact, Some(Duration::from_millis(1500)));
    assert_eq!(reply.age, Some(Duration::from_secs(9)));
    assert_eq!(reply.date.as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(reply.json::<Vec<u8>>(), Ok(vec![1]));
    assert!(matches!(reply.json::<String>(), Err(Error::Malformed(text)) if text.starts_with("GET /v1/health")));
}

#[tokio::test]
async fn a_write_sends_its_json() {
    let (listener, port) = listener().await;
    let client = Client::new(&config(&format!("http://127.0.0.1:{port}")));
    let body = serde_json::json!({ "Name": "web" });
    let ask = Ask::new("agent/service/register", "service:write on `web`");
    let served = async { answer(listener.accept().await.unwrap().0, GOOD).await };
    let (request, reply) = both(served, client.put(ask, Some(&body))).await;
    assert!(request.starts_with("PUT /v1/agent/service/register HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"Name\":\"web\"}"), "{request}");
    assert!(reply.is_ok());
    assert_eq!(client.calls().totals()["agent/service/register"], 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let reply = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let error = exchange(reply, |config| config.token = Some("secret".to_owned())).await.1.unwrap_err();
    assert!(matches!(&error, Error::Malformed(text) if text.contains("307")), "{error}");
}

#[tokio::test]
async fn an_answer_that_ends_early_is_unreachable_and_one_that_never_ends_is_bounded() {
    let short = exchange("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n[]", |_| {}).await.1.unwrap_err();
    assert!(matches!(short, Error::Unreachable(_)), "{short}");
    let nothing = exchange("", |_| {}).await.1.unwrap_err();
    assert!(matches!(nothing, Error::Unreachable(_)), "{nothing}");
    let (listener, port) = listener().await;
    let client = Client::new(&config(&format!("http://127.0.0.1:{port}")));
    let silent = client.get(ask().within(Duration::from_millis(50))).await.unwrap_err();
    assert!(silent.to_string().contains("no whole answer within 0.05 s"), "{silent}");
    drop(listener);
    let refused = client.get(ask()).await.unwrap_err();
    assert!(matches!(&refused, Error::Unreachable(text) if text.contains("refused")), "{refused}");
}

#[tokio::test]
async fn an_agent_on_a_unix_socket_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("consul.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client = Client::new(&ConsulConfig { address: ConsulAddress::Unix(path), ..ConsulConfig::default() });
    let served = async { answer(listener.accept().await.unwrap().0, GOOD).await };
    let (request, reply) = both(served, client.get(ask())).await;
    assert!(request.starts_with("GET /v1/health/service/web HTTP/1.1\r\n"), "{request}");
    assert!(reply.unwrap().at().contains("unix:"));
}

/// An authority for tests, and files that it signed.
struct Authority {
    folder: TempDir,
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::CertifiedIssuer::self_signed(parameters, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn sign(&self, name: &str) -> KeyFiles {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let signed = parameters.signed_by(&key, &self.issuer).unwrap();
        let write = |end: &str, text: String| {
            let path = self.folder.path().join(format!("{name}.{end}"));
            std::fs::write(&path, text).unwrap();
            path
        };
        KeyFiles { cert: write("pem", signed.pem()), key: write("key", key.serialize_pem()) }
    }
}

/// Asks once over TLS; the server wants certificates of `client_ca`, if any.
async fn exchange_by_tls(
    files: KeyFiles,
    client_ca: Option<&Path>,
    change: impl FnOnce(&mut ConsulConfig),
) -> Result<Reply, Error> {
    let (listener, port) = listener().await;
    let anchors = client_ca.map(|path| Anchors::File(path.to_owned()));
    let server = meshless_certs::server(&[files], anchors.as_ref(), &[]).unwrap();
    let acceptor = TlsAcceptor::from(Arc::clone(&server.config));
    let mut config = config(&format!("https://127.0.0.1:{port}"));
    change(&mut config);
    let client = Client::new(&config);
    let served = async {
        if let Ok(stream) = acceptor.accept(listener.accept().await.unwrap().0).await {
            answer(stream, GOOD).await;
        }
    };
    both(served, client.get(ask())).await.1
}

#[tokio::test]
async fn an_agent_with_tls_is_asked_if_its_certificate_has_the_name() {
    let authority = Authority::new();
    let ca = authority.ca();
    let named = |name: Option<&str>| {
        let (ca, name) = (ca.clone(), name.map(ToOwned::to_owned));
        move |config: &mut ConsulConfig| (config.ca, config.server_name) = (Some(ca), name)
    };
    let reply = exchange_by_tls(authority.sign("127.0.0.1"), None, named(None)).await;
    assert_eq!(reply.unwrap().index, Some(7));
    let server = authority.sign("server.eu.consul");
    let reply = exchange_by_tls(server.clone(), None, named(Some("server.eu.consul"))).await;
    assert_eq!(reply.unwrap().index, Some(7));
    let error = exchange_by_tls(server.clone(), None, named(None)).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("`server_name`")), "{error}");
    let other = Authority::new();
    let error = exchange_by_tls(server, None, |config| config.ca = Some(other.ca())).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("`ca`")), "{error}");
}

#[tokio::test]
async fn an_agent_that_wants_a_certificate_gets_ours_or_the_error_says_so() {
    let authority = Authority::new();
    let (server, ours, ca) = (authority.sign("127.0.0.1"), authority.sign("gateway"), authority.ca());
    let error = exchange_by_tls(server.clone(), Some(&ca), |config| config.ca = Some(ca.clone())).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("`cert`")), "{error}");
    let reply = exchange_by_tls(server, Some(&ca), |config| {
        (config.ca, config.cert, config.key) = (Some(ca.clone()), Some(ours.cert), Some(ours.key));
    });
    assert!(reply.await.is_ok());
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let mut config = config("https://127.0.0.1:1");
    config.ca = Some("/nowhere/ca.pem".into());
    let error = Client::new(&config).get(ask()).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("/nowhere/ca.pem")), "{error}");
}

#[tokio::test]
async fn certificates_that_are_replaced_are_taken_and_half_of_them_is_not() {
    let authority = Authority::new();
    let (one, ca) = (authority.sign("gateway"), authority.ca());
    let mut config = config("https://127.0.0.1:1");
    (config.ca, config.cert, config.key) = (Some(ca), Some(one.cert.clone()), Some(one.key.clone()));
    let transport = Transport::new(&config);
    transport.client().await.unwrap();
    std::fs::write(&one.key, "half").unwrap();
    assert!(transport.client().await.is_ok());
    std::fs::remove_file(&one.cert).unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert!(transport.client().await.is_ok());
}
