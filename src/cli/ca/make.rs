//! `meshless ca init`, `backup` and `restore`: what is done with files.

use std::path::PathBuf;

use clap::Args;
use meshless_certs::TrustDomain;
use meshless_certs::authority::command::{Command, Reply, Secret};
use meshless_certs::authority::{Passphrase, init, restore};
use serde_json::json;
use zeroize::Zeroizing;

use super::place::{Failure, Place};
use super::{Exit, ask, show, write_backup};

#[derive(Debug, Args)]
pub(super) struct Init {
    /// Name of the trust domain, such as example.org: the first part of every identity
    #[arg(long, value_name = "NAME")]
    trust_domain: TrustDomain,
    /// Keep the root's key in another directory, to be taken off this machine
    #[arg(long, value_name = "DIR")]
    root_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Where to write it; there must be no such file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What it is sealed with, 12 bytes or more
    #[arg(long, value_name = "FILE")]
    backup_passphrase_file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup
    backup: PathBuf,
    /// What it is sealed with
    #[arg(long, value_name = "FILE")]
    backup_passphrase_file: PathBuf,
}

impl Init {
    pub(super) fn run(&self, place: &Place) -> Result<Exit, Failure> {
        let (directory, options) = (place.directory()?, place.options()?);
        let made = init(&directory, &self.trust_domain, &options, self.root_dir.as_deref())?;
        let text = format!(
            "made the authority of {} in {}\npin (identity.authority_pin): {}\n{}",
            self.trust_domain,
            directory.display(),
            made.pin,
            self.root_dir.as_ref().map_or_else(String::new, |elsewhere| format!(
                "the root's key is in {}: take it off this machine; the next intermediate needs it\n",
                elsewhere.display()
            ))
        );
        let value = json!({ "directory": directory, "trust_domain": self.trust_domain.as_str(), "root": made.root, "pin": made.pin });
        Ok(show::print_either(&text, &value, place.json))
    }
}

impl Backup {
    pub(super) fn run(&self, place: &Place) -> Result<Exit, Failure> {
        if self.out.exists() {
            return Err(Failure::wrong(format!(
                "{} is there already; a backup is never written over",
                self.out.display()
            )));
        }
        let passphrase = Zeroizing::new(
            std::fs::read_to_string(&self.backup_passphrase_file)
                .map_err(|error| Failure::wrong(format!("{}: {error}", self.backup_passphrase_file.display())))?,
        );
        let Reply::Backup(sealed) = ask(place, Command::Backup { passphrase: Secret::new(passphrase) })? else {
            return Err(Failure::failed("the authority answered something else; is it a meshless of this version?"));
        };
        write_backup(&self.out, &sealed)?;
        let text = format!("wrote {}; the audit log is not in it: copy that too\n", self.out.display());
        Ok(show::print_either(&text, &json!({ "backup": self.out }), place.json))
    }
}

impl Restore {
    pub(super) fn run(&self, place: &Place) -> Result<Exit, Failure> {
        let (directory, options) = (place.directory()?, place.options()?);
        let passphrase = Passphrase::read(&self.backup_passphrase_file).map_err(Failure::wrong)?;
        let bytes = std::fs::read(&self.backup)
            .map_err(|error| Failure::wrong(format!("{}: {error}", self.backup.display())))?;
        let restored = restore(&directory, &bytes, &passphrase, &options)?;
        let text = format!(
            "restored the authority of {} as it was at {} into {}\nthe bundle has sequence {}; join tokens that were made \
             before are refused\n",
            restored.trust_domain,
            restored.made,
            directory.display(),
            restored.sequence
        );
        let value = json!({
            "directory": directory, "trust_domain": restored.trust_domain, "made": restored.made,
            "sequence": restored.sequence,
        });
        Ok(show::print_either(&text, &value, place.json))
    }
}
