//! Whether a request may be sent again (pure).

use std::time::Duration;

use http::Method;

use crate::config::{Retry, RetryMethods, RetryOn};

/// gRPC status `UNAVAILABLE`.
pub(crate) const GRPC_UNAVAILABLE: u8 = 14;

/// Tries that follow one that was provably not seen; they need no budget and no wait.
pub(crate) const MAX_REQUEUES: u32 = 3;

/// Tells whether a method may be sent again when an endpoint may have seen the first try.
pub(crate) fn may_repeat(policy: &Retry, method: &Method) -> bool {
    match policy.methods {
        RetryMethods::All => true,
        RetryMethods::Idempotent => matches!(*method, Method::PUT | Method::DELETE) || method.is_safe(),
    }
}

/// Tells whether a reply of this status is a reason to try again. `grpc` is the gRPC status of a reply without a body.
pub(crate) fn on_status(policy: &Retry, status: u16, grpc: Option<u8>) -> bool {
    policy.on.contains(&RetryOn::Status(status))
        || grpc == Some(GRPC_UNAVAILABLE) && policy.on.contains(&RetryOn::GrpcUnavailable)
}

/// Returns how long to wait before retry number `retry` (from 1): full jitter over an exponential ceiling.
pub(crate) fn backoff(policy: &Retry, retry: u32, random: f64) -> Duration {
    let (base, cap) = policy.backoff;
    let ceiling = base.saturating_mul(2u32.saturating_pow(retry.saturating_sub(1).min(16))).min(cap.max(base));
    ceiling.mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_idempotent_methods_are_repeated_unless_all_are() {
        let mut policy = Retry::default();
        assert!(may_repeat(&policy, &Method::GET) && may_repeat(&policy, &Method::PUT));
        assert!(!may_repeat(&policy, &Method::POST) && !may_repeat(&policy, &Method::PATCH));
        policy.methods = RetryMethods::All;
        assert!(may_repeat(&policy, &Method::POST));
    }

    #[test]
    fn the_ceiling_doubles_and_stays_below_the_cap() {
        let policy = Retry::default();
        let ceilings: Vec<_> = (1..7).map(|retry| backoff(&policy, retry, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [25, 50, 100, 200, 250, 250]);
        assert_eq!(backoff(&policy, 3, 0.0), Duration::ZERO);
    }

    #[test]
    fn grpc_unavailable_counts_only_as_a_status_of_grpc() {
        let policy = Retry::default();
        assert!(on_status(&policy, 503, None) && on_status(&policy, 200, Some(14)));
        assert!(!on_status(&policy, 200, None) && !on_status(&policy, 500, None) && !on_status(&policy, 200, Some(13)));
    }
}
