//! Gathers traces into batches and posts them. It may wait for a collector as long as it likes: nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::client::{Answer, Client, Post};
use super::{Collector, LAST_WORDS, Settings, Trace, otlp};
use crate::telemetry::metrics::{Registry, SharedCounter, families};

/// Spans of one batch, and how long the first one waits for more: OpenTelemetry's defaults for batches.
const BATCH: u64 = 512;
const DELAY: Duration = Duration::from_secs(5);
/// How often the queue is emptied meanwhile: 2,048 traces in 100 ms are 20,000 a second.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for one answer: OTLP's default.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a batch is sent before it is given up, and the pause after the first failure; it doubles.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Sends what workers recorded. Run it on the control runtime.
#[derive(Debug)]
pub struct Exporter(Work<Client>);

impl Exporter {
    pub(super) fn new(
        waiting: mpsc::Receiver<Box<Trace>>,
        settings: watch::Receiver<Settings>,
        registry: &Registry,
    ) -> Self {
        Self(Work::new(waiting, settings, Client::default(), registry))
    }

    /// Sends until tracing is closed, then what waits, within [`LAST_WORDS`].
    pub async fn run(self) {
        self.0.run().await;
    }
}

/// The work of an exporter, over any way to post.
#[derive(Debug)]
struct Work<P> {
    waiting: mpsc::Receiver<Box<Trace>>,
    settings: watch::Receiver<Settings>,
    client: P,
    counts: Counts,
    random: fastrand::Rng,
    is_failing: bool,
}

/// Spans, by what became of them.
#[derive(Debug)]
struct Counts {
    exported: SharedCounter,
    refused: SharedCounter,
    shutdown: SharedCounter,
    unreachable: SharedCounter,
}

/// What became of one attempt.
#[derive(Debug)]
enum Attempt {
    /// Taken, but for so many spans.
    Taken { refused: u64 },
    /// Not now: again after this long, or after our own pause.
    Later { after: Option<Duration>, why: String },
    /// Never.
    Refused { why: String },
    /// There was no answer.
    Unreachable { why: String },
}

impl<P: Post> Work<P> {
    fn new(
        waiting: mpsc::Receiver<Box<Trace>>,
        settings: watch::Receiver<Settings>,
        client: P,
        registry: &Registry,
    ) -> Self {
        let dropped = |reason| registry.shared_counter(&families::TRACES_DROPPED, [reason]);
        let counts = Counts {
            exported: registry.shared_counter(&families::TRACES_EXPORTED, []),
            refused: dropped("refused"),
            shutdown: dropped("shutdown"),
            unreachable: dropped("unreachable"),
        };
        Self { waiting, settings, client, counts, random: fastrand::Rng::new(), is_failing: false }
    }

    async fn run(mut self) {
        let mut closing = self.settings.clone();
        let over = async {
            // An error means that control is gone, which is the same.
            let _ = closing.wait_for(|settings| settings.is_closing).await;
            sleep(LAST_WORDS).await;
        };
        let mut batch = Vec::new();
        let is_done = {
            let mut work = std::pin::pin!(self.work(&mut batch));
            tokio::select! {
                () = &mut work => true,
                () = over => false,
            }
        };
        if !is_done {
            while let Ok(trace) = self.waiting.try_recv() {
                batch.push(*trace);
            }
            let lost = spans(&batch);
            if lost > 0 {
                self.counts.shutdown.add(lost);
                tracing::warn!(spans = lost, "Spans that the trace collector did not take in time are lost.");
            }
        }
    }

    /// Gathers and exports. `batch` is the caller's: what is in it when this is dropped was not sent.
    async fn work(&mut self, batch: &mut Vec<Trace>) {
        while let Some(trace) = self.first().await {
            batch.push(*trace);
            self.gather(batch).await;
            self.export(batch).await;
            batch.clear();
        }
    }

