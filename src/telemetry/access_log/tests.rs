use std::collections::VecDeque;
use std::sync::Condvar;
use std::thread;
use std::time::{Duration, Instant};

use super::record::tests::record;
use super::*;
use crate::telemetry::metrics::Value;

/// A sink that a test can hold back, and that answers from a script first.
#[derive(Clone, Default)]
struct Sink(Arc<(Mutex<SinkState>, Condvar)>);

#[derive(Default)]
struct SinkState {
    written: Vec<u8>,
    script: VecDeque<io::Result<usize>>,
    is_held: bool,
    writes: usize,
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().written.clone()).unwrap()
    }

    fn hold(&self, is_held: bool) {
        self.0.0.lock().unwrap().is_held = is_held;
        self.0.1.notify_all();
    }

    fn wait_for(&self, what: impl Fn(&SinkState) -> bool) {
        let guard = self.0.0.lock().unwrap();
        let (_guard, timeout) =
            self.0.1.wait_timeout_while(guard, Duration::from_secs(10), |state| !what(state)).unwrap();
        assert!(!timeout.timed_out());
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap();
        state.writes += 1;
        self.0.1.notify_all();
        let mut state = self.0.1.wait_while(state, |state| state.is_held).unwrap();
        let written = state.script.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
        state.written.extend_from_slice(&bytes[..written]);
        self.0.1.notify_all();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dropped(registry: &Registry, reason: &str) -> u64 {
    match registry.gather(Instant::now()).value("meshless_access_log_dropped_total", &[reason]) {
        Some(Value::Count(count)) => *count,
        // A worker that lost nothing and ended leaves no series behind.
        None => 0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lines_of_all_workers_are_written_and_closing_writes_what_waits() {
    let registry = Registry::new(Instant::now());
    let sink = Sink::default();
    let (log, writer) = AccessLog::open(Format::Json, Box::new(sink.clone()), &registry);
    let thread = thread::spawn(move || writer.run());
    thread::scope(|scope| {
        for _ in 0..3 {
            let lane = log.lane();
            scope.spawn(move || (0..100).for_each(|_| lane.log(&record())));
        }
    });
    log.close();
    thread.join().unwrap();
    let text = sink.text();
    assert_eq!(text.lines().count(), 300);
    assert!(text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
    assert_eq!((dropped(&registry, "full"), dropped(&registry, "write")), (0, 0));
}

#[test]
fn a_line_is_written_without_closing() {
    let registry = Registry::new(Instant::now());
    let sink = Sink::default();
    let (log, writer) = AccessLog::open(Format::Text, Box::new(sink.clone()), &registry);
    let thread = thread::spawn(move || writer.run());
    log.lane().log(&record());
    sink.wait_for(|state| state.written.ends_with(b"\n"));
    log.close();
    thread.join().unwrap();
}

#[test]
fn a_sink_that_hangs_drops_and_counts_lines_and_holds_nobody_up() {
    let registry = Registry::new(Instant::now());
    let sink = Sink::default();
    sink.hold(true);
    let (log, writer) = AccessLog::open(Format::Json, Box::new(sink.clone()), &registry);
    let lane = log.bounded_lane(4);
    let thread = thread::spawn(move || writer.run());
    lane.log(&record());
    sink.wait_for(|state| state.writes == 1);
    // The writer hangs with one line in its hands: four fit in the queue, the other six are dropped.
    (0..10).for_each(|_| lane.log(&record()));
    assert_eq!(dropped(&registry, "full"), 6);
    sink.hold(false);
    log.close();
    thread.join().unwrap();
    assert_eq!(sink.text().lines().count(), 5);
}

#[test]
fn a_full_disk_and_a_closed_pipe_are_counted_and_survived() {
    let registry = Registry::new(Instant::now());
    let sink = Sink::default();
    for error in [io::ErrorKind::StorageFull, io::ErrorKind::BrokenPipe] {
        sink.0.0.lock().unwrap().script.push_back(Err(error.into()));
    }
    let (log, writer) = AccessLog::open(Format::Json, Box::new(sink.clone()), &registry);
    let lane = log.lane();
    let thread = thread::spawn(move || writer.run());
    for lost in 1..=2 {
        lane.log(&record());
        sink.wait_for(|state| state.writes == lost);
    }
    lane.log(&record());
    log.close();
    thread.join().unwrap();
    assert_eq!(dropped(&registry, "write"), 2);
    assert_eq!(sink.text().lines().count(), 1);
}

#[test]
fn a_line_that_was_cut_does_not_spoil_the_next_one() {
    let registry = Registry::new(Instant::now());
    let sink = Sink::default();
    sink.0.0.lock().unwrap().script.extend([Ok(10), Err(io::ErrorKind::StorageFull.into())]);
    let (log, writer) = AccessLog::open(Format::Json, Box::new(sink.clone()), &registry);
    let lane = log.lane();
    let thread = thread::spawn(move || writer.run());
    lane.log(&record());
    sink.wait_for(|state| state.writes == 2);
    lane.log(&record());
    log.close();
    thread.join().unwrap();
    let text = sink.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].len(), 10);
    assert!(serde_json::from_str::<serde_json::Value>(lines[1]).is_ok(), "{text}");
}

#[test]
fn lines_after_the_end_are_counted() {
    let registry = Registry::new(Instant::now());
    let (log, writer) = AccessLog::open(Format::Json, Box::new(Sink::default()), &registry);
    let lane = log.lane();
    log.close();
    writer.run();
    lane.log(&record());
    assert_eq!(dropped(&registry, "full"), 1);
}
