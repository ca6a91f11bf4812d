//! Logical names on demand: opens what requests ask for, lets go of what nobody asks for any more.
//!
//! Control owns this. A name that is wanted is opened once, whoever asks how often; it comes into the table when all its
//! targets have answered or failed, or a little before the requests that wait for it give up. Everything is bounded: how
//! many names are in use, how long one may be idle, how much nonsense is remembered.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meshless_discovery::Target;
use tokio::time::Instant;

use super::targets::Targets;
use crate::target::Node;
use crate::telemetry::metrics::ControlMetrics;
use crate::upstream::Table;
use crate::upstream::live::{Live, LiveName, LiveTarget, Refusal, Refused, Used, Wanted};
use crate::upstream::logical::{Bound, OVERRIDE};
use crate::upstream::plan::{Plan, UpstreamPlan};
use crate::upstream::tree::Tree;

/// Most names and override targets in use (product paper, Precedence).
const MOST: usize = 1000;
/// Idle time after which one is let go of (product paper, Precedence; Linkerd 1 had the same).
const IDLE: Duration = Duration::from_mins(10);
/// The same for one without endpoints: most likely a name that nobody has, and it takes the place of one that somebody has.
const IDLE_WITHOUT_ENDPOINTS: Duration = Duration::from_secs(10);
/// Longest wait for first answers: what has answered then serves the requests that wait, 1 s at most.
const FIRST_ANSWERS: Duration = Duration::from_millis(800);
/// How often targets are looked at while something waits: failures do not wake anybody.
const LOOK: Duration = Duration::from_millis(20);
/// How long it is remembered that something cannot be had.
const REFUSED: Duration = Duration::from_secs(5);
/// The same where only the room was missing.
const REFUSED_FULL: Duration = Duration::from_secs(1);
/// Most refusals that are remembered; the oldest is forgotten first.
const MOST_REFUSED: usize = 1000;

/// What requests asked for.
#[derive(Debug)]
pub(super) struct Demand {
    entries: HashMap<Wanted, Entry>,
    refused: HashMap<Wanted, (Refusal, Instant)>,
    /// `refused` in the order of time.
    refused_order: VecDeque<Wanted>,
    /// Kept from one table to the next, so that what did not change is taken over whole.
    upstreams: HashMap<(Arc<str>, Target), Arc<UpstreamPlan>>,
    /// What is in the table.
    live: Arc<Live>,
    /// `live` is not what it should be.
    is_stale: bool,
    epoch: Instant,
    metrics: ControlMetrics,
}

#[derive(Debug)]
struct Entry {
    asked: Asked,
    used: Arc<Used>,
    /// Not in the table before its targets have answered or this has passed.
    pending: Option<Instant>,
}

/// What something that is wanted stands for.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Name(Bound),
    Target(Target),
}

impl Asked {
    pub(super) fn targets(&self) -> Vec<&Target> {
        match self {
            Self::Name(bound) => bound.expression.targets().collect(),
            Self::Target(target) => vec![target],
        }
    }

    /// Says whether it leads to a service: that has endpoints of its own, or will have.
    fn names_services(&self) -> bool {
        matches!(self, Self::Name(bound) if bound.expression.services().next().is_some())
    }

    /// Returns the name of its upstreams in metrics.
    fn label(&self, plan: &Plan) -> Arc<str> {
        match self {
            Self::Name(bound) => {
                plan.logical.rule(bound.rule).map_or_else(|| OVERRIDE.into(), |rule| rule.route.name.clone())
            }
            Self::Target(_) => OVERRIDE.into(),
        }
    }
}

/// What of the names in use goes on under another configuration.
#[derive(Debug)]
pub(super) struct Kept(Vec<(Wanted, Asked)>);

impl Kept {
    /// Returns the targets that they need.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Target> {
        self.0.iter().flat_map(|(_, asked)| asked.targets())
    }
}

impl Demand {
    pub(super) fn new(epoch: Instant, metrics: ControlMetrics) -> Self {
        Self {
            entries: HashMap::new(),
            refused: HashMap::new(),
            refused_order: VecDeque::new(),
            upstreams: HashMap::new(),
            live: Arc::default(),
            is_stale: false,
            epoch,
            metrics,
        }
    }

    /// A request wants something. Returns true where there is something to publish.
    pub(super) fn want(&mut self, wanted: &Wanted, plan: &Plan, targets: &mut Targets, now: Instant) -> bool {
        let is_refused = self.refused.get(wanted).is_some_and(|(_, until)| now < *until);
        if is_refused || self.entries.contains_key(wanted) {
            return false;
        }
        match self.open(wanted, plan, targets) {
            Ok(asked) => {
                let used = Arc::new(Used::at(self.millis(now)));
                self.entries.insert(wanted.clone(), Entry { asked, used, pending: Some(now + FIRST_ANSWERS) });
                self.metrics.live_names(self.entries.len());
                self.settle(targets, now)
            }
            Err(refusal) => {
                self.release(targets);
                self.refuse(wanted, refusal, now);
                true
            }
        }
    }

