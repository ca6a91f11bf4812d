//! The two ends of a number: a handle that its owner bumps, and a shard that the registry reads.
//!
//! A handle that a worker owns ([`Counter`], [`Level`], [`Histogram`]) has one writer, so an update is a relaxed load and
//! a relaxed store: no locked instruction, no cache line that travels between cores. The type is not `Sync`, so the
//! compiler holds "one writer". Handles of the control side ([`SharedCounter`], [`Gauge`], [`Age`]) may be cloned and
//! shared; they are never on the path of a request.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Buckets;

/// Keeps a handle on one thread at a time: `Send`, not `Sync`.
type OneWriter = PhantomData<std::cell::Cell<()>>;

/// One number on cache lines of its own; 128 bytes, because cores fetch pairs of lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Slot(AtomicU64);

impl Slot {
    fn add_alone(&self, amount: u64) {
        add_alone(&self.0, amount);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn add_alone(number: &AtomicU64, amount: u64) {
    number.store(number.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Counts up; one writer.
#[derive(Debug)]
pub struct Counter {
    slot: Arc<Slot>,
    one_writer: OneWriter,
}

impl Counter {
    pub(super) fn new() -> (Self, Arc<Slot>) {
        let slot = Arc::<Slot>::default();
        (Self { slot: Arc::clone(&slot), one_writer: PhantomData }, slot)
    }

    /// Adds one.
    pub fn increment(&self) {
        self.slot.add_alone(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.slot.add_alone(amount);
    }
}

/// Goes up and down; one writer; the levels of all workers are added up. What is left when it is dropped is forgotten.
#[derive(Debug)]
pub struct Level {
    slot: Arc<Slot>,
    one_writer: OneWriter,
}

impl Level {
    pub(super) fn new() -> (Self, Arc<Slot>) {
        let slot = Arc::<Slot>::default();
        (Self { slot: Arc::clone(&slot), one_writer: PhantomData }, slot)
    }

    /// Goes up by one.
    pub fn up(&self) {
        self.slot.add_alone(1);
    }

    /// Goes down by one.
    pub fn down(&self) {
        // Two's complement: adding all ones is taking one away.
        self.slot.add_alone(u64::MAX);
    }
}

/// Sorts durations into buckets; one writer.
#[derive(Debug)]
pub struct Histogram {
    slots: Arc<Slots>,
    bounds: &'static [u64],
    one_writer: OneWriter,
}

impl Histogram {
    pub(super) fn new(buckets: &'static Buckets) -> (Self, Arc<Slots>) {
        let slots = Arc::<Slots>::default();
        (Self { slots: Arc::clone(&slots), bounds: buckets.bounds, one_writer: PhantomData }, slots)
    }

    /// Takes one duration in; a bound belongs to the bucket below it.
    pub fn observe(&self, duration: Duration) {
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < microseconds);
        if let Some(count) = self.slots.counts.get(bucket) {
            add_alone(count, 1);
        }
        add_alone(&self.slots.sum, microseconds);
    }
}

/// The numbers of one histogram of one worker. Not cumulative; the one after the last bound is "above all bounds".
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Slots {
    sum: AtomicU64,
    counts: [AtomicU64; Buckets::MOST + 1],
}

impl Slots {
    pub(super) fn add_to(&self, total: &mut Distribution) {
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
        for (into, from) in total.counts.iter_mut().zip(&self.counts) {
            *into = into.wrapping_add(from.load(Ordering::Relaxed));
        }
    }
}

/// A histogram that was read: microseconds in all, and how many fell in each bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Distribution {
    /// All durations together, in microseconds.
    pub sum: u64,
    /// Per bucket, not cumulative; the one after the last bound is "above all bounds".
    pub counts: [u64; Buckets::MOST + 1],
}

/// Counts up from any thread; clones count into the same number.
#[derive(Debug, Clone)]
pub struct SharedCounter(Arc<Slot>);

impl SharedCounter {
    pub(super) fn new() -> (Self, Arc<Slot>) {
        let slot = Arc::<Slot>::default();
        (Self(Arc::clone(&slot)), slot)
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.0.fetch_add(amount, Ordering::Relaxed);
    }
}

/// Holds the last value set, from any thread; clones set the same number.
#[derive(Debug, Clone)]
pub struct Gauge(Arc<Slot>);

impl Gauge {
    pub(super) fn new() -> (Self, Arc<Slot>) {
        let slot = Arc::<Slot>::default();
        (Self(Arc::clone(&slot)), slot)
    }

    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.0.store(value.to_bits(), Ordering::Relaxed);
    }
}

/// Tells how long ago something was true: nobody has to tick, the age is worked out when it is read.
#[derive(Debug, Clone)]
pub struct Age {
    stamp: Arc<Stamp>,
    epoch: Instant,
}

/// When an age began, in milliseconds from the registry's epoch; before it, where what is known is older than this process.
#[derive(Debug, Default)]
pub(super) struct Stamp(AtomicI64);

impl Age {
    pub(super) fn new(epoch: Instant, now: Instant) -> (Self, Arc<Stamp>) {
        let stamp = Arc::<Stamp>::default();
        let age = Self { stamp: Arc::clone(&stamp), epoch };
        age.renew(now, Duration::ZERO);
        (age, stamp)
    }

    /// What is known is true for now: its age is 0 until it begins to rise.
    pub fn stop(&self) {
        self.stamp.0.store(Stamp::STOPPED, Ordering::Relaxed);
    }

    /// Lets the age rise from `now`, unless it does already.
    pub fn begin(&self, now: Instant) {
        let since = milliseconds(now.saturating_duration_since(self.epoch));
        // Losing this race means that another owner began or renewed it just now, which is as good.
        let _ = self.stamp.0.compare_exchange(Stamp::STOPPED, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What is known was `already` old at `now`, and its age rises.
    pub fn renew(&self, now: Instant, already: Duration) {
        let since = milliseconds(now.saturating_duration_since(self.epoch));
        self.stamp.0.store(since.saturating_sub(milliseconds(already)), Ordering::Relaxed);
    }
}

impl Stamp {
    /// A time that never comes: the age is 0.
    const STOPPED: i64 = i64::MAX;

    /// Returns the age at `now`, in seconds, never negative.
    pub(super) fn seconds(&self, epoch: Instant, now: Instant) -> f64 {
        let since = milliseconds(now.saturating_duration_since(epoch));
        since.saturating_sub(self.0.load(Ordering::Relaxed)).max(0) as f64 / 1000.0
    }
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
