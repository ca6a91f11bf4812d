//! Connections to one agent: clear text, TLS, or a Unix socket. Never through a proxy, never after a redirect.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshless_certs::{Anchors, KeyFiles};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{ConsulAddress, ConsulConfig, ConsulHost, Error};

/// Limit of making a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a connection is silent before it is asked whether it is still there: a blocking query is silent for a
/// minute, and a firewall on the way may forget it before that.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How often certificates are looked at for a change.
const RELOOK: Duration = Duration::from_secs(1);

/// Makes connections to one agent.
#[derive(Debug)]
pub(super) struct Transport {
    address: ConsulAddress,
    base: String,
    files: Files,
    server_name: Option<String>,
    built: Mutex<Option<Built>>,
}

/// Where certificates stand.
#[derive(Debug, Clone)]
struct Files {
    anchors: Anchors,
    key: Option<KeyFiles>,
}

#[derive(Debug)]
struct Built {
    client: reqwest::Client,
    /// What the files were when it was built.
    of: Vec<Option<(SystemTime, u64)>>,
    looked: Instant,
}

impl Transport {
    pub(super) fn new(config: &ConsulConfig) -> Self {
        let files = Files {
            anchors: config.ca.clone().map_or(Anchors::System, Anchors::File),
            key: config.cert.clone().zip(config.key.clone()).map(|(cert, key)| KeyFiles { cert, key }),
        };
        let base = match &config.address {
            ConsulAddress::Http(host) => format!("http://{host}"),
            ConsulAddress::Https(host) => match &config.server_name {
                // The name in the URL is what the certificate must have; `Fixed` finds the host behind it.
                Some(name) => format!("https://{name}:{}{}", host.port(), host.prefix()),
                None => format!("https://{host}"),
            },
            ConsulAddress::Unix(_) => "http://localhost".to_owned(),
        };
        let server_name = config.server_name.clone();
        Self { address: config.address.clone(), base, files, server_name, built: Mutex::default() }
    }

    /// Returns the agent's address as a person writes it.
    pub(super) fn address(&self) -> &ConsulAddress {
        &self.address
    }

    /// Returns what stands before each path in a URL.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Returns a client: the same one, and so the same connections, until certificates change.
    pub(super) async fn client(&self) -> Result<reqwest::Client, Error> {
        let mut built = self.built.lock().await;
        let is_tls = matches!(self.address, ConsulAddress::Https(_));
        if let Some(built) = &*built
            && (!is_tls || built.looked.elapsed() < RELOOK)
        {
            return Ok(built.client.clone());
        }
        let now = if is_tls { self.files.state().await } else { Vec::new() };
        if let Some(built) = &mut *built
            && built.of == now
        {
            built.looked = Instant::now();
            return Ok(built.client.clone());
        }
        let client = match (self.build().await, &*built) {
            (Ok(client), _) => client,
            // Certificate and key are replaced one after the other: for a moment they do not fit.
            (Err(problem), Some(built)) => {
                tracing::debug!(problem, "Certificates changed and are of no use, those before stay.");
                built.client.clone()
            }
            (Err(problem), None) => return Err(Error::Denied(format!("TLS to {}: {problem}", self.address))),
        };
        *built = Some(Built { client: client.clone(), of: now, looked: Instant::now() });
        Ok(client)
    }

    async fn build(&self) -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .tcp_keepalive(KEEPALIVE)
            .user_agent(concat!("meshless/", env!("CARGO_PKG_VERSION")));
        let tls = match &self.address {
            ConsulAddress::Unix(path) => {
                builder = builder.unix_socket(path.as_path());
                unused_tls()?
            }
            ConsulAddress::Http(_) => unused_tls()?,
            ConsulAddress::Https(host) => {
                if self.server_name.is_some() {
                    builder = builder.dns_resolver(Arc::new(Fixed(host.clone())));
                }
                let files = self.files.clone();
                let read =
                    tokio::task::spawn_blocking(move || meshless_certs::client(&files.anchors, files.key.as_ref()));
                read.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
            }
        };
        builder.tls_backend_preconfigured(tls).build().map_err(|error| error.to_string())
    }
}

impl Files {
    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if let Anchors::File(path) = &self.anchors {
            paths.push(path.clone());
        }
        if let Some(KeyFiles { cert, key }) = &self.key {
            paths.extend([cert.clone(), key.clone()]);
        }
        paths
    }

    /// Returns when each file was written and how long it is.
    async fn state(&self) -> Vec<Option<(SystemTime, u64)>> {
        async fn of(path: &Path) -> Option<(SystemTime, u64)> {
            let found = tokio::fs::metadata(path).await.ok()?;
            Some((found.modified().ok()?, found.len()))
        }
        let mut states = Vec::new();
        for path in self.paths() {
            states.push(of(&path).await);
        }
        states
    }
}

/// What reqwest must be given where nothing speaks TLS: left alone it looks for a crypto provider of the whole process.
fn unused_tls() -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(meshless_certs::provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?.with_root_certificates(RootCertStore::empty());
    Ok(builder.with_no_client_auth())
}

/// Finds one host behind every name.
#[derive(Debug)]
struct Fixed(ConsulHost);

impl Resolve for Fixed {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = match host.host().parse::<IpAddr>() {
                Ok(ip) => vec![(ip, host.port()).into()],
                Err(_) => tokio::net::lookup_host((host.host(), host.port())).await?.collect(),
            };
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
