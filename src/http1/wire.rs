//! The bytes of one HTTP/1.1 connection: what was read and not yet understood, what is to be written.
//!
//! A message is written with one flat `write` (measured: a microsecond a request less than several buffers); data of
//! more than [`COPY_LIMIT`] is not copied but sent from where it lies. A connection that is idle holds no buffer: reads
//! begin in a scratch buffer that all connections of a worker share.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::body::{BodyLength, Encoder};
use crate::stream::Stream;

/// Data up to this size is copied behind its head, so that one write sends both.
const COPY_LIMIT: usize = 16 * 1024;
/// Stop taking more to write beyond this; the other side is then not read either (back-pressure).
const HIGH_WATER: usize = 64 * 1024;
/// What one read asks for while a body runs at full speed.
const BULK_READ: usize = 128 * 1024;
/// A read at least this large says that a body runs at full speed.
const BULK_SIGN: usize = 16 * 1024;
/// Size of the shared scratch buffer.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static ZEROED: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Reads what is there into this thread's scratch buffer and hands it to `take`.
pub(crate) fn poll_read_scratch<S: AsyncRead + Unpin, T>(
    stream: &mut S,
    context: &mut Context<'_>,
    take: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    ZEROED.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        Poll::Ready(Ok(take(buffer.filled())))
    })
}

/// A stream with what was read ahead and what waits to be written.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    /// Read, not yet understood.
    pub(crate) read: BytesMut,
    /// How far an unfinished head was looked through.
    pub(crate) scanned: usize,
    /// To be written first.
    pub(crate) out: BytesMut,
    /// To be written after `out`, from where it lies.
    tail: Bytes,
    /// To be written after `tail`.
    after_tail: &'static [u8],
    bulk: bool,
    /// Bytes were written since the last [`Wire::mark`].
    written: bool,
}

impl Wire {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            read: BytesMut::new(),
            scanned: 0,
            out: BytesMut::new(),
            tail: Bytes::new(),
            after_tail: b"",
            bulk: false,
            written: false,
        }
    }

    /// Reads more; 0 is the end of input.
    pub(crate) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let length = if self.bulk {
            self.read.reserve(BULK_READ);
            let future = self.stream.read_buf(&mut self.read);
            ready!(pin!(future).poll(context))?
        } else {
            let Self { stream, read, .. } = self;
            ready!(poll_read_scratch(stream, context, |bytes| {
                read.extend_from_slice(bytes);
                bytes.len()
            }))?
        };
        self.bulk = length >= BULK_SIGN;
        Poll::Ready(Ok(length))
    }

    /// Gives the read buffer back when nothing is in it.
    pub(crate) fn rest(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        self.bulk = false;
    }

    /// Tells whether more may be queued for writing.
    pub(crate) fn has_room(&self) -> bool {
        self.tail.is_empty() && self.out.len() < HIGH_WATER
    }

    /// Tells whether all that was queued is written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.out.is_empty() && self.tail.is_empty()
    }

    /// Queues data and what follows it. Only with [`Wire::has_room`].
    fn queue(&mut self, data: Bytes, after: &'static [u8]) {
        if data.len() <= COPY_LIMIT {
            self.out.extend_from_slice(&data);
            self.out.extend_from_slice(after);
        } else {
            self.tail = data;
            self.after_tail = after;
        }
    }

    /// Queues a piece of a body in its framing. Only with [`Wire::has_room`].
    pub(crate) fn encode(&mut self, encoder: &mut Encoder, data: Bytes) -> Result<(), BodyLength> {
        if data.is_empty() {
            return Ok(());
        }
        let prefix = encoder.prefix(data.len())?;
        self.out.extend_from_slice(prefix.as_ref());
        self.queue(data, encoder.suffix());
        Ok(())
    }

    /// Forgets whether something was written.
    pub(crate) fn mark(&mut self) {
        self.written = false;
    }

    /// Tells whether at least one byte was written since [`Wire::mark`].
    pub(crate) fn has_written(&self) -> bool {
        self.written
    }

    /// Writes all that is queued.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_flushed() {
            return Poll::Ready(Ok(()));
        }
        while !self.is_flushed() {
            let length = if self.tail.is_empty() {
                ready!(Pin::new(&mut self.stream).poll_write(context, &self.out))?
            } else if self.out.is_empty() {
                ready!(Pin::new(&mut self.stream).poll_write(context, &self.tail))?
            } else {
                let slices = [io::IoSlice::new(&self.out), io::IoSlice::new(&self.tail)];
                ready!(Pin::new(&mut self.stream).poll_write_vectored(context, &slices))?
            };
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written = true;
            let from_out = length.min(self.out.len());
            self.out.advance(from_out);
            let had_tail = !self.tail.is_empty();
            self.tail.advance(length - from_out);
            if had_tail && self.tail.is_empty() {
                self.out.extend_from_slice(self.after_tail);
                self.after_tail = b"";
                self.tail = Bytes::new();
            }
        }
        // What `advance` left behind is given back for the next message.
        self.out.clear();
        let future = self.stream.flush();
        pin!(future).poll(context)
    }

    /// Tells whether an idle connection may be used again: open, and without bytes that nobody asked for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if !self.read.is_empty() || !self.is_flushed() {
            return false;
        }
        let mut context = Context::from_waker(std::task::Waker::noop());
        poll_read_scratch(&mut self.stream, &mut context, |_| ()).is_pending()
    }
}
