//! Asks an admin interface, for `meshless status` and `meshless healthcheck`: one connection for each question.

use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::view::Readiness;
use crate::config::ListenAddress;

/// Where the admin interface listens unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:9990";
/// Most of an answer that is read.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// An admin interface somewhere on this machine.
#[derive(Debug, Clone)]
pub struct Client {
    address: ListenAddress,
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address cannot be understood.
    #[error("`{0}` is not an admin address; write IP:PORT, such as 127.0.0.1:9990, or unix:PATH")]
    Address(String),
    /// Nobody answers there.
    #[error("no answer from the admin interface at {address}: {reason}")]
    Unreachable {
        /// Who was asked.
        address: ListenAddress,
        /// What went wrong.
        reason: String,
    },
}

/// What was answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Body; bytes that are not UTF-8 are replaced.
    pub text: String,
}

impl Reply {
    /// Says in one line why this is not `good`: `not ready: draining; consul/web never answered`.
    pub fn failure(&self, good: &str) -> String {
        let reasons =
            serde_json::from_str::<Readiness>(&self.text).map(|readiness| readiness.reasons).unwrap_or_default();
        let why = if reasons.is_empty() { format!("answered with {}", self.status) } else { reasons.join("; ") };
        // One line, whatever it says.
        format!("not {good}: {why}").replace(char::is_control, " ")
    }
}

/// Reads `IP:PORT`, `localhost:PORT` or `unix:PATH`.
pub fn parse_address(text: &str) -> Result<ListenAddress, ClientError> {
    let wrong = || ClientError::Address(text.into());
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() { Err(wrong()) } else { Ok(ListenAddress::Unix(path.into())) };
    }
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let mut address: std::net::SocketAddr = numeric.as_deref().unwrap_or(text).parse().map_err(|_| wrong())?;
    // The address of a listener may be handed in as it is; ask it by loopback.
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    Ok(ListenAddress::Tcp(address))
}

impl Client {
    /// Makes one; `timeout` is for each question as a whole.
    pub fn new(address: ListenAddress, timeout: Duration) -> Self {
        Self { address, timeout }
    }

    /// Returns who is asked.
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Asks by GET; any status is an answer.
    pub async fn get(&self, path: &str) -> Result<Reply, ClientError> {
        let asked = tokio::time::timeout(self.timeout, async {
            match &self.address {
                ListenAddress::Tcp(address) => {
                    ask(TcpStream::connect(address).await?, &address.to_string(), path).await
                }
                ListenAddress::Unix(socket) => ask(UnixStream::connect(socket).await?, "localhost", path).await,
            }
        });
        match asked.await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) => Err(self.unreachable(error.to_string())),
            Err(_) => Err(self.unreachable(format!("nothing came within {} s", self.timeout.as_secs_f64()))),
        }
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable { address: self.address.clone(), reason }
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, host: &str, path: &str) -> Result<Reply, BoxError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new())?;
    let exchange = async {
        let reply = sender.send_request(request).await?;
        let status = reply.status();
        let body = Limited::new(reply.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        Ok(Reply { status, text: String::from_utf8_lossy(&body).into_owned() })
    };
    // The connection must be driven beside the exchange; once it ended, the exchange knows why.
    let mut exchange = std::pin::pin!(exchange);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        reply = &mut exchange => reply,
        _ = &mut connection => exchange.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_reasons() {
        let reply = |text: &str| Reply { status: StatusCode::SERVICE_UNAVAILABLE, text: text.into() };
        let told = reply(r#"{"ready":false,"reasons":["draining","no\nanswer"],"warnings":[]}"#);
        assert_eq!(told.failure("ready"), "not ready: draining; no answer");
        assert_eq!(reply("oops").failure("ready"), "not ready: answered with 503 Service Unavailable");
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, expected) in [
            ("127.0.0.1:9990", "127.0.0.1:9990"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:9991", "127.0.0.1:9991"),
            ("[::]:9991", "[::1]:9991"),
            ("unix:/run/meshless/admin.sock", "unix:/run/meshless/admin.sock"),
        ] {
            assert_eq!(parse_address(text).unwrap().to_string(), expected);
        }
        for wrong in ["", "unix:", "9990", "example.com:1", "http://127.0.0.1:9990"] {
            assert!(parse_address(wrong).unwrap_err().to_string().contains("IP:PORT"), "{wrong}");
        }
    }
}
