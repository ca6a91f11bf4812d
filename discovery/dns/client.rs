//! Asks the servers of one backend, for all its sources.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use super::message::{self, MAX_CHAIN, Reading, Records};
use super::resolv_conf::ResolvConf;
use super::servers::{Server, Servers};
use crate::{Calls, DnsConfig, DnsFamily, Error};

/// The system's file (resolv.conf(5)).
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How old what was read from it may be before it is read again. It is read for each lookup but for those in one
/// second: there is no watch to miss a change, and a resolver that rewrites it once a day costs nothing.
const REREAD: Duration = Duration::from_secs(1);

/// Wait for one answer of one server in `resolvers`.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Questions under way at once, over all sources: each has a socket of its own.
const MAX_QUESTIONS: usize = 256;

/// Where the servers are known from.
#[derive(Debug)]
enum Origin {
    /// `resolvers`.
    Fixed { addresses: Vec<SocketAddr>, timeout: Duration },
    /// The system's file, and the port that its servers listen on.
    System { path: PathBuf, port: u16 },
}

/// Asks servers.
#[derive(Debug)]
pub(super) struct Client {
    origin: Origin,
    known: Mutex<Option<Known>>,
    questions: Semaphore,
    pub(super) family: DnsFamily,
    pub(super) allow_link_local: bool,
    /// Questions to servers, by type.
    pub(super) calls: Calls,
}

/// Servers, and what they were read from.
#[derive(Debug)]
struct Known {
    text: String,
    read: Instant,
    servers: Arc<Servers>,
}

/// Why a server was of no use.
pub(super) struct Trouble {
    pub(super) error: Error,
    /// It may answer if it is asked again: it said nothing, or could not be reached.
    pub(super) was_silent: bool,
}

impl Client {
    pub(super) fn new(config: &DnsConfig) -> Self {
        let origin = if config.resolvers.is_empty() {
            Origin::System { path: RESOLV_CONF.into(), port: 53 }
        } else {
            Origin::Fixed { addresses: config.resolvers.clone(), timeout: TIMEOUT }
        };
        Self {
            origin,
            known: Mutex::default(),
            questions: Semaphore::new(MAX_QUESTIONS),
            family: config.family,
            allow_link_local: config.allow_link_local,
            calls: Calls::default(),
        }
    }

    /// Takes another file for the system's, whose servers listen on another port.
    #[cfg(test)]
    pub(super) fn with_system(self, path: PathBuf, port: u16) -> Self {
        Self { origin: Origin::System { path, port }, ..self }
    }

    /// Waits less long for an answer.
    #[cfg(test)]
    pub(super) fn with_timeout(mut self, wait: Duration) -> Self {
        if let Origin::Fixed { timeout, .. } = &mut self.origin {
            *timeout = wait;
        }
        self
    }

    /// Returns the servers as they are known now; the system's file is read again where it may have changed.
    pub(super) async fn servers(&self) -> Result<Arc<Servers>, Error> {
        let mut known = self.known.lock().await;
        if let Some(known) = &*known
            && (matches!(self.origin, Origin::Fixed { .. }) || known.read.elapsed() < REREAD)
        {
            return Ok(Arc::clone(&known.servers));
        }
        let (path, port) = match &self.origin {
            Origin::Fixed { addresses, timeout } => {
                let servers = Arc::new(Servers::fixed(addresses, *timeout).map_err(|error| unusable(&error))?);
                *known = Some(Known { text: String::new(), read: Instant::now(), servers: Arc::clone(&servers) });
                return Ok(servers);
            }
            Origin::System { path, port } => (path, *port),
        };
        let text = match (tokio::fs::read_to_string(path).await, &mut *known) {
            (Ok(text), _) => text,
            // A file that is being replaced: what it said last holds.
            (Err(error), Some(known)) => {
                tracing::debug!(path = %path.display(), %error, "The file cannot be read, its servers stay.");
                known.read = Instant::now();
                return Ok(Arc::clone(&known.servers));
            }
            (Err(error), None) => {
                return Err(Error::Unreachable(format!("{} cannot be read: {error}; set `resolvers`", path.display())));
            }
        };
        if let Some(known) = &mut *known
            && known.text == text
        {
            known.read = Instant::now();
            return Ok(Arc::clone(&known.servers));
        }
        let conf =
            ResolvConf::parse(&text).map_err(|problem| Error::Malformed(format!("{}: {problem}", path.display())))?;
        let servers = Arc::new(Servers::of_system(conf, port).map_err(|error| unusable(&error))?);
        tracing::debug!(path = %path.display(), "The system's name servers were read.");
        *known = Some(Known { text, read: Instant::now(), servers: Arc::clone(&servers) });
        Ok(servers)
    }

