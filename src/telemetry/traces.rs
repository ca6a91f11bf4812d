//! Traces: a span for each request and for each of its tries, sent to a collector by OTLP over HTTP.
//!
//! A worker decides once for each request whether it is recorded ([`Tracer::decide`]) and hands what it knows over when
//! the request has ended ([`Tracer::record`]): one `try_send` of one box into a bounded queue, that never waits. Encoding
//! and sending are the [`Exporter`]'s, on the control runtime. A collector that is slow or gone costs spans, which are
//! counted, and no request anything.

mod client;
pub mod context;
mod exporter;
mod otlp;
mod span;

pub use exporter::Exporter;
pub use otlp::Resource;
pub use span::{Protocol, Server, Span, Trace, Try};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::{mpsc, watch};

use self::context::{Incoming, TraceId};
use super::metrics::{Registry, SharedCounter, families};

/// Traces that wait for the exporter: what OpenTelemetry's own batch processor has by default.
const QUEUE: usize = 2048;

/// How long what waits may still be sent when the process ends.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Where spans go, and which.
#[derive(Debug)]
pub struct Collector {
    /// `https` with this; the system's or a given authority.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path that spans are posted to.
    pub path: String,
    /// Fields that the collector asks for, such as a key.
    pub headers: HeaderMap,
    /// Who sends them.
    pub resource: Resource,
    /// Share of the requests that brought no decision, see [`context::threshold`].
    pub threshold: u64,
}

/// The workers' end; clones are the same.
#[derive(Debug, Clone)]
pub struct Tracer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    is_on: AtomicBool,
    threshold: AtomicU64,
    queue: mpsc::Sender<Box<Trace>>,
    dropped: SharedCounter,
}

/// Control's end: it turns tracing on and off, and ends it.
#[derive(Debug)]
pub struct Switch {
    tracer: Tracer,
    settings: watch::Sender<Settings>,
}

/// What the exporter is told.
#[derive(Debug, Clone, Default)]
struct Settings {
    collector: Option<Arc<Collector>>,
    is_closing: bool,
}

/// Makes tracing, turned off. The caller runs the exporter.
pub fn open(registry: &Registry) -> (Tracer, Switch, Exporter) {
    bounded(registry, QUEUE)
}

fn bounded(registry: &Registry, queue: usize) -> (Tracer, Switch, Exporter) {
    let (queue, waiting) = mpsc::channel(queue);
    let (settings, told) = watch::channel(Settings::default());
    let dropped = registry.shared_counter(&families::TRACES_DROPPED, ["full"]);
    let tracer =
        Tracer(Arc::new(Shared { is_on: AtomicBool::new(false), threshold: AtomicU64::new(0), queue, dropped }));
    let exporter = Exporter::new(waiting, told, registry);
    (tracer.clone(), Switch { tracer, settings }, exporter)
}

impl Tracer {
    /// Tells whether spans go anywhere at all.
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    /// Decides whether a request is recorded: as its caller did, or by our share where nobody did yet. Returns the trace
    /// that it belongs to; `random` gives the id of a new one.
    pub fn decide(&self, incoming: &Incoming, random: impl FnOnce() -> [u64; 2]) -> Option<TraceId> {
        if !self.is_on() || incoming.decision() == Some(false) {
            return None;
        }
        let trace = incoming.parent().map_or_else(
            || {
                let [high, low] = random();
                TraceId::from_random(high, low)
            },
            |(trace, _)| trace,
        );
        let is_included = || context::is_included(trace, self.0.threshold.load(Ordering::Relaxed));
        (incoming.decision() == Some(true) || is_included()).then_some(trace)
    }

    /// Hands a trace over; if the queue is full it is dropped and counted. Never waits.
    pub fn record(&self, trace: Box<Trace>) {
        if let Err(error) = self.0.queue.try_send(trace) {
            let (mpsc::error::TrySendError::Full(trace) | mpsc::error::TrySendError::Closed(trace)) = error;
            self.0.dropped.add(trace.spans());
        }
    }
}

impl Switch {
    /// Sends spans there from now on; `None`: no more.
    pub fn configure(&self, collector: Option<Arc<Collector>>) {
        let shared = &self.tracer.0;
        shared.threshold.store(collector.as_ref().map_or(0, |collector| collector.threshold), Ordering::Relaxed);
        shared.is_on.store(collector.is_some(), Ordering::Relaxed);
        self.settings.send_modify(|settings| settings.collector = collector);
    }

    /// Has the exporter send what waits and end; it takes [`LAST_WORDS`] at most.
    pub fn close(&self) {
        self.tracer.0.is_on.store(false, Ordering::Relaxed);
        self.settings.send_modify(|settings| settings.is_closing = true);
    }
}

#[cfg(test)]
mod tests;
