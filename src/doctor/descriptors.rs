//! Are there file descriptors enough for the connections that the configuration allows?

use meshless_discovery::Finding;

use crate::config::Config;
use crate::upstream::plan::Plan;

/// What a gateway has open besides connections: sockets of its own, files, discovery, the admin interface.
const OWN: u64 = 256;

/// Fewer are used up by a handful of clients.
const FEW: u64 = 512;

/// Descriptors that a configuration may need at its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Connections of clients, over all listeners.
    pub(crate) clients: u64,
    /// Connections to endpoints, over all services and inline targets.
    pub(crate) endpoints: u64,
}

impl Needed {
    /// Adds up the limits of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let plan = Plan::new(config, &mut |_| None);
        let clients = config.listeners.iter().map(|listener| listener.limits.connections as u64).sum();
        let endpoints = plan.upstreams.iter().map(|upstream| upstream.policies.limits.connections as u64).sum();
        Self { clients, endpoints }
    }

    fn total(self) -> u64 {
        self.clients.saturating_add(self.endpoints).saturating_add(OWN)
    }
}

/// Judges a limit (`None`: there is none). `whose` says whose it is: a service has other limits than a shell.
pub(crate) fn judge(needed: Needed, limit: Option<u64>, whose: &str) -> Finding {
    let (what, total) = ("file descriptors", needed.total());
    let uses = format!("{} for clients, {} for endpoints, {OWN} for the rest", needed.clients, needed.endpoints);
    let Some(limit) = limit.filter(|limit| *limit < total) else {
        let limit = limit.map_or_else(|| "without a limit".to_owned(), |limit| format!("{limit} may be open"));
        return Finding::good(what, format!("{limit} {whose}; {total} may be needed: {uses}"));
    };
    let enough = total.next_power_of_two();
    let seen = format!("{limit} may be open {whose}; {total} may be needed: {uses}");
    let remedy = format!(
        "raise it to {enough}: LimitNOFILE={enough} in the unit (`systemctl edit meshless`), `ulimit -n {enough}` in a \
         shell, `\"ulimits\": [{{ \"name\": \"nofile\", \"softLimit\": {enough}, \"hardLimit\": {enough} }}]` in an ECS \
         container definition; or lower limits.connections of listeners and services"
    );
    // At the limit connections wait to be accepted; below a few hundred that is soon.
    if limit < FEW { Finding::bad(what, seen, remedy) } else { Finding::warning(what, seen, remedy) }
}

#[cfg(test)]
mod tests {
    use meshless_discovery::Verdict;

    use super::*;

    const NEEDED: Needed = Needed { clients: 10_000, endpoints: 1024 };

    #[test]
    fn too_few_are_a_warning_that_names_the_number_and_where_to_set_it() {
        let finding = judge(NEEDED, Some(1024), "here");
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.seen.contains("11280 may be needed"), "{}", finding.seen);
        let remedy = finding.remedy.unwrap();
        for place in ["LimitNOFILE=16384", "ulimit -n 16384", "\"softLimit\": 16384"] {
            assert!(remedy.contains(place), "{remedy}");
        }
    }

    #[test]
    fn hardly_any_are_a_problem_and_enough_or_no_limit_is_good() {
        assert_eq!(judge(NEEDED, Some(256), "here").verdict, Verdict::Bad);
        assert_eq!(judge(NEEDED, Some(11_280), "here").verdict, Verdict::Good);
        assert_eq!(judge(NEEDED, None, "here").verdict, Verdict::Good);
    }
}
