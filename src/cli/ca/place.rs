//! Which authority is meant, and how it works.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use meshless::config::{self, Config};
use meshless_certs::authority::command::{Refusal, RefusalKind};
use meshless_certs::authority::{OpenError, Options, Passphrase};
use meshless_platforms::{Process, Surroundings as _};

use super::Exit;
use crate::cli::{check, complain};

/// Which authority is meant.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// Its directory (default: `ca.state_dir` of -c, else `$STATE_DIRECTORY/ca`, else /var/lib/meshless/ca)
    #[arg(long, value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
    /// Read [ca] of a configuration: file, or directory of files; may be given again
    #[arg(short, long = "config", value_name = "PATH", global = true)]
    config: Vec<PathBuf>,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = check::name_and_value, global = true)]
    sets: Vec<(String, String)>,
    /// What its keys at rest are sealed with (default: `ca.passphrase_file` of -c)
    #[arg(long, value_name = "FILE", global = true)]
    passphrase_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Why there is nothing to print.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) exit: Exit,
}

impl Failure {
    pub(super) fn new(error: impl std::fmt::Display, exit: Exit) -> Self {
        Self { text: format!("error: {error}\n"), exit }
    }

    pub(super) fn wrong(error: impl std::fmt::Display) -> Self {
        Self::new(error, Exit::Wrong)
    }

    pub(super) fn failed(error: impl std::fmt::Display) -> Self {
        Self::new(error, Exit::Failed)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let exit = match refusal.kind {
            RefusalKind::Failed => Exit::Failed,
            RefusalKind::NotAllowed => Exit::Denied,
            RefusalKind::Wrong => Exit::Wrong,
        };
        Self::new(refusal, exit)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = match error {
            OpenError::None(_) | OpenError::Exists(_) | OpenError::Torn { .. } | OpenError::Options(_) => Exit::Wrong,
            OpenError::InUse(_) => Exit::Unreachable,
            OpenError::Directory(_) => Exit::Denied,
            _ => Exit::Failed,
        };
        Self::new(error, exit)
    }
}

impl Place {
    /// Returns the directory.
    pub(super) fn directory(&self) -> Result<PathBuf, Failure> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        if let Some(ca) = self.read()?.and_then(|config| config.ca) {
            return Ok(ca.state_dir);
        }
        // systemd separates several directories by colons; the first one is ours.
        let systemd = Process.variable("STATE_DIRECTORY").unwrap_or_default();
        let systemd = systemd.split(':').next().filter(|path| !path.is_empty());
        Ok(PathBuf::from(systemd.unwrap_or("/var/lib/meshless")).join("ca"))
    }

    /// Returns how it works.
    pub(super) fn options(&self) -> Result<Options, Failure> {
        let ca = self.read()?.and_then(|config| config.ca);
        let mut options = Options::default();
        let mut passphrase_file = self.passphrase_file.clone();
        if let Some(ca) = ca {
            options.leaf_ttl = ca.leaf_ttl;
            options.intermediate_ttl = ca.intermediate_ttl;
            options.limits = ca.limits.into();
            options.rules = ca.allow;
            passphrase_file = passphrase_file.or(ca.passphrase_file);
        }
        options.passphrase = passphrase_file.map(|path| Passphrase::read(&path)).transpose().map_err(Failure::wrong)?;
        Ok(options)
    }

    /// Returns the files of the configuration and the values for it; none is an error.
    pub(super) fn configuration(&self) -> Result<(Vec<PathBuf>, BTreeMap<String, String>), Failure> {
        if self.config.is_empty() {
            return Err(Failure::wrong("say by which configuration: `-c FILE`, with `[ca]` and its `listen`"));
        }
        if self.dir.is_some() || self.passphrase_file.is_some() {
            return Err(Failure::wrong(
                "`serve` takes all of it from `-c`: write `ca.state_dir` and `ca.passphrase_file` there",
            ));
        }
        let sets = check::sets(self.sets.clone()).map_err(|text| Failure { text, exit: Exit::Wrong })?;
        Ok((self.config.clone(), sets))
    }

    fn read(&self) -> Result<Option<Config>, Failure> {
        if self.config.is_empty() {
            return Ok(None);
        }
        let sets = check::sets(self.sets.clone()).map_err(|text| Failure { text, exit: Exit::Wrong })?;
        let loaded = config::load(&self.config, &Process, &sets)
            .map_err(|problems| Failure { text: format!("{problems}\n"), exit: Exit::Wrong })?;
        for warning in &loaded.warnings {
            complain(&format!("{warning}\n"), Exit::Done);
        }
        Ok(Some(loaded.config))
    }
}
