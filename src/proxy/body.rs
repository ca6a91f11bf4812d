//! Bodies as the engine sees them: pulled, frame by frame, so that back-pressure needs no buffer of its own.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Instant;

use super::mirror::Tapped;
use crate::http1::Reject;
use crate::{http1, http2};

/// A request's or a reply's body, from wherever it comes.
#[derive(Debug)]
pub(crate) enum Body {
    Empty,
    Full(Bytes),
    Http1Request(http1::connection::RequestBody),
    Http1Response(Box<http1::client::ResponseBody>),
    Http2Request(http2::server::RequestBody),
    Http2Response(Box<http2::client::ResponseBody>),
    /// Read along for a copy.
    Tapped(Box<Tapped>),
    /// A body whose next piece was looked at.
    Peeked(Box<(Option<Result<Frame, BodyError>>, Self)>),
}

/// One piece of a body.
#[derive(Debug)]
pub(crate) enum Frame {
    Data(Bytes),
    /// The last one.
    Trailers(HeaderMap),
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// There is none.
    None,
    Exact(u64),
    /// Known when it ends.
    Unknown,
}

/// Why a body ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum BodyError {
    /// The peer closed or reset.
    #[error("the peer went away in the middle of a body: {0}")]
    Gone(String),
    /// The deadline of the request passed.
    #[error("the deadline passed")]
    Late,
    /// The peer sent what is no body.
    #[error("malformed body: {0}")]
    Malformed(Reject),
    /// The peer reset the stream with this HTTP/2 code.
    #[error("the peer reset the stream: {0}")]
    Reset(http2::Reason),
    /// Nothing came for the idle timeout.
    #[error("nothing came for the idle timeout")]
    Silent,
    /// Of a reply: the client broke off the upload beside it, by what was no body or by leaving (`None`).
    #[error("the client broke its upload off")]
    Upload(Option<Reject>),
}

impl BodyError {
    /// Makes of what broke an upload what breaks the reply that it belongs to.
    pub(crate) fn of_upload(&self) -> Self {
        match self {
            Self::Malformed(reject) => Self::Upload(Some(*reject)),
            _ => Self::Upload(None),
        }
    }
}

impl Body {
    /// A body that is there as a whole.
    pub(crate) fn whole(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        let Some(trailers) = trailers else { return Self::Full(bytes) };
        let end = Self::Peeked(Box::new((Some(Ok(Frame::Trailers(trailers))), Self::Empty)));
        if bytes.is_empty() { end } else { Self::Peeked(Box::new((Some(Ok(Frame::Data(bytes))), end))) }
    }

    /// Returns the next piece; `None` is the end.
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::Data(bytes))))
            }
            Self::Http1Request(body) => body.poll_frame(context),
            Self::Http1Response(body) => body.poll_frame(context),
            Self::Http2Request(body) => body.poll_frame(context),
            Self::Http2Response(body) => body.poll_frame(context),
            Self::Tapped(tapped) => tapped.poll_frame(context),
            Self::Peeked(peeked) => match peeked.0.take() {
                Some(frame) => Poll::Ready(Some(frame)),
                None => peeked.1.poll_frame(context),
            },
        }
    }

    /// Looks at the next piece if it is there already; it comes again as if nobody had looked.
    pub(crate) fn peek(&mut self, context: &mut Context<'_>) -> Option<&Frame> {
        if !matches!(self, Self::Peeked(_))
            && let Poll::Ready(Some(frame)) = self.poll_frame(context)
        {
            let body = std::mem::replace(self, Self::Empty);
            *self = Self::Peeked(Box::new((Some(frame), body)));
        }
        match self {
            Self::Peeked(peeked) => peeked.0.as_ref().and_then(|frame| frame.as_ref().ok()),
            _ => None,
        }
    }

    /// Drives what must go on while nobody can take the next piece: the rest of an upload whose reply came early.
    ///
    /// Without it an application that answers while it reads and a client that reads only after it has sent would wait
    /// for each other.
    pub(crate) fn poll_background(&mut self, context: &mut Context<'_>) {
        match self {
            Self::Http1Response(body) => body.poll_background(context),
            Self::Http2Response(body) => body.poll_background(context),
            Self::Tapped(tapped) => tapped.inner_mut().poll_background(context),
            Self::Peeked(peeked) => peeked.1.poll_background(context),
            Self::Empty | Self::Full(_) | Self::Http1Request(_) | Self::Http2Request(_) => {}
        }
    }

    /// Returns how much is still to come.
    pub(crate) fn length(&self) -> Length {
        match self {
            Self::Empty => Length::None,
            Self::Full(bytes) => Length::Exact(bytes.len() as u64),
            Self::Http1Request(body) => body.length(),
            Self::Http1Response(body) => body.length(),
            Self::Http2Request(body) => body.length(),
            Self::Http2Response(body) => body.length(),
            Self::Tapped(tapped) => tapped.inner().length(),
            Self::Peeked(peeked) => match (&peeked.0, peeked.1.length()) {
                (None, rest) => rest,
                (Some(Ok(Frame::Data(data))), Length::Exact(rest)) => Length::Exact(data.len() as u64 + rest),
                (Some(Ok(Frame::Data(data))), Length::None) => Length::Exact(data.len() as u64),
                (Some(_), _) => Length::Unknown,
            },
        }
    }

    /// Tells whether nothing is to come.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self.length(), Length::None)
    }
}

