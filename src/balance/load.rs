//! What moves about a member: requests in flight and the moving average of its latency, in atomics that workers share.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Time constant of the average: 10 s, as in Finagle and Linkerd.
const DECAY_MS: f32 = 10_000.0;

/// Load of one member.
#[derive(Debug, Default)]
pub(crate) struct Load {
    in_flight: AtomicU32,
    /// The average in milliseconds as `f32` bits above, the stamp in milliseconds below.
    cost: AtomicU64,
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

    /// Takes a latency into the average: a peak at once, everything else by its age ("peak" EWMA: quick to fear, slow to
    /// trust). An update that loses a race against another worker's is dropped; the next one comes soon.
    pub(crate) fn observe(&self, latency_ms: f32, now: u32) {
        let before = self.cost.load(Ordering::Relaxed);
        let (cost, stamp) = unpack(before);
        let after = if latency_ms > cost {
            latency_ms
        } else {
            let weight = (-(now.saturating_sub(stamp) as f32) / DECAY_MS).exp();
            cost * weight + latency_ms * (1.0 - weight)
        };
        let _ = self.cost.compare_exchange(before, pack(after, now), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns the average in milliseconds; `None` before the first sample. It fades while no sample comes, so that a
    /// member that was slow once is tried again.
    pub(crate) fn latency(&self, now: u32) -> Option<f32> {
        let (cost, stamp) = unpack(self.cost.load(Ordering::Relaxed));
        (cost > 0.0).then(|| cost * (-(now.saturating_sub(stamp) as f32) / DECAY_MS).exp())
    }
}

fn pack(cost: f32, stamp: u32) -> u64 {
    u64::from(cost.to_bits()) << 32 | u64::from(stamp)
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of one word")]
fn unpack(state: u64) -> (f32, u32) {
    (f32::from_bits((state >> 32) as u32), state as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let load = Load::default();
        assert_eq!(load.latency(0), None);
        load.observe(10.0, 0);
        load.observe(500.0, 1);
        assert_eq!(load.latency(1), Some(500.0));
        load.observe(10.0, 10_001);
        let latency = load.latency(10_001).unwrap();
        assert!((185.0..195.0).contains(&latency), "e⁻¹ of the peak and the rest of the sample, got {latency}");
        assert!(load.latency(60_001).unwrap() < 2.0);
    }
}
