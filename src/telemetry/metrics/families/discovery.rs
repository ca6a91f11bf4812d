//! Metrics of what backends tell and are told: snapshots, objects of routes, our own registration, names on demand.

use super::{Counts, Family, Gauges};

family!(
    SNAPSHOT_AGE,
    Gauges,
    2,
    "meshless_discovery_snapshot_age_seconds",
    ["backend", "target"],
    "How long a backend has not been able to confirm the endpoints of a target; 0 while it answers."
);
family!(
    DISCOVERY_ERRORS,
    Counts,
    3,
    "meshless_discovery_errors_total",
    ["backend", "target", "kind"],
    "Answers that a backend failed to give."
);
family!(
    ROUTE_OBJECTS,
    Gauges,
    1,
    "meshless_route_objects",
    ["backend"],
    "Objects that routes are made of, `HTTPRoute` and `GRPCRoute`, as their backend told them last."
);
family!(
    ROUTE_RULES,
    Gauges,
    2,
    "meshless_route_rules",
    ["backend", "state"],
    "Rules of these objects: served as they are written (used), or left out or answered with an error (refused)."
);
family!(
    REGISTER_STATE,
    Gauges,
    2,
    "meshless_register_state",
    ["service", "state"],
    "1 for what the registry was told of us: absent, critical, left or passing."
);
family!(
    REGISTER_UNCONFIRMED,
    Gauges,
    1,
    "meshless_register_unconfirmed_seconds",
    ["service"],
    "How long the registry has not taken what we tell it of us; 0 while it does."
);
family!(
    REGISTER_WRITES,
    Counts,
    2,
    "meshless_register_writes_total",
    ["service", "kind"],
    "What the registry was told of us: announce, clean, heartbeat, report, withdraw."
);
family!(
    REGISTER_FAILURES,
    Counts,
    3,
    "meshless_register_failures_total",
    ["service", "kind", "error"],
    "What the registry was told of us and did not take."
);
family!(
    REGISTER_CHECKS,
    Counts,
    2,
    "meshless_register_check_total",
    ["service", "result"],
    "Checks of the application that we register, by result."
);
family!(
    DISCOVERY_FAILURES,
    Gauges,
    2,
    "meshless_discovery_consecutive_errors",
    ["backend", "target"],
    "Answers in a row that a backend failed to give; 0 while it answers."
);
family!(
    DISCOVERY_CALLS,
    Counts,
    2,
    "meshless_discovery_calls_total",
    ["backend", "call"],
    "Questions that a backend was asked."
);
family!(
    LIVE_NAMES,
    Gauges,
    0,
    "meshless_live_names",
    [],
    "Logical names and targets of overrides that are in use; at most 1,000."
);
family!(
    NAMES_REFUSED,
    Counts,
    1,
    "meshless_live_names_refused_total",
    ["reason"],
    "Logical names and targets of overrides that were asked for and not opened: full or unusable."
);
