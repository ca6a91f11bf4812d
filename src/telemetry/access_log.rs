//! One line for each request, written where a slow disk can hurt nobody.
//!
//! A worker formats a [`Record`] into a buffer that it gets back from the writer, and hands it over a bounded queue of its
//! own. If the queue is full the line is dropped and counted: a log that stalls must never stall a request. One thread
//! writes for all workers, in batches. While there is traffic it looks at the queues every 20 ms by itself, so that no
//! request pays the system call of waking it.

mod record;
mod writer;

pub use record::{FailedTry, Format, Record, Why};
pub use writer::{Lane, Writer};

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;

use super::metrics::Registry;

/// The access log of a gateway; clones are the same log.
#[derive(Debug, Clone)]
pub struct AccessLog {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    format: Format,
}

/// What the workers' ends and the writer share. No request locks anything here.
#[derive(Debug, Default)]
struct Shared {
    /// Ends that the writer has not taken over yet.
    arriving: Mutex<Vec<WriterEnd>>,
    /// The log is closed: the writer ends when the queues are empty.
    is_closed: AtomicBool,
    /// The writer sleeps until somebody wakes it. A wake that is missed costs a second, not a line.
    is_asleep: AtomicBool,
    writer: OnceLock<Thread>,
}

/// The writer's side of one worker's queue.
#[derive(Debug)]
struct WriterEnd {
    lines: Receiver<Vec<u8>>,
    /// Buffers go back here, so that a line costs no allocation.
    spent: SyncSender<Vec<u8>>,
}

/// Lines that wait for the writer, for each worker: what 100,000 requests a second make in 40 ms,
/// twice the pause between two looks.
const QUEUE: usize = 4096;
/// Buffers that are kept for each worker.
const SPARE_BUFFERS: usize = 256;

impl AccessLog {
    /// Opens a log that goes to `sink`. The caller runs the writer on a thread of its own.
    pub fn open(format: Format, sink: Box<dyn Write + Send>, registry: &Arc<Registry>) -> (Self, Writer) {
        let shared = Arc::<Shared>::default();
        let log = Self { shared: Arc::clone(&shared), registry: Arc::clone(registry), format };
        (log, Writer::new(shared, sink, registry))
    }

    /// Opens a log that goes to standard output, past the buffer and the lock of the standard library.
    pub fn to_stdout(format: Format, registry: &Arc<Registry>) -> io::Result<(Self, Writer)> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Ok(Self::open(format, Box::new(std::fs::File::from(stdout)), registry))
    }

    /// Makes the end for one worker.
    pub fn lane(&self) -> Lane {
        self.bounded_lane(QUEUE)
    }

    fn bounded_lane(&self, queue: usize) -> Lane {
        let (to_writer, lines) = sync_channel(queue);
        let (spent, from_writer) = sync_channel(SPARE_BUFFERS);
        self.shared.arriving.lock().unwrap_or_else(PoisonError::into_inner).push(WriterEnd { lines, spent });
        self.shared.wake();
        Lane::new(self.format, to_writer, from_writer, Arc::clone(&self.shared), &self.registry)
    }

    /// Has the writer write what waits and end. Lines that come later are dropped and counted.
    pub fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.wake();
    }
}

impl Shared {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    fn wake_if_asleep(&self) {
        if self.is_asleep.load(Ordering::Relaxed) {
            self.wake();
        }
    }
}

#[cfg(test)]
mod tests;
