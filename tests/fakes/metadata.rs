//! The metadata services of AWS: that of an instance (version 2 alone), and that of a task of ECS (version 4).
//!
//! The document was signed by OpenSSL, streaming, so with lengths that are not known beforehand, as AWS's are. No key of AWS can be
//! had for a test; `CERTIFICATE` stands in for what AWS publishes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::json;

use crate::http::{Body, Server, json, text};

/// An identity document, of an instance at 127.0.0.1.
pub const DOCUMENT: &str = include_str!("metadata/document.json");

/// The signature over it: PKCS #7, base64.
pub const RSA2048: &str = include_str!("metadata/rsa2048.txt");

/// The certificate that it was signed by.
pub const CERTIFICATE: &str = include_str!("metadata/certificate.pem");

const TOKEN: &str = "AQAEAFAKE==";

/// Starts the metadata service of an instance.
pub fn instance() -> Server {
    Server::start(Arc::new(|request| Box::pin(async move { of_instance(&request) })))
}

fn of_instance(request: &Request<Bytes>) -> Response<Body> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = request.uri().path();
    if path == "/latest/api/token" {
        let ttl: u32 = header("x-aws-ec2-metadata-token-ttl-seconds").parse().unwrap_or_default();
        return match (request.method(), ttl) {
            (&Method::PUT, 1..=21600) => text(200, TOKEN),
            (&Method::PUT, _) => text(400, "Bad Request"),
            _ => text(405, "Not Allowed"),
        };
    }
    if header("x-aws-ec2-metadata-token") != TOKEN {
        return text(401, "Unauthorized");
    }
    match path {
        "/latest/dynamic/instance-identity/document" => text(200, DOCUMENT),
        "/latest/dynamic/instance-identity/rsa2048" => text(200, RSA2048),
        _ => text(404, "Not Found"),
    }
}

/// The metadata service of a task; the URL that a container is told is that of the server, with `/v4/fake`.
#[derive(Debug)]
pub struct OfTask {
    /// How it is broken as a server.
    pub server: Server,
    arn: Arc<Mutex<String>>,
}

impl OfTask {
    /// Starts that of a task.
    pub fn start(arn: &str) -> Self {
        let arn = Arc::new(Mutex::new(arn.to_owned()));
        let of_handler = Arc::clone(&arn);
        let server = Server::start(Arc::new(move |request| {
            let arn = of_handler.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Box::pin(async move {
                match request.uri().path() {
                    "/v4/fake/task" => json(&json!({ "Cluster": "prod", "TaskARN": arn, "KnownStatus": "RUNNING" })),
                    _ => text(404, "404 page not found"),
                }
            })
        }));
        Self { server, arn }
    }

    /// Returns what `ECS_CONTAINER_METADATA_URI_V4` is.
    pub fn url(&self) -> String {
        format!("{}/v4/fake", self.server.url())
    }

    /// Says to be another task.
    pub fn set(&self, arn: &str) {
        arn.clone_into(&mut self.arn.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
