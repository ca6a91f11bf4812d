//! Asks the metadata services of platforms: plain HTTP to an address of this machine's own link.
//!
//! One connection for each question, no proxy, no redirect, no name to resolve, a limit of time and of size. What answers is
//! whoever has that address, so what it says is checked as anything from outside is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Most of an answer that is read, in bytes: ten containers of a task are about 20 KiB.
const MAX_ANSWER: usize = 64 * 1024;

/// Why a metadata service could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It does not want to say; asking again does not help.
    #[error("{url} answered {status}")]
    Denied {
        /// What was asked.
        url: String,
        /// What came.
        status: StatusCode,
    },
    /// What came cannot be understood, or the address to ask is none.
    #[error("{url}: {reason}")]
    Malformed {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answered; another time somebody might.
    #[error("{url} did not answer: {reason}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        reason: String,
    },
}

/// Where to ask, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    base: String,
    address: SocketAddr,
    limit: Duration,
}

impl Service {
    /// Takes `http://`, an IP address, a port if it is not 80, and a path that goes before each path that is asked.
    pub(crate) fn parse(base: &str, limit: Duration) -> Result<Self, MetadataError> {
        let base = base.trim().trim_end_matches('/');
        let wrong = || MetadataError::Malformed {
            url: base.escape_debug().to_string(),
            reason: "expected `http://` and an IP address, as in `http://169.254.170.2/v4/1`".to_owned(),
        };
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        let host = uri.host().map(|host| host.trim_start_matches('[').trim_end_matches(']'));
        let ip: IpAddr = host.and_then(|host| host.parse().ok()).ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(wrong());
        }
        Ok(Self { base: base.to_owned(), address: SocketAddr::new(ip, uri.port_u16().unwrap_or(80)), limit })
    }

    /// Asks for a document.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<String, MetadataError> {
        self.ask(Method::GET, path, headers).await
    }

    /// Asks by PUT, without a body.
    pub(crate) async fn put(&self, path: &str, headers: &[(&str, &str)]) -> Result<String, MetadataError> {
        self.ask(Method::PUT, path, headers).await
    }

    /// Returns what a path is asked as.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Result<String, MetadataError> {
        let url = self.url(path);
        let late = || MetadataError::Unreachable { url: url.clone(), reason: format!("nothing in {:?}", self.limit) };
        timeout(self.limit, self.exchange(method, &url, headers)).await.map_err(|_| late())?
    }

    async fn exchange(&self, method: Method, url: &str, headers: &[(&str, &str)]) -> Result<String, MetadataError> {
        let malformed = |reason: String| MetadataError::Malformed { url: url.to_owned(), reason };
        let unreachable = |error: &dyn std::fmt::Display| MetadataError::Unreachable {
            url: url.to_owned(),
            reason: error.to_string(),
        };
        let uri: Uri = url.parse().map_err(|error| malformed(format!("is no URL: {error}")))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| malformed(error.to_string()))?;
        let stream = TcpStream::connect(self.address).await.map_err(|error| unreachable(&error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
        let exchange = async {
            let reply = sender.send_request(request).await.map_err(|error| unreachable(&error))?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), MAX_ANSWER).collect().await;
            if status != StatusCode::OK {
                return Err(MetadataError::Denied { url: url.to_owned(), status });
            }
            let body = body.map_err(|error| malformed(format!("what it answered cannot be read: {error}")))?;
            String::from_utf8(body.to_bytes().into()).map_err(|_| malformed("what it answered is no text".to_owned()))
        };
        // The connection must be driven beside the exchange; once it ended, the exchange knows why.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }
}

/// Reads a document of JSON.
pub(crate) fn json<T: serde::de::DeserializeOwned>(url: &str, text: &str) -> Result<T, MetadataError> {
    serde_json::from_str(text).map_err(|error| MetadataError::Malformed {
        url: url.to_owned(),
        reason: format!("what it answered is not the document that it should be: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meshless_fakes::http::{Mode, Server, text};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(300);

    fn service(server: &Server) -> Service {
        Service::parse(&format!("{}/v4/x/", server.url()), LIMIT).unwrap()
    }

    #[tokio::test]
    async fn a_document_is_asked_below_the_base() {
        let server = Server::start(Arc::new(|request| {
            let told = format!("{} {:?}", request.uri(), request.headers().get("x-a"));
            Box::pin(async move { text(200, told) })
        }));
        let told = service(&server).get("/task", &[("x-a", "b")]).await.unwrap();
        assert_eq!(told, "/v4/x/task Some(\"b\")");
        assert_eq!(server.requests(), ["GET /v4/x/task"]);
    }

    #[tokio::test]
    async fn nobody_waits_longer_than_the_limit() {
        let server = Server::start(Arc::new(|_| Box::pin(async { text(200, "late") })));
        for mode in [Mode::Frozen, Mode::Slow(5_000)] {
            server.set(mode);
            let error = service(&server).get("/task", &[]).await.unwrap_err();
            let url = format!("{}/v4/x/task", server.url());
            assert_eq!(error.to_string(), format!("{url} did not answer: nothing in 300ms"), "{mode:?}");
        }
        server.set(Mode::Down);
        assert!(matches!(service(&server).get("/", &[]).await, Err(MetadataError::Unreachable { .. })));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_a_long_answer_is_none() {
        let server = Server::start(Arc::new(|request| {
            let reply =
                if request.uri().path() == "/v4/x/long" { text(200, "x".repeat(70_000)) } else { text(302, "") };
            Box::pin(async move { reply })
        }));
        let error = service(&server).get("/moved", &[]).await.unwrap_err();
        assert!(matches!(error, MetadataError::Denied { status: StatusCode::FOUND, .. }), "{error}");
        assert!(matches!(service(&server).get("/long", &[]).await, Err(MetadataError::Malformed { .. })));
        server.set(Mode::Garbage);
        assert!(matches!(service(&server).get("/", &[]).await, Err(MetadataError::Malformed { .. })));
        assert_eq!(server.requests().len(), 3, "nobody goes where a redirect leads");
    }

    #[test]
    fn only_plain_http_to_an_address_is_asked() {
        for wrong in ["", "https://169.254.170.2", "http://metadata.internal/", "169.254.170.2", "http://1.2.3.4/?a=b"]
        {
            assert!(Service::parse(wrong, LIMIT).is_err(), "{wrong}");
        }
        assert_eq!(Service::parse("http://[fd00:ec2::254]", LIMIT).unwrap().address.to_string(), "[fd00:ec2::254]:80");
    }
}
