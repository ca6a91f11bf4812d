//! The sidecar beside the demo's services: it has the authority in it, and lets nobody in without an identity.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use meshless::compose::{Gateway, Options, StartError};
use meshless::config::ListenAddress;
use meshless_certs::TrustDomain;
use meshless_certs::authority::command::{Command, Reply};
use meshless_certs::authority::{self, Authority};

use super::service::Instance;

/// Name of the demo's trust domain.
pub(super) const TRUST_DOMAIN: &str = "demo.example";
/// Where its admin interface listens if nobody else does.
const ADMIN_PORT: u16 = 9991;
/// The services: each has a listener of its own.
pub(super) const SERVICES: [&str; 3] = ["web-v1", "web-v2", "slow"];

/// The sidecar, and what the other one needs to know of it.
pub(super) struct Sidecar {
    pub(super) gateway: Gateway,
    /// Where the authority listens.
    pub(super) authority: SocketAddr,
    /// What the authority is known by.
    pub(super) pin: String,
    /// A join token for the other one.
    pub(super) token: PathBuf,
}

impl Sidecar {
    /// Makes an authority in `folder`, and starts the sidecar with it.
    pub(super) fn start(folder: &Path, instances: &[Instance], options: Options) -> anyhow::Result<Self> {
        let (pin, token) = make_authority(folder)?;
        let file = folder.join("sidecar.toml");
        let options = Options { paths: vec![file.clone()], ..options };
        let mut gateway = None;
        for admin in [ADMIN_PORT, 0] {
            fs::write(&file, configuration(folder, admin, instances))?;
            match Gateway::start(options.clone()) {
                Err(StartError::Bind(_) | StartError::Admin(_)) if admin != 0 => {}
                started => {
                    gateway = Some(started?);
                    break;
                }
            }
        }
        let gateway = gateway.ok_or_else(|| anyhow::anyhow!("the sidecar did not start"))?;
        let authority = gateway.authority().ok_or_else(|| anyhow::anyhow!("the authority does not listen"))?;
        Ok(Self { gateway, authority, pin, token })
    }

    /// Returns where a service's listener is.
    pub(super) fn address(&self, service: &str) -> anyhow::Result<SocketAddr> {
        match self.gateway.addresses().remove(service) {
            Some(ListenAddress::Tcp(address)) => Ok(address),
            _ => anyhow::bail!("the sidecar does not listen for `{service}`"),
        }
    }
}

/// Returns its pin and a file with a join token for `/svc/edge`.
fn make_authority(folder: &Path) -> anyhow::Result<(String, PathBuf)> {
    let (directory, options) = (folder.join("ca"), authority::Options::default());
    let trust_domain: TrustDomain = TRUST_DOMAIN.parse()?;
    let made = authority::init(&directory, &trust_domain, &options, None)?;
    let opened = Authority::open(&directory, options, Vec::new())?;
    let wanted = Command::TokenCreate { id: "/svc/edge".to_owned(), ttl: None, cidr: None };
    let Reply::TokenCreated { token, .. } = opened.execute(wanted)? else {
        anyhow::bail!("the authority made no token");
    };
    let path = folder.join("edge.token");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(token.expose().as_bytes())?;
    Ok((made.pin, path))
}

fn configuration(folder: &Path, admin: u16, instances: &[Instance]) -> String {
    use std::fmt::Write as _;
    let folder = folder.display();
    let mut text = format!(
        "# The sidecar of the services. It has the authority in it, and lets in who is spiffe://{TRUST_DOMAIN}/svc/edge.\n\
         [node]\nservice = \"web\"\nstate_dir = \"{folder}/sidecar\"\n\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n\n\
         [ca]\nlisten = \"127.0.0.1:0\"\nstate_dir = \"{folder}/ca\"\n\n\
         [identity]\ntrust_domain = \"{TRUST_DOMAIN}\"\nauthority = \"embedded\"\n\n\
         [telemetry]\naccess_log = \"off\"\n\n\
         [shutdown]\ndrain = \"5s\"\n"
    );
    for service in SERVICES {
        let addresses = instances.iter().filter(|instance| instance.service == service);
        let addresses: Vec<String> = addresses.map(|instance| instance.address.to_string()).collect();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n[services.{service}]\nfrom = \"static/{}\"\n\n\
             [[listeners]]\nname = \"{service}\"\nlisten = \"127.0.0.1:0\"\ntls = {{ mode = \"strict\" }}\n\
             allow = [{{ from = \"spiffe://{TRUST_DOMAIN}/svc/edge\" }}]\n\n\
             [[routes]]\nlistener = \"{service}\"\nto = \"{service}\"\n",
            addresses.join(",")
        );
    }
    text
}
