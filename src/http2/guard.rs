//! Counts the control frames of an HTTP/2 connection, because nothing below does.
//!
//! `h2` limits resets, CONTINUATION and small DATA; SETTINGS, PING, PRIORITY, `WINDOW_UPDATE` and unknown frames it takes
//! and answers without end (security paper, §3). The guard walks frame headers as bytes pass and says when a client
//! sent more of them than [`ControlFrames`] allows in ten seconds.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::config::ControlFrames;
use crate::stream::Stream;

/// Frames are counted over this time.
const WINDOW: Duration = Duration::from_secs(10);
const HEADER: usize = 9;

/// A stream whose frames are counted.
#[derive(Debug)]
pub(crate) struct Guarded {
    stream: Stream,
    incoming: Walker,
    outgoing: Walker,
    seen: Rc<Seen>,
}

/// What the connection's driver looks at.
#[derive(Debug)]
pub(crate) struct Seen {
    limits: Option<ControlFrames>,
    counts: Cell<Counts>,
    flooded: Cell<bool>,
    /// When something was last read.
    pub(crate) last_read: Cell<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Counts {
    since: Instant,
    settings: u32,
    ping: u32,
    reset: u32,
    opened: u32,
    window_updates: u32,
    other: u32,
    sent: u32,
}

impl Counts {
    fn new(now: Instant) -> Self {
        Self { since: now, settings: 0, ping: 0, reset: 0, opened: 0, window_updates: 0, other: 0, sent: 0 }
    }
}

impl Guarded {
    /// `preface`: the peer begins with the 24 bytes of a client. `limits`: `None` counts nothing, for peers we chose.
    pub(crate) fn new(stream: Stream, preface: bool, limits: Option<ControlFrames>) -> (Self, Rc<Seen>) {
        let now = Instant::now();
        let seen = Rc::new(Seen {
            limits,
            counts: Cell::new(Counts::new(now)),
            flooded: Cell::new(false),
            last_read: Cell::new(now),
        });
        let incoming = Walker::new(if preface { super::PREFACE.len() } else { 0 });
        (Self { stream, incoming, outgoing: Walker::new(0), seen: seen.clone() }, seen)
    }
}

impl Seen {
    /// Tells whether the peer sent too many control frames.
    pub(crate) fn is_flooded(&self) -> bool {
        self.flooded.get()
    }

    fn read(&self, walker: &mut Walker, bytes: &[u8], now: Instant) {
        self.last_read.set(now);
        let Some(limits) = self.limits else { return };
        let mut counts = self.counts.get();
        if now.duration_since(counts.since) >= WINDOW {
            counts = Counts::new(now);
        }
        walker.walk(bytes, |frame| match frame.kind {
            0 if frame.length == 0 && frame.flags & 1 == 0 => counts.other += 1,
            0 | 9 => {}
            1 => counts.opened += 1,
            3 => counts.reset += 1,
            4 if frame.flags & 1 == 0 => counts.settings += 1,
            6 if frame.flags & 1 == 0 => counts.ping += 1,
            8 => counts.window_updates += 1,
            // Also acknowledgements of what we sent: we send few, so more than a few of them are a flood as well.
            _ => counts.other += 1,
        });
        let flooded = counts.settings > limits.settings
            || counts.ping > limits.ping
            || counts.reset > limits.reset && counts.reset > counts.opened / 2
            || counts.other > limits.other
            // A stream and the connection may be topped up for every frame that we sent.
            || counts.window_updates > limits.other.saturating_add(counts.sent.saturating_mul(2));
        if flooded {
            self.flooded.set(true);
        }
        self.counts.set(counts);
    }

    fn wrote(&self, walker: &mut Walker, bytes: &[u8]) {
        if self.limits.is_none() {
            return;
        }
        let mut counts = self.counts.get();
        walker.walk(bytes, |frame| {
            if frame.kind <= 1 {
                counts.sent = counts.sent.saturating_add(1);
            }
        });
        self.counts.set(counts);
    }
}

struct FrameHeader {
    length: usize,
    kind: u8,
    flags: u8,
}

/// Walks from frame header to frame header, however the bytes are cut.
#[derive(Debug)]
struct Walker {
    /// Bytes to pass before the next header.
    skip: usize,
    header: [u8; HEADER],
    filled: usize,
}

impl Walker {
    fn new(skip: usize) -> Self {
        Self { skip, header: [0; HEADER], filled: 0 }
    }

