//! How long a request may take: every wait of it is bounded by one deadline, so timeouts cannot add up.
//!
//! `timeout` runs until the head of the reply, retries included, from when the client has sent all of its request: an
//! upload over a slow line is bounded by silence, not by its length (Envoy starts its clock there too). A deadline that
//! the client sets bounds everything, the upload too.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::body::Progress;
use crate::config::Policies;
use crate::timer::after;
use crate::upstream::plan::RoutePlan;

/// The bounds of one try.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// When the first byte of the request was there.
    pub(crate) received: Instant,
    /// When this try began.
    pub(crate) began: Instant,
    /// The client's own deadline.
    pub(crate) deadline: Option<Instant>,
    /// Ours; `None`: silence alone bounds it.
    pub(crate) timeout: Option<Duration>,
    /// Longest silence.
    pub(crate) idle: Duration,
    /// For this try alone.
    pub(crate) per_try: Option<Duration>,
    /// The upload; `None` without a body.
    pub(crate) upload: Option<Rc<Progress>>,
}

/// Returns how long a request may take until the head of its reply, retries included; `None`: silence alone bounds it.
/// `streams`: it may last, as gRPC without a deadline and upgrades may.
pub(crate) fn timeout(route: &RoutePlan, policies: &Policies, streams: bool) -> Option<Duration> {
    if streams { None } else { route.timeout_with(policies) }
}

impl Bounds {
    /// Returns when the request is too late.
    pub(crate) fn end(&self) -> Instant {
        let soft = match (&self.upload, self.timeout) {
            (Some(upload), _) if !upload.is_whole.get() => after(upload.last.get(), self.idle),
            (_, Some(timeout)) => after(self.whole_at(self.received), timeout),
            (_, None) => after(self.whole_at(self.began), self.idle),
        };
        self.deadline.map_or(soft, |deadline| deadline.min(soft))
    }

    /// Returns when this try is too late.
    pub(crate) fn end_of_try(&self) -> Instant {
        let end = self.end();
        match self.per_try {
            Some(per_try) if !self.is_uploading() => end.min(after(self.whole_at(self.began), per_try)),
            _ => end,
        }
    }

    /// Tells whether the client has not sent all of its request yet.
    pub(crate) fn is_uploading(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| !upload.is_whole.get())
    }

    /// When the request was whole, but not before `at_least`.
    pub(crate) fn whole_at(&self, at_least: Instant) -> Instant {
        self.upload.as_ref().map_or(at_least, |upload| upload.last.get().max(at_least))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn bounds(now: Instant) -> Bounds {
        Bounds {
            received: now,
            began: now + seconds(1),
            deadline: None,
            timeout: Some(seconds(15)),
            idle: seconds(300),
            per_try: None,
            upload: None,
        }
    }

    #[test]
    fn without_a_body_the_clock_starts_with_the_request_and_retries_do_not_wind_it_back() {
        let now = Instant::now();
        assert_eq!(bounds(now).end(), now + seconds(15));
        let per_try = Bounds { per_try: Some(seconds(2)), ..bounds(now) };
        assert_eq!(per_try.end_of_try(), now + seconds(3));
    }

    #[test]
    fn an_upload_is_bounded_by_silence_and_the_clock_starts_at_its_end() {
        let now = Instant::now();
        let upload = Rc::new(Progress {
            last: Cell::new(now + seconds(60)),
            is_whole: Cell::new(false),
            received: Cell::new(0),
        });
        let bounds = Bounds { upload: Some(upload.clone()), per_try: Some(seconds(2)), ..bounds(now) };
        assert_eq!(bounds.end_of_try(), now + seconds(360));
        upload.is_whole.set(true);
        assert_eq!((bounds.end(), bounds.end_of_try()), (now + seconds(75), now + seconds(62)));
    }

    #[test]
    fn the_clients_deadline_bounds_even_an_upload() {
        let now = Instant::now();
        let upload = Rc::new(Progress { last: Cell::new(now), is_whole: Cell::new(false), received: Cell::new(0) });
        let bounds = Bounds { upload: Some(upload), deadline: Some(now + seconds(5)), ..bounds(now) };
        assert_eq!(bounds.end(), now + seconds(5));
    }

    #[test]
    fn a_stream_without_timeout_is_bounded_by_silence() {
        let now = Instant::now();
        let bounds = Bounds { timeout: None, ..bounds(now) };
        assert_eq!(bounds.end(), now + seconds(301));
    }
}
