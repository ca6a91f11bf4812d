//! Programs of Debian's archive that the machine's release may not have, or that must not be installed: each of them
//! would start a server.
//!
//! They are fetched by apt with a configuration of its own, from the mirror that the machine uses anyway, and unpacked
//! into the cache: nothing is installed, and what apt knows about the machine stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::{process, workspace};

/// A package with a program that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// Name of the package.
    name: &'static str,
    /// Name of the program, in `/usr/bin`.
    pub(crate) program: &'static str,
    /// The upstream version; Debian adds a revision.
    pub(crate) version: &'static str,
    /// The release of Debian that has it.
    suite: &'static str,
}

/// A real Consul: the last one that Debian has.
pub(crate) const CONSUL: Package = Package { name: "consul", program: "consul", version: "1.8.7", suite: "bullseye" };

/// What a real API server keeps its objects in; the oldest that Kubernetes 1.33 takes is 3.4.
pub(crate) const ETCD: Package = Package { name: "etcd-server", program: "etcd", version: "3.4.23", suite: "bookworm" };

/// Debian's keys, which sign the release.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

impl Package {
    /// Returns the program, which is fetched on first use: some megabytes and an index.
    pub(crate) fn unpacked(&self) -> anyhow::Result<PathBuf> {
        let Self { program, version, suite, .. } = self;
        let folder = workspace::cache()?.join(format!("{program}-{version}"));
        let (path, whole) = (folder.join("usr/bin").join(program), folder.join("complete"));
        if !whole.exists() {
            anyhow::ensure!(
                process::find("apt-get").is_some(),
                "it comes from Debian's archive: install apt, or use Debian"
            );
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("remove a half-fetched {program}"))?;
            }
            let mirror = mirror()?;
            println!("  fetch {program} {version} ({suite})");
            self.fetch(&mirror, &folder)?;
            // Consul has a command for it alone, etcd an option alone; both know `--version`.
            process::output(Command::new(&path).arg("--version"))?;
            fs::write(&whole, b"").with_context(|| format!("mark {program} as complete"))?;
        }
        Ok(path)
    }

    fn fetch(&self, mirror: &str, folder: &Path) -> anyhow::Result<()> {
        let apt = folder.join("apt");
        for name in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.join(name)).with_context(|| format!("create {name} for apt"))?;
        }
        fs::write(apt.join("status"), b"").context("write a status for apt")?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {} main\n", self.suite);
        fs::write(apt.join("sources.list"), source).context("write a source for apt")?;
        let run = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            for (option, value) in [
                ("Dir::Etc::sourcelist", apt.join("sources.list")),
                ("Dir::Etc::sourceparts", "/dev/null".into()),
                ("Dir::State::lists", apt.join("lists")),
                ("Dir::State::status", apt.join("status")),
                ("Dir::Cache", apt.join("cache")),
            ] {
                command.arg("-o").arg(format!("{option}={}", value.display()));
            }
            // Without a user of its own apt could not write below a home.
            command.args(["-o", "APT::Sandbox::User=root", "-qq"]).args(arguments).current_dir(&apt);
            process::output(&mut command)
        };
        run(&["update"])?;
        run(&["download", &format!("{}={}*", self.name, self.version)])?;
        let package = fs::read_dir(&apt).context("look for the package")?.filter_map(|entry| Some(entry.ok()?.path()));
        let package = package.into_iter().find(|path| path.extension().is_some_and(|end| end == "deb"));
        process::output(Command::new("dpkg").arg("-x").arg(package.context("apt fetched no package")?).arg(folder))?;
        fs::remove_dir_all(&apt).context("remove what apt left")
    }
}

/// Returns where the machine has Debian's archive from.
fn mirror() -> anyhow::Result<String> {
    let format = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)";
    let targets = process::output(Command::new("apt-get").args(["indextargets", "--format", format]))?;
    choose(&targets).context("apt has no source of Debian's main archive")
}

/// Chooses the archive itself: not the one of security updates, nor that of another vendor.
fn choose(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let [created_by, component, release, uri] = line.split(' ').collect::<Vec<_>>().try_into().ok()?;
        let is_debian = uri.trim_end_matches('/').ends_with("/debian") && !release.contains("security");
        (created_by == "Packages" && component == "main" && is_debian).then(|| uri.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_chosen_and_not_its_security_updates_or_another_vendors() {
        let targets = "Packages main x-security mirror:/debian-security/\nPackages main nodistro mirror:/node_24.x/\n\
                       DEP-11 main x mirror:/debian/\nPackages main x mirror:/debian/\n";
        assert_eq!(choose(targets).as_deref(), Some("mirror:/debian/"));
        assert_eq!(choose("Packages main x mirror:/ubuntu/\n"), None);
    }
}
