//! The server over loopback, with real TLS: what it gives, and what it refuses.

pub(crate) mod issuer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use self::issuer::InMemory;
use super::*;
use crate::agent::KeyHash;
use crate::{Identity, Mesh, MeshClient, pem};

/// A server on a port of the kernel's, until it is dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) witness: Arc<Seen>,
    stop: watch::Sender<bool>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    answered: Mutex<Vec<(&'static str, u16)>>,
    refused: Mutex<Vec<&'static str>>,
}

impl Witness for Seen {
    fn answered(&self, request: &'static str, status: u16) {
        self.answered.lock().unwrap().push((request, status));
    }

    fn refused(&self, why: &'static str) {
        self.refused.lock().unwrap().push(why);
    }
}

impl Seen {
    fn refused(&self) -> Vec<&'static str> {
        self.refused.lock().unwrap().clone()
    }
}

impl Served {
    pub(crate) async fn new(issuer: &Arc<InMemory>) -> Self {
        Self::with(issuer, ServerOptions { per_source: 1000, ..ServerOptions::default() }, 0).await
    }

    pub(crate) async fn with(issuer: &Arc<InMemory>, options: ServerOptions, port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let witness = Arc::new(Seen::default());
        let spawn: Spawn = Arc::new(|job| drop(tokio::spawn(job)));
        let server = Server::new(issuer.clone(), options, witness.clone(), spawn);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(server.serve(listener, stopped));
        Self { address, witness, stop, task }
    }

    /// Closes the port and every connection.
    pub(crate) async fn end(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }

    async fn connect(&self, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
        connect(self.address, config).await
    }

    /// Asks one thing on a connection of its own.
    async fn ask(&self, config: ClientConfig, method: &str, path: &str, body: impl Into<Vec<u8>>) -> (u16, Value) {
        let tls = self.connect(config).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("https://ca.example{path}"))
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body.into())))
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

