//! Every metric of the gateway: name, meaning, labels. `docs/metrics.md` says what to do when one moves; a test compares.
//!
//! Names without `meshless_` are those of Linkerd 2 and of the usual process collectors, so that dashboards go on
//! working; all others are in base units. A label that is empty is left out.

use super::{Buckets, Counts, Description, Family, Gauges};

/// Declares a counter or a gauge: Rust name, kind, metric name, labels, help.
macro_rules! family {
    ($id:ident, $kind:ident, $labels:literal, $name:literal, $label_names:expr, $help:literal) => {
        #[doc = $help]
        pub static $id: Family<$kind, $labels> = Family { name: $name, help: $help, labels: $label_names, kind: $kind };
    };
}

mod authority;
mod discovery;
mod identity;

pub use authority::*;
pub use discovery::*;
pub use identity::*;

family!(
    REQUESTS,
    Counts,
    3,
    "request_total",
    ["direction", "listener", "service"],
    "Requests whose head was read and routed."
);
family!(
    RESPONSES,
    Counts,
    7,
    "response_total",
    ["direction", "listener", "service", "status_code", "classification", "grpc_status_code", "error"],
    "Exchanges that ended, in whatever way."
);

/// Bounds are Linkerd 2's, in its unit.
pub static RESPONSE_LATENCY: Family<Buckets, 3> = Family {
    name: "response_latency_ms",
    help: "Time from a request's head to the first byte of its reply, in milliseconds, counted when the reply ended.",
    labels: ["direction", "listener", "service"],
    kind: Buckets {
        unit: 1000,
        bounds: &[
            1_000, 2_000, 3_000, 4_000, 5_000, 10_000, 20_000, 30_000, 40_000, 50_000, 100_000, 200_000, 300_000,
            400_000, 500_000, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 10_000_000, 20_000_000,
            30_000_000, 40_000_000, 50_000_000,
        ],
    },
};

/// Bounds in microseconds from 50 µs: what a proxy adds is less than a millisecond.
pub static ADDED_LATENCY: Family<Buckets, 1> = Family {
    name: "meshless_added_latency_seconds",
    help: "Time to the head of a reply that was not spent on tries: what this gateway added, pauses before retries included.",
    labels: ["service"],
    kind: Buckets {
        unit: 1_000_000,
        bounds: &[50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000],
    },
};

/// Bounds are the usual ones of Prometheus' clients, with a minute for streams.
pub static REQUEST_DURATION: Family<Buckets, 1> = Family {
    name: "meshless_request_duration_seconds",
    help: "Time from the first byte of a request to the last one of its reply.",
    labels: ["service"],
    kind: Buckets {
        unit: 1_000_000,
        bounds: &[
            1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
            10_000_000, 60_000_000,
        ],
    },
};

family!(
    IN_FLIGHT,
    Gauges,
    1,
    "meshless_requests_in_flight",
    ["service"],
    "Requests that are in flight at the endpoints of a service."
);
family!(
    RETRY_BUDGET,
    Gauges,
    1,
    "meshless_retry_budget",
    ["service"],
    "Retries that the budget of a service allows now."
);

