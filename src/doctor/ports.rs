//! Can everything that listens have its address?

use meshless_discovery::Finding;

use crate::config::ListenAddress;

/// What trying to listen came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tried {
    /// It can be had.
    Free,
    /// Somebody listens there.
    InUse,
    /// The system does not permit it.
    NotPermitted,
    /// No interface of this machine has the address.
    NotHere,
    /// Something else is wrong.
    Refused(String),
}

/// Judges one address. `ours`: a gateway that runs here and answers at the configured admin address listens there.
pub(crate) fn judge(who: &str, address: &ListenAddress, tried: &Tried, ours: bool) -> Finding {
    let at = |rest: &str| format!("{address} {rest}");
    match (tried, address) {
        (Tried::Free, ListenAddress::Tcp(wanted)) if wanted.port() == 0 => {
            Finding::good(who, at("is any port that the kernel gives"))
        }
        (Tried::Free, _) => Finding::good(who, at("is free")),
        (Tried::InUse, _) if ours => Finding::good(who, at("is held by the gateway that runs here")),
        (Tried::InUse, ListenAddress::Tcp(wanted)) => Finding::bad(
            who,
            at("is in use by another process"),
            format!("`ss -ltnp 'sport = :{}'` says which; end it, or choose another port", wanted.port()),
        ),
        (Tried::InUse, ListenAddress::Unix(_)) => Finding::bad(
            who,
            at("is answered by another process"),
            "`ss -lxp` says which; end it, or choose another path",
        ),
        (Tried::NotPermitted, ListenAddress::Tcp(wanted)) if wanted.port() < 1024 => Finding::bad(
            who,
            format!("denied: {address} is a privileged port"),
            "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, `setcap cap_net_bind_service+ep` on the binary, or \
             net.ipv4.ip_unprivileged_port_start; or a port from 1024 on",
        ),
        (Tried::NotPermitted, _) => Finding::bad(
            who,
            format!("denied: {address} is not permitted to this user"),
            "run as the user that the gateway runs as, or give that user the directory",
        ),
        (Tried::NotHere, _) => Finding::bad(
            who,
            at("is no address of this machine"),
            "`ip address` lists them; 0.0.0.0 is all of IPv4, [::] all of IPv6",
        ),
        (Tried::Refused(error), _) => Finding::bad(who, at(error), "correct `listen`"),
    }
}

#[cfg(test)]
mod tests {
    use meshless_discovery::Verdict;

    use super::*;

    fn judged(address: &str, tried: &Tried, ours: bool) -> Finding {
        judge("listener edge", &ListenAddress::Tcp(address.parse().unwrap()), tried, ours)
    }

    #[test]
    fn a_port_that_our_own_gateway_holds_is_fine_and_another_process_is_a_problem() {
        assert_eq!(judged("127.0.0.1:4140", &Tried::Free, false).verdict, Verdict::Good);
        assert_eq!(judged("127.0.0.1:4140", &Tried::InUse, true).verdict, Verdict::Good);
        let other = judged("127.0.0.1:4140", &Tried::InUse, false);
        assert!(other.verdict == Verdict::Bad && other.remedy.unwrap().contains("sport = :4140"));
    }

    #[test]
    fn a_privileged_port_says_which_capability_it_needs_and_counts_as_denied() {
        let finding = judged("0.0.0.0:80", &Tried::NotPermitted, false);
        assert_eq!(finding.kind(), Some("denied"));
        assert!(finding.remedy.unwrap().contains("CAP_NET_BIND_SERVICE"));
    }
}
