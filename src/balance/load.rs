//! What moves about a member: requests in flight, the moving average of its latency and the penalty for its failures, in
//! atomics that workers share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::sample::Sample;
use crate::word::{number_and_stamp, stamped};

/// Time constant of average and penalty in milliseconds: 10 s, as in Finagle and Linkerd.
pub(super) const DECAY_MS: f32 = 10_000.0;
/// What the first failure costs, in milliseconds. Each further one costs [`STEP`] times as much, each success takes as
/// much back: the fifth in a row reaches [`FULL_MS`]. See `docs/decisions/0040-a-penalty-grows.md`.
const FIRST_MS: f32 = 20.0;
const STEP: f32 = 4.0;
/// The penalty of an endpoint that cannot be reached or does nothing but fail, in milliseconds (Linkerd 2's biaser).
pub(super) const FULL_MS: f32 = 5_000.0;
/// The longest `Retry-After` that counts, in milliseconds: 300 s (Linkerd 2's biaser).
pub(super) const MOST_MS: f32 = 300_000.0;
/// What is left of a value after a second: `e^(-1 s / 10 s)`.
const ON_PROBATION: f32 = 0.905;
/// A penalty of less than this is none.
const NO_PENALTY_MS: f32 = 1.0;
/// The shortest latency that is kept, in milliseconds: 0 stands for "none yet".
const SHORTEST_MS: f32 = 0.001;
/// A stamp may lie so far ahead of a worker's clock, in milliseconds: another worker has read its own a moment later.
const SKEW_MS: u32 = 60_000;

/// Load of one member.
#[derive(Debug, Default)]
pub(crate) struct Load {
    in_flight: AtomicU32,
    latency: Fading,
    penalty: Fading,
}

impl Load {
    /// A request begins.
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has ended.
    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns the requests in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Learns from one try. `now` is in milliseconds of the process.
    pub(crate) fn observe(&self, sample: Sample, now: u32) {
        match sample {
            Sample::Answered { latency_ms } => {
                self.latency.update(now, |cost, kept| Some(average(cost, kept, latency_ms)));
                // Most members have no penalty: they are spared the second write.
                if !self.penalty.is_zero() {
                    self.penalty.update(now, |penalty, kept| Some(relieved(penalty * kept / STEP)));
                }
            }
            Sample::Failed { latency_ms } => {
                // A fast failure must not look like a fast reply; a slow one is slow.
                self.latency.update(now, |cost, _| (cost > 0.0 && latency_ms > cost).then(|| bounded(latency_ms)));
                self.penalty.update(now, |penalty, kept| {
                    let faded = penalty * kept;
                    Some((faded * STEP).clamp(FIRST_MS, FULL_MS).max(faded))
                });
            }
            Sample::Refused { retry_after } => {
                let asked = (retry_after.as_secs_f32() * 1000.0).clamp(FIRST_MS, MOST_MS);
                self.penalty.update(now, |penalty, kept| Some(asked.max(penalty * kept)));
            }
            Sample::Unreachable => {
                self.penalty.update(now, |penalty, kept| Some(FULL_MS.max(penalty * kept)));
            }
        }
    }

    /// It is well again, by a better word than one good reply: no failure is held against it any more.
    pub(crate) fn forgive(&self, now: u32) {
        self.penalty.update(now, |_, _| Some(0.0));
    }

    /// Returns the average latency in milliseconds, to the first byte; `None` before the first reply. It fades while no
    /// sample comes, so that a member that was slow once is tried again.
    pub(crate) fn latency(&self, now: u32) -> Option<f32> {
        let faded = self.latency.faded(now);
        (faded > 0.0 || !self.latency.is_zero()).then_some(faded)
    }

    /// Returns what is added to the latency for failures, in milliseconds. It fades.
    pub(crate) fn penalty(&self, now: u32) -> f32 {
        self.penalty.faded(now)
    }

