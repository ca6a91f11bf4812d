//! `meshless explain`: why does a request go where it goes?

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{ArgGroup, Args};
use meshless::admin::client::{Client, ClientError, DEFAULT_ADDRESS, parse_address};
use meshless::admin::explain_path;
use meshless::compose::{Offline, OfflineError};
use meshless::explain::answer::Explanation;
use meshless::explain::log_line::{Line, compare};
use meshless::explain::{Question, Refusal};
use meshless_platforms::Process;
use serde::Deserialize;
use tokio::runtime::Runtime;

use super::{Exit, complain, print};

/// Longest wait for a running gateway; it answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest line of an access log that is read, in bytes: a head has at most 16 KiB unless configured otherwise.
const LINE_BYTES: u64 = 1024 * 1024;

/// Say why a request goes where it goes: from files, or by a running gateway
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true).args(["config", "admin"])))]
pub(super) struct Explain {
    /// Configuration file, or directory of files: nobody is asked; may be given again
    #[arg(short, long = "config", value_name = "PATH")]
    config: Vec<PathBuf>,
    /// Ask a running gateway at its admin interface: IP:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// Listener that the request comes by (default: the first one that takes such a request)
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Print JSON; docs/explain.md describes it
    #[arg(long)]
    json: bool,
    /// Header that the client sends; may be given again
    #[arg(long = "header", short = 'H', value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// SPIFFE ID in the client's certificate
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// Address of the client (default: 127.0.0.1)
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::check::name_and_value, conflicts_with = "admin")]
    sets: Vec<(String, String)>,
    /// Endpoints, in the format of the file backend; each service is named as the target that it stands for
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    endpoints: Option<PathBuf>,
    /// Seed of the draws that tell the shares of endpoints (default: 1)
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Explain the request of a line of the access log (JSON); `-` reads it from standard input
    #[arg(long, value_name = "LINE", conflicts_with_all = ["request", "access_log", "listener", "address"])]
    log_line: Option<String>,
    /// Explain a request of an access log (JSON), together with --request-id; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "request_id", conflicts_with_all = ["request", "listener", "address"])]
    access_log: Option<PathBuf>,
    /// The `request_id` of the line in --access-log, which the client had as `x-request-id`
    #[arg(long, value_name = "ID", requires = "access_log")]
    request_id: Option<String>,
    /// Method (default: GET) and URL
    #[arg(
        help = "Method (default: GET) and URL: http://HOST/PATH, https://…, tcp://HOST:PORT, or tls://NAME for TLS that is passed on"
    )]
    #[arg(value_name = "METHOD URL", num_args = 1..=2, required_unless_present_any = ["log_line", "access_log"])]
    request: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    Wrong(String),
    Refused(Refusal),
    Strange(String),
    Unreachable(ClientError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Explain {
    pub(super) fn run(self) -> Exit {
        match self.answer() {
            Ok(explanation) if self.json => match serde_json::to_string_pretty(&explanation) {
                Ok(text) => print(&(text + "\n")),
                Err(error) => {
                    complain(&format!("error: {error}\nhint: this is a bug: please report it\n"), Exit::Failed)
                }
            },
            Ok(explanation) => print(&explanation.to_string()),
            Err(Failure::Wrong(text)) => complain(&format!("{text}\n"), Exit::Wrong),
            Err(Failure::Refused(Refusal { reason, hint })) => {
                complain(&format!("error: {reason}\nhint: {hint}\n"), Exit::Wrong)
            }
            Err(Failure::Strange(text)) => complain(&format!("error: {text}\n"), Exit::Failed),
            Err(Failure::Unreachable(error)) => complain(
                &format!(
                    "error: {error}\nhint: is it running? --admin takes admin.listen of its configuration, \
                     {DEFAULT_ADDRESS} if not set; -c FILE needs no gateway\n"
                ),
                Exit::Unreachable,
            ),
        }
    }

    fn answer(&self) -> Result<Explanation, Failure> {
        let line = self.line()?;
        let questions = match &line {
            Some(line) => line.questions().into_iter().map(|question| self.beside(question)).collect(),
            None => vec![self.question()],
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Strange(format!("the system refused a runtime: {error}")))?;
        let mut source = self.source(&runtime)?;
        // A line does not say whether its listener had TLS: what the listener does not take was not it.
        let mut answer = Err(Failure::Wrong("error: nothing was asked".to_owned()));
        for question in &questions {
            answer = source.ask(&runtime, question);
            if !matches!(answer, Err(Failure::Refused(_))) {
                break;
            }
        }
        let mut explanation = answer?;
        if let Some(line) = &line {
            compare(line, &mut explanation);
        }
        Ok(explanation)
    }

    fn question(&self) -> Question {
        let (method, url) = match self.request.as_slice() {
            [method, url] => (method.clone(), url.clone()),
            [url] => (String::new(), url.clone()),
            _ => (String::new(), String::new()),
        };
        let (listener, address) = (self.listener.clone(), self.address);
        self.beside(Question { listener, method, url, address, ..Question::default() })
    }

    /// Adds what the command line says beside a request or a line.
    fn beside(&self, question: Question) -> Question {
        let headers = [question.headers, self.headers.clone()].concat();
        Question { headers, from: self.from.clone(), seed: self.seed, ..question }
    }

    fn source(&self, runtime: &Runtime) -> Result<Source, Failure> {
        if let Some(address) = &self.admin {
            let address = parse_address(address).map_err(|error| {
                Failure::Wrong(format!("error: {error}\nhint: --admin takes the value of admin.listen"))
            })?;
            return Ok(Source::Running(Client::new(address, TIMEOUT)));
        }
        let mut sets = BTreeMap::new();
        for (name, value) in &self.sets {
            if sets.insert(name.clone(), value.clone()).is_some() {
                return Err(Failure::Wrong(format!("--set {name}: error: is given twice; keep one of them")));
            }
        }
        let loading = Offline::load(&self.config, &Process, &sets, self.endpoints.as_deref());
        match runtime.block_on(loading) {
            Ok(offline) => Ok(Source::Files(Box::new(offline))),
            Err(OfflineError::Configuration(problems)) => Err(Failure::Wrong(problems.to_string())),
            Err(error @ OfflineError::Endpoints(_)) => Err(Failure::Wrong(format!(
                "error: {error}\nhint: write [[services.\"consul/web\"]] with address = \"10.0.0.1:80\", as for the file backend"
            ))),
        }
    }

    /// Returns the line of the access log that is asked about.
    fn line(&self) -> Result<Option<Line>, Failure> {
        if let Some(text) = &self.log_line {
            if text != "-" {
                return Ok(Some(Line::parse(text)?));
            }
            let mut text = String::new();
            let read = BufReader::new(io::stdin().lock().take(LINE_BYTES)).read_line(&mut text);
            read.map_err(|error| Failure::Wrong(format!("error: standard input: {error}")))?;
            return Ok(Some(Line::parse(&text)?));
        }
        let (Some(file), Some(id)) = (&self.access_log, &self.request_id) else { return Ok(None) };
        find(file, id).map(Some)
    }
}

/// Looks for a request in an access log, a line at a time: logs are large.
fn find(file: &Path, id: &str) -> Result<Line, Failure> {
    let failed = |error: io::Error| Failure::Wrong(format!("error: {}: {error}", file.display()));
    let mut log: Box<dyn io::BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(file).map_err(failed)?))
    };
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if log.by_ref().take(LINE_BYTES).read_until(b'\n', &mut bytes).map_err(failed)? == 0 {
            break;
        }
        if let Some(line) = Line::find([&*String::from_utf8_lossy(&bytes)], id) {
            return Ok(line);
        }
    }
    let hint = "look for it with grep; only lines of JSON are read (telemetry.access_log = \"json\")";
    Err(Refusal::new(format!("{} has no line with request_id `{id}`", file.display()), hint).into())
}

