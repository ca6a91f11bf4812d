//! Which origins answer behind a gateway's listener `edge`.

use std::collections::BTreeSet;

use crate::gateway::Running;
use crate::plain::get;

/// Asks often enough to see every origin that is used; of what is refused, the label.
pub(crate) fn answering(gateway: &Running) -> BTreeSet<String> {
    (0..30)
        .map(|_| {
            let reply = get(gateway.address("edge"), "a.example", "/");
            if reply.status == 200 { reply.body } else { reply.header("meshless-error").unwrap_or("?").to_owned() }
        })
        .collect()
}

/// Waits until these answer, and no others.
pub(crate) fn wait_for(gateway: &Running, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
    gateway.wait_until(&format!("{names:?} answer"), |gateway| answering(gateway) == expected);
}
