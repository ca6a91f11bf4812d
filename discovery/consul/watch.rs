//! Follows one target: asks, waits, judges what came.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Reply};
use super::instances;
use super::pace::{Bucket, Cursor};
use super::slots::{Polling, Slots};
use super::target::{Kind, Manner, Question};
use crate::{Error, Snapshot, Source, async_trait};

/// How far a server or an agent may be behind before it is not believed: at rest a server hears from its leader many
/// times each second, and a minute of elections is told as what it is.
const MAX_BEHIND: Duration = Duration::from_secs(10);

/// An exchange that is under way.
type Exchange = Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;

/// Follows one target.
pub(super) struct Watch {
    question: Arc<Question>,
    client: Arc<Client>,
    slots: Arc<Slots>,
    wait: Duration,
    random: fastrand::Rng,
    cursor: Cursor,
    bucket: Bucket,
    stage: Stage,
    /// The right to wait, held while it is made use of.
    waiting: Option<OwnedSemaphorePermit>,
    /// Counted among those that poll.
    polling: Option<Polling>,
    /// The server that answered last is behind: the next question goes to the leader.
    doubts_servers: bool,
    /// The last good answer, through errors too.
    known: Option<Snapshot>,
    /// The next answer is told even if nothing changed: at the start and after an error.
    must_tell: bool,
}

/// What is under way; it stays so when a call is dropped, and the next call goes on with it.
enum Stage {
    /// An exchange is under way.
    Asking(Exchange),
    /// The next question may be asked from then on.
    Resting(Instant),
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Watch")
            .field("question", &self.question)
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Source for Watch {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        loop {
            let outcome = match &mut self.stage {
                Stage::Resting(until) => {
                    let until = *until;
                    if until > Instant::now() {
                        sleep_until(until).await;
                    }
                    let exchange = self.ask(Instant::now());
                    self.stage = Stage::Asking(exchange);
                    continue;
                }
                Stage::Asking(exchange) => exchange.await,
            };
            // No await from here on: a call that is dropped has either learnt nothing or returned it.
            let now = Instant::now();
            match outcome.and_then(|reply| self.judge(&reply)) {
                Ok(changed) => {
                    self.stage = Stage::Resting(self.due(now));
                    if let Some(snapshot) = changed {
                        return Ok(snapshot);
                    }
                }
                Err(error) => {
                    // What comes next is asked at once, and of nobody that knows where we were. The caller owns the
                    // back-off, and what fails keeps nobody else from waiting.
                    self.cursor.reset();
                    self.waiting = None;
                    self.must_tell = true;
                    self.stage = Stage::Resting(now);
                    return Err(error);
                }
            }
        }
    }
}

impl Watch {
    pub(super) fn new(question: Question, client: Arc<Client>, slots: Arc<Slots>, wait: Duration) -> Self {
        let now = Instant::now();
        Self {
            question: Arc::new(question),
            client,
            slots,
            wait,
            random: fastrand::Rng::new(),
            cursor: Cursor::default(),
            bucket: Bucket::new(now),
            stage: Stage::Resting(now),
            waiting: None,
            polling: None,
            doubts_servers: false,
            known: None,
            must_tell: true,
        }
    }

    /// Begins the next exchange.
    fn ask(&mut self, now: Instant) -> Exchange {
        self.bucket.take(now);
        let manner = match (self.cursor.index(), &self.waiting, &self.polling) {
            _ if self.doubts_servers => Manner::OfLeader,
            (Some(index), Some(_), _) => Manner::Waiting { index, wait: self.wait },
            (_, None, Some(_)) if !self.must_tell => Manner::Polled,
            _ => Manner::Fresh,
        };
        let (question, client, slots) = (Arc::clone(&self.question), Arc::clone(&self.client), Arc::clone(&self.slots));
        Box::pin(async move {
            // Who waits has the right to do so already.
            let _turn = match manner {
                Manner::Waiting { .. } => None,
                _ => slots.turn(question.datacenter()).await,
            };
            client.get(question.ask(manner)).await
        })
    }

    /// Returns when the next question may be asked: now, unless too many were or this target polls.
    fn due(&mut self, now: Instant) -> Instant {
        if self.waiting.is_none() && self.question.kind != Kind::Query {
            self.waiting = self.slots.wait();
        }
        let waits = self.waiting.is_some();
        if waits {
            self.polling = None;
        } else if self.polling.is_none() {
            self.polling = Some(self.slots.poll());
        }
        let due = self.bucket.due(now);
        if waits { due } else { due.max(now + self.slots.interval(&mut self.random)) }
    }

    /// Takes an answer in and returns what is to be told, if anything is.
    fn judge(&mut self, reply: &Reply) -> Result<Option<Snapshot>, Error> {
        let believed = believe(reply);
        // A server that is behind is asked no more until the leader was.
        self.doubts_servers = believed.is_err();
        believed?;
        let snapshot = instances::read(reply, &self.question)?;
        let has_known = self.known.as_ref().is_some_and(|known| !known.is_empty());
        plausible(reply, &snapshot, has_known, &self.question)?;
        self.cursor.saw(reply.index);
        if !self.must_tell && self.known.as_ref() == Some(&snapshot) {
            return Ok(None);
        }
        self.must_tell = false;
        self.known = Some(snapshot.clone());
        Ok(Some(snapshot))
    }
}

/// Refuses what a server or an agent says that is cut off from the others: what it knows may have changed long ago.
fn believe(reply: &Reply) -> Result<(), Error> {
    let behind =
        |who: &str, by: Duration| Err(Error::Unreachable(format!("{}: {who} for {} s", reply.at(), by.as_secs())));
    match (reply.last_contact, reply.age) {
        (Some(by), _) if by > MAX_BEHIND => behind("the server that answered has not heard from its leader", by),
        (_, Some(by)) if by > MAX_BEHIND => behind("the agent has not heard from its servers", by),
        _ => Ok(()),
    }
}

/// Refuses an answer that says less than is there.
fn plausible(reply: &Reply, snapshot: &Snapshot, has_known: bool, question: &Question) -> Result<(), Error> {
    if snapshot.is_empty() && reply.is_filtered {
        return Err(Error::Denied(format!(
            "{}: Consul left out every instance because the token may not see them; it needs {}",
            reply.at(),
            question.permission()
        )));
    }
    // A server that has just started has no leader and knows nothing, and says so with 200 to who takes stale answers.
    if reply.knows_leader == Some(false) && (snapshot.is_empty() || has_known) {
        return Err(Error::Unreachable(format!("{}: no cluster leader", reply.at())));
    }
    Ok(())
}