family!(
    TCP_OPENED,
    Counts,
    4,
    "tcp_open_total",
    ["direction", "peer", "listener", "service"],
    "Connections that were opened: from clients (peer src) and to endpoints (peer dst)."
);
family!(
    TCP_CLOSED,
    Counts,
    4,
    "tcp_close_total",
    ["direction", "peer", "listener", "service"],
    "Connections that were closed."
);
family!(
    TCP_OPEN,
    Gauges,
    4,
    "tcp_open_connections",
    ["direction", "peer", "listener", "service"],
    "Connections that are open."
);
family!(
    TCP_READ,
    Counts,
    4,
    "tcp_read_bytes_total",
    ["direction", "peer", "listener", "service"],
    "Bytes that were read from peers."
);
family!(
    TCP_WRITTEN,
    Counts,
    4,
    "tcp_write_bytes_total",
    ["direction", "peer", "listener", "service"],
    "Bytes that were written to peers."
);
family!(
    RETRIES,
    Counts,
    2,
    "meshless_retry_total",
    ["service", "reason"],
    "Requests that were sent again, by what went wrong before."
);
family!(
    REQUEUES,
    Counts,
    1,
    "meshless_requeue_total",
    ["service"],
    "Requests that were not sent at all and went to another connection; they spend no retry budget."
);
family!(
    MIRRORS,
    Counts,
    2,
    "meshless_mirror_total",
    ["route", "result"],
    "Copies for the mirror of a route: sent, or not because the body was too large or too many were under way."
);
family!(
    MALFORMED,
    Counts,
    2,
    "meshless_malformed_total",
    ["listener", "label"],
    "Requests that were refused because they break the protocol or a limit of it."
);
family!(
    HTTP_ALLOWED,
    Counts,
    2,
    "inbound_http_authz_allow_total",
    ["listener", "rule"],
    "Requests that a rule of the listener's allow allowed."
);
family!(
    HTTP_DENIED,
    Counts,
    2,
    "inbound_http_authz_deny_total",
    ["listener", "dry_run"],
    "Requests that no rule of the listener's allow allowed."
);
family!(
    TCP_ALLOWED,
    Counts,
    2,
    "inbound_tcp_authz_allow_total",
    ["listener", "rule"],
    "Connections carrying bytes that a rule of the listener's allow allowed."
);
family!(
    TCP_DENIED,
    Counts,
    2,
    "inbound_tcp_authz_deny_total",
    ["listener", "dry_run"],
    "Connections carrying bytes that no rule of the listener's allow allowed."
);
family!(
    REFUSED,
    Counts,
    2,
    "meshless_connection_refused_total",
    ["listener", "reason"],
    "Connections from clients that were closed before a request."
);
family!(
    CONNECTS,
    Counts,
    2,
    "meshless_upstream_connect_total",
    ["service", "result"],
    "Connections to endpoints that were tried, by how that ended."
);

/// Bounds suit a network of one region; the default limit is 1 s.
pub static CONNECT_DURATION: Family<Buckets, 1> = Family {
    name: "meshless_upstream_connect_duration_seconds",
    help: "Time to open a connection to an endpoint, TLS included, of those that succeeded.",
    labels: ["service"],
    kind: Buckets {
        unit: 1_000_000,
        bounds: &[
            500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
            5_000_000,
        ],
    },
};

