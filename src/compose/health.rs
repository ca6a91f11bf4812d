//! Runs active health checks: one task that knows when each endpoint is due, and a bounded number of checks under way.
//!
//! It follows the table: what comes is checked soon, what goes is forgotten, and a service that loses `health` loses what
//! was thought of its endpoints.

pub(super) mod ask;
mod grpc;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use meshless_discovery::Health as Said;
use tokio::sync::Notify;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config::Health;
use crate::telemetry::metrics::ControlMetrics;
use crate::upstream::health::{Condition, Rounds, first_wait, next_wait};
use crate::upstream::{Member, Table, Upstream};

/// Checks under way at a time. With a limit of 1 s each, 64 endpoints a second are checked even where all hang; what is
/// due beyond that waits.
const MOST: usize = 64;

/// The task.
#[derive(Debug)]
pub(super) struct Checker {
    table: Arc<ArcSwap<Table>>,
    changed: Arc<Notify>,
    metrics: ControlMetrics,
    epoch: Instant,
    random: fastrand::Rng,
    subjects: HashMap<u64, Subject>,
    /// Who is not being checked, by when it is due.
    due: BTreeSet<(Instant, u64)>,
    under_way: JoinSet<Result<(), String>>,
    of: HashMap<Id, u64>,
}

/// An endpoint that is checked.
#[derive(Debug)]
struct Subject {
    upstream: Arc<Upstream>,
    member: Arc<Member>,
    policy: Health,
    rounds: Rounds,
    /// When its last check began.
    began: Instant,
    /// When it is due; `None` while a check is under way.
    due: Option<Instant>,
}

impl Checker {
    /// `changed` tells of a new table.
    pub(super) fn new(
        table: Arc<ArcSwap<Table>>,
        changed: Arc<Notify>,
        metrics: ControlMetrics,
        epoch: Instant,
        seed: u64,
    ) -> Self {
        Self {
            table,
            changed,
            metrics,
            epoch,
            random: fastrand::Rng::with_seed(seed),
            subjects: HashMap::new(),
            due: BTreeSet::new(),
            under_way: JoinSet::new(),
            of: HashMap::new(),
        }
    }

    /// Checks until it is dropped.
    pub(super) async fn run(mut self) {
        loop {
            let next = self.due.first().map(|(at, _)| *at).filter(|_| self.under_way.len() < MOST);
            tokio::select! {
                () = self.changed.notified() => self.look(),
                Some(done) = self.under_way.join_next_with_id() => match done {
                    Ok((id, result)) => self.note(id, result.err()),
                    Err(panic) => self.note(panic.id(), Some("the check itself failed".to_owned())),
                },
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.begin(),
            }
        }
    }

    /// Takes over what the table has.
    fn look(&mut self) {
        let table = self.table.load_full();
        let mut gone: HashMap<u64, Subject> = std::mem::take(&mut self.subjects);
        for upstream in &table.upstreams {
            let Some(policy) = &upstream.policies.health else { continue };
            for member in upstream.members.values().filter(|member| member.endpoint.health != Said::Draining) {
                let id = member.state.id;
                let subject = match gone.remove(&id) {
                    Some(subject) if subject.policy == *policy => {
                        Subject { upstream: upstream.clone(), member: member.clone(), ..subject }
                    }
                    before => {
                        if let Some(due) = before.and_then(|before| before.due) {
                            self.due.remove(&(due, id));
                        }
                        let due = Instant::now() + first_wait(policy, self.random.f64());
                        self.due.insert((due, id));
                        Subject {
                            upstream: upstream.clone(),
                            member: member.clone(),
                            policy: policy.clone(),
                            // What was thought of it holds until the first check of the new kind decides.
                            rounds: Rounds::resume(Condition::Unknown),
                            began: due,
                            due: Some(due),
                        }
                    }
                };
                self.subjects.insert(id, subject);
            }
        }
        for (id, subject) in gone {
            if let Some(due) = subject.due {
                self.due.remove(&(due, id));
            }
            subject.member.state.checked.set(Condition::Unknown, None);
            subject.upstream.state.epoch.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins the check that is due first.
    fn begin(&mut self) {
        let Some((_, id)) = self.due.pop_first() else { return };
        let Some(subject) = self.subjects.get_mut(&id) else { return };
        subject.due = None;
        subject.began = Instant::now();
        let (upstream, member, policy) = (subject.upstream.clone(), subject.member.clone(), subject.policy.clone());
        let check = async move {
            let place = ask::Place {
                address: &member.endpoint.address,
                tls: upstream.tls.as_deref(),
                protocol: upstream.policies.protocol,
                app: member.endpoint.protocol,
            };
            let asked = timeout(policy.timeout, ask::ask(&place, &policy.ask)).await;
            asked.unwrap_or_else(|_| Err(format!("no answer within {}", shown(policy.timeout))))
        };
        self.of.insert(self.under_way.spawn(check).id(), id);
    }

    /// Takes the result of a check. One of an endpoint that went away meanwhile says nothing.
    fn note(&mut self, task: Id, failure: Option<String>) {
        let Some(id) = self.of.remove(&task) else { return };
        let now = self.millis();
        let Some(subject) = self.subjects.get_mut(&id) else { return };
        let Subject { upstream, member, policy, rounds, began, due } = subject;
        if due.is_some() {
            // Asked under other rules, and due again under the new ones.
            return;
        }
        let next = *began + next_wait(policy, self.random.f64());
        *due = Some(next);
        self.due.insert((next, id));
        let is_good = failure.is_none();
        self.metrics.health_checked(&upstream.name, is_good);
        let before = member.state.checked.condition();
        let condition = rounds.note(is_good, policy);
        match (before, condition) {
            (Condition::Good | Condition::Unknown, Condition::Bad) => {
                let why = failure.as_deref().unwrap_or_default();
                tracing::warn!(service = %upstream.name, endpoint = %member.endpoint.address, why, "An endpoint fails its health checks.");
            }
            (Condition::Bad, Condition::Good) => {
                tracing::info!(service = %upstream.name, endpoint = %member.endpoint.address, "An endpoint passes its health checks again.");
            }
            _ => {}
        }
        member.state.checked.set(condition, failure);
        let is_back = is_good && member.state.breaker.heal(&upstream.state.ejected, now);
        if is_back || before != condition {
            upstream.state.epoch.fetch_add(1, Ordering::Relaxed);
        }
        if is_back || (before, condition) == (Condition::Bad, Condition::Good) {
            member.state.warmth.begin();
        }
        if is_back {
            self.metrics.returned_by_check(&upstream.name);
            tracing::info!(service = %upstream.name, endpoint = %member.endpoint.address, "A good health check ended an ejection.");
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "it wraps on purpose, as the workers' does")]
    fn millis(&self) -> u32 {
        self.epoch.elapsed().as_millis() as u32
    }
}

fn shown(time: Duration) -> impl std::fmt::Display {
    crate::config::units::Period(time)
}