    fn walk(&mut self, mut bytes: &[u8], mut each: impl FnMut(FrameHeader)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = self.skip.min(bytes.len());
                self.skip -= passed;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            let wanted = (HEADER - self.filled).min(bytes.len());
            let (head, rest) = bytes.split_at(wanted);
            if let Some(place) = self.header.get_mut(self.filled..self.filled + wanted) {
                place.copy_from_slice(head);
            }
            self.filled += wanted;
            bytes = rest;
            if self.filled == HEADER {
                let [a, b, c, kind, flags, ..] = self.header;
                let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                self.filled = 0;
                self.skip = length;
                each(FrameHeader { length, kind, flags });
            }
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let Self { stream, incoming, seen, .. } = &mut *self;
        ready!(Pin::new(stream).poll_read(context, buffer))?;
        seen.read(incoming, buffer.filled().get(before..).unwrap_or_default(), Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, outgoing, seen, .. } = &mut *self;
        let length = ready!(Pin::new(stream).poll_write(context, bytes))?;
        seen.wrote(outgoing, bytes.get(..length).unwrap_or_default());
        Poll::Ready(Ok(length))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, outgoing, seen, .. } = &mut *self;
        let length = ready!(Pin::new(stream).poll_write_vectored(context, slices))?;
        let mut left = length;
        for slice in slices {
            let part = left.min(slice.len());
            seen.wrote(outgoing, slice.get(..part).unwrap_or_default());
            left -= part;
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ListenerLimits;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let size = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, 1];
        bytes.resize(bytes.len() + length, 0);
        bytes
    }

    fn seen() -> Seen {
        let now = Instant::now();
        Seen {
            limits: Some(ListenerLimits::default().control_frames),
            counts: Cell::new(Counts::new(now)),
            flooded: Cell::new(false),
            last_read: Cell::new(now),
        }
    }

    fn flooded_after(kind: u8, length: usize) -> usize {
        let (seen, mut walker) = (seen(), Walker::new(0));
        (1..=5000)
            .find(|_| {
                seen.read(&mut walker, &frame(kind, 0, length), Instant::now());
                seen.is_flooded()
            })
            .unwrap_or(usize::MAX)
    }

    #[test]
    fn each_kind_of_control_frame_has_its_limit() {
        assert_eq!(flooded_after(4, 6), 51, "SETTINGS");
        assert_eq!(flooded_after(6, 8), 101, "PING");
        assert_eq!(flooded_after(3, 4), 101, "RST_STREAM");
        assert_eq!(flooded_after(2, 5), 1001, "PRIORITY");
        assert_eq!(flooded_after(8, 4), 1001, "WINDOW_UPDATE");
        assert_eq!(flooded_after(0, 0), 1001, "empty DATA");
        assert_eq!(flooded_after(0xbe, 3), 1001, "unknown");
        assert_eq!(flooded_after(0, 10), usize::MAX, "DATA");
    }

    #[test]
    fn window_updates_for_what_we_sent_are_no_flood() {
        let (seen, mut incoming, mut outgoing) = (seen(), Walker::new(0), Walker::new(0));
        for _ in 0..100_000 {
            seen.wrote(&mut outgoing, &frame(0, 0, 20));
            seen.read(&mut incoming, &frame(8, 0, 4), Instant::now());
            seen.read(&mut incoming, &frame(8, 0, 4), Instant::now());
        }
        assert!(!seen.is_flooded());
    }

    #[tokio::test(start_paused = true)]
    async fn counts_begin_anew_after_ten_seconds() {
        let (seen, mut walker) = (seen(), Walker::new(0));
        for _ in 0..10 {
            for _ in 0..50 {
                seen.read(&mut walker, &frame(4, 0, 0), Instant::now());
            }
            tokio::time::advance(WINDOW).await;
        }
        assert!(!seen.is_flooded());
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = super::super::PREFACE.to_vec();
        for kind in 0..10 {
            bytes.extend(frame(kind, kind, usize::from(kind) * 7));
        }
        for cut in 1..bytes.len() {
            let (mut walker, mut kinds) = (Walker::new(super::super::PREFACE.len()), Vec::new());
            for piece in bytes.chunks(cut) {
                walker.walk(piece, |frame| kinds.push((frame.kind, frame.flags, frame.length)));
            }
            assert_eq!(kinds, (0..10).map(|kind| (kind, kind, usize::from(kind) * 7)).collect::<Vec<_>>());
        }
    }
}