family!(
    EJECTIONS,
    Counts,
    3,
    "meshless_ejection_total",
    ["service", "reason", "cause"],
    "Endpoints that were ejected, by the rule and by the failure that tipped the scales."
);
family!(
    EJECTIONS_SPARED,
    Counts,
    2,
    "meshless_ejection_spared_total",
    ["service", "reason"],
    "Failures that would have ejected an endpoint if `breaker.max_ejected` had not been reached."
);
family!(
    PROBES,
    Counts,
    1,
    "meshless_probe_total",
    ["service"],
    "Requests that were sent to an ejected endpoint to find out whether it is back."
);
family!(
    RETURNS,
    Counts,
    2,
    "meshless_return_total",
    ["service", "by"],
    "Endpoints that came back from an ejection, by their probe or by a health check."
);
family!(
    HEALTH_CHECKS,
    Counts,
    2,
    "meshless_health_check_total",
    ["service", "result"],
    "Active health checks of endpoints, by result."
);
family!(
    CONFIG_RELOADS,
    Counts,
    1,
    "meshless_config_reload_total",
    ["result"],
    "Configurations that were read after the first one: applied, unchanged or refused."
);
family!(
    CONFIG_LAST_RELOAD_SUCCESS,
    Gauges,
    0,
    "meshless_config_last_reload_success",
    [],
    "1 if what is configured is what runs, 0 if the last change was refused."
);
family!(
    CONFIG_VERSION,
    Gauges,
    0,
    "meshless_config_version",
    [],
    "Number of the configuration that runs; the first one is 1."
);
family!(
    ENDPOINTS,
    Gauges,
    2,
    "meshless_endpoints",
    ["service", "state"],
    "Endpoints of a service, by what may be done with them."
);
family!(
    ENDPOINT_IN_FLIGHT,
    Gauges,
    3,
    "meshless_endpoint_requests_in_flight",
    ["service", "target", "endpoint"],
    "Requests that are in flight at an endpoint; asked for by `?endpoints=SERVICE`."
);
family!(
    ENDPOINT_LATENCY,
    Gauges,
    3,
    "meshless_endpoint_latency_seconds",
    ["service", "target", "endpoint"],
    "Estimate of an endpoint's latency that balancing goes by; asked for by `?endpoints=SERVICE`."
);
family!(
    ENDPOINT_CONNECTIONS,
    Gauges,
    3,
    "meshless_endpoint_connections",
    ["service", "target", "endpoint"],
    "Connections to an endpoint that are open; asked for by `?endpoints=SERVICE`."
);
family!(
    ENDPOINT_EJECTED,
    Gauges,
    3,
    "meshless_endpoint_ejected",
    ["service", "target", "endpoint"],
    "1 if an endpoint failed and gets no request but a probe; asked for by `?endpoints=SERVICE`."
);
family!(
    ENDPOINT_USABLE,
    Gauges,
    3,
    "meshless_endpoint_usable",
    ["service", "target", "endpoint"],
    "1 if an endpoint may be picked, 0 if it gets nothing, as `/endpoints` explains; asked for by `?endpoints=SERVICE`."
);
family!(
    ACCESS_LOG_DROPPED,
    Counts,
    1,
    "meshless_access_log_dropped_total",
    ["reason"],
    "Lines of the access log that were lost: the queue was full, or writing failed."
);
family!(
    MEMORY_USED,
    Gauges,
    0,
    "meshless_memory_used_bytes",
    [],
    "Memory that is used, as it counts against the limit; only where there is one."
);
family!(
    MEMORY_LIMIT,
    Gauges,
    0,
    "meshless_memory_limit_bytes",
    [],
    "Memory that may be used: `node.memory`, else the limit of the control group."
);
family!(
    MEMORY_PRESSURE,
    Gauges,
    0,
    "meshless_memory_pressure",
    [],
    "What is refused because memory is short: 0 nothing, 1 connections, 2 requests too."
);
family!(TRACES_EXPORTED, Counts, 0, "meshless_traces_exported_total", [], "Spans that the trace collector took.");
family!(
    TRACES_DROPPED,
    Counts,
    1,
    "meshless_traces_dropped_total",
    ["reason"],
    "Spans that were lost: the queue was full, or the collector was unreachable, refused them, or was too slow at the end."
);
family!(PANICS, Counts, 0, "meshless_panic_total", [], "Tasks that ended in a panic.");
family!(
    METRIC_OVERFLOW,
    Counts,
    1,
    "meshless_metric_overflow_total",
    ["family"],
    "Times a series was counted as `other` because its family has too many."
);
family!(
    PROCESS_CPU,
    Counts,
    0,
    "process_cpu_seconds_total",
    [],
    "User and system CPU time of this process in seconds."
);
family!(
    PROCESS_RESIDENT_MEMORY,
    Gauges,
    0,
    "process_resident_memory_bytes",
    [],
    "Resident memory of this process in bytes."
);
family!(PROCESS_OPEN_FDS, Gauges, 0, "process_open_fds", [], "Open file descriptors of this process.");
family!(PROCESS_MAX_FDS, Gauges, 0, "process_max_fds", [], "Most file descriptors that this process may open.");
family!(
    PROCESS_START_TIME,
    Gauges,
    0,
    "process_start_time_seconds",
    [],
    "Start of this process in seconds since 1970."
);
family!(PROCESS_THREADS, Gauges, 0, "process_threads", [], "Threads of this process.");
family!(BUILD_INFO, Gauges, 1, "proxy_build_info", ["version"], "Always 1; the labels say which build runs.");
family!(
    NODE_INFO,
    Gauges,
    2,
    "meshless_node_info",
    ["platform", "zone"],
    "Always 1; the labels say where this process runs."
);

