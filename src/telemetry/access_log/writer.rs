//! The worker's end, which never waits, and the writer, which may.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Format, Record, Shared, WriterEnd};
use crate::telemetry::metrics::{Counter, Registry, SharedCounter, families};

/// One worker's end of the access log; stays on the worker's thread.
#[derive(Debug)]
pub struct Lane {
    format: Format,
    to_writer: SyncSender<Vec<u8>>,
    spent: Receiver<Vec<u8>>,
    /// The buffer of a line that was dropped, for the next one.
    spare: RefCell<Option<Vec<u8>>>,
    dropped: Counter,
    shared: Arc<Shared>,
}

impl Lane {
    pub(super) fn new(
        format: Format,
        to_writer: SyncSender<Vec<u8>>,
        spent: Receiver<Vec<u8>>,
        shared: Arc<Shared>,
        registry: &Registry,
    ) -> Self {
        let dropped = registry.counter(&families::ACCESS_LOG_DROPPED, ["full"]);
        Self { format, to_writer, spent, spare: RefCell::default(), dropped, shared }
    }

    /// Writes one line; if the queue is full, it is dropped and counted. Never waits.
    pub fn log(&self, record: &Record<'_>) {
        let mut line =
            self.spare.take().or_else(|| self.spent.try_recv().ok()).unwrap_or_else(|| Vec::with_capacity(512));
        record.write(self.format, &mut line);
        match self.to_writer.try_send(line) {
            Ok(()) => self.shared.wake_if_asleep(),
            Err(refused) => {
                self.dropped.increment();
                let (std::sync::mpsc::TrySendError::Full(mut line)
                | std::sync::mpsc::TrySendError::Disconnected(mut line)) = refused;
                line.clear();
                self.spare.replace(Some(line));
            }
        }
    }
}

/// Writes the lines of all workers; run it on a thread of its own.
pub struct Writer {
    shared: Arc<Shared>,
    sink: Box<dyn Write + Send>,
    lost: SharedCounter,
    ends: Vec<WriterEnd>,
    batch: Vec<u8>,
    lines: u64,
    is_failing: bool,
    /// The last batch was cut within a line: the next one begins on a line of its own.
    is_torn: bool,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("is_failing", &self.is_failing).finish_non_exhaustive()
    }
}

/// Bytes that are written at once.
const BATCH: usize = 64 * 1024;
/// How often the queues are looked at while there is traffic.
const TICK: Duration = Duration::from_millis(20);
/// Ticks without a line after which the writer sleeps.
const QUIET_TICKS: u32 = 50;
/// Longest sleep: the price of a wake that was missed.
const SLEEP: Duration = Duration::from_secs(1);
/// Buffers that grew larger than this are not kept.
const LARGEST_KEPT: usize = 4096;
/// Longest wait for a sink that is full and does not block, for one batch.
const PATIENCE: Duration = Duration::from_secs(1);

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, sink: Box<dyn Write + Send>, registry: &Registry) -> Self {
        Self {
            shared,
            sink,
            lost: registry.shared_counter(&families::ACCESS_LOG_DROPPED, ["write"]),
            ends: Vec::new(),
            batch: Vec::with_capacity(BATCH),
            lines: 0,
            is_failing: false,
            is_torn: false,
        }
    }

    /// Writes until the log is closed and all that waited is written. A sink that fails does not end it.
    pub fn run(mut self) {
        // Only `run` sets it, and it takes the writer: it is never set twice.
        let _ = self.shared.writer.set(thread::current());
        let mut quiet = 0;
        loop {
            // Read first: what was handed over before the log was closed is still written.
            let is_closed = self.shared.is_closed.load(Ordering::Acquire);
            let written = self.pass();
            if is_closed && written == 0 {
                return;
            }
            quiet = if written == 0 { quiet + 1 } else { 0 };
            if is_closed {
                continue;
            }
            if quiet < QUIET_TICKS {
                thread::park_timeout(TICK);
            } else {
                self.shared.is_asleep.store(true, Ordering::Relaxed);
                thread::park_timeout(SLEEP);
                self.shared.is_asleep.store(false, Ordering::Relaxed);
            }
        }
    }

    /// Takes everything that waits and writes it; returns how many lines there were.
    fn pass(&mut self) -> u64 {
        self.ends.append(&mut self.shared.arriving.lock().unwrap_or_else(PoisonError::into_inner));
        let mut ends = std::mem::take(&mut self.ends);
        let mut taken = 0;
        ends.retain(|end| {
            // A bound for each worker, so that one that never pauses does not keep the others' lines back.
            for _ in 0..super::QUEUE {
                match end.lines.try_recv() {
                    Ok(line) => {
                        taken += 1;
                        self.take(line, end);
                    }
                    Err(TryRecvError::Empty) => return true,
                    Err(TryRecvError::Disconnected) => return false,
                }
            }
            true
        });
        self.ends = ends;
        self.flush();
        taken
    }

    fn take(&mut self, mut line: Vec<u8>, end: &WriterEnd) {
        if self.batch.len() + line.len() > BATCH {
            self.flush();
        }
        self.batch.extend_from_slice(&line);
        self.lines += 1;
        if line.capacity() <= LARGEST_KEPT {
            line.clear();
            // Enough are on their way: this one is not needed.
            let _ = end.spent.try_send(line);
        }
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.write_batch() {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!("The access log can be written again.");
            }
            Ok(()) => {}
            Err(error) => {
                // A batch may be written in part; counting all of it is the honest bound.
                self.lost.add(self.lines);
                if !self.is_failing {
                    self.is_failing = true;
                    tracing::warn!(%error, lines = self.lines, "The access log cannot be written; lines are lost.");
                }
            }
        }
        self.batch.clear();
        self.lines = 0;
    }

    fn write_batch(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.sink.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = self.batch.as_slice();
        let mut give_up = None;
        while !rest.is_empty() {
            match self.sink.write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    self.is_torn = !rest.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Standard output may have been made non-blocking by whoever shares it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let now = Instant::now();
                    if now > *give_up.get_or_insert(now + PATIENCE) {
                        return Err(error);
                    }
                    thread::park_timeout(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
