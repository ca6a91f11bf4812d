//! How a connection answers, switches protocols, and says goodbye.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use http::{StatusCode, header};
use tokio::time::Instant;

use super::{Done, Shared};
use crate::config::ListenerLimits;
use crate::http1::body::Encoder;
use crate::http1::head::{self, Framing, Version};
use crate::http1::wire::{Wire, poll_read_scratch};
use crate::proxy::body::{BodyError, Frame, Length};
use crate::proxy::exchange::{Outcome, Reply};
use crate::proxy::tunnel;
use crate::stream::Stream;
use crate::timer::{Timer, after};

/// After an early error this much of what the client still sends is read, so that it gets to see the answer.
const LINGER_BYTES: usize = 64 * 1024;
/// … and so long.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Writes a reply; tells how it went and whether the connection can go on.
pub(super) async fn write_reply(
    shared: &Rc<RefCell<Shared>>,
    reply: &mut Reply,
    version: Version,
    is_head: bool,
    keep_alive: bool,
    timer: &mut Timer,
) -> (Outcome, bool) {
    let status = reply.head.status;
    let bodiless = is_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let (framing, keep_alive) = if bodiless {
        (reply_framing_without_body(reply, status), keep_alive)
    } else {
        match (reply.body.length(), version) {
            (Length::None, _) => (Framing::Length(0), keep_alive),
            (Length::Exact(length), _) => (Framing::Length(length), keep_alive),
            (Length::Unknown, Version::Http11) => (Framing::Chunked, keep_alive),
            (Length::Unknown, Version::Http10) => (Framing::UntilClose, false),
        }
    };
    {
        let shared = &mut *shared.borrow_mut();
        // A client that still waits for 100 is answered by this; nothing may come between head and body.
        shared.expects_continue = false;
        head::write_response(&mut shared.wire.out, status, &reply.head.headers, &framing, keep_alive, version);
    }
    let mut encoder = if bodiless { None } else { Some(Encoder::new(&framing)) };
    let mut silent_since = Instant::now();
    let (idle, deadline) = (reply.idle_timeout, reply.deadline);
    let outcome = poll_fn(|context| {
        loop {
            if let Some(encoding) = encoder.as_mut()
                && shared.borrow().wire.has_room()
            {
                // Not while `shared` is borrowed: the body may drive the rest of an upload, which this connection reads.
                let frame = reply.body.poll_frame(context);
                let wire = &mut shared.borrow_mut().wire;
                match frame {
                    Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                        reply.account.sent(bytes.len());
                        silent_since = Instant::now();
                        if wire.encode(encoding, bytes).is_err() {
                            return Poll::Ready(Outcome::UpstreamBroke(BodyError::Gone(
                                "its body was longer than it said".to_owned(),
                            )));
                        }
                        continue;
                    }
                    Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                        reply.account.trailers(&trailers);
                        let done = encoding.end(&mut wire.out, Some(&trailers));
                        encoder = None;
                        if done.is_err() {
                            return Poll::Ready(short_body());
                        }
                        continue;
                    }
                    Poll::Ready(None) => {
                        let done = encoding.end(&mut wire.out, None);
                        encoder = None;
                        if done.is_err() {
                            return Poll::Ready(short_body());
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        let _ = wire.poll_flush(context);
                        return Poll::Ready(Outcome::UpstreamBroke(error));
                    }
                    Poll::Pending => {}
                }
            }
            let (had, flushed) = {
                let wire = &mut shared.borrow_mut().wire;
                (!wire.is_flushed(), wire.poll_flush(context))
            };
            match flushed {
                Poll::Ready(Ok(())) if encoder.is_none() => return Poll::Ready(Outcome::Complete),
                // Room again: take the next piece, unless it is the body that keeps us waiting.
                Poll::Ready(Ok(())) => {
                    if had {
                        silent_since = Instant::now();
                        continue;
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Outcome::ClientGone),
                Poll::Pending => reply.body.poll_background(context),
            }
            if shared.borrow_mut().poll_gone(context).is_ready() {
                return Poll::Ready(Outcome::ClientGone);
            }
            let silent = after(silent_since, idle);
            return match timer.poll_expired(context, deadline.map_or(silent, |deadline| deadline.min(silent))) {
                Poll::Ready(()) if deadline.is_some_and(|deadline| deadline < silent) => {
                    Poll::Ready(Outcome::UpstreamBroke(BodyError::Late))
                }
                // It does not read what we have for it.
                Poll::Ready(()) if !shared.borrow().wire.is_flushed() => Poll::Ready(Outcome::ClientGone),
                Poll::Ready(()) => Poll::Ready(Outcome::UpstreamBroke(BodyError::Silent)),
                Poll::Pending => Poll::Pending,
            };
        }
    })
    .await;
    (outcome, keep_alive)
}