/// Returns all of them.
pub fn all() -> Vec<Description> {
    vec![
        REQUESTS.describe(),
        RESPONSES.describe(),
        RESPONSE_LATENCY.describe(),
        ADDED_LATENCY.describe(),
        REQUEST_DURATION.describe(),
        IN_FLIGHT.describe(),
        RETRY_BUDGET.describe(),
        TCP_OPENED.describe(),
        TCP_CLOSED.describe(),
        TCP_OPEN.describe(),
        TCP_READ.describe(),
        TCP_WRITTEN.describe(),
        RETRIES.describe(),
        REQUEUES.describe(),
        MALFORMED.describe(),
        REFUSED.describe(),
        HTTP_ALLOWED.describe(),
        HTTP_DENIED.describe(),
        TCP_ALLOWED.describe(),
        TCP_DENIED.describe(),
        CONNECTS.describe(),
        CONNECT_DURATION.describe(),
        EJECTIONS.describe(),
        EJECTIONS_SPARED.describe(),
        PROBES.describe(),
        RETURNS.describe(),
        HEALTH_CHECKS.describe(),
        CONFIG_RELOADS.describe(),
        CONFIG_LAST_RELOAD_SUCCESS.describe(),
        CONFIG_VERSION.describe(),
        SNAPSHOT_AGE.describe(),
        DISCOVERY_ERRORS.describe(),
        ROUTE_OBJECTS.describe(),
        ROUTE_RULES.describe(),
        DISCOVERY_FAILURES.describe(),
        DISCOVERY_CALLS.describe(),
        LIVE_NAMES.describe(),
        NAMES_REFUSED.describe(),
        IDENTITY_EXPIRATION.describe(),
        IDENTITY_REFRESHES.describe(),
        IDENTITY_FAILURES.describe(),
        PLAINTEXT_CONNECTIONS.describe(),
        PEERS_LOST.describe(),
        CA_ISSUED.describe(),
        CA_DENIED.describe(),
        CA_REQUESTS.describe(),
        CA_CONNECTIONS_REFUSED.describe(),
        CA_ISSUE_DURATION.describe(),
        CA_INTERMEDIATE_EXPIRATION.describe(),
        CA_ROOT_EXPIRATION.describe(),
        CA_ROOTS.describe(),
        CA_SEQUENCE.describe(),
        ENDPOINTS.describe(),
        ENDPOINT_IN_FLIGHT.describe(),
        ENDPOINT_LATENCY.describe(),
        ENDPOINT_CONNECTIONS.describe(),
        ENDPOINT_EJECTED.describe(),
        ENDPOINT_USABLE.describe(),
        ACCESS_LOG_DROPPED.describe(),
        TRACES_EXPORTED.describe(),
        TRACES_DROPPED.describe(),
        PANICS.describe(),
        METRIC_OVERFLOW.describe(),
        PROCESS_CPU.describe(),
        PROCESS_RESIDENT_MEMORY.describe(),
        PROCESS_OPEN_FDS.describe(),
        PROCESS_MAX_FDS.describe(),
        PROCESS_START_TIME.describe(),
        PROCESS_THREADS.describe(),
        BUILD_INFO.describe(),
        NODE_INFO.describe(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_manual_with_its_labels() {
        let manual = include_str!("../../../docs/metrics.md");
        for description in all() {
            let heading = if description.labels.is_empty() {
                format!("`{}`", description.name)
            } else {
                format!("`{}{{{}}}`", description.name, description.labels.join(","))
            };
            assert!(manual.contains(&heading), "docs/metrics.md does not have {heading}");
        }
    }

    #[test]
    fn bounds_rise_and_fit() {
        for buckets in all().iter().filter_map(|description| description.buckets) {
            assert!(buckets.bounds.len() <= Buckets::MOST);
            assert!(buckets.bounds.is_sorted_by(|left, right| left < right));
        }
    }

    #[test]
    fn names_keep_to_the_conventions_of_prometheus() {
        for description in all() {
            // Linkerd 2 names one counter otherwise, and its dashboards look for that.
            let is_counter = description.kind == "counter" && description.name != IDENTITY_REFRESHES.name;
            assert_eq!(description.name.ends_with("_total"), is_counter, "{}", description.name);
            assert!(description.help.ends_with('.'), "{}", description.name);
        }
    }
}
