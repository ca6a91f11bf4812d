//! `meshless targets`: who is there, now?

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use meshless::admin::ServiceView;
use meshless::admin::client::{Client, DEFAULT_ADDRESS, parse_address};
use meshless::compose::{Lookup, LookupError, Watched, locate};
use meshless::config::units::Period;
use meshless::target::Expression;
use meshless::targets::{Answers, Outcome, SCHEMA, TargetView, Text, changes};
use meshless::telemetry::timestamp::Timestamp;
use meshless_platforms::Process;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, check, complain, print};

/// How often what is followed here is looked at; it is in memory.
const LOOK: Duration = Duration::from_millis(100);
/// How often a gateway is asked.
const ASK: Duration = Duration::from_secs(1);

/// Resolve targets now: endpoints, where they come from, how old that is; exit code 69 unreachable, 77 not permitted
#[derive(Debug, Args)]
pub(super) struct Targets {
    /// What to resolve: a target expression such as `consul/web | dns/web.internal:80`; services too with -c or --admin
    /// (default: everything that the configuration, or the gateway, names)
    expression: Option<String>,
    /// Ask the backends of a configuration: file, or directory of files; may be given again
    #[arg(short, long = "config", value_name = "PATH")]
    config: Vec<PathBuf>,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = check::name_and_value, requires = "config")]
    sets: Vec<(String, String)>,
    /// Ask nobody but a running gateway what it holds, at its admin interface: IP:PORT or unix:PATH
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    admin: Option<String>,
    /// Print JSON; with --watch one object a line
    #[arg(long)]
    json: bool,
    /// Go on and print changes as they come, until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Longest wait for an answer
    #[arg(long, value_name = "PERIOD", default_value = "10s", value_parser = period)]
    timeout: Duration,
}

/// Why there is nothing to print.
#[derive(Debug)]
struct Failure {
    text: String,
    exit: Exit,
}

impl Failure {
    fn new(error: impl std::fmt::Display, hint: impl std::fmt::Display, exit: Exit) -> Self {
        Self { text: format!("error: {error}\nhint: {hint}\n"), exit }
    }
}

/// Who is asked.
enum Source {
    Backends(Lookup),
    Gateway { client: Client, wanted: Option<Expression> },
}

impl Targets {
    pub(super) fn run(self) -> Exit {
        let runtime = match Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => return complain(&format!("error: the system refused a runtime: {error}\n"), Exit::Failed),
        };
        let (json, watch) = (self.json, self.watch);
        let exit = match runtime.block_on(self.resolve()) {
            Ok(_) if watch => Exit::Done,
            Ok(answers) => match shown(&answers, json) {
                Exit::Done => exit(Outcome::of(&answers.targets)),
                other => other,
            },
            Err(Failure { text, exit }) => complain(&text, exit),
        };
        // A file system that hangs must not hold up the end.
        runtime.shutdown_background();
        exit
    }

    async fn resolve(self) -> Result<Answers, Failure> {
        let (json, watch, limit) = (self.json, self.watch, self.timeout);
        let source = self.source().await?;
        if watch {
            source.watch(json).await?;
            return Ok(Answers { schema: SCHEMA, targets: Vec::new(), notes: Vec::new() });
        }
        let (targets, notes) = match &source {
            Source::Backends(lookup) => (lookup.answers(limit).await, lookup.notes.clone()),
            Source::Gateway { client, wanted } => held(client, wanted.as_ref()).await?,
        };
        Ok(Answers { schema: SCHEMA, targets, notes })
    }

    async fn source(self) -> Result<Source, Failure> {
        let expression = self.expression.as_deref().map(Expression::parse).transpose();
        let expression = expression.map_err(|error| {
            let text = self.expression.as_deref().unwrap_or_default();
            let hint = "write a target such as `consul/web`, or several with `|` and `&`";
            Failure::new(format!("`{text}`, byte {}: {}", error.offset, error.message), hint, Exit::Wrong)
        })?;
        if let Some(address) = &self.admin {
            let address = parse_address(address)
                .map_err(|error| Failure::new(error, "--admin takes the value of admin.listen", Exit::Wrong))?;
            return Ok(Source::Gateway { client: Client::new(address, self.timeout), wanted: expression });
        }
        let lookup = match &expression {
            None if self.config.is_empty() => {
                let hint = "name a target (`meshless targets consul/web`), a configuration (-c FILE) or a gateway \
                            (--admin ADDRESS)";
                return Err(Failure::new("there is nothing to resolve", hint, Exit::Wrong));
            }
            Some(expression) if self.config.is_empty() => Lookup::of_expression(expression, &Process),
            expression => {
                let sets = check::sets(self.sets).map_err(|text| Failure { text, exit: Exit::Wrong })?;
                let surroundings = locate(&self.config, Arc::new(Process)).await;
                Lookup::of_files(&self.config, &*surroundings, &sets, expression.as_ref())
            }
        };
        let lookup = lookup.map_err(|error| match error {
            LookupError::Configuration(problems) => Failure { text: format!("{problems}\n"), exit: Exit::Wrong },
            LookupError::Expression { reason, hint } => Failure::new(reason, hint, Exit::Wrong),
        })?;
        for warning in &lookup.warnings {
            complain(&format!("{warning}\n"), Exit::Done);
        }
        Ok(Source::Backends(lookup))
    }
}