async fn connect(address: SocketAddr, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("ca.example").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A client as any mesh client is: by the bundle, expecting the authority; it shows `identity` if there is one.
fn client(issuer: &InMemory, identity: Option<&Identity>) -> ClientConfig {
    crate::agent::tests::client_config(issuer, identity)
}

/// A key, its CSR in PEM, and the hash that a challenge names.
struct Asker {
    key: Zeroizing<Vec<u8>>,
    csr: String,
    hash: String,
}

impl Asker {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let hash = KeyHash::of_key(&rcgen::PublicKeyData::subject_public_key_info(&key)).digits();
        Self { key: Zeroizing::new(key.serialize_der()), csr: pem::encode("CERTIFICATE REQUEST", csr.der()), hash }
    }

    async fn body(&self, served: &Served, issuer: &InMemory, token: &str) -> Vec<u8> {
        let (status, challenge) =
            served.ask(client(issuer, None), "POST", "/v1/challenge", json!({ "key": self.hash }).to_string()).await;
        assert_eq!((status, &challenge["authority"]), (200, &json!("example.org")));
        let nonce = &challenge["nonce"];
        let evidence = json!({ "token": token });
        json!({ "csr": self.csr, "method": "join-token", "evidence": evidence, "nonce": nonce }).to_string().into()
    }

    fn identity(&self, answer: &Value, issuer: &InMemory) -> Identity {
        let chain = crate::authority::protocol::read_chain(answer["chain"].as_str().unwrap()).unwrap();
        Identity::new(chain, self.key.clone(), issuer.bundle(), SystemTime::now()).unwrap()
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_identity_is_issued_and_renewed_by_itself() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    let (status, bundle) = served.ask(client(&issuer, None), "GET", "/v1/bundle", "").await;
    assert_eq!((status, &bundle["sequence"], &bundle["refresh_hint"]), (200, &json!(1), &json!(300)));
    assert_eq!(bundle["roots"], json!(issuer.bundle().to_pem()));
    let asker = Asker::new();
    let body = asker.body(&served, &issuer, "good-1").await;
    let (status, answer) = served.ask(client(&issuer, None), "POST", "/v1/issue", body).await;
    assert_eq!((status, &answer["id"]), (200, &json!("spiffe://example.org/svc/web")), "{answer}");
    let (renew_after, not_after) = (answer["renew_after"].as_u64().unwrap(), answer["not_after"].as_u64().unwrap());
    assert!((1795..=1805).contains(&(not_after - renew_after)), "{answer}");
    let identity = asker.identity(&answer, &issuer);
    let next = Asker::new();
    let body = json!({ "csr": next.csr }).to_string();
    let (status, answer) = served.ask(client(&issuer, Some(&identity)), "POST", "/v1/renew", body.clone()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(next.identity(&answer, &issuer).id(), identity.id());
    // Without a certificate nobody is anybody.
    let (status, answer) = served.ask(client(&issuer, None), "POST", "/v1/renew", body).await;
    assert_eq!((status, &answer["reason"]), (401, &json!("no_certificate")));
    until("all is told", || served.witness.answered.lock().unwrap().contains(&("renew", 401))).await;
    served.end().await;
}

#[tokio::test]
async fn the_same_request_has_the_same_answer_and_burns_nothing() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    let asker = Asker::new();
    let body = asker.body(&served, &issuer, "good-1").await;
    let ask = || served.ask(client(&issuer, None), "POST", "/v1/issue", body.clone());
    issuer.decides_in.store(200, Ordering::SeqCst);
    // Two at the same time, and one later.
    let ((first, one), (second, two)) = tokio::join!(ask(), ask());
    let (third, three) = ask().await;
    assert_eq!((first, second, third), (200, 200, 200), "{one} {two} {three}");
    assert_eq!((&one, &one), (&two, &three));
    assert_eq!(issuer.issued(), 1);
    // The nonce is used up for every other request, and so is the token.
    let other = Asker::new();
    let mut stolen: Value = serde_json::from_slice(&body).unwrap();
    stolen["csr"] = json!(other.csr);
    let (status, answer) = served.ask(client(&issuer, None), "POST", "/v1/issue", stolen.to_string()).await;
    assert_eq!((status, &answer["reason"]), (401, &json!("nonce")));
    let body = other.body(&served, &issuer, "good-1").await;
    let (status, answer) = served.ask(client(&issuer, None), "POST", "/v1/issue", body).await;
    assert_eq!((status, &answer["reason"]), (401, &json!("token")));
}

#[tokio::test]
async fn a_client_that_goes_away_finds_its_answer_when_it_comes_back() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    let body = Asker::new().body(&served, &issuer, "good-1").await;
    issuer.decides_in.store(300, Ordering::SeqCst);
    let lost = served.ask(client(&issuer, None), "POST", "/v1/issue", body.clone());
    assert!(timeout(Duration::from_millis(150), lost).await.is_err());
    until("it is decided", || issuer.issued() == 1).await;
    let (status, _) = served.ask(client(&issuer, None), "POST", "/v1/issue", body).await;
    assert_eq!((status, issuer.issued()), (200, 1));
}

#[tokio::test]
async fn what_is_no_request_says_why() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    let long = format!("\"{}\"", "x".repeat(70_000));
    let evidence = json!({ "csr": Asker::new().csr, "method": "x509", "evidence": "x".repeat(17_000), "nonce": "n" });
    for (method, path, body, status, reason) in [
        ("GET", "/", String::new(), 404, "not_found"),
        ("POST", "/v1/bundle", String::new(), 405, "method"),
        ("GET", "/v1/issue", String::new(), 405, "method"),
        ("POST", "/v1/issue", long, 413, "too_large"),
        ("POST", "/v1/issue", "{".to_owned(), 400, "malformed"),
        ("POST", "/v1/issue", json!({ "csr": "x" }).to_string(), 400, "malformed"),
        ("POST", "/v1/issue", evidence.to_string(), 400, "malformed"),
        ("POST", "/v1/renew", json!({ "csr": "x" }).to_string(), 400, "malformed"),
        ("POST", "/v1/challenge", json!({ "key": "ABC" }).to_string(), 400, "malformed"),
    ] {
        let (found, answer) = served.ask(client(&issuer, None), method, path, body).await;
        assert_eq!((found, answer["reason"].as_str()), (status, Some(reason)), "{method} {path}: {answer}");
        assert!(!answer["error"].as_str().unwrap().is_empty());
    }
    issuer.is_unavailable.store(true, Ordering::SeqCst);
    let body = Asker::new().body(&served, &issuer, "good-1").await;
    let (status, answer) = served.ask(client(&issuer, None), "POST", "/v1/issue", body).await;
    assert_eq!((status, &answer["retry_after"]), (503, &json!(1)));
}