/// Who is asked.
#[derive(Debug)]
enum Source {
    Files(Box<Offline>),
    Running(Client),
}

impl Source {
    fn ask(&mut self, runtime: &Runtime, question: &Question) -> Result<Explanation, Failure> {
        let client = match self {
            Self::Files(offline) => return Ok(runtime.block_on(offline.explain(question, wall()))?),
            Self::Running(client) => client,
        };
        let reply = runtime.block_on(client.get(&explain_path(question))).map_err(Failure::Unreachable)?;
        if reply.status.is_success() {
            return serde_json::from_str(&reply.text).map_err(|error| {
                Failure::Strange(format!(
                    "the gateway at {} answers in another form ({error})\nhint: ask with a meshless of its version",
                    client.address()
                ))
            });
        }
        match serde_json::from_str::<Told>(&reply.text) {
            Ok(told) if reply.status.as_u16() == 400 => Err(Refusal::new(told.error, told.hint).into()),
            _ => Err(Failure::Strange(format!(
                "{} answers /explain with {}\nhint: is that the admin interface (admin.listen, not admin.probes) of a meshless \
                 of this version?",
                client.address(),
                reply.status
            ))),
        }
    }
}

/// An error of the admin interface.
#[derive(Debug, Deserialize)]
struct Told {
    error: String,
    hint: String,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() => Ok((name.trim().to_owned(), value.trim().to_owned())),
        _ => Err("expected NAME:VALUE, such as x-user:alice".to_owned()),
    }
}

/// Nanoseconds since 1970.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