fn short_body() -> Outcome {
    Outcome::UpstreamBroke(BodyError::Gone("its body was shorter than it said".to_owned()))
}

/// A reply to HEAD and a 304 may announce the length that GET would have.
fn reply_framing_without_body(reply: &Reply, status: StatusCode) -> Framing {
    if status == StatusCode::NO_CONTENT {
        return Framing::None;
    }
    reply
        .head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(Framing::None, Framing::Length)
}

/// Switches protocols: from here on only bytes.
pub(super) async fn upgrade(
    shared: &Rc<RefCell<Shared>>,
    reply: Reply,
    tunnel: tunnel::Upgraded,
    timer: &mut Timer,
) -> Done {
    let mut wire = {
        let mut shared = shared.borrow_mut();
        let empty = Wire::new(Stream::closed());
        std::mem::replace(&mut shared.wire, empty)
    };
    head::write_response(
        &mut wire.out,
        StatusCode::SWITCHING_PROTOCOLS,
        &reply.head.headers,
        &Framing::None,
        true,
        Version::Http11,
    );
    let flushed = poll_fn(|context| wire.poll_flush(context)).await;
    let mut account = reply.account;
    if flushed.is_err() {
        account.finish(Outcome::ClientGone);
        return Done::Over;
    }
    let mut client = wire.stream;
    client.unread(wire.read);
    let tunnel::Upgraded { stream: endpoint, lease } = tunnel;
    let carried = tunnel::run(client, endpoint, reply.idle_timeout, timer).await;
    drop(lease);
    account.carried(&carried);
    account.finish(Outcome::Complete);
    Done::Over
}

/// Answers what was no request, closes our half, and lets the client read the answer.
pub(super) async fn refuse(shared: &Rc<RefCell<Shared>>, mut reply: Reply, limits: &ListenerLimits, timer: &mut Timer) {
    let deadline = after(Instant::now(), limits.header_timeout);
    let mut body_timer = Timer::default();
    let writing = write_reply(shared, &mut reply, Version::Http11, false, false, &mut body_timer);
    let outcome = timer.bound(Some(deadline), writing).await.map_or(Outcome::ClientGone, |(outcome, _)| outcome);
    reply.account.finish(outcome);
    linger(shared, timer).await;
}

/// Half-closes, then reads on for a while: a close with unread input would reset the connection and take the answer
/// that is under way with it (RFC 9112, 9.6).
pub(super) async fn linger(shared: &Rc<RefCell<Shared>>, timer: &mut Timer) {
    let deadline = after(Instant::now(), LINGER_TIME);
    let mut left = LINGER_BYTES;
    let mut closed = false;
    let reading = poll_fn(|context| {
        let wire = &mut shared.borrow_mut().wire;
        if !closed {
            match wire.stream.poll_close(context) {
                Poll::Ready(Ok(())) => closed = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        while left > 0 {
            match ready!(poll_read_scratch(&mut wire.stream, context, <[u8]>::len)) {
                Ok(0) | Err(_) => break,
                Ok(length) => left = left.saturating_sub(length),
            }
        }
        Poll::Ready(())
    });
    let _ = timer.bound(Some(deadline), reading).await;
}
