//! `meshless demo`: two sidecars between small services on loopback, with nothing to install.
//!
//! Services, traffic, both sidecars and the authority live in this one process; they are the real ones, started from real
//! files that may be edited while they run. What goes from one sidecar to the other goes by mTLS.

mod service;
mod sidecar;
mod traffic;

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use meshless::admin::client::Client;
use meshless::compose::{Gateway, Options, StartError};
use meshless::config::ListenAddress;
use meshless::telemetry::log::{self, LogFormat};
use meshless_platforms::{Process, Scripted, Surroundings as _};

use self::service::Instance;
use self::sidecar::{SERVICES, Sidecar, TRUST_DOMAIN};
use self::traffic::Traffic;
use super::{Exit, complain, print};

/// Where things listen if nobody else does; otherwise the system chooses.
const GATEWAY_PORT: u16 = 4140;
const ADMIN_PORT: u16 = 9990;
/// The first service's port; the others follow.
const SERVICE_PORT: u16 = 8081;
/// Longest that the traffic waits for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show two sidecars and an authority on loopback: two versions of `web`, one `slow`, light traffic. Ctrl-C ends it
///
/// Everything runs in this process and nothing is installed. It shows routing by path, a weighted split, mTLS between two
/// sidecars by certificates that an authority issued, retries when an instance goes away, hot reload and the admin
/// interface.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Requests a second that are sent through the gateway; 0 for none
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=200))]
    rate: u32,
    /// Minutes after which the traffic stops; the services and the gateway stay until Ctrl-C
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1440))]
    minutes: u64,
}

/// A directory that goes with the demo.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> io::Result<Self> {
        let parent = PathBuf::from(Process.variable("TMPDIR").unwrap_or_else(|| "/tmp".to_owned()));
        let path = parent.join(format!("meshless-demo-{}", std::process::id()));
        // Only ours: it fails where somebody else has made it.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is a few small files in a directory for temporary ones.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Demo {
    pub(super) fn run(self) -> Exit {
        // Warnings alone until the first lines are printed: they are what a person came for.
        let level = match log::install(LogFormat::for_terminal(io::stderr().is_terminal()), "warn") {
            Ok(level) => level,
            Err(error) => return complain(&format!("log: {error}\n"), Exit::Failed),
        };
        match self.show(&level) {
            Ok(exit) => exit,
            Err(error) => complain(&format!("meshless: {error:#}\n"), Exit::Failed),
        }
    }

    fn show(&self, log_level: &log::LogLevel) -> anyhow::Result<Exit> {
        let folder = Folder::new()?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("demo").enable_all().build()?;
        let (waiting, signals) = super::run::signals()?;
        let instances = runtime.block_on(async { start_instances() })?;
        let file = folder.0.join("demo.toml");
        let options = Options {
            paths: vec![file.clone()],
            sets: std::collections::BTreeMap::new(),
            // Nothing of the environment: what runs is what stands in the file.
            surroundings: Arc::new(Scripted::default()),
            log_level: log_level.clone(),
        };
        let sidecar = Sidecar::start(&folder.0, &instances, options.clone())?;
        let mut gateway = start(&file, &folder.0, &sidecar, options)?;
        runtime.block_on(ready(&gateway.admin))?;
        let Some(ListenAddress::Tcp(address)) = gateway.addresses().remove("demo") else {
            anyhow::bail!("the gateway does not listen");
        };
        if print(&introduction(address, &gateway.admin, &sidecar, &instances, &file)?) != Exit::Done {
            return Ok(Exit::Failed);
        }
        // From now on a reload is worth a line.
        log_level.set("info")?;
        let traffic = Traffic {
            rate: self.rate,
            length: Duration::from_secs(self.minutes * 60),
            gateway: Client::new(ListenAddress::Tcp(address), PATIENCE),
            // Tries are repeated where the instances are known.
            admin: Client::new(sidecar.gateway.admin.clone(), PATIENCE),
        };
        runtime.spawn(traffic.run());
        waiting.block_on(super::run::serve(&mut gateway, signals));
        runtime.shutdown_background();
        gateway.finish();
        sidecar.gateway.finish();
        drop(folder);
        print("Ended.\n");
        Ok(Exit::Done)
    }
}

/// Starts two instances of each version of `web`, and one of `slow`.
fn start_instances() -> io::Result<Vec<Instance>> {
    let plan = [("web-v1", "a"), ("web-v1", "b"), ("web-v2", "a"), ("web-v2", "b"), ("slow", "a")];
    (SERVICE_PORT..)
        .zip(plan)
        .map(|(port, (service, letter))| {
            let delay = if service == "slow" { Duration::from_millis(300) } else { Duration::ZERO };
            Instance::start(service, letter, delay, bind(port)?)
        })
        .collect()
}

/// Takes a port that is easy to remember, or any other.
fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
}

