//! A try that is under way: its endpoint was chosen, it counts as load there, and its end says something about the endpoint.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::{Session, WorkerContext};
use crate::balance::{Asked, Pick, Sample};
use crate::resilience::breaker::{Change, Probe, Verdict};
use crate::upstream::tree::Tree;
use crate::upstream::turn::Turn;
use crate::upstream::{Member, Table, Upstream};

/// A choice that outlives the table it was made from.
#[derive(Debug)]
pub(super) struct Picked {
    pub(super) upstream: Arc<Upstream>,
    pub(super) member: Arc<Member>,
    pub(super) probe: Option<Probe>,
}

/// What an endpoint is looked for by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seek<'a> {
    pub(super) table: &'a Table,
    /// Where the request leads.
    pub(super) to: &'a Tree<usize>,
    /// That is the application beside us.
    pub(super) is_local_hop: bool,
    /// The request's; bytes have none.
    pub(super) headers: Option<&'a HeaderMap>,
}

impl Session {
    /// Chooses an endpoint that was not tried, if one is left.
    pub(super) fn pick(&self, seek: &Seek<'_>, tried: &[u64]) -> Option<Picked> {
        let now = self.worker().millis();
        let asked = Asked { headers: seek.headers, client: self.client() };
        self.worker().with_random(|random| {
            let mut pick = Pick { asked, ..Pick::new(now, random, tried) };
            let choice = seek.table.pick(seek.to, seek.is_local_hop, &mut pick)?;
            Some(Picked { upstream: choice.upstream.clone(), member: choice.member.clone(), probe: choice.probe })
        })
    }

    /// Tells whether one is left.
    pub(super) fn has_another(&self, seek: &Seek<'_>, tried: &[u64]) -> bool {
        seek.table.has_another(seek.to, seek.is_local_hop, tried, self.worker().millis())
    }
}

/// A request that is in flight at an endpoint, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    worker: Rc<WorkerContext>,
    turn: Turn,
}

impl InFlight {
    /// `None` where `limits.requests` is reached.
    pub(super) fn begin(session: &Session, picked: &Picked, is_judged: bool) -> Option<Self> {
        let Picked { upstream, member, probe } = picked;
        if probe.is_some() {
            session.series(upstream).service.probed();
        }
        // From here on dropping it takes back what was counted.
        let turn = Turn::begin(upstream, member, *probe, is_judged);
        let begun = Self { worker: session.worker().clone(), turn };
        begun.turn.is_within_limit.then_some(begun)
    }

    /// What the try said about the endpoint.
    pub(super) fn judge(&mut self, verdict: Verdict) {
        let worker = &self.worker;
        if let Some(change) = self.turn.judge(verdict, worker.millis(), || worker.random_share()) {
            self.tell(change);
        }
    }

    /// What a reply said about the endpoint after its head, whose latency was taken for an answer's.
    pub(super) fn judge_late(&mut self, verdict: Verdict) {
        if verdict != Verdict::Success {
            self.worker.observe(&self.turn.member, Sample::of(verdict, None, 0.0));
        }
        self.judge(verdict);
    }

    #[cold]
    fn tell(&self, change: Change) {
        let (service, endpoint) = (&*self.turn.upstream.name, &self.turn.member.endpoint.address);
        // It was made for the try that is judged here.
        if let Some(series) = self.worker.known_series(&self.turn.upstream) {
            match change {
                Change::Ejected { reason, cause, .. } => series.service.ejected(reason.label(), cause.label()),
                Change::Returned => series.service.returned(),
                Change::Spared(reason) => series.service.spared(reason.label()),
            }
        }
        match change {
            Change::Ejected { reason, cause, lasting, times } => {
                let (reason, cause) = (reason.label(), cause.label());
                // Milliseconds are fine enough for a person.
                let lasting = Duration::from_millis(u64::try_from(lasting.as_millis()).unwrap_or(u64::MAX));
                tracing::warn!(service, %endpoint, reason, cause, times, ?lasting, "An endpoint is ejected.");
            }
            Change::Returned => tracing::info!(service, %endpoint, "An ejected endpoint is back."),
            Change::Spared(reason) => {
                let reason = reason.label();
                tracing::debug!(service, %endpoint, reason, "An endpoint fails and may not be ejected.");
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.turn.end(self.worker.millis());
    }
}
