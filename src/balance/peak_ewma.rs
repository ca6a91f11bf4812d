//! Latency times load: what a request would have to wait for (Finagle's "peak EWMA"), and when to try again what lost.
//!
//! **How long a member can go without a request**, while requests come to those beside it: one that loses every
//! comparison is tried after [`PROBE_AFTER_MS`] with a chance of 1 in [`PROBE_ODDS`] each time it is drawn; and after 150 s
//! whatever it did, since by then the worst that can be held against it (300 s) has faded below [`FLOOR_MS`], where all
//! are equal. **What that costs**: at most one request in [`PROBE_ODDS`], and for each member one in a second, because it has to
//! be silent again before the next.

use super::load::Load;

/// What a member with a request under way is taken for before its first reply, in milliseconds (Linkerd 2's default).
/// While it has none it comes first, or it would stay unknown for ever beside members that are faster than this.
const UNKNOWN_MS: f32 = 30.0;
/// A reply of less than this counts as this: below it, differences are noise.
const FLOOR_MS: f32 = 0.1;
/// Penalty from which on a member is shunned, in milliseconds: that of three failures in a row.
const SHUNNED_MS: f32 = 320.0;
/// Silence after which a member that loses is tried again, in milliseconds; longer where it asked for more by
/// `Retry-After`. As long as the shortest ejection: a member that fails has five such tries before it is ejected, one that
/// is well again is back soon.
const PROBE_AFTER_MS: u32 = 1_000;
/// One in so many comparisons goes to the member that lost, if it is due.
const PROBE_ODDS: u32 = 32;

/// Lower is better. `weight` is what it has now.
pub(super) fn score(load: &Load, weight: f32, now: u32) -> f32 {
    let in_flight = load.in_flight();
    let penalty = load.penalty(now);
    let latency = match load.latency(now) {
        Some(latency) => latency.max(FLOOR_MS),
        None if in_flight == 0 && penalty <= 0.0 => return 0.0,
        None => UNKNOWN_MS,
    };
    // What has faded below the floor is forgotten, or it would lose for ever against an equal without a past.
    let penalty = if penalty < FLOOR_MS { 0.0 } else { penalty };
    (latency + penalty) * (in_flight as f32 / weight + 1.0)
}

/// Tells whether a member that lost has not been heard of for so long that it may be tried. While it has a request under
/// way there is something to wait for, and a member that hangs gets no second one.
pub(super) fn is_due(load: &Load, now: u32) -> bool {
    load.in_flight() == 0
        && load.silence(now).is_some_and(|(silent, left_alone)| silent >= PROBE_AFTER_MS && silent as f32 >= left_alone)
}

/// Tells whether a member has failed so often of late that another pair is worth a look.
pub(super) fn is_shunned(load: &Load, now: u32) -> bool {
    load.penalty(now) >= SHUNNED_MS
}

/// Draws lots for a member that is due.
pub(super) fn probes(random: &mut fastrand::Rng) -> bool {
    random.u32(..PROBE_ODDS) == 0
}
