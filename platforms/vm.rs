//! A machine that says nothing of itself: its name, and the address that its default route leaves from.

use crate::surroundings::Surroundings;
use crate::whereabouts::{Platform, Whereabouts};

/// The kernel's name of this host (or container, or pod).
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Reads what the kernel says.
pub(crate) fn read(because: String, surroundings: &dyn Surroundings) -> Whereabouts {
    let mut place = Whereabouts::new(Platform::Vm, because);
    place.put("node.address", surroundings.address().map(|address| address.to_string()), "the default route");
    place.lack("node.address", "there is no default route; set node.address");
    for name in ["node.zone", "node.region"] {
        place.lack(name, "a plain machine does not say it");
    }
    place
}

/// Adds the name of the host, which every platform has.
pub(crate) fn hostname(place: &mut Whereabouts, surroundings: &dyn Surroundings) {
    place.put("node.hostname", surroundings.file(HOSTNAME), HOSTNAME);
    place.lack("node.hostname", "the kernel does not say it");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Scripted;

    #[test]
    fn the_default_route_is_not_the_loopback() {
        assert!(crate::reached_from().is_none_or(|address| !address.is_loopback() && !address.is_unspecified()));
    }

    #[test]
    fn a_machine_has_an_address_and_a_name() {
        let given = [("ADDRESS", "192.0.2.9"), (HOSTNAME, "vm-1\n")];
        let surroundings = Scripted(given.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let mut place = read("test".to_owned(), &surroundings);
        hostname(&mut place, &surroundings);
        assert_eq!((place.value("node.address"), place.value("node.hostname")), (Some("192.0.2.9"), Some("vm-1")));
        let place = read("test".to_owned(), &Scripted::default());
        assert_eq!(place.missing["node.address"], "there is no default route; set node.address");
    }
}
