//! Numbers that workers bump without a lock and a scrape adds up.
//!
//! ```text
//!  worker 1  Counter ──► shard ┐
//!  worker 2  Counter ──► shard ┼─ series {listener, service} ─ family ─ Registry ─► gather(now) ─► exposition
//!  gone      (retained sum)    ┘
//! ```
//!
//! A caller asks the [`Registry`] for a handle once for each set of label values, keeps it, and bumps it. Only making a
//! handle and reading take a lock, one for each family. When a handle is dropped its count is added to what the series
//! retains, so that a counter never goes backwards while it is listed; a series that nobody owns is listed ten more
//! minutes. Each family is bounded: what comes after [`Registry::MOST_SERIES`] is counted in a series whose labels all
//! say `other`, and `meshless_metric_overflow_total` tells.

pub mod authority;
pub mod control;
pub mod families;
mod family;
mod handles;
pub mod process;
mod samples;
pub mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use authority::{AuthoritySeries, AuthorityStanding};
pub use control::{ControlMetrics, DiscoverySeries, IdentitySeries, ObjectSeries, RegisterSeries};
pub use family::{Buckets, Counts, Description, Family, Gauges};
pub use handles::{Age, Counter, Distribution, Gauge, Histogram, Level, SharedCounter};
pub use samples::{FamilySamples, Labels, Samples, Value};
pub use worker::{
    Classification, Direction, ListenerSeries, Outcome, RequestSeries, ServiceSeries, TcpConnection, TcpSeries, Times,
    WorkerMetrics,
};

use handles::{Slot, Slots, Stamp};

/// All metrics of a process, or of one gateway in a test.
pub struct Registry {
    epoch: Instant,
    most_series: usize,
    families: Mutex<BTreeMap<&'static str, Arc<State>>>,
    collectors: Mutex<Vec<Collector>>,
}

/// Adds what is known elsewhere when metrics are read; must not wait.
pub type Collector = Box<dyn Fn(&mut Samples) + Send + Sync>;

/// One family's series.
struct State {
    description: Description,
    series: Mutex<BTreeMap<Labels, Series>>,
}

#[derive(Default)]
struct Series {
    shards: Vec<Shard>,
    /// Counts of handles that are gone.
    retained: Distribution,
    /// When it was first seen without an owner.
    ownerless_since: Option<Instant>,
}

enum Shard {
    Age(Arc<Stamp>),
    Gauge(Arc<Slot>),
    Histogram(Arc<Slots>),
    Level(Arc<Slot>),
    Sum(Arc<Slot>),
}

impl fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Registry").field("families", &lock(&self.families).len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// Most series of one family; what comes after is counted together as `other`.
    pub const MOST_SERIES: usize = 2000;

    /// How long a series without an owner is still listed, as Linkerd keeps them.
    pub const RETENTION: Duration = Duration::from_mins(10);

    /// Makes an empty one; `epoch` is what ages are counted from.
    pub fn new(epoch: Instant) -> Arc<Self> {
        Self::bounded(epoch, Self::MOST_SERIES)
    }

    fn bounded(epoch: Instant, most_series: usize) -> Arc<Self> {
        Arc::new(Self { epoch, most_series, families: Mutex::new(BTreeMap::new()), collectors: Mutex::new(Vec::new()) })
    }

    /// Makes a counter with one writer.
    pub fn counter<const LABELS: usize>(
        &self,
        family: &'static Family<Counts, LABELS>,
        labels: [&str; LABELS],
    ) -> Counter {
        let (counter, slot) = Counter::new();
        self.add(family.describe(), &labels, Shard::Sum(slot));
        counter
    }

    /// Makes a counter for any thread.
    pub fn shared_counter<const LABELS: usize>(
        &self,
        family: &'static Family<Counts, LABELS>,
        labels: [&str; LABELS],
    ) -> SharedCounter {
        let (counter, slot) = SharedCounter::new();
        self.add(family.describe(), &labels, Shard::Sum(slot));
        counter
    }

    /// Makes a level with one writer; levels of the same labels are added up.
    pub fn level<const LABELS: usize>(&self, family: &'static Family<Gauges, LABELS>, labels: [&str; LABELS]) -> Level {
        let (level, slot) = Level::new();
        self.add(family.describe(), &labels, Shard::Level(slot));
        level
    }

    /// Makes a gauge for any thread; of two with the same labels the newer one is listed.
    pub fn gauge<const LABELS: usize>(&self, family: &'static Family<Gauges, LABELS>, labels: [&str; LABELS]) -> Gauge {
        let (gauge, slot) = Gauge::new();
        self.add(family.describe(), &labels, Shard::Gauge(slot));
        gauge
    }

    /// Makes an age that begins at `now`; of two with the same labels the newer one is listed.
    pub fn age<const LABELS: usize>(
        &self,
        family: &'static Family<Gauges, LABELS>,
        labels: [&str; LABELS],
        now: Instant,
    ) -> Age {
        let (age, stamp) = Age::new(self.epoch, now);
        self.add(family.describe(), &labels, Shard::Age(stamp));
        age
    }

    /// Makes a histogram with one writer.
    pub fn histogram<const LABELS: usize>(
        &self,
        family: &'static Family<Buckets, LABELS>,
        labels: [&str; LABELS],
    ) -> Histogram {
        let (histogram, slots) = Histogram::new(&family.kind);
        self.add(family.describe(), &labels, Shard::Histogram(slots));
        histogram
    }

    /// Has `collector` asked whenever metrics are read.
    pub fn collect(&self, collector: Collector) {
        lock(&self.collectors).push(collector);
    }

    /// Reads everything: adds up the shards, folds those whose handle is gone, forgets what nobody owns for long.
    pub fn gather(&self, now: Instant) -> Samples {
        let states: Vec<Arc<State>> = lock(&self.families).values().cloned().collect();
        let mut samples = Samples::default();
        for state in states {
            let mut series = lock(&state.series);
            series.retain(|_, series| series.is_listed(now));
            for (labels, series) in series.iter() {
                let value = series.value(&state.description, self.epoch, now);
                samples.push(state.description, Arc::clone(labels), value);
            }
        }
        for collector in lock(&self.collectors).iter() {
            collector(&mut samples);
        }
        samples
    }

    fn add(&self, description: Description, labels: &[&str], shard: Shard) {
        let state = Arc::clone(
            lock(&self.families)
                .entry(description.name)
                .or_insert_with(|| Arc::new(State { description, series: Mutex::default() })),
        );
        let labels: Labels = labels.iter().map(|label| Box::from(*label)).collect();
        let overflows = {
            let mut series = lock(&state.series);
            if !series.contains_key(&labels) && series.len() >= self.most_series {
                series.retain(|_, series| series.is_owned());
            }
            let overflows = !series.contains_key(&labels) && series.len() >= self.most_series;
            let labels = if overflows { labels.iter().map(|_| Box::from("other")).collect() } else { labels };
            series.entry(labels).or_default().push(shard);
            overflows
        };
        if overflows {
            // Its label is the name of a family, so this one never overflows itself.
            self.shared_counter(&families::METRIC_OVERFLOW, [description.name]).increment();
        }
    }
}

