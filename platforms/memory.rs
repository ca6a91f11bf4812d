//! How much memory this process may use, and how much of it is gone: the limit of its control group (pure; files are
//! handed in).
//!
//! Both versions of cgroups, in a container (where the group is the root of what is mounted) and outside. A group inherits the
//! limits of those above it, so the one that is nearest to its limit counts. Page cache that the kernel can drop at once is not
//! counted as used, as kubelet and the kernel's own reclaim see it.

use crate::groups::{Folder, folders};

/// cgroup v1 says "no limit" by a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

/// Reads a file; `None` where it cannot be read.
pub type ReadFile<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Bytes that are used and that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Used, without page cache that can be dropped.
    pub used: u64,
    /// May be used.
    pub limit: u64,
}

/// The control groups that this process is in, the innermost first, that had a memory limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryGroups(Vec<Folder>);

impl MemoryGroups {
    /// Finds them; `None` where none has a limit.
    pub fn find(read: ReadFile<'_>) -> Option<Self> {
        let mut found = folders("memory", &["memory"], read);
        found.retain(|group| memory_of(group, read).is_some());
        (!found.is_empty()).then_some(Self(found))
    }

    /// Returns what the group says that is nearest to its limit.
    pub fn read(&self, read: ReadFile<'_>) -> Option<Memory> {
        let share = |memory: &Memory| memory.used.saturating_mul(1000) / memory.limit.max(1);
        self.0.iter().filter_map(|group| memory_of(group, read)).max_by_key(share)
    }
}

fn memory_of(group: &Folder, read: ReadFile<'_>) -> Option<Memory> {
    let (limit, usage, droppable) = if group.is_v2 {
        ("memory.max", "memory.current", "inactive_file ")
    } else {
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
    };
    let file = |name: &str| read(&format!("{}/{name}", group.path));
    // "max" is no number, and no limit.
    let limit = file(limit)?.trim().parse().ok().filter(|limit| *limit > 0 && *limit < NO_LIMIT)?;
    let used: u64 = file(usage)?.trim().parse().ok()?;
    let cache = file("memory.stat")
        .and_then(|stat| stat.lines().find_map(|line| line.strip_prefix(droppable)?.trim().parse::<u64>().ok()));
    Some(Memory { used: used.saturating_sub(cache.unwrap_or(0)), limit })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn memory(files: &[(&str, &str)]) -> Option<Memory> {
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        let read = |path: &str| files.get(path).map(|text| (*text).to_owned());
        MemoryGroups::find(&read)?.read(&read)
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let memory = memory(&[
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/memory.max", "1000\n"),
            ("/sys/fs/cgroup/memory.current", "700\n"),
            ("/sys/fs/cgroup/memory.stat", "anon 300\ninactive_file 200\n"),
        ]);
        assert_eq!(memory, Some(Memory { used: 500, limit: 1000 }));
    }

    #[test]
    fn of_groups_within_groups_the_one_nearest_to_its_limit_counts() {
        let files = [
            ("/proc/self/cgroup", "0::/system.slice/meshless.service\n"),
            ("/sys/fs/cgroup/system.slice/meshless.service/memory.max", "max\n"),
            ("/sys/fs/cgroup/system.slice/meshless.service/memory.current", "100\n"),
            ("/sys/fs/cgroup/system.slice/memory.max", "500\n"),
            ("/sys/fs/cgroup/system.slice/memory.current", "450\n"),
            ("/sys/fs/cgroup/memory.max", "10000\n"),
            ("/sys/fs/cgroup/memory.current", "5000\n"),
        ];
        assert_eq!(memory(&files), Some(Memory { used: 450, limit: 500 }));
        assert_eq!(memory(&files[..3]), None, "no limit at all");
    }

    #[test]
    fn version_one_is_read_beside_a_hierarchy_without_controllers() {
        let files = [
            ("/proc/self/cgroup", "5:cpu,memory:/docker/abc\n1:name=systemd:/\n0::/\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "950\n"),
            ("/sys/fs/cgroup/memory/memory.stat", "cache 50\ntotal_inactive_file 10\n"),
        ];
        assert_eq!(
            memory(&files),
            Some(Memory { used: 940, limit: 1000 }),
            "the path is the host's: found at the mount"
        );
        let unlimited = [files[0], ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"), files[2]];
        assert_eq!(memory(&unlimited), None);
    }

    #[test]
    fn what_cannot_be_read_is_no_limit() {
        assert_eq!(memory(&[]), None);
        assert_eq!(memory(&[("/proc/self/cgroup", "nonsense")]), None);
    }
}
