//! Bytes in both directions: upgraded connections, TCP, TLS that is passed on unopened.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use crate::http1::wire::poll_read_scratch;
use crate::stream::Stream;
use crate::timer::{Timer, after};
use crate::upstream::pool::Lease;

/// The endpoint's side of a connection that switched protocols.
#[derive(Debug)]
pub(crate) struct Upgraded {
    pub(crate) stream: Stream,
    /// Counts against the limits until the tunnel ends.
    pub(crate) lease: Lease,
}

/// What went through a tunnel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// From the client to the endpoint, in bytes.
    pub(crate) up: u64,
    /// From the endpoint to the client, in bytes.
    pub(crate) down: u64,
    /// How it ended.
    pub(crate) end: End,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides closed.
    #[default]
    Closed,
    /// Nothing moved for the idle timeout.
    Idle,
    /// One side broke.
    Reset,
}

/// One direction. It holds bytes only while they cannot be written; then it does not read either.
#[derive(Debug, Default)]
struct Direction {
    waiting: BytesMut,
    moved: u64,
    read_closed: bool,
    closed: bool,
}

impl Direction {
    /// Ready when the direction has ended.
    fn poll(&mut self, from: &mut Stream, to: &mut Stream, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.waiting.is_empty() {
                match Pin::new(&mut *to).poll_write(context, &self.waiting) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(length)) => {
                        self.moved += length as u64;
                        self.waiting.advance(length);
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.waiting.capacity() > 0 {
                self.waiting = BytesMut::new();
            }
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            if self.read_closed {
                // A half-closed connection stays half-open: the other direction may go on.
                return match to.poll_close(context) {
                    Poll::Ready(_) => {
                        self.closed = true;
                        Poll::Ready(Ok(()))
                    }
                    Poll::Pending => Poll::Pending,
                };
            }
            let Self { waiting, moved, .. } = self;
            let read = poll_read_scratch(from, context, |bytes| {
                let written =
                    match Pin::new(&mut *to).poll_write(&mut Context::from_waker(std::task::Waker::noop()), bytes) {
                        Poll::Ready(Ok(written)) => written,
                        // The loop above meets the error, or waits, when it writes what is kept.
                        Poll::Ready(Err(_)) | Poll::Pending => 0,
                    };
                *moved += written as u64;
                waiting.extend_from_slice(bytes.get(written..).unwrap_or_default());
                bytes.len()
            });
            match read {
                Poll::Ready(Ok(0)) => self.read_closed = true,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    // TLS may hold written bytes back until it is flushed.
                    return match Pin::new(&mut *to).poll_flush(context) {
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }
}

/// Carries bytes both ways until both sides have closed, one breaks, or nothing moves for `idle`.
pub(crate) async fn run(mut client: Stream, mut endpoint: Stream, idle: Duration, timer: &mut Timer) -> Carried {
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let mut last_moved = (0, Instant::now());
    let end = poll_fn(|context| {
        let upward = up.poll(&mut client, &mut endpoint, context);
        let downward = down.poll(&mut endpoint, &mut client, context);
        match (upward, downward) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(End::Reset),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Closed),
            _ => {}
        }
        if last_moved.0 != up.moved + down.moved {
            last_moved = (up.moved + down.moved, Instant::now());
        }
        timer.poll_expired(context, after(last_moved.1, idle)).map(|()| End::Idle)
    })
    .await;
    Carried { up: up.moved, down: down.moved, end }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_client_still_gets_the_answer() {
        let (mut client, near) = duplex(64);
        let (mut endpoint, far) = duplex(64);
        let asking = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer.len()
        };
        let answering = async {
            let mut question = Vec::new();
            endpoint.read_to_end(&mut question).await.unwrap();
            endpoint.write_all(&[b'x'; 1000]).await.unwrap();
            endpoint.shutdown().await.unwrap();
            question
        };
        let mut timer = Timer::default();
        let (carried, answer, question) =
            tokio::join!(run(near.into(), far.into(), Duration::from_secs(5), &mut timer), asking, answering);
        assert_eq!((question.as_slice(), answer), (&b"question"[..], 1000));
        assert_eq!(carried, Carried { up: 8, down: 1000, end: End::Closed });
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_ends_after_the_idle_timeout() {
        let (_client, near) = duplex(64);
        let (_endpoint, far) = duplex(64);
        let start = Instant::now();
        let carried = run(near.into(), far.into(), Duration::from_secs(5), &mut Timer::default()).await;
        assert_eq!((carried.end, start.elapsed().as_secs()), (End::Idle, 5));
    }

    #[tokio::test]
    async fn bytes_arrive_whole_and_in_order_through_small_pipes() {
        let (mut client, near) = duplex(7);
        let (mut endpoint, far) = duplex(5);
        let sent: Vec<u8> = (0..10_000u32).map(|number| (number % 251) as u8).collect();
        let expected = sent.clone();
        let writing = async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut back = Vec::new();
            client.read_to_end(&mut back).await.unwrap();
            back
        };
        let reading = async move {
            let mut got = Vec::new();
            endpoint.read_to_end(&mut got).await.unwrap();
            endpoint.write_all(b"done").await.unwrap();
            endpoint.shutdown().await.unwrap();
            got
        };
        let mut timer = Timer::default();
        let (carried, back, got) =
            tokio::join!(run(near.into(), far.into(), Duration::from_secs(5), &mut timer), writing, reading);
        assert_eq!((got == expected, back.as_slice()), (true, &b"done"[..]));
        assert_eq!(carried, Carried { up: 10_000, down: 4, end: End::Closed });
    }
}
