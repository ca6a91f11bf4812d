//! `meshless ca`: the authority, from the terminal.
//!
//! Every command is one [`Command`] that is done on the authority's directory, or by the server that has it open, at its
//! socket: the same code either way.

mod ask;
mod make;
mod place;
mod serve;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use meshless::config::units::Period;
use meshless_certs::attest::Method;
use meshless_certs::authority::command::{Command, Reply, Secret};
use meshless_certs::authority::{Cidr, ROOT_CERTIFICATE, Rule, backup_bytes, make_root_key, publish, read_root_key};

use super::{Exit, complain};
use ask::ask;
use place::{Failure, Place};

/// The certificate authority: make one, and look after it; exit code 64 wrong, 69 nobody answers, 77 not permitted
#[derive(Debug, Args)]
pub(super) struct Ca {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The audit log
    #[command(subcommand)]
    Audit(Audit),
    /// Write all of it but the audit log into one sealed file
    Backup(make::Backup),
    /// Give an identity nothing any more
    Block(Identity),
    /// Print the roots, and what to pin
    Bundle,
    /// Rules in the database, besides those of `[ca] allow`
    #[command(subcommand)]
    Entry(Entry),
    /// Make an authority: a root, and the intermediate that signs
    Init(make::Init),
    /// Sign a request by hand
    Issue(Issue),
    /// Make the authority of a backup in an empty directory
    Restore(make::Restore),
    /// Replace the intermediate or the root: prepare, activate, retire
    #[command(subcommand)]
    Rotate(Rotate),
    Serve(serve::Serve),
    /// Show roots, intermediates, the next steps and counts
    Status,
    /// Join tokens
    #[command(subcommand)]
    Token(Token),
    /// Give an identity certificates again
    Unblock(Identity),
}

#[derive(Debug, Subcommand)]
enum Audit {
    /// Find a line that was changed, moved or taken away
    Verify,
}

#[derive(Debug, Args)]
struct Identity {
    /// Which one: /svc/NAME
    id: String,
}

#[derive(Debug, Subcommand)]
enum Entry {
    /// Add one: an identity, and the facts that must be proved for it
    Add {
        /// Who attests: aws-iam, ec2, kubernetes or x509
        #[arg(long, value_parser = method)]
        attestor: Method,
        /// The identity: /svc/NAME, where facts may stand in NAME as {fact}
        #[arg(long)]
        id: String,
        /// A fact that must be proved, such as namespace=default; may be given again
        #[arg(long = "fact", value_name = "NAME=VALUE", value_parser = super::check::name_and_value)]
        facts: Vec<(String, String)>,
    },
    /// List them
    List,
    /// Remove one; what it gave is not renewed
    Remove {
        /// As `list` prints it
        entry: String,
    },
}

#[derive(Debug, Args)]
struct Issue {
    /// The request: PKCS#10, PEM or DER
    request: PathBuf,
    /// For whom: /svc/NAME
    #[arg(long)]
    id: String,
}

#[derive(Debug, Subcommand)]
enum Rotate {
    /// Make the next intermediate now; by itself it is made at half of the life
    Intermediate {
        /// The root's key, where it is kept elsewhere
        #[arg(long, value_name = "FILE")]
        root_key: Option<PathBuf>,
        /// Let it sign at once
        #[arg(long)]
        now: bool,
    },
    /// Make the next root; it signs once everybody has heard of it
    Root {
        /// Keep the new root's key in another directory, which must not have one yet
        #[arg(long, value_name = "DIR", conflicts_with = "now")]
        root_dir: Option<PathBuf>,
        /// Let the prepared one sign at once
        #[arg(long)]
        now: bool,
    },
}

#[derive(Debug, Subcommand)]
enum Token {
    /// Make one, and print it: it is shown once
    Create {
        /// For whom: /svc/NAME
        #[arg(long)]
        id: String,
        /// How long it is good, at most 24h (default: 10m)
        #[arg(long, value_parser = period)]
        ttl: Option<Duration>,
        /// From where it may be used, such as 10.0.0.0/8
        #[arg(long)]
        cidr: Option<Cidr>,
    },
    /// List them, without what only the workload knows
    List,
    /// Make one worth nothing, used or not: what it gave is not renewed
    Revoke {
        /// As `list` prints it
        token: String,
    },
}