    /// Waits for a trace; `None` at the end.
    async fn first(&mut self) -> Option<Box<Trace>> {
        tokio::select! {
            trace = self.waiting.recv() => trace,
            _ = self.settings.wait_for(|settings| settings.is_closing) => self.waiting.try_recv().ok(),
        }
    }

    /// Waits until a batch is full, or its first trace has waited long enough.
    async fn gather(&mut self, batch: &mut Vec<Trace>) {
        let due = Instant::now() + DELAY;
        let mut count = spans(batch);
        loop {
            while count < BATCH
                && let Ok(trace) = self.waiting.try_recv()
            {
                count += trace.spans();
                batch.push(*trace);
            }
            let left = due.saturating_duration_since(Instant::now());
            if count >= BATCH || left.is_zero() || !self.pause(left.min(LOOK)).await {
                return;
            }
        }
    }

    async fn export(&mut self, batch: &[Trace]) {
        let count = spans(batch);
        let mut body = None;
        let mut pause = PAUSE;
        let mut is_last = false;
        for attempt in 1..=ATTEMPTS {
            // Traces were turned off: nobody wants them any more.
            let Some(collector) = self.settings.borrow().collector.clone() else { return };
            let body = body.get_or_insert_with(|| Bytes::from(otlp::request(&collector.resource, batch))).clone();
            let (counter, wait) = match self.attempt(&collector, body).await {
                Attempt::Taken { refused } => {
                    self.counts.exported.add(count.saturating_sub(refused));
                    self.counts.refused.add(refused);
                    return self.recovered();
                }
                Attempt::Refused { why } => {
                    self.failed(&why);
                    return self.counts.refused.add(count);
                }
                Attempt::Later { after, why } => {
                    self.failed(&why);
                    (&self.counts.refused, after)
                }
                Attempt::Unreachable { why } => {
                    self.failed(&why);
                    (&self.counts.unreachable, None)
                }
            };
            if attempt == ATTEMPTS || is_last {
                return counter.add(count);
            }
            // Half of it at least, so that gateways that lost their collector together do not come back together.
            let wait = wait.unwrap_or_else(|| pause.mul_f64(self.random.f64().mul_add(0.5, 0.5)));
            pause *= 2;
            is_last = !self.pause(wait).await;
        }
    }

    async fn attempt(&mut self, collector: &Arc<Collector>, body: Bytes) -> Attempt {
        match timeout(PATIENCE, self.client.post(collector, body)).await {
            Ok(Ok(answer)) => judge(&answer),
            Ok(Err(error)) => Attempt::Unreachable { why: error.to_string() },
            Err(_) => Attempt::Unreachable { why: format!("no answer within {} s", PATIENCE.as_secs()) },
        }
    }

    /// Waits; false where tracing is closed, at once then.
    async fn pause(&mut self, time: Duration) -> bool {
        timeout(time, self.settings.wait_for(|settings| settings.is_closing)).await.is_err()
    }

    fn failed(&mut self, why: &str) {
        if !self.is_failing {
            self.is_failing = true;
            tracing::warn!(error = why, "The trace collector does not take spans; they wait, then they are lost.");
        }
    }

    fn recovered(&mut self) {
        if self.is_failing {
            self.is_failing = false;
            tracing::info!("The trace collector takes spans again.");
        }
    }
}

/// What an answer means, by OTLP's "Failures" and "Partial Success": four statuses may be tried again, no other.
fn judge(answer: &Answer) -> Attempt {
    let why = || format!("the collector answered {}", answer.status);
    match answer.status {
        status if status.is_success() => match otlp::refused(&answer.body) {
            None => Attempt::Taken { refused: 0 },
            Some((refused, why)) => {
                tracing::debug!(spans = refused, why, "The trace collector refused spans of a batch.");
                Attempt::Taken { refused }
            }
        },
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Attempt::Later { after: answer.retry_after, why: why() },
        _ => Attempt::Refused { why: why() },
    }
}

fn spans(batch: &[Trace]) -> u64 {
    batch.iter().map(Trace::spans).sum()
}

#[cfg(test)]
mod tests;
