//! What is told of the authority.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Histogram, Registry, families};

/// What the authority counts; clones share the numbers. It decides some hundred times a second at most, so a look-up
/// for each does not matter.
#[derive(Debug, Clone)]
pub struct AuthoritySeries {
    registry: Arc<Registry>,
    took: Arc<Mutex<Histogram>>,
}

/// What is in force in an authority, as a scrape finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuthorityStanding {
    /// End of the intermediate that signs.
    pub intermediate: SystemTime,
    /// End of the root that ends first.
    pub root: SystemTime,
    /// Roots in the bundle.
    pub roots: usize,
    /// Number of the bundle.
    pub sequence: u64,
}

impl AuthoritySeries {
    /// Makes them; `standing` is asked when metrics are read and must not wait.
    pub fn new(
        registry: &Arc<Registry>,
        standing: impl Fn() -> Option<AuthorityStanding> + Send + Sync + 'static,
    ) -> Self {
        registry.collect(Box::new(move |samples| {
            if let Some(standing) = standing() {
                let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as f64;
                samples.gauge(&families::CA_INTERMEDIATE_EXPIRATION, [], seconds(standing.intermediate));
                samples.gauge(&families::CA_ROOT_EXPIRATION, [], seconds(standing.root));
                samples.gauge(&families::CA_ROOTS, [], standing.roots as f64);
                samples.gauge(&families::CA_SEQUENCE, [], standing.sequence as f64);
            }
        }));
        let took = registry.histogram(&families::CA_ISSUE_DURATION, []);
        Self { registry: Arc::clone(registry), took: Arc::new(Mutex::new(took)) }
    }

    /// A certificate was issued.
    pub fn issued(&self, method: &str, took: Duration) {
        self.registry.shared_counter(&families::CA_ISSUED, [method]).increment();
        self.observe(took);
    }

    /// None was.
    pub fn denied(&self, reason: &str, took: Duration) {
        self.registry.shared_counter(&families::CA_DENIED, [reason]).increment();
        self.observe(took);
    }

    /// The server answered.
    pub fn answered(&self, request: &str, status: u16) {
        self.registry.shared_counter(&families::CA_REQUESTS, [request, &status.to_string()]).increment();
    }

    /// The server closed a connection before a request.
    pub fn connection_refused(&self, reason: &str) {
        self.registry.shared_counter(&families::CA_CONNECTIONS_REFUSED, [reason]).increment();
    }

    fn observe(&self, took: Duration) {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).observe(took);
    }
}