#[tokio::test]
async fn a_source_that_asks_too_often_is_told_to_wait() {
    let issuer = InMemory::new();
    let served = Served::with(&issuer, ServerOptions { per_source: 1, ..ServerOptions::default() }, 0).await;
    let body = json!({ "key": "0".repeat(64) }).to_string();
    let mut last = (0, Value::Null);
    for _ in 0..30 {
        last = served.ask(client(&issuer, None), "POST", "/v1/challenge", body.clone()).await;
        if last.0 != 200 {
            break;
        }
    }
    assert_eq!((last.0, last.1["retry_after"].as_u64()), (429, Some(1)), "{}", last.1);
    // The roots are for everybody.
    assert_eq!(served.ask(client(&issuer, None), "GET", "/v1/bundle", "").await.0, 200);
}

#[tokio::test]
async fn only_http_2_over_tls_1_3_gets_in() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    for alpn in [&[b"http/1.1".to_vec()][..], &[]] {
        let mut config = client(&issuer, None);
        config.alpn_protocols = alpn.to_vec();
        let closed = match served.connect(config).await {
            Err(_) => true,
            Ok(mut tls) => {
                let _ = tls.write_all(b"GET /v1/bundle HTTP/1.1\r\nhost: ca.example\r\n\r\n").await;
                tls.read_to_end(&mut Vec::new()).await.map_or(true, |read| read == 0)
            }
        };
        assert!(closed, "{alpn:?}");
    }
    until("both are counted", || served.witness.refused() == ["protocol", "protocol"]).await;
    let mut plain = TcpStream::connect(served.address).await.unwrap();
    plain.write_all(b"GET /v1/bundle HTTP/1.1\r\nhost: ca.example\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    until("it is counted", || served.witness.refused().len() == 3).await;
    assert_eq!(served.witness.refused()[2], "tls");
}

#[tokio::test]
async fn a_certificate_of_another_root_is_refused_at_the_door() {
    let (issuer, other) = (InMemory::new(), InMemory::new());
    let (served, elsewhere) = (Served::new(&issuer).await, Served::new(&other).await);
    let asker = Asker::new();
    let body = asker.body(&elsewhere, &other, "good-1").await;
    let (_, answer) = elsewhere.ask(client(&other, None), "POST", "/v1/issue", body).await;
    let stranger = asker.identity(&answer, &other);
    let tls = served.connect(client(&issuer, Some(&stranger))).await;
    // In TLS 1.3 the client hears of it when it reads.
    if let Ok(mut tls) = tls {
        assert!(tls.read_to_end(&mut Vec::new()).await.is_err());
    }
    until("it is counted", || served.witness.refused() == ["certificate"]).await;
}

#[tokio::test]
async fn the_chain_that_is_shown_ends_with_the_root() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    for _ in 0..2 {
        let tls = served.connect(client(&issuer, None)).await.unwrap();
        let shown: Vec<CertificateDer<'_>> = tls.get_ref().1.peer_certificates().unwrap().to_vec();
        assert_eq!(shown.len(), 3);
        assert_eq!(shown[2], issuer.root());
        // The next handshake shows what is in force by then.
        issuer.replace_root(true);
    }
}

