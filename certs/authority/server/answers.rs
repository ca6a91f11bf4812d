//! Answers that may have been lost: the same request gets the same answer again.
//!
//! A request is the same when every byte of it is, so it is for the same key: its answer is a certificate of no use to
//! anybody else (docs/decisions/0121-the-same-request-has-the-same-answer.md). Refusals are not kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ring::digest::{Context, SHA256};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use crate::authority::Denied;

/// How long an answer is kept.
pub(super) const AGE: Duration = Duration::from_mins(10);
/// Answers that are kept, of about 4 KiB each; the oldest one goes first.
const MOST: usize = 4096;
/// Requests that are being decided at a time.
const UNDER_WAY: usize = 1024;

/// What a request came to.
pub(super) type Outcome = Result<Bytes, Denied>;
/// Tells who waits for it.
pub(super) type Waiting = watch::Receiver<Option<Outcome>>;
/// SHA-256 of what makes a request the same.
pub(super) type Digest = [u8; 32];

/// The answers, and the requests that are being decided.
#[derive(Debug, Default)]
pub(super) struct Answers {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: HashMap<Digest, Bytes>,
    order: VecDeque<(Instant, Digest)>,
    under_way: HashMap<Digest, Waiting>,
}

/// What is known of a request.
pub(super) enum Known {
    /// It was answered.
    Answered(Bytes),
    /// Somebody asked the same just now.
    UnderWay(Waiting),
    /// Nothing: whoever holds this decides.
    New(Ticket, Waiting),
    /// Too many are being decided.
    Full,
}

/// One request that is being decided. Dropped without an answer, it can be asked again.
pub(super) struct Ticket {
    answers: Arc<Answers>,
    digest: Digest,
    tell: watch::Sender<Option<Outcome>>,
}

impl Answers {
    /// Returns what makes a request the same: its kind, who shows which certificate, and every byte of its body.
    pub(super) fn digest(kind: &str, chain: &[CertificateDer<'_>], body: &[u8]) -> Digest {
        let mut context = Context::new(&SHA256);
        // With their lengths, so that no part can pass for the end of another.
        for part in std::iter::once(kind.as_bytes()).chain(chain.first().map(AsRef::as_ref)).chain([body]) {
            context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            context.update(part);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    pub(super) fn look(self: &Arc<Self>, digest: Digest, now: Instant) -> Known {
        let mut inner = self.lock();
        inner.forget(now);
        if let Some(answer) = inner.kept.get(&digest) {
            return Known::Answered(answer.clone());
        }
        if let Some(waiting) = inner.under_way.get(&digest) {
            return Known::UnderWay(waiting.clone());
        }
        if inner.under_way.len() >= UNDER_WAY {
            return Known::Full;
        }
        let (tell, waiting) = watch::channel(None);
        inner.under_way.insert(digest, waiting.clone());
        Known::New(Ticket { answers: Arc::clone(self), digest, tell }, waiting)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget(&mut self, now: Instant) {
        while let Some((at, digest)) = self.order.front()
            && (self.order.len() > MOST || now.saturating_duration_since(*at) >= AGE)
        {
            self.kept.remove(digest);
            self.order.pop_front();
        }
    }
}

impl Ticket {
    /// Tells the outcome to all who asked, and keeps it if something was issued.
    pub(super) fn finish(self, outcome: Outcome, now: Instant) {
        if let Ok(answer) = &outcome {
            let mut inner = self.answers.lock();
            inner.kept.insert(self.digest, answer.clone());
            inner.order.push_back((now, self.digest));
            inner.forget(now);
        }
        self.tell.send_replace(Some(outcome));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.answers.lock().under_way.remove(&self.digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(body: &[u8]) -> Digest {
        Answers::digest("issue", &[], body)
    }

    fn new(answers: &Arc<Answers>, digest: Digest, now: Instant) -> Ticket {
        match answers.look(digest, now) {
            Known::New(ticket, _) => ticket,
            _ => panic!("it is known"),
        }
    }

    #[test]
    fn an_answer_is_given_again_for_ten_minutes_and_a_refusal_never() {
        let (answers, now) = (Arc::new(Answers::default()), Instant::now());
        new(&answers, digest(b"a"), now).finish(Ok(Bytes::from_static(b"chain")), now);
        assert!(matches!(answers.look(digest(b"a"), now), Known::Answered(answer) if answer == "chain"));
        assert!(matches!(answers.look(digest(b"a"), now + AGE), Known::New(..)));
        new(&answers, digest(b"b"), now).finish(Err(Denied::NotProved { reason: "expired" }), now);
        assert!(matches!(answers.look(digest(b"b"), now), Known::New(..)));
    }

    #[test]
    fn who_asks_the_same_meanwhile_waits_for_the_one_answer() {
        let (answers, now) = (Arc::new(Answers::default()), Instant::now());
        let ticket = new(&answers, digest(b"a"), now);
        let Known::UnderWay(waiting) = answers.look(digest(b"a"), now) else { panic!("it is being decided") };
        ticket.finish(Ok(Bytes::from_static(b"chain")), now);
        assert_eq!(*waiting.borrow(), Some(Ok(Bytes::from_static(b"chain"))));
    }

    #[test]
    fn what_was_given_up_can_be_asked_again() {
        let (answers, now) = (Arc::new(Answers::default()), Instant::now());
        drop(new(&answers, digest(b"a"), now));
        drop(new(&answers, digest(b"a"), now));
    }

    #[test]
    fn memory_is_bounded() {
        let (answers, now) = (Arc::new(Answers::default()), Instant::now());
        for number in 0..MOST + 10 {
            let ticket = new(&answers, digest(&number.to_be_bytes()), now);
            ticket.finish(Ok(Bytes::new()), now);
        }
        let kept = answers.lock().kept.len();
        assert_eq!(kept, MOST);
        let tickets: Vec<_> =
            (0..UNDER_WAY).map(|number| new(&answers, digest(format!("{number}").as_bytes()), now)).collect();
        assert!(matches!(answers.look(digest(b"one more"), now), Known::Full));
        drop(tickets);
        drop(new(&answers, digest(b"one more"), now));
    }

    #[test]
    fn another_kind_certificate_or_byte_is_another_request() {
        let leaf = [CertificateDer::from(b"leaf".to_vec())];
        let one = Answers::digest("renew", &leaf, b"body");
        assert_eq!(one, Answers::digest("renew", &leaf, b"body"));
        for other in [
            Answers::digest("issue", &leaf, b"body"),
            Answers::digest("renew", &[], b"body"),
            Answers::digest("renew", &[CertificateDer::from(b"lea".to_vec())], b"fbody"),
            Answers::digest("renew", &leaf, b"body "),
        ] {
            assert_ne!(one, other);
        }
    }
}