    /// Returns for how many milliseconds nothing was heard of it, and how long it asked to be left alone (by a `Retry-After`
    /// of more than the penalty for failures); `None` before the first sample.
    pub(super) fn silence(&self, now: u32) -> Option<(u32, f32)> {
        let (cost, heard) = self.latency.get();
        let (penalty, failed) = self.penalty.get();
        let asked = if penalty > FULL_MS { penalty } else { 0.0 };
        match (cost > 0.0, penalty > 0.0) {
            (false, false) => None,
            (true, false) => Some((age(now, heard), 0.0)),
            (false, true) => Some((age(now, failed), asked)),
            (true, true) => Some((age(now, heard).min(age(now, failed)), asked)),
        }
    }
}

/// "Peak" EWMA: a peak counts at once, everything else by its age: quick to fear, slow to trust. But where a second or more
/// lies between two samples the new one stands for itself: a member that is hardly ever asked is on probation, and would
/// else come back a minute after it was well again. What it may cost is one slow reply a second.
fn average(cost: f32, kept: f32, sample: f32) -> f32 {
    let sample = bounded(sample);
    if sample > cost || kept < ON_PROBATION { sample } else { cost * kept + sample * (1.0 - kept) }
}

/// Bounds a latency, so that nothing is held against a member for ever. Takes NaN, which no clock gives, for the shortest.
fn bounded(latency_ms: f32) -> f32 {
    if latency_ms > SHORTEST_MS { latency_ms.min(MOST_MS) } else { SHORTEST_MS }
}

fn relieved(penalty: f32) -> f32 {
    if penalty < NO_PENALTY_MS { 0.0 } else { penalty }
}

/// A number that fades with time: its value as `f32` bits above, the stamp in milliseconds below.
#[derive(Debug, Default)]
struct Fading(AtomicU64);

impl Fading {
    fn get(&self) -> (f32, u32) {
        number_and_stamp(self.0.load(Ordering::Relaxed))
    }

    fn is_zero(&self) -> bool {
        self.get().0 <= 0.0
    }

    fn faded(&self, now: u32) -> f32 {
        let (value, stamp) = self.get();
        if value > 0.0 { value * kept(now, stamp) } else { 0.0 }
    }

    /// Changes the value: `change` is given the value and what is left of it by now. It is called again when another
    /// worker was faster, so that no peak and no failure is lost.
    fn update(&self, now: u32, change: impl Fn(f32, f32) -> Option<f32>) {
        // `None` leaves it as it is; either way it is done.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let (value, stamp) = number_and_stamp(state);
            // A stamp never goes back.
            let stamp_now = if age(now, stamp) == 0 { stamp } else { now };
            // The first value of all has no stamp to compare with.
            let stamp_now = if state == 0 { now } else { stamp_now };
            Some(stamped(change(value, kept(now, stamp))?, stamp_now))
        });
    }
}

/// Returns how many milliseconds ago a stamp was taken. Clocks are `u32` and wrap after 49.7 days: differences are right
/// across the wrap, and only what was silent for just 49.7 days is taken for fresh for a minute or two.
pub(super) fn age(now: u32, stamp: u32) -> u32 {
    let age = now.wrapping_sub(stamp);
    if age > u32::MAX - SKEW_MS { 0 } else { age }
}

