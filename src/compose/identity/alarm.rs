//! When somebody has to be told that an identity ends (pure).

use std::time::SystemTime;

use meshless_certs::Leaf;

/// What is to be told; the later one is the worse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// Nothing.
    None,
    /// A quarter of its lifetime is left: it should have been renewed at half of it (security paper, §2).
    Soon,
    /// It is worth nothing.
    Expired,
}

/// Returns what is to be told of a certificate.
pub(super) fn alarm(leaf: &Leaf, now: SystemTime) -> Alarm {
    let lifetime = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
    match leaf.not_after.duration_since(now) {
        Ok(left) if left > lifetime / 4 => Alarm::None,
        Ok(left) if !left.is_zero() => Alarm::Soon,
        _ => Alarm::Expired,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_quarter_of_the_lifetime_before_the_end_somebody_is_told() {
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let leaf = Leaf {
            id: "spiffe://example.org/svc/web".parse().unwrap(),
            serial: "1".to_owned(),
            not_before: start,
            not_after: start + Duration::from_hours(24),
        };
        let at = |hours| alarm(&leaf, start + Duration::from_hours(hours));
        assert_eq!([at(0), at(17), at(18), at(23), at(24), at(30)].map(|alarm| alarm as u8), [0, 0, 1, 1, 2, 2]);
    }
}