    fn open(&self, wanted: &Wanted, plan: &Plan, targets: &mut Targets) -> Result<Asked, Refusal> {
        if self.entries.len() >= MOST {
            return Err(Refusal::Full);
        }
        let asked = asked(wanted, plan)?;
        for target in asked.targets() {
            targets.open_one(target, &self.metrics).map_err(|why| Refusal::Unusable(why.into()))?;
        }
        Ok(asked)
    }

    fn refuse(&mut self, wanted: &Wanted, refusal: Refusal, now: Instant) {
        let time = match refusal {
            Refusal::Full => {
                self.metrics.name_refused_full();
                REFUSED_FULL
            }
            Refusal::Unusable(_) => {
                self.metrics.name_refused_unusable();
                REFUSED
            }
        };
        tracing::debug!(?wanted, ?refusal, "A name cannot be had.");
        while self.refused_order.len() >= MOST_REFUSED
            && let Some(oldest) = self.refused_order.pop_front()
        {
            self.refused.remove(&oldest);
        }
        if self.refused.insert(wanted.clone(), (refusal, now + time)).is_none() {
            self.refused_order.push_back(wanted.clone());
        }
        self.is_stale = true;
    }

    /// Returns when to look again at what waits for first answers; `None`: nothing does.
    pub(super) fn look(&self, now: Instant) -> Option<Instant> {
        self.entries.values().any(|entry| entry.pending.is_some()).then(|| now + LOOK)
    }

    /// Takes into the table what has waited long enough. Returns true where there is something to publish.
    pub(super) fn settle(&mut self, targets: &Targets, now: Instant) -> bool {
        let mut changed = false;
        for entry in self.entries.values_mut() {
            let Some(until) = entry.pending else { continue };
            if now >= until || entry.asked.targets().iter().all(|target| targets.is_decided(target)) {
                entry.pending = None;
                changed = true;
            }
        }
        self.is_stale |= changed;
        changed
    }

    /// Lets go of what nobody uses, and forgets refusals. Returns true where there is something to publish.
    pub(super) fn sweep(&mut self, table: &Table, targets: &mut Targets, now: Instant) -> bool {
        let millis = self.millis(now);
        let (before, upstreams) = (self.entries.len(), table.live_upstreams());
        self.entries.retain(|_, entry| {
            let idle = Duration::from_millis(u64::from(entry.used.idle(millis)));
            if entry.pending.is_some() || idle < IDLE_WITHOUT_ENDPOINTS {
                return true;
            }
            let label = entry.asked.label(&table.plan);
            let (mut is_busy, mut has_endpoints) = (false, entry.asked.names_services());
            for target in entry.asked.targets() {
                if let Some((_, upstream)) = upstreams.get(&(&*label, target)) {
                    is_busy |= upstream.state.in_flight.load(Ordering::Relaxed) > 0;
                    has_endpoints |= !upstream.members.is_empty();
                }
            }
            is_busy || has_endpoints && idle < IDLE
        });
        let let_go = self.entries.len() < before;
        if let_go {
            self.release(targets);
            self.metrics.live_names(self.entries.len());
        }
        let refusals = self.refused.len();
        self.refused.retain(|_, (_, until)| now < *until);
        if self.refused.len() < refusals {
            self.refused_order.retain(|wanted| self.refused.contains_key(wanted));
        }
        let changed = let_go || self.refused.len() < refusals;
        self.is_stale |= changed;
        changed
    }

    /// Stops to follow the targets that nothing needs any more.
    fn release(&self, targets: &mut Targets) {
        let needed: HashSet<&Target> = self.entries.values().flat_map(|entry| entry.asked.targets()).collect();
        targets.release(&needed);
    }

    /// Binds the names in use anew, by another plan; those that it does not know, or whose targets it cannot open, are
    /// left out.
    pub(super) fn keep(&self, plan: &Plan, can_open: impl Fn(&Target) -> bool) -> Kept {
        let bound = |(wanted, _): (&Wanted, &Entry)| {
            let asked = asked(wanted, plan).ok()?;
            asked.targets().into_iter().all(&can_open).then(|| (wanted.clone(), asked))
        };
        Kept(self.entries.iter().filter_map(bound).collect())
    }

    /// Another plan is in force.
    pub(super) fn take_over(&mut self, kept: Kept) {
        let mut before = std::mem::take(&mut self.entries);
        let entries = kept.0.into_iter().filter_map(|(wanted, asked)| {
            let Entry { used, pending, .. } = before.remove(&wanted)?;
            Some((wanted, Entry { asked, used, pending }))
        });
        self.entries = entries.collect();
        self.refused.clear();
        self.refused_order.clear();
        // Policies may be others.
        self.upstreams.clear();
        self.metrics.live_names(self.entries.len());
        self.is_stale = true;
    }

