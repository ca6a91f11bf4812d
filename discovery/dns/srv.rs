//! How the weights of SRV records become weights of endpoints (pure; RFC 2782).
//!
//! A record weighs a host, and a host may have several addresses: they share the weight, so that a host does not get
//! more for having two. Weight 0 beside others means "a very small chance": a hundredth of the lightest other one.
//! Where all are 0 they are equal.

use crate::Endpoint;

/// Part of the lightest weight that weight 0 gets.
const SMALL: u64 = 100;

/// Weights are cut down only where they would be over [`Endpoint::MAX_WEIGHT`]; addresses are shared among exactly up to
/// this common multiple, beyond it to so many parts.
const MAX_PARTS: u64 = 5040;

/// Returns the weight of each address of each record of one priority. `records` are the weight in the record and
/// how many addresses its host has; a host without addresses gets a weight that nobody uses.
pub(super) fn weights(records: &[(u16, usize)]) -> Vec<u32> {
    let lightest = records.iter().map(|(weight, _)| *weight).filter(|weight| *weight > 0).min();
    let has_zero = records.iter().any(|(weight, _)| *weight == 0);
    let share = |weight: u16| match (lightest, weight) {
        (None, _) => 1,
        (Some(lightest), 0) => u64::from(lightest),
        (Some(_), weight) if has_zero => u64::from(weight) * SMALL,
        (Some(_), weight) => u64::from(weight),
    };
    let addresses = |count: usize| u64::try_from(count).unwrap_or(u64::MAX).max(1);
    let parts = records.iter().fold(1, |parts, (_, count)| {
        let multiple = parts / gcd(parts, addresses(*count)) * addresses(*count);
        if multiple > MAX_PARTS { MAX_PARTS } else { multiple }
    });
    let whole: Vec<u64> =
        records.iter().map(|(weight, count)| (share(*weight) * parts / addresses(*count)).max(1)).collect();
    let divisor = whole.iter().copied().fold(0, gcd).max(1);
    // Weights that need no sharing stay as they are in the records, so that people find them again.
    let divisor = if parts == 1 && !has_zero { 1 } else { divisor };
    let reduced = whole.iter().map(|weight| weight / divisor);
    let heaviest = reduced.clone().max().unwrap_or(1);
    let limit = u64::from(Endpoint::MAX_WEIGHT);
    reduced
        .map(|weight| if heaviest > limit { (weight * limit / heaviest).max(1) } else { weight })
        .map(|weight| u32::try_from(weight).unwrap_or(Endpoint::MAX_WEIGHT))
        .collect()
}

fn gcd(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_stay_as_they_are_in_the_records() {
        assert_eq!(weights(&[(10, 1), (20, 1), (65_535, 1)]), [10, 20, 65_535]);
        assert_eq!(weights(&[(10, 1), (20, 1)]), [10, 20]);
    }

    #[test]
    fn records_that_all_have_weight_zero_are_equal() {
        assert_eq!(weights(&[(0, 1), (0, 1)]), [1, 1]);
        assert_eq!(weights(&[]), [0_u32; 0]);
    }

    #[test]
    fn weight_zero_beside_others_gets_a_hundredth_of_the_lightest() {
        assert_eq!(weights(&[(1, 1), (0, 1)]), [100, 1]);
        assert_eq!(weights(&[(10, 1), (0, 1), (20, 1)]), [100, 1, 200]);
    }

    #[test]
    fn the_addresses_of_a_host_share_its_weight() {
        assert_eq!(weights(&[(10, 2), (10, 1)]), [1, 2]);
        assert_eq!(weights(&[(0, 3), (0, 1)]), [1, 3]);
    }

    proptest! {
        #[test]
        fn each_weight_is_usable_and_hosts_get_what_their_records_say(
            records in prop::collection::vec((1_u16.., 1_usize..5), 1..20)
        ) {
            let weights = weights(&records);
            prop_assert!(weights.iter().all(|weight| (1..=Endpoint::MAX_WEIGHT).contains(weight)), "{weights:?}");
            // Shares of hosts are exact up to the rounding of the smallest weight.
            let host = |index: usize| f64::from(weights[index]) * records[index].1 as f64;
            let total: f64 = (0..records.len()).map(host).sum();
            let wanted: f64 = records.iter().map(|(weight, _)| f64::from(*weight)).sum();
            for (index, (weight, _)) in records.iter().enumerate() {
                let difference = (host(index) / total - f64::from(*weight) / wanted).abs();
                prop_assert!(difference < 0.002, "{records:?} {weights:?}");
            }
        }
    }
}
