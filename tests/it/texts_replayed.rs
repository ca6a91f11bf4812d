//! Whatever a person writes is taken or refused with a reason.

use crate::{certificates, http1, texts};

#[test]
fn texts_that_fuzzing_begins_with_keep_the_invariants() {
    http1::replay("target", texts::target);
    http1::replay("config", texts::config);
    http1::replay("dtab", texts::dtab);
}

#[test]
fn what_fuzzing_of_certificates_begins_with_keeps_the_invariants() {
    http1::replay("leaf", certificates::leaf);
    http1::replay("spiffe_id", certificates::spiffe_id);
}
