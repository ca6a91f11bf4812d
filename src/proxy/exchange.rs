//! The face that every protocol shows to the engine: a request comes in with an [`Exchange`], a [`Reply`] goes out.

use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, response};
use tokio::time::Instant;

use super::account::Account;
use super::body::{Body, BodyError};
use super::tunnel::Upgraded;
use crate::http1::Reject;
use crate::timer::Timer;
use crate::{http1, http2};

/// Answers requests. One for each connection.
pub(crate) trait Handler {
    /// Answers a request. Dropping the future cancels all that is under way for it.
    async fn handle(&self, request: Request<Body>, exchange: &mut Exchange<'_>) -> Reply;

    /// Answers bytes that are no request that we take.
    fn refuse(&self, reject: &Reject) -> Reply;

    /// Answers a client whose head did not end in time.
    fn slow(&self) -> Reply;

    /// Notes that a connection is ended because of what its client does with the protocol.
    fn abused(&self, label: &'static str);
}

/// What a request's protocol has to say about it, and can do for it.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    /// The connection's timer.
    pub(crate) timer: &'a mut Timer,
    /// Where interim replies go.
    pub(crate) interim: Interim,
    /// The client waits for `100 Continue`.
    pub(crate) expects_continue: bool,
    /// The client asks to switch protocols.
    pub(crate) upgrade: bool,
    /// When its first byte was seen.
    pub(crate) received: Instant,
    pub(crate) version: http::Version,
}

/// Sends interim (1xx) replies.
#[derive(Debug, Clone)]
pub(crate) enum Interim {
    Http1(http1::connection::InterimSink),
    Http2(http2::server::InterimSink),
    /// HTTP/1.0 knows none.
    None,
}

impl Interim {
    /// Passes an interim reply on.
    pub(crate) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        match self {
            Self::Http1(sink) => sink.send(status, headers),
            Self::Http2(sink) => sink.send(status, headers),
            Self::None => {}
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: response::Parts,
    pub(crate) body: Body,
    /// Behind a 101: the other side.
    pub(crate) tunnel: Option<Box<Upgraded>>,
    /// The connection must not be used again.
    pub(crate) close: bool,
    /// Longest silence of the body.
    pub(crate) idle_timeout: Duration,
    /// When the body has to have ended: the client's own deadline.
    pub(crate) deadline: Option<Instant>,
    /// What is written down when it has ended.
    pub(crate) account: Account,
}

/// How an answer ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All of it is written.
    Complete,
    /// The client left before.
    ClientGone,
    /// The endpoint did not finish it.
    UpstreamBroke(BodyError),
}
