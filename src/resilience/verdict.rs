//! What the end of a try says about the endpoint (pure).

use crate::config::Classify;

/// HTTP status of a rate limit (RFC 6585, 4).
const TOO_MANY_REQUESTS: u16 = 429;
/// gRPC status of one.
const RESOURCE_EXHAUSTED: u8 = 8;

/// What one try says about the endpoint that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It served, or refused for a reason of the client's.
    Success,
    /// It did not serve.
    Failure(Cause),
    /// It is well and has enough to do: counts for the success rate, not for failures in a row (as in Linkerd 2),
    /// and fails a probe.
    Limited,
}

/// Where a failure came from: an answer of the endpoint, or something that we saw ourselves ("local origin").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It answered, and `classify.failure` has the status; or what it answered is no HTTP.
    Answer,
    /// No connection.
    Connect,
    /// The connection or the stream broke before a reply.
    Reset,
    /// No reply in time.
    Timeout,
}

impl Cause {
    /// The label value in metrics and views.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
        }
    }
}

/// Judges a reply. `grpc` is its gRPC status, from the head or from the trailers; `error` is its `meshless-error`.
///
/// A gRPC status wins over the HTTP status 200 that carries it; a reply of another HTTP status was made by something
/// that does not speak gRPC. A peer of ours that is at a limit of its own says so in `meshless-error`: it is limited,
/// whatever its status is.
pub(crate) fn verdict(classify: &Classify, status: u16, grpc: Option<u8>, error: Option<&[u8]>) -> Verdict {
    if error.is_some_and(|label| label.starts_with(b"limit_") || label == b"rate_limit") {
        return Verdict::Limited;
    }
    let failed = Verdict::Failure(Cause::Answer);
    match grpc.filter(|_| status == 200) {
        Some(grpc) if classify.is_grpc_failure(grpc) => failed,
        Some(RESOURCE_EXHAUSTED) => Verdict::Limited,
        None if classify.is_failure(status) => failed,
        None if status == TOO_MANY_REQUESTS => Verdict::Limited,
        None | Some(_) => Verdict::Success,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(classify: &Classify, status: u16, grpc: Option<u8>) -> &'static str {
        match verdict(classify, status, grpc, None) {
            Verdict::Success => "success",
            Verdict::Failure(_) => "failure",
            Verdict::Limited => "limited",
        }
    }

    #[test]
    fn what_is_the_clients_own_fault_says_nothing_about_the_endpoint() {
        let classify = Classify::default();
        for status in [200, 204, 301, 400, 401, 403, 404, 409, 499] {
            assert_eq!(judge(&classify, status, None), "success", "{status}");
        }
        for status in [500, 501, 502, 503, 504, 599] {
            assert_eq!(judge(&classify, status, None), "failure", "{status}");
        }
        assert_eq!(judge(&classify, 429, None), "limited");
    }

    #[test]
    fn the_grpc_status_decides_over_the_200_that_carries_it_and_over_nothing_else() {
        let classify = Classify::default();
        for grpc in [0, 1, 2, 3, 5, 6, 7, 9, 10, 11, 12, 16, 99] {
            assert_eq!(judge(&classify, 200, Some(grpc)), "success", "{grpc}");
        }
        for grpc in [4, 13, 14, 15] {
            assert_eq!(judge(&classify, 200, Some(grpc)), "failure", "{grpc}");
        }
        assert_eq!(judge(&classify, 200, Some(8)), "limited");
        assert_eq!(judge(&classify, 503, Some(0)), "failure");
    }

    #[test]
    fn a_peer_at_its_own_limit_is_limited_and_one_without_endpoints_has_failed() {
        let classify = Classify::default();
        assert_eq!(verdict(&classify, 503, None, Some(b"limit_requests")), Verdict::Limited);
        assert_eq!(verdict(&classify, 200, Some(14), Some(b"limit_pending")), Verdict::Limited);
        assert_eq!(verdict(&classify, 503, None, Some(b"no_endpoint")), Verdict::Failure(Cause::Answer));
    }
}