    /// Returns what belongs into the next table, which is of this plan.
    pub(super) fn live(&mut self, plan: &Plan, targets: &Targets) -> Arc<Live> {
        let waits = self.live.names.values().any(|name| name.waits_for.is_some())
            || self.live.targets.values().any(|target| target.waits_for.is_some());
        if self.is_stale || waits {
            self.live = Arc::new(self.build(plan, targets));
            self.is_stale = false;
        }
        self.live.clone()
    }

    fn build(&mut self, plan: &Plan, targets: &Targets) -> Live {
        let before = std::mem::take(&mut self.upstreams);
        let mut kept = HashMap::new();
        let ready = self.entries.iter().filter(|(_, entry)| entry.pending.is_none()).map(|(wanted, entry)| {
            let missing: Vec<String> =
                entry.asked.targets().into_iter().filter_map(|target| targets.missing(target)).collect();
            let waits_for = (!missing.is_empty()).then(|| Arc::from(missing.join("; ")));
            Ready { wanted, asked: &entry.asked, used: entry.used.clone(), waits_for }
        });
        let mut live = in_table(plan, ready, |key| {
            let planned = before.get(key).cloned();
            let planned = planned.unwrap_or_else(|| Arc::new(plan.logical.upstream(key.0.clone(), key.1.clone())));
            kept.insert(key.clone(), planned.clone());
            planned
        });
        live.refused = self.refusals();
        self.upstreams = kept;
        live
    }

    fn refusals(&self) -> Refused {
        let mut refused = Refused::default();
        for (wanted, (refusal, _)) in &self.refused {
            match wanted {
                Wanted::Name(host) => drop(refused.names.insert(host.clone(), refusal.clone())),
                Wanted::Target(target) => drop(refused.targets.insert(target.clone(), refusal.clone())),
            }
        }
        refused
    }

    /// Milliseconds of the process, as workers count them.
    #[allow(clippy::cast_possible_truncation, reason = "it wraps on purpose")]
    fn millis(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }
}

/// Something that is wanted, and may go into the table.
#[derive(Debug)]
pub(super) struct Ready<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) asked: &'a Asked,
    pub(super) used: Arc<Used>,
    /// See [`LiveName`].
    pub(super) waits_for: Option<Arc<str>>,
}

/// Makes the part of a table that holds what requests asked for; `planned` plans an upstream by its name in metrics and
/// its target.
pub(super) fn in_table<'a>(
    plan: &Plan,
    all: impl Iterator<Item = Ready<'a>>,
    mut planned: impl FnMut(&(Arc<str>, Target)) -> Arc<UpstreamPlan>,
) -> Live {
    let mut live = Live::default();
    let mut positions: HashMap<(Arc<str>, Target), usize> = HashMap::new();
    let mut position = |label: &Arc<str>, target: &Target| {
        *positions.entry((label.clone(), target.clone())).or_insert_with_key(|key| {
            live.upstreams.push(planned(key));
            plan.upstreams.len() + live.upstreams.len() - 1
        })
    };
    for Ready { wanted, asked, used, waits_for } in all {
        let label = asked.label(plan);
        match (wanted, asked) {
            (Wanted::Name(host), Asked::Name(bound)) => {
                let to = Tree::build(&bound.expression, &mut |node| match node {
                    Node::Target(target) => position(&label, target),
                    other => plan.logical.position(other).unwrap_or(usize::MAX),
                });
                live.names.insert(host.clone(), LiveName { rule: bound.rule, to, used, waits_for });
            }
            (_, Asked::Target(target)) => {
                let position = position(&label, target);
                live.targets.insert(target.clone(), LiveTarget { position, used, waits_for });
            }
            // A name is bound to an expression, always.
            (Wanted::Target(_), Asked::Name(_)) => {}
        }
    }
    live
}

/// Says what something that is wanted stands for.
pub(super) fn asked(wanted: &Wanted, plan: &Plan) -> Result<Asked, Refusal> {
    match wanted {
        Wanted::Name(host) => {
            let unusable = |why: String| Refusal::Unusable(why.into());
            let bound =
                plan.logical.bind(host).ok_or_else(|| unusable("no rule of [[names]] matches it".to_owned()))?;
            match plan.logical.unknown_service(&bound.expression) {
                Some(name) => Err(unusable(format!("there is no service `{name}`"))),
                None => Ok(Asked::Name(bound)),
            }
        }
        Wanted::Target(target) => Ok(Asked::Target(target.clone())),
    }
}

#[cfg(test)]
mod tests;
