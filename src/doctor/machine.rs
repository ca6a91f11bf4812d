//! What the machine, or the control group, lets the gateway have: memory, processors, the kernel's help.

use meshless_discovery::Finding;
use meshless_platforms::Memory;

use super::size;

/// About what an idle connection of a client costs with its buffers and TLS, in bytes.
const CONNECTION: u64 = 32 * 1024;

/// What an idle gateway itself has resident, with room for tables, in bytes.
const BASE: u64 = 32 << 20;

/// Judges memory: `configured` is `node.memory`, `group` what the control group says.
pub(crate) fn memory(configured: Option<u64>, group: Option<Memory>, clients: u64) -> Finding {
    let what = "memory";
    let limit = match (configured, group) {
        (Some(configured), Some(group)) if configured > group.limit => {
            let seen = format!("node.memory is {}, the control group allows {}", size(configured), size(group.limit));
            let remedy = "lower node.memory, or leave it out: the kernel would end the process before it sheds";
            return Finding::bad(what, seen, remedy);
        }
        (Some(configured), _) => Some((configured, "by node.memory")),
        (None, Some(group)) => Some((group.limit, "by the control group")),
        (None, None) => None,
    };
    let full = BASE.saturating_add(clients.saturating_mul(CONNECTION));
    let Some((limit, by)) = limit else {
        return Finding::good(what, format!("no limit; about {} with every client that may come", size(full)));
    };
    let seen = format!("{} {by}; about {} with every client that may come", size(limit), size(full));
    if full > limit {
        // Shedding begins at 90 %.
        let clients = (limit / 10 * 9).saturating_sub(BASE) / CONNECTION;
        let remedy = format!(
            "give it {}, or set limits.connections of the listeners to {clients} together: beyond 90 % connections are \
             refused",
            size(full / 9 * 10)
        );
        return Finding::warning(what, seen, remedy);
    }
    Finding::good(what, seen)
}

/// Judges processors: `workers` is `node.workers`, `available` what the scheduler and the quota leave.
pub(crate) fn processors(workers: Option<usize>, available: usize) -> Finding {
    let what = "processors";
    match workers {
        Some(workers) if workers > available => Finding::warning(
            what,
            format!("{workers} workers (node.workers) on {available}"),
            format!(
                "leave node.workers out, or set it to {available}: more threads than processors only wait for each other"
            ),
        ),
        Some(workers) => Finding::good(what, format!("{workers} workers (node.workers) on {available}")),
        None => Finding::good(what, format!("{available}: as many workers")),
    }
}

/// Judges whether several sockets can listen on one port, which is how workers share a listener.
pub(crate) fn reuse_port(tried: Result<(), String>) -> Finding {
    match tried {
        Ok(()) => Finding::good("kernel", "SO_REUSEPORT and socket filters work"),
        Err(error) => Finding::bad(
            "kernel",
            error,
            "a listener needs SO_REUSEPORT (Linux 3.9) and a socket filter to drain: look for a seccomp profile or a \
             sandbox that refuses setsockopt",
        ),
    }
}

#[cfg(test)]
mod tests {
    use meshless_discovery::Verdict;

    use super::*;

    const fn group(limit: u64) -> Memory {
        Memory { used: 0, limit }
    }

    #[test]
    fn memory_that_is_less_than_all_clients_need_is_a_warning_with_numbers() {
        let finding = memory(None, Some(group(128 << 20)), 10_000);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.remedy.unwrap().contains("to 2662 together"));
        assert_eq!(memory(None, Some(group(1 << 30)), 10_000).verdict, Verdict::Good);
        assert_eq!(memory(None, None, 10_000).verdict, Verdict::Good);
    }

    #[test]
    fn node_memory_above_the_control_group_is_a_problem() {
        assert_eq!(memory(Some(2 << 30), Some(group(1 << 30)), 10).verdict, Verdict::Bad);
        assert_eq!(memory(Some(1 << 30), Some(group(2 << 30)), 10).verdict, Verdict::Good);
    }

    #[test]
    fn more_workers_than_processors_are_a_warning() {
        assert_eq!(processors(Some(8), 2).verdict, Verdict::Warning);
        assert_eq!(processors(Some(2), 2).verdict, Verdict::Good);
        assert_eq!(processors(None, 2).verdict, Verdict::Good);
    }
}
