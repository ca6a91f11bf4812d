//! A network of the benchmark's own, so that nobody else's traffic or settings are in the figures.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::process;

/// Open files that a run needs: two for each connection and some.
const OPEN_FILES: usize = 16_384;

/// Runs this program again with `arguments`, inside a new network where we may make one.
///
/// The network lives as long as that process: nothing is left behind, whatever happens.
pub(crate) fn enter(arguments: &[String]) -> anyhow::Result<()> {
    let ourselves = std::env::current_exe().context("find this program")?;
    let limit = format!("--nofile={OPEN_FILES}");
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("unshare");
        command.args(["--net", "prlimit", &limit]);
        command
    } else {
        println!("not root: no network of its own, so the machine's loopback and its settings are in the figures");
        let mut command = Command::new("prlimit");
        command.arg(limit);
        command
    };
    command.arg(ourselves).args(arguments);
    // Cargo's variables say where the target folder is; all else is the same.
    process::run(&mut command)
}

/// Brings loopback up and fixes congestion control: bbr, a common default, halves bulk efficiency on loopback.
pub(crate) fn prepare() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    process::output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let setting = Path::new("/proc/sys/net/ipv4/tcp_congestion_control");
    fs::write(setting, "reno").context("set congestion control in the benchmark's network")
}