/// Starts the gateway at ports that are easy to remember, or at others where those are taken.
fn start(file: &Path, folder: &Path, sidecar: &Sidecar, options: Options) -> anyhow::Result<Gateway> {
    // Whoever asks first is told by the bind itself; a look before would only narrow the race.
    for (port, admin) in [(GATEWAY_PORT, ADMIN_PORT), (GATEWAY_PORT, 0), (0, ADMIN_PORT)] {
        fs::write(file, configuration(port, admin, folder, sidecar)?)?;
        match Gateway::start(options.clone()) {
            Err(StartError::Bind(_) | StartError::Admin(_)) => {}
            started => return Ok(started?),
        }
    }
    fs::write(file, configuration(0, 0, folder, sidecar)?)?;
    Ok(Gateway::start(options)?)
}

/// Waits until there is an identity, so that the first URL answers as soon as it is printed.
async fn ready(admin: &ListenAddress) -> anyhow::Result<()> {
    let client = Client::new(admin.clone(), PATIENCE);
    let deadline = tokio::time::Instant::now() + PATIENCE * 2;
    loop {
        match client.get("/ready").await {
            Ok(reply) if reply.status.is_success() => return Ok(()),
            Ok(reply) if tokio::time::Instant::now() > deadline => anyhow::bail!("not ready: {}", reply.text),
            Err(error) if tokio::time::Instant::now() > deadline => return Err(error.into()),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn configuration(port: u16, admin: u16, folder: &Path, sidecar: &Sidecar) -> anyhow::Result<String> {
    let mut services = String::new();
    for service in SERVICES {
        // Writing to a string cannot fail.
        let _ = write!(
            services,
            "[services.{service}]\nfrom = \"static/{}\"\ntls = \"mesh\"\n\
             identity = [\"spiffe://{TRUST_DOMAIN}/svc/web\"]\n\n",
            sidecar.address(service)?
        );
    }
    let (authority, pin, token, folder) = (sidecar.authority, &sidecar.pin, sidecar.token.display(), folder.display());
    Ok(format!(
        "# The demo's configuration. It is read again when it changes: try other weights below.\n\
         [node]\nservice = \"edge\"\nstate_dir = \"{folder}/edge\"\n\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n\n\
         [identity]\ntrust_domain = \"{TRUST_DOMAIN}\"\nauthority = \"https://{authority}\"\n\
         authority_pin = \"{pin}\"\nattest = \"join-token\"\ntoken_file = \"{token}\"\n\n\
         [[listeners]]\nname = \"demo\"\nlisten = \"127.0.0.1:{port}\"\n\n\
         {services}\
         [[routes]]\nname = \"slow\"\nmatch = {{ path = \"/slow/*\" }}\nto = \"slow\"\n\n\
         [[routes]]\nname = \"web\"\nto = \"90 * web-v1 & 10 * web-v2\"\n\n\
         [telemetry]\naccess_log = \"off\"\n\n\
         [shutdown]\ndrain = \"5s\"\n"
    ))
}

fn introduction(
    gateway: SocketAddr,
    admin: &ListenAddress,
    sidecar: &Sidecar,
    instances: &[Instance],
    file: &Path,
) -> anyhow::Result<String> {
    let mut text = format!("Open http://{gateway}\n\nThe admin interface of the first sidecar:\n");
    for (path, what) in [
        ("services", "what requests can be sent to"),
        ("identity", "who it is, until when, and whom it trusts"),
        ("metrics", "for Prometheus"),
        ("config", "what runs, and what was refused"),
    ] {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  http://{admin}/{path:<12} {what}");
    }
    let inner = &sidecar.gateway.admin;
    let _ = write!(
        text,
        "\nThe sidecar of the services, which lets nobody in but the first one:\n  \
         http://{inner}/endpoints    every instance, its load\n  \
         http://{inner}/identity     issued by the authority beside it, https://{}\n",
        sidecar.authority
    );
    text.push_str("\nThe services behind it:\n");
    for instance in instances {
        let _ = writeln!(text, "  http://{} {}", instance.address, instance.name());
    }
    let victim = instances.first().map_or(gateway, |instance| instance.address);
    let (file, inbound) = (file.display(), sidecar.address("web-v1")?);
    let _ = write!(
        text,
        "\nTry:\n\
         \x20 for i in $(seq 20); do curl -s http://{gateway}; done    # nine in ten answers are version 1\n\
         \x20 curl -s --http2-prior-knowledge -i http://{gateway}      # the same by HTTP/2\n\
         \x20 curl -s http://{gateway}/slow/                           # 300 ms\n\
         \x20 curl -s http://{victim}/stop                             # one instance is gone for 20 s: nothing fails\n\
         \x20 curl -sk https://{inbound}                              # nothing: curl has no identity\n\
         \x20 meshless status --admin {admin}\n\
         \x20 sed -i 's/90 \\* web-v1 & 10/50 * web-v1 \\& 50/' {file}\n\
         \x20                                                         # it is reloaded by itself; look at the counts below\n\
         \nCtrl-C ends it.\n\n"
    );
    Ok(text)
}
