//! `process_*`, as every Prometheus client has them, read from `/proc` when metrics are read.
//!
//! Where there is no `/proc` (macOS) they are left out.

use std::fs;

use rustix::param::{clock_ticks_per_second, page_size};

use super::{Registry, Samples, families};

/// Has the process's own numbers listed.
pub fn register(registry: &Registry) {
    // When the process began does not change.
    let started = started();
    registry.collect(Box::new(move |samples| collect(samples, started)));
}

fn collect(samples: &mut Samples, started: Option<f64>) {
    if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
        samples.count(&families::PROCESS_CPU, [], stat.cpu_ticks as f64 / clock_ticks_per_second() as f64);
        samples.gauge(&families::PROCESS_THREADS, [], stat.threads as f64);
        samples.gauge(&families::PROCESS_RESIDENT_MEMORY, [], stat.resident_pages as f64 * page_size() as f64);
    }
    if let Ok(descriptors) = fs::read_dir("/proc/self/fd") {
        // One of them is the directory that is being read.
        samples.gauge(&families::PROCESS_OPEN_FDS, [], descriptors.count().saturating_sub(1) as f64);
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        samples.gauge(&families::PROCESS_MAX_FDS, [], most as f64);
    }
    if let Some(started) = started {
        samples.gauge(&families::PROCESS_START_TIME, [], started);
    }
}

fn started() -> Option<f64> {
    let stat = Stat::parse(&fs::read_to_string("/proc/self/stat").ok()?)?;
    let boot = boot_time(&fs::read_to_string("/proc/stat").ok()?)?;
    Some(boot as f64 + stat.start_ticks as f64 / clock_ticks_per_second() as f64)
}

fn boot_time(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// What we take from `/proc/PID/stat`; proc(5) has the numbers of the fields.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the name, in parentheses, and may hold spaces and parentheses: cut after the last one.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // The first of these is field 3.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            threads: field(20)?,
            start_ticks: field(22)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 9 0 12345 1000000 321 1844 1 1 0 0 0";
        let stat = Stat { cpu_ticks: 200, threads: 9, start_ticks: 12345, resident_pages: 321 };
        assert_eq!(Stat::parse(text), Some(stat));
    }

    #[test]
    fn text_that_is_cut_short_is_no_answer() {
        assert_eq!(Stat::parse("42 (a) S 1 42"), None);
        assert_eq!(boot_time("cpu 1 2 3\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_descriptors_and_a_start() {
        use std::time::{Instant, SystemTime, UNIX_EPOCH};

        use crate::telemetry::metrics::Value;

        let registry = Registry::new(Instant::now());
        register(&registry);
        let samples = registry.gather(Instant::now());
        let number = |name: &str| match samples.value(name, &[]) {
            Some(Value::Number(number)) => *number,
            other => panic!("{name}: {other:?}"),
        };
        assert!(number("process_resident_memory_bytes") > 100_000.0);
        assert!(number("process_open_fds") >= 3.0);
        assert!(number("process_max_fds") >= number("process_open_fds"));
        assert!(number("process_threads") >= 1.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - number("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "{age}");
    }
}