/// Which share of a value is left.
fn kept(now: u32, stamp: u32) -> f32 {
    (-(age(now, stamp) as f32) / DECAY_MS).exp()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "numbers that floats hold exactly")]

    use std::time::Duration;

    use super::*;

    fn answered(latency_ms: f32) -> Sample {
        Sample::Answered { latency_ms }
    }

    const FAILED: Sample = Sample::Failed { latency_ms: 1.0 };

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let load = Load::default();
        assert_eq!(load.latency(0), None);
        load.observe(answered(10.0), 0);
        load.observe(answered(500.0), 1);
        assert_eq!(load.latency(1), Some(500.0));
        load.observe(answered(10.0), 501);
        let latency = load.latency(501).unwrap();
        assert!((475.0..477.0).contains(&latency), "e^-0.05 of the peak and the rest of the sample, got {latency}");
        load.observe(answered(10.0), 1_501);
        let latency = load.latency(1_501).unwrap();
        assert!((9.9..=10.0).contains(&latency), "after a second of silence the sample, got {latency}");
        assert!(load.latency(60_001).unwrap() < 2.0);
    }

    #[test]
    fn a_reply_of_no_time_at_all_counts_as_one() {
        let load = Load::default();
        load.observe(answered(0.0), 0);
        load.observe(answered(f32::NAN), 0);
        assert!(load.latency(0).is_some_and(|latency| latency < 0.01));
    }

    #[test]
    fn one_failure_costs_little_five_in_a_row_cost_all_and_successes_take_it_back() {
        let load = Load::default();
        load.observe(answered(5.0), 0);
        let penalties: Vec<f32> = (0..6)
            .map(|_| {
                load.observe(FAILED, 0);
                load.penalty(0)
            })
            .collect();
        assert_eq!(penalties, [20.0, 80.0, 320.0, 1280.0, 5000.0, 5000.0]);
        assert_eq!(load.latency(0), Some(5.0), "a failure is no latency");
        for _ in 0..7 {
            load.observe(answered(5.0), 0);
        }
        assert_eq!(load.penalty(0), 0.0);
    }

    #[test]
    fn a_failure_that_took_long_raises_the_latency_too() {
        let load = Load::default();
        load.observe(answered(5.0), 0);
        load.observe(Sample::Failed { latency_ms: 2000.0 }, 0);
        assert_eq!(load.latency(0), Some(2000.0));
    }

    #[test]
    fn an_endpoint_that_says_when_is_taken_at_its_word_up_to_300_s() {
        let load = Load::default();
        let refused = |seconds| Sample::Refused { retry_after: Duration::from_secs(seconds) };
        load.observe(refused(2), 0);
        assert_eq!(load.penalty(0), 2000.0);
        load.observe(refused(86_400), 0);
        assert_eq!(load.penalty(0), MOST_MS);
        load.observe(FAILED, 0);
        assert_eq!(load.penalty(0), MOST_MS, "a failure takes nothing back");
        load.observe(Sample::Unreachable, 0);
        assert_eq!(load.penalty(0), MOST_MS);
    }

    #[test]
    fn the_clock_may_wrap() {
        let load = Load::default();
        let before = u32::MAX - 4_999;
        load.observe(answered(100.0), before);
        load.observe(Sample::Unreachable, before);
        // 10 s later, on the other side.
        let after = 5_000;
        let latency = load.latency(after).unwrap();
        assert!((36.0..37.5).contains(&latency), "{latency}");
        assert!((1830.0..1850.0).contains(&load.penalty(after)));
        assert_eq!(load.silence(after).unwrap().0, 10_000);
        load.observe(answered(1.0), after);
        assert!(load.latency(after).unwrap() < 38.0);
        // A month of silence is long ago, on either side of half a wrap.
        for days in [20u32, 30, 45] {
            assert!(load.latency(after.wrapping_add(days * 86_400_000)).unwrap() < 0.001, "{days} days");
        }
    }

    #[test]
    fn a_worker_whose_clock_is_behind_does_no_harm() {
        let load = Load::default();
        load.observe(answered(100.0), 1_000);
        assert_eq!(load.latency(990), Some(100.0));
        load.observe(answered(1.0), 990);
        assert_eq!(load.latency(1_000), Some(100.0), "neither older nor lower than it was");
    }

    #[test]
    fn no_peak_is_lost_to_a_race() {
        let load = Load::default();
        std::thread::scope(|scope| {
            for worker in 0u16..4 {
                let load = &load;
                scope.spawn(move || {
                    for sample in 0u16..5_000 {
                        load.observe(answered(f32::from(sample * 4 + worker + 1)), 7);
                    }
                });
            }
        });
        assert_eq!(load.latency(7), Some(20_000.0));
    }
}
