//! Latency times load: what a request would have to wait for (Finagle's "peak EWMA").

use crate::upstream::Member;

/// What a member with a request under way is taken for before its first reply, in milliseconds (Linkerd 2's default).
/// While it has none it comes first, or it would stay unknown for ever beside members that are faster than this.
const UNKNOWN_MS: f32 = 30.0;
/// A reply of less than this counts as this: below it, differences are noise.
const FLOOR_MS: f32 = 0.1;

/// Lower is better.
pub(super) fn score(member: &Member, now: u32) -> f32 {
    let load = &member.state.load;
    let in_flight = load.in_flight();
    let latency = match load.latency(now) {
        Some(latency) => latency.max(FLOOR_MS),
        None if in_flight == 0 => return 0.0,
        None => UNKNOWN_MS,
    };
    latency * (in_flight as f32 / member.endpoint.weight as f32 + 1.0)
}
