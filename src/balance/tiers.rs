//! How traffic is divided between failover tiers, by how much of each is healthy (pure).
//!
//! A tier takes all that it can carry, the next one what is left. It can carry everything until less than `1 / spill` of
//! it is healthy (71.4 % with the default of 1.4), and from there on in proportion: nobody has to fail before the next
//! tier helps, and what is left of a tier is not run over. Where all tiers together cannot carry everything, each gets
//! its part of what they can. The rule and its tables are Envoy's ("priority levels").

/// Returns which tier serves, for a random number from 0 to 1 (1 excluded); `None` where no tier can carry anything.
/// A capacity is `spill` times the healthy share, and counts as 1 at the most.
pub(crate) fn choose(capacities: impl Iterator<Item = f32> + Clone, random: f32) -> Option<usize> {
    let total = total(capacities.clone());
    let at = random * total;
    let mut sum = 0.0;
    let mut last = None;
    for (tier, capacity) in capacities.enumerate() {
        let capacity = capped(capacity);
        if capacity <= 0.0 {
            continue;
        }
        sum += capacity;
        if at < sum {
            return Some(tier);
        }
        // Rounding may leave a hair's breadth behind the last one.
        last = Some(tier);
    }
    last
}

/// Returns each tier's share of the traffic, from 0 to 1.
pub(crate) fn shares(capacities: impl Iterator<Item = f32> + Clone) -> Vec<f32> {
    let total = total(capacities.clone());
    let mut left = total;
    capacities
        .map(|capacity| {
            let taken = capped(capacity).min(left);
            left -= taken;
            if total > 0.0 { taken / total } else { 0.0 }
        })
        .collect()
}

fn total(capacities: impl Iterator<Item = f32>) -> f32 {
    capacities.map(capped).sum::<f32>().min(1.0)
}

fn capped(capacity: f32) -> f32 {
    capacity.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "percents")]
    fn percent(healthy: &[u8]) -> Vec<u8> {
        let capacities = healthy.iter().map(|&healthy| 1.4 * f32::from(healthy) / 100.0);
        shares(capacities).into_iter().map(|share| (share * 100.0).round() as u8).collect()
    }

    /// Envoy 1.3x, "Priority levels". Its own last row says 36, 36 and 28, because it works with whole percents.
    #[test]
    fn the_shares_are_those_of_envoys_tables() {
        for (healthy, expected) in [
            (&[100, 100][..], &[100, 0][..]),
            (&[72, 100], &[100, 0]),
            (&[71, 100], &[99, 1]),
            (&[50, 100], &[70, 30]),
            (&[25, 100], &[35, 65]),
            (&[0, 100], &[0, 100]),
            (&[72, 72], &[100, 0]),
            (&[71, 71], &[99, 1]),
            (&[50, 50], &[70, 30]),
            (&[25, 25], &[50, 50]),
            (&[5, 65], &[7, 93]),
            (&[100, 100, 100], &[100, 0, 0]),
            (&[72, 72, 100], &[100, 0, 0]),
            (&[71, 71, 100], &[99, 1, 0]),
            (&[50, 50, 100], &[70, 30, 0]),
            (&[25, 100, 100], &[35, 65, 0]),
            (&[25, 25, 100], &[35, 35, 30]),
            (&[25, 25, 20], &[36, 36, 29]),
            (&[0, 0], &[0, 0]),
        ] {
            assert_eq!(percent(healthy), expected, "{healthy:?}");
        }
    }

    #[test]
    fn nobody_serves_where_nothing_is_healthy() {
        assert_eq!(choose([0.0, 0.0].into_iter(), 0.5), None);
        assert_eq!(choose(std::iter::empty(), 0.5), None);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_all_and_choosing_follows_them(
            capacities in proptest::collection::vec(prop_oneof![Just(0.0f32), 0.01f32..1.4], 1..6),
            seed in any::<u64>(),
        ) {
            let shares = shares(capacities.iter().copied());
            let sum: f32 = shares.iter().sum();
            let nothing = capacities.iter().all(|&capacity| capacity == 0.0);
            prop_assert!(nothing && sum == 0.0 || (sum - 1.0).abs() < 1e-5, "{shares:?}");
            let mut random = fastrand::Rng::with_seed(seed);
            let mut counts = vec![0u32; capacities.len()];
            for _ in 0..4000 {
                if let Some(tier) = choose(capacities.iter().copied(), random.f32()) {
                    counts[tier] += 1;
                }
            }
            for (count, share) in counts.iter().zip(&shares) {
                prop_assert!((*count as f32 / 4000.0 - share).abs() < 0.05, "{counts:?} {shares:?}");
            }
        }
    }
}