impl Ca {
    pub(super) fn run(self) -> Exit {
        let Self { place, what } = self;
        match what.run(&place) {
            Ok(exit) => exit,
            Err(Failure { text, exit }) => complain(&text, exit),
        }
    }
}

impl What {
    fn run(self, place: &Place) -> Result<Exit, Failure> {
        let command = match self {
            Self::Init(init) => return init.run(place),
            Self::Serve(serve) => return Ok(serve.run(place)),
            Self::Restore(restore) => return restore.run(place),
            Self::Backup(backup) => return backup.run(place),
            Self::Rotate(Rotate::Root { root_dir: Some(elsewhere), .. }) => {
                return rotate_root_elsewhere(place, &elsewhere);
            }
            Self::Audit(Audit::Verify) => Command::AuditVerify,
            Self::Block(Identity { id }) => Command::Block { id },
            Self::Bundle => Command::Bundle,
            Self::Entry(Entry::Add { attestor, id, facts }) => {
                let facts = super::check::sets(facts).map_err(|text| Failure::wrong(text.trim_end()))?;
                Command::EntryAdd { rule: Rule::new(attestor, facts, &id).map_err(Failure::wrong)? }
            }
            Self::Entry(Entry::List) => Command::EntryList,
            Self::Entry(Entry::Remove { entry }) => Command::EntryRemove { id: entry },
            Self::Issue(Issue { request, id }) => {
                let file = std::fs::read(&request)
                    .map_err(|error| Failure::wrong(format!("{}: {error}", request.display())))?;
                let csr = meshless_certs::authority::request_of(&file)?;
                Command::Issue { csr, id }
            }
            Self::Rotate(Rotate::Intermediate { root_key, now }) => {
                let options = place.options()?;
                let key = root_key.map(|path| read_root_key(&path, &options)).transpose()?;
                Command::RotateIntermediate { root_key: key.map(Secret::new), now }
            }
            Self::Rotate(Rotate::Root { now, .. }) => Command::RotateRoot { root_key: None, now },
            Self::Status => Command::Status,
            Self::Token(Token::Create { id, ttl, cidr }) => Command::TokenCreate { id, ttl, cidr },
            Self::Token(Token::List) => Command::TokenList,
            Self::Token(Token::Revoke { token }) => Command::TokenRevoke { id: token },
            Self::Unblock(Identity { id }) => Command::Unblock { id },
        };
        let reply = ask(place, command)?;
        Ok(show::print_reply(&reply, place.json))
    }
}

/// The key is made and written down before anybody hears of it: whatever happens then, it is not lost.
fn rotate_root_elsewhere(place: &Place, elsewhere: &std::path::Path) -> Result<Exit, Failure> {
    let options = place.options()?;
    // Somebody who cannot be asked is found out before a key lies around.
    ask(place, Command::Status)?;
    let key = make_root_key(elsewhere, &options)?;
    let reply = ask(place, Command::RotateRoot { root_key: Some(Secret::new(key)), now: false })?;
    if let Reply::Rotated { root: Some(root), .. } = &reply {
        publish(&elsewhere.join(ROOT_CERTIFICATE), root.as_bytes()).map_err(Failure::failed)?;
    }
    Ok(show::print_reply(&reply, place.json))
}

/// Writes a backup down; `reply` is what the authority sealed.
fn write_backup(path: &std::path::Path, reply: &Secret) -> Result<(), Failure> {
    publish(path, &backup_bytes(reply)?).map_err(Failure::failed)
}

fn method(text: &str) -> Result<Method, String> {
    [Method::AwsIam, Method::Ec2, Method::Kubernetes, Method::X509]
        .into_iter()
        .find(|method| method.label() == text)
        .ok_or_else(|| "expected aws-iam, ec2, kubernetes or x509".to_owned())
}

fn period(text: &str) -> Result<Duration, String> {
    text.parse::<Period>().map(|period| period.0).map_err(|error| error.to_string())
}