    /// Asks for records of a name, and of the name that it is another name for.
    ///
    /// Never [`Reading::Elsewhere`].
    pub(super) async fn ask(&self, servers: &Servers, name: &Name, kind: RecordType) -> Result<Reading, Error> {
        let mut at = name.clone();
        let mut shortest = u32::MAX;
        for _ in 0..=MAX_CHAIN {
            match self.ask_once(servers, &at, kind).await? {
                Reading::Elsewhere { name, ttl } => (at, shortest) = (name, shortest.min(ttl)),
                Reading::Records(records) => {
                    return Ok(Reading::Records(Records { ttl: records.ttl.min(shortest), ..records }));
                }
                Reading::Nothing { ttl } => return Ok(Reading::Nothing { ttl: ttl.map(|ttl| ttl.min(shortest)) }),
            }
        }
        Err(Error::Malformed(format!("{name} has a chain of more than {MAX_CHAIN} CNAMEs")))
    }

    /// Asks one server after the other until one has an answer, good or bad: "there is nothing" is an answer, an error is
    /// not. Those that said nothing are asked again.
    async fn ask_once(&self, servers: &Servers, name: &Name, kind: RecordType) -> Result<Reading, Error> {
        let mut last = Error::Unreachable("there is no name server".to_owned());
        for _ in 0..servers.attempts {
            let mut was_silent = false;
            for (index, server) in servers.in_order() {
                match self.exchange(server, name, kind, servers.timeout).await {
                    Ok(reading) => {
                        servers.answered(index);
                        return Ok(reading);
                    }
                    Err(trouble) => {
                        tracing::debug!(server = %server.address, %name, error = %trouble.error, "A name server failed.");
                        was_silent |= trouble.was_silent;
                        last = trouble.error;
                    }
                }
            }
            if !was_silent {
                break;
            }
        }
        Err(last)
    }

    /// Asks one server one question.
    pub(super) async fn exchange(
        &self,
        server: &Server,
        name: &Name,
        kind: RecordType,
        wait: Duration,
    ) -> Result<Reading, Trouble> {
        let mut options = DnsRequestOptions::default();
        let answer = match self.send(server, name, kind, options, wait).await {
            // Servers and middleboxes from before 1999 take EDNS for an error (RFC 6891, 7).
            Err(NetError::Dns(DnsError::ResponseCode(
                ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS,
            ))) => {
                options.use_edns = false;
                self.send(server, name, kind, options, wait).await
            }
            answer => answer,
        };
        let at = format!("{name} {kind} from {}", server.address);
        let malformed =
            |problem: String| Trouble { error: Error::Malformed(format!("{at}: {problem}")), was_silent: false };
        match answer {
            Ok(response) => message::read(&response, name, kind).map_err(malformed),
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
                message::read_nothing(&nothing, name, kind).map_err(malformed)
            }
            Err(error) => Err(trouble(&at, &error)),
        }
    }

    async fn send(
        &self,
        server: &Server,
        name: &Name,
        kind: RecordType,
        options: DnsRequestOptions,
        wait: Duration,
    ) -> Result<hickory_resolver::proto::op::DnsResponse, NetError> {
        self.calls.count(match kind {
            RecordType::A => "A",
            RecordType::AAAA => "AAAA",
            RecordType::SRV => "SRV",
            _ => "other",
        });
        let _permit = self.questions.acquire().await.map_err(|_| NetError::Busy)?;
        let answer = server.pool.lookup(Query::query(name.clone(), kind), options).first_answer();
        // hickory has this limit for each of UDP and TCP; ours is for the case that one of its own does not hold.
        timeout(wait * 3, answer).await.unwrap_or(Err(NetError::Timeout))
    }
}

fn unusable(error: &NetError) -> Error {
    Error::Malformed(format!("the name servers cannot be used: {error}"))
}

/// Sorts an error by what can be done about it.
fn trouble(at: &str, error: &NetError) -> Trouble {
    let (error, was_silent) = match error {
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
            (Error::Denied(format!("{at}: REFUSED; the server answers others, or other names")), false)
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            (Error::Unreachable(format!("{at}: SERVFAIL")), false)
        }
        NetError::Dns(error) => (Error::Malformed(format!("{at}: {error}")), false),
        NetError::Timeout => (Error::Unreachable(format!("{at}: no answer in time")), true),
        // Neither is anything that a server said.
        NetError::Io(error) => (Error::Unreachable(format!("{at}: {error}")), true),
        // There was an answer, and no way to have it.
        NetError::Truncated => (Error::Unreachable(format!("{at}: {error}")), false),
        NetError::Busy | NetError::NoConnections => (Error::Unreachable(format!("{at}: {error}")), true),
        error => (Error::Malformed(format!("{at}: {error}")), false),
    };
    Trouble { error, was_silent }
}
