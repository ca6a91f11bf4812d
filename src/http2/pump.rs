//! Moves a body into an HTTP/2 stream, as much as its window takes.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;

use crate::proxy::body::{Body, BodyError, Frame, Outgoing};

/// Where the pieces come from.
pub(crate) trait Pieces {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;
    /// What has to go on while the window is closed.
    fn poll_background(&mut self, context: &mut Context<'_>);
    /// Tells whether the piece that was just taken was the last.
    fn is_end(&self) -> bool;
    /// Sees each piece.
    fn took(&mut self, frame: &Frame);
}

impl Pieces for Outgoing {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.poll_frame(context)
    }

    fn poll_background(&mut self, _context: &mut Context<'_>) {}

    fn is_end(&self) -> bool {
        self.is_finished()
    }

    fn took(&mut self, _frame: &Frame) {}
}

/// A reply's body together with who counts it.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    pub(crate) body: &'a mut Body,
    pub(crate) account: &'a mut crate::proxy::account::Account,
}

impl Pieces for Counted<'_> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.body.poll_frame(context)
    }

    fn poll_background(&mut self, context: &mut Context<'_>) {
        self.body.poll_background(context);
    }

    fn is_end(&self) -> bool {
        self.body.is_end()
    }

    fn took(&mut self, frame: &Frame) {
        match frame {
            Frame::Data(bytes) => self.account.sent(bytes.len()),
            Frame::Trailers(trailers) => self.account.trailers(trailers),
        }
    }
}

/// Why a body did not get through.
#[derive(Debug)]
pub(crate) enum PumpError {
    /// The body broke.
    Source(BodyError),
    /// The stream was reset, or its connection ended.
    Sink,
}

/// A body on its way into a stream.
#[derive(Debug)]
pub(crate) struct Pump {
    pub(crate) stream: SendStream<Bytes>,
    pending: Bytes,
    /// `pending` is the last of it.
    last: bool,
    done: bool,
    /// Something moved since this was last reset.
    pub(crate) moved: bool,
}

impl Pump {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self { stream, pending: Bytes::new(), last: false, done: false, moved: false }
    }

    /// Tells whether the window, not the body, is what keeps it waiting.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Moves what can be moved; ready when the end of the stream is sent.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, pieces: &mut impl Pieces) -> Poll<Result<(), PumpError>> {
        loop {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            while !self.pending.is_empty() {
                let capacity = self.stream.capacity();
                if capacity == 0 {
                    self.stream.reserve_capacity(self.pending.len());
                    if self.stream.capacity() > 0 {
                        continue;
                    }
                    match self.stream.poll_capacity(context) {
                        Poll::Ready(Some(Ok(_))) => continue,
                        Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(PumpError::Sink)),
                        Poll::Pending => {
                            pieces.poll_background(context);
                            return Poll::Pending;
                        }
                    }
                }
                let piece = self.pending.split_to(capacity.min(self.pending.len()));
                let end = self.last && self.pending.is_empty();
                self.stream.send_data(piece, end).map_err(|_| PumpError::Sink)?;
                self.moved = true;
                self.done = end;
            }
            if self.done {
                return Poll::Ready(Ok(()));
            }
            let frame = match ready!(pieces.poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Err(PumpError::Source(error))),
                None => {
                    self.done = true;
                    self.stream.send_data(Bytes::new(), true).map_err(|_| PumpError::Sink)?;
                    continue;
                }
            };
            pieces.took(&frame);
            match frame {
                Frame::Data(bytes) => {
                    self.last = pieces.is_end();
                    if bytes.is_empty() && self.last {
                        self.done = true;
                        self.stream.send_data(bytes, true).map_err(|_| PumpError::Sink)?;
                    } else {
                        self.pending = bytes;
                    }
                }
                Frame::Trailers(trailers) => {
                    self.done = true;
                    self.stream.send_trailers(trailers).map_err(|_| PumpError::Sink)?;
                }
            }
        }
    }
}
