//! Latency times load: what a request would have to wait for (Finagle's "peak EWMA").

use crate::upstream::Member;

/// What a member is taken for before its first reply, in milliseconds (Linkerd 2's default).
const UNKNOWN_MS: f32 = 30.0;
/// A reply of less than this counts as this: below it, differences are noise.
const FLOOR_MS: f32 = 0.1;

/// Lower is better.
pub(super) fn score(member: &Member, now: u32) -> f32 {
    let load = &member.state.load;
    let latency = load.latency(now).map_or(UNKNOWN_MS, |latency| latency.max(FLOOR_MS));
    latency * (load.in_flight() as f32 / member.endpoint.weight as f32 + 1.0)
}