/// A request body on its way out, kept for another try as long as it is small.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Body,
    kept: Vec<Bytes>,
    kept_trailers: Option<HeaderMap>,
    kept_bytes: usize,
    limit: usize,
    position: usize,
    ended: bool,
    /// Something was sent that is not kept.
    lost: bool,
    /// How the upload goes, for who bounds its time.
    progress: Rc<Progress>,
}

/// How an upload goes.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the client last sent something of it.
    pub(crate) last: Cell<Instant>,
    /// All of it has come.
    pub(crate) is_whole: Cell<bool>,
    /// Bytes of it that have come.
    pub(crate) received: Cell<u64>,
}

impl Outgoing {
    /// `limit` is the most that is kept, in bytes.
    pub(crate) fn new(body: Body, limit: usize) -> Self {
        let ended = body.is_end();
        Self {
            body,
            kept: Vec::new(),
            kept_trailers: None,
            kept_bytes: 0,
            limit,
            position: 0,
            ended,
            lost: false,
            progress: Rc::new(Progress {
                last: Cell::new(Instant::now()),
                is_whole: Cell::new(ended),
                received: Cell::new(0),
            }),
        }
    }

    /// Returns how the upload goes, to be looked at while it is under way.
    pub(crate) fn progress(&self) -> Rc<Progress> {
        self.progress.clone()
    }

    /// Starts again from the beginning for another try; false where that is not possible any more.
    pub(crate) fn rewind(&mut self) -> bool {
        self.position = 0;
        !self.lost
    }

    /// Tells whether all of it was given out in this try.
    pub(crate) fn is_finished(&self) -> bool {
        self.position >= self.kept.len() && self.kept_trailers.is_none() && (self.ended || self.body.is_end())
    }

    /// Returns how much is to come in this try.
    pub(crate) fn length(&self) -> Length {
        if self.position == 0 && !self.kept.is_empty() {
            return match self.body.length() {
                Length::None if self.kept_trailers.is_none() => Length::Exact(self.kept_bytes as u64),
                Length::Exact(rest) => Length::Exact(self.kept_bytes as u64 + rest),
                Length::None | Length::Unknown => Length::Unknown,
            };
        }
        self.body.length()
    }

    /// Returns the next piece of this try.
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(bytes) = self.kept.get(self.position) {
            self.position += 1;
            return Poll::Ready(Some(Ok(Frame::Data(bytes.clone()))));
        }
        if self.ended {
            if self.position == self.kept.len()
                && let Some(trailers) = &self.kept_trailers
            {
                self.position += 1;
                return Poll::Ready(Some(Ok(Frame::Trailers(trailers.clone()))));
            }
            return Poll::Ready(None);
        }
        let frame = std::task::ready!(self.body.poll_frame(context));
        self.progress.last.set(Instant::now());
        self.progress.is_whole.set(!matches!(frame, Some(Ok(Frame::Data(_)))) || self.body.is_end());
        match frame {
            Some(Ok(Frame::Data(bytes))) => {
                self.progress.received.set(self.progress.received.get() + bytes.len() as u64);
                if !self.lost && self.kept_bytes + bytes.len() <= self.limit {
                    self.kept_bytes += bytes.len();
                    self.kept.push(bytes.clone());
                } else {
                    self.lost = true;
                    self.kept = Vec::new();
                }
                self.position = self.kept.len();
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Some(Ok(Frame::Trailers(trailers))) => {
                self.ended = true;
                if !self.lost {
                    self.kept_trailers = Some(trailers.clone());
                }
                self.position = self.kept.len() + 1;
                Poll::Ready(Some(Ok(Frame::Trailers(trailers))))
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                self.ended = true;
                self.lost = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(outgoing: &mut Outgoing) -> Vec<u8> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        while let Poll::Ready(Some(Ok(Frame::Data(bytes)))) = outgoing.poll_frame(&mut context) {
            all.extend_from_slice(&bytes);
        }
        all
    }

    #[test]
    fn a_small_body_can_be_sent_again_and_again() {
        let mut outgoing = Outgoing::new(Body::Full(Bytes::from_static(b"hello")), 5);
        assert_eq!(outgoing.length(), Length::Exact(5));
        assert_eq!(drain(&mut outgoing), b"hello");
        for _ in 0..2 {
            assert!(outgoing.rewind());
            assert_eq!(outgoing.length(), Length::Exact(5));
            assert_eq!(drain(&mut outgoing), b"hello");
        }
    }

    #[test]
    fn a_body_over_the_limit_is_sent_once() {
        let mut outgoing = Outgoing::new(Body::Full(Bytes::from_static(b"hello")), 4);
        assert!(outgoing.rewind(), "nothing was sent yet");
        assert_eq!(drain(&mut outgoing), b"hello");
        assert!(!outgoing.rewind());
    }

    #[test]
    fn no_body_can_always_be_sent_again() {
        let mut outgoing = Outgoing::new(Body::Empty, 0);
        assert!(drain(&mut outgoing).is_empty() && outgoing.rewind());
        assert_eq!(outgoing.length(), Length::None);
    }
}
