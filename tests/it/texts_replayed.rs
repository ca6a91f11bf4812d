//! Whatever a person writes is taken or refused with a reason.

use crate::{http1, texts};

#[test]
fn texts_that_fuzzing_begins_with_keep_the_invariants() {
    http1::replay("target", texts::target);
    http1::replay("config", texts::config);
    http1::replay("dtab", texts::dtab);
}
