//! Light traffic through the gateway, and a line now and then about where it went.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use meshless::admin::client::{Client, ClientError, Reply};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::{Exit, print};

/// A line about the traffic is printed this often.
const REPORT: Duration = Duration::from_secs(10);
/// Every so many requests one goes to the slow service.
const SLOW_ONE_IN: u64 = 10;

/// Requests to send through the gateway.
#[derive(Debug)]
pub(super) struct Traffic {
    /// A second.
    pub(super) rate: u32,
    pub(super) length: Duration,
    pub(super) gateway: Client,
    pub(super) admin: Client,
}

#[derive(Debug, Default)]
struct Counts {
    answers: BTreeMap<String, u64>,
    failed: u64,
}

impl Counts {
    fn take(&mut self, reply: Result<Reply, ClientError>) {
        match reply {
            // The first word of an answer is who gave it.
            Ok(reply) if reply.status.is_success() => {
                let name = reply.text.split(' ').next().unwrap_or_default().to_owned();
                *self.answers.entry(name).or_default() += 1;
            }
            Ok(_) | Err(_) => self.failed += 1,
        }
    }

    fn line(&self, sent_again: Option<u64>) -> String {
        let total = self.answers.values().sum::<u64>() + self.failed;
        let mut line = format!("{total} requests:");
        for (name, count) in &self.answers {
            // Writing to a string cannot fail.
            let _ = write!(line, " {name} {count},");
        }
        let _ = write!(line, " failed {}", self.failed);
        if let Some(sent_again) = sent_again {
            let _ = write!(line, "; sent again so far {sent_again}");
        }
        line.push('\n');
        line
    }
}

impl Traffic {
    /// Sends until the time is over.
    pub(super) async fn run(self) {
        if self.rate == 0 {
            return;
        }
        let end = Instant::now() + self.length;
        let mut tick = interval(Duration::from_secs(1) / self.rate);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut report = interval(REPORT);
        report.reset();
        let (mut counts, mut number) = (Counts::default(), 0);
        let mut under_way = JoinSet::new();
        while Instant::now() < end {
            tokio::select! {
                // No more than a few seconds' worth wait at a time.
                _ = tick.tick(), if under_way.len() < 100 => {
                    number += 1;
                    let client = self.gateway.clone();
                    let path = if number % SLOW_ONE_IN == 0 { "/slow/" } else { "/" };
                    under_way.spawn(async move { client.get(path).await });
                }
                Some(done) = under_way.join_next() => {
                    if let Ok(reply) = done {
                        counts.take(reply);
                    }
                }
                _ = report.tick() => {
                    let line = std::mem::take(&mut counts).line(self.sent_again().await);
                    if print(&line) != Exit::Done {
                        return;
                    }
                }
            }
        }
        print("The traffic has ended; the gateway and the services stay until Ctrl-C.\n");
    }

    /// Returns how many tries were repeated since the start.
    async fn sent_again(&self) -> Option<u64> {
        let metrics = self.admin.get("/metrics").await.ok()?.text;
        Some(sum(&metrics, "meshless_retry_total") + sum(&metrics, "meshless_requeue_total"))
    }
}

/// Adds the samples of a counter up.
fn sum(metrics: &str, name: &str) -> u64 {
    let samples =
        metrics.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_who_answered_and_what_failed() {
        let mut counts = Counts { failed: 1, ..Counts::default() };
        counts.answers.insert("web-v1-a".to_owned(), 9);
        counts.answers.insert("web-v2-b".to_owned(), 1);
        assert_eq!(counts.line(Some(2)), "11 requests: web-v1-a 9, web-v2-b 1, failed 1; sent again so far 2\n");
    }

    #[test]
    fn only_samples_of_the_counter_itself_are_added() {
        let metrics = "# HELP a x\na{b=\"1\"} 2\na{b=\"2\"} 3\na_total 7\n";
        assert_eq!((sum(metrics, "a"), sum(metrics, "a_total"), sum(metrics, "c")), (5, 7, 0));
    }
}
