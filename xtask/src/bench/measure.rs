//! What the kernel says about a tree of processes.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;

use crate::process;

/// Returns the CPU time that all threads of the processes and their children have had, from `schedstat` (ns).
///
/// A thread that ended is not counted; the proxies measured here start theirs once.
pub(crate) fn cpu_time(roots: &[u32]) -> anyhow::Result<Duration> {
    let mut total = Duration::ZERO;
    for process in tree(roots)? {
        let folder = format!("/proc/{process}/task");
        for thread in fs::read_dir(&folder).with_context(|| format!("read {folder}: did the process end?"))? {
            let file = thread.context("read the list of threads")?.path().join("schedstat");
            // A thread may have ended since it was listed.
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let nanoseconds = text.split(' ').next().and_then(|number| number.parse().ok());
            total += Duration::from_nanos(nanoseconds.with_context(|| format!("understand {}", file.display()))?);
        }
    }
    Ok(total)
}

/// Returns the resident memory of the processes and their children in bytes, once it has stopped moving.
pub(crate) fn settled_memory(roots: &[u32]) -> anyhow::Result<u64> {
    let mut last = resident(roots)?;
    for _ in 0..20 {
        process::pause(Duration::from_millis(250));
        let now = resident(roots)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

fn resident(roots: &[u32]) -> anyhow::Result<u64> {
    let mut total = 0;
    for process in tree(roots)? {
        let file = format!("/proc/{process}/status");
        let text = fs::read_to_string(&file).with_context(|| format!("read {file}: did the process end?"))?;
        total += resident_of(&text).with_context(|| format!("understand {file}"))?;
    }
    Ok(total)
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Returns the processes and all that descend from them.
fn tree(roots: &[u32]) -> anyhow::Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("read /proc")? {
        let entry = entry.context("read /proc")?;
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended since it was listed.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = parent_of(&stat) {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = roots.to_vec();
    let mut index = 0;
    while let Some(process) = found.get(index).copied() {
        found.extend(children.remove(&process).unwrap_or_default());
        index += 1;
    }
    Ok(found)
}

/// The name of a process, in parentheses, may contain anything: what follows the last one counts.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_found_behind_a_name_with_spaces_and_parentheses() {
        assert_eq!(parent_of("812 (a b) c) S 411 812 812 0 -1"), Some(411));
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2 * 1024 * 1024));
    }

    #[test]
    fn a_process_that_works_gets_cpu_time() {
        // A process of its own: threads of other tests end while we look, and take their time with them.
        let mut working = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let before = cpu_time(&[working.id()]).unwrap();
        let grew = process::poll(Duration::from_secs(20), || Ok((cpu_time(&[working.id()])? > before).then_some(())));
        working.kill().unwrap();
        working.wait().unwrap();
        assert_eq!(grew.unwrap(), Some(()));
    }
}
