//! Metrics of the authority.

use super::{Buckets, Counts, Family, Gauges};

family!(
    CA_ISSUED,
    Counts,
    1,
    "meshless_ca_issued_total",
    ["method"],
    "Certificates that were issued, by how they were asked for: a method of attestation, embedded or renewal."
);
family!(
    CA_DENIED,
    Counts,
    1,
    "meshless_ca_denied_total",
    ["reason"],
    "Requests for a certificate that were refused, or could not be decided."
);
family!(
    CA_REQUESTS,
    Counts,
    2,
    "meshless_ca_requests_total",
    ["request", "status"],
    "Requests to the authority's server."
);
family!(
    CA_CONNECTIONS_REFUSED,
    Counts,
    1,
    "meshless_ca_connections_refused_total",
    ["reason"],
    "Connections to the authority's server that were closed before a request."
);

/// Bounds in microseconds from 1 ms: a decision waits for the disk twice at least; STS and an API server take longer.
pub static CA_ISSUE_DURATION: Family<Buckets, 0> = Family {
    name: "meshless_ca_issue_duration_seconds",
    help: "Time to decide about a certificate, refusals included.",
    labels: [],
    kind: Buckets {
        unit: 1_000_000,
        bounds: &[
            1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
            10_000_000,
        ],
    },
};

family!(
    CA_INTERMEDIATE_EXPIRATION,
    Gauges,
    0,
    "meshless_ca_intermediate_expiration_timestamp_seconds",
    [],
    "When the intermediate that signs expires, in seconds since 1970."
);
family!(
    CA_ROOT_EXPIRATION,
    Gauges,
    0,
    "meshless_ca_root_expiration_timestamp_seconds",
    [],
    "When the first root of the bundle expires, in seconds since 1970."
);
family!(CA_ROOTS, Gauges, 0, "meshless_ca_bundle_roots", [], "Roots in the bundle.");
family!(CA_SEQUENCE, Gauges, 0, "meshless_ca_bundle_sequence", [], "Number of the bundle; it grows with each change.");