impl Series {
    fn push(&mut self, shard: Shard) {
        // Here as well, or a gateway that nobody scrapes would gather shards for ever.
        self.fold();
        self.ownerless_since = None;
        self.shards.push(shard);
    }

    /// Takes in the counts of handles that are gone. `Arc::get_mut` tells that, and acquires their last store.
    fn fold(&mut self) {
        let retained = &mut self.retained;
        self.shards.retain_mut(|shard| match shard {
            Shard::Age(stamp) => Arc::get_mut(stamp).is_none(),
            Shard::Gauge(slot) | Shard::Level(slot) => Arc::get_mut(slot).is_none(),
            Shard::Histogram(slots) => {
                let gone = Arc::get_mut(slots).is_some();
                if gone {
                    slots.add_to(retained);
                }
                !gone
            }
            Shard::Sum(slot) => {
                let gone = Arc::get_mut(slot).is_some();
                if gone {
                    retained.sum = retained.sum.wrapping_add(slot.get());
                }
                !gone
            }
        });
    }

    fn is_owned(&mut self) -> bool {
        self.fold();
        !self.shards.is_empty()
    }

    fn is_listed(&mut self, now: Instant) -> bool {
        if self.is_owned() {
            self.ownerless_since = None;
            return true;
        }
        // A gauge of nobody says nothing that is true; only counts are worth keeping.
        if self.retained == Distribution::default() {
            return false;
        }
        now.saturating_duration_since(*self.ownerless_since.get_or_insert(now)) < Registry::RETENTION
    }

    fn value(&self, description: &Description, epoch: Instant, now: Instant) -> Value {
        let mut total = self.retained.clone();
        let mut level = 0_i64;
        let mut set = None;
        for shard in &self.shards {
            match shard {
                Shard::Age(stamp) => set = Some(stamp.seconds(epoch, now)),
                Shard::Gauge(slot) => set = Some(f64::from_bits(slot.get())),
                Shard::Histogram(slots) => slots.add_to(&mut total),
                Shard::Level(slot) => level = level.wrapping_add(slot.get().cast_signed()),
                Shard::Sum(slot) => total.sum = total.sum.wrapping_add(slot.get()),
            }
        }
        match (description.buckets, description.kind, set) {
            (Some(_), _, _) => Value::Distribution(Box::new(total)),
            (None, "counter", _) => Value::Count(total.sum),
            (None, _, Some(set)) => Value::Number(set),
            (None, _, None) => Value::Number(level as f64),
        }
    }
}

/// A panic elsewhere leaves numbers as good as they were.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
