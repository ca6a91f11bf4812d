//! Metrics of the identity of this workload, and of those of its peers.

use super::{Counts, Family, Gauges};

family!(
    IDENTITY_EXPIRATION,
    Gauges,
    0,
    "identity_cert_expiration_timestamp_seconds",
    [],
    "When the certificate of this workload expires, in seconds since 1970; 0 while there is none."
);
family!(
    IDENTITY_REFRESHES,
    Counts,
    0,
    "identity_cert_refresh_count",
    [],
    "Identities that were put in force: certificates and trust bundles."
);
family!(
    IDENTITY_FAILURES,
    Counts,
    1,
    "meshless_identity_refresh_failures_total",
    ["reason"],
    "Identities that could not be had: denied, malformed, throttled or unreachable."
);
family!(
    PLAINTEXT_CONNECTIONS,
    Counts,
    1,
    "meshless_plaintext_connections_total",
    ["listener"],
    "Connections in clear text that a permissive listener let in."
);
family!(
    PEERS_LOST,
    Counts,
    2,
    "meshless_peer_lost_total",
    ["peer", "reason"],
    "Open connections that were ended because of the certificate of their peer: expired, untrusted or denied."
);