#[tokio::test]
async fn slow_clients_do_not_keep_others_out() {
    let issuer = InMemory::new();
    let options = ServerOptions { handshakes: 8, per_source: 1000 };
    let served = Served::with(&issuer, options, 0).await;
    // They never say a word. One source may have a quarter of the handshakes under way.
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(served.address).await.unwrap());
    }
    until("those beyond its share are closed", || served.witness.refused().len() == 18).await;
    assert!(served.witness.refused().iter().all(|why| *why == "source_limit"));
    // Another source gets in.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(served.address).await.unwrap();
    let name = ServerName::try_from("ca.example").unwrap();
    TlsConnector::from(Arc::new(client(&issuer, None))).connect(name, stream).await.unwrap();
    drop(silent);
    // And so does the first one, once its silent ones are gone.
    let deadline = Instant::now() + Duration::from_secs(10);
    while served.connect(client(&issuer, None)).await.is_err() {
        assert!(Instant::now() < deadline);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn many_clients_at_once_are_all_served() {
    let issuer = InMemory::new();
    let options = ServerOptions { handshakes: 40, per_source: 1000 };
    let served = Served::with(&issuer, options, 0).await;
    // Ten at a time are this source's share; one that is turned away comes again.
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let (address, config) = (served.address, client(&issuer, None));
        all.spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(20);
            while connect(address, config.clone()).await.is_err() {
                assert!(Instant::now() < deadline);
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    all.join_all().await;
}

#[tokio::test]
async fn a_workload_is_not_the_authority_though_it_has_the_same_root() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    let asker = Asker::new();
    let body = asker.body(&served, &issuer, "good-1").await;
    let (_, answer) = served.ask(client(&issuer, None), "POST", "/v1/issue", body).await;
    let identity = asker.identity(&answer, &issuer);
    // A peer of the mesh that expects a service is not satisfied by the authority either.
    let mesh = Arc::new(Mesh::default());
    mesh.publish(Arc::new(identity));
    let expected = issuer.trust_domain.id("/svc/web").unwrap();
    let config = MeshClient::new(mesh, vec![expected], &[b"h2"]).config(SystemTime::now()).unwrap();
    let error = served.connect((*config).clone()).await.unwrap_err().to_string();
    assert!(error.contains("/meshless/ca"), "{error}");
}

#[tokio::test]
async fn the_end_waits_for_what_is_under_way() {
    let issuer = InMemory::new();
    let served = Served::new(&issuer).await;
    let body = Asker::new().body(&served, &issuer, "good-1").await;
    issuer.decides_in.store(300, Ordering::SeqCst);
    let config = client(&issuer, None);
    let asked = served.ask(config, "POST", "/v1/issue", body);
    let ends = async {
        sleep(Duration::from_millis(100)).await;
        served.stop.send_replace(true);
    };
    let ((status, _), ()) = tokio::join!(asked, ends);
    assert_eq!(status, 200);
    let address = served.address;
    served.end().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[derive(Debug)]
struct Echo;

#[async_trait::async_trait]
impl operator::Operator for Echo {
    async fn execute(&self, command: Value) -> Value {
        json!({ "did": command })
    }
}

#[tokio::test]
async fn an_operator_is_answered_at_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("ca.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let (stop, stopped) = watch::channel(false);
    let spawn: Spawn = Arc::new(|job| drop(tokio::spawn(job)));
    let task = tokio::spawn(operator::serve(listener, Arc::new(Echo), spawn, stopped));
    let ask = async |method: &str, target: &str, body: &str| {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        let length = body.len();
        let head =
            format!("{method} {target} HTTP/1.1\r\nhost: ca\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = ask("POST", crate::authority::command::PATH, r#"{"list":"tokens"}"#).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"did":{"list":"tokens"}}"#), "{answer}");
    assert!(ask("POST", crate::authority::command::PATH, "{").await.starts_with("HTTP/1.1 400"));
    assert!(ask("GET", crate::authority::command::PATH, "").await.starts_with("HTTP/1.1 405"));
    assert!(ask("POST", "/", "{}").await.starts_with("HTTP/1.1 404"));
    stop.send_replace(true);
    task.await.unwrap();
}
