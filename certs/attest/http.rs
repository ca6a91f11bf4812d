//! Asks those who vouch for evidence: one exchange, bounded in time and size, never through a proxy, never after a redirect.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use reqwest::header::CONTENT_TYPE;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::{Anchors, provider, tls};

/// Longest time of one exchange with who vouches, connecting and reading included (security paper, 2: AWS).
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of an answer (security paper, 2: AWS). A set of keys of a cluster has about two KiB.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// Makes connections that are checked against given anchors.
#[derive(Debug)]
pub(super) struct Http {
    /// `None`: it speaks clear text alone.
    anchors: Option<Anchors>,
    built: Mutex<Option<Built>>,
}

#[derive(Debug)]
struct Built {
    client: reqwest::Client,
    /// What the file of anchors was when it was built.
    of: Option<(SystemTime, u64)>,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// `Content-Type` without parameters, lower case; empty where there is none or more than one.
    pub(super) content_type: String,
    pub(super) body: Vec<u8>,
}

impl Http {
    pub(super) fn new(anchors: Anchors) -> Self {
        Self { anchors: Some(anchors), built: Mutex::default() }
    }

    /// For addresses of this machine and its link, which speak no TLS.
    pub(super) fn clear() -> Self {
        Self { anchors: None, built: Mutex::default() }
    }

    /// Returns a client: the same one until the file of anchors changes.
    pub(super) async fn client(&self) -> Result<reqwest::Client, String> {
        let now = match &self.anchors {
            Some(Anchors::File(path)) => state(path.clone()).await,
            _ => None,
        };
        let mut built = self.built.lock().await;
        if let Some(built) = built.as_ref().filter(|built| built.of == now) {
            return Ok(built.client.clone());
        }
        let tls = match self.anchors.clone() {
            None => unused_tls()?,
            Some(anchors) => tokio::task::spawn_blocking(move || tls::client(&anchors, None))
                .await
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?,
        };
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(PATIENCE)
            .user_agent(concat!("meshless/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| error.to_string())?;
        *built = Some(Built { client: client.clone(), of: now });
        Ok(client)
    }
}

/// Sends a request and reads its answer, whatever its status; the error says why there is none.
pub(super) async fn exchange(request: reqwest::RequestBuilder, limit: Duration) -> Result<Answer, String> {
    let exchanged = timeout(limit, Box::pin(unbounded(request))).await;
    exchanged.unwrap_or_else(|_| Err(format!("no whole answer within {} s", limit.as_secs_f32())))
}

async fn unbounded(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let mut response = request.send().await.map_err(|error| chain_of(&error))?;
    let status = response.status().as_u16();
    let mut types = response.headers().get_all(CONTENT_TYPE).iter();
    let content_type = match (types.next(), types.next()) {
        (Some(only), None) => only.to_str().unwrap_or_default(),
        _ => "",
    };
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| chain_of(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, content_type, body })
}

async fn state(path: PathBuf) -> Option<(SystemTime, u64)> {
    let found = tokio::fs::metadata(path).await.ok()?;
    Some((found.modified().ok()?, found.len()))
}

/// What reqwest must be given where nothing speaks TLS: left alone it looks for a crypto provider of the whole process.
fn unused_tls() -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(RootCertStore::empty());
    Ok(builder.with_no_client_auth())
}

/// An error with all its causes, each said once.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            said.push_str(": ");
            said.push_str(&text);
        }
        cause = error.source();
    }
    said
}
