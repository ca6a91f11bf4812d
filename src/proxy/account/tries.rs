//! The tries of one request: how many, where to, how long, and why each but the last one failed.

use std::sync::Arc;
use std::time::Duration;

use meshless_discovery::Target;
use tokio::time::Instant;

use crate::telemetry::access_log::Why;
use crate::upstream::{Member, Upstream};

/// Why a try was given up whose fellow was faster.
pub(super) const OUTRUN: Why = Why::Label("outrun");

/// The tries of one request.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// How often it was sent, or meant to be.
    pub(super) count: u32,
    /// Where it went last.
    pub(super) destination: Option<(Arc<Upstream>, Arc<Member>)>,
    /// Those that failed and were followed by another one, or by an answer of ours.
    pub(super) failed: Vec<(Arc<Member>, Why)>,
    /// The one that is under way.
    began: Option<Instant>,
    /// From the choice of an endpoint to the head of its reply, over all of them.
    upstream: Duration,
}

impl Tries {
    /// Another one begins. One that is under way still was given up for it, and nobody said why.
    pub(super) fn begin(&mut self, upstream: &Arc<Upstream>, member: &Arc<Member>, now: Instant) {
        self.end(now);
        self.count += 1;
        self.began = Some(now);
        self.destination = Some((upstream.clone(), member.clone()));
    }

    /// The one that is under way has failed.
    pub(super) fn fail(&mut self, why: Why, now: Instant) {
        if self.began.is_some()
            && let Some((_, member)) = &self.destination
        {
            self.failed.push((member.clone(), why));
        }
        self.end(now);
    }

    /// Another one begins beside the one that is under way.
    pub(super) fn hedge(&mut self) {
        self.count += 1;
    }

    /// The one beside has failed, or was too late.
    pub(super) fn fail_beside(&mut self, member: &Arc<Member>, why: Why) {
        self.failed.push((member.clone(), why));
    }

    /// The one beside goes on alone. Both are one stretch of time: from the beginning of the first.
    pub(super) fn overtake(&mut self, upstream: &Arc<Upstream>, member: &Arc<Member>) {
        if self.began.is_some()
            && let Some((_, slow)) = &self.destination
        {
            self.failed.push((slow.clone(), OUTRUN));
        }
        self.destination = Some((upstream.clone(), member.clone()));
    }

    /// The head of a reply is there.
    pub(super) fn end(&mut self, now: Instant) {
        if let Some(began) = self.began.take() {
            self.upstream += now.saturating_duration_since(began);
        }
    }

    /// Returns the time that endpoints took.
    pub(super) fn upstream_time(&self) -> Duration {
        self.upstream
    }

    /// Returns the service that it went to last.
    pub(super) fn service(&self) -> Option<&Arc<str>> {
        self.destination.as_ref().map(|(upstream, _)| &upstream.name)
    }
}

/// Returns the target that an endpoint was found by. Looked for only where it is written down.
pub(super) fn target_of(upstream: &Upstream, member: &Member) -> Option<Target> {
    let mut found = None;
    upstream.endpoints.for_each(&mut |set| {
        if found.is_none() && set.members.iter().any(|other| other.state.id == member.state.id) {
            found = Some(set.target.clone());
        }
    });
    found
}