impl Source {
    /// Prints what is there, then what changes, until somebody says that it is enough.
    async fn watch(&self, json: bool) -> Result<(), Failure> {
        let ends = async {
            match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
                (Ok(mut interrupt), Ok(mut terminate)) => {
                    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                }
                // Without handlers the signals end the process as they always do.
                _ => std::future::pending().await,
            }
        };
        let watching = async {
            let watched = match self {
                Self::Backends(lookup) => {
                    for note in &lookup.notes {
                        complain(&format!("note: {note}\n"), Exit::Done);
                    }
                    Some(lookup.watch())
                }
                Self::Gateway { .. } => None,
            };
            let mut known: Option<Vec<TargetView>> = None;
            loop {
                let now = self.look(watched.as_ref()).await;
                let now = match (now, &known) {
                    (Ok(now), _) => now,
                    // A gateway that restarts is asked again.
                    (Err(failure), Some(known)) => {
                        complain(&failure.text, Exit::Done);
                        known.clone()
                    }
                    (Err(failure), None) => return Err(failure),
                };
                if !told(known.as_deref().unwrap_or_default(), &now, json) {
                    return Ok(());
                }
                known = Some(now);
                tokio::time::sleep(if watched.is_some() { LOOK } else { ASK }).await;
            }
        };
        tokio::select! { () = ends => Ok(()), done = watching => done }
    }

    async fn look(&self, watched: Option<&Watched>) -> Result<Vec<TargetView>, Failure> {
        match (self, watched) {
            (_, Some(watched)) => Ok(watched.look()),
            (Self::Gateway { client, wanted }, None) => Ok(held(client, wanted.as_ref()).await?.0),
            (Self::Backends(_), None) => Ok(Vec::new()),
        }
    }
}

/// Asks a gateway what it holds.
async fn held(client: &Client, wanted: Option<&Expression>) -> Result<(Vec<TargetView>, Vec<String>), Failure> {
    let targets: Vec<TargetView> = get(client, "/targets").await?;
    let Some(wanted) = wanted else { return Ok((targets, Vec::new())) };
    let mut names: Vec<String> = wanted.targets().map(ToString::to_string).collect();
    if wanted.services().next().is_some() {
        let services: Vec<ServiceView> = get(client, "/services").await?;
        for name in wanted.services() {
            let found = services.iter().find(|service| service.name == name);
            let Some(from) = found.and_then(|service| Expression::parse(&service.from).ok()) else {
                let hint = "`meshless status` lists the services of the gateway";
                return Err(Failure::new(format!("the gateway has no service `{name}`"), hint, Exit::Wrong));
            };
            names.extend(from.targets().map(ToString::to_string));
        }
    }
    if let Some(unknown) = names.iter().find(|name| !targets.iter().any(|target| target.target == **name)) {
        let hint = "it follows what its configuration names, and logical names while they are used; without --admin \
                    the backends are asked directly";
        return Err(Failure::new(format!("the gateway does not follow `{unknown}`"), hint, Exit::Wrong));
    }
    Ok((targets.into_iter().filter(|target| names.contains(&target.target)).collect(), Vec::new()))
}

async fn get<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, Failure> {
    let hint = format!("is it running? --admin takes admin.listen of its configuration, {DEFAULT_ADDRESS} if not set");
    let reply = client.get(path).await.map_err(|error| Failure::new(error, hint, Exit::Unreachable))?;
    let strange = |reason: String| {
        let hint = "is that the admin interface (admin.listen, not admin.probes) of a meshless of this version?";
        Failure::new(format!("{path} at {} {reason}", client.address()), hint, Exit::Failed)
    };
    if !reply.status.is_success() {
        return Err(strange(format!("was answered with {}", reply.status)));
    }
    serde_json::from_str(&reply.text).map_err(|error| strange(format!("cannot be read: {error}")))
}

fn shown(answers: &Answers, json: bool) -> Exit {
    if !json {
        return print(&Text(answers).to_string());
    }
    match serde_json::to_string_pretty(answers) {
        Ok(text) => print(&(text + "\n")),
        Err(error) => complain(&format!("error: {error}\nhint: this is a bug: please report it\n"), Exit::Failed),
    }
}

/// Prints what changed; `false` where nobody reads any more.
fn told(before: &[TargetView], now: &[TargetView], json: bool) -> bool {
    let at = Timestamp(SystemTime::now()).to_string();
    changes(before, now).iter().all(|change| {
        let line = if json { with_time(&at, change) } else { format!("{at} {change}\n") };
        print_while_read(&line)
    })
}

fn with_time(at: &str, change: &meshless::targets::Change) -> String {
    let mut value = serde_json::to_value(change).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("at".to_owned(), at.into());
    }
    format!("{value}\n")
}

/// Prints; `false` where nobody reads any more.
fn print_while_read(text: &str) -> bool {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}

fn exit(outcome: Outcome) -> Exit {
    match outcome {
        Outcome::Answered => Exit::Done,
        Outcome::Denied => Exit::Denied,
        Outcome::Failed => Exit::Failed,
        Outcome::Unreachable => Exit::Unreachable,
    }
}

fn period(text: &str) -> Result<Duration, String> {
    match text.parse::<Period>() {
        Ok(Period(period)) if !period.is_zero() => Ok(period),
        Ok(_) => Err("expected more than 0s".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
