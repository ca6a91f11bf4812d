//! When to do what next (pure).

use std::time::{Duration, SystemTime};

/// A bundle is asked for this often while a leaf lives: a root that is published for two lifetimes before it signs is
/// seen long before.
const BUNDLES_IN_A_LIFETIME: u32 = 10;
/// Shortest and longest time between two looks at the bundle (field notes: a hint of five minutes).
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_mins(5);
/// Longest sleep: the clock may be set, and a machine may be suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// What an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    /// End of the leaf's validity.
    pub(super) not_after: SystemTime,
    /// When to renew.
    pub(super) renew_at: SystemTime,
    /// When to look at the bundle.
    pub(super) look_at: SystemTime,
}

/// What an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Proves what it is.
    Attest,
    /// Asks for the next leaf by the one that it has.
    Renew,
    /// Asks for the roots.
    Look,
    /// Nothing for so long; then it thinks again.
    Sleep(Duration),
}

/// Returns what to do now.
pub(super) fn step(have: Option<&Schedule>, now: SystemTime) -> Step {
    let Some(have) = have else { return Step::Attest };
    if have.not_after <= now {
        return Step::Attest;
    }
    if have.renew_at <= now {
        return Step::Renew;
    }
    if have.look_at <= now {
        return Step::Look;
    }
    let next = have.not_after.min(have.renew_at).min(have.look_at);
    Step::Sleep(next.duration_since(now).unwrap_or_default().min(LONGEST_SLEEP))
}

/// Returns when to renew a leaf that was issued just now: when it says, but not before two fifths of what is left of it,
/// which is the earliest of half its lifetime less 10 %. A clock that is behind the authority's, or a leaf that begins in
/// the past, must not make an agent that asks all the time.
pub(super) fn renew_at(said: SystemTime, not_after: SystemTime, now: SystemTime) -> SystemTime {
    said.max(now + not_after.duration_since(now).unwrap_or_default().mul_f64(0.4))
}

/// Returns how long a bundle is good for: its hint, five minutes at most, less for leaves of less than 50 minutes.
/// `luck`, from 0 to 1, makes it up to 10 % less, so that agents that started together do not ask together for ever.
pub(super) fn look_after(hint: Duration, lifetime: Duration, luck: f64) -> Duration {
    let longest = hint.min(LONGEST_LOOK).min(lifetime / BUNDLES_IN_A_LIFETIME).max(SHORTEST_LOOK);
    longest.mul_f64(luck.clamp(0.0, 1.0).mul_add(-0.1, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn renewal_comes_before_the_bundle_and_what_has_expired_is_attested() {
        let have = Schedule { not_after: at(100), renew_at: at(50), look_at: at(20) };
        for (now, expected) in [
            (at(0), Step::Sleep(Duration::from_secs(20))),
            (at(20), Step::Look),
            (at(49), Step::Look),
            (at(50), Step::Renew),
            (at(99), Step::Renew),
            (at(100), Step::Attest),
            (at(1000), Step::Attest),
        ] {
            assert_eq!(step(Some(&have), now), expected, "{now:?}");
        }
        assert_eq!(step(None, at(0)), Step::Attest);
    }

    #[test]
    fn a_leaf_that_was_issued_just_now_is_not_renewed_at_once() {
        // Valid from a minute ago, for five seconds from now on.
        assert_eq!(renew_at(at(73), at(105), at(100)), at(102));
        assert_eq!(renew_at(at(150), at(200), at(100)), at(150));
        assert_eq!(renew_at(at(150), at(90), at(100)), at(150));
    }

    #[test]
    fn no_sleep_is_longer_than_half_a_minute() {
        let have = Schedule { not_after: at(86_400), renew_at: at(43_200), look_at: at(300) };
        assert_eq!(step(Some(&have), at(0)), Step::Sleep(Duration::from_secs(30)));
    }

    #[test]
    fn the_bundle_is_looked_at_by_its_hint_within_five_minutes_and_more_often_for_short_leaves() {
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        for (hint, lifetime, expected) in [
            (5 * minute, 24 * hour, 5 * minute),
            (hour, 24 * hour, 5 * minute),
            (minute, 24 * hour, minute),
            (5 * minute, 10 * minute, minute),
            (5 * minute, Duration::from_secs(5), Duration::from_secs(1)),
        ] {
            assert_eq!(look_after(hint, lifetime, 0.0), expected, "{hint:?} {lifetime:?}");
            assert_eq!(look_after(hint, lifetime, 1.0), expected.mul_f64(0.9), "{hint:?} {lifetime:?}");
        }
    }
}
