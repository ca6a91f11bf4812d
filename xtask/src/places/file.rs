//! A directory of files; what is broken is the directory.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Health, Listed, Place, Played, Trouble};

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Where it is kept while it is away.
    away: PathBuf,
    text: String,
}

impl Directory {
    pub(super) fn new(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("endpoints.d");
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path, away: folder.join("away"), text: "[services]\n".to_owned() })
    }

    /// Writes beside the file and renames, as everybody should.
    fn write(&self, text: &str) -> anyhow::Result<()> {
        let scratch = self.path.join(".services.toml");
        fs::write(&scratch, text).context("write a file of endpoints")?;
        fs::rename(&scratch, self.path.join("services.toml")).context("rename a file of endpoints")
    }
}

impl Place for Directory {
    fn configuration(&self) -> String {
        format!("[discovery.file]\npath = \"{}\"\n", self.path.display())
    }

    fn target(&self, service: &str) -> String {
        format!("file/{service}")
    }

    fn set(&mut self, service: &str, endpoints: &[Listed]) -> anyhow::Result<()> {
        let mut text = format!("[services]\n{service} = [\n");
        for endpoint in endpoints {
            let health = match endpoint.health {
                Health::Healthy => "healthy",
                Health::Unhealthy => "unhealthy",
            };
            let _ = writeln!(text, "  {{ address = \"{}\", health = \"{health}\" }},", endpoint.address);
        }
        text.push_str("]\n");
        self.write(&text)?;
        self.text = text;
        Ok(())
    }

    fn strike(&mut self, trouble: Trouble) -> anyhow::Result<Played> {
        match trouble {
            Trouble::Killed => fs::rename(&self.path, &self.away).context("move a directory away")?,
            Trouble::Garbage => self.write("\u{0}{[\"not\": toml")?,
            Trouble::Empty => self.write("[services]\n")?,
            Trouble::Replaced => {
                fs::remove_dir_all(&self.path).context("remove a directory")?;
                fs::create_dir(&self.path).context("create a directory")?;
            }
            Trouble::Fails | Trouble::Frozen | Trouble::Revoked | Trouble::Slow => return Ok(Played::Impossible),
        }
        Ok(Played::Done)
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        if self.away.exists() {
            fs::rename(&self.away, &self.path).context("move a directory back")?;
        }
        self.write(&self.text)
    }
}
