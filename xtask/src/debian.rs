//! Debian's packages: what is there, and how to have more.

use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process;

/// Returns the version of an installed package; `None` where it is not installed or this is not Debian.
pub(crate) fn version(package: &str) -> Option<String> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Version}", package]);
    process::output(&mut query).ok().filter(|version| !version.is_empty())
}

/// Returns the line with which a person installs packages.
pub(crate) fn install_line(packages: &[&str]) -> String {
    format!("sudo apt-get install --no-install-recommends {}", packages.join(" "))
}

/// Installs packages if this process may (root, or `sudo` without a password), and says whether it did.
///
/// Packages of servers must not start them: a test starts what it needs, on a port of its own.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<bool> {
    if process::find("apt-get").is_none() {
        return Ok(false);
    }
    let Some(prefix) = privilege() else { return Ok(false) };
    let script = include_str!("debian_install.sh");
    let mut command = Command::new(prefix.first().copied().unwrap_or("sh"));
    command.args(prefix.iter().skip(1)).args(["-c", script, "install"]).args(packages);
    println!("  install {}", packages.join(" "));
    process::output(&mut command).with_context(|| format!("install {}", packages.join(" ")))?;
    Ok(true)
}

/// Returns how to start a shell that may install packages.
fn privilege() -> Option<&'static [&'static str]> {
    if rustix::process::geteuid().is_root() {
        return Some(&["sh"]);
    }
    let has_sudo = Path::new("/usr/bin/sudo").exists()
        && Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|output| output.status.success());
    has_sudo.then_some(&["sudo", "-n", "sh"])
}
