//! How many processors this process may use: the default of `node.workers` (pure; files are handed in).
//!
//! The standard library knows affinity and the quotas of both versions of cgroups, and rounds a quota down: 1.5 processors are
//! one. A worker more than that waits now and then; a worker less leaves a third of what is paid for unused. So quotas are read
//! here again and rounded up, and all else is left to the standard library (docs/decisions/0141-a-quota-is-rounded-up.md).

use std::fmt;

use crate::groups::folders;
use crate::memory::ReadFile;

/// Processors that may be used, and why no more.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Processors {
    /// How many; at least 1.
    pub count: usize,
    /// What bounds them.
    pub bound: Bound,
}

/// What bounds the number of processors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// The platform: a task of ECS may use so many, and its containers do not see that.
    Platform(f64),
    /// The CPU quota of the control group, in processors.
    Quota(f64),
    /// What the machine has, and the scheduler gives to this process.
    Scheduler,
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(cpus) => write!(formatter, "the platform allows {cpus}"),
            Self::Quota(cpus) => write!(formatter, "the CPU quota of the control group is {cpus}"),
            Self::Scheduler => formatter.write_str("the scheduler gives them"),
        }
    }
}

impl Processors {
    /// Finds them. `available` is what the standard library says, `platform` what the platform allows, in processors.
    pub fn find(available: usize, platform: Option<f64>, read: ReadFile<'_>) -> Self {
        let mut found = Self { count: available.max(1), bound: Bound::Scheduler };
        if let (Some(quota), Some(allowed)) = (quota(read), affinity(read))
            && up(quota) <= allowed
        {
            found = Self { count: up(quota), bound: Bound::Quota(quota) };
        }
        match platform {
            Some(cpus) if cpus > 0.0 && up(cpus) < found.count => {
                Self { count: up(cpus), bound: Bound::Platform(cpus) }
            }
            _ => found,
        }
    }
}

/// Returns the smallest quota of the groups that this process is in, in processors; `None`: there is none.
fn quota(read: ReadFile<'_>) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| *number > 0.0);
    let quotas = folders("cpu", &["cpu", "cpu,cpuacct", "cpuacct,cpu"], read).into_iter().filter_map(|group| {
        let file = |name: &str| read(&format!("{}/{name}", group.path));
        if group.is_v2 {
            // "max 100000" is no quota.
            let text = file("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            Some(number(quota)? / number(period)?)
        } else {
            // -1 is no quota.
            Some(number(&file("cpu.cfs_quota_us")?)? / number(&file("cpu.cfs_period_us")?)?)
        }
    });
    quotas.min_by(f64::total_cmp)
}

/// Returns how many processors the scheduler may put this process on (`Cpus_allowed_list` of proc(5), as `0-3,8`).
fn affinity(read: ReadFile<'_>) -> Option<usize> {
    let status = read("/proc/self/status")?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let count = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    allowed.trim().split(',').map(count).sum::<Option<usize>>().filter(|count| *count > 0)
}

/// Rounds up; at least 1.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float is cut off at the bounds of the integer, and a quota is positive"
)]
fn up(cpus: f64) -> usize {
    (cpus.ceil() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const EIGHT: (&str, &str) = ("/proc/self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-3,8-11\n");

    fn processors(available: usize, platform: Option<f64>, files: &[(&str, &str)]) -> Processors {
        let files: BTreeMap<_, _> = files.iter().copied().collect();
        Processors::find(available, platform, &|path| files.get(path).map(|text| (*text).to_owned()))
    }

    #[test]
    fn a_quota_of_version_two_is_rounded_up() {
        let files = [EIGHT, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "150000 100000\n")];
        // The standard library says 1 here.
        assert_eq!(processors(1, None, &files), Processors { count: 2, bound: Bound::Quota(1.5) });
    }

    #[test]
    fn of_nested_groups_the_smallest_quota_counts() {
        let files = [
            EIGHT,
            ("/proc/self/cgroup", "0::/system.slice/meshless.service\n"),
            ("/sys/fs/cgroup/system.slice/meshless.service/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/system.slice/cpu.max", "220000 100000\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ];
        assert_eq!(processors(2, None, &files).count, 3);
        assert_eq!(processors(8, None, &files[..3]), Processors { count: 8, bound: Bound::Scheduler });
    }

    #[test]
    fn a_quota_of_version_one_is_found_under_either_mount() {
        for mount in ["cpu", "cpu,cpuacct"] {
            let (quota, period) = (
                format!("/sys/fs/cgroup/{mount}/cpu.cfs_quota_us"),
                format!("/sys/fs/cgroup/{mount}/cpu.cfs_period_us"),
            );
            let groups = ("/proc/self/cgroup", "4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n");
            let given = [EIGHT, groups, (&quota, "25000\n"), (&period, "100000\n")];
            assert_eq!(processors(1, None, &given), Processors { count: 1, bound: Bound::Quota(0.25) }, "{mount}");
            let none = [EIGHT, groups, (&quota, "-1\n"), (&period, "100000\n")];
            assert_eq!(processors(8, None, &none).bound, Bound::Scheduler, "{mount}");
        }
    }

    #[test]
    fn there_are_never_more_workers_than_processors() {
        let files = [
            ("/proc/self/status", "Cpus_allowed_list:\t1\n"),
            ("/proc/self/cgroup", "0::/\n"),
            ("/sys/fs/cgroup/cpu.max", "400000 100000\n"),
        ];
        assert_eq!(processors(1, None, &files), Processors { count: 1, bound: Bound::Scheduler });
        assert_eq!(processors(0, None, &[]).count, 1);
    }

    /// A task of 0.25 vCPU on Fargate sees two processors and no quota.
    #[test]
    fn a_platform_may_allow_less_than_a_container_sees() {
        assert_eq!(processors(2, Some(0.25), &[]), Processors { count: 1, bound: Bound::Platform(0.25) });
        assert_eq!(processors(2, Some(4.0), &[]).bound, Bound::Scheduler);
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_standard_library() {
        for text in ["Cpus_allowed_list:\t\n", "Cpus_allowed_list:\t3-1\n", "nothing"] {
            let files = [
                ("/proc/self/status", text),
                ("/proc/self/cgroup", "0::/\n"),
                ("/sys/fs/cgroup/cpu.max", "150000 100000\n"),
            ];
            assert_eq!(processors(1, None, &files), Processors { count: 1, bound: Bound::Scheduler }, "{text}");
        }
    }
}
