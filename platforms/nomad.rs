//! A task of Nomad: the variables that its client sets.
//!
//! Ports need no name here: `${NOMAD_PORT_http}` is a variable of the environment already.

use std::collections::BTreeSet;

use crate::surroundings::Surroundings;
use crate::whereabouts::{Platform, Whereabouts};

/// Set in every task.
pub(crate) const ALLOCATION: &str = "NOMAD_ALLOC_ID";

/// Reads the variables.
pub(crate) fn read(because: String, surroundings: &dyn Surroundings) -> Whereabouts {
    let mut place = Whereabouts::new(Platform::Nomad, because);
    if surroundings.variable(ALLOCATION).is_none() {
        place.unanswered = Some(format!("{ALLOCATION} is not set: this is no task of Nomad"));
    }
    for (name, variable) in [
        ("nomad.alloc", ALLOCATION),
        ("nomad.alloc_index", "NOMAD_ALLOC_INDEX"),
        ("nomad.alloc_name", "NOMAD_ALLOC_NAME"),
        ("nomad.datacenter", "NOMAD_DC"),
        ("nomad.group", "NOMAD_GROUP_NAME"),
        ("nomad.job", "NOMAD_JOB_NAME"),
        ("nomad.job_id", "NOMAD_JOB_ID"),
        ("nomad.namespace", "NOMAD_NAMESPACE"),
        ("nomad.region", "NOMAD_REGION"),
        ("nomad.task", "NOMAD_TASK_NAME"),
    ] {
        place.put(name, surroundings.variable(variable), variable);
        place.lack(name, &format!("{variable} is not set"));
    }
    // A datacenter of Nomad may be a zone, a region or a building: only its operator knows.
    for (name, variables) in
        [("node.zone", ["NODE_ZONE", "NOMAD_META_zone"]), ("node.region", ["NODE_REGION", "NOMAD_META_region"])]
    {
        for variable in variables {
            place.put(name, surroundings.variable(variable), variable);
        }
        let [first, second] = variables;
        place.lack(name, &format!("neither {first} nor {second} is set; env or meta of the job sets them"));
    }
    address(&mut place, surroundings);
    let number = |name: &str| surroundings.variable(name)?.parse::<u64>().ok().filter(|number| *number > 0);
    place.limits.memory = number("NOMAD_MEMORY_LIMIT").map(|mebibytes| mebibytes.saturating_mul(1 << 20));
    place
}

/// With an address of the host for its ports, others reach the task by that one; without any by that of the default route.
fn address(place: &mut Whereabouts, surroundings: &dyn Surroundings) {
    let variables = surroundings.variables();
    let of_ports: BTreeSet<&str> = variables
        .iter()
        .filter(|(name, value)| name.starts_with("NOMAD_IP_") && !value.is_empty())
        .map(|(_, value)| value.as_str())
        .collect();
    let mut of_ports = of_ports.into_iter();
    match (of_ports.next(), of_ports.next()) {
        (Some(only), None) => place.put_address("node.address", Some(only), "NOMAD_IP_*"),
        (Some(_), Some(_)) => {
            place
                .lack("node.address", "the ports of this task are on several addresses (NOMAD_IP_*); set node.address");
        }
        (None, _) => {
            let found = surroundings.address().map(|address| address.to_string());
            place.put("node.address", found, "the default route");
            place.lack("node.address", "no port has an address (NOMAD_IP_*), and there is no default route");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Scripted;

    fn place(given: &[(&str, &str)]) -> Whereabouts {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read("test".to_owned(), &Scripted(given))
    }

    #[test]
    fn a_task_is_what_its_variables_say() {
        let place = place(&[
            (ALLOCATION, "5f1b"),
            ("NOMAD_ALLOC_INDEX", "0"),
            ("NOMAD_JOB_NAME", "web"),
            ("NOMAD_TASK_NAME", "meshless"),
            ("NOMAD_GROUP_NAME", "front"),
            ("NOMAD_DC", "dc1"),
            ("NOMAD_META_zone", "rack-4"),
            ("NOMAD_IP_http", "10.4.0.1"),
            ("NOMAD_IP_admin", "10.4.0.1"),
            ("NOMAD_MEMORY_LIMIT", "300"),
        ]);
        let of = |name| place.value(name);
        assert_eq!((of("nomad.alloc"), of("nomad.job"), of("nomad.group")), (Some("5f1b"), Some("web"), Some("front")));
        assert_eq!((place.zone(), of("node.address")), (Some("rack-4"), Some("10.4.0.1")));
        assert_eq!(place.limits.memory, Some(300 << 20));
        assert_eq!(place.missing["nomad.namespace"], "NOMAD_NAMESPACE is not set");
        assert_eq!(place.unanswered, None);
    }

    #[test]
    fn a_datacenter_is_no_zone_and_two_addresses_are_none() {
        let place = place(&[
            (ALLOCATION, "5f1b"),
            ("NOMAD_DC", "dc1"),
            ("NOMAD_IP_a", "10.4.0.1"),
            ("NOMAD_IP_b", "10.5.0.1"),
            ("ADDRESS", "10.4.0.1"),
        ]);
        assert_eq!((place.zone(), place.address()), (None, None));
        assert!(place.missing["node.address"].contains("several addresses"));
    }

    #[test]
    fn without_ports_the_default_route_says_the_address() {
        assert_eq!(place(&[(ALLOCATION, "5f1b"), ("ADDRESS", "10.4.0.9")]).value("node.address"), Some("10.4.0.9"));
        assert!(place(&[]).unanswered.is_some());
    }
}
